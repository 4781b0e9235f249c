"""Extended statistics: reported, and changed manually."""

from alembic_drift.resolution import Kind, nothing

_QUERY = """\
SELECT 'statistics', heaps.relname, stxname, jsonb_build_object(
    'definition', pg_get_statisticsobjdef(pg_statistic_ext.oid),
    '_columns', (SELECT jsonb_agg(attname) FROM pg_depend JOIN pg_attribute
        ON attrelid = refobjid AND attnum = refobjsubid WHERE classid = 'pg_statistic_ext'::regclass
        AND objid = pg_statistic_ext.oid AND refobjid = stxrelid),
    'target', nullif(stxstattarget, -1), 'comment', obj_description(pg_statistic_ext.oid, 'pg_statistic_ext'))
FROM heaps JOIN pg_statistic_ext ON stxrelid = heaps.oid"""

STATISTICS = Kind(("statistics",), _QUERY, nothing, may_be_unmanaged=True, separate=True)
