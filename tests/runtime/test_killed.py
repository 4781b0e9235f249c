"""The process that migrates is killed at every statement of the chain, and the next run completes."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import killed
import psycopg
import pytest
from legacy_databases import KINDS, build
from psycopg import sql
from support import (
    Content,
    Database,
    at,
    catalog,
    content,
    insert,
    task_response,
    url_of,
    user_message,
)

from nexus_schema import Outcome, upgrade_database

# Forked from one process that has imported what takes time; a new interpreter for each takes minutes.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["nexus_schema.upgrade", "nexus_schema.autogenerate", "nexus_schema.legacy", "psycopg"]
)

PARTS = 8


def legacy(database: Database) -> None:
    """The proxy's database with rows that the chain changes: headers, sub-tasks, accounts."""
    build(database, KINDS["bootstrap"])
    insert(database, "api_requests", timestamp=at(0), conversation_id=None, response_body=task_response("go"))
    insert(database, "api_requests", timestamp=at(5), body=user_message("go"))


START: dict[str, Callable[[Database], None]] = {"new": lambda _: None, "legacy": legacy}


@pytest.fixture
def fresh(request: pytest.FixtureRequest, empty: Database) -> Iterator[Callable[[], str]]:
    """Return what makes a database like the one to start with, and names its URL."""
    START[request.param](empty)
    with psycopg.connect(
        url_of(empty).replace(f"/{empty.info.dbname}?", "/postgres?"), autocommit=True
    ) as admin:
        source = empty.info.dbname
        name = f"nexus_killed_{os.getpid()}"
        url = url_of(empty).replace(f"/{source}?", f"/{name}?")
        empty.close()

        def make() -> str:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source))
            )
            return url

        yield make
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def state(url: str) -> tuple[dict[tuple[str, str], str], Content, list[Any]]:
    with closing(psycopg.connect(url, autocommit=True)) as database:
        version = database.execute("SELECT version_num FROM alembic_version").fetchall()
        return catalog(database), content(database), version


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("fresh", START, indirect=True)
def test_killed_at_every_statement(fresh: Callable[[], str], part: int) -> None:
    statements: list[str] = []
    url = fresh()
    killed.upgrade(url, lambda _number, _connection, text, _parameters: statements.append(text))
    expected = state(url)
    assert statements.count("COMMIT") > 7
    assert len(statements) > 100
    for number in range(part, len(statements), PARTS):
        url = fresh()
        process = processes.Process(target=killed.die, args=(url, number))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"not killed at statement {number}: {statements[number]}"
        result = upgrade_database(url)
        assert result.outcome in {Outcome.UPGRADED, Outcome.AT_HEAD}, f"at {statements[number]}: {result}"
        assert state(url) == expected, f"after death at statement {number}: {statements[number]}"
