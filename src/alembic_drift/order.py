"""In which order the operations of a revision stand."""

from enum import IntEnum
from typing import NamedTuple

from alembic.operations import ops


class Phase(IntEnum):
    """When an operation runs. A downgrade goes through them the other way."""

    VIEWS_GO = 1
    KEYS_GO = 2
    CONSTRAINTS_GO = 3
    INDEXES_GO = 4
    NAMES = 5
    TYPES = 6
    TABLES = 7
    KEYED = 8  # primary keys and unique constraints, which foreign keys need
    INDEXES = 9
    CONSTRAINTS = 10
    FUNCTIONS = 11
    VIEWS = 12
    FUNCTIONS_OF_VIEWS = 13
    REST = 14
    FUNCTIONS_GO = 15


class Plan(NamedTuple):
    """An operation and its place among all."""

    phase: Phase
    number: int
    operation: ops.MigrateOperation
