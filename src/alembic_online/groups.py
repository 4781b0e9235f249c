"""Groups: consecutive operations that change rows, in one transaction.

Their values may come from a clock, a random function or the order of rows, so a resumed run could not tell
which of them are done. Therefore all of a group are done or none. A group runs in Alembic's own transaction,
which ends before the next operation of another kind or with the revision.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress

from sqlalchemy.exc import DBAPIError

from alembic_online.errors import OnlineError
from alembic_online.journal import Entry, Journal
from alembic_online.live import GUARD_SECONDS, require_another_try
from alembic_online.log import log
from alembic_online.program import Item, Mode, Program
from alembic_online.session import Session, is_autocommit
from alembic_online.steps import WEAK_LOCK_TIMEOUT, Rows
from alembic_online.waiting import Holders, delays


class Groups:
    """The groups of one revision."""

    def __init__(self, session: Session, journal: Journal, program: Program, mode: Mode) -> None:
        self._session = session
        self._journal = journal
        self._program = program
        self._mode = mode
        self._after = ""
        self._entry: Entry | None = None
        self._asked: list[tuple[str, str]] = []
        self._first = ""
        self._tables: set[str] = set()
        self._begun = 0.0
        self._values: dict[str, list[tuple[str, str]]] = {}
        """For each group, digests of its statements when the revision was read: without and with values."""

    @property
    def done(self) -> bool:
        """Whether an earlier run has done the open group."""
        return self._entry is not None and self._entry.done

    def know(self, read: "Groups") -> None:
        """Take over the values that the statements had when the revision was read."""
        self._values = read._values

    def end_before(self, digest: str) -> None:
        """End the group before another operation."""
        self.close()
        self._after = digest

    def execute(
        self, step: Rows, text: str, values: str, tables: set[str], work: Callable[[], object]
    ) -> None:
        """Execute an operation that changes rows, unless an earlier run has done its group.

        :param text: its statement without values; ``values``: with them.
        :param tables: the tables that it changes.
        """
        if self._entry is None:
            self._open(step.what)
        entry = self._entry
        assert entry is not None  # noqa: S101 - opened
        digest = _digest(values)
        self._asked.append((_digest(text), digest))
        self._tables |= tables
        if self._mode.reading:
            self._values.setdefault(entry.digest, []).append(self._asked[-1])
        elif self._mode.skipping and not entry.done:
            work()
        elif not entry.done:
            self._run(step, work)

    def _open(self, title: str) -> None:
        entry = self._journal.entry(f"rows after {self._after}")
        self._entry, self._asked, self._first = entry, [], title
        self._tables, self._begun = set(), time.monotonic()
        item = Item(entry.digest, entry.number, title)
        if self._mode.converging:
            entry.state.clear()
        else:
            (self._program.read if self._mode.reading else self._program.ask)(item)
        if self._mode.reading:
            return
        self._journal.reset_if_dropped(entry, lambda: set(entry.state.get("tables", ())))
        if entry.done:
            log.info("already done: %s", title)

    def _run(self, step: Rows, work: Callable[[], object]) -> None:
        entry = self._entry
        assert entry is not None  # noqa: S101 - opened
        if is_autocommit(self._session.context):  # in autocommit_block() each statement is a group
            with self._session.outside(step.what), self._session.transaction():
                self._journal.begin(self._program.to_json())
                self._try(step, work)
                self._note(entry)
            self._entry = None
            return
        self._journal.begin(self._program.to_json())
        self._try(step, work)

    def _try(self, step: Rows, work: Callable[[], object]) -> None:
        """Execute a statement; if it does not get its row locks in time, try again."""
        session, started = self._session, time.monotonic()
        holders = Holders(session, step.what)
        limit = f"{GUARD_SECONDS}s" if step.guarded else "0"
        for delay in delays():
            begun = time.monotonic()
            savepoint = session.connection.begin_nested()
            try:
                with session.settings(step.what, lock_timeout=WEAK_LOCK_TIMEOUT, statement_timeout=limit):
                    work()
            except DBAPIError as error:
                with suppress(Exception) if session.connection.invalidated else nullcontext():
                    savepoint.rollback()
                require_another_try(error, holders, started, begun, what=step.what, guarded=step.guarded)
            else:
                savepoint.commit()
                return
            time.sleep(delay)

    def close(self) -> None:
        """End the group: record it as done, in its transaction, which the caller commits."""
        entry, self._entry = self._entry, None
        if entry is None or self._mode.reading:
            return
        if entry.done:
            self._require_same(entry)
        elif not self._mode.skipping:
            self._note(entry)

    def _note(self, entry: Entry) -> None:
        read = self._values.get(entry.digest, [])
        values = [value for _, value in self._asked]
        # Values that differ from those read a moment before come from a clock or a random function.
        comparable = [text for text, _ in read] == [text for text, _ in self._asked]
        fixed = [value for text, value in self._asked if not comparable or (text, value) in read]
        entry.state = self._journal.note(
            entry,
            done=True,
            title=self._first,
            texts=_texts(self._asked),
            values=values,
            fixed=fixed,
            tables=sorted(self._tables),
            free=self._mode.converging or None,
        )
        more = f" and {len(values) - 1} more" if len(values) > 1 else ""
        log.info("%s%s: %.1f s", self._first, more, time.monotonic() - self._begun)

    def _require_same(self, entry: Entry) -> None:
        """Raise :class:`OnlineError` if the statements are not those that an earlier run has done."""
        asked = Counter(value for _, value in self._asked)
        if asked == Counter(entry.state["values"]):  # in any order
            return
        if _texts(self._asked) == entry.state["texts"] and Counter(entry.state["fixed"]) <= asked:
            return
        count = len(entry.state["values"])
        raise OnlineError(
            f"revision {self._program.revision}: an earlier run has done {entry.state['title']}, one of a"
            f" group of {count}, and now the statements differ, so it is unknown which rows are done. Undo"
            " the changes of the revision and start it over with -x online=restart-with-rows"
        )


def _texts(asked: list[tuple[str, str]]) -> str:
    """Return a digest of statements without their values, in their order."""
    return _digest(" ".join(text for text, _ in asked))


def _digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:12]
