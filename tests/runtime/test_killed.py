"""The migrating process is killed at statements of the chain, and the next run completes it."""

import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import psycopg
import pytest
from databases import Database, url_of
from legacy_databases import DIFFERENT, KINDS, build
from psycopg import sql
from runtime import killed
from runtime.killed import State, dump, kill_client, kill_server, state
from support import at, insert, task_response, user_message

from nexus_schema import Outcome, upgrade_database

STRIDE = int(os.environ.get("KILL_STRIDE", "700"))
"""Online, each kind of database is killed at every n-th write; 1 takes a day."""

FEWEST_WRITES, MOST_WRITES = 600, 820
"""The range of the number of writes in an online run, over all kinds."""


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
    """Return a function that copies the initial database and returns the URL of the copy."""
    START[request.param](empty)
    with psycopg.connect(
        url_of(empty).replace(f"/{empty.info.dbname}?", "/postgres?"), autocommit=True
    ) as admin:
        source = empty.info.dbname
        url = url_of(empty)
        empty.close()
        # Two names alternate: the server waits 0.1 s for sessions of a database that have just ended.
        names = [f"nexus_killed_{os.getpid()}_{number}" for number in range(2)]
        turns = cycle(names)

        def drop(name: str) -> None:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

        def make() -> str:
            name = next(turns)
            drop(name)
            admin.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source))
            )
            return url.replace(f"/{source}?", f"/{name}?")

        yield make
        for name in names:
            drop(name)


@pytest.mark.thorough
@pytest.mark.parametrize(("fresh", "first"), [("new", 0), ("legacy", 1)], indirect=["fresh"])
def test_killed_at_every_40th_statement(fresh: Callable[[], str], first: int) -> None:
    writes: list[str] = []
    url = fresh()
    killed.upgrade(url, lambda _number, _connection, text, _parameters: writes.append(text))
    expected = state(url)
    assert writes.count("COMMIT") > 7
    assert len(writes) > 100
    finished: list[State] = []
    # A new database dies at every 40th statement, the legacy one halfway between them.
    for number in range(len(writes))[20 * first :: 40]:
        url = fresh()
        assert kill_client(url, number, online=False), f"not killed at statement {number}: {writes[number]}"
        left = state(url)
        if left in finished:
            continue  # the next run depends on this state alone
        result = upgrade_database(url)
        assert result.outcome in {Outcome.UPGRADED, Outcome.AT_HEAD}, f"at {writes[number]}: {result}"
        assert state(url) == expected, f"after death at statement {number}: {writes[number]}"
        finished.append(left)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("fresh", "first"),
    [pytest.param(kind, number, id=kind) for number, kind in enumerate(["new", *DIFFERENT[::12]])],
    indirect=["fresh"],
)
def test_killed_online(fresh: Callable[[], str], first: int) -> None:
    """Client and server process are killed in turn, at other writes for each kind of database."""
    url = fresh()
    assert upgrade_database(url).outcome is Outcome.UPGRADED
    expected = state(url), dump(url)
    for turn, number in enumerate(range(first * 90 % STRIDE, MOST_WRITES, STRIDE), start=first):
        url = fresh()
        reached = (kill_client if turn % 2 else kill_server)(url, number, online=True)
        assert reached or number >= FEWEST_WRITES
        result = upgrade_database(url, online=True)
        assert result.outcome in {Outcome.UPGRADED, Outcome.AT_HEAD}, f"at write {number}: {result}"
        assert (state(url), dump(url)) == expected, f"after death at write {number}"
