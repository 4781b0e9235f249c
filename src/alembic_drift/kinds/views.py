"""Views and materialized views: rebuilt where they differ, or where what they read changes."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import Operations, ops

from alembic_drift.kinds import column_settings, functions, indexes, labels, privileges, settings
from alembic_drift.objects import Facts, Key
from alembic_drift.order import Phase
from alembic_drift.ownership import OWN
from alembic_drift.render import imported, in_schema, run, text_of
from alembic_drift.resolution import Kind, Planned, Resolution, execute
from alembic_drift.sql import qualified, quote

_QUERY = """\
SELECT kind, NULL, relname, jsonb_build_object(
    'query', rtrim(pg_get_viewdef(oid), ';'), 'storage parameters', parameters,
    'access method', access_method, 'tablespace', tablespace,
    '_tablespace', coalesce(tablespace, (TABLE home)), 'comment', comment,
    '_granted', (SELECT string_agg(DISTINCT concat(privilege_type, ' to ',
            CASE grantee WHEN 0 THEN 'public' ELSE grantee::regrole::text END), ', ')
        FROM (SELECT relacl AS acl UNION ALL SELECT attacl FROM pg_attribute WHERE attrelid = oid) AS acls,
            aclexplode(acl) WHERE grantee <> relowner),
    '_reads', (SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_array(read.relname, attname)), '[]')
        FROM pg_rewrite JOIN pg_depend ON classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
        JOIN pg_class AS read ON read.oid = refobjid
        LEFT JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid AND attnum > 0
        WHERE ev_class = relations.oid AND refobjid <> ev_class AND refclassid = 'pg_class'::regclass),
    '_reads_in', (SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_array(nspname, read.relname, attname)), '[]')
        FROM pg_rewrite JOIN pg_depend ON classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
        JOIN pg_class AS read ON read.oid = refobjid
        JOIN pg_namespace ON pg_namespace.oid = read.relnamespace
        LEFT JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid AND attnum > 0
        WHERE ev_class = relations.oid AND refobjid <> ev_class AND refclassid = 'pg_class'::regclass),
    '_types', (SELECT jsonb_agg(DISTINCT typname) FROM pg_rewrite
        JOIN pg_depend ON classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
        JOIN pg_type ON refclassid = 'pg_type'::regclass AND refobjid IN (pg_type.oid, typarray)
        WHERE ev_class = relations.oid),
    '_calls', (SELECT jsonb_agg(DISTINCT @SIGNATURE) FROM pg_rewrite
        JOIN pg_depend ON classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
        JOIN pg_proc ON refclassid = 'pg_proc'::regclass AND pg_proc.oid = refobjid
        WHERE ev_class = relations.oid))
FROM relations WHERE kind IN ('view', 'materialized view')""".replace("@SIGNATURE", functions.SIGNATURE)


def _resolve(resolution: Resolution, key: Key, aspects: set[str]) -> set[str]:
    if key in resolution.rebuilt:
        return set()
    if "comment" in aspects:
        resolution.comment(key)
    return settings.resolve(resolution, key, aspects) - {"comment"}


def to_rebuild(resolution: Resolution) -> list[Key]:
    """Return the views that differ or that read what changes; a view comes after those that it reads."""
    changed = resolution.changed_columns() | labels.changed_columns(resolution)
    uses = {
        "_types": labels.changed_types(resolution),
        "_calls": {key.name for key in functions.to_recreate(resolution)},
    }
    views = {
        key
        for key in (*resolution.database, *resolution.models)
        if key.kind in VIEWS.names and key.name not in resolution.clashing
    }
    rebuilt = {d.key for d in resolution.differences if d.key in views and d.aspect in {"", "query"}}

    def reads_what_changes(view: Key) -> bool:
        gone = {key.name for key in rebuilt}
        for side in resolution.sides(view):
            if side and any(changing.intersection(side.get(fact, ())) for fact, changing in uses.items()):
                return True
        return any(tuple(read) in changed or read[0] in gone for read in _reads(resolution, view))

    while more := {view for view in views - rebuilt - resolution.unmanaged if reads_what_changes(view)}:
        rebuilt |= more
    for view in sorted(views & resolution.unmanaged, key=str):
        if reads_what_changes(view):
            resolution.unresolved.append(f"{view}: unmanaged, and depends on what changes; drop it first")
    return _ordered(resolution, rebuilt)


def _ordered(resolution: Resolution, views: set[Key]) -> list[Key]:
    ordered: list[Key] = []
    while views:
        names = {view.name for view in views}
        ready = sorted(
            view for view in views if not names & {read[0] for read in _reads(resolution, view)} - {view.name}
        )
        ordered += ready or sorted(views)
        views -= set(ordered)
    return ordered


def _reads(resolution: Resolution, view: Key) -> Iterator[Sequence[str]]:
    for catalog in (resolution.database, resolution.models):
        yield from catalog.get(view, {}).get("_reads", ())


def rebuild(resolution: Resolution) -> None:
    """Plan to drop the views before what they read changes, and to create them after it."""
    for view in resolution.rebuilt:
        place = resolution.places[view]
        drop: Any = DropMaterializedViewOp if view.kind == "materialized view" else DropViewOp
        again = view in resolution.database and view in resolution.models
        dropped: Planned = [drop(view.name, schema=resolution.schema, keep_privileges=again)]
        if view in resolution.database:
            created = _create(resolution, view, of_models=False, keep_privileges=again)
            resolution.both(Phase.VIEWS_GO, dropped, created, number=-place)
            _hint_at_privileges(resolution, view)
        if view in resolution.models:
            created = _create(resolution, view, of_models=True, keep_privileges=again)
            resolution.both(Phase.VIEWS, created, dropped, number=place)


def _hint_at_privileges(resolution: Resolution, view: Key) -> None:
    """Add a hint about the privileges of a dropped view, which a downgrade does not restore."""
    if view not in resolution.models and "_granted" in resolution.database[view]:
        granted = resolution.database[view]["_granted"]
        resolution.hints.append(f"{view}: a downgrade creates it without its privileges: {granted}")


def _create(resolution: Resolution, view: Key, *, of_models: bool, keep_privileges: bool) -> Planned:
    """Return what creates a view with its indexes and comments, and with the unmanaged indexes on it."""
    create: Any = CreateMaterializedViewOp if view.kind == "materialized view" else CreateViewOp
    catalog = resolution.models if of_models else resolution.database
    query = catalog[view]["query"].strip()
    made: Planned = [create(view.name, query, schema=resolution.schema, keep_privileges=keep_privileges)]
    made += settings.of_new(resolution, view.kind, view.name, catalog[view])
    made += resolution.comment_of(view, catalog[view])
    for key, facts in catalog.items():
        if key.table == view.name and key.kind == "index" and key not in resolution.unmanaged:
            made += indexes.create(resolution, key, facts)
        elif key.table == view.name and key.kind == "column":
            made += column_settings.of_new(resolution, key, facts) + resolution.comment_of(key, facts)
            made += [set_default(resolution, key, facts)] if "default" in facts else []
    return made + [
        execute(OWN + resolution.unqualified(facts["_definition"]))
        for key, facts in resolution.database.items()
        if key in resolution.unmanaged and key.kind == "index" and key.table == view.name
    ]


def set_default(resolution: Resolution, column: Key, facts: Facts) -> ops.MigrateOperation:
    """Return what sets or drops the default of a column of a view."""
    default = f"SET DEFAULT {facts['default']}" if "default" in facts else "DROP DEFAULT"
    view = resolution.qualified(str(column.table))
    return execute(f"ALTER VIEW {view} ALTER COLUMN {quote(column.name)} {default}")


VIEWS = Kind(("view", "materialized view"), _QUERY, _resolve)


# The operations.


class _CreateViewOp(ops.MigrateOperation):
    statement: ClassVar[str]
    operation: ClassVar[str]

    def __init__(
        self, name: str, query: str, *, schema: str | None = None, keep_privileges: bool = False
    ) -> None:
        self.name, self.query, self.schema, self.keep_privileges = name, query, schema, keep_privileges

    @classmethod
    def create(
        cls,
        operations: Operations,
        name: str,
        query: str,
        *,
        schema: str | None = None,
        keep_privileges: bool = False,
    ) -> None:
        """Create a view. An existing view is replaced; an existing materialized view stays as it is.

        :param name: its name.
        :param query: its SELECT, as plain SQL.
        :param schema: its schema, if it is not the first of the search_path.
        :param keep_privileges: whether to restore the owner and the privileges that were saved by the
            operation that dropped it.
        """
        operations.invoke(cls(name, query, schema=schema, keep_privileges=keep_privileges))


@Operations.register_operation("create_view", "create")
class CreateViewOp(_CreateViewOp):
    """Create or replace a view. The new one must begin with the columns of the old one."""

    statement = "CREATE OR REPLACE VIEW"
    operation = "create_view"


@Operations.register_operation("create_materialized_view", "create")
class CreateMaterializedViewOp(_CreateViewOp):
    """Create and fill a materialized view, unless it exists."""

    statement = "CREATE MATERIALIZED VIEW IF NOT EXISTS"
    operation = "create_materialized_view"


class _DropViewOp(ops.MigrateOperation):
    statement: ClassVar[str]
    operation: ClassVar[str]

    def __init__(self, name: str, *, schema: str | None = None, keep_privileges: bool = False) -> None:
        self.name, self.schema, self.keep_privileges = name, schema, keep_privileges

    @classmethod
    def drop(
        cls, operations: Operations, name: str, *, schema: str | None = None, keep_privileges: bool = False
    ) -> None:
        """Drop a view, with its indexes and comments, if it exists.

        :param name: its name.
        :param schema: its schema, if it is not the first of the search_path.
        :param keep_privileges: whether to save its owner and privileges in a table, for the operation that
            creates it with ``keep_privileges=True``.
        """
        operations.invoke(cls(name, schema=schema, keep_privileges=keep_privileges))


@Operations.register_operation("drop_view", "drop")
class DropViewOp(_DropViewOp):
    """Drop a view."""

    statement = "DROP VIEW IF EXISTS"
    operation = "drop_view"


@Operations.register_operation("drop_materialized_view", "drop")
class DropMaterializedViewOp(_DropViewOp):
    """Drop a materialized view."""

    statement = "DROP MATERIALIZED VIEW IF EXISTS"
    operation = "drop_materialized_view"


@Operations.implementation_for(CreateViewOp)
@Operations.implementation_for(CreateMaterializedViewOp)
def _create_view(operations: Operations, operation: _CreateViewOp) -> None:
    name = qualified(operation.name, operation.schema)
    run(operations, f"{operation.statement} {name} AS\n{operation.query}")
    if operation.keep_privileges:
        restore = privileges.restored(operations, privileges.RELATION, name)
        run(operations, restore, summary=f"restore the privileges of {operation.name}")


@Operations.implementation_for(DropViewOp)
@Operations.implementation_for(DropMaterializedViewOp)
def _drop_view(operations: Operations, operation: _DropViewOp) -> None:
    name = qualified(operation.name, operation.schema)
    drop = statement = f"{operation.statement} {name}"
    if operation.keep_privileges:
        statement = privileges.dropped(operations, privileges.RELATION, name, drop)
    run(operations, statement, summary=drop)


@renderers.dispatch_for(_CreateViewOp)
def _render_create_view(context: AutogenContext, operation: _CreateViewOp) -> str:
    imported(context)
    query, kept = text_of(operation.query), privileges.argument(operation.keep_privileges)
    return f"op.{operation.operation}({operation.name!r}, {query}{in_schema(operation.schema)}{kept})"


@renderers.dispatch_for(_DropViewOp)
def _render_drop_view(context: AutogenContext, operation: _DropViewOp) -> str:
    imported(context)
    kept = privileges.argument(operation.keep_privileges)
    return f"op.{operation.operation}({operation.name!r}{in_schema(operation.schema)}{kept})"
