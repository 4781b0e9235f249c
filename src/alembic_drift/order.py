"""The order of the operations in a revision."""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from alembic.operations import ops


class Phase(IntEnum):
    """When an operation runs. A downgrade goes through the phases in reverse."""

    SECURITY_GOES = 1  # before the policies of the table
    TRIGGERS_GO = 2  # also rules and policies
    VIEWS_GO = 3
    KEYS_GO = 4
    CONSTRAINTS_GO = 5
    INDEXES_GO = 6
    NAMES = 7
    TYPES = 8
    TABLES = 9
    KEYED = 10  # primary keys and unique constraints, which foreign keys need
    INDEXES = 11
    CONSTRAINTS = 12
    LABELS_GO = 13  # unused by now, and no view exists yet that blocks this
    FUNCTIONS = 14
    VIEWS = 15
    FUNCTIONS_OF_VIEWS = 16
    TRIGGERS = 17  # on tables and views, calling functions
    SECURITY = 18
    REST = 19
    FUNCTIONS_GO = 20


class Plan(NamedTuple):
    """An operation and its position."""

    phase: Phase
    number: int
    operation: ops.MigrateOperation


def free_names(renames: Sequence[Sequence[str]]) -> Iterator[tuple[int, str, str]]:
    """Yield the renames in an order in which each new name is free: number, old name, new name.

    If names are exchanged, one of them gets a temporary name.

    :param renames: pairs of an old and a new name.
    """
    waiting = {number: (old, new) for number, (old, new) in enumerate(renames)}
    while waiting:
        taken = {old for old, _ in waiting.values()}
        ready = [number for number, (_, new) in waiting.items() if new not in taken]
        for number in ready:
            yield number, *waiting.pop(number)
        if not ready:
            number, (old, new) = next(iter(waiting.items()))
            between = f"{old[:50]}_to_rename"
            yield number, old, between
            waiting[number] = (between, new)
