"""How each operation is carried out online: a handler, which yields its steps, and what it refuses.

A handler asks the server all that it needs to know and yields data; it executes nothing, and knows nothing of
where its steps go. ``plan`` is what all others call.
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
    """Have a function say how operations of a kind are carried out."""

    def register(handler: _Handler) -> _Handler:
        HANDLERS.update(dict.fromkeys(kinds, handler))
        return handler

    return register


def refuses(*kinds: type[ops.MigrateOperation]) -> Callable[[_Refusal], _Refusal]:
    """Have a function raise :class:`RefusedError` for those operations of a kind that would stop others."""

    def register(refusal: _Refusal) -> _Refusal:
        REFUSALS.update(dict.fromkeys(kinds, refusal))
        return refusal

    return register


def _of(kind: type[ops.MigrateOperation], registered: dict[type[ops.MigrateOperation], Any]) -> Any:
    return next((registered[parent] for parent in kind.__mro__ if parent in registered), None)


def refuse(server: Server, operation: ops.MigrateOperation) -> None:
    """Raise :class:`RefusedError` for an operation without a way that lets others read and write."""
    refusal: Refusal | None = _of(type(operation), REFUSALS)
    if refusal is not None:
        refusal(server, operation)


def plan(server: Server, operation: ops.MigrateOperation) -> list[Step]:
    """Return the steps of an operation."""
    handler: Handler = _of(type(operation), HANDLERS)
    return [*handler(server, operation)]
