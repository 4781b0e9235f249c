"""The wheel has everything that an application or an operator needs without the repository."""

import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from databases import Database, catalog, url_of
from programs import ROOT, python_program, run_program
from support import HEAD, REVISIONS, run_alembic

USE = """if True:
    import models
    assert models.OWN == "the application's"
    import nexus_schema
    from sqlalchemy import create_engine
    from sqlalchemy.orm import Session
    from nexus_schema.database import database_url
    from nexus_schema.models import ApiRequest, Base, ConversationMetric, StreamingChunk, hourly_stats
    assert "site-packages" in nexus_schema.__file__
    print(nexus_schema.upgrade_database())
    engine = create_engine(database_url())
    with Session(engine) as session:
        session.add(ConversationMetric(conversation_id="from the wheel"))
        session.commit()
    assert nexus_schema.record_conversation_metrics(engine, tts_ms=1)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            directory,
            ROOT,
        ],
        check=True,
    )
    (wheel,) = directory.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel. It can import this environment's dependencies.

    They are not installed again, so that the test needs no network. This package cannot be imported there:
    an editable package only works in the environment that it is installed in.
    """
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory / "venv", with_pip=False)
    python = directory / "venv" / "bin" / "python"
    found = run_program(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", found, wheel], check=True
    )
    dependencies = Path(psycopg.__file__).parents[1]
    (Path(found) / "dependencies.pth").write_text(f"{dependencies}\n")
    return python


@pytest.mark.thorough
def test_the_wheel_has_no_other_package_at_its_top(wheel: Path) -> None:
    names = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {
        "alembic_drift",
        "alembic_online",
        "nexus_schema",
    }


BESIDE = """if True:
    import sys
    from alembic import command
    from alembic.config import Config
    from alembic.operations import Operations
    from alembic.runtime import plugins
    assert "alembic_drift" in plugins._all_plugins
    config = Config("alembic.ini")
    command.init(config, "scripts")
    config = Config("alembic.ini")
    env = open("scripts/env.py").read()
    models = "import sqlalchemy as sa; m = sa.MetaData(); sa.Table('t', m, sa.Column('a', sa.Integer))"
    open("scripts/env.py", "w").write(env.replace("target_metadata = None", f"{models}; target_metadata = m"))
    config.set_main_option("sqlalchemy.url", sys.argv[1].replace("%", "%%"))
    command.revision(config, "first", autogenerate=True)
    command.upgrade(config, "head")
    command.check(config)
    ours = [name for name in sys.modules if name.startswith(("alembic_online", "alembic_drift.", "nexus_"))]
    assert not ours, ours
    assert not hasattr(Operations, "create_view") and not hasattr(Operations, "backfill")
"""


@pytest.mark.thorough
def test_a_project_that_uses_neither_plugin(python: Path, empty: Database, tmp_path: Path) -> None:
    """Alembic loads the entry point in every project of the environment; nothing else changes."""
    url = url_of(empty).replace("postgresql:", "postgresql+psycopg:")
    result = run_program(python, "-c", BESIDE, url, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "No new upgrade operations detected." in result.stdout


# Where an application can have a package or module models: beside it, or from another distribution.
OWN_MODELS = {
    "a module": "application/models.py",
    "a package": "application/models/__init__.py",
    "another distribution": "distribution/models/__init__.py",
}


@pytest.mark.thorough
@pytest.mark.parametrize("place", OWN_MODELS.values(), ids=OWN_MODELS)
def test_an_application(python: Path, empty: Database, head: Database, tmp_path: Path, place: str) -> None:
    for path in ("application", "distribution"):
        (tmp_path / path).mkdir()
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text('OWN = "the application\'s"\n')
    result = run_program(
        python,
        "-c",
        USE,
        url=url_of(empty),
        cwd=tmp_path / "application",
        METRICS_ENABLED="true",
        PYTHONPATH=str(tmp_path / "distribution"),
    )
    assert result.returncode == 0, result.stderr
    assert "outcome=<Outcome.UPGRADED: 'upgraded'>" in result.stdout
    assert catalog(empty) == catalog(head)
    assert empty.execute("SELECT count(*) FROM conversation_metrics").fetchone() == (2,)


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(python: Path, empty: Database, tmp_path: Path) -> Run:
    """Return a function that runs ``python -m nexus_schema`` of the wheel, in an empty directory."""

    def run(*arguments: str, url: str | None = url_of(empty)) -> "subprocess.CompletedProcess[str]":
        return run_program(python, "-m", "nexus_schema", *arguments, url=url, cwd=tmp_path, PYTHONPATH="")

    return run


@pytest.mark.thorough
def test_an_operator(run: Run, empty: Database, head: Database, tmp_path: Path) -> None:
    unset = run("upgrade", "head", url=None)
    assert unset.returncode == 1
    assert unset.stderr.startswith("error: DATABASE_URL is not set; set it to postgresql://")
    upgraded = run("upgrade", "head")
    assert upgraded.returncode == 0, upgraded.stderr
    assert upgraded.stderr.count("INFO    [alembic.runtime.migration] Running upgrade") == len(REVISIONS)
    assert catalog(empty) == catalog(head)
    assert run("check").stdout == "No new upgrade operations detected.\n"
    refused = run("revision", "-m", "x")
    assert refused.returncode != 0
    assert "revisions are written with alembic in the repository" in refused.stderr + refused.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_an_operators_other_commands(run: Run, empty: Database, tmp_path: Path) -> None:
    run_alembic("upgrade", "head", url=url_of(empty))
    assert run("current").stdout == f"{HEAD} (head)\n"
    assert run("-x", "lock_wait=5", "downgrade", "005").returncode == 0
    assert run("history").stdout.count("->") == len(REVISIONS)
    assert "CREATE TABLE IF NOT EXISTS api_requests" in run("upgrade", "head", "--sql").stdout
    assert run("--help").stdout.startswith("usage: python -m nexus_schema")

    before = catalog(empty)
    unknown = run("upgrade", "999")
    assert unknown.returncode != 0
    assert "Can't locate revision identified by '999'" in unknown.stderr + unknown.stdout
    assert catalog(empty) == before
    assert list(tmp_path.iterdir()) == []


def test_in_the_repository_it_is_alembic(empty: Database) -> None:
    result = python_program("-m", "nexus_schema", "upgrade", "005", url=url_of(empty))
    assert result.returncode == 0, result.stderr
    run_alembic("upgrade", "head", url=url_of(empty))
    assert python_program("-m", "nexus_schema", "current", url=url_of(empty)).stdout == f"{HEAD} (head)\n"
