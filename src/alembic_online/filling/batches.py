"""A backfill session: range after range, each committed by itself, until a pass changes nothing."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy.exc import DBAPIError

from alembic_online import catalog, driver
from alembic_online.errors import OnlineError, first_line
from alembic_online.filling import MAXIMUM_PASSES
from alembic_online.filling.operation import BackfillOp
from alembic_online.filling.progress import Progress
from alembic_online.filling.ranges import Keys, Pages, key_of
from alembic_online.filling.rounds import SAMPLE, Rounds, can_stay
from alembic_online.filling.rows import BY_INDEX, fill_left_over, update
from alembic_online.log import log
from alembic_online.render import table_name
from alembic_online.session import Session
from alembic_online.waiting import Holders, delays

BATCH_SECONDS = 0.1
"""What a batch aims at: as long as others wait for a row of it at most."""

PAUSE = 0.1
"""Pause after a batch, as a part of the time that it took, in which replicas and autovacuum keep up."""

FIRST_STEP, LARGEST_STEP = 64, 65536
"""Pages, or keys, of the first batch; and of the largest, where nothing has to be changed."""

RANGE = 2048
"""Pages over which rounds go together: 16 MB, which stay in memory from one round to the next."""

IN_PLACE = 4
"""Of so many updates in a second or later round, one at least has to be heap-only."""

# What may happen to a batch because of others: they lock or delete a row that it needs.
# A foreign key that is violated three times is so because of its own rows.
_RETRIED: dict[str | None, float] = {
    driver.LOCK_NOT_AVAILABLE: math.inf,
    driver.DEADLOCK_DETECTED: 20,
    driver.SERIALIZATION_FAILURE: 20,
    driver.QUERY_CANCELED: 20,
    driver.FOREIGN_KEY_VIOLATION: 3,
}

# A plan for a range must not depend on statistics; none of its statements is worth compiling.
# Below deadlock_timeout (1 s): where two lock rows in another order, the batch gives way, not the program.
_SETTINGS = {"jit": "off", "lock_timeout": "500ms", "statement_timeout": "60s"}

# Where each row moves, what a batch evicts goes to disk at once: else the system writes it out in bursts, in
# which the commits of others wait. For 200,000 rows it took a third longer, and a writer waited 0.09 s at
# most instead of 0.27 s.
_WRITTEN_OUT = {"backend_flush_after": "512kB"}


class _State(NamedTuple):
    """How far a backfill came: which pass, after which page or key, rows changed in all and in this pass."""

    number: int = 1
    position: Any = None
    changed: int = 0
    in_pass: int = 0
    before: int | None = None
    finished: bool = False
    range: Sequence[int] | None = None
    """The pages over which rounds go now, from and to, and how many rounds they take."""
    round: int = 1
    """Which of them."""

    @property
    def left(self) -> int:
        """How many rounds are left of the range, the current one included."""
        return 1 if self.range is None else self.range[2] - self.round + 1

    def after_batch(self, *, in_vain: bool) -> "_State":
        """Return it with the next round, or without a range, where this was the end of one.

        :param in_vain: whether another round would bring nothing: the last one comes next.
        """
        if self.range is None:
            return self
        first, end, rounds = self.range
        if in_vain:
            return self._replace(position=first, round=rounds)
        if self.position < end:
            return self
        if self.left > 1:
            return self._replace(position=first, round=self.round + 1)
        return self._replace(range=None, round=1)


Note = Callable[[dict[str, Any]], object]
"""Writes down how far a backfill came, in the transaction of a batch."""


def fill_in_batches(
    session: Session, operation: BackfillOp, before: dict[str, Any], note: Note
) -> dict[str, Any]:
    """Run a backfill range after range, each committed by itself.

    A row that others move to another page is missed by a pass over the pages, so passes are repeated until
    one changes nothing. The journal holds how far it came; a run that died goes on there.

    :param before: how far an earlier run came.

    Returns how far it came; ``changed`` is the number of rows.
    """
    state = _State(**before)
    if state.finished:
        return state._asdict()
    for needed in operation.tables:
        name = table_name(session.context.dialect, needed)
        if session.scalar(catalog.KIND, table=name) is None:
            raise OnlineError(
                f"table {name} does not exist, which the backfill needs ({operation.what}), and nothing in"
                " the revision has made it; restore it, then rerun"
            )
    if state.position is not None:
        log.info("%s: goes on after %s, with %s done", operation.what, state.position, state.changed)
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
        in_rounds = not key and can_stay(connection, operation)
        self._rounds = Rounds(connection, operation) if in_rounds else None
        self._settings = _SETTINGS | (BY_INDEX if operation.over is not None else {})
        if not in_rounds:
            self._settings |= _WRITTEN_OUT
        self._in_vain = False
        """Whether rounds over the last range brought nothing."""

    def run(self, state: _State, progress: Progress) -> _State:
        """Go over the table; returns how far that came, and what is next."""
        # Rows that move take longer than rows that stay, so each kind of batch has a size of its own.
        # A page of a small table has rows that stand for many: it begins with few.
        first = FIRST_STEP if self._operation.over is None else max(1, FIRST_STEP // 16)
        steps: defaultdict[tuple[bool, bool], int] = defaultdict(lambda: first)
        holders, waiting_since = Holders(self._session, self._operation.what), time.monotonic()
        failures = 0
        while True:
            begun, kind = time.monotonic(), (state.round == 1, self._in_vain)
            step = steps[kind]
            try:
                with self._session.transaction(**self._settings):
                    done = self._batch(state, step)
            except DBAPIError as error:
                failures += 1
                code = driver.sqlstate(error)
                if code not in _RETRIED or failures > _RETRIED[code]:
                    raise
                holders.check(waiting_since, f"rows that others hold ({first_line(error)})")
                steps[kind] = max(1, step // 2)
                time.sleep(min(2.0, 0.1 * failures))
                continue
            if done is None:
                return state
            changed, seconds = done.changed > state.changed, time.monotonic() - begun
            state, failures, waiting_since = done, 0, time.monotonic()
            progress.show(state.number, self._part(state), state.changed)
            # At most twice, because a range without a row to change says nothing of the next one; and
            # of a table whose rows stand for many others, such a range says nothing at all.
            most = 1.0 if self._operation.over is not None and not changed else 2.0
            factor = min(most, max(0.25, BATCH_SECONDS / max(seconds, 1e-4)))
            steps[kind] = max(1, min(LARGEST_STEP, int(step * factor)))
            time.sleep(min(BATCH_SECONDS, seconds * PAUSE) if changed else 0)

    def _part(self, state: _State) -> float:
        """Return how much of the pass is done, from 0 to 1."""
        if state.range is None:
            return self._ranges.part(state.position)
        first, end, rounds = state.range
        done = (state.round - 1 + (state.position - first) / (end - first)) / rounds
        return self._ranges.part(first + (end - first) * done)

    def _batch(self, state: _State, step: int) -> _State | None:
        """Fill the rows of so many pages or keys; returns how far that came, None if there are no more."""
        rounds, over = self._rounds, self._operation.over is not None
        if rounds is not None:
            state = self._with_range(state, rounds)
            if state.range is None:
                return None
            step = min(step, state.range[1] - state.position)
        found = self._ranges.range(state.position, step)
        if found is None:
            return None
        conditions, end = found
        before = 0
        if rounds is not None and state.left > 1:
            before = rounds.counted()
            some = rounds.some(conditions, state.left)
            conditions = [*conditions, some] if over else [some]
            if over:  # the planner expects few rows of a round: it would go over the range for each of them
                self._session.set({"enable_hashjoin": "on"}, local=True)
        changed = update(self._session.connection, self._operation, conditions, first=state.changed == 0)
        done = state._replace(position=end, changed=state.changed + changed, in_pass=state.in_pass + changed)
        if rounds is not None and state.round > 1 and state.left > 1 and changed:
            self._in_vain = (rounds.counted() - before) * IN_PLACE < changed
        done = done.after_batch(in_vain=self._in_vain and state.left > 1)
        self._note(done._asdict())
        return done

    def _with_range(self, state: _State, rounds: Rounds) -> _State:
        """Return a state with the range that comes next, unless it is in one; without if there is none."""
        if state.range is not None:
            return state
        found = self._ranges.range(state.position, RANGE)
        if found is None:
            return state
        first, (conditions, end) = state.position or 0, found
        if self._operation.over is None:
            sample = self._ranges.range(first, min(SAMPLE, end - first))
            conditions = conditions if sample is None else sample[0]
        number = 1 if self._in_vain else rounds.number(conditions)
        self._in_vain = False
        return state._replace(position=first, range=(first, end, number), round=1)


def _pass(session: Session, operation: BackfillOp, state: _State, progress: Progress, note: Note) -> _State:
    """Run one pass over the table, and say what is next."""
    state = _Pass(session, operation, note).run(state, progress)
    # As many as before: rows come in as fast as they are filled.
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


def _finish(session: Session, operation: BackfillOp, state: _State, note: Note) -> _State:
    """See to what the last pass has left, and note that the backfill is finished."""
    holders, started = Holders(session, operation.what), time.monotonic()
    # To find the rows may take a scan of the table.
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
