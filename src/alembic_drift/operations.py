"""Operations for what Alembic has none: a revision that uses them imports this.

They are known to ``op`` from then on. Each is in the file of its kind.
"""

from alembic_drift.kinds.column_settings import AlterColumnStatisticsOp, AlterColumnStorageOp
from alembic_drift.kinds.constraints import RenameConstraintOp
from alembic_drift.kinds.functions import DropFunctionOp, ReplaceFunctionOp
from alembic_drift.kinds.identities import AddIdentityOp, DropIdentityOp
from alembic_drift.kinds.parents import InheritOp, NoInheritOp
from alembic_drift.kinds.settings import (
    SetAccessMethodOp,
    SetLoggedOp,
    SetStorageParametersOp,
    SetTablespaceOp,
)
from alembic_drift.kinds.types import CreateTypeOp, DropTypeOp
from alembic_drift.kinds.views import (
    CreateMaterializedViewOp,
    CreateViewOp,
    DropMaterializedViewOp,
    DropViewOp,
)

__all__ = [
    "AddIdentityOp",
    "AlterColumnStatisticsOp",
    "AlterColumnStorageOp",
    "CreateMaterializedViewOp",
    "CreateTypeOp",
    "CreateViewOp",
    "DropFunctionOp",
    "DropIdentityOp",
    "DropMaterializedViewOp",
    "DropTypeOp",
    "DropViewOp",
    "InheritOp",
    "NoInheritOp",
    "RenameConstraintOp",
    "ReplaceFunctionOp",
    "SetAccessMethodOp",
    "SetLoggedOp",
    "SetStorageParametersOp",
    "SetTablespaceOp",
]
