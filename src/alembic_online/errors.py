"""What goes wrong: errors of one line each."""

from alembic.util import CommandError

from alembic_online.driver import driver_error


class OnlineError(CommandError):
    """Something the user can fix; its text is one line that says what is wrong and what to do."""


class ChangedError(OnlineError):
    """What an operation has left when it was interrupted is not there any more."""


class RefusedError(OnlineError):
    """An operation that cannot run without blocking others; nothing of its revision was done."""


def first_line(error: BaseException) -> str:
    """Return the first line of what the driver says of an error: the others may hold values of rows."""
    return (str(driver_error(error) or error).splitlines() or [type(error).__name__])[0]
