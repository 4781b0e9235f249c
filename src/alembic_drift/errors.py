"""What goes wrong: errors of one line each."""

from alembic.util import CommandError


class DriftError(CommandError):
    """Something the user can fix; its text is one line that says what is wrong and what to do."""


def first_line(error: BaseException) -> str:
    """Return the first line of what the driver says of an error: the others may hold values of rows."""
    cause = getattr(error, "orig", None) or error
    diagnostics = getattr(cause, "diag", None)  # psycopg 3 and 2; asyncpg says no more than the line
    said = getattr(diagnostics, "message_primary", None) or str(cause)
    return (said.strip().splitlines() or [type(cause).__name__])[0]
