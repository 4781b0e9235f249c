"""The README is true: its commands, its table of revisions, its Python."""

import ast
import re

import pytest
from databases import Database, url_of
from programs import ROOT, alembic_program

README = (ROOT / "README.md").read_text()


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
