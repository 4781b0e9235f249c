"""Operations for views, materialized views and functions, and how autogenerate writes them."""

import re
from collections.abc import Sequence
from typing import ClassVar

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import render_op
from alembic.operations import Operations, ops

from alembic_drift.catalog import qualified


class BothWays(ops.OpContainer):
    """Operations of an upgrade, and those of its downgrade, where the second are not the first reversed."""

    def __init__(self, up: Sequence[ops.MigrateOperation], down: Sequence[ops.MigrateOperation]) -> None:
        super().__init__(up)
        self.down = down

    def reverse(self) -> "BothWays":
        """Return them for the other direction."""
        return BothWays(self.down, self.ops)


class ByHandOp(ops.MigrateOperation):
    """Differences that no operation mends: a comment at the top of the revision."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines

    def reverse(self) -> "ByHandOp":
        """Return nothing to say: the comment stands in the revision once."""
        return ByHandOp([])


def _run(operations: Operations, statement: str) -> None:
    operations.execute(as_text(statement))


def as_text(statement: str) -> str:
    """Return SQL as it has to stand in ``text()``, where a colon before a word would be a parameter."""
    return re.sub(r"(?<![:\w\\]):(?=\w)", r"\:", statement)


class _CreateViewOp(ops.MigrateOperation):
    statement: ClassVar[str]
    operation: ClassVar[str]

    def __init__(self, name: str, query: str, *, schema: str | None = None) -> None:
        self.name, self.query, self.schema = name, query, schema

    @classmethod
    def create(cls, operations: Operations, name: str, query: str, *, schema: str | None = None) -> None:
        """Create a view, or leave one of the name that is there.

        :param name: its name.
        :param query: the SELECT that it shows, as plain SQL.
        :param schema: its schema, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, query, schema=schema))


@Operations.register_operation("create_view", "create")
class CreateViewOp(_CreateViewOp):
    """Create a view; one of the name is replaced, if it has the same columns first."""

    statement = "CREATE OR REPLACE VIEW"
    operation = "create_view"


@Operations.register_operation("create_materialized_view", "create")
class CreateMaterializedViewOp(_CreateViewOp):
    """Create and fill a materialized view, unless there is one of the name."""

    statement = "CREATE MATERIALIZED VIEW IF NOT EXISTS"
    operation = "create_materialized_view"


class _DropViewOp(ops.MigrateOperation):
    statement: ClassVar[str]
    operation: ClassVar[str]

    def __init__(self, name: str, *, schema: str | None = None) -> None:
        self.name, self.schema = name, schema

    @classmethod
    def drop(cls, operations: Operations, name: str, *, schema: str | None = None) -> None:
        """Drop a view, with its indexes and comments, if it is there."""
        operations.invoke(cls(name, schema=schema))


@Operations.register_operation("drop_view", "drop")
class DropViewOp(_DropViewOp):
    """Drop a view."""

    statement = "DROP VIEW IF EXISTS"
    operation = "drop_view"


@Operations.register_operation("drop_materialized_view", "drop")
class DropMaterializedViewOp(_DropViewOp):
    """Drop a materialized view."""

    statement = "DROP MATERIALIZED VIEW IF EXISTS"
    operation = "drop_materialized_view"


@Operations.register_operation("replace_function", "replace")
class ReplaceFunctionOp(ops.MigrateOperation):
    """Create a function or procedure, or replace its definition."""

    def __init__(self, signature: str, definition: str, *, own_search_path: bool = False) -> None:
        self.signature, self.definition, self.own_search_path = signature, definition, own_search_path

    @classmethod
    def replace(
        cls, operations: Operations, signature: str, definition: str, *, own_search_path: bool = False
    ) -> None:
        """Create a function or procedure, or replace its definition.

        :param signature: name and types of its arguments, as DROP FUNCTION takes them: ``f(integer)``.
        :param definition: the whole CREATE OR REPLACE FUNCTION, as plain SQL.
        :param own_search_path: whether it is to find what is in its own schema, whatever search_path its
            caller has. (``SET search_path`` in the definition would name one schema for all databases.)
        """
        operations.invoke(cls(signature, definition, own_search_path=own_search_path))


@Operations.register_operation("drop_function", "drop")
class DropFunctionOp(ops.MigrateOperation):
    """Drop a function or procedure."""

    def __init__(self, signature: str) -> None:
        self.signature = signature

    @classmethod
    def drop(cls, operations: Operations, signature: str) -> None:
        """Drop a function or procedure, if it is there.

        :param signature: name and types of its arguments: ``f(integer)``.
        """
        operations.invoke(cls(signature))


@Operations.implementation_for(CreateViewOp)
@Operations.implementation_for(CreateMaterializedViewOp)
def _create_view(operations: Operations, operation: _CreateViewOp) -> None:
    name = qualified(operation.name, operation.schema)
    _run(operations, f"{operation.statement} {name} AS\n{operation.query}")


@Operations.implementation_for(DropViewOp)
@Operations.implementation_for(DropMaterializedViewOp)
def _drop_view(operations: Operations, operation: _DropViewOp) -> None:
    _run(operations, f"{operation.statement} {qualified(operation.name, operation.schema)}")


@Operations.implementation_for(ReplaceFunctionOp)
def _replace_function(operations: Operations, operation: ReplaceFunctionOp) -> None:
    _run(operations, operation.definition)
    if operation.own_search_path:
        pin = f"ALTER ROUTINE {operation.signature} SET search_path = ".replace("'", "''").replace("%", "%%")
        _run(operations, f"DO $pin$ BEGIN EXECUTE format('{pin}%I', current_schema()); END $pin$")


@Operations.implementation_for(DropFunctionOp)
def _drop_function(operations: Operations, operation: DropFunctionOp) -> None:
    _run(operations, f"DROP ROUTINE IF EXISTS {operation.signature}")


@renderers.dispatch_for(BothWays)
def _render_both_ways(context: AutogenContext, operation: BothWays) -> list[str]:
    return [line for inner in operation.ops for line in render_op(context, inner)]


@renderers.dispatch_for(ByHandOp)
def _render_by_hand(context: AutogenContext, operation: ByHandOp) -> list[str]:
    if operation.lines:
        lines = [
            "# To settle by hand, because no operation does it:",
            *(f"# - {line}" for line in operation.lines),
        ]
        context.imports.add("\n".join(lines))
    return []


# Alembic's own says that it cannot.
@renderers.dispatch_for(ops.CreatePrimaryKeyOp, replace=True)
def _render_create_primary_key(_context: AutogenContext, operation: ops.CreatePrimaryKeyOp) -> str:
    name, columns = str(operation.constraint_name), list(operation.columns)
    options = "".join(f", {option}={value!r}" for option, value in operation.kw.items())
    where = f"{operation.table_name!r}, {columns!r}{_in_schema(operation.schema)}"
    return f"op.create_primary_key(op.f({name!r}), {where}{options})"


def _ours(context: AutogenContext) -> None:
    """Have the revision import this module: an operation is known to ``op`` from then on."""
    context.imports.add(f"import {__name__}  # noqa: F401")


def _literal(text: str) -> str:
    """Return a text as Python writes it, a line of it on a line."""
    lines = text.splitlines(keepends=True)
    return repr(text) if len(lines) == 1 else "\n".join(["", *(f"    {line!r}" for line in lines)])


def _in_schema(schema: str | None) -> str:
    return f", schema={schema!r}" if schema else ""


@renderers.dispatch_for(_CreateViewOp)
def _render_create_view(context: AutogenContext, operation: _CreateViewOp) -> str:
    _ours(context)
    query, schema = _literal(operation.query), _in_schema(operation.schema)
    return f"op.{operation.operation}({operation.name!r}, {query}{schema})"


@renderers.dispatch_for(_DropViewOp)
def _render_drop_view(context: AutogenContext, operation: _DropViewOp) -> str:
    _ours(context)
    return f"op.{operation.operation}({operation.name!r}{_in_schema(operation.schema)})"


@renderers.dispatch_for(ReplaceFunctionOp)
def _render_replace_function(context: AutogenContext, operation: ReplaceFunctionOp) -> str:
    _ours(context)
    path = ", own_search_path=True" if operation.own_search_path else ""
    return f"op.replace_function({operation.signature!r}, {_literal(operation.definition)}{path})"


@renderers.dispatch_for(DropFunctionOp)
def _render_drop_function(context: AutogenContext, operation: DropFunctionOp) -> str:
    _ours(context)
    return f"op.drop_function({operation.signature!r})"
