"""The former name of :mod:`alembic_online`, for revisions that still import it."""

import warnings

from alembic_online import RefusedError, enable, is_online, is_planning, migrates, passes

__all__ = ["RefusedError", "enable", "is_online", "is_planning", "migrates", "passes"]

warnings.warn("nexus_schema.online is alembic_online now", DeprecationWarning, stacklevel=2)
