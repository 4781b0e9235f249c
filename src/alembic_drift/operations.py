"""Operations for views, functions, types, and names of constraints, and how autogenerate writes them.

A revision that uses them imports this module, which makes them known to ``op``.
"""

from typing import ClassVar

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import Operations, ops

from alembic_drift.render import imported, in_schema, text_of
from alembic_drift.sql import as_text, literal, qualified, quote


def _run(operations: Operations, statement: str) -> None:
    operations.execute(as_text(statement))


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


TYPE_DEFINITION = """\
CASE typtype
    WHEN 'e' THEN 'ENUM (' || (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
        FROM pg_enum WHERE enumtypid = pg_type.oid) || ')'
    WHEN 'd' THEN concat_ws(' ', format_type(typbasetype, typtypmod),
        CASE WHEN typcollation <> (SELECT typcollation FROM pg_type AS base
            WHERE base.oid = pg_type.typbasetype)
            THEN 'COLLATE ' || typcollation::regcollation END,
        'DEFAULT ' || typdefault, CASE WHEN typnotnull THEN 'NOT NULL' END,
        (SELECT string_agg(format('CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)), ' '
            ORDER BY conname)
            FROM pg_constraint WHERE contypid = pg_type.oid AND contype = 'c'))
    WHEN 'c' THEN '(' || (SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', '
        ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped) || ')'
    WHEN 'r' THEN (SELECT 'RANGE of ' || format_type(rngsubtype, NULL) FROM pg_range
        WHERE rngtypid = pg_type.oid)
    ELSE format('%s %s %s', typinput, typoutput, typlen) END"""
"""What follows CREATE TYPE … AS or CREATE DOMAIN … AS, of a row of pg_type."""


@Operations.register_operation("create_type", "create_type")
@Operations.register_operation("create_domain", "create_domain")
class CreateTypeOp(ops.MigrateOperation):
    """Create an enumerated type or a domain; one of the name is left, if it is the same."""

    def __init__(self, name: str, definition: str, *, kind: str = "type", schema: str | None = None) -> None:
        self.name, self.definition, self.kind, self.schema = name, definition, kind, schema

    @classmethod
    def create_type(
        cls, operations: Operations, name: str, definition: str, *, schema: str | None = None
    ) -> None:
        """Create a type, or leave one that is the same; another one of the name is an error.

        :param name: its name.
        :param definition: what follows AS, as the server writes it: ``ENUM ('new', 'paid')``.
        :param schema: its schema, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, definition, schema=schema))

    @classmethod
    def create_domain(
        cls, operations: Operations, name: str, definition: str, *, schema: str | None = None
    ) -> None:
        """Create a domain, or leave one that is the same; another one of the name is an error.

        :param name: its name.
        :param definition: what follows AS, as the server writes it.
        :param schema: its schema, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, definition, kind="domain", schema=schema))


@Operations.register_operation("drop_type", "drop_type")
@Operations.register_operation("drop_domain", "drop_domain")
class DropTypeOp(ops.MigrateOperation):
    """Drop a type or a domain."""

    def __init__(self, name: str, *, kind: str = "type", schema: str | None = None) -> None:
        self.name, self.kind, self.schema = name, kind, schema

    @classmethod
    def drop_type(cls, operations: Operations, name: str, *, schema: str | None = None) -> None:
        """Drop a type, if it is there."""
        operations.invoke(cls(name, schema=schema))

    @classmethod
    def drop_domain(cls, operations: Operations, name: str, *, schema: str | None = None) -> None:
        """Drop a domain, if it is there."""
        operations.invoke(cls(name, kind="domain", schema=schema))


@Operations.register_operation("rename_constraint", "rename")
class RenameConstraintOp(ops.MigrateOperation):
    """Give a constraint, and its index if it has one, another name."""

    def __init__(self, table_name: str, old: str, new: str, *, schema: str | None = None) -> None:
        self.table_name, self.old, self.new, self.schema = table_name, old, new, schema

    @classmethod
    def rename(
        cls, operations: Operations, table_name: str, old: str, new: str, *, schema: str | None = None
    ) -> None:
        """Rename a constraint, unless it has the new name; one that has neither is an error.

        :param table_name: its table.
        :param old: its name.
        :param new: the name that it gets.
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(cls(table_name, old, new, schema=schema))


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


@Operations.implementation_for(CreateTypeOp)
def _create_type(operations: Operations, operation: CreateTypeOp) -> None:
    schema = "current_schema()" if operation.schema is None else literal(operation.schema)
    name = qualified(operation.name, operation.schema)
    definition = literal(operation.definition)
    _run(
        operations,
        f"""\
DO $create$ DECLARE found text; BEGIN
SELECT {TYPE_DEFINITION} INTO found
FROM pg_type WHERE typname = {literal(operation.name)} AND typnamespace =
    (SELECT oid FROM pg_namespace WHERE nspname = {schema});
IF found IS NULL THEN
    CREATE {operation.kind.upper()} {name} AS {operation.definition};
ELSIF found <> {definition} THEN
    RAISE EXCEPTION '{operation.kind} % is there as %, not as %',
        {literal(operation.name)}, found, {definition};
END IF;
END $create$""",  # noqa: S608 - the names are quoted
    )


@Operations.implementation_for(DropTypeOp)
def _drop_type(operations: Operations, operation: DropTypeOp) -> None:
    name = qualified(operation.name, operation.schema)
    _run(operations, f"DROP {operation.kind.upper()} IF EXISTS {name}")


@Operations.implementation_for(RenameConstraintOp)
def _rename_constraint(operations: Operations, operation: RenameConstraintOp) -> None:
    table, old, new = qualified(operation.table_name, operation.schema), operation.old, operation.new
    there = f"EXISTS (SELECT FROM pg_constraint WHERE conrelid = {literal(table)}::regclass AND conname ="
    _run(
        operations,
        f"""\
DO $rename$ BEGIN
IF {there} {literal(old)}) THEN
    ALTER TABLE {table} RENAME CONSTRAINT {quote(old)} TO {quote(new)};
ELSIF NOT {there} {literal(new)}) THEN
    RAISE EXCEPTION 'table % has no constraint %', {literal(operation.table_name)}, {literal(old)};
END IF;
END $rename$""",
    )


@renderers.dispatch_for(_CreateViewOp)
def _render_create_view(context: AutogenContext, operation: _CreateViewOp) -> str:
    imported(context)
    query, schema = text_of(operation.query), in_schema(operation.schema)
    return f"op.{operation.operation}({operation.name!r}, {query}{schema})"


@renderers.dispatch_for(_DropViewOp)
def _render_drop_view(context: AutogenContext, operation: _DropViewOp) -> str:
    imported(context)
    return f"op.{operation.operation}({operation.name!r}{in_schema(operation.schema)})"


@renderers.dispatch_for(ReplaceFunctionOp)
def _render_replace_function(context: AutogenContext, operation: ReplaceFunctionOp) -> str:
    imported(context)
    path = ", own_search_path=True" if operation.own_search_path else ""
    return f"op.replace_function({operation.signature!r}, {text_of(operation.definition)}{path})"


@renderers.dispatch_for(DropFunctionOp)
def _render_drop_function(context: AutogenContext, operation: DropFunctionOp) -> str:
    imported(context)
    return f"op.drop_function({operation.signature!r})"


@renderers.dispatch_for(CreateTypeOp)
def _render_create_type(context: AutogenContext, operation: CreateTypeOp) -> str:
    imported(context)
    schema = in_schema(operation.schema)
    return f"op.create_{operation.kind}({operation.name!r}, {text_of(operation.definition)}{schema})"


@renderers.dispatch_for(DropTypeOp)
def _render_drop_type(context: AutogenContext, operation: DropTypeOp) -> str:
    imported(context)
    return f"op.drop_{operation.kind}({operation.name!r}{in_schema(operation.schema)})"


@renderers.dispatch_for(RenameConstraintOp)
def _render_rename_constraint(context: AutogenContext, operation: RenameConstraintOp) -> str:
    imported(context)
    names = f"{operation.table_name!r}, {operation.old!r}, {operation.new!r}"
    return f"op.rename_constraint({names}{in_schema(operation.schema)})"
