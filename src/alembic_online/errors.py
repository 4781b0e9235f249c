"""Errors; the text of each is one line."""

from alembic.util import CommandError

from alembic_online.driver import driver_error


class OnlineError(CommandError):
    """An error that the user can fix; its text says in one line what is wrong and what to do."""


class ChangedError(OnlineError):
    """Someone changed or dropped the objects that an interrupted operation had created."""


class RefusedError(OnlineError):
    """An operation cannot run without blocking others."""


def first_line(error: BaseException) -> str:
    """Return the first line of the driver's message; further lines may contain values of rows."""
    return (str(driver_error(error) or error).splitlines() or [type(error).__name__])[0]
