"""The former name of :mod:`alembic_drift`, for ``env.py`` files that still import it."""

import warnings

import alembic_drift.operations  # noqa: F401 - registers op.create_view and others for revisions
from alembic_drift import PLUGIN
from alembic_drift.objects import Difference

__all__ = ["PLUGIN", "Difference"]

warnings.warn("nexus_schema.autogenerate is alembic_drift now", DeprecationWarning, stacklevel=2)
