"""Indexes, except those of constraints."""

from typing import Any

import sqlalchemy as sa
from alembic.operations import ops

from alembic_drift.kinds import column_settings, settings
from alembic_drift.objects import NAME, Facts, Key
from alembic_drift.order import Phase
from alembic_drift.resolution import Kind, Planned, Resolution, execute
from alembic_drift.sql import as_text, quote

_QUERY = """\
SELECT 'index', on_table, relname, jsonb_build_object(
    'definition', pg_get_indexdef(indexrelid), 'tablespace', tablespace,
    'storage parameters', array_to_string(parameters, ', '),
    'validity', CASE WHEN NOT (indisvalid AND indisready) THEN 'invalid' END,
    'replica identity', CASE WHEN indisreplident THEN 'yes' END,
    'statistics target', (SELECT string_agg(format('%s: %s', attname, attstattarget), ', ' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = indexrelid AND attstattarget >= 0),
    '_targets', (SELECT jsonb_object_agg(attnum, attstattarget)
        FROM pg_attribute WHERE attrelid = indexrelid AND attstattarget >= 0),
    'comment', comment,
    '_named', format(' INDEX %I ON ', relname),
    '_columns', (SELECT jsonb_agg(DISTINCT attname) FROM pg_depend
        JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
        WHERE classid = 'pg_class'::regclass AND objid = indexrelid AND refobjid = indrelid),
    '_unique', indisunique, '_clustered', indisclustered,
    '_using', amname, '_where', pg_get_expr(indpred, indrelid),
    '_with', to_jsonb(parameters), '_nulls_equal', nulls_equal,
    '_include', (SELECT jsonb_agg(attname ORDER BY place)
        FROM unnest(indkey::int2[]) WITH ORDINALITY AS keys (attnum, place)
        JOIN pg_attribute AS of_table ON attrelid = indrelid AND of_table.attnum = keys.attnum
        WHERE place > indnkeyatts),
    '_keys', (SELECT jsonb_agg(jsonb_build_array(of_table.attname,
            pg_get_indexdef(indexrelid, place::int, false)
            || CASE WHEN indcollation[place - 1] <> coalesce(of_table.attcollation, 100)
                AND indcollation[place - 1] <> 0
                THEN ' COLLATE ' || indcollation[place - 1]::regcollation ELSE '' END
            || CASE WHEN opcdefault AND operator_class.options IS NULL THEN '' ELSE ' ' || CASE
                WHEN pg_opclass_is_visible(pg_opclass.oid) THEN quote_ident(opcname)
                ELSE format('%I.%I', opcnamespace::regnamespace::text, opcname) END
                || coalesce('(' || operator_class.options || ')', '') END
            || CASE WHEN NOT pg_indexam_has_property(opcmethod, 'can_order') THEN ''
                ELSE CASE indoption[place - 1] & 3 WHEN 1 THEN ' DESC NULLS LAST' WHEN 2 THEN ' NULLS FIRST'
                    WHEN 3 THEN ' DESC' ELSE '' END END) ORDER BY place)
        FROM unnest(indkey::int2[]) WITH ORDINALITY AS keys (attnum, place)
        JOIN pg_opclass ON pg_opclass.oid = indclass[place - 1]
        JOIN pg_attribute AS of_index ON of_index.attrelid = indexrelid AND of_index.attnum = place
        CROSS JOIN LATERAL (SELECT string_agg(option, ', ' ORDER BY option) AS options
            FROM unnest(of_index.attoptions) AS option
            WHERE NOT starts_with(option, 'pg_')) AS operator_class
        LEFT JOIN pg_attribute AS of_table ON of_table.attrelid = indrelid AND of_table.attnum = keys.attnum
            AND keys.attnum <> 0
        WHERE place <= indnkeyatts))
FROM indexes WHERE of_constraint IS NULL"""

_RECREATED = {"", "definition", "tablespace", "validity"}


def _resolve(resolution: Resolution, key: Key, aspects: set[str]) -> set[str]:
    database, models = resolution.sides(key)
    if resolution.is_rebuilt(key.table):
        return set()
    if aspects & _RECREATED:
        if database is not None:
            resolution.both(
                Phase.INDEXES_GO, drop(resolution, key, database), create(resolution, key, database)
            )
        if models is not None:
            resolution.both(Phase.INDEXES, create(resolution, key, models), drop(resolution, key, models))
        return aspects & {"replica identity"}
    if NAME in aspects and database is not None and models is not None:
        rename(resolution, "INDEX", database[NAME], models[NAME])
    if "statistics target" in aspects and database is not None and models is not None:
        up, down = (
            column_settings.of_index(resolution, key.name, old, new)
            for old, new in ((database, models), (models, database))
        )
        resolution.both(Phase.REST, up, down)
    resolution.comment(key)
    return settings.resolve(resolution, key, aspects) - {"comment", "statistics target", NAME}


def rename(resolution: Resolution, kind: str, old: str, new: str) -> None:
    """Plan to rename an index or sequence."""
    alter = f"ALTER {kind} IF EXISTS"
    resolution.renames.append(
        (lambda a, b: execute(f"{alter} {resolution.qualified(a)} RENAME TO {quote(b)}"), old, new)
    )


def drop(resolution: Resolution, key: Key, facts: Facts) -> Planned:
    """Return what drops an index."""
    return [ops.DropIndexOp(facts.get(NAME, key.name), str(key.table), schema=resolution.schema)]


def create(resolution: Resolution, key: Key, facts: Facts) -> Planned:
    """Return what creates an index as the server describes it."""
    options: dict[str, Any] = {}
    if facts["_using"] != "btree":
        options["postgresql_using"] = facts["_using"]
    if "_where" in facts:
        options["postgresql_where"] = sa.text(as_text(facts["_where"]))
    if "_include" in facts:
        options["postgresql_include"] = facts["_include"]
    if "_with" in facts:
        options["postgresql_with"] = dict(option.split("=", 1) for option in facts["_with"])
    if facts["_nulls_equal"]:
        options["postgresql_nulls_not_distinct"] = True
    if "tablespace" in facts:
        options["postgresql_tablespace"] = facts["tablespace"]
    columns = [
        name if name and text in {name, quote(name)} else sa.text(as_text(text))
        for name, text in facts["_keys"]
    ]
    created = ops.CreateIndexOp(
        facts.get(NAME, key.name),
        str(key.table),
        columns,
        schema=resolution.schema,
        unique=facts["_unique"],
        **options,
    )
    targets = column_settings.of_index(resolution, facts.get(NAME, key.name), {}, facts)
    made: Planned = [created, *targets, *resolution.comment_of(key, facts)]
    if facts["_clustered"]:  # not compared, but restored
        name = quote(facts.get(NAME, key.name))
        made.append(execute(f"ALTER TABLE {resolution.qualified(str(key.table))} CLUSTER ON {name}"))
    return made


INDEXES = Kind(("index",), _QUERY, _resolve, may_be_unmanaged=True)
