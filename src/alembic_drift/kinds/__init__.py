"""The kinds of objects, one file each: how to read them, and which operations resolve their differences.

To add a kind, add a file and a line here.
"""

from alembic_drift.kinds.columns import COLUMNS
from alembic_drift.kinds.constraints import CONSTRAINTS
from alembic_drift.kinds.domains import DOMAINS
from alembic_drift.kinds.functions import FUNCTIONS
from alembic_drift.kinds.indexes import INDEXES
from alembic_drift.kinds.others import OTHERS
from alembic_drift.kinds.policies import POLICIES
from alembic_drift.kinds.rules import RULES
from alembic_drift.kinds.sequences import SEQUENCES
from alembic_drift.kinds.statistics import STATISTICS
from alembic_drift.kinds.tables import TABLES
from alembic_drift.kinds.triggers import TRIGGERS
from alembic_drift.kinds.types import TYPES
from alembic_drift.kinds.views import VIEWS
from alembic_drift.resolution import Kind

KINDS: tuple[Kind, ...] = (
    TABLES,
    COLUMNS,
    CONSTRAINTS,
    INDEXES,
    VIEWS,
    FUNCTIONS,
    SEQUENCES,
    TYPES,
    DOMAINS,
    TRIGGERS,
    RULES,
    POLICIES,
    STATISTICS,
    OTHERS,
)

KIND_OF = {name: kind for kind in KINDS for name in kind.names}
"""The kind of an object, by the ``kind`` of its key."""
