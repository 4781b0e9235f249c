"""Run-time support for the schema: database URLs, migrations, metrics, functions that revisions share.

The names of this module are loaded at first use: importing the package loads neither the models nor Alembic.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nexus_schema.metrics import record_conversation_metrics, record_conversation_metrics_async
    from nexus_schema.upgrade import (
        AppliedRevision,
        Outcome,
        UpgradeResult,
        upgrade_database,
        upgrade_database_async,
    )

__all__ = [
    "AppliedRevision",
    "Outcome",
    "UpgradeResult",
    "record_conversation_metrics",
    "record_conversation_metrics_async",
    "upgrade_database",
    "upgrade_database_async",
]


def __getattr__(name: str) -> Any:
    """Load the module of a public name at first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.startswith("record_"):
        from nexus_schema import metrics as module
    else:
        from nexus_schema import upgrade as module  # type: ignore[no-redef]
    return getattr(module, name)
