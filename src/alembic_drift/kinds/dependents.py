"""What PostgreSQL does not take along when a type or a column is exchanged.

It is dropped before and made again after, by text of PL/pgSQL for the DO block of an operation. The
definitions are the server's own, read when the operation runs, so a script has them as well.
"""

DECLARED = "step record; drops text[] := '{}'; makes text[] := '{}'; statement text"
"""The variables that :func:`collected` fills: what drops, and what makes again."""

EXECUTED = "FOREACH statement IN ARRAY {} LOOP EXECUTE statement; END LOOP;"
"""Executes one of the lists."""

_COLLECTED = """\
FOR step IN
    SELECT conrelid::regclass AS place, conname AS name, pg_get_constraintdef(pg_constraint.oid) AS
        definition,
        obj_description(pg_constraint.oid, 'pg_constraint') AS comment, pg_class.oid::regclass AS index,
        array_to_string(reloptions, ', ') AS parameters, indisclustered, indisreplident
    FROM pg_constraint
    LEFT JOIN pg_index ON indexrelid = conindid AND contype IN ('p', 'u', 'x')
    LEFT JOIN pg_class ON pg_class.oid = indexrelid
    WHERE contype IN ('p', 'u', 'f', 'c', 'x') AND conrelid <> 0 AND conparentid = 0
      AND (contype <> 'c' OR conislocal) AND (@CONSTRAINTS)
    ORDER BY contype = 'f' DESC, pg_constraint.oid
LOOP
    drops := drops || format('ALTER TABLE %s DROP CONSTRAINT %I', step.place, step.name);
    makes := array_remove(ARRAY[
        format('ALTER TABLE %s ADD CONSTRAINT %I %s', step.place, step.name, step.definition),
        format('ALTER INDEX %s SET (', step.index) || step.parameters || ')',
        CASE WHEN step.indisclustered THEN format('ALTER TABLE %s CLUSTER ON %I', step.place, step.name)
            END,
        CASE WHEN step.indisreplident
            THEN format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', step.place, step.name) END,
        CASE WHEN step.comment IS NOT NULL
            THEN format('COMMENT ON CONSTRAINT %I ON %s IS %L', step.name, step.place, step.comment) END
    ], NULL) || makes;
END LOOP;
FOR step IN
    SELECT indrelid::regclass AS place, indexrelid::regclass AS index, relname AS name,
        pg_get_indexdef(indexrelid) AS definition, spcname, indisclustered, indisreplident,
        obj_description(indexrelid, 'pg_class') AS comment
    FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    LEFT JOIN pg_tablespace ON pg_tablespace.oid = reltablespace
    WHERE NOT relispartition AND (@INDEXES) AND NOT EXISTS (
        SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u', 'x'))
    ORDER BY indexrelid
LOOP
    drops := drops || format('DROP INDEX %s', step.index);
    makes := array_remove(ARRAY[
        step.definition,
        format('ALTER INDEX %s SET TABLESPACE ', step.index) || quote_ident(step.spcname),
        CASE WHEN step.indisclustered THEN format('ALTER TABLE %s CLUSTER ON %I', step.place, step.name)
            END,
        CASE WHEN step.indisreplident
            THEN format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', step.place, step.name) END,
        format('COMMENT ON INDEX %s IS ', step.index) || quote_literal(step.comment)
    ], NULL) || makes;
END LOOP;
"""


def depends(catalog: str, on: str) -> str:
    """Return a condition: an object of a catalog, by its column for its number, depends on something.

    :param on: a condition on pg_depend.
    """
    name, _, column = catalog.partition(".")
    return (
        f"EXISTS (SELECT FROM pg_depend WHERE classid = '{name}'::regclass AND objid = {column} AND ({on}))"
    )


def collected(constraints: str, indexes: str) -> str:
    """Return what collects constraints and indexes, foreign keys to go first and to come last.

    :param constraints: which, as a condition on a row of pg_constraint; ``indexes`` on one of pg_index.
    """
    return _COLLECTED.replace("@CONSTRAINTS", constraints).replace("@INDEXES", indexes)
