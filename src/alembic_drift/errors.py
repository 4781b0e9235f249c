"""Errors of the plugin."""

from alembic.util import CommandError


class DriftError(CommandError):
    """An error that the user can fix; its message is one line that names the problem and the remedy."""
