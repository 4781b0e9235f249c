"""Tables: their settings. Alembic compares their existence and their comments."""

from alembic_drift.kinds import column_settings, key_triggers, parents, settings
from alembic_drift.kinds.policies import ROW_SECURITY, mend_row_security
from alembic_drift.mending import Kind, Mending
from alembic_drift.objects import Catalog, Difference, Key
from alembic_drift.order import Phase
from alembic_drift.render import in_schema

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


def _mend(mending: Mending, key: Key, aspects: set[str]) -> set[str]:
    database, models = mending.sides(key)
    if database is None and models is not None:
        _plan_for_new(mending, key)
        mending.by_hand += [
            str(Difference(key, apart, None, models[apart])) for apart in _APART if apart in models
        ]
    mend_row_security(mending, key)
    if models is None:
        _hint(mending, key)
    if database is None or models is None:
        column_settings.of_new_table(mending, key.name)
        return aspects - {"", ROW_SECURITY}
    if "inherits" in aspects:
        parents.mend(mending, key)
    return settings.mend(mending, key, aspects) - {"comment", "inherits", ROW_SECURITY}


def _hint(mending: Mending, dropped: Key) -> None:
    """Add a hint that a table may have been renamed, if a new one has the same columns."""
    columns = _columns(mending.database, dropped.name)
    for key in mending.models:
        if (
            key.kind == "table"
            and key not in mending.database
            and columns
            and _columns(mending.models, key.name) == columns
        ):
            names = f"{dropped.name!r}, {key.name!r}{in_schema(mending.schema)}"
            mending.hints.append(
                f"dropped table {dropped.name} and added table {key.name} have the same columns: if this is a"
                f" rename, use op.rename_table({names})"
            )


def _columns(catalog: Catalog, table: str) -> set[tuple[str, str]]:
    return {
        (key.name, facts["type"])
        for key, facts in catalog.items()
        if key.kind == "column" and key.table == table
    }


def _plan_for_new(mending: Mending, table: Key) -> None:
    """Plan comments on keys and indexes of a new table, and whether the triggers of its foreign keys fire."""
    for key, facts in mending.models.items():
        if key.table == table.name and key.kind in {"constraint", "index"} and not mending.is_unwritten(key):
            mending.both(Phase.REST, mending.comment_of(key, facts), [])
            mending.both(Phase.REST, key_triggers.set_on_new(mending, key, facts), [])


TABLES = Kind(("table",), _QUERY, _mend)
