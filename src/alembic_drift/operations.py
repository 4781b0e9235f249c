"""Operations for views, functions, types, and names of constraints: a revision that uses them imports this.

They are known to ``op`` from then on. Each is in the file of its kind.
"""

from alembic_drift.kinds.constraints import RenameConstraintOp
from alembic_drift.kinds.functions import DropFunctionOp, ReplaceFunctionOp
from alembic_drift.kinds.types import CreateTypeOp, DropTypeOp
from alembic_drift.kinds.views import (
    CreateMaterializedViewOp,
    CreateViewOp,
    DropMaterializedViewOp,
    DropViewOp,
)

__all__ = [
    "CreateMaterializedViewOp",
    "CreateTypeOp",
    "CreateViewOp",
    "DropFunctionOp",
    "DropMaterializedViewOp",
    "DropTypeOp",
    "DropViewOp",
    "RenameConstraintOp",
    "ReplaceFunctionOp",
]
