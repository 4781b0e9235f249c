"""The interpreter that executes steps and records each in the journal."""

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
"""A brief statement that runs longer is scanning or rewriting the table; it is cancelled."""

_VIOLATIONS = {driver.CHECK_VIOLATION, driver.FOREIGN_KEY_VIOLATION, driver.NOT_NULL_VIOLATION}


def too_long(what: str) -> OnlineError:
    """Return the error for a statement that was cancelled."""
    return OnlineError(
        f"{what} ran {GUARD_SECONDS} s under its lock and was cancelled: it scans or rewrites the table. Fill"
        " rows with op.backfill; mark a statement that blocks nobody with"
        ' execution_options={"online": "long"}; or put online = False at the top of the revision to run it in'
        " one transaction"
    )


def require_another_try(
    error: DBAPIError, holders: Holders, started: float, begun: float, *, what: str, guarded: bool = True
) -> None:
    """Raise an error, unless other sessions caused it: then the statement can be tried again.

    :param holders: logs the sessions in the way, and decides when to give up.
    :param started: when the first try began; ``begun``: when this try began.
    :param guarded: whether the statement had a time limit of :data:`GUARD_SECONDS`.
    """
    code = driver.sqlstate(error)
    if code == driver.QUERY_CANCELED and guarded and time.monotonic() - begun >= GUARD_SECONDS:
        raise too_long(what) from error
    if code not in RETRIED:
        raise error
    holders.check(started, f"a lock ({first_line(error)})")


class Live:
    """Executes the steps of one operation.

    :param as_alembic: executes the operation as Alembic itself does.
    :param entry: its journal entry; None if it is not recorded.
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
        """The last result of Alembic's own implementation."""
        self._server = server
        self._session = server.session
        self._journal = journal
        self._entry = entry
        self._operation = operation
        self._as_alembic = as_alembic
        self._steps: list[Step] = []

    def execute(self, steps: list[Step], first: int) -> None:
        """Execute the steps that are not done yet.

        :param first: how many of them an earlier run has done.
        """
        self._steps = steps
        for at in range(first, len(steps)):
            with self._session.outside(steps[at].what):
                self._take(steps[at], at)

    @singledispatchmethod
    def _take(self, step: Any, at: int) -> None:
        raise NotImplementedError(step, at)

    def _note(self, at: int, **changes: Any) -> dict[str, Any]:
        """Record that a step is done, in its transaction; :meth:`_keep` the result after the commit."""
        if self._entry is None:
            return {}
        if at + 1 == len(self._steps):
            changes |= {"done": True, "steps": None, "at": None}
        return self._journal.note(self._entry, **({"at": at + 1} | changes))

    def _keep(self, state: dict[str, Any]) -> None:
        if self._entry is not None:
            self._entry.state = state

    def _do(self, work: Work) -> dict[str, Any]:
        """Execute the statements of a step, without recording them."""
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
        """Return the definition of the constraint that this step has added, if the next step validates it."""
        after = self._steps[at + 1] if at + 1 < len(self._steps) else None
        if not isinstance(after, Validate):
            return {}
        return {"rule": self._rule_as_it_is(after)}

    def _rule_as_it_is(self, step: Validate) -> list[str]:
        """Return the definition of a constraint, and the oid of the table that it references."""
        found = self._server.constraint(step.table, step.constraint)
        parent = self._server.scalar(catalog.REFERRED_OID, table=step.table, name=step.constraint)
        return [] if found is None else [found.definition, str(parent)]

    @_take.register
    def _locking(self, step: Locking, at: int) -> None:
        """Wait until the lock is free without queueing for it; then take it, or back off and try again."""
        if step.uses is not None:
            self._require_index(step.uses)
        self._keep(self._lock_and(step, lambda: self._do_and_note(step.work, at)))

    def _require_index(self, index: Index) -> None:
        """Raise :class:`ChangedError` if an index that an earlier step has built was dropped or changed."""
        found = self._server.index(index.full)
        if found is None or not found.valid:
            raise ChangedError(f"index {index.name} no longer exists")
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
        """Return the tables that LOCK TABLE accepts, in the same order in all runs."""
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
        """Record the operation before its first step, so that the next run recognizes what it leaves."""
        if self._entry is not None and at == 0:
            self._keep(self._journal.note(self._entry))

    def _watched(self, what: str, work: Callable[[], Any], undo: Callable[[], object] | None = None) -> Any:
        """Run non-blocking statements, without a time limit.

        :param undo: cleans up after a failure.
        """
        for delay in itertools.islice(delays(), 5):
            watch = Watch(self._session, what)
            try:
                with watch:
                    return work()
            except BaseException as error:
                if undo is not None:
                    with suppress(Exception):  # the connection may be lost; then the next run cleans up
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
        """Validate the existing rows; if one violates a constraint of this operation, drop the constraint."""
        self._begin(at)
        rule = None if self._entry is None else self._entry.state.get("rule")
        if rule is not None and self._rule_as_it_is(step) != rule:
            raise ChangedError(
                f"{step.constraint} of {step.table}, which was added as {rule[0]}, was changed or dropped"
            )
        try:
            self._watched(step.what, lambda: self._do((self._server.render.validation(step),)))
        except DBAPIError as error:
            if driver.sqlstate(error) not in _VIOLATIONS:
                raise
            # For other violations the detail is a whole row, whose values must not be shown.
            foreign = driver.sqlstate(error) == driver.FOREIGN_KEY_VIOLATION
            rows = (driver.detail(error) if foreign else None) or driver.message(error)
            left = "it existed before and stays NOT VALID"
            if (undo := step.undo) is not None:
                left = "it was dropped again"

                def drop() -> dict[str, Any]:
                    self._do(undo.work)
                    return {} if self._entry is None else self._journal.note(self._entry, at=at - 1)

                self._keep(self._lock_and(undo, drop))
            raise OnlineError(
                f"{step.constraint} of {step.table} is violated: {rows}; {left}. Fix the rows, then rerun"
            ) from error
        self._keep(self._note(at))

    @_take.register
    def _fill(self, step: Fill, at: int) -> None:
        """Fill rows; the transaction of each batch records the progress."""
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
    """Return the backfill that sets the default of a new column on existing rows."""
    table = sa.table(default.table, sa.column(default.column), schema=default.schema)
    return BackfillOp(
        sa.update(table)
        .values({default.column: sa.literal_column(default.value)})
        .where(table.c[default.column].is_(None)),
        what=what,
    )
