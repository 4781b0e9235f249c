"""What the tests of autogenerate share."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from databases import Database
from drift.circle import Project, schema_of
from drift.stock import Stock


@pytest.fixture
def project(head: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, head, monkeypatch)


@pytest.fixture(scope="session")
def schema_at_head(clones: Callable[[str], AbstractContextManager[Database]]) -> list[str]:
    """The schema of a database at head, at which check is clean."""
    with clones("head") as database:
        return schema_of(database)


@pytest.fixture
def stock(empty: Database, tmp_path: Path) -> Stock:
    """A project of Alembic's generic template, with psycopg."""
    return Stock(tmp_path, empty)
