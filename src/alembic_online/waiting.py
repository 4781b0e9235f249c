"""Wait for other sessions without blocking them, and log which ones."""

import random
import threading
import time
from collections.abc import Iterator, Sequence

from alembic_online import catalog, driver
from alembic_online.errors import OnlineError, first_line
from alembic_online.log import log
from alembic_online.session import Session

WATCH_AFTER_SECONDS = 2.0
LOG_EVERY_SECONDS = 10.0


RETRIED = {driver.LOCK_NOT_AVAILABLE, driver.DEADLOCK_DETECTED, driver.SERIALIZATION_FAILURE}
"""Errors to retry after: lock timeout, deadlock, serialization failure."""


def delays() -> Iterator[float]:
    """Yield growing pauses with jitter, so that two sessions do not collide repeatedly."""
    delay = 0.1
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        delay = min(2 * delay, 3.0)


class Holders:
    """Waits, without queueing for a lock, while other transactions hold a table, and logs which ones."""

    def __init__(self, session: Session, what: str) -> None:
        self._session = session
        self._what = what
        self._next_log = time.monotonic() + 1.0

    def wait(self, tables: Sequence[str], *, stops_reads: bool) -> None:
        """Return when no transaction of the previous check still holds one of the tables."""
        started = time.monotonic()
        before: dict[str, str] | None = None
        while tables:
            rows = self._session.rows(catalog.HOLDERS, tables=list(tables), reads=stops_reads)
            now = {row.virtualtransaction: str(row.holder) for row in rows}
            stayed = now.keys() & before.keys() if before is not None else now.keys()
            if not stayed:
                return
            if before is not None:
                self.check(started, "; ".join(sorted({now[transaction] for transaction in stayed})))
            before = {transaction: now[transaction] for transaction in stayed}
            time.sleep(0.1)

    def check(self, started: float, why: str) -> None:
        """Log periodically why it waits; raise :class:`OnlineError` when the time is over."""
        now = time.monotonic()
        wait = self._session.lock_wait
        if wait is not None and now - started >= wait:
            raise OnlineError(
                f"gave up after {wait:g} s: {self._what} waits for {why}; what is finished stays, and the"
                " next run continues from there"
            )
        if now >= self._next_log:
            log.info("%s waits for %s", self._what, why)
            self._next_log = now + LOG_EVERY_SECONDS


class Watch:
    """A second connection that watches a long statement, and logs its progress and what it waits for."""

    def __init__(self, session: Session, what: str) -> None:
        self.gave_up: str | None = None
        self._what = what
        self._wait = session.lock_wait
        # Ask the server, because a driver behind a pooler has another process id.
        self._process = int(session.scalar(catalog.PROCESS))
        self._second = driver.SecondConnection(session.connection)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="alembic_online watch", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(timeout=15)

    def _run(self) -> None:
        if self._done.wait(min(WATCH_AFTER_SECONDS, self._wait or WATCH_AFTER_SECONDS)):
            return
        try:
            with self._second.connect("alembic_online watch") as ask:
                self._look(ask)
        except Exception as error:  # noqa: BLE001 - any driver's; the watched statement continues
            log.debug("%s is not watched: %s", self._what, first_line(error))

    def _look(self, ask: driver.Ask) -> None:
        blockers, progress, cancel = (
            question.format(pid=self._process)
            for question in (catalog.BLOCKERS, catalog.PROGRESS, catalog.CANCEL)
        )
        next_log = blocked_since = 0.0
        while not self._done.is_set():
            now = time.monotonic()
            holders = [row[0] for row in ask(blockers)]
            built = next(iter(ask(progress)), None)
            blocked_since = (blocked_since or now) if holders else 0.0
            if now >= next_log:
                if holders:
                    log.info("%s waits for %s", self._what, "; ".join(holders))
                elif built is not None:
                    log.info("%s: %s", self._what, built[0])
                next_log = now + LOG_EVERY_SECONDS
            if holders and self._wait is not None and now - blocked_since >= self._wait:
                self.gave_up = (
                    f"gave up after {self._wait:g} s: {self._what} waits for {'; '.join(holders)}; what is"
                    " finished stays, and the next run continues from there"
                )
                while not self._done.wait(0.2):  # a cancel request may arrive between two statements
                    ask(cancel)
                return
            self._done.wait(0.5)
