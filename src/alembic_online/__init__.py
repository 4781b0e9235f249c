"""Online migrations: Alembic's operations, carried out so that others go on reading and writing.

An Alembic plugin for any project on PostgreSQL; it knows nothing about its tables. In env.py, after
``context.configure(transaction_per_migration=True, …)``::

    online.enable(context)

Revisions stay plain Alembic. By default each runs in one transaction. With ``alembic -x online upgrade head``
every operation commits by itself, in the way that locks least; a run that dies anywhere is finished by
running it again. A revision with ``online = False`` at its top runs in one transaction all the same.
``alembic -x online=plan upgrade head`` prints what would run, and changes nothing.

Three kinds of statement:

- brief: takes a strong lock, for a change of the catalog alone. First it waits for a weak lock, which stalls
  nobody and by which the server sends an autovacuum away; for the strong one it waits 200 ms, because all
  others queue up behind it, and then tries again.
- long: an index build, a validation. Its lock lets others read and write; a second connection watches it and
  says what it waits for.
- what is neither is left to the author: ``op.execute`` counts as brief unless the statement is known to lock
  nobody out, or says ``execution_options={"online": "long"}``.
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
    """Return the run of a context, or None where its revision runs in one transaction."""
    run = context.opts.get(KEY)
    return run if isinstance(run, Run) and run.mode.active else None


def is_online() -> bool:
    """Return whether the operations of the revision that runs commit one by one."""
    return current(op.get_context()) is not None


def is_planning() -> bool:
    """Return whether a revision is only read through: to refuse what cannot be done, or for a plan."""
    run = op.get_context().opts.get(KEY)
    return isinstance(run, Run) and run.mode.reading


def note_in_plan(text: str) -> bool:
    """Print a line in the plan of ``-x online=plan``; return whether there is one."""
    run = op.get_context().opts.get(KEY)
    if not isinstance(run, Planner):
        return False
    run.note(text)
    return True


@contextmanager
def depends_on_database() -> Iterator[None]:
    """Have a revision ask for what the database lacks: something else, perhaps, each time it is run.

    A resumed run takes the operations within as they come: what is done is asked for no more.
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
    """Set columns on the rows that lack them, as ``op.backfill``; returns how many rows were changed.

    Alembic's ``op`` has no types for what plugins add, this function has. See :meth:`BackfillOp.backfill` for
    the parameters.
    """
    typed: Any = op
    changed: int = typed.backfill(statement, what=what, over=over)
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
            online.carrier.filled = 0
        yield
        if online is None or online.offline or online.mode.reading or not online.carrier.filled:
            return
        if number > 1 and before is not None and online.carrier.filled >= before:
            log.info("rows come in as fast as they are filled; what comes from now on is not filled")
            return
        before = online.carrier.filled
