"""What a schema holds, read from the server's catalogs: one statement, made of the queries of the kinds."""

import re
from functools import partial
from typing import Any

import sqlalchemy as sa

from alembic_drift.kinds import KINDS
from alembic_drift.objects import Catalog, Key
from alembic_drift.sql import literal

# What belongs to an extension is left out, as are partitions, which programs make and drop. Columns of the
# catalogs that came after PostgreSQL 14 are read through to_jsonb.
#
# A fact is what somebody can write in SQL and pg_dump writes back, never the server's own bookkeeping: no
# oid or transaction id, no count, no version of a collation, no mark of CLUSTER. Options whose names begin
# with pg_ are the server's, like the pg_attver that PostgreSQL 15.20 keeps for each column; the order of
# options says nothing.
_COMMON = """\
WITH extensions AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
storage AS MATERIALIZED (
    SELECT oid, array_agg(option ORDER BY option) AS parameters FROM pg_class, unnest(reloptions) AS option
    WHERE NOT starts_with(option, 'pg_') GROUP BY oid
),
home AS (
    SELECT spcname FROM pg_tablespace JOIN pg_database ON dattablespace = pg_tablespace.oid
    WHERE datname = current_database()
),
relations AS MATERIALIZED (
    SELECT pg_class.*, array_to_string(parameters, ', ') AS parameters,
        obj_description(pg_class.oid, 'pg_class') AS comment,
        CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
            WHEN 'c' THEN 'type' ELSE 'table' END AS kind,
        (SELECT spcname FROM pg_tablespace WHERE oid = reltablespace) AS tablespace,
        (SELECT amname FROM pg_am WHERE oid = relam) AS access_method
    FROM pg_class
    LEFT JOIN storage USING (oid)
    WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :schema)
      AND relkind IN ('r', 'p', 'f', 'v', 'm', 'S', 'c') AND NOT relispartition AND relname <> ALL (:ignored)
      AND ('pg_class'::regclass, oid) NOT IN (TABLE extensions)
),
heaps AS (SELECT * FROM relations WHERE relkind IN ('r', 'p', 'f', 'v', 'm')),
sequences AS (
    SELECT relations.*, format_type(seqtypid, NULL) AS type,
        format('increment %s minimum %s maximum %s start %s cache %s%s', seqincrement, seqmin, seqmax,
            seqstart, seqcache, CASE WHEN seqcycle THEN ' cycle' END) AS numbers,
        ARRAY[format('INCREMENT BY %s', seqincrement), format('MINVALUE %s', seqmin),
            format('MAXVALUE %s', seqmax), format('START WITH %s', seqstart), format('CACHE %s', seqcache),
            CASE WHEN seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END] AS options,
        refobjid AS owner, refobjsubid AS owner_column, deptype
    FROM relations JOIN pg_sequence ON seqrelid = oid
    LEFT JOIN pg_depend ON classid = 'pg_class'::regclass AND objid = oid AND deptype IN ('a', 'i')
        AND refclassid = 'pg_class'::regclass
),
backing AS (SELECT conindid, oid FROM pg_constraint WHERE contype IN ('p', 'u', 'x') AND conindid <> 0),
indexes AS MATERIALIZED (
    SELECT pg_index.*, heaps.relname AS on_table, pg_class.relname, storage.parameters,
        obj_description(indexrelid, 'pg_class') AS comment, amname,
        (SELECT spcname FROM pg_tablespace WHERE oid = pg_class.reltablespace) AS tablespace,
        coalesce((to_jsonb(pg_index) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_equal,
        backing.oid AS of_constraint
    FROM pg_index
    JOIN heaps ON heaps.oid = indrelid
    JOIN pg_class ON pg_class.oid = indexrelid
    JOIN pg_am ON pg_am.oid = pg_class.relam
    LEFT JOIN backing ON conindid = indexrelid
    LEFT JOIN storage ON storage.oid = indexrelid
)
"""

_READ = sa.text(_COMMON + "\nUNION ALL\n".join(kind.query for kind in KINDS))

SET_PATH = sa.text("SELECT set_config('search_path', :path, true)")


Renames = dict[str, tuple[str, str]]
"""For each scratch schema the name that is to stand instead, plain and as SQL writes it."""

_EXECUTABLE = ("definition", "query", "type")


def read(
    connection: sa.Connection,
    schema: str,
    path: str,
    ignored: set[str],
    *,
    rename: Renames | None = None,
) -> Catalog:
    """Return what one schema holds.

    :param path: the search_path; what is not in it is written with its schema, so it decides the words.
    :param ignored: relations that are no part of the schema: Alembic's own.
    :param rename: the names of scratch schemas, which are not to stand anywhere.
    """
    connection.execute(SET_PATH, {"path": path})
    catalog: Catalog = {}
    for kind, table, name, facts in connection.execute(_READ, {"schema": schema, "ignored": sorted(ignored)}):
        # To have the server execute it once more, in the scratch schema.
        executable = {"_written": next((facts[fact] for fact in _EXECUTABLE if facts.get(fact)), None)}
        facts = {fact: renamed(value, rename or {}) for fact, value in facts.items()} | executable
        name = renamed(name, rename or {})
        if kind in {"index", "constraint"}:
            facts["definition"] = without_servers(facts["definition"])
        if kind == "index":
            facts["_definition"] = facts["definition"]
            facts["definition"] = without_parameters(facts["definition"])
        catalog[Key(kind, table, name)] = {fact: value for fact, value in facts.items() if value is not None}
    return catalog


# WITH (fillfactor='70'), and tsvector_ops (siglen='100'): in expressions there are spaces around the sign.
_OPTION = r"\w+=(?:'(?:[^']|'')*'|[\w.+-]+)"
_OPTIONS = re.compile(rf" (\S+) \(({_OPTION}(?:, {_OPTION})*)\)")


def without_servers(definition: str) -> str:
    """Return a definition with options in the order of their names, without those of the server."""
    return _OPTIONS.sub(_somebodys, definition)


def without_parameters(definition: str) -> str:
    """Return the definition of an index without storage parameters, which change without it."""
    return _OPTIONS.sub(lambda found: "" if found[1] == "WITH" else found[0], definition)


def _somebodys(found: re.Match[str]) -> str:
    options = sorted(option for option in re.findall(_OPTION, found[2]) if not option.startswith("pg_"))
    return f" {found[1]} ({', '.join(options)})" if options else ""


# A text of SQL, where a quote is doubled.
_LITERAL = re.compile("'(?:[^']|'')*'")


def renamed(value: Any, rename: Renames) -> Any:
    """Return a text, or a list, with the names of schemas in the place of those of scratch schemas."""
    if isinstance(value, list):
        return [renamed(item, rename) for item in value]
    if not isinstance(value, str):
        return value
    for scratch, (real, written) in rename.items():
        if value == scratch:
            return real
        if scratch in value:
            value = value.replace(f"'{scratch}'", literal(real))  # the search_path of a function
            doubled = written.replace("'", "''")
            value = _LITERAL.sub(partial(_replaced, scratch, doubled), value).replace(scratch, written)
    return value


def _replaced(old: str, new: str, found: re.Match[str]) -> str:
    return found[0].replace(old, new)
