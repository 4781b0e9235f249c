"""Types, and how to create and drop domains. Composite, range and base types are only reported."""

from copy import copy
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import Operations, ops
from sqlalchemy.dialects import postgresql

from alembic_drift.internals import variant_of
from alembic_drift.kinds import labels
from alembic_drift.objects import Facts, Key
from alembic_drift.order import Phase
from alembic_drift.render import imported, in_schema, run, text_of
from alembic_drift.resolution import Kind, Planned, Resolution
from alembic_drift.sql import literal, qualified

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
"""SQL for the text after CREATE TYPE … AS or CREATE DOMAIN … AS, from a row of pg_type."""

USED_BY = """\
(SELECT jsonb_agg(DISTINCT relname) FROM pg_attribute JOIN heaps ON heaps.oid = attrelid
        WHERE atttypid IN (pg_type.oid, typarray) AND attnum > 0 AND NOT attisdropped
          AND heaps.relkind NOT IN ('m', 'v'))"""
"""SQL for the names of the tables with a column of a type, from a row of pg_type."""

_QUERY = """\
SELECT 'type', NULL, typname, jsonb_build_object(
    'definition', @DEFINITION,
    '_labels', CASE typtype WHEN 'e' THEN (SELECT coalesce(jsonb_agg(enumlabel ORDER BY enumsortorder), '[]')
        FROM pg_enum WHERE enumtypid = pg_type.oid) END,
    '_columns', (SELECT jsonb_agg(jsonb_build_array(relname, attname)) FROM pg_attribute
        JOIN heaps ON heaps.oid = attrelid WHERE atttypid IN (pg_type.oid, typarray) AND NOT attisdropped),
    '_used_by', @USED_BY,
    'comment', obj_description(pg_type.oid, 'pg_type'))
FROM pg_type
WHERE typnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :schema)
  AND (typtype IN ('e', 'r') OR typrelid IN (SELECT oid FROM relations WHERE relkind = 'c')
      OR (typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type AS element WHERE element.typarray = pg_type.oid)))
  AND ('pg_type'::regclass, oid) NOT IN (TABLE extensions)"""
_QUERY = _QUERY.replace("@DEFINITION", TYPE_DEFINITION).replace("@USED_BY", USED_BY)

Type = sa.types.TypeEngine[Any]


def _resolve(resolution: Resolution, key: Key, aspects: set[str]) -> set[str]:
    database, models = resolution.sides(key)
    if database is None or models is None:
        return create_or_drop(resolution, key) if "_labels" in (models or database or {}) else aspects
    resolution.comment(key)
    if "definition" in aspects and "_labels" in database and "_labels" in models:
        labels.resolve(resolution, key)
        return set()
    return aspects - {"comment"}


def create_or_drop(resolution: Resolution, key: Key) -> set[str]:
    """Plan to create or drop a type or domain."""
    database, models = resolution.sides(key)
    drop: Planned = [DropTypeOp(key.name, kind=key.kind, schema=resolution.schema)]
    # A domain is created after its base type and before functions that take it, and dropped in reverse order.
    if models is not None:
        number = models.get("_depth", 0) - 1_000
        resolution.both(Phase.TYPES, _create(resolution, key, models), drop, number=number)
    elif database is not None:
        number = 100_000 - database.get("_depth", 0)
        resolution.both(Phase.FUNCTIONS_GO, drop, _create(resolution, key, database), number=number)
    return set()


def _create(resolution: Resolution, key: Key, facts: Facts) -> Planned:
    create = CreateTypeOp(key.name, facts["definition"], kind=key.kind, schema=resolution.schema)
    return [create, *resolution.comment_of(key, facts)]


def plain(type_: Type) -> Type:
    """Return a column's type without what SQLAlchemy would create with the column.

    Other operations create an enumerated type or a domain, once for all columns, and add the constraint that
    checks the values.
    """
    if isinstance(type_, sa.ARRAY):
        inner = plain(type_.item_type)
        if inner is type_.item_type:
            return type_
        array = copy(type_)
        array.item_type = inner
        return array
    variant = variant_of(type_)
    if variant is not None:
        return type_ if plain(variant) is variant else plain(variant)
    if isinstance(type_, sa.TypeDecorator):
        inner = type_.impl_instance
        return plain(inner) if isinstance(inner, sa.Enum) or plain(inner) is not inner else type_
    if isinstance(type_, sa.Enum) and type_.native_enum and type_.name:
        return postgresql.ENUM(*type_.enums, name=type_.name, schema=type_.schema, create_type=False)
    if isinstance(type_, postgresql.DOMAIN):
        domain = copy(type_)
        domain.create_type = False
        return domain
    if isinstance(type_, sa.Enum | sa.Boolean) and type_.create_constraint:
        unchecked = copy(type_)
        unchecked.create_constraint = False
        return unchecked
    return type_


TYPES = Kind(("type",), _QUERY, _resolve)


# The operations.


@Operations.register_operation("create_type", "create_type")
@Operations.register_operation("create_domain", "create_domain")
class CreateTypeOp(ops.MigrateOperation):
    """Create an enumerated type or a domain, unless the same one exists."""

    def __init__(self, name: str, definition: str, *, kind: str = "type", schema: str | None = None) -> None:
        self.name, self.definition, self.kind, self.schema = name, definition, kind, schema

    @classmethod
    def create_type(
        cls, operations: Operations, name: str, definition: str, *, schema: str | None = None
    ) -> None:
        """Create a type, unless the same one exists; if a different one has the name, raise an error.

        :param name: its name.
        :param definition: the text after AS, as the server writes it: ``ENUM ('new', 'paid')``.
        :param schema: its schema, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, definition, schema=schema))

    @classmethod
    def create_domain(
        cls, operations: Operations, name: str, definition: str, *, schema: str | None = None
    ) -> None:
        """Create a domain, unless the same one exists; if a different one has the name, raise an error.

        :param name: its name.
        :param definition: the text after AS, as the server writes it.
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
        """Drop a type, if it exists."""
        operations.invoke(cls(name, schema=schema))

    @classmethod
    def drop_domain(cls, operations: Operations, name: str, *, schema: str | None = None) -> None:
        """Drop a domain, if it exists."""
        operations.invoke(cls(name, kind="domain", schema=schema))


@Operations.implementation_for(CreateTypeOp)
def _create_type(operations: Operations, operation: CreateTypeOp) -> None:
    schema = "current_schema()" if operation.schema is None else literal(operation.schema)
    name = qualified(operation.name, operation.schema)
    definition = literal(operation.definition)
    run(
        operations,
        f"""\
DO $create$ DECLARE found text; BEGIN
SELECT {TYPE_DEFINITION} INTO found
FROM pg_type WHERE typname = {literal(operation.name)} AND typnamespace =
    (SELECT oid FROM pg_namespace WHERE nspname = {schema});
IF found IS NULL THEN
    CREATE {operation.kind.upper()} {name} AS {operation.definition};
ELSIF found <> {definition} THEN
    RAISE EXCEPTION '{operation.kind} % already exists as %, not as %',
        {literal(operation.name)}, found, {definition};
END IF;
END $create$""",  # noqa: S608 - the names are quoted
        summary=f"CREATE {operation.kind.upper()} {name} AS {operation.definition}",
    )


@Operations.implementation_for(DropTypeOp)
def _drop_type(operations: Operations, operation: DropTypeOp) -> None:
    name = qualified(operation.name, operation.schema)
    run(operations, f"DROP {operation.kind.upper()} IF EXISTS {name}")


@renderers.dispatch_for(CreateTypeOp)
def _render_create_type(context: AutogenContext, operation: CreateTypeOp) -> str:
    imported(context)
    schema = in_schema(operation.schema)
    return f"op.create_{operation.kind}({operation.name!r}, {text_of(operation.definition)}{schema})"


@renderers.dispatch_for(DropTypeOp)
def _render_drop_type(context: AutogenContext, operation: DropTypeOp) -> str:
    imported(context)
    return f"op.drop_{operation.kind}({operation.name!r}{in_schema(operation.schema)})"
