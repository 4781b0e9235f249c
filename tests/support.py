"""Helpers for several folders of tests: running Alembic in this process, inserting rows."""

import os
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any
from unittest import mock

import psycopg
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from databases import Database, url_of
from programs import ROOT
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, create_engine

from nexus_schema.database import parse_url

REVISIONS = sorted(file.name[:3] for file in (ROOT / "alembic" / "versions").glob("*.py"))

HEAD = REVISIONS[-1]

NEXT = f"{int(HEAD) + 1:03d}"

START = datetime(2025, 6, 1, 12, tzinfo=UTC)


def run_alembic(
    name: str, *arguments: Any, url: str, x: Mapping[str, str] | None = None, **options: Any
) -> Any:
    """Run a command of Alembic in this process, as an application does."""
    config = Config(ROOT / "alembic.ini")
    if x:
        config.cmd_opts = Namespace(x=[f"{key}={value}" for key, value in x.items()])
    with mock.patch.dict(os.environ, DATABASE_URL=url):
        return getattr(command, name)(config, *arguments, **options)


def revision_module(revision: str) -> ModuleType:
    """Return the module of a revision file."""
    found = ScriptDirectory.from_config(Config(ROOT / "alembic.ini")).get_revision(revision)
    assert found is not None
    return found.module


@contextmanager
def operations(connection: Database) -> Iterator[Connection]:
    """Run functions of a revision in one transaction, without a command of Alembic."""
    engine = create_engine(parse_url(url_of(connection)))
    with engine.begin() as opened, Operations.context(MigrationContext.configure(opened)):
        yield opened
    engine.dispose()


def upgraded_to(revision: str) -> Callable[..., None]:
    """Return the function with which pytest-postgresql upgrades a template database to a revision."""

    def load(**connection: Any) -> None:
        connection.pop("autocommit", None)
        with psycopg.connect(**connection) as opened:
            url = url_of(opened)
        run_alembic("upgrade", revision, url=url)

    return load


def at(seconds: float) -> datetime:
    """Return the time this many seconds after START."""
    return START + timedelta(seconds=seconds)


def insert(connection: Database, table: str, **values: Any) -> uuid.UUID:
    """Insert a row with plain values for the other NOT NULL columns; returns its request_id."""
    row: dict[str, Any] = dict(values)
    if table == "api_requests":
        row = {
            "request_id": uuid.uuid4(),
            "timestamp": START,
            "domain": "claude-1.msldev.io",
            "method": "POST",
            "path": "/v1/messages",
            "headers": {},
        } | row
    columns = sql.SQL(", ").join(map(sql.Identifier, row))
    marks = sql.SQL(", ").join(sql.Placeholder() * len(row))
    connection.execute(
        sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), columns, marks),
        [Jsonb(value) if isinstance(value, dict | list) else value for value in row.values()],
    )
    return uuid.UUID(str(row.get("request_id", uuid.UUID(int=0))))


def task_response(*prompts: str) -> dict[str, Any]:
    """Return a response body with a Task call for each prompt."""
    return {
        "content": [
            {
                "type": "tool_use",
                "id": f"toolu_{number}",
                "name": "Task",
                "input": {"prompt": prompt, "description": f"task {number}"},
            }
            for number, prompt in enumerate(prompts)
        ]
    }


def user_message(content: Any) -> dict[str, Any]:
    """Return a request body with one message of the user."""
    return {"messages": [{"role": "user", "content": content}]}
