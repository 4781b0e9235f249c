"""The comparators: they complete Alembic's operations from the server's catalogs."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.util import PriorityDispatchResult
from sqlalchemy.dialects import postgresql

from alembic_drift.alembic_operations import take_over
from alembic_drift.compare import Comparison
from alembic_drift.creation import models_of
from alembic_drift.filters import Filters
from alembic_drift.internals import skip_default_comparison
from alembic_drift.kinds import KIND_OF, across, attached, views
from alembic_drift.objects import REFUSED, Difference, Key
from alembic_drift.order import Phase, Plan
from alembic_drift.ownership import Allowed
from alembic_drift.quiet import without_misleading_messages
from alembic_drift.render import RevisionCompiler, UnresolvedOp
from alembic_drift.resolution import Resolution
from alembic_drift.revisions.managed import Managed, managed_by
from alembic_drift.scratch import MAY_NOT_CREATE, Both, both_sides

log = logging.getLogger("alembic.drift")

_UNMANAGED = "unmanaged (in no model, created by no revision)"
_NOT_COMPARED = (
    "views, functions, triggers, policies, rules, types, sequences, collations, storage, validity, and the"
    " parts of columns, indexes and constraints that Alembic does not compare"
)


def begin(
    context: AutogenContext, _upgrade_ops: ops.UpgradeOps, schemas: set[str | None]
) -> PriorityDispatchResult:
    """Have Alembic read every schema of the models, and keep it from logging what it detects.

    The differences are reported at the end. Alembic must not compare defaults either: it pastes them into a
    query, which a quote in a default breaks.
    """
    connection, migration = context.connection, context.migration_context
    assert connection is not None  # noqa: S101 - autogenerate always has one
    migration.opts.pop(_REASON, None)
    reason = connection.execute(MAY_NOT_CREATE).scalar()
    if reason is not None:
        migration.opts[_REASON] = reason
        return PriorityDispatchResult.CONTINUE
    default = connection.dialect.default_schema_name
    for schema in {table.schema for table in context.sorted_tables} - {None, default}:
        if context.run_name_filters(schema, "schema", {}):
            schemas.add(schema)
    skip_default_comparison(migration)
    migration.opts.setdefault(_QUIET, ExitStack()).enter_context(without_misleading_messages())
    return PriorityDispatchResult.CONTINUE


# The option of a context that says why it cannot compare.
_REASON = "alembic_drift.reason"
# The option of a context that ends the silence of Alembic's comparators.
_QUIET = "alembic_drift.quiet"


def end(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, schemas: set[str | None]
) -> PriorityDispatchResult:
    """Let Alembic's comparators log again, then compare or log why that is impossible."""
    migration = context.migration_context
    migration.opts.pop(_QUIET, ExitStack()).close()
    # This dialect renders the expressions of a revision; the connection's dialect doubles percent signs.
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    dialect.statement_compiler = RevisionCompiler
    migration.impl.dialect = dialect
    if _REASON in migration.opts:
        assert context.connection is not None  # noqa: S101 - autogenerate always has one
        managed = _managed(context, context.connection.dialect.default_schema_name)
        upgrade_ops.ops[:] = list(_without_unmanaged(context, upgrade_ops, managed))
        log.warning("not compared: %s, because %s", _NOT_COMPARED, migration.opts[_REASON])
    else:
        _compare(context, upgrade_ops, schemas)
    return PriorityDispatchResult.CONTINUE


def _compare(context: AutogenContext, upgrade_ops: ops.UpgradeOps, schemas: set[str | None]) -> None:
    """Complete the operations of Alembic's comparators.

    Prints a line for each difference, and for each unmanaged object. ``alembic check`` fails when there is a
    difference.
    """
    connection, migration = context.connection, context.migration_context
    assert connection is not None  # noqa: S101 - autogenerate always has one
    assert context.metadata is not None  # noqa: S101 - autogenerate always has some
    metadatas = [context.metadata] if isinstance(context.metadata, sa.MetaData) else list(context.metadata)
    models = models_of(metadatas)
    default = connection.dialect.default_schema_name
    others = {
        schema
        for schema in models.schemas - schemas - {default}
        if context.run_name_filters(schema, "schema", {})
    }
    allowed = Allowed(migration.config, migration.opts.get("own_objects"), KIND_OF)
    ignored = {migration.version_table, f"{migration.version_table}_journal"}
    found = list(enumerate(_flat(upgrade_ops.ops)))
    resolutions: list[Resolution] = []
    with both_sides(connection, models, {*schemas, *others}, ignored) as sides:
        managed = _managed(context, next((both.default for both in sides.values()), None))
        for schema, both in sides.items():
            if schema in others:  # the models have types or sequences in it, but no table
                of_models = {key: facts for key, facts in both.database.items() if key in both.models}
                both = replace(both, database=of_models)
            resolution, unmanaged = _compare_schema(context, both, schema, managed, allowed)
            resolutions.append(resolution)
            for key in unmanaged:
                _print_line(context, f"{_UNMANAGED}: {key}")
        across.order(resolutions)
        for resolution in resolutions:
            resolution.recreated = attached.to_recreate(resolution)
            take_over(resolution, (of for of in found if _schema_of(of[1]) == resolution.schema))
            _plan(resolution)
    differences = [difference for resolution in resolutions for difference in resolution.differences]
    for difference in differences:
        _print_line(context, str(difference))
    for line in allowed.unmatched():
        log.warning("%s", line)
    hints = [hint for resolution in resolutions for hint in resolution.hints]
    for hint in hints:
        log.warning("%s", hint)
    planned = [plan for resolution in resolutions for plan in resolution.planned]
    for of in found:
        if _schema_of(of[1]) not in sides:  # include_name excludes it: Alembic's operations stay
            planned.append(Plan(Phase.TABLES, *of))
            differences += _found_by_alembic(context, of[1])
    planned.sort(key=lambda plan: plan[:2])
    unresolved = [line for resolution in resolutions for line in resolution.unresolved]
    notes: list[ops.MigrateOperation] = (
        [UnresolvedOp(unresolved, hints)] if unresolved or (hints and planned) else []
    )
    upgrade_ops.ops[:] = [*notes, *(plan.operation for plan in planned)]
    # alembic check lists these.
    vars(upgrade_ops)["as_diffs"] = lambda: differences


def _compare_schema(
    context: AutogenContext, both: Both, schema: str | None, managed: Managed, allowed: Allowed
) -> tuple[Resolution, list[Key]]:
    """Compare one schema; return its differences and their resolution, and its unmanaged objects."""
    assert context.connection is not None  # noqa: S101 - autogenerate always has one
    dialect = context.connection.dialect
    tables = {
        table.name: table
        for table in context.sorted_tables
        if table.schema == schema or (schema is None and table.schema == both.name)
    }
    filters = Filters(context, schema, tables)
    compared = Comparison(
        both,
        tables,
        dialect,
        managed.of(schema).__contains__,
        lambda key, database, models: key in allowed or filters.hide(key, database, models),
    )
    resolution = Resolution(
        name=both.name,
        schema=schema,
        default=both.default,
        database=compared.database,
        models=compared.models,
        tables=tables,
        dialect=dialect,
        differences=compared.differences,
        unmanaged=compared.unmanaged,
        hidden=compared.hidden,
        clashing=compared.clashing,
        probes=both.probes,
        columns=lambda table: context.inspector.get_columns(table, schema),
        hints=compared.warnings,
    )
    resolution.rebuilt = views.to_rebuild(resolution)
    return resolution, list(compared.unmanaged_to_report())


def _plan(resolution: Resolution) -> None:
    """Plan operations for the differences, and note those that no operation resolves."""
    differing = {difference.key: None for difference in resolution.differences}
    for key in {**differing, **dict.fromkeys(sorted(resolution.recreated, key=str))}:
        aspects = {difference.aspect for difference in resolution.of(key)}
        left: Iterable[str] = aspects
        can_resolve = key.name not in resolution.clashing and not resolution.is_unwritten(key)
        if can_resolve and REFUSED not in aspects:
            left = set(KIND_OF[key.kind].resolve(resolution, key, aspects))
        resolution.unresolved += [
            str(difference) for difference in resolution.of(key) if difference.aspect in left
        ]
    resolution.plan_renames()
    views.rebuild(resolution)
    for number, operation in enumerate(resolution.altered.values()):
        if operation.has_changes():
            resolution.plan(Phase.TABLES, operation, number=10_000 + number)


def _found_by_alembic(context: AutogenContext, operation: ops.MigrateOperation) -> list[Difference]:
    """Return the tables that Alembic found in a schema that include_name excludes."""
    name = operation.table_name if isinstance(operation, ops.CreateTableOp) else None
    if name is None:
        return []
    key = Key("table", None, f"{_schema_of(operation)}.{name}")
    found = Difference(key, "", None, "its schema was not read, because include_name excludes it")
    _print_line(context, str(found))
    return [found]


def _flat(found: Iterable[ops.MigrateOperation]) -> Iterator[ops.MigrateOperation]:
    for operation in found:
        if isinstance(operation, ops.ModifyTableOps):
            yield from operation.ops
        else:
            yield operation


def _schema_of(operation: ops.MigrateOperation) -> str | None:
    return getattr(operation, "schema", getattr(operation, "source_schema", None))


def _print_line(context: AutogenContext, line: str) -> None:
    config = context.migration_context.config
    (log.info if config is None else config.print_stdout)(line.replace("%", "%%") if config is None else line)


def _managed(context: AutogenContext, default: str | None) -> Managed:
    script = context.migration_context.script
    return Managed() if script is None else managed_by(script, default)


def _without_unmanaged(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, managed: Managed
) -> Iterator[ops.MigrateOperation]:
    """Yield Alembic's operations, except those that drop an unmanaged object or create a table for a view.

    Reports each unmanaged object.
    """
    of_views = {(table.schema, table.name) for table in context.sorted_tables if table.is_view}
    for operation in upgrade_ops.ops:
        for inner in operation.ops if isinstance(operation, ops.ModifyTableOps) else [operation]:
            if _drops_unmanaged(inner, managed):
                _print_line(context, f"{_UNMANAGED}: {_dropped_by(inner)}")
        if isinstance(operation, ops.ModifyTableOps):
            operation.ops = [inner for inner in operation.ops if not _drops_unmanaged(inner, managed)]
            if operation.ops and (operation.schema, operation.table_name) not in of_views:
                yield operation
        elif not _drops_unmanaged(operation, managed) and not (
            isinstance(operation, ops.CreateTableOp) and (operation.schema, operation.table_name) in of_views
        ):
            yield operation


def _drops_unmanaged(operation: ops.MigrateOperation, managed: Managed) -> bool:
    key = _dropped_by(operation)
    return key is not None and key not in managed.of(_schema_of(operation))


def _dropped_by(operation: ops.MigrateOperation) -> Key | None:
    match operation:
        case ops.DropTableOp():
            return Key("table", None, operation.table_name)
        case ops.DropColumnOp():
            return Key("column", operation.table_name, operation.column_name)
        case ops.DropIndexOp():
            return Key("index", operation.table_name, str(operation.index_name))
    return None
