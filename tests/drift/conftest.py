"""Fixtures of the tests of autogenerate."""

import importlib
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from databases import Database
from drift.round_trip import Project, schema_of
from drift.stock import Stock

import nexus_schema.models


@pytest.fixture
def project(head: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, head, monkeypatch)


@pytest.fixture(scope="session")
def schema_at_head(clones: Callable[[str], AbstractContextManager[Database]]) -> list[str]:
    """The schema of a database at head, where check is clean."""
    with clones("head") as database:
        return schema_of(database)


@pytest.fixture
def stock(empty: Database, tmp_path: Path) -> Stock:
    """A project of Alembic's generic template, with psycopg."""
    return Stock(tmp_path, empty)


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A new import of the models that replaces the loaded one: the tables by name, and .metadata."""
    monkeypatch.setattr(nexus_schema, "models", nexus_schema.models)
    for name in [name for name in sys.modules if name.startswith("nexus_schema.models")]:
        monkeypatch.delitem(sys.modules, name)
    models = importlib.import_module("nexus_schema.models")
    metadata = models.Base.metadata
    return SimpleNamespace(**metadata.tables, metadata=metadata)
