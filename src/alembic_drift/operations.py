"""Operations that Alembic does not have: a revision that uses them imports this module.

The import adds them to ``op``. Each operation is defined in the module of its kind.
"""

from alembic_drift.kinds.column_settings import AlterColumnStatisticsOp, AlterColumnStorageOp
from alembic_drift.kinds.constraints import RenameConstraintOp
from alembic_drift.kinds.domains import AlterDomainOp, CreateDomainCheckOp, DropDomainCheckOp
from alembic_drift.kinds.enumerations import AddTypeLabelOp, RenameTypeLabelOp, SetTypeLabelsOp
from alembic_drift.kinds.functions import DropFunctionOp, ReplaceFunctionOp
from alembic_drift.kinds.generated import SetGeneratedOp
from alembic_drift.kinds.identities import AddIdentityOp, DropIdentityOp
from alembic_drift.kinds.key_triggers import AlterConstraintTriggersOp
from alembic_drift.kinds.parents import InheritOp, NoInheritOp
from alembic_drift.kinds.policies import CreatePolicyOp, DropPolicyOp, SetRowSecurityOp
from alembic_drift.kinds.rules import AlterRuleOp, CreateRuleOp, DropRuleOp
from alembic_drift.kinds.sequences import AttachSequenceOp
from alembic_drift.kinds.settings import (
    SetAccessMethodOp,
    SetLoggedOp,
    SetStorageParametersOp,
    SetTablespaceOp,
)
from alembic_drift.kinds.triggers import AlterTriggerOp, CreateTriggerOp, DropTriggerOp
from alembic_drift.kinds.types import CreateTypeOp, DropTypeOp
from alembic_drift.kinds.views import (
    CreateMaterializedViewOp,
    CreateViewOp,
    DropMaterializedViewOp,
    DropViewOp,
)

__all__ = [
    "AddIdentityOp",
    "AddTypeLabelOp",
    "AlterColumnStatisticsOp",
    "AlterColumnStorageOp",
    "AlterConstraintTriggersOp",
    "AlterDomainOp",
    "AlterRuleOp",
    "AlterTriggerOp",
    "AttachSequenceOp",
    "CreateDomainCheckOp",
    "CreateMaterializedViewOp",
    "CreatePolicyOp",
    "CreateRuleOp",
    "CreateTriggerOp",
    "CreateTypeOp",
    "CreateViewOp",
    "DropDomainCheckOp",
    "DropFunctionOp",
    "DropIdentityOp",
    "DropMaterializedViewOp",
    "DropPolicyOp",
    "DropRuleOp",
    "DropTriggerOp",
    "DropTypeOp",
    "DropViewOp",
    "InheritOp",
    "NoInheritOp",
    "RenameConstraintOp",
    "RenameTypeLabelOp",
    "ReplaceFunctionOp",
    "SetAccessMethodOp",
    "SetGeneratedOp",
    "SetLoggedOp",
    "SetRowSecurityOp",
    "SetStorageParametersOp",
    "SetTablespaceOp",
    "SetTypeLabelsOp",
]
