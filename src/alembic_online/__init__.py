"""Online migrations: Alembic's operations, carried out so that others go on reading and writing.

An Alembic plugin for any project on PostgreSQL; it knows nothing about its tables. In env.py, after
``context.configure(transaction_per_migration=True, …)``::

    online.enable(context)

Revisions stay plain Alembic. By default each runs in one transaction. With ``alembic -x online upgrade head``
every operation commits by itself, in the way that locks least; a run that dies anywhere is finished by
running it again. A revision with ``online = False`` at its top runs in one transaction all the same.

Three kinds of statement:

- brief: takes a strong lock, for a change of the catalog alone. First it waits for a weak lock, which stalls
  nobody and by which the server sends an autovacuum away; for the strong one it waits 200 ms, because all
  others queue up behind it, and then tries again.
- long: an index build, a validation. Its lock lets others read and write; a second connection watches it and
  says what it waits for.
- what is neither is left to the author: ``op.execute`` counts as brief unless the statement is known to lock
  nobody out, or says ``execution_options={"online": "long"}``.
"""

import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext

from alembic_online.errors import OnlineError, RefusedError
from alembic_online.filling import MAXIMUM_PASSES
from alembic_online.operations import Online
from alembic_online.options import read_flag, read_seconds
from alembic_online.run import KEY, count_blocks

__all__ = [
    "RefusedError",
    "backfill",
    "enable",
    "is_online",
    "is_planning",
    "migrates",
    "passes",
    "rename_index",
    "until_unchanged",
]

log = logging.getLogger(__name__)


def enable(environment: EnvironmentContext) -> None:
    """Carry out the operations of the configured context online, if ``-x online`` or the attribute says so.

    ``-x online`` takes true, 1, yes, on, false, 0, no, off, in any case, or nothing, which is true.

    :param environment: ``alembic.context``, configured with ``transaction_per_migration=True``. A program
        sets ``config.attributes["online"]`` instead of ``-x online``, and ``config.attributes["lock_wait"]``
        instead of ``-x lock_wait=SECONDS``: how long to wait for sessions in the way, without end by default.

    Raises :class:`OnlineError` for a value that is none of these, and where it cannot work: another database
    than PostgreSQL, one transaction for all revisions, a transaction begun before ``configure``.
    """
    context = environment.get_context()
    arguments = environment.get_x_argument(as_dictionary=True)
    attributes = environment.config.attributes
    requested = read_flag("online", attributes.get("online", arguments.get("online", "false")))
    wait = read_seconds("lock_wait", attributes.get("lock_wait", arguments.get("lock_wait")))
    script = context.as_sql
    context.opts[KEY] = None
    if script:
        count_blocks(context)
    if not requested and (script or context.dialect.name != "postgresql" or not migrates(environment)):
        return
    online = Online(context, lock_wait=wait, requested=requested)
    # A revision that was begun online is finished online, whatever the next run says.
    if not requested and not online.has_journal():
        return
    if context.dialect.name != "postgresql":
        raise OnlineError(f"-x online is for PostgreSQL, not {context.dialect.name}")
    if not context._transaction_per_migration:
        raise OnlineError("-x online needs context.configure(transaction_per_migration=True)")
    if not script and context._in_external_transaction:
        raise OnlineError("-x online needs a connection without a transaction: commit before configure()")
    if not script and context.dialect.driver != "psycopg":
        raise OnlineError(f"-x online needs the driver psycopg (3), not {context.dialect.driver}")
    context.opts[KEY] = online
    impl: Any = context.impl
    prepare = impl.prep_table_for_batch  # the first that a batch calls which copies a table

    def refuse_copy(batch: Any, table: Any) -> None:
        if online.active:
            online.refuse_copy(table.name, table.schema)
        prepare(batch, table)

    impl.prep_table_for_batch = refuse_copy
    if not script and migrates(environment):
        run_migrations = context.run_migrations

        def in_session(**arguments: Any) -> None:
            with online.session():
                run_migrations(**arguments)

        context.run_migrations = in_session  # type: ignore[method-assign] # Alembic has no event at the end
    found: Any = context._migrations_fn  # what yields the steps: Alembic has no event before one
    steps: Any = lambda heads, of: online.steps(found(heads, of))  # noqa: E731 - typed
    context._migrations_fn = steps
    context.on_version_apply_callbacks += (online.step_applied,)


def migrates(environment: EnvironmentContext) -> bool:
    """Return whether the command changes the database: upgrade, downgrade, stamp."""
    try:
        environment.get_revision_argument()
    except KeyError:
        return False
    return True


def current(context: MigrationContext) -> "Online | None":
    """Return what carries out the operations of a context, or None where they run in one transaction."""
    online = context.opts.get(KEY)
    return online if isinstance(online, Online) and online.active else None


def is_online() -> bool:
    """Return whether the operations of the revision that runs commit one by one."""
    return current(op.get_context()) is not None


def is_planning() -> bool:
    """Return whether a revision is only read through, to refuse before it starts what cannot be done."""
    online = current(op.get_context())
    return online is not None and online.planning


def backfill(
    statement: sa.Update, *, what: str, over: sa.TableClause | None = None, key: Sequence[str] = ()
) -> int:
    """Set columns on the rows that lack them, as ``op.backfill``; returns how many rows were changed.

    Alembic's ``op`` has no types for what plugins add, this function has. See :meth:`BackfillOp.backfill` for
    the parameters.
    """
    typed: Any = op
    changed: int = typed.backfill(statement, what=what, over=over, key=key)
    return changed


def rename_index(old_name: str, new_name: str, *, schema: str | None = None, if_exists: bool = False) -> None:
    """Rename an index, as ``op.rename_index``; readers and writers do not wait for it.

    :param if_exists: do nothing where no index has the old name.
    """
    typed: Any = op
    typed.rename_index(old_name, new_name, schema=schema, if_exists=if_exists)


def passes() -> Iterator[None]:
    """Do what :func:`until_unchanged` does; its former name."""
    warnings.warn("passes() is until_unchanged() now", DeprecationWarning, stacklevel=2)
    return until_unchanged()


def until_unchanged() -> Iterator[None]:
    """Yield once; online, again until a pass over the backfills in the loop's body changes nothing.

    What others write meanwhile is found by the next pass. It ends as well when a pass finds as much as
    the one before: rows then come as fast as they are filled.
    """
    online = current(op.get_context())
    before: int | None = None
    for number in range(MAXIMUM_PASSES):
        if online is not None:
            online.filled = 0
        yield
        if online is None or online.offline or online.planning or not online.filled:
            return
        if number > 1 and before is not None and online.filled >= before:
            log.info("rows come in as fast as they are filled; what comes from now on is not filled")
            return
        before = online.filled
