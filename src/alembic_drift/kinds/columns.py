"""Columns of tables and views. Those of views have only comments and defaults."""

from copy import copy
from typing import Any

import sqlalchemy as sa
from alembic.operations import ops

from alembic_drift.kinds import column_settings, generated, identities, views
from alembic_drift.kinds.types import Type, plain
from alembic_drift.objects import Facts, Key
from alembic_drift.order import Phase
from alembic_drift.probes import Cast
from alembic_drift.render import ConvertOp, in_schema
from alembic_drift.resolution import Kind, Planned, Resolution, execute
from alembic_drift.sql import as_text, quote

_QUERY = """\
SELECT 'column', heaps.relname, attname, jsonb_build_object(
    'comment', col_description(attrelid, attnum)) || CASE WHEN heaps.relkind = 'v' THEN jsonb_build_object(
    'default', pg_get_expr(adbin, adrelid)) ELSE jsonb_build_object(
    'storage', CASE WHEN attstorage <> typstorage THEN CASE attstorage WHEN 'p' THEN 'plain'
        WHEN 'e' THEN 'external' WHEN 'm' THEN 'main' ELSE 'extended' END END,
    'compression', CASE attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4'
        ELSE nullif(attcompression::text, '') END,
    '_storage', CASE attstorage WHEN 'p' THEN 'plain' WHEN 'e' THEN 'external' WHEN 'm' THEN 'main'
        ELSE 'extended' END,
    'statistics target', nullif(attstattarget, -1),
    'attribute options', (SELECT string_agg(option, ', ' ORDER BY option) FROM unnest(attoptions) AS option
        WHERE NOT starts_with(option, 'pg_'))) END
    || CASE WHEN heaps.relkind IN ('v', 'm') THEN '{}' ELSE jsonb_build_object(
    'type', format_type(atttypid, atttypmod),
    'collation', CASE WHEN attcollation <> typcollation THEN attcollation::regcollation::text END,
    'not null', CASE WHEN attnotnull THEN concat_ws(' ', 'NOT NULL',
        CASE WHEN NOT convalidated THEN 'NOT VALID' END,
        CASE WHEN connoinherit THEN 'NO INHERIT' END) END,
    'default', CASE WHEN attgenerated = '' THEN pg_get_expr(adbin, adrelid) END,
    'generated', CASE attgenerated WHEN 's' THEN 'stored ' WHEN 'v' THEN 'virtual ' END
        || pg_get_expr(adbin, adrelid),
    'identity', CASE attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END
        || (SELECT concat(' ', type, ' ', numbers) FROM sequences
            WHERE owner = attrelid AND owner_column = attnum AND deptype = 'i'),
    '_identity', (SELECT jsonb_build_array(
            CASE attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, options, relname)
        FROM sequences WHERE owner = attrelid AND owner_column = attnum AND deptype = 'i'),
    'foreign', array_to_string(attfdwoptions, ', '),
    '_not_null_constraint', conname) END
FROM heaps
JOIN pg_attribute ON attrelid = heaps.oid AND attnum > 0 AND NOT attisdropped
JOIN pg_type ON pg_type.oid = atttypid
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
LEFT JOIN pg_constraint ON conrelid = attrelid AND contype = 'n' AND conkey = ARRAY[attnum]"""

_ALTERED = {"type", "collation", "not null", "default", "identity", "comment"}
"""The aspects that an operation can alter; others are changed manually."""


def _resolve(resolution: Resolution, key: Key, aspects: set[str]) -> set[str]:
    database, models = resolution.sides(key)
    if resolution.view_of(key.table) is not None:
        if resolution.is_rebuilt(key.table):
            return set()
        if "comment" in aspects:
            resolution.comment(key)
        if "default" in aspects and database is not None and models is not None:
            up, down = (views.set_default(resolution, key, facts) for facts in (models, database))
            resolution.both(Phase.REST, [up], [down])
        return column_settings.resolve(resolution, key, aspects) - {"comment", "default"}
    if models is None and database is not None:
        _hint(resolution, key, database)
    aspects = column_settings.resolve(resolution, key, aspects)
    if database is None or models is None:
        return set()  # Alembic has found it
    left = aspects - _ALTERED
    if "generated" in aspects and "identity" not in aspects:
        generated.resolve(resolution, key)
        left -= {"generated"}
        aspects = aspects - {"default"}  # planned with the expression
    return left | _alter(resolution, key, aspects, database, models)


def _hint(resolution: Resolution, dropped: Key, facts: Facts) -> None:
    """Add a hint that a column may have been renamed; nothing in the models says so."""
    for key, added in resolution.models.items():
        if (
            key.kind == "column"
            and key.table == dropped.table
            and key not in resolution.database
            and added.get("type") == facts.get("type")
        ):
            names = f"{key.table!r}, {dropped.name!r}, new_column_name={key.name!r}"
            resolution.hints.append(
                f"dropped {dropped.name} and added {key.name} have the same type: if this is a rename, use"
                f" op.alter_column({names}{in_schema(resolution.schema)})"
            )


def _alter(resolution: Resolution, key: Key, aspects: set[str], database: Facts, models: Facts) -> set[str]:
    """Complete the operation that Alembic found for a column, or add one; return what it cannot alter."""
    left: set[str] = set()
    operation = resolution.altered.setdefault(
        (str(key.table), key.name), ops.AlterColumnOp(str(key.table), key.name, schema=resolution.schema)
    )
    operation.kw.pop("autoincrement", None)  # for MySQL only
    operation.existing_type = _existing_type(resolution, key, database, operation)
    operation.modify_type = None
    operation.modify_server_default = False
    if "identity" in aspects:
        identities.resolve(resolution, key)
        aspects = aspects - {"default"}  # the identity replaces it
    elif "default" in aspects and not {"type", "collation"} & aspects:
        operation.modify_server_default = default(models)
    operation.existing_server_default = False if "default" not in database else default(database)
    if "default" in aspects and operation.modify_server_default is not False:
        operation.existing_server_default = default(database)
    if {"type", "collation"} & aspects:
        left |= _retype(resolution, key, operation, aspects - left)
    operation.existing_nullable = "not null" not in database
    operation.modify_nullable = None
    if "not null" in aspects:
        left |= _null(resolution, key, operation, database, models)
    operation.existing_comment = database.get("comment")
    operation.modify_comment = models.get("comment") if "comment" in aspects else False
    return left


def _existing_type(resolution: Resolution, key: Key, database: Facts, found: ops.AlterColumnOp) -> Any:
    type_ = found.existing_type
    if type_ is None:
        type_ = next(
            column["type"] for column in resolution.columns(str(key.table)) if column["name"] == key.name
        )
    type_ = copy(plain(type_))
    if "collation" in database and hasattr(type_, "collation"):
        type_.collation = database["collation"].strip('"')
    return type_


def _retype(resolution: Resolution, key: Key, operation: ops.AlterColumnOp, aspects: set[str]) -> set[str]:
    """Plan a change of type; drop the default before and set it after, where it cannot be converted.

    Returns what cannot be done, because SQLAlchemy does not know a type or the server has no cast.
    """
    database, models = resolution.database[key], resolution.models[key]
    wanted = plain(resolution.tables[str(key.table)].c[key.name].type)
    existing: Any = operation.existing_type
    up = resolution.probes.cast(key.name, database["_written"], models["_written"], database.get("default"))
    down = resolution.probes.cast(key.name, models["_written"], database["_written"], models.get("default"))
    if up is None:
        line = next(str(found) for found in resolution.of(key) if found.aspect in {"type", "collation"})
        resolution.unresolved.append(f"{line}; there is no cast: write an expression for postgresql_using")
        return {"default"} & aspects
    if isinstance(existing, sa.types.NullType) or (
        "collation" in aspects and not hasattr(existing, "collation")
    ):
        return {"type", "collation", "default"} & aspects
    down = down or Cast(f"{quote(key.name)}::text::{database['_type']}", keeps_default=False)
    simple = up == down == Cast(None, keeps_default=True)
    if simple and ("default" not in aspects or not {"default"} & (set(database) | set(models))):
        operation.modify_type = wanted
        return set()
    resolution.both(
        Phase.TABLES,
        _in_steps(resolution, key, (existing, database), (wanted, models), up),
        _in_steps(resolution, key, (wanted, models), (existing, database), down),
        number=9_400,
    )
    operation.existing_type = wanted
    operation.existing_server_default = default(models) if "default" in models else False
    return set()


def _in_steps(
    resolution: Resolution, key: Key, old: tuple[Type, Facts], new: tuple[Type, Facts], cast: Cast
) -> Planned:
    """Return the change of a type, with the default dropped before and set after unless it is kept."""
    kept = cast.keeps_default and ("default" in old[1]) == ("default" in new[1])
    kept = kept and old[1].get("default") == new[1].get("default")

    def alter(**options: Any) -> ops.AlterColumnOp:
        return ops.AlterColumnOp(str(key.table), key.name, schema=resolution.schema, **options)

    steps: Planned = []
    if "default" in old[1] and not kept:
        steps.append(alter(modify_server_default=None, existing_type=old[0]))
    if cast.using is None:
        steps.append(alter(modify_type=new[0], existing_type=old[0]))
    else:
        steps.append(
            ConvertOp(
                str(key.table),
                key.name,
                schema=resolution.schema,
                modify_type=new[0],
                existing_type=old[0],
                using=cast.using,
            )
        )
    if "default" in new[1] and not kept:
        steps.append(alter(modify_server_default=default(new[1]), existing_type=new[0]))
    return steps


def _null(
    resolution: Resolution, key: Key, operation: ops.AlterColumnOp, database: Facts, models: Facts
) -> set[str]:
    if ("not null" in database) != ("not null" in models):
        operation.modify_nullable = "not null" not in models
    elif database["not null"].endswith("NOT VALID"):
        table, column = resolution.qualified(str(key.table)), quote(key.name)
        name = quote(database["_not_null_constraint"])
        resolution.both(
            Phase.REST,
            [execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")],
            [
                execute(f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL"),
                execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} NOT NULL {column} NOT VALID"),
            ],
        )
    else:
        return {"not null"}
    return set()


def default(facts: Facts) -> sa.DefaultClause | None:
    """Return the default of a column for an operation."""
    return sa.DefaultClause(sa.text(as_text(facts["default"]))) if "default" in facts else None


COLUMNS = Kind(("column",), _QUERY, _resolve, may_be_unmanaged=True)
