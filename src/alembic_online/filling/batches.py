"""Run a backfill online: in batches, each in its own transaction, until a pass changes nothing."""

import math
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from alembic_online import catalog, driver
from alembic_online.errors import OnlineError, first_line
from alembic_online.filling import MAXIMUM_PASSES
from alembic_online.filling.operation import BackfillOp
from alembic_online.filling.progress import Progress
from alembic_online.filling.ranges import Keys, Pages, key_of
from alembic_online.filling.rounds import SAMPLE, Rounds
from alembic_online.filling.rows import BY_INDEX, fill_left_over, update
from alembic_online.filling.state import State
from alembic_online.log import log
from alembic_online.render import table_name
from alembic_online.session import Session
from alembic_online.waiting import Holders, delays

BATCH_SECONDS = 0.1
"""The target duration of a batch, which is also the longest that others wait for one of its rows."""

PAUSE = 0.1
"""The pause after a batch, as a fraction of its duration, in which replicas and autovacuum catch up."""

FIRST_STEP, LARGEST_STEP = 64, 65536
"""The number of pages or keys of the first batch, and of the largest one, if no row needs a change."""

IN_PLACE = 4
"""Rounds go on if at least one of so many updates, after the first round, is heap-only."""

# Errors that other sessions may cause, by locking or deleting a row that a batch needs; with the number of
# retries. A foreign key that is still violated after three retries is violated by the batch's own rows.
_RETRIED: dict[str | None, float] = {
    driver.LOCK_NOT_AVAILABLE: math.inf,
    driver.DEADLOCK_DETECTED: 20,
    driver.SERIALIZATION_FAILURE: 20,
    driver.QUERY_CANCELED: 20,
    driver.FOREIGN_KEY_VIOLATION: 3,
}

# JIT compilation is not worth its time for a batch. The lock timeout is below deadlock_timeout (1 s): when a
# batch and a program lock rows in different orders, the batch gives way.
_SETTINGS = {"jit": "off", "lock_timeout": "500ms", "statement_timeout": "60s"}

# If each row moves to another page, flush evicted pages to disk immediately. Otherwise the operating system
# writes them in bursts, and the commits of others wait. With 200,000 rows the backfill took a third longer,
# but a writer waited at most 0.09 s instead of 0.27 s.
_WRITTEN_OUT = {"backend_flush_after": "512kB"}


Note = Callable[[dict[str, Any]], object]
"""Records the progress of a backfill, in the transaction of a batch."""


def fill_in_batches(
    session: Session, operation: BackfillOp, before: dict[str, Any], note: Note
) -> dict[str, Any]:
    """Run a backfill in batches, each in its own transaction.

    A pass over the pages misses a row that others move to another page, so passes are repeated until one
    changes nothing. The journal records the progress, and a resumed run continues there.

    :param before: the progress of an earlier run.

    Returns the progress; ``changed`` is the number of changed rows.
    """
    state = State(**before)
    if state.finished:
        return state._asdict()
    for needed in operation.tables:
        name = table_name(session.context.dialect, needed)
        if session.scalar(catalog.KIND, table=name) is None:
            raise OnlineError(
                f"the backfill needs table {name} ({operation.what}), which does not exist, and which the"
                " revision does not create; restore it, then rerun"
            )
    if state.position is not None:
        log.info("%s: resuming after %s", operation.result(state.changed), state.position)
    with Progress(operation) as progress:
        while not state.finished:
            state = _pass(session, operation, state, progress, note)
    return state._asdict()


class _Pass:
    """One pass over the table."""

    def __init__(self, session: Session, operation: BackfillOp, note: Note) -> None:
        self._session = session
        self._operation = operation
        self._note = note
        connection = session.connection
        key = key_of(connection, operation)
        assert key is not None  # noqa: S101 - else it was refused
        self._ranges = Keys(connection, operation, key) if key else Pages(connection, operation)
        rounds = None if key else Rounds(connection, operation)
        self._rounds = rounds if rounds is not None and rounds.may_stay else None
        self._settings = _SETTINGS | (BY_INDEX if operation.over is not None else {})
        self._in_vain = False
        """Whether rounds over the last range did not make updates heap-only."""
        # Rows that move to another page take longer than rows that stay, so each kind of batch has its own
        # size. With ``over``, a row of the smaller table may stand for many rows: begin with one page.
        first = FIRST_STEP if operation.over is None else 1
        self._steps: defaultdict[str, int] = defaultdict(lambda: first)
        self._kind, self._weight, self._growth = "moves", 1, 2.0
        """Of the last batch: its kind, how many of it make a range, and how much the next may grow."""
        self._reading = 0
        """Pages or keys to search for rows to change, if the last batch changed none; else 0."""

    def run(self, state: State, progress: Progress) -> State:
        """Run the pass; returns the progress after it."""
        if self._rounds is None and state.range is not None:  # an earlier run could take rounds
            state = state._replace(position=state.range[0], range=None, round=1)
        if state.number > 1:
            self._reading = FIRST_STEP
        holders, waiting_since = Holders(self._session, self._operation.what), time.monotonic()
        failures = 0
        while True:
            begun = time.monotonic()
            try:
                with self._session.transaction(**self._settings):
                    done = self._skip(state) or self._batch(state)
            except DBAPIError as error:
                failures += 1
                code = driver.sqlstate(error)
                if code not in _RETRIED or failures > _RETRIED[code]:
                    raise
                holders.check(waiting_since, f"rows that others hold ({first_line(error)})")
                self._reading = 0
                self._steps[self._kind] = max(1, self._steps[self._kind] // 2)
                time.sleep(min(2.0, 0.1 * failures))
                continue
            if done is None:
                return state
            changed = done.changed > state.changed
            state, failures, waiting_since = done, 0, time.monotonic()
            progress.show(state.number, self._part(state), state.changed)
            if changed:
                self._adapt()
                self._reading = 0
                time.sleep(min(BATCH_SECONDS, (time.monotonic() - begun) * PAUSE))
            else:
                self._reading = min(LARGEST_STEP, max(FIRST_STEP, 2 * self._reading))

    def _adapt(self) -> None:
        """Choose the size of the next batch of a kind by the time that others waited for the last one.

        It grows slowly, because others wait for a batch that is too large. A batch that changed no rows says
        nothing about the next one.
        """
        if self._weight:
            seconds = time.monotonic() - self._begun + (self._weight - 1) * self._updating
            factor = BATCH_SECONDS / max(seconds, 1e-4)
            step = self._steps[self._kind] * min(self._growth, max(0.25, factor))
            whole = math.ceil(step) if factor > 1 else int(step)  # from one page, it grows to two
            self._steps[self._kind] = max(1, min(LARGEST_STEP, whole))

    def _part(self, state: State) -> float:
        """Return how much of the pass is done, from 0 to 1."""
        if state.range is None:
            return self._ranges.part(state.position)
        first, end, rounds = state.range
        done = (state.round - 1 + (state.position - first) / (end - first)) / rounds
        return self._ranges.part(first + (end - first) * done)

    def _skip(self, state: State) -> State | None:
        """Pass over a part without rows to change, which is only read; None if the next batch has some."""
        where = self._operation.statement.whereclause
        assert where is not None  # noqa: S101 - checked by BackfillOp
        rows = sa.select(sa.literal(1)).select_from(self._operation.table).where(where).limit(1)
        while self._reading > self._steps["moves"] and state.range is None:
            found = self._ranges.range(state.position, self._reading)
            if found is None:
                return None
            if self._session.connection.execute(rows.where(*found[0])).first() is None:
                done = state._replace(position=found[1])
                self._note(done._asdict())
                return done
            self._reading //= 2
        return None

    def _batch(self, state: State) -> State | None:
        """Fill the rows of some pages or keys; returns the progress, or None at the end of the table."""
        rounds, over = self._rounds, self._operation.over is not None
        if rounds is not None:
            state = self._with_range(state, rounds)
            if state.range is None:
                return None
        step = self._choose(state)
        found = self._ranges.range(state.position, step)
        if found is None:
            return None
        conditions, end = found
        if self._kind == "moves":
            self._session.set(_WRITTEN_OUT, local=True)
        if rounds is not None and state.left > 1:
            some = rounds.some(conditions, state.left)
            conditions = [*conditions, some] if over else [some]
            if over:  # the planner expects few rows in a round, and would scan the range for each of them
                self._session.set({"enable_hashjoin": "on"}, local=True)
        before = rounds.counted() if rounds is not None and state.round > 1 else 0
        self._begun = time.monotonic()
        changed = update(self._session.connection, self._operation, conditions, first=state.changed == 0)
        self._updating = time.monotonic() - self._begun
        done = state._replace(position=end, changed=state.changed + changed, in_pass=state.in_pass + changed)
        # The last of many rounds also updates rows that do not fit on their page.
        if rounds is not None and state.round > 1 and changed and (state.left > 1 or state.round == 2):
            self._in_vain = (rounds.counted() - before) * IN_PLACE < changed
        done = done.after_batch(in_vain=self._in_vain and state.left > 1)
        self._note(done._asdict())
        return done

    def _with_range(self, state: State, rounds: Rounds) -> State:
        """Return a state with the range that comes next, unless it is in one; without if there is none."""
        if state.range is not None:
            return state
        # Rows of one range of a small table may be anywhere in the large one: there a range is one batch.
        over = self._operation.over is not None
        found = self._ranges.range(state.position, self._steps["moves"] if over else rounds.pages)
        if found is None:
            return state
        first, (conditions, end) = state.position or 0, found
        if not over:
            sample = self._ranges.range(first, min(SAMPLE, end - first))
            conditions = conditions if sample is None else sample[0]
        number = 1 if self._in_vain else rounds.number(conditions)
        self._in_vain = False
        return state._replace(position=first, range=(first, end, number), round=1)

    def _choose(self, state: State) -> int:
        """Choose the kind of the next batch; returns its pages or keys."""
        self._kind, self._weight, self._growth = "moves", 1, 2.0
        if state.range is None:
            return self._steps["moves"]
        _, end, rounds = state.range
        left = int(end - state.position)
        if self._operation.over is not None:
            # A range is one batch, of as many rows as may move in the time of a batch.
            self._weight = rounds if state.round == 1 else 0
            return left
        if rounds > 1 and not self._in_vain:
            self._kind = "some move" if state.round == 1 else "stays"
        step = self._steps[self._kind]
        self._growth = 1.0 if left < step else 2.0  # the rest of a range takes less time
        return min(step, left)


def _pass(session: Session, operation: BackfillOp, state: State, progress: Progress, note: Note) -> State:
    """Run one pass over the table, and say what is next."""
    state = _Pass(session, operation, note).run(state, progress)
    # As many rows as in the pass before: new rows arrive as fast as they are filled.
    steady = state.before is not None and state.in_pass >= state.before
    after = state._replace(
        number=state.number + 1,
        position=None,
        range=None,
        round=1,
        in_pass=0,
        before=state.in_pass,
        finished=state.in_pass == 0 or steady or state.number >= MAXIMUM_PASSES,
    )
    return _finish(session, operation, after, note) if after.finished else after


def _finish(session: Session, operation: BackfillOp, state: State, note: Note) -> State:
    """See to what the last pass has left, and note that the backfill is finished."""
    holders, started = Holders(session, operation.what), time.monotonic()
    # Finding the rows may take a full scan of the table, so there is no statement timeout.
    settings = _SETTINGS | {"statement_timeout": "0"} | (BY_INDEX if operation.over is not None else {})
    attempts = 0
    for pause in delays():
        try:
            with session.transaction(**settings):
                more = fill_left_over(session.connection, operation)
                done = state._replace(changed=state.changed + (more or 0))
                attempts += 1
                finished = more is None or attempts == MAXIMUM_PASSES
                note(done._replace(finished=finished)._asdict())
        except DBAPIError as error:
            if driver.sqlstate(error) not in _RETRIED.keys() - {driver.FOREIGN_KEY_VIOLATION}:
                raise
            holders.check(started, f"rows that others hold ({first_line(error)})")
            time.sleep(pause)
            continue
        state = done
        if finished:
            break
    return state
