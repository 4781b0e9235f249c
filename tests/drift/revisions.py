"""Projects of a few revisions, and keys of objects by name."""

import re
from pathlib import Path
from textwrap import indent

from alembic.config import Config
from alembic.script import ScriptDirectory

from alembic_drift.objects import Key
from alembic_drift.revisions.managed import Managed

HEADER = """\
import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
"""


def chain(folder: Path, *sources: str) -> ScriptDirectory:
    """Return a project with these revisions. A source is a module, or the body of its upgrade()."""
    (folder / "versions").mkdir()
    for number, source in enumerate(sources):
        if "def upgrade" not in source:
            source = "def upgrade():\n" + indent(source, "    ")
        down = repr(f"r{number - 1}") if number else None
        (folder / "versions" / f"r{number}.py").write_text(
            f"{HEADER}revision = 'r{number}'\ndown_revision = {down}\n{source}\n", encoding="utf-8"
        )
    config = Config()
    config.set_main_option("script_location", str(folder))
    return ScriptDirectory.from_config(config)


_KEY = re.compile(r"(materialized view|[a-z]+) (?:([^.]+)\.)?(.+)")


def keys(names: str) -> list[Key]:
    """Return the keys of names separated by semicolons: ``column t.c; index t.i; function f(a text)``."""
    found = [_KEY.fullmatch(name) for name in names.split("; ") if name]
    return [Key(*match.groups()) for match in found if match is not None]


def assert_managed(managed: Managed, there: str, others: str) -> None:
    """Assert that some objects are managed and others are not."""
    assert [str(key) for key in keys(there) if key not in managed] == []
    assert [str(key) for key in keys(others) if key in managed] == []
