"""A process that upgrades a database and kills itself at a certain statement."""

import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import pq
from sqlalchemy import Connection, Engine, event

from nexus_schema import UpgradeResult, upgrade_database


def upgrade(
    url: str, at_statement: Callable[[int, Connection, str, Any], None], *, online: bool = False
) -> UpgradeResult:
    """Upgrade, and call a function before each statement that changes something, with its number.

    Commits count. Death before any other statement leaves the same.
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
    """Upgrade, send the statement of that number to the server and be gone, without waiting for its end."""

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
