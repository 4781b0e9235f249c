"""Autogenerate and check that miss nothing: an Alembic plugin for any project on PostgreSQL.

Alembic's comparators see tables, columns and most of their indexes and keys. This plugin has the server
make the models in a scratch schema, in a transaction that is undone, and reads both catalogs with the same
queries, so it sees whatever differs. The server says whether something differs; Alembic's own comparators say
how it is mended where they can, and the operations of this package where they cannot. In env.py::

    from nexus_schema import autogenerate

    context.configure(..., autogenerate_plugins=["alembic.autogenerate.*", autogenerate.PLUGIN])

- catalog: what there is, on both sides.
- differences: what differs, in words and as operations.
- operations: views and functions.
- ownership: what is the operator's own, and left alone.
- directives: what becomes of a new revision of this project.
"""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority, PriorityDispatchResult

from nexus_schema.autogenerate.catalog import Key, NotComparedError, read_both
from nexus_schema.autogenerate.differences import Comparison, Difference, Plan
from nexus_schema.autogenerate.operations import ByHandOp
from nexus_schema.autogenerate.ownership import Allowed, Made, made_by

__all__ = ["PLUGIN", "Difference"]

PLUGIN = "nexus_schema.autogenerate"

log = logging.getLogger(__name__)

_NOT_COMPARED = (
    "views, functions, triggers, policies, rules, types, sequences, collations, storage, validity, and the"
    " parts of indexes and constraints that Alembic does not look at"
)


def compare(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, schemas: set[str | None]
) -> PriorityDispatchResult:
    """Complete what Alembic's comparators have found, after them.

    Prints a line for each difference, and for each object of the operator's own. ``alembic check`` fails when
    there is a difference. Raises :class:`SchemaError` where the models cannot be made.
    """
    connection, migration = context.connection, context.migration_context
    assert connection is not None  # noqa: S101 - autogenerate always has one
    assert context.metadata is not None  # noqa: S101 - so it does metadata
    metadatas = [context.metadata] if isinstance(context.metadata, sa.MetaData) else list(context.metadata)
    config = migration.config
    allowed = Allowed(config, migration.opts.get("own_objects"))
    made = Made() if migration.script is None else made_by(migration.script, migration)
    version = migration.version_table
    tell = log.info if config is None else config.print_stdout
    try:
        sides = read_both(connection, metadatas, schemas, {version, f"{version}_journal"})
    except NotComparedError as reason:
        upgrade_ops.ops[:] = list(_without_own(context, upgrade_ops, made))
        log.warning("not compared: %s, because the server says: %s; the rest was", _NOT_COMPARED, reason)
        return PriorityDispatchResult.CONTINUE
    differences: list[Difference] = []
    by_hand: list[str] = []
    planned: list[Plan] = []
    numbered = list(enumerate(_flat(upgrade_ops.ops)))
    for schema, (name, database, models) in sides.items():
        comparison = Comparison(
            name,
            database,
            models,
            schema=schema,
            tables={
                table.name: table
                for table in context.sorted_tables
                if table.schema == schema or (schema is None and table.schema == name)
            },
            dialect=connection.dialect,
            made=made,
            columns=lambda table, schema=schema: context.inspector.get_columns(table, schema),  # type: ignore[misc]
            hidden=lambda key, schema=schema: key in allowed or _filtered(context, key, schema),  # type: ignore[misc]
        )
        planned += comparison.plan(found for found in numbered if _is_in(found[1], schema))
        differences += comparison.differences
        by_hand += comparison.by_hand
        for key in comparison.own:
            tell(f"left alone, because no model has it and no revision made it: {key}")
    for difference in differences:
        tell(str(difference))
    notes: list[ops.MigrateOperation] = [ByHandOp(by_hand)] if by_hand else []
    planned.sort(key=lambda plan: plan[:2])
    upgrade_ops.ops[:] = [*notes, *(plan.operation for plan in planned)]
    # What alembic check lists.
    vars(upgrade_ops)["as_diffs"] = lambda: differences
    return PriorityDispatchResult.CONTINUE


def _flat(found: Iterable[ops.MigrateOperation]) -> Iterator[ops.MigrateOperation]:
    for operation in found:
        if isinstance(operation, ops.ModifyTableOps):
            yield from operation.ops
        else:
            yield operation


def _is_in(operation: ops.MigrateOperation, schema: str | None) -> bool:
    return getattr(operation, "schema", getattr(operation, "source_schema", None)) == schema


def _filtered(context: AutogenContext, key: Key, schema: str | None) -> bool:
    """Return whether the filters of env.py, include_name and include_object, leave an object out."""
    table = key.table if key.kind not in {"table", "view", "materialized view"} else key.name
    parents = {"schema_name": schema, "table_name": table}
    if table is not None and not context.run_name_filters(table, "table", parents):  # type: ignore[arg-type]
        return True
    if key.kind in {"column", "index"} and not context.run_name_filters(key.name, key.kind, parents):  # type: ignore[arg-type]
        return True
    if table is None:
        return False
    known = next((t for t in context.sorted_tables if t.name == table and t.schema == schema), None)
    shown = sa.Table(table, sa.MetaData(), schema=schema) if known is None else known
    return not context.run_object_filters(shown, table, "table", known is None, None)


def _without_own(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, made: Made
) -> Iterator[ops.MigrateOperation]:
    """Yield what Alembic has found without what would drop the operator's own, or make a view a table."""
    views = {(table.schema, table.name) for table in context.sorted_tables if table.is_view}
    for operation in upgrade_ops.ops:
        if isinstance(operation, ops.ModifyTableOps):
            operation.ops = [inner for inner in operation.ops if not _drops_own(inner, made)]
            if operation.ops and (operation.schema, operation.table_name) not in views:
                yield operation
        elif not _drops_own(operation, made) and not (
            isinstance(operation, ops.CreateTableOp) and (operation.schema, operation.table_name) in views
        ):
            yield operation


def _drops_own(operation: Any, made: Made) -> bool:
    match operation:
        case ops.DropTableOp():
            return Key("table", None, operation.table_name) not in made
        case ops.DropColumnOp():
            return Key("column", operation.table_name, operation.column_name) not in made
        case ops.DropIndexOp():
            return Key("index", operation.table_name, str(operation.index_name)) not in made
    return False


def _no_detected(record: logging.LogRecord) -> bool:
    return not record.msg.startswith("Detected ")


_LOGGERS = [
    logging.getLogger(f"alembic.{name}")
    for name in (
        *(
            f"autogenerate.compare.{of}"
            for of in ("comments", "constraints", "server_defaults", "tables", "types")
        ),
        "ddl.postgresql",
        "ext.checkconstraint_byname",
    )
]


def _begin(context: AutogenContext, *_: object) -> PriorityDispatchResult:
    """Keep Alembic from telling what it detected: what is true of it is told at the end.

    And from comparing defaults: it pastes them into a query, which a quote in a default breaks.
    """
    context.migration_context._user_compare_server_default = False
    for logger in _LOGGERS:
        logger.addFilter(_no_detected)
    return PriorityDispatchResult.CONTINUE


def _end(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, schemas: set[str | None]
) -> PriorityDispatchResult:
    for logger in _LOGGERS:
        logger.removeFilter(_no_detected)
    return compare(context, upgrade_ops, schemas)


# Alembic keeps plugins by name for the life of the process, and this module is imported once in it.
_plugin = Plugin(PLUGIN)
for _comparator, _priority in ((_begin, DispatchPriority.FIRST), (_end, DispatchPriority.LAST)):
    _plugin.add_autogenerate_comparator(
        _comparator, "schema", "nexus_schema", qualifier="postgresql", priority=_priority
    )
