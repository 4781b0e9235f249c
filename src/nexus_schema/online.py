"""The former name of :mod:`alembic_online`, which revisions of others may still import."""

import warnings

from alembic_online import RefusedError, enable, is_online, is_planning, migrates, passes

__all__ = ["RefusedError", "enable", "is_online", "is_planning", "migrates", "passes"]

warnings.warn("nexus_schema.online is alembic_online now", DeprecationWarning, stacklevel=2)
