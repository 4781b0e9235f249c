"""Queries of PostgreSQL's catalogs."""

import sqlalchemy as sa

PROBE = "alembic_online_probe"
"""The name of an empty copy of a table, in a transaction that is rolled back."""

CURRENT_SCHEMA = sa.text("SELECT current_schema()")
VERSION = sa.text("SELECT current_setting('server_version_num')::int")
# transaction_timeout came with PostgreSQL 17.
SETTINGS = sa.text(
    "SELECT "
    + ", ".join(
        f"current_setting('{name}', true) AS {name}"
        for name in ("application_name", "lock_timeout", "statement_timeout", "transaction_timeout")
    )
)
# Unless it is set already.
WATCH_CLIENT = sa.text("""
SELECT set_config(name, :interval, false) FROM pg_settings
WHERE name = 'client_connection_check_interval' AND setting = '0'""")
WATCH_NO_CLIENT = sa.text("SELECT set_config('client_connection_check_interval', '0', false)")
ROW_SECURITY = sa.text("SELECT current_setting('row_security')")
KIND = sa.text("SELECT relkind::text FROM pg_class WHERE oid = to_regclass(:table)")
# Whether a relation is the journal. Its columns decide, because a user's table may have the name.
JOURNAL = sa.text("""
SELECT relkind = 'r' AND (
    SELECT array_agg(attname::text || ' ' || format_type(atttypid, atttypmod) ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
) IS NOT DISTINCT FROM ARRAY['step text', 'digest text', 'number integer', 'state jsonb']
FROM pg_class WHERE oid = to_regclass(:table)""")
OID = sa.text("SELECT CAST(to_regclass(:table) AS oid)::text")
# The row type of a table tells: ALTER TABLE does not change it.
MADE_IN_TRANSACTION = sa.text("""
SELECT format('%I.%I', nspname, relname)
FROM pg_type JOIN pg_class ON pg_class.oid = typrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE pg_type.xmin = CAST(pg_current_xact_id_if_assigned() AS xid)
  AND relkind IN ('r', 'p', 'm') AND relpersistence <> 't'
ORDER BY 1""")
AMONG = sa.text("""
SELECT to_regclass(:table) = ANY (SELECT to_regclass(name) FROM unnest(CAST(:names AS text[])) AS name)""")
TABLE_OF_INDEX = sa.text("""
SELECT indrelid::regclass::text FROM pg_index WHERE indexrelid = to_regclass(:name)""")
HAS_NO_NULL = sa.text("""
SELECT attnotnull OR EXISTS (
    SELECT FROM pg_constraint WHERE conrelid = attrelid AND contype = 'c' AND convalidated
      AND pg_get_constraintdef(pg_constraint.oid) = format('CHECK ((%I IS NOT NULL))', attname))
FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attname = :column""")
MISSING = sa.text("""
SELECT name FROM unnest(CAST(:names AS text[])) AS name WHERE to_regclass(name) IS NULL""")
GONE = sa.text("""
SELECT kind, tab, name FROM unnest(CAST(:kinds AS text[]), CAST(:tables AS text[]), CAST(:names AS text[]))
    AS made (kind, tab, name)
WHERE to_regclass(tab) IS NOT NULL AND NOT CASE kind
    WHEN 'column' THEN EXISTS (SELECT FROM pg_attribute
        WHERE attrelid = to_regclass(tab) AND attname = name AND attnum > 0 AND NOT attisdropped)
    WHEN 'index' THEN EXISTS (SELECT FROM pg_index JOIN pg_class ON oid = indexrelid
        WHERE indrelid = to_regclass(tab) AND relname = name)
    ELSE EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass(tab) AND conname = name) END
ORDER BY 1, 2, 3""")
LAST_NAME = sa.text("SELECT (parse_ident(:name))[array_upper(parse_ident(:name), 1)]")
# Whether row security restricts a relation that may have rows; no row for any other.
IS_RESTRICTED = sa.text("""
SELECT row_security_active(oid) FROM pg_class
WHERE oid = to_regclass(:table) AND relkind IN ('r', 'p', 'm') AND relispopulated""")
COLUMN = sa.text("""
SELECT format_type(atttypid, atttypmod)
    || CASE WHEN attcollation <> typcollation THEN ' COLLATE ' || attcollation::regcollation ELSE '' END
FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = to_regclass(:table) AND attname = :column AND attnum > 0 AND NOT attisdropped""")
IS_NOT_NULL = sa.text(
    "SELECT attnotnull FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attname = :column"
)
NOT_NULL = sa.text("""
SELECT conname, convalidated FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid
WHERE conrelid = to_regclass(:table) AND contype = 'n' AND attname = :column AND conkey = ARRAY[attnum]""")
# The referenced table of a foreign key is left out and compared by its oid: its name has two spellings, and a
# foreign key of the empty copy references another copy.
CONSTRAINT = sa.text("""
SELECT convalidated, replace(regexp_replace(pg_get_constraintdef(oid), ' NOT VALID$', ''),
    ' REFERENCES ' || CAST(confrelid AS regclass) || '(', ' REFERENCES (')
FROM pg_constraint WHERE conrelid = to_regclass(:table) AND conname = :name""")
TAKEN = sa.text("""
SELECT EXISTS (SELECT FROM pg_class AS taken WHERE taken.relname = :name
    AND taken.relnamespace = of.relnamespace)
  OR EXISTS (SELECT FROM pg_constraint WHERE conname = :name AND connamespace = of.relnamespace)
FROM pg_class AS of WHERE of.oid = to_regclass(:table)""")
# The check that PostgreSQL itself makes when it chooses the name of a constraint.
TAKEN_BY_CONSTRAINT = sa.text("""
SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = :name AND connamespace = of.relnamespace)
FROM pg_class AS of WHERE of.oid = to_regclass(:table)""")
REFERRED = sa.text("""
SELECT confrelid::regclass::text FROM pg_constraint
WHERE conrelid = to_regclass(:table) AND conname = :name AND confrelid <> 0""")
REFERRED_OID = sa.text("""
SELECT confrelid::text FROM pg_constraint WHERE conrelid = to_regclass(:table) AND conname = :name""")
INDEX_NAME = sa.text("""
SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = to_regclass(:table)""")
ATTACHED = sa.text("SELECT relispartition FROM pg_class WHERE oid = to_regclass(:name)")
# The table as an oid, because its name has two spellings.
INDEX = sa.text("""
SELECT indrelid::text, indisvalid,
    regexp_replace(pg_get_indexdef(indexrelid), ' INDEX .*? USING ', ' INDEX USING ')
FROM pg_index WHERE indexrelid = to_regclass(:name)""")
# Only its own role sees the progress of a build, but every role sees the lock.
BUILDER = sa.text("""
SELECT min(pid) FROM pg_locks JOIN pg_index ON relation = indrelid
WHERE indexrelid = to_regclass(:index) AND mode = 'ShareUpdateExclusiveLock' AND granted
  AND pid <> pg_backend_pid() AND locktype = 'relation'
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND NOT EXISTS (SELECT FROM pg_stat_progress_vacuum AS vacuum WHERE vacuum.pid = pg_locks.pid)
  AND NOT EXISTS (SELECT FROM pg_stat_progress_analyze AS analyze_ WHERE analyze_.pid = pg_locks.pid)""")
FILES = sa.text(f"""
SELECT relname::text, pg_relation_filenode(oid)::text FROM pg_class
WHERE oid = to_regclass('{PROBE}')
   OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = to_regclass('{PROBE}'))""")  # noqa: S608 - constant
PARTITIONS_WITHOUT = sa.text("""
SELECT nspname AS schema, relname AS table
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE inhparent = to_regclass(:table) AND relkind IN ('r', 'p') AND NOT EXISTS (
    SELECT FROM pg_inherits AS attached JOIN pg_index ON indexrelid = attached.inhrelid
    WHERE attached.inhparent = to_regclass(:index) AND indrelid = pg_class.oid)
ORDER BY pg_class.oid""")
FOREIGN_KEYS = sa.text("""
SELECT conname, confrelid::regclass::text FROM pg_constraint
WHERE conrelid = to_regclass(:table) AND contype = 'f' AND conparentid = 0 AND confrelid <> conrelid
ORDER BY conname""")
# DROP TABLE also locks the tables that the foreign keys of the table reference, and its parent table.
LOCKED_WITH = sa.text("""
SELECT confrelid::regclass::text FROM pg_constraint
WHERE conrelid = to_regclass(:table) AND contype = 'f' AND confrelid <> conrelid
UNION SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = to_regclass(:table)
ORDER BY 1""")
COLUMN_FOREIGN_KEYS = sa.text("""
SELECT conname, confrelid::regclass::text FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid
WHERE conrelid = to_regclass(:table) AND contype = 'f' AND conparentid = 0
  AND attname = :column AND attnum = ANY (conkey)
ORDER BY conname""")
COLUMN_INDEXES = sa.text("""
SELECT DISTINCT indexrelid::regclass::text FROM pg_index JOIN pg_class ON oid = indexrelid
JOIN pg_depend ON classid = 'pg_class'::regclass AND objid = indexrelid
JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
WHERE indrelid = to_regclass(:table) AND refobjid = indrelid AND attname = :column
  AND relkind = 'i' AND NOT relispartition
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)""")
# Objects that keep another one from being dropped. The search follows the objects that PostgreSQL would drop
# with it. A rule is reported as its view.
_DEPENDENTS = """
    UNION
    SELECT pg_depend.classid, pg_depend.objid, pg_depend.objsubid FROM pg_depend JOIN gone ON {on}
    WHERE deptype IN ('a', 'i', 'P', 'S')
)
SELECT DISTINCT CASE WHEN ev_class IS NULL
    THEN pg_describe_object(pg_depend.classid, pg_depend.objid, pg_depend.objsubid)
    ELSE pg_describe_object(CAST('pg_class' AS regclass), ev_class, 0) END
FROM pg_depend JOIN gone ON {on}
LEFT JOIN pg_rewrite ON pg_rewrite.oid = pg_depend.objid
    AND pg_depend.classid = CAST('pg_rewrite' AS regclass)
WHERE deptype = 'n' AND NOT EXISTS (
    SELECT FROM gone AS too WHERE too.classid = pg_depend.classid AND too.objid = pg_depend.objid
      AND too.objsubid IN (0, pg_depend.objsubid))
ORDER BY 1""".format(  # noqa: S608 - constants
    on="refclassid = gone.classid AND refobjid = gone.objid AND gone.objsubid IN (0, refobjsubid)"
)
COLUMN_DEPENDENTS = sa.text(
    """
WITH RECURSIVE gone (classid, objid, objsubid) AS (
    SELECT CAST('pg_class' AS regclass)::oid, attrelid, attnum::int FROM pg_attribute
    WHERE attrelid = to_regclass(:table) AND attname = :column"""  # noqa: S608 - constants
    + _DEPENDENTS
)
TABLE_DEPENDENTS = sa.text(
    """
WITH RECURSIVE gone (classid, objid, objsubid) AS (
    SELECT CAST('pg_class' AS regclass)::oid, CAST(to_regclass(:table) AS oid), 0"""
    + _DEPENDENTS
)
COLUMN_CHECKS = sa.text("""
SELECT conname, pg_get_constraintdef(pg_constraint.oid) AS definition,
    format('COMMENT ON CONSTRAINT %I ON %s IS ', conname, CAST(conrelid AS regclass))
        || quote_literal(obj_description(pg_constraint.oid, 'pg_constraint')) AS comment
FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid
WHERE conrelid = to_regclass(:table) AND contype = 'c' AND convalidated AND attname = :column
  AND attnum = ANY (conkey) ORDER BY conname""")
WHO = """format('process %s%s%s%s', coalesce(pid::text, 'of a prepared transaction'), ' of role ' || usename,
    ' "' || nullif(application_name, '') || '"',
    CASE WHEN state IS NOT NULL THEN format(', %s, in its transaction for %s s: %s', state,
        extract(epoch FROM clock_timestamp() - xact_start)::int,
        left(regexp_replace(query, '\\s+', ' ', 'g'), 80))
    END)"""
# The sessions that hold a lock that conflicts with ours. Autovacuum workers are left out: the request for the
# weak lock makes the server cancel them.
HOLDERS = sa.text(
    f"""
SELECT DISTINCT virtualtransaction, {WHO} AS holder
FROM pg_locks LEFT JOIN pg_stat_activity USING (pid)
WHERE relation = ANY (SELECT CAST(to_regclass(name) AS oid) FROM unnest(CAST(:tables AS text[])) AS name)
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND granted AND locktype = 'relation' AND pid IS DISTINCT FROM pg_backend_pid()
  AND backend_type IS DISTINCT FROM 'autovacuum worker'
  AND (:reads OR mode NOT IN ('AccessShareLock', 'RowShareLock')) AND mode <> 'SIReadLock'
"""  # noqa: S608 - constants
)
PROCESS = sa.text("SELECT pg_backend_pid()")
# For the second connection, of any driver: {pid} is replaced by the number of a process.
BLOCKERS = f"""
SELECT DISTINCT {WHO.replace("pid::text", "blocker::text")}
FROM unnest(pg_blocking_pids({{pid}})) AS blocker LEFT JOIN pg_stat_activity ON pid = blocker"""  # noqa: S608
PROGRESS = """
SELECT format('%s, %s of %s blocks', phase, blocks_done, blocks_total)
FROM pg_stat_progress_create_index WHERE pid = {pid}"""
CANCEL = "SELECT pg_cancel_backend({pid})"
