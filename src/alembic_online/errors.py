"""What goes wrong: errors of one line each."""

import psycopg
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError


class OnlineError(CommandError):
    """Something the user can fix; its text is one line that says what is wrong and what to do."""


class RefusedError(OnlineError):
    """An operation that cannot run without blocking others; nothing of its revision was done."""


def driver_error(error: BaseException) -> psycopg.Error | None:
    """Return the driver's error in or behind an error of SQLAlchemy or of this package, or None."""
    if isinstance(error, DBAPIError):
        return driver_error(error.orig) if error.orig else None
    if isinstance(error, CommandError) and error.__cause__:
        return driver_error(error.__cause__)
    return error if isinstance(error, psycopg.Error) else None


def first_line(error: BaseException) -> str:
    """Return the first line of what the driver says of an error: the others may hold values of rows."""
    return (str(driver_error(error) or error).splitlines() or [type(error).__name__])[0]
