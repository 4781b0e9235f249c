"""Rare objects: collations, conversions, operators, text search. Reported, and changed manually."""

from alembic_drift.resolution import Kind, nothing

_QUERY = """\
SELECT identity.type, NULL, identity.identity, jsonb_build_object('definition', definition,
    'comment', obj_description(others.oid, catalog::text))
FROM (
    SELECT 'pg_collation'::regclass AS catalog, oid,
        concat_ws(' ', collprovider, collcollate, collctype, to_jsonb(pg_collation) ->> 'colliculocale',
            to_jsonb(pg_collation) ->> 'colllocale', to_jsonb(pg_collation) ->> 'collicurules',
            collisdeterministic) AS definition,
        collnamespace AS schema
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
  AND (catalog, oid) NOT IN (TABLE extensions)"""

OTHERS = Kind(
    (
        "collation",
        "conversion",
        "operator",
        "operator class",
        "operator family",
        "text search configuration",
        "text search dictionary",
    ),
    _QUERY,
    nothing,
)
