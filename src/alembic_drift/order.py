"""In which order the operations of a revision stand."""

from collections.abc import Iterator, Sequence
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
    LABELS_GO = 11  # nothing uses them any more, and no view is in the way yet
    FUNCTIONS = 12
    VIEWS = 13
    FUNCTIONS_OF_VIEWS = 14
    REST = 15
    FUNCTIONS_GO = 16


class Plan(NamedTuple):
    """An operation and its place among all."""

    phase: Phase
    number: int
    operation: ops.MigrateOperation


def free_names(renames: Sequence[Sequence[str]]) -> Iterator[tuple[int, str, str]]:
    """Yield renames in an order in which each new name is free: number, old and new name.

    Names that are exchanged go by way of a third one.

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
