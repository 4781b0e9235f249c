"""What the schema needs at run time: where the database is, how to migrate it, what revisions share."""

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
