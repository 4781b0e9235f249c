"""The DO block that replaces an enumerated type by one with other labels.

@NAME, @SHORT and @WANTED are placeholders for literals.
"""

# ruff: noqa: S608 - names and labels are quoted

from alembic_drift.kinds.dependents import DECLARED, EXECUTED, collected, depends
from alembic_drift.kinds.rows import ALL_ROWS, ALL_ROWS_DECLARED, ROWS_AS_BEFORE

_OF_TYPE = "refclassid = 'pg_type'::regclass AND refobjid IN (old_type, array_type)"
_IS_OF_TYPE = "atttypid IN (old_type, array_type) AND attnum > 0 AND NOT attisdropped"
_REFERRING = f"""\
contype = 'f' AND EXISTS (SELECT FROM pg_attribute WHERE {_IS_OF_TYPE}
    AND ((attrelid = conrelid AND attnum = ANY(conkey)) OR (attrelid = confrelid AND attnum =
        ANY(confkey))))"""
# ALTER COLUMN … TYPE recreates the indexes of partitions under generated names and without their comments.
_OF_COLUMN = f"""\
refclassid = 'pg_class'::regclass AND (refobjid, refobjsubid) IN (
    SELECT attrelid, attnum FROM pg_attribute WHERE {_IS_OF_TYPE})"""
_PARTITIONED = "(pg_class.relkind = 'I' OR pg_class.relispartition)"
_INDEXES = (
    f"{depends('pg_class.indexrelid', _OF_TYPE)}"
    f" OR ({_PARTITIONED} AND {depends('pg_class.indexrelid', _OF_COLUMN)})"
)
_CONSTRAINTS = (
    f"{depends('pg_constraint.pg_constraint.oid', _OF_TYPE)} OR {_REFERRING}"
    f" OR (contype = 'x' AND {depends('pg_class.conindid', _OF_TYPE)})"
    f" OR ({_PARTITIONED} AND {depends('pg_constraint.pg_constraint.oid', _OF_COLUMN)})"
)
_COLUMNS = f"""\
SELECT attrelid::regclass AS place, attname AS name, atttypid <> old_type AS is_array
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE {_IS_OF_TYPE} AND attinhcount = 0 AND relkind IN ('r', 'p')"""

# Definitions are read before the type is renamed: the server writes them with the name of the type.
EXCHANGE = f"""\
DO $labels$ DECLARE
    old_type oid := to_regtype(@NAME); array_type oid; wanted text[] := @WANTED; found text[]; label text;
    number bigint; full_name text; old_name text; type_comment text; owner text; privileges aclitem[];
        {DECLARED}; {ALL_ROWS_DECLARED};
BEGIN
IF old_type IS NULL THEN
    RAISE EXCEPTION 'type % does not exist', @NAME;
END IF;
SELECT coalesce(array_agg(enumlabel::text ORDER BY enumsortorder), '{{}}') INTO found
FROM pg_enum WHERE enumtypid = old_type;
IF found = wanted THEN
    RETURN;
END IF;
SELECT typarray, format('%I.%I', nspname, typname), obj_description(pg_type.oid, 'pg_type'),
    pg_get_userbyid(typowner), typacl, format('%I', left(typname, 50) || '_to_drop')
INTO array_type, full_name, type_comment, owner, privileges, old_name
FROM pg_type JOIN pg_namespace ON pg_namespace.oid = typnamespace WHERE pg_type.oid = old_type;
{ALL_ROWS}
FOREACH label IN ARRAY found LOOP
    CONTINUE WHEN label = ANY(wanted);
    FOR step IN {_COLUMNS} LOOP
        EXECUTE format('SELECT count(*) FROM %s WHERE $1 = ANY(%s)', step.place,
            format(CASE WHEN step.is_array THEN '%I::text[]' ELSE 'ARRAY[%I::text]' END, step.name))
        INTO number USING label;
        IF number > 0 THEN
            RAISE EXCEPTION 'cannot drop label % of type %: % of % % it in column %', label, @SHORT,
                CASE number WHEN 1 THEN '1 row' ELSE number || ' rows' END, step.place,
                CASE number WHEN 1 THEN 'has' ELSE 'have' END, step.name
            USING HINT = 'Give these rows another label first. If that label is new, call op.set_type_labels'
                ' with both labels before the UPDATE. To rename the label, use op.rename_type_label.';
        END IF;
    END LOOP;
END LOOP;
{ROWS_AS_BEFORE}
{collected(_CONSTRAINTS, _INDEXES)}
FOR step IN
    SELECT adrelid::regclass AS place, attname AS name, pg_get_expr(adbin, adrelid) AS definition
    FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
    WHERE attgenerated = '' AND (atttypid IN (old_type, array_type) OR
        {depends("pg_attrdef.pg_attrdef.oid", _OF_TYPE)})
    ORDER BY adrelid DESC
LOOP
    drops := drops || format('ALTER TABLE %s ALTER COLUMN %I DROP DEFAULT', step.place, step.name);
    makes := format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT %s', step.place, step.name,
        step.definition) || makes;
END LOOP;
{EXECUTED.format("drops")}
EXECUTE format('ALTER TYPE %s RENAME TO %s', full_name, old_name);
EXECUTE format('CREATE TYPE %s AS ENUM (%s)', full_name,
    (SELECT string_agg(quote_literal(of), ', ' ORDER BY place) FROM unnest(wanted) WITH ORDINALITY AS l
        (of, place)));
FOR step IN
    SELECT place, string_agg(format('ALTER COLUMN %1$I TYPE %2$s%3$s USING %1$I::text%3$s::%2$s%3$s',
        name, full_name,
        CASE WHEN is_array THEN '[]' END), ', ') AS actions
    FROM ({_COLUMNS}) AS columns GROUP BY place
LOOP
    EXECUTE format('ALTER TABLE %s %s', step.place, step.actions);
END LOOP;
EXECUTE format('DROP TYPE %s', old_type::regtype);
{EXECUTED.format("makes")}
IF type_comment IS NOT NULL THEN
    EXECUTE format('COMMENT ON TYPE %s IS %L', full_name, type_comment);
END IF;
IF privileges IS NOT NULL THEN
    EXECUTE format('REVOKE ALL ON TYPE %s FROM PUBLIC', full_name);
    FOR step IN SELECT * FROM aclexplode(privileges) LOOP
        EXECUTE format('GRANT %s ON TYPE %s TO %s%s', step.privilege_type, full_name,
            CASE step.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(step.grantee)) END,
            CASE WHEN step.is_grantable THEN ' WITH GRANT OPTION' END);
    END LOOP;
END IF;
IF owner <> current_user THEN
    EXECUTE format('ALTER TYPE %s OWNER TO %I', full_name, owner);
END IF;
END $labels$"""

REWRITTEN = """\
SELECT DISTINCT attrelid::regclass::text FROM pg_type JOIN pg_attribute ON atttypid IN (pg_type.oid,
    typarray)
JOIN pg_class ON pg_class.oid = attrelid AND relkind IN ('r', 'p') AND NOT relispartition
WHERE pg_type.oid = to_regtype(@NAME) AND NOT attisdropped AND @WANTED <> (
    SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = pg_type.oid)"""
