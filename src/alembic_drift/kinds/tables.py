"""Tables: their settings. Alembic compares their existence and their comments."""

from alembic_drift.kinds import column_settings, key_triggers, parents, settings
from alembic_drift.kinds.policies import ROW_SECURITY, resolve_row_security
from alembic_drift.objects import Catalog, Difference, Key
from alembic_drift.order import Phase
from alembic_drift.render import in_schema
from alembic_drift.resolution import Kind, Resolution

_QUERY = """\
SELECT kind, CAST(NULL AS text) AS "table", relname::text AS name, jsonb_build_object(
    'kind', CASE relkind WHEN 'p' THEN 'partitioned' WHEN 'f' THEN 'foreign' END,
    'persistence', CASE relpersistence WHEN 'u' THEN 'unlogged' ELSE 'logged' END,
    'access method', access_method, 'tablespace', tablespace,
    '_tablespace', coalesce(tablespace, (TABLE home)),
    'storage parameters', nullif(concat_ws(', ', parameters, (
        SELECT string_agg('toast.' || option, ', ' ORDER BY option)
        FROM storage AS toast, unnest(toast.parameters) AS option WHERE toast.oid = reltoastrelid)), ''),
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
    'comment', comment, '_partitions', (SELECT string_agg(inhrelid::regclass::text, ', ' ORDER BY inhrelid)
        FROM pg_inherits WHERE inhparent = oid AND relkind = 'p')) AS facts
FROM relations WHERE kind = 'table'"""


_APART = ("replica identity",)
"""Aspects that are not created with a table, and that no operation changes."""


def _resolve(resolution: Resolution, key: Key, aspects: set[str]) -> set[str]:
    database, models = resolution.sides(key)
    if database is None and models is not None:
        _plan_for_new(resolution, key)
        resolution.unresolved += [
            str(Difference(key, apart, None, models[apart])) for apart in _APART if apart in models
        ]
    resolve_row_security(resolution, key)
    if models is None:
        _hint(resolution, key)
    if database is None or models is None:
        column_settings.of_new_table(resolution, key.name)
        return aspects - {"", ROW_SECURITY}
    if "inherits" in aspects:
        parents.resolve(resolution, key)
    return settings.resolve(resolution, key, aspects) - {"comment", "inherits", ROW_SECURITY}


def _hint(resolution: Resolution, dropped: Key) -> None:
    """Add a hint that a table may have been renamed, if a new one has the same columns."""
    columns = _columns(resolution.database, dropped.name)
    for key in resolution.models:
        if (
            key.kind == "table"
            and key not in resolution.database
            and columns
            and _columns(resolution.models, key.name) == columns
        ):
            names = f"{dropped.name!r}, {key.name!r}{in_schema(resolution.schema)}"
            resolution.hints.append(
                f"dropped table {dropped.name} and added table {key.name} have the same columns: if this is a"
                f" rename, use op.rename_table({names})"
            )


def _columns(catalog: Catalog, table: str) -> set[tuple[str, str]]:
    return {
        (key.name, facts["type"])
        for key, facts in catalog.items()
        if key.kind == "column" and key.table == table
    }


def _plan_for_new(resolution: Resolution, table: Key) -> None:
    """Plan comments on keys and indexes of a new table, and whether the triggers of its foreign keys fire."""
    for key, facts in resolution.models.items():
        if (
            key.table == table.name
            and key.kind in {"constraint", "index"}
            and not resolution.is_unwritten(key)
        ):
            resolution.both(Phase.REST, resolution.comment_of(key, facts), [])
            resolution.both(Phase.REST, key_triggers.set_on_new(resolution, key, facts), [])


TABLES = Kind(("table",), _QUERY, _resolve)
