"""The differences between drivers: the details of an error, and how to open a second connection.

A project has one driver, so none is imported before a connection uses it.
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
UNDEFINED = {"42P01", "42703", "42704", "42883"}
"""A table, a column, a type or another object, a function does not exist."""

CONNECT_SECONDS = 10
"""The connection timeout of the second connection."""


def driver_error(error: BaseException) -> BaseException | None:
    """Return the driver's error that an error of SQLAlchemy or of this package wraps, or None."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        found = error.orig
        # SQLAlchemy wraps the errors of asyncpg twice.
        return (found.orig or found) if isinstance(found, EmulatedDBAPIException) else found
    if isinstance(error, CommandError) and error.__cause__:
        return driver_error(error.__cause__)
    return error if hasattr(error, "sqlstate") or hasattr(error, "pgcode") else None


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of an error."""
    found = driver_error(error)
    code: str | None = getattr(found, "sqlstate", None) or getattr(found, "pgcode", None)
    return code


def detail(error: BaseException) -> str | None:
    """Return the server's detail of an error, which may contain values of rows."""
    return _said(error, "message_detail", "detail")


def message(error: BaseException) -> str | None:
    """Return the server's own message of an error, in one line."""
    return _said(error, "message_primary", "message")


def _said(error: BaseException, libpq: str, asyncpg: str) -> str | None:
    """Return a field of the server's error, by its name in libpq and in asyncpg."""
    found = driver_error(error)
    said: str | None = getattr(getattr(found, "diag", None), libpq, None) or getattr(found, asyncpg, None)
    return said


Ask = Callable[[str], list[Any]]
"""Queries rows over the second connection; the SQL has no parameters."""


class SecondConnection:
    """Opens a second connection to the server of a given connection, to watch it."""

    def __init__(self, connection: sa.Connection) -> None:
        self._name = connection.dialect.driver
        self._driver: Any = connection.connection.driver_connection
        self._pool = connection.engine.pool

    def connect(self, name: str) -> AbstractContextManager[Ask]:
        """Open a second connection to the same server, with the same role.

        :param name: its application_name.
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
        """Connect through a copy of the engine's pool, because asyncpg does not show its parameters."""
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
