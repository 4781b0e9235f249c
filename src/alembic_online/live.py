"""The interpreter that executes steps, and notes each in the journal."""

import itertools
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import singledispatchmethod
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from alembic_online import catalog, driver
from alembic_online.building import build_index, build_parts
from alembic_online.errors import ChangedError, OnlineError, first_line
from alembic_online.filling.batches import fill_in_batches
from alembic_online.filling.operation import BackfillOp
from alembic_online.journal import Entry, Journal
from alembic_online.probe import require_same
from alembic_online.server import Server
from alembic_online.steps import (
    WEAK_LOCK_TIMEOUT,
    BuildIndex,
    BuildParts,
    Default,
    Fill,
    Index,
    Locking,
    NonBlocking,
    Step,
    Validate,
    Work,
)
from alembic_online.waiting import RETRIED, Holders, Watch, delays

GUARD_SECONDS = 5
"""A brief statement that runs longer is none: it reads or writes the table under its lock."""

_VIOLATIONS = {driver.CHECK_VIOLATION, driver.FOREIGN_KEY_VIOLATION, driver.NOT_NULL_VIOLATION}


def too_long(what: str) -> OnlineError:
    """Return the error of a statement that was cancelled."""
    return OnlineError(
        f"{what} ran {GUARD_SECONDS} s under its lock and was cancelled: it reads or writes the table. Rows"
        " are filled by op.backfill; a statement that locks nobody out says so with"
        ' execution_options={"online": "long"}; and online = False at the top of a revision runs it in one'
        " transaction"
    )


def require_another_try(
    error: DBAPIError, holders: Holders, started: float, begun: float, *, what: str, guarded: bool = True
) -> None:
    """Raise an error, unless others were in the way of the statement: then it is worth another try.

    :param holders: says who, and when to give up.
    :param started: when the first try began; ``begun``: when this one did.
    :param guarded: whether it was to be cancelled if it took long.
    """
    code = driver.sqlstate(error)
    if code == driver.QUERY_CANCELED and guarded and time.monotonic() - begun >= GUARD_SECONDS:
        raise too_long(what) from error
    if code not in RETRIED:
        raise error
    holders.check(started, f"a lock ({first_line(error)})")


class Live:
    """Executes the steps of one operation.

    :param as_alembic: does what Alembic itself does for the operation.
    :param entry: of the journal; None for what is not noted.
    """

    def __init__(
        self,
        server: Server,
        journal: Journal,
        entry: Entry | None,
        operation: Any,
        as_alembic: Callable[[], object],
    ) -> None:
        self.result: object = None
        """What Alembic's own implementation returned last."""
        self._server = server
        self._session = server.session
        self._journal = journal
        self._entry = entry
        self._operation = operation
        self._as_alembic = as_alembic
        self._steps: list[Step] = []

    def execute(self, steps: list[Step], first: int) -> None:
        """Execute the steps, without those that an earlier run has done.

        :param first: how many those are.
        """
        self._steps = steps
        for at in range(first, len(steps)):
            with self._session.outside(steps[at].what):
                self._take(steps[at], at)

    @singledispatchmethod
    def _take(self, step: Any, at: int) -> None:
        raise NotImplementedError(step, at)

    def _note(self, at: int, **changes: Any) -> dict[str, Any]:
        """Write down that a step is done, in its transaction; :meth:`_keep` the result after that."""
        if self._entry is None:
            return {}
        if at + 1 == len(self._steps):
            changes |= {"done": True, "steps": None, "at": None}
        return self._journal.note(self._entry, **({"at": at + 1} | changes))

    def _keep(self, state: dict[str, Any]) -> None:
        if self._entry is not None:
            self._entry.state = state

    def _do(self, work: Work) -> dict[str, Any]:
        """Execute what a step says; nothing of it is for the journal."""
        if work is None:
            self.result = self._as_alembic()
        for statement in work or ():
            self._session.run_sql(statement)
        return {}

    def _do_and_note(self, work: Work, at: int) -> dict[str, Any]:
        self._do(work)
        made: dict[str, Any] = {}
        if work is None and self._entry is not None:
            made = self._journal.look_for_tables(self._entry)
        return self._note(at, **made, **self._rule(at))

    def _rule(self, at: int) -> dict[str, Any]:
        """Return how the server writes the rule that this step has added, if the next validates it."""
        after = self._steps[at + 1] if at + 1 < len(self._steps) else None
        if not isinstance(after, Validate):
            return {}
        return {"rule": self._rule_as_it_is(after)}

    def _rule_as_it_is(self, step: Validate) -> list[str]:
        """Return what a constraint says, and the table that it refers to, as a number."""
        found = self._server.constraint(step.table, step.constraint)
        parent = self._server.scalar(catalog.REFERRED_OID, table=step.table, name=step.constraint)
        return [] if found is None else [found.definition, str(parent)]

    @_take.register
    def _locking(self, step: Locking, at: int) -> None:
        """Wait for the lock outside of its queue; take it, or give way and try again."""
        if step.uses is not None:
            self._require_index(step.uses)
        self._keep(self._lock_and(step, lambda: self._do_and_note(step.work, at)))

    def _require_index(self, index: Index) -> None:
        """Raise :class:`OnlineError` if an index that a step before has built is not there any more."""
        found = self._server.index(index.full)
        if found is None or not found.valid:
            raise ChangedError(f"index {index.name} is not there any more")
        require_same(self._server, index, found)

    def _lock_and(self, step: Locking, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        started, holders = time.monotonic(), Holders(self._session, step.what)
        for delay in delays():
            locks = self._ordinary(step.locks)
            holders.wait(locks, stops_reads=step.stops_reads)
            begun = time.monotonic()
            try:
                with self._session.transaction(
                    lock_timeout=WEAK_LOCK_TIMEOUT, statement_timeout=f"{GUARD_SECONDS}s"
                ):
                    for table in locks:
                        self._session.run_sql(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")
                    self._session.set({"lock_timeout": step.limit}, local=True)
                    return work()
            except DBAPIError as error:
                require_another_try(error, holders, started, begun, what=step.what)
            time.sleep(delay)
        raise AssertionError

    def _ordinary(self, tables: Iterable[str]) -> list[str]:
        """Return those that LOCK TABLE knows, in an order that all runs share."""
        kinds = {table: self._server.scalar(catalog.KIND, table=table) for table in tables}
        return sorted(table for table, kind in kinds.items() if kind in {"r", "p"})

    @_take.register
    def _non_blocking(self, step: NonBlocking, at: int) -> None:
        if step.transaction:

            def in_transaction() -> dict[str, Any]:
                with self._session.transaction():
                    return self._do_and_note(step.work, at)

            self._keep(self._watched(step.what, in_transaction))
            return
        self._begin(at)
        self._watched(step.what, lambda: self._do(step.work))
        self._keep(self._note(at))

    def _begin(self, at: int) -> None:
        """Have the next run know whose it is, whatever this one leaves."""
        if self._entry is not None and at == 0:
            self._keep(self._journal.note(self._entry))

    def _watched(self, what: str, work: Callable[[], Any], undo: Callable[[], object] | None = None) -> Any:
        """Run non-blocking statements, without a time limit.

        :param undo: removes what a failure has left.
        """
        for delay in itertools.islice(delays(), 5):
            watch = Watch(self._session, what)
            try:
                with watch:
                    return work()
            except BaseException as error:
                if undo is not None:
                    with suppress(Exception):  # a lost connection; the next run finds what is left
                        undo()
                if watch.gave_up is not None:
                    raise OnlineError(watch.gave_up) from error
                if driver.sqlstate(error) != driver.DEADLOCK_DETECTED:
                    raise
            time.sleep(delay)
        raise OnlineError(f"{what}: deadlocked five times; try again at a quieter moment")

    @_take.register
    def _build_index(self, step: BuildIndex, at: int) -> None:
        self._begin(at)
        build_index(self._server, step.index, self._watched)
        self._keep(self._note(at))

    @_take.register
    def _build_parts(self, step: BuildParts, at: int) -> None:
        self._begin(at)

        def brief(part: Locking) -> None:
            self._lock_and(part, lambda: self._do(part.work))

        build_parts(self._server, step.index, self._watched, brief)
        self._keep(self._note(at))

    @_take.register
    def _validate(self, step: Validate, at: int) -> None:
        """Have all rows looked through; where one violates a rule of ours, take the rule away again."""
        self._begin(at)
        rule = None if self._entry is None else self._entry.state.get("rule")
        if rule is not None and self._rule_as_it_is(step) != rule:
            raise ChangedError(
                f"{step.constraint} of {step.table}, which was added as {rule[0]}, is not there any more"
            )
        try:
            self._watched(step.what, lambda: self._do((self._server.render.validation(step),)))
        except DBAPIError as error:
            if driver.sqlstate(error) not in _VIOLATIONS:
                raise
            # The detail of the others is a whole row, with whatever it holds.
            foreign = driver.sqlstate(error) == driver.FOREIGN_KEY_VIOLATION
            rows = (driver.detail(error) if foreign else None) or driver.message(error)
            left = "it was there before, and stays unproved"
            if (undo := step.undo) is not None:
                left = "nothing of it is left"

                def take_away() -> dict[str, Any]:
                    self._do(undo.work)
                    return {} if self._entry is None else self._journal.note(self._entry, at=at - 1)

                self._keep(self._lock_and(undo, take_away))
            raise OnlineError(
                f"{step.constraint} of {step.table} is violated: {rows}; {left}. Mend the rows, then run it"
                " again"
            ) from error
        self._keep(self._note(at))

    @_take.register
    def _fill(self, step: Fill, at: int) -> None:
        """Fill rows; how far it came is noted in the transaction of each batch."""
        entry = self._entry
        assert entry is not None  # noqa: S101 - every backfill is in the journal
        operation = self._operation if step.default is None else backfill_of(step.default, step.what)
        done = fill_in_batches(
            self._session,
            operation,
            entry.state.get("backfill", {}),
            lambda state: self._journal.note(entry, backfill=state),
        )
        self.result = done["changed"]
        self._keep(self._note(at, backfill=done))


def backfill_of(default: Default, what: str) -> BackfillOp:
    """Return the backfill that gives rows the default of a new column."""
    table = sa.table(default.table, sa.column(default.column), schema=default.schema)
    return BackfillOp(
        sa.update(table)
        .values({default.column: sa.literal_column(default.value)})
        .where(table.c[default.column].is_(None)),
        what=what,
    )
