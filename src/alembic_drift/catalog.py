"""Reads the objects of a schema from the server's catalogs, in one statement of all kinds' queries."""

import re
from functools import partial
from typing import Any

import sqlalchemy as sa

from alembic_drift.kinds import KINDS
from alembic_drift.objects import Catalog, Key
from alembic_drift.sql import literal

# Objects of extensions are left out, as are partitions, which programs create and drop. Catalog columns that
# are newer than PostgreSQL 14 are read through to_jsonb.
#
# A fact is something that SQL can set and pg_dump restores. The server's bookkeeping is no fact: oids,
# transaction ids, counts, versions of collations, the mark of CLUSTER. Options with names that begin with pg_
# belong to the server, like the pg_attver that PostgreSQL 15.20 keeps for each column. The order of options
# has no meaning.
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
"""For each scratch schema the name that replaces it, plain and quoted for SQL."""

_EXECUTABLE = ("definition", "query", "type")


def read(
    connection: sa.Connection,
    schema: str,
    path: str,
    ignored: set[str],
    *,
    rename: Renames | None = None,
) -> Catalog:
    """Return the objects of one schema.

    :param path: the search_path; names outside it are written with their schema, so it affects definitions.
    :param ignored: relations that are not compared: the tables of Alembic.
    :param rename: the names of scratch schemas, which must not appear in the result.
    """
    connection.execute(SET_PATH, {"path": path})
    catalog: Catalog = {}
    for kind, table, name, facts in connection.execute(_READ, {"schema": schema, "ignored": sorted(ignored)}):
        # The text that the server can execute once more, in the scratch schema.
        executable = {"_written": next((facts[fact] for fact in _EXECUTABLE if facts.get(fact)), None)}
        facts = {fact: renamed(value, rename or {}) for fact, value in facts.items()} | executable
        name = renamed(name, rename or {})
        if kind in {"index", "constraint"}:
            facts["definition"] = without_server_options(facts["definition"])
        if kind == "index":
            facts["_definition"] = facts["definition"]
            facts["definition"] = without_parameters(facts["definition"])
        catalog[Key(kind, table, name)] = {fact: value for fact, value in facts.items() if value is not None}
    return catalog


# WITH (fillfactor='70'), tsvector_ops (siglen='100'): unlike here, an expression has spaces around "=".
_OPTION = r"\w+=(?:'(?:[^']|'')*'|[\w.+-]+)"
_OPTIONS = re.compile(rf" (\S+) \(({_OPTION}(?:, {_OPTION})*)\)")


def without_server_options(definition: str) -> str:
    """Return a definition with its options in the order of their names, without the server's options."""
    return _OPTIONS.sub(_user_options, definition)


def without_parameters(definition: str) -> str:
    """Return the definition of an index without storage parameters, which have their own fact."""
    return _OPTIONS.sub(lambda found: "" if found[1] == "WITH" else found[0], definition)


def _user_options(found: re.Match[str]) -> str:
    options = sorted(option for option in re.findall(_OPTION, found[2]) if not option.startswith("pg_"))
    return f" {found[1]} ({', '.join(options)})" if options else ""


# A string literal of SQL, in which a quote is doubled.
_LITERAL = re.compile("'(?:[^']|'')*'")


def renamed(value: Any, rename: Renames) -> Any:
    """Return a text or list in which the names of scratch schemas are replaced."""
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
