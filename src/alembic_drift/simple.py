"""Operations that only execute a few statements."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import Operations, ops

from alembic_drift.render import imported, run
from alembic_drift.sql import literal, qualified, quote

Value = str | int | float | bool | None
"""The value of an option; None resets it."""


class SimpleOp(ops.MigrateOperation):
    """Statements that change nothing if their result already exists."""

    operation: ClassVar[str]

    def statements(self) -> Iterator[str]:
        """Yield the statements."""
        raise NotImplementedError

    def arguments(self) -> Iterator[str]:
        """Yield the arguments of the operation as Python source."""
        raise NotImplementedError


class RelationOp(SimpleOp):
    """A setting of a table, view, materialized view, index or sequence."""

    def __init__(self, name: str, *, kind: str = "table", schema: str | None = None) -> None:
        self.name, self.kind, self.schema = name, kind, schema

    def actions(self) -> Iterator[str]:
        """Yield what follows ALTER TABLE and the name."""
        raise NotImplementedError

    def values(self) -> Iterator[str]:
        """Yield the arguments between the name and its kind."""
        raise NotImplementedError

    def statements(self) -> Iterator[str]:
        """Yield an ALTER for each action."""
        name = qualified(self.name, self.schema)
        return (f"ALTER {self.kind.upper()} {name} {action}" for action in self.actions())

    def arguments(self) -> Iterator[str]:
        """Yield the arguments."""
        yield repr(self.name)
        yield from self.values()
        yield from named(kind=None if self.kind == "table" else self.kind, schema=self.schema)


def named(**given: object) -> Iterator[str]:
    """Yield the keyword arguments that are not None."""
    return (f"{name}={value!r}" for name, value in given.items() if value is not None)


def set_and_reset(options: Mapping[str, Value]) -> Iterator[str]:
    """Yield the SET and the RESET of options."""

    def name_of(name: str) -> str:
        return ".".join(quote(part) for part in name.split("."))

    def value_of(value: Value) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return literal(value) if isinstance(value, str) else str(value)

    if to_set := {name: value for name, value in options.items() if value is not None}:
        yield f"SET ({', '.join(f'{name_of(name)} = {value_of(value)}' for name, value in to_set.items())})"
    if to_reset := [name_of(name) for name, value in options.items() if value is None]:
        yield f"RESET ({', '.join(to_reset)})"


@Operations.implementation_for(SimpleOp)
def _execute(operations: Operations, operation: SimpleOp) -> None:
    name = next(operation.arguments()).strip("'")
    words = f"{operation.operation.replace('_', ' ')} {name}"
    for statement in operation.statements():
        run(operations, statement, summary=words if statement.startswith("DO ") else None)


@renderers.dispatch_for(SimpleOp)
def _render(context: AutogenContext, operation: SimpleOp) -> str:
    imported(context)
    return f"op.{operation.operation}({', '.join(operation.arguments())})"
