"""Online migrations: run Alembic's operations while other sessions keep reading and writing.

An Alembic plugin for any project on PostgreSQL; it knows nothing about its tables. In env.py, after
``context.configure(transaction_per_migration=True, …)``::

    alembic_online.enable(context)

Revisions stay plain Alembic. By default each runs in one transaction. With ``alembic -x online upgrade head``
each operation commits by itself and takes the weakest locks that it can. If a run fails or dies, run it again
to finish it. A revision with ``online = False`` at its top runs in one transaction even then.
``alembic -x online=plan upgrade head`` prints what would run, and changes nothing.

There are two main kinds of statement:

- brief: changes only the catalog, under a strong lock. First it requests a weak lock, which blocks nobody
  and makes the server cancel an autovacuum. Then it waits at most 200 ms for the strong lock, because
  other sessions queue behind it, and tries again.
- long: an index build or a validation. Its lock does not block reads and writes. A second connection
  watches it and logs what it waits for.

``op.execute`` counts as brief, unless the statement is known to be non-blocking or is marked with
``execution_options={"online": "long"}``.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.runtime.migration import MigrationContext

from alembic_online.errors import RefusedError
from alembic_online.filling import MAXIMUM_PASSES
from alembic_online.log import log
from alembic_online.planner import Planner
from alembic_online.run import KEY, Run
from alembic_online.setup import enable, migrates, plans

__all__ = [
    "RefusedError",
    "backfill",
    "depends_on_database",
    "enable",
    "is_online",
    "is_planning",
    "migrates",
    "note_in_plan",
    "passes",
    "plans",
    "rename_index",
    "until_unchanged",
]


def current(context: MigrationContext) -> Run | None:
    """Return the run of a context, or None if its revision runs in one transaction."""
    run = context.opts.get(KEY)
    return run if isinstance(run, Run) and run.mode.active else None


def is_online() -> bool:
    """Return whether each operation of the current revision commits by itself."""
    return current(op.get_context()) is not None


def is_planning() -> bool:
    """Return whether the revision is only read, for a plan or to find refused operations before it starts."""
    run = op.get_context().opts.get(KEY)
    return isinstance(run, Run) and run.mode.reading


def note_in_plan(text: str) -> bool:
    """Print a line in the plan of ``-x online=plan``; return whether a plan is being printed."""
    run = op.get_context().opts.get(KEY)
    if not isinstance(run, Planner):
        return False
    run.note(text)
    return True


@contextmanager
def depends_on_database() -> Iterator[None]:
    """Mark operations that a revision derives from the state of the database.

    They may differ each time the revision is run. A resumed run does not compare them with those of the
    interrupted run; it executes the operations that the revision still issues.
    """
    run = op.get_context().opts.get(KEY)
    if not isinstance(run, Run):
        yield
        return
    run.mode.converging = True
    try:
        yield
    finally:
        run.mode.converging = False


def backfill(statement: sa.Update, *, what: str, over: sa.TableClause | None = None) -> int:
    """Set columns on the rows that lack them, like ``op.backfill``; returns the number of changed rows.

    Unlike Alembic's ``op.backfill``, this function is typed. See :meth:`BackfillOp.backfill` for the
    parameters.
    """
    typed: Any = op
    changed: int = typed.backfill(statement, what=what, over=over)
    return changed


def rename_index(old_name: str, new_name: str, *, schema: str | None = None, if_exists: bool = False) -> None:
    """Rename an index, like ``op.rename_index``; readers and writers do not wait for it.

    :param if_exists: do nothing if no index has the old name.
    """
    typed: Any = op
    typed.rename_index(old_name, new_name, schema=schema, if_exists=if_exists)


def passes() -> Iterator[None]:
    """Do what :func:`until_unchanged` does, under its former name."""
    warnings.warn("passes() was renamed to until_unchanged()", DeprecationWarning, stacklevel=2)
    return until_unchanged()


def until_unchanged() -> Iterator[None]:
    """Yield once; online, yield again until a pass over the backfills in the loop's body changes nothing.

    The next pass finds the rows that others have written meanwhile. The loop also ends when a pass fills as
    many rows as the one before: new rows then arrive as fast as they are filled.
    """
    online = current(op.get_context())
    before: int | None = None
    for number in range(MAXIMUM_PASSES):
        if online is not None:
            online.executor.filled = 0
        yield
        if online is None or online.offline or online.mode.reading or not online.executor.filled:
            return
        if number > 1 and before is not None and online.executor.filled >= before:
            log.info("rows arrive as fast as they are filled; rows arriving from now on stay unfilled")
            return
        before = online.executor.filled
