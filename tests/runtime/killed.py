"""Upgrades that are killed at a certain statement, and the state that they leave."""

import itertools
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg
from databases import Content, catalog, content, dump_schema
from programs import forked
from psycopg import pq
from sqlalchemy import Connection, Engine, event

from nexus_schema import UpgradeResult, upgrade_database


def upgrade(
    url: str, at_statement: Callable[[int, Connection, str, Any], None], *, online: bool = False
) -> UpgradeResult:
    """Upgrade, and call a function before each statement that changes something, with its number.

    A commit counts. Death before any other statement leaves the same state.
    """
    number = itertools.count()

    def statement(connection: Connection, _: object, text: str, parameters: Any, *__: object) -> None:
        if not text.lstrip().startswith(("SELECT", "SHOW", "BEGIN", "ROLLBACK", "SET ", "RESET ")):
            at_statement(next(number), connection, text, parameters)

    def commit(connection: Connection) -> None:
        at_statement(next(number), connection, "COMMIT", None)

    event.listen(Engine, "before_cursor_execute", statement)
    event.listen(Engine, "commit", commit)
    try:
        return upgrade_database(url, online=online)
    finally:
        event.remove(Engine, "before_cursor_execute", statement)
        event.remove(Engine, "commit", commit)


def die(url: str, at: int, online: bool = False) -> None:
    """Upgrade, send the statement with this number to the server, and die without waiting for its end."""

    def at_statement(number: int, connection: Connection, text: str, parameters: Any) -> None:
        if number != at:
            return
        driver: Any = connection.connection.driver_connection
        if driver.info.transaction_status == pq.TransactionStatus.IDLE and not driver.autocommit:
            driver.pgconn.exec_(b"BEGIN")
        driver.pgconn.send_query(psycopg.ClientCursor(driver).mogrify(text, parameters).encode())
        while driver.pgconn.flush():
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    upgrade(url, at_statement, online=online)


State = tuple[dict[tuple[str, str], str], Content, list[Any]]


def state(url: str) -> State:
    """Wait until the last statement of a killed process has ended; return all that the next run finds."""
    with closing(psycopg.connect(url, autocommit=True)) as database:
        while database.execute(OTHERS).fetchone() != (0,):
            time.sleep(0.01)
        stamped = database.execute("SELECT to_regclass('alembic_version') IS NOT NULL").fetchone() == (True,)
        version = database.execute("SELECT version_num FROM alembic_version").fetchall() if stamped else []
        return catalog(database), content(database), version


OTHERS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""


def dump(url: str) -> str:
    with closing(psycopg.connect(url, autocommit=True)) as database:
        return dump_schema(database)


def kill_client(url: str, number: int, *, online: bool) -> bool:
    """Kill an upgrading process at a write; return whether it reached that write."""
    process = forked(die, url, number, online)
    process.join()
    assert process.exitcode in {0, -signal.SIGKILL}
    return process.exitcode != 0


def kill_server(url: str, number: int, *, online: bool) -> bool:
    """Terminate the server process of an upgrade before a write; the upgrade continues with another one."""
    reached = False

    def at_write(found: int, connection: Connection, _text: str, _parameters: Any) -> None:
        nonlocal reached
        if found == number:
            reached = True
            driver: Any = connection.connection.driver_connection
            with closing(psycopg.connect(driver.info.dsn, autocommit=True)) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [driver.info.backend_pid])

    upgrade(url, at_write, online=online)
    return reached
