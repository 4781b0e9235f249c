"""The comparators: what Alembic has found is completed by what the server says."""

import logging
from collections.abc import Iterable, Iterator

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.util import PriorityDispatchResult
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg

from alembic_drift.catalog import MAY_NOT_CREATE, Key, read_both
from alembic_drift.differences import Comparison, Difference, Phase, Plan
from alembic_drift.operations import ByHandOp, as_text
from alembic_drift.ownership import Allowed, Made, element, made_by

log = logging.getLogger("alembic.drift")

_LEFT_ALONE = "left alone, because no model has it and no revision made it"
_NOT_COMPARED = (
    "views, functions, triggers, policies, rules, types, sequences, collations, storage, validity, and the"
    " parts of columns, indexes and constraints that Alembic does not look at"
)


def compare(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, schemas: set[str | None]
) -> PriorityDispatchResult:
    """Complete what Alembic's comparators have found, after them.

    Prints a line for each difference, and for each object of the operator's own. ``alembic check`` fails when
    there is a difference. Raises :class:`DriftError` where the models cannot be made.
    """
    connection, migration = context.connection, context.migration_context
    assert connection is not None  # noqa: S101 - autogenerate always has one
    assert context.metadata is not None  # noqa: S101 - so it does metadata
    metadatas = [context.metadata] if isinstance(context.metadata, sa.MetaData) else list(context.metadata)
    allowed = Allowed(migration.config, migration.opts.get("own_objects"))
    made = Made() if migration.script is None else made_by(migration.script, migration)
    version = migration.version_table
    sides = read_both(connection, metadatas, schemas, {version, f"{version}_journal"})
    differences: list[Difference] = []
    by_hand: list[str] = []
    planned: list[Plan] = []
    numbered = list(enumerate(_flat(upgrade_ops.ops)))
    planned += [Plan(Phase.TABLES, *found) for found in numbered if _schema_of(found[1]) not in sides]
    with_tables = {
        str(getattr(element(column.type), "name", ""))
        for _, operation in numbered
        if isinstance(operation, ops.CreateTableOp)
        for column in operation.columns
        if isinstance(column, sa.Column)
    }
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
            with_tables=with_tables,
            columns=lambda table, schema=schema: context.inspector.get_columns(table, schema),  # type: ignore[misc]
            hidden=lambda key, schema=schema: key in allowed or _filtered(context, key, schema),  # type: ignore[misc]
        )
        planned += comparison.plan(found for found in numbered if _schema_of(found[1]) == schema)
        differences += comparison.differences
        by_hand += comparison.by_hand
        for key in comparison.own:
            _tell(context, f"{_LEFT_ALONE}: {key}")
    for difference in differences:
        _tell(context, str(difference))
    notes: list[ops.MigrateOperation] = [ByHandOp(by_hand)] if by_hand else []
    planned.sort(key=lambda plan: plan[:2])
    upgrade_ops.ops[:] = [*notes, *(plan.operation for plan in planned)]
    # What alembic check lists.
    vars(upgrade_ops)["as_diffs"] = lambda: differences
    return PriorityDispatchResult.CONTINUE


class _RevisionCompiler(PGCompiler_psycopg):
    """Renders the expressions of a revision: check constraints, defaults, predicates."""

    def __str__(self) -> str:
        return as_text(super().__str__())


def _flat(found: Iterable[ops.MigrateOperation]) -> Iterator[ops.MigrateOperation]:
    for operation in found:
        if isinstance(operation, ops.ModifyTableOps):
            yield from operation.ops
        else:
            yield operation


def _schema_of(operation: ops.MigrateOperation) -> str | None:
    return getattr(operation, "schema", getattr(operation, "source_schema", None))


def _tell(context: AutogenContext, line: str) -> None:
    config = context.migration_context.config
    (log.info if config is None else config.print_stdout)(line.replace("%", "%%") if config is None else line)


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
    """Yield what Alembic has found without what would drop the operator's own, or make a view a table.

    Alembic's operations stay as it tells them; the operator's own is told as ever.
    """
    views = {(table.schema, table.name) for table in context.sorted_tables if table.is_view}
    for operation in upgrade_ops.ops:
        for inner in operation.ops if isinstance(operation, ops.ModifyTableOps) else [operation]:
            key = _dropped_by(inner)
            if key is not None and key not in made:
                _tell(context, f"{_LEFT_ALONE}: {key}")
        if isinstance(operation, ops.ModifyTableOps):
            operation.ops = [inner for inner in operation.ops if not _drops_own(inner, made)]
            if operation.ops and (operation.schema, operation.table_name) not in views:
                yield operation
        elif not _drops_own(operation, made) and not (
            isinstance(operation, ops.CreateTableOp) and (operation.schema, operation.table_name) in views
        ):
            yield operation


def _drops_own(operation: ops.MigrateOperation, made: Made) -> bool:
    key = _dropped_by(operation)
    return key is not None and key not in made


def _dropped_by(operation: ops.MigrateOperation) -> Key | None:
    match operation:
        case ops.DropTableOp():
            return Key("table", None, operation.table_name)
        case ops.DropColumnOp():
            return Key("column", operation.table_name, operation.column_name)
        case ops.DropIndexOp():
            return Key("index", operation.table_name, str(operation.index_name))
    return None


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


def begin(
    context: AutogenContext, _upgrade_ops: ops.UpgradeOps, schemas: set[str | None]
) -> PriorityDispatchResult:
    """Have Alembic look into every schema of the models, and keep it from telling what it detects.

    What is true of it is told at the end. And from comparing defaults: it pastes them into a query, which a
    quote in a default breaks.
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
    migration._user_compare_server_default = False
    for logger in _LOGGERS:
        logger.addFilter(_no_detected)
    return PriorityDispatchResult.CONTINUE


# Where the options of a context hold why it cannot compare.
_REASON = "alembic_drift.reason"


def end(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, schemas: set[str | None]
) -> PriorityDispatchResult:
    """Compare, or say why that cannot be, and leave what it used as it was."""
    for logger in _LOGGERS:
        logger.removeFilter(_no_detected)
    migration = context.migration_context
    # Expressions of a revision are rendered by this dialect; that of the connection doubles percent signs.
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    dialect.statement_compiler = _RevisionCompiler
    migration.impl.dialect = dialect
    if _REASON not in migration.opts:
        return compare(context, upgrade_ops, schemas)
    made = Made() if migration.script is None else made_by(migration.script, migration)
    upgrade_ops.ops[:] = list(_without_own(context, upgrade_ops, made))
    log.warning("not compared: %s, because %s", _NOT_COMPARED, migration.opts[_REASON])
    return PriorityDispatchResult.CONTINUE
