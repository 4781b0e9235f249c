"""The process that migrates is killed at every statement of the chain, and the next run completes."""

import multiprocessing
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import killed
import psycopg
import pytest
from legacy_databases import KINDS, build
from psycopg import sql
from sqlalchemy import Connection
from support import (
    Content,
    Database,
    at,
    catalog,
    content,
    dump_schema,
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


STRIDE = int(os.environ.get("KILL_STRIDE", "180"))
"""Online, each kind of database is killed at one write in so many; 1 takes hours."""


def legacy(database: Database, kind: str = "bootstrap") -> None:
    """Fill a database of a kind with rows that the chain changes: headers, sub-tasks, accounts."""
    build(database, KINDS[kind])
    columns = database.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('api_requests')"
    ).fetchall()
    if columns:
        own = {"conversation_id": uuid.UUID(int=77)} if ("conversation_id",) in columns else {}
        insert(database, "api_requests", timestamp=at(0), response_body=task_response("go"))
        insert(database, "api_requests", timestamp=at(5), body=user_message("go"), **own)


START: dict[str, Callable[[Database], None]] = {
    "new": lambda _: None,
    "legacy": legacy,
    **{kind: partial(legacy, kind=kind) for kind in KINDS},
}


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


def changing(statements: list[str]) -> list[int]:
    """Return the numbers of statements that change something: death before the others leaves the same."""
    same = ("SELECT", "SHOW", "BEGIN", "ROLLBACK", "SET ", "RESET ")
    return [number for number, text in enumerate(statements) if not text.lstrip().startswith(same)]


def dump(url: str) -> str:
    with closing(psycopg.connect(url, autocommit=True)) as database:
        return dump_schema(database)


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize(("fresh", "first"), [("new", 0), ("legacy", 1)], indirect=["fresh"])
def test_killed_at_every_statement(fresh: Callable[[], str], first: int, part: int) -> None:
    statements: list[str] = []
    url = fresh()
    killed.upgrade(url, lambda _number, _connection, text, _parameters: statements.append(text))
    expected = state(url)
    assert statements.count("COMMIT") > 7
    assert len(changing(statements)) > 100
    # A new database dies at every other statement, the legacy one at those between.
    for number in changing(statements)[first + 2 * part :: 2 * PARTS]:
        url = fresh()
        process = processes.Process(target=killed.die, args=(url, number))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"not killed at statement {number}: {statements[number]}"
        result = upgrade_database(url)
        assert result.outcome in {Outcome.UPGRADED, Outcome.AT_HEAD}, (
            f"at {statements[number][:60]}: {result}"
        )
        assert state(url) == expected, f"after death at statement {number}: {statements[number]}"


@pytest.mark.parametrize(
    ("fresh", "first"), [(kind, number) for number, kind in enumerate(["new", *KINDS])], indirect=["fresh"]
)
def test_killed_online(fresh: Callable[[], str], first: int) -> None:
    """Client and server process die in turn, at other writes for each kind of database."""
    statements: list[str] = []
    url = fresh()
    assert upgrade_database(url).outcome is Outcome.UPGRADED
    expected, dumped = state(url), dump(url)
    url = fresh()
    killed.upgrade(
        url, lambda _number, _connection, text, _parameters: statements.append(text.lstrip()), online=True
    )
    assert state(url) == expected
    assert dump(url) == dumped
    writes = changing(statements)
    assert len(writes) > 150
    for turn, number in enumerate(writes[first * 5 % STRIDE :: STRIDE]):
        url = fresh()
        if turn % 2:
            process = processes.Process(target=killed.die, args=(url, number, True))
            process.start()
            process.join()
            assert process.exitcode == -signal.SIGKILL, f"not killed at {number}: {statements[number]}"
        else:  # the upgrade itself goes on with a new connection
            killed.upgrade(url, partial(terminate, number), online=True)
        result = upgrade_database(url, online=True)
        assert result.outcome in {Outcome.UPGRADED, Outcome.AT_HEAD}, (
            f"at {statements[number][:60]}: {result}"
        )
        assert state(url) == expected, f"after death at statement {number}: {statements[number]}"


def terminate(at_number: int, number: int, connection: Connection, _text: str, _parameters: Any) -> None:
    """End the server process of a connection before the statement of that number."""
    if number == at_number:
        driver: Any = connection.connection.driver_connection
        with closing(psycopg.connect(driver.info.dsn, autocommit=True)) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", [driver.info.backend_pid])
