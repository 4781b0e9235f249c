"""In which order the operations of a revision stand."""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple

from alembic.operations import ops


class Phase(IntEnum):
    """When an operation runs. A downgrade goes through them the other way."""

    SECURITY_GOES = 1  # before its policies
    TRIGGERS_GO = 2  # rules and policies as well
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
    LABELS_GO = 13  # nothing uses them any more, and no view is in the way yet
    FUNCTIONS = 14
    VIEWS = 15
    FUNCTIONS_OF_VIEWS = 16
    TRIGGERS = 17  # on tables and views, calling functions
    SECURITY = 18
    REST = 19
    FUNCTIONS_GO = 20


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
