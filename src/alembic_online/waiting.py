"""Waiting for others without making them wait, and saying for whom."""

import logging
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import psycopg

from alembic_online import catalog
from alembic_online.errors import OnlineError, driver_error, first_line

if TYPE_CHECKING:
    from alembic_online.run import Run

log = logging.getLogger(__name__)

WATCH_AFTER_SECONDS = 2.0
LOG_EVERY_SECONDS = 10.0


def sqlstate(error: BaseException) -> str | None:
    """Return the server's code of an error."""
    driver = driver_error(error)
    return None if driver is None else driver.sqlstate


RETRIED = {"55P03", "40P01", "40001"}
"""A lock that was not obtained, a deadlock, a conflict: worth another try."""


def delays() -> Iterator[float]:
    """Yield growing pauses, jittered, so that two sessions do not meet again and again."""
    delay = 0.1
    while True:
        yield delay * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        delay = min(2 * delay, 3.0)


class Holders:
    """Waits outside of the queue while long transactions hold a table, and says which."""

    def __init__(self, online: "Run", what: str) -> None:
        self._online = online
        self._what = what
        self._next_log = time.monotonic() + 1.0

    def wait(self, tables: Sequence[str], *, stops_reads: bool) -> None:
        """Return when no transaction that was there a moment ago still holds one of the tables."""
        started = time.monotonic()
        before: dict[str, str] | None = None
        while tables:
            rows = self._online.connection.execute(
                catalog.HOLDERS, {"tables": list(tables), "reads": stops_reads}
            )
            now = {row.virtualtransaction: str(row.holder) for row in rows}
            stayed = now.keys() & before.keys() if before is not None else now.keys()
            if not stayed:
                return
            if before is not None:
                self.check(started, "; ".join(sorted({now[transaction] for transaction in stayed})))
            before = {transaction: now[transaction] for transaction in stayed}
            time.sleep(0.1)

    def check(self, started: float, why: str) -> None:
        """Log from time to time what is waited for; raise :class:`OnlineError` when the time is over."""
        now = time.monotonic()
        wait = self._online.lock_wait
        if wait is not None and now - started >= wait:
            raise OnlineError(
                f"gave up after {wait:g} s: {self._what} waits for {why}; what is finished stays, and the"
                " next run goes on from there"
            )
        if now >= self._next_log:
            log.info("%s waits for %s", self._what, why)
            self._next_log = now + LOG_EVERY_SECONDS


class Watch:
    """A second connection that looks after a long statement: how far it is, and what it waits for."""

    def __init__(self, online: "Run", what: str) -> None:
        self.gave_up: str | None = None
        self._what = what
        self._wait = online.lock_wait
        self._driver = cast(
            "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]",
            online.connection.connection.driver_connection,
        )
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
        info = self._driver.info
        parameters: dict[str, Any] = info.get_parameters() | {
            "password": info.password or None,
            "application_name": "alembic_online watch",
            "connect_timeout": "10",
        }
        try:
            with psycopg.connect(**parameters, autocommit=True) as connection:
                self._look(connection)
        except psycopg.Error as error:
            log.debug("%s is not watched: %s", self._what, first_line(error))

    def _look(self, connection: psycopg.Connection[Any]) -> None:
        pid = self._driver.info.backend_pid
        next_log = blocked_since = 0.0
        while not self._done.is_set():
            now = time.monotonic()
            holders = [row[0] for row in connection.execute(catalog.BLOCKERS, {"pid": pid}).fetchall()]
            progress = connection.execute(catalog.PROGRESS, {"pid": pid}).fetchone()
            blocked_since = (blocked_since or now) if holders else 0.0
            if now >= next_log:
                if holders:
                    log.info("%s waits for %s", self._what, "; ".join(holders))
                elif progress is not None:
                    log.info("%s: %s", self._what, progress[0])
                next_log = now + LOG_EVERY_SECONDS
            if holders and self._wait is not None and now - blocked_since >= self._wait:
                self.gave_up = (
                    f"gave up after {self._wait:g} s: {self._what} waits for {'; '.join(holders)}; what is"
                    " finished stays, and the next run goes on from there"
                )
                while not self._done.wait(0.2):  # a cancel may come between two statements
                    with suppress(psycopg.Error):
                        if isinstance(self._driver, psycopg.Connection):
                            self._driver.cancel_safe(timeout=5)
                        else:
                            self._driver.cancel()
                return
            self._done.wait(0.5)
