-- Everything that a schema holds: kind, table that it is a part of, name, and what there is to say of it.
-- What belongs to an extension is left out, as are partitions, which programs make and drop. Columns of the
-- catalogs that came after PostgreSQL 14 are read through to_jsonb. Facts with a leading _ are not compared.
--
-- A fact is what somebody can write in SQL and pg_dump writes back, never the server's own bookkeeping: no
-- oid or transaction id, no count, no version of a collation. Options whose names begin with pg_ are the
-- server's, like the pg_attver that PostgreSQL 15.20 keeps for each column; the order of options says nothing.
WITH extensions AS (SELECT classid, objid FROM pg_depend WHERE deptype = 'e'),
storage AS MATERIALIZED (
    SELECT oid, array_agg(option ORDER BY option) AS parameters FROM pg_class, unnest(reloptions) AS option
    WHERE NOT starts_with(option, 'pg_') GROUP BY oid
),
relations AS MATERIALIZED (
    SELECT pg_class.*, array_to_string(parameters, ', ') AS parameters, obj_description(pg_class.oid, 'pg_class') AS comment,
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
SELECT kind, CAST(NULL AS text) AS "table", relname::text AS name, jsonb_build_object(
    'kind', CASE relkind WHEN 'p' THEN 'partitioned' WHEN 'f' THEN 'foreign' END,
    'persistence', CASE relpersistence WHEN 'u' THEN 'unlogged' ELSE 'logged' END,
    'access method', access_method, 'tablespace', tablespace,
    'storage parameters', nullif(concat_ws(', ', parameters, (
        SELECT 'toast: ' || array_to_string(toast.parameters, ', ') FROM storage AS toast
        WHERE toast.oid = reltoastrelid)), ''),
    'row security', nullif(concat_ws(', ', CASE WHEN relrowsecurity THEN 'enabled' END,
        CASE WHEN relforcerowsecurity THEN 'forced' END), ''),
    'replica identity', CASE relreplident WHEN 'f' THEN 'full' WHEN 'n' THEN 'nothing'
        WHEN 'i' THEN 'index' END,
    'partition key', CASE relkind WHEN 'p' THEN pg_get_partkeydef(oid) END,
    'type', CASE WHEN reloftype <> 0 THEN format_type(reloftype, NULL) END,
    'inherits', (SELECT string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno) FROM pg_inherits
        WHERE inhrelid = oid),
    'foreign', (SELECT format('%s %s', srvname, ftoptions) FROM pg_foreign_table
        JOIN pg_foreign_server ON pg_foreign_server.oid = ftserver WHERE ftrelid = relations.oid),
    'comment', comment) AS facts
FROM relations WHERE kind = 'table'
UNION ALL
SELECT kind, NULL, relname, jsonb_build_object(
    'query', rtrim(pg_get_viewdef(oid), ';'), 'storage parameters', parameters,
    'access method', access_method, 'tablespace', tablespace, 'comment', comment,
    '_reads', (SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_array(read.relname, attname)), '[]')
        FROM pg_rewrite JOIN pg_depend ON classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
        JOIN pg_class AS read ON read.oid = refobjid
        LEFT JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid AND attnum > 0
        WHERE ev_class = relations.oid AND refobjid <> ev_class AND refclassid = 'pg_class'::regclass))
FROM relations WHERE kind IN ('view', 'materialized view')
UNION ALL
SELECT 'column', heaps.relname, attname, jsonb_build_object(
    'comment', col_description(attrelid, attnum)) || CASE WHEN heaps.relkind = 'v' THEN jsonb_build_object(
    'default', pg_get_expr(adbin, adrelid)) ELSE jsonb_build_object(
    'storage', CASE WHEN attstorage <> typstorage THEN CASE attstorage WHEN 'p' THEN 'plain'
        WHEN 'e' THEN 'external' WHEN 'm' THEN 'main' ELSE 'extended' END END,
    'compression', CASE attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE nullif(attcompression::text, '') END,
    'statistics target', nullif(attstattarget, -1),
    'attribute options', (SELECT string_agg(option, ', ' ORDER BY option) FROM unnest(attoptions) AS option
        WHERE NOT starts_with(option, 'pg_'))) END
    || CASE WHEN heaps.relkind IN ('v', 'm') THEN '{}' ELSE jsonb_build_object(
    'type', format_type(atttypid, atttypmod),
    'collation', CASE WHEN attcollation <> typcollation THEN attcollation::regcollation::text END,
    'not null', CASE WHEN attnotnull THEN concat_ws(' ', 'NOT NULL', CASE WHEN NOT convalidated THEN 'NOT VALID' END,
        CASE WHEN connoinherit THEN 'NO INHERIT' END) END,
    'default', CASE WHEN attgenerated = '' THEN pg_get_expr(adbin, adrelid) END,
    'generated', CASE attgenerated WHEN 's' THEN 'stored ' WHEN 'v' THEN 'virtual ' END
        || pg_get_expr(adbin, adrelid),
    'identity', CASE attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END
        || (SELECT concat(' ', type, ' ', numbers) FROM sequences
            WHERE owner = attrelid AND owner_column = attnum AND deptype = 'i'),
    '_identity', (SELECT jsonb_build_array(CASE attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, options)
        FROM sequences WHERE owner = attrelid AND owner_column = attnum AND deptype = 'i'),
    'foreign', array_to_string(attfdwoptions, ', '),
    '_not_null_constraint', conname) END
FROM heaps
JOIN pg_attribute ON attrelid = heaps.oid AND attnum > 0 AND NOT attisdropped
JOIN pg_type ON pg_type.oid = atttypid
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
LEFT JOIN pg_constraint ON conrelid = attrelid AND contype = 'n' AND conkey = ARRAY[attnum]
UNION ALL
SELECT 'constraint', heaps.relname, conname, jsonb_build_object(
    'definition', pg_get_constraintdef(pg_constraint.oid),
    'disabled', CASE WHEN EXISTS (SELECT FROM pg_trigger WHERE tgconstraint = pg_constraint.oid AND tgenabled <> 'O')
        THEN 'its triggers are disabled' END,
    'index', nullif(concat_ws(', ', CASE WHEN NOT indisvalid THEN 'invalid' END,
        CASE WHEN indisclustered THEN 'clustered' END, CASE WHEN indisreplident THEN 'replica identity' END,
        array_to_string(indexes.parameters, ', '), indexes.tablespace), ''),
    'comment', obj_description(pg_constraint.oid, 'pg_constraint'),
    '_type', contype, '_with', array_to_string(indexes.parameters, ', '),
    '_columns', (SELECT jsonb_agg(attname) FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)),
    '_referred', (SELECT relname FROM pg_class WHERE oid = confrelid))
FROM heaps JOIN pg_constraint ON conrelid = heaps.oid
LEFT JOIN indexes ON of_constraint = pg_constraint.oid
WHERE contype IN ('p', 'u', 'f', 'c', 'x')
UNION ALL
SELECT 'index', on_table, relname, jsonb_build_object(
    'definition', pg_get_indexdef(indexrelid), 'tablespace', tablespace,
    'validity', CASE WHEN NOT (indisvalid AND indisready) THEN 'invalid' END,
    'clustered', CASE WHEN indisclustered THEN 'yes' END,
    'replica identity', CASE WHEN indisreplident THEN 'yes' END,
    'statistics target', (SELECT string_agg(format('%s: %s', attname, attstattarget), ', ' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = indexrelid AND attstattarget >= 0),
    'comment', comment,
    '_columns', (SELECT jsonb_agg(DISTINCT attname) FROM pg_depend
        JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
        WHERE classid = 'pg_class'::regclass AND objid = indexrelid AND refobjid = indrelid),
    '_unique', indisunique, '_using', amname, '_where', pg_get_expr(indpred, indrelid),
    '_with', to_jsonb(parameters), '_nulls_equal', nulls_equal,
    '_include', (SELECT jsonb_agg(attname ORDER BY place)
        FROM unnest(indkey::int2[]) WITH ORDINALITY AS keys (attnum, place)
        JOIN pg_attribute AS of_table ON attrelid = indrelid AND of_table.attnum = keys.attnum
        WHERE place > indnkeyatts),
    '_keys', (SELECT jsonb_agg(jsonb_build_array(of_table.attname, pg_get_indexdef(indexrelid, place::int, false)
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
        CROSS JOIN LATERAL (SELECT string_agg(option, ', ' ORDER BY option) AS options FROM unnest(of_index.attoptions) AS option
            WHERE NOT starts_with(option, 'pg_')) AS operator_class
        LEFT JOIN pg_attribute AS of_table ON of_table.attrelid = indrelid AND of_table.attnum = keys.attnum
            AND keys.attnum <> 0
        WHERE place <= indnkeyatts))
FROM indexes WHERE of_constraint IS NULL
UNION ALL
SELECT 'sequence', NULL, relname, jsonb_build_object('type', type, 'numbers', numbers, 'comment', comment,
    'persistence', CASE relpersistence WHEN 'u' THEN 'unlogged' END,
    'owned by', owner::regclass || '.' || quote_ident(attname), '_options', format('AS %s %s', type, array_to_string(options, ' ')),
    '_owner', jsonb_build_array((SELECT relname FROM pg_class WHERE oid = owner), attname))
FROM sequences LEFT JOIN pg_attribute ON attrelid = owner AND attnum = owner_column
WHERE deptype IS DISTINCT FROM 'i'
UNION ALL
SELECT CASE prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END, NULL,
    format('%I(%s)', proname, pg_get_function_identity_arguments(pg_proc.oid)), jsonb_build_object(
    'definition', CASE WHEN prokind <> 'a' THEN pg_get_functiondef(pg_proc.oid)
        ELSE format('%s %s %s %s %s', aggtransfn, format_type(aggtranstype, NULL), aggfinalfn, aggcombinefn,
            agginitval) END,
    'comment', obj_description(pg_proc.oid, 'pg_proc'), '_name', proname,
    '_result', pg_get_function_result(pg_proc.oid), '_search_path', (
        SELECT setting FROM unnest(proconfig) AS setting WHERE setting LIKE 'search\_path=%'),
    '_uses', (SELECT coalesce(jsonb_agg(DISTINCT relname), '[]') FROM pg_depend
        JOIN relations ON relations.oid = refobjid OR (relations.reltype = refobjid AND reltype <> 0)
            OR (refobjid = (SELECT typarray FROM pg_type WHERE pg_type.oid = relations.reltype) AND reltype <> 0)
        WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid))
FROM pg_proc LEFT JOIN pg_aggregate ON aggfnoid = pg_proc.oid
WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = :schema)
  AND ('pg_proc'::regclass, pg_proc.oid) NOT IN (TABLE extensions)
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid
      AND deptype = 'i')
UNION ALL
SELECT 'trigger', heaps.relname, tgname, jsonb_build_object('definition', pg_get_triggerdef(pg_trigger.oid, true),
    'enabled', CASE tgenabled WHEN 'O' THEN NULL WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'always' ELSE 'replica' END,
    'comment', obj_description(pg_trigger.oid, 'pg_trigger'))
FROM heaps JOIN pg_trigger ON tgrelid = heaps.oid WHERE NOT tgisinternal
UNION ALL
SELECT 'rule', heaps.relname, rulename, jsonb_build_object('definition', pg_get_ruledef(pg_rewrite.oid, true),
    'enabled', nullif(ev_enabled, 'O'), 'comment', obj_description(pg_rewrite.oid, 'pg_rewrite'))
FROM heaps JOIN pg_rewrite ON ev_class = heaps.oid WHERE rulename <> '_RETURN'
UNION ALL
SELECT 'policy', heaps.relname, polname, jsonb_build_object('definition', format('%s for %s to %s using %s check %s',
        CASE WHEN polpermissive THEN 'permissive' ELSE 'restrictive' END, polcmd,
        (SELECT string_agg(CASE role WHEN 0 THEN 'public' ELSE role::regrole::text END, ', ' ORDER BY role)
            FROM unnest(polroles) AS role),
        pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)),
    'comment', obj_description(pg_policy.oid, 'pg_policy'))
FROM heaps JOIN pg_policy ON polrelid = heaps.oid
UNION ALL
SELECT 'statistics', heaps.relname, stxname, jsonb_build_object('definition', pg_get_statisticsobjdef(pg_statistic_ext.oid),
    'target', nullif(stxstattarget, -1), 'comment', obj_description(pg_statistic_ext.oid, 'pg_statistic_ext'))
FROM heaps JOIN pg_statistic_ext ON stxrelid = heaps.oid
UNION ALL
SELECT CASE typtype WHEN 'd' THEN 'domain' ELSE 'type' END, NULL, typname, jsonb_build_object(
    'definition', CASE typtype
        WHEN 'e' THEN 'ENUM (' || (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
            FROM pg_enum WHERE enumtypid = pg_type.oid) || ')'
        WHEN 'd' THEN concat_ws(' ', format_type(typbasetype, typtypmod),
            CASE WHEN typcollation <> (SELECT typcollation FROM pg_type AS base WHERE base.oid = pg_type.typbasetype)
                THEN 'COLLATE ' || typcollation::regcollation END,
            'DEFAULT ' || typdefault, CASE WHEN typnotnull THEN 'NOT NULL' END,
            (SELECT string_agg(format('CONSTRAINT %I %s', conname, pg_get_constraintdef(oid)), ' ' ORDER BY conname)
                FROM pg_constraint WHERE contypid = pg_type.oid AND contype = 'c'))
        WHEN 'c' THEN '(' || (SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', '
            ORDER BY attnum) FROM pg_attribute WHERE attrelid = typrelid AND attnum > 0 AND NOT attisdropped) || ')'
        WHEN 'r' THEN (SELECT 'RANGE of ' || format_type(rngsubtype, NULL) FROM pg_range WHERE rngtypid = pg_type.oid)
        ELSE format('%s %s %s', typinput, typoutput, typlen) END,
    '_makeable', typtype IN ('d', 'e'), 'comment', obj_description(pg_type.oid, 'pg_type'))
FROM pg_type
WHERE typnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :schema)
  AND (typtype IN ('e', 'd', 'r') OR typrelid IN (SELECT oid FROM relations WHERE relkind = 'c')
      OR (typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type AS element WHERE element.typarray = pg_type.oid)))
  AND ('pg_type'::regclass, oid) NOT IN (TABLE extensions)
UNION ALL
SELECT identity.type, NULL, identity.identity, jsonb_build_object('definition', definition,
    'comment', obj_description(others.oid, catalog::text))
FROM (
    SELECT 'pg_collation'::regclass AS catalog, oid,
        format('%s %s %s', collprovider, collcollate, collisdeterministic) AS definition, collnamespace AS schema
    FROM pg_collation
    UNION ALL SELECT 'pg_conversion', oid, conproc::text, connamespace FROM pg_conversion
    UNION ALL SELECT 'pg_operator', oid, oprcode::text, oprnamespace FROM pg_operator
    UNION ALL SELECT 'pg_opclass', oid, format('%s default %s', format_type(opcintype, NULL), opcdefault),
        opcnamespace FROM pg_opclass
    UNION ALL SELECT 'pg_opfamily', oid, '', opfnamespace FROM pg_opfamily
    UNION ALL SELECT 'pg_ts_config', oid, '', cfgnamespace FROM pg_ts_config
    UNION ALL SELECT 'pg_ts_dict', oid, dictinitoption, dictnamespace FROM pg_ts_dict
) AS others
CROSS JOIN LATERAL pg_identify_object(catalog, oid, 0) AS identity
WHERE others.schema = (SELECT oid FROM pg_namespace WHERE nspname = :schema)
  AND (catalog, oid) NOT IN (TABLE extensions)
