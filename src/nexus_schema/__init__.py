"""What the schema needs at run time: where the database is, how to migrate it, what revisions share.

What is named here is loaded when it is first used: importing the package loads no model and no Alembic.
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
    """Load what is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name.startswith("record_"):
        from nexus_schema import metrics as module
    else:
        from nexus_schema import upgrade as module  # type: ignore[no-redef]
    return getattr(module, name)
