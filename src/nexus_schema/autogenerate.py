"""The former name of :mod:`alembic_drift`, which an ``env.py`` of others may still import."""

import warnings

import alembic_drift.operations  # noqa: F401 - op.create_view and its like, for revisions that use them
from alembic_drift import PLUGIN
from alembic_drift.objects import Difference

__all__ = ["PLUGIN", "Difference"]

warnings.warn("nexus_schema.autogenerate is alembic_drift now", DeprecationWarning, stacklevel=2)
