"""What differs between drivers: what they say of an error, and a second connection beside a running one."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

DRIVERS = ("psycopg",)

NOT_NULL_VIOLATION = "23502"
FOREIGN_KEY_VIOLATION = "23503"
UNIQUE_VIOLATION = "23505"
CHECK_VIOLATION = "23514"
QUERY_CANCELED = "57014"
DEADLOCK_DETECTED = "40P01"
SERIALIZATION_FAILURE = "40001"
LOCK_NOT_AVAILABLE = "55P03"

Error = psycopg.Error
"""What a connection of :func:`beside` throws."""


def driver_error(error: BaseException) -> psycopg.Error | None:
    """Return the driver's error in or behind an error of SQLAlchemy or of this package, or None."""
    if isinstance(error, DBAPIError):
        return driver_error(error.orig) if error.orig else None
    if isinstance(error, CommandError) and error.__cause__:
        return driver_error(error.__cause__)
    return error if isinstance(error, psycopg.Error) else None


def sqlstate(error: BaseException) -> str | None:
    """Return the server's code of an error."""
    found = driver_error(error)
    return None if found is None else found.sqlstate


def detail(error: BaseException) -> str | None:
    """Return the server's detail of an error, which may hold values of rows."""
    found = driver_error(error)
    return None if found is None else found.diag.message_detail


def message(error: BaseException) -> str | None:
    """Return the server's own message of an error, in one line."""
    found = driver_error(error)
    return None if found is None else found.diag.message_primary


class Beside:
    """A running connection, as another one sees it: its process, and how to cancel what it runs."""

    def __init__(self, connection: sa.Connection) -> None:
        self._driver = cast(
            "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]", connection.connection.driver_connection
        )

    @property
    def process(self) -> int:
        """The process of the server."""
        return self._driver.info.backend_pid

    @contextmanager
    def connect(self, name: str) -> Iterator[psycopg.Connection[Any]]:
        """Open a second connection to the same server, of the same role."""
        info = self._driver.info
        parameters: dict[str, Any] = info.get_parameters() | {
            "password": info.password or None,
            "application_name": name,
            "connect_timeout": "10",
        }
        with psycopg.connect(**parameters, autocommit=True) as connection:
            yield connection

    def cancel(self) -> None:
        """Cancel what runs."""
        with suppress(psycopg.Error):
            if isinstance(self._driver, psycopg.Connection):
                self._driver.cancel_safe(timeout=5)
            else:
                self._driver.cancel()
