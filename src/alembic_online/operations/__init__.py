"""The online version of each operation: a handler that yields its steps, and a check that may refuse it.

A handler asks the server and yields data. It executes nothing, and does not know which interpreter takes its
steps. Other modules call ``plan`` and ``refuse``.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from alembic.operations import ops

from alembic_online.server import Server
from alembic_online.steps import Step

Handler = Callable[[Server, Any], Iterator[Step]]
Refusal = Callable[[Server, Any], None]

_Handler = TypeVar("_Handler", bound=Handler)
_Refusal = TypeVar("_Refusal", bound=Refusal)

HANDLERS: dict[type[ops.MigrateOperation], Handler] = {}
REFUSALS: dict[type[ops.MigrateOperation], Refusal] = {}


def handles(*kinds: type[ops.MigrateOperation]) -> Callable[[_Handler], _Handler]:
    """Register a function as the handler of operations."""

    def register(handler: _Handler) -> _Handler:
        HANDLERS.update(dict.fromkeys(kinds, handler))
        return handler

    return register


def refuses(*kinds: type[ops.MigrateOperation]) -> Callable[[_Refusal], _Refusal]:
    """Register a function that raises :class:`RefusedError` for operations that would block others."""

    def register(refusal: _Refusal) -> _Refusal:
        REFUSALS.update(dict.fromkeys(kinds, refusal))
        return refusal

    return register


def _of(kind: type[ops.MigrateOperation], registered: dict[type[ops.MigrateOperation], Any]) -> Any:
    return next((registered[parent] for parent in kind.__mro__ if parent in registered), None)


def refuse(server: Server, operation: ops.MigrateOperation) -> None:
    """Raise :class:`RefusedError` for an operation that cannot run without blocking others."""
    refusal: Refusal | None = _of(type(operation), REFUSALS)
    if refusal is not None:
        refusal(server, operation)


def plan(server: Server, operation: ops.MigrateOperation) -> list[Step]:
    """Return the steps of an operation."""
    handler: Handler = _of(type(operation), HANDLERS)
    return [*handler(server, operation)]
