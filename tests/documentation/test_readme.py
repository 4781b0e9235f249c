"""The README is correct: its commands, and its lines for the plugins. Other tests here cover the rest."""

import re
from pathlib import Path

from alembic import context
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from databases import Database, url_of
from documentation.shell import command_lines
from pages import cells, code, examples, section
from programs import ROOT
from sqlalchemy import create_engine

import alembic_drift
import alembic_online
from nexus_schema.database import parse_url
from nexus_schema.models import Base

README = "README.md"


def test_its_two_commands_are_those_of_ci() -> None:
    ci = (ROOT / ".ci" / "run").read_text().replace("--quiet ", "")
    make, test = command_lines(section(README, "Two commands"))
    assert f"\n{make}\n" in ci
    assert make == "pip install -e '.[embedded]' && alembic upgrade head"
    assert test == "pip install -e '.[test]' && pytest"
    assert re.search(r"pip install -e '\.\[test\]'\nnox -s lint\n.*\nnox -s test -- -m ''\n", ci, re.DOTALL)


def test_its_commands_for_a_server_are_those_of_operating() -> None:
    """The test of docs/operating.md runs them."""
    connect = [*command_lines(section("docs/operating.md", "Connect"))]
    table = [command for row in cells(section("docs/operating.md", "Commands")) for command in code(row[0])]
    commands = [*command_lines(section(README, "A server of your own"))]
    assert commands[:3] == connect[:3]
    assert set(commands[3:]) <= set(table)


def test_its_lines_for_the_plugins_work(empty: Database, tmp_path: Path) -> None:
    """In the env.py of any project."""
    [block] = examples(section(README, "Two plugins for other projects"), "py")
    (tmp_path / "versions").mkdir()
    config = Config()
    config.set_main_option("script_location", str(tmp_path))
    config.set_main_option("path_separator", "os")
    config.attributes["online"] = True
    script = ScriptDirectory.from_config(config)
    engine = create_engine(parse_url(url_of(empty)))
    with EnvironmentContext(config, script, fn=lambda *_: []), engine.connect() as connection:
        exec(block, {"context": context, "connection": connection, "target_metadata": Base.metadata})
        migration = context.get_context()
        with Operations.context(migration):
            assert alembic_online.is_online()
        assert alembic_drift.PLUGIN in migration.opts["autogenerate_plugins"]
    engine.dispose()
