"""Objects that PostgreSQL does not carry over when a type or a column is replaced.

PL/pgSQL in the DO block of an operation drops them before and recreates them after. It reads their
definitions from the server when the operation runs, so an SQL script does the same.
"""

import re

DECLARED = "step record; drops text[] := '{}'; makes text[] := '{}'; statement text"
"""The variables that :func:`collected` fills: statements that drop, and statements that recreate."""

EXECUTED = "FOREACH statement IN ARRAY {} LOOP EXECUTE statement; END LOOP;"
"""Executes one of the lists."""

# Each index of a partitioned table is created separately and attached, as pg_dump does: so the indexes of
# partitions keep their names and settings. A parent is dropped with its children, and created before them.
_COLLECTED = """\
FOR step IN
    SELECT conrelid::regclass AS place, conname AS name, pg_get_constraintdef(pg_constraint.oid) AS
        definition, contype IN ('p', 'u', 'x') AS alone, conparentid = 0 AS is_top,
        obj_description(pg_constraint.oid, 'pg_constraint') AS comment, @INDEX
    FROM pg_constraint
    LEFT JOIN pg_index ON indexrelid = conindid AND contype IN ('p', 'u', 'x')
    LEFT JOIN pg_class ON pg_class.oid = indexrelid
    LEFT JOIN pg_tablespace ON pg_tablespace.oid = reltablespace
    WHERE contype IN ('p', 'u', 'f', 'c', 'x') AND conrelid <> 0
      AND (conparentid = 0 OR contype IN ('p', 'u', 'x'))
      AND (contype <> 'c' OR conislocal) AND (@CONSTRAINTS)
    ORDER BY contype = 'f' DESC, @DEPTH DESC, coninhcount > 0, pg_constraint.oid
LOOP
    IF step.is_top THEN
        drops := drops || format('ALTER TABLE %s DROP CONSTRAINT %I', step.place, step.name);
    END IF;
    makes := array_remove(ARRAY[
        format('ALTER TABLE %s%s ADD CONSTRAINT %I %s', CASE WHEN step.alone THEN 'ONLY ' END, step.place,
            step.name, step.definition),
        format('ALTER INDEX %s SET (', step.index) || step.parameters || ')',
        @AFTER,
        format('COMMENT ON CONSTRAINT %I ON %s IS ', step.name, step.place) || quote_literal(step.comment)
    ], NULL) || makes || @LAST;
END LOOP;
FOR step IN
    SELECT indrelid::regclass AS place, relname AS name, pg_get_indexdef(indexrelid) AS definition,
        NOT relispartition AS is_top, obj_description(indexrelid, 'pg_class') AS comment, @INDEX
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    LEFT JOIN pg_tablespace ON pg_tablespace.oid = reltablespace
    WHERE (@INDEXES) AND NOT EXISTS (
        SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
    ORDER BY @DEPTH DESC, indexrelid
LOOP
    IF step.is_top THEN
        drops := drops || format('DROP INDEX %s', step.index);
    END IF;
    makes := array_remove(ARRAY[
        step.definition,
        @AFTER,
        format('COMMENT ON INDEX %s IS ', step.index) || quote_literal(step.comment)
    ], NULL) || makes || @LAST;
END LOOP;
"""
_PARTS = {
    "@INDEX": """indexrelid::regclass AS index,
        array_to_string(reloptions, ', ') AS parameters, spcname, indisclustered, indisreplident,
        (SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = indexrelid) AS parent,
        (SELECT string_agg(format(' ALTER COLUMN %s SET STATISTICS %s', attnum, attstattarget), ',')
            FROM pg_attribute WHERE attrelid = indexrelid AND attstattarget >= 0) AS targets""",
    "@DEPTH": "(SELECT count(*) FROM pg_partition_ancestors(indexrelid))",
    "@AFTER": """format('ALTER INDEX %s SET TABLESPACE ', step.index) || quote_ident(step.spcname),
        format('ALTER INDEX %s', step.index) || step.targets,
        'ALTER INDEX ' || step.parent || format(' ATTACH PARTITION %s', step.index)""",
    # These need a valid index. The index of a partitioned table is valid when all others are attached.
    "@LAST": """array_remove(ARRAY[
        CASE WHEN step.indisclustered THEN format('ALTER TABLE %s CLUSTER ON %I', step.place, step.name)
            END,
        CASE WHEN step.indisreplident
            THEN format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', step.place, step.name) END
    ], NULL)""",
}


def depends(catalog: str, on: str) -> str:
    """Return a condition: an object of a catalog depends on something.

    :param catalog: the catalog and the column of the object's OID: ``pg_class.indexrelid``.
    :param on: a condition on pg_depend.
    """
    name, _, column = catalog.partition(".")
    return (
        f"EXISTS (SELECT FROM pg_depend WHERE classid = '{name}'::regclass AND objid = {column} AND ({on}))"
    )


def collected(constraints: str, indexes: str) -> str:
    """Return PL/pgSQL that collects constraints and indexes: foreign keys are dropped first and created last.

    :param constraints: a condition on a row of pg_constraint.
    :param indexes: a condition on a row of pg_index.
    """
    parts = {**_PARTS, "@CONSTRAINTS": constraints, "@INDEXES": indexes}
    return re.sub(r"@[A-Z]+", lambda found: parts[found[0]], _COLLECTED)
