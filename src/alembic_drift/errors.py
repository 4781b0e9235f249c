"""What goes wrong: errors of one line each."""

from alembic.util import CommandError


class DriftError(CommandError):
    """Something the user can fix; its text is one line that says what is wrong and what to do."""
