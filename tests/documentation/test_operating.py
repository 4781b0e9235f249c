"""docs/operating.md and docs/troubleshooting.md are correct: commands, options, errors."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import alembic
from databases import Database
from documentation.shell import Shell, command_lines
from pages import cells, code, examples, page, section
from programs import ROOT
from support import HEAD

from nexus_schema.database import parse_url
from nexus_schema.options import read_account_domains

OPERATING, TROUBLESHOOTING = "docs/operating.md", "docs/troubleshooting.md"


def test_its_commands(head: Database) -> None:
    """In order, on a database at head."""
    shell = Shell(head)
    rows = cells(section(OPERATING, "Commands"))[1:]
    said = {command.strip("`"): shell.run(command.strip("`")) for command, _ in rows}
    assert {result.returncode for result in said.values()} == {0}
    assert said["alembic current"].stdout == f"{HEAD} (head)\n"
    assert head.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
    loggers = set(code("\n".join(logger for logger, _ in cells(section(OPERATING, "Log")))))
    logged = {
        name for result in said.values() for name in re.findall(r"^\w+ +\[(\S+)\]", result.stderr, re.M)
    }
    assert {name.removesuffix(".legacy") for name in logged} <= loggers
    assert logged >= {"alembic.online", "alembic.runtime.migration"}
    [debug] = command_lines(page(TROUBLESHOOTING))
    assert "SELECT" in shell.run(debug).stdout, "the SQL"


def test_its_urls() -> None:
    _, export, *_ = command_lines(section(OPERATING, "Connect"))
    assert parse_url(export.partition("'")[2].rstrip("'")).username == "user"
    for scheme in ("postgres://", "postgresql://", "postgresql+psycopg://"):
        assert f"`{scheme}`" in page(OPERATING)
        assert parse_url(f"{scheme}/d").drivername == "postgresql+psycopg"


def test_its_mapping_of_accounts(tmp_path: Path) -> None:
    file = tmp_path / "accounts.toml"
    [toml] = examples(page(OPERATING), "toml")
    file.write_text(toml)
    assert read_account_domains(file)["localhost:3000"] == "claude-1"


def test_every_option_is_in_it() -> None:
    source = (ROOT / "src" / "nexus_schema" / "options.py").read_text()
    known = next(
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "known"
    )
    named = code(section(OPERATING, "Options and variables"))
    assert {name for words in named for name in re.findall(r"^-x (\w+)=[A-Z]+$", words)} == known


def texts() -> Iterator[str]:
    """Yield the string literals of our sources, and the full text of Alembic's sources."""
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    for folder in (".", "autogenerate", "script"):
        for file in (Path(alembic.__file__).parent / folder).glob("*.py"):
            yield file.read_text()


def test_its_errors_are_in_the_sources() -> None:
    everything = "\n".join(texts())
    headings = {"the line says"}
    lines = {line for line, _ in cells(page(TROUBLESHOOTING))} - headings
    assert len(lines) > 20
    for line in lines:
        for part in re.split(r"…|'007'", line):
            assert part in everything, line
