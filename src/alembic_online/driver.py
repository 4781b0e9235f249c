"""What differs between drivers: what they say of an error, and a second connection beside a running one.

A project has one of them, so none is imported before its connection is there.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from importlib import import_module
from typing import Any

import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, EmulatedDBAPIException
from sqlalchemy.util import greenlet_spawn

DRIVERS = ("psycopg", "psycopg2", "asyncpg")

NOT_NULL_VIOLATION = "23502"
FOREIGN_KEY_VIOLATION = "23503"
UNIQUE_VIOLATION = "23505"
CHECK_VIOLATION = "23514"
QUERY_CANCELED = "57014"
DEADLOCK_DETECTED = "40P01"
SERIALIZATION_FAILURE = "40001"
LOCK_NOT_AVAILABLE = "55P03"

CONNECT_SECONDS = 10
"""How long to try to make a second connection."""


def driver_error(error: BaseException) -> BaseException | None:
    """Return the driver's error in or behind an error of SQLAlchemy or of this package, or None."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        found = error.orig
        # Of asyncpg's errors, SQLAlchemy makes some of its own.
        return (found.orig or found) if isinstance(found, EmulatedDBAPIException) else found
    if isinstance(error, CommandError) and error.__cause__:
        return driver_error(error.__cause__)
    return error if hasattr(error, "sqlstate") or hasattr(error, "pgcode") else None


def sqlstate(error: BaseException) -> str | None:
    """Return the server's code of an error."""
    found = driver_error(error)
    code: str | None = getattr(found, "sqlstate", None) or getattr(found, "pgcode", None)
    return code


def detail(error: BaseException) -> str | None:
    """Return the server's detail of an error, which may hold values of rows."""
    return _said(error, "message_detail", "detail")


def message(error: BaseException) -> str | None:
    """Return the server's own message of an error, in one line."""
    return _said(error, "message_primary", "message")


def _said(error: BaseException, libpq: str, asyncpg: str) -> str | None:
    """Return what the server said of an error, by libpq's name of it and by asyncpg's."""
    found = driver_error(error)
    said: str | None = getattr(getattr(found, "diag", None), libpq, None) or getattr(found, asyncpg, None)
    return said


Ask = Callable[[str], list[Any]]
"""Asks the server for rows, over a second connection; nothing in the SQL is a parameter."""


class Beside:
    """Where a running connection is connected to, for a second one that looks after it."""

    def __init__(self, connection: sa.Connection) -> None:
        self._name = connection.dialect.driver
        self._driver: Any = connection.connection.driver_connection
        self._pool = connection.engine.pool

    def connect(self, name: str) -> AbstractContextManager[Ask]:
        """Open a second connection to the same server, of the same role.

        :param name: what it is, for pg_stat_activity.
        """
        return self._asyncpg(name) if self._name == "asyncpg" else self._libpq(name)

    @contextmanager
    def _libpq(self, name: str) -> Iterator[Ask]:
        info = self._driver.info
        given: dict[str, Any] = info.get_parameters() if self._name == "psycopg" else info.dsn_parameters
        parameters = given | {
            "password": info.password or None,
            "application_name": name,
            "connect_timeout": str(CONNECT_SECONDS),
        }
        with closing(import_module(self._name).connect(**parameters)) as connection:
            connection.autocommit = True

            def ask(statement: str) -> list[Any]:
                with connection.cursor() as cursor:
                    cursor.execute(statement)
                    return list(cursor.fetchall())

            yield ask

    @contextmanager
    def _asyncpg(self, name: str) -> Iterator[Ask]:
        """Connect as the engine does, because asyncpg does not tell how; in an event loop of this thread."""
        pool = self._pool.recreate()
        with asyncio.Runner() as runner:
            made = runner.run(asyncio.wait_for(greenlet_spawn(pool.connect), CONNECT_SECONDS))
            connection: Any = made.driver_connection

            def ask(statement: str) -> list[Any]:
                return list(runner.run(connection.fetch(statement)))

            def close() -> None:
                made.close()
                pool.dispose()

            try:
                ask(f"SELECT set_config('application_name', '{name}', false)")
                yield ask
            finally:
                runner.run(greenlet_spawn(close))
