"""The README is true: its commands, its table of revisions, its Python."""

import ast
import re
import textwrap
from pathlib import Path

import pytest
from alembic import op
from alembic.config import Config
from databases import Database, dump_schema, url_of
from programs import ROOT, alembic_program, copy_project, python_program
from support import NEXT, insert, operations

from alembic_drift.kinds import KIND_OF
from alembic_drift.objects import Key
from alembic_drift.ownership import Allowed

README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_its_two_commands_are_those_of_ci() -> None:
    ci = (ROOT / ".ci" / "run").read_text().replace("--quiet ", "")
    assert "pip install -e '.[embedded]' && alembic upgrade head\n" in README
    assert "pip install -e '.[embedded]' && alembic upgrade head\n" in ci
    assert "pip install -e '.[test]' && pytest\n" in README
    assert re.search(r"pip install -e '\.\[test\]'\n.*\npytest\npytest -m thorough\n", ci, re.DOTALL)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"alembic ((?:-x \S+=\S+ )?[a-z]+)", README))))
def test_its_commands_exist(head: Database, command: str) -> None:
    name = command.split()[-1]
    if name not in {"upgrade", "downgrade", "current", "history", "check", "revision", "merge"}:
        assert name in {"chain", "knows"}, f"README speaks of alembic {name}"
        return
    assert alembic_program(name, "--help", url=url_of(head)).returncode == 0


# The third only defines a server; this starts and stops it as uvicorn would.
RUN = "\nimport asyncio\nasync def run():\n    async with lifespan(app): pass\nasyncio.run(run())\n"


@pytest.mark.parametrize("number", range(4), ids=["sync", "async", "migrations at start-up", "metrics"])
def test_its_python_runs(head: Database, number: int) -> None:
    insert(head, "api_requests", model="m")
    code = PYTHON[number] + (RUN if "lifespan" in PYTHON[number] else "")
    result = python_program("-c", code, url=url_of(head), METRICS_ENABLED="true")
    assert result.returncode == 0, result.stderr
    assert ["claude-1.msldev.io m 0 0", "[]", "outcome=<Outcome.AT_HEAD", "True"][number] in result.stdout
    assert len(PYTHON) == 4


def test_its_new_revision_is_what_autogenerate_writes(head: Database, tmp_path: Path) -> None:
    section = README.partition("## Adding a revision")[2].partition("\n## ")[0]
    copy_project(tmp_path, "alembic", "src", "alembic.ini", "pyproject.toml")
    models = tmp_path / "src" / "models" / "api_request.py"
    [diff] = re.findall(r"```diff\n(.*?)```", section, re.DOTALL)
    old, new, added = (re.sub("^[-+]", "", line) for line in diff.splitlines() if line != "…")
    text = models.read_text().replace(old, new)
    models.write_text(
        text.replace("\n    # The database deletes the chunks", f"{added}\n\n    # The database")
    )

    def alembic(*arguments: str) -> str:
        result = alembic_program(*arguments, url=url_of(head), cwd=tmp_path, PYTHONPATH=str(tmp_path / "src"))
        return result.stdout + result.stderr

    [said] = re.findall(r"```text\n(.*?)```", section, re.DOTALL)
    checked = alembic_program("check", url=url_of(head), cwd=tmp_path, PYTHONPATH=str(tmp_path / "src"))
    assert (checked.returncode, checked.stdout) == (255, said)
    alembic("revision", "--autogenerate", "-m", "add request region")
    written = (tmp_path / "alembic" / "versions" / f"{NEXT}_add_request_region.py").read_text()
    assert re.findall(r"```py\n(.*?)```", section, re.DOTALL)[0] in written
    [ran] = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    _, upgrade, _, check = ran.strip().splitlines()
    assert upgrade in alembic("upgrade", "head")
    assert check in alembic("check")


def test_its_operations_for_views_and_functions_run(head: Database) -> None:
    code = re.findall(r"```py\n(.*?)```", README.partition("## Adding a revision")[2], re.DOTALL)[1]
    before = dump_schema(head)
    with operations(head):
        exec(code, {"op": op})
    assert code.count("op.") == 4
    assert dump_schema(head) == before


def test_its_allow_list_works(tmp_path: Path) -> None:
    [toml] = re.findall(r"```toml\n(.*?)```", README.partition("### What check")[2], re.DOTALL)
    (tmp_path / "pyproject.toml").write_text(textwrap.dedent(toml))
    allowed = Allowed(Config(tmp_path / "alembic.ini"), None, KIND_OF)
    assert Key("index", "api_requests", "audit_1") in allowed
    assert Key("column", "api_requests", "note") in allowed
    assert Key("trigger", "api_requests", "notify") in allowed
    assert Key("index", "api_requests", "other") not in allowed


def test_the_places_it_names_exist() -> None:
    table = README.partition("## Where things are")[2].partition("##")[0]
    for cell in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE):
        folder = ""
        for name in re.findall(r"`([^`]+)`", cell):
            path = ROOT / (name if "/" in name else folder + name)
            assert path.exists(), name
            folder = name.rpartition("/")[0] + "/" if "/" in name else folder


def test_every_option_is_in_it() -> None:
    source = (ROOT / "src" / "nexus_schema" / "options.py").read_text()
    known = next(
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "known"
    )
    assert {option for option in known if f"-x {option}=" in README} == known
