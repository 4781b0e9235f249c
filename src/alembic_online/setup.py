"""Enable a context, and register implementations of Alembic's operations."""

from typing import Any

from alembic.operations import BatchOperations, Operations, ops
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext

from alembic_online import driver
from alembic_online.errors import OnlineError
from alembic_online.filling.at_once import fill_at_once
from alembic_online.filling.operation import BackfillOp
from alembic_online.internals import (
    Implementation,
    batch_table,
    copied,
    copies_table,
    is_in_transaction_of_caller,
    is_transaction_per_revision,
    on_steps,
    registered,
)
from alembic_online.operations import HANDLERS, columns, rows  # noqa: F401 - each registers its handlers
from alembic_online.operations.rename_index import RenameIndexOp, rename_index
from alembic_online.options import check_names, is_plan, read_request, read_seconds
from alembic_online.planner import plan_instead
from alembic_online.run import KEY, Run
from alembic_online.script import count_blocks, in_transaction


def enable(environment: EnvironmentContext) -> None:
    """Run the operations of the configured context online, if ``-x online`` or the attribute asks for it.

    ``-x online`` takes true, 1, yes, on, false, 0, no, off, in any case, or no value, which means true. It
    also takes restart and restart-with-rows, and plan, which prints what would run and changes nothing.

    :param environment: ``alembic.context``, configured with ``transaction_per_migration=True``. A program
        sets ``config.attributes["online"]`` instead of ``-x online``, and ``config.attributes["lock_wait"]``
        instead of ``-x lock_wait=SECONDS``: how long to wait for blocking sessions, by default without limit.

    Raises :class:`OnlineError` for any other value, for a mistyped option, and if an online run is
    impossible: a database other than PostgreSQL, one transaction for all revisions, or a transaction begun
    before ``configure``.
    """
    context = environment.get_context()
    arguments = environment.get_x_argument(as_dictionary=True)
    attributes = environment.config.attributes
    check_names(arguments)
    if plans(environment):
        _require_upgrade(environment)
        _require_fitness(context)
        context.opts[KEY] = plan_instead(context, environment.config)
        return
    request = read_request("online", attributes.get("online", arguments.get("online", "false")))
    wait = read_seconds("lock_wait", attributes.get("lock_wait", arguments.get("lock_wait")))
    script = context.as_sql
    context.opts[KEY] = None
    if script:
        count_blocks(context)
    if not request.online and (script or context.dialect.name != "postgresql" or not migrates(environment)):
        return
    run = Run(context, lock_wait=wait, request=request)
    # A revision that was begun online is finished online, also without -x online.
    if not request.online and not run.journal.is_there():
        return
    _require_fitness(context)
    context.opts[KEY] = run
    _refuse_copies(context, run)
    if not script and migrates(environment):
        run_migrations = context.run_migrations

        def held(**arguments: Any) -> None:
            with run.held():
                run_migrations(**arguments)

        context.run_migrations = held  # type: ignore[method-assign] # Alembic has no event at the end
    on_steps(context, run.steps)
    context.on_version_apply_callbacks += (run.stamped,)


def _require_upgrade(environment: EnvironmentContext) -> None:
    """Raise :class:`OnlineError` for a command that cannot print a plan."""
    command = getattr(environment.config.cmd_opts, "cmd", None)  # a program has none
    named = command is None or command[0].__name__ in {"upgrade", "downgrade"}
    if not named or not migrates(environment):
        raise OnlineError("-x online=plan is for alembic upgrade and alembic downgrade")
    if environment.get_context().as_sql:
        raise OnlineError("-x online=plan reads the database, so it takes no --sql; omit one of them")


def _require_fitness(context: MigrationContext) -> None:
    """Raise :class:`OnlineError` for a context that cannot run online."""
    if context.dialect.name != "postgresql":
        raise OnlineError(f"-x online is for PostgreSQL, not {context.dialect.name}")
    if not is_transaction_per_revision(context):
        raise OnlineError("-x online needs context.configure(transaction_per_migration=True)")
    if not context.as_sql and is_in_transaction_of_caller(context):
        raise OnlineError("-x online needs a connection without a transaction: commit before configure()")
    if not context.as_sql and context.dialect.driver not in driver.DRIVERS:
        *others, last = driver.DRIVERS
        raise OnlineError(
            f"-x online needs the driver {', '.join(others)} or {last}, not {context.dialect.driver}"
        )


def _refuse_copies(context: MigrationContext, run: Run) -> None:
    """Refuse a batch that copies its table, in the first method that Alembic calls to copy it."""
    impl: Any = context.impl
    prepare = impl.prep_table_for_batch

    def refuse_copy(batch: Any, table: Any) -> None:
        if run.mode.active:
            run.executor.refuse_copy(table.name, table.schema)
        prepare(batch, table)

    impl.prep_table_for_batch = refuse_copy


def migrates(environment: EnvironmentContext) -> bool:
    """Return whether the command changes the database: upgrade, downgrade or stamp."""
    try:
        environment.get_revision_argument()
    except KeyError:
        return False
    return True


def plans(environment: EnvironmentContext) -> bool:
    """Return whether a plan is requested: it changes nothing, so it needs no lock."""
    arguments = environment.get_x_argument(as_dictionary=True)
    return is_plan(environment.config.attributes.get("online", arguments.get("online")))


# These implementations replace Alembic's own, or those of another plugin, in the whole process, because all
# contexts share one registry. In a context without enable(), they call the original implementation.


def _implementation(original: Implementation, at_once: Implementation) -> Implementation:
    """Return an implementation of an operation for any context.

    :param original: for a context that is not enabled.
    :param at_once: for an enabled context with a revision that runs in one transaction.
    """

    def run(operations: Operations, operation: Any) -> Any:
        opts = operations.migration_context.opts
        if KEY not in opts:
            return original(operations, operation)
        online: Run | None = opts[KEY]
        if online is None or not (online.mode.active or online.mode.skipping):
            return at_once(operations, operation)
        if isinstance(operations, BatchOperations) and online.mode.active:
            if copies_table(operations):
                online.executor.refuse_copy(*batch_table(operations))
                return online.executor.queue(operations, operation, at_once)
            places = getattr(operation, "kw", {})
            if places.get("insert_before") or places.get("insert_after"):
                return online.executor.queue(operations, operation, at_once)  # Alembic refuses it
        # Any other batch would queue the operation and bypass this plugin; PostgreSQL does not need it.
        return online.execute(operation, at_once)

    return run


def _not_concurrently(original: Implementation) -> Implementation:
    """Return an implementation that ignores CONCURRENTLY in a transaction, where PostgreSQL refuses it."""

    def run(operations: Operations, operation: Any) -> Any:
        if in_transaction(operations.migration_context) and not isinstance(operations, BatchOperations):
            operation = copied(operation)
            operation.kw.pop("postgresql_concurrently", None)
        return original(operations, operation)

    return run


def _register() -> None:
    own: dict[Any, Implementation] = {RenameIndexOp: rename_index, BackfillOp: fill_at_once}
    for kind in HANDLERS:
        if kind in own:
            Operations.implementation_for(kind)(_implementation(own[kind], own[kind]))
            continue
        original = registered(kind)
        is_index = kind in {ops.CreateIndexOp, ops.DropIndexOp}
        at_once = _not_concurrently(original) if is_index else original
        Operations.implementation_for(kind, replace=True)(_implementation(original, at_once))


_register()
