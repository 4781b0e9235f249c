"""The early bootstrap's index on (timestamp DESC) is replaced by a plain one; one always exists."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import Any

import psycopg
import pytest
from databases import Database, catalog, url_of
from legacy_databases import EARLY_BOOTSTRAP, build, proxy_only
from marks import quick
from runtime import killed
from sqlalchemy import Connection

from nexus_schema import Outcome, legacy

CHAIN, BOOTSTRAPS = "idx_api_requests_timestamp", "idx_requests_timestamp"
BUILT = legacy.REPLACED_INDEXES[CHAIN][1]


def plain(name: str) -> str:
    return f"CREATE INDEX {name} ON api_requests (timestamp);"


def invalid(name: str) -> str:
    return f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass;"


# Further indexes, left by an operator or an interrupted run.
STATES = {
    "alone": "",
    "invalid": invalid(CHAIN),
    "beside the bootstrap's": plain(BOOTSTRAPS),
    "invalid, beside the bootstrap's": plain(BOOTSTRAPS) + invalid(CHAIN),
    "beside the bootstrap's, which is invalid": plain(BOOTSTRAPS) + invalid(BOOTSTRAPS),
    "the new one is built": plain(BUILT),
    "the new one is half built": plain(BUILT) + invalid(BUILT),
    "the new one is built, beside the bootstrap's": plain(BUILT) + plain(BOOTSTRAPS),
    "the new one is half built, beside the bootstrap's": plain(BUILT) + invalid(BUILT) + plain(BOOTSTRAPS),
    "both invalid, and the new one is half built": plain(BUILT)
    + plain(BOOTSTRAPS)
    + invalid(BUILT)
    + invalid(BOOTSTRAPS)
    + invalid(CHAIN),
    "dropped, the new one is built": plain(BUILT) + f"DROP INDEX {CHAIN}",
    "dropped, the new one is half built": plain(BUILT) + invalid(BUILT) + f"DROP INDEX {CHAIN}",
    "replaced, the new one is still there": f"DROP INDEX {CHAIN};" + plain(CHAIN) + plain(BUILT),
    "replaced by an invalid one, beside the bootstrap's": f"DROP INDEX {CHAIN};"
    + plain(CHAIN)
    + invalid(CHAIN)
    + plain(BOOTSTRAPS),
}

SERVING = """
SELECT to_regclass('idx_api_requests_timestamp') IS NOT NULL, EXISTS (
    SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
    WHERE indrelid = 'api_requests'::regclass AND indisvalid AND attname = 'timestamp' AND indpred IS NULL)"""


class Watch:
    """Records before each write of an upgrade what others find; can terminate the server process."""

    def __init__(self, url: str, *, kill: int | None = None) -> None:
        self.writes: list[str] = []
        self.found: list[tuple[bool, bool]] = []
        self._other = psycopg.connect(url, autocommit=True)
        self._kill = kill

    def close(self) -> None:
        self._other.close()

    def __call__(self, number: int, connection: Connection, text: str, _parameters: Any) -> None:
        self.writes.append(text)
        self.found += self._other.execute(SERVING).fetchall()
        if number == self._kill:
            driver: Any = connection.connection.driver_connection
            self._other.execute("SELECT pg_terminate_backend(%s, 5000)", [driver.info.backend_pid])


@pytest.fixture
def new(clones: Callable[[str], AbstractContextManager[Database]]) -> dict[tuple[str, str], str]:
    """The catalog of a new database at head."""
    with clones("head") as database:
        return catalog(database)


def upgraded(url: str, *, online: bool, kill: int | None = None) -> Watch:
    """Upgrade a database. If its server process is terminated before a write, the upgrade is retried."""
    with closing(Watch(url, kill=kill)) as watch:
        result = killed.upgrade(url, watch, online=online)
    assert (result.outcome, result.error) == (Outcome.UPGRADED, None)
    return watch


# Online and atomic alternate. The next test stops an upgrade anywhere.
WAYS = {
    f"{state}, {'online' if online else 'atomic'}": (statements, online)
    for number, (state, statements) in enumerate(STATES.items())
    for online in ([True, False] if state == "alone" else [number % 2 == 0])
}


@pytest.mark.parametrize(("state", "online"), quick(WAYS, "alone, online"))
def test_it_is_replaced_without_a_gap(
    empty: Database, new: dict[tuple[str, str], str], state: str, online: bool
) -> None:
    build(empty, [EARLY_BOOTSTRAP, *state.split(";")])
    wanted = new | proxy_only(catalog(empty))
    ((named, serving),) = empty.execute(SERVING).fetchall()
    watch = upgraded(url_of(empty), online=online)
    assert catalog(empty) == wanted
    if serving:  # the chain's name always has an index, so that a program that starts now creates none
        assert {(True, True)} <= set(watch.found) <= {(True, True), (named, True)}


@pytest.mark.thorough
def test_after_a_kill_anywhere_the_next_run_replaces_it(
    empty: Database, new: dict[tuple[str, str], str]
) -> None:
    """It begins with the remains of an earlier run, so that each step occurs: drop, build, replace."""

    def replace(kill: int | None) -> list[str]:
        empty.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        build(empty, [EARLY_BOOTSTRAP, *STATES["the new one is half built"].split(";")])
        wanted = new | proxy_only(catalog(empty))
        watch = upgraded(url_of(empty), online=True, kill=kill)
        assert catalog(empty) == wanted, f"after the end of the server process at write {kill}"
        assert set(watch.found) == {(True, True)}, f"after the end of the server process at write {kill}"
        return watch.writes

    writes = replace(None)
    steps = [number for number, text in enumerate(writes) if CHAIN in text or BUILT in text]
    for number in range(steps[0] - 1, steps[-1] + 4, 12):
        if writes[number - 1 : number + 1] != ["COMMIT", "COMMIT"]:  # nothing changes between two commits
            replace(number)
