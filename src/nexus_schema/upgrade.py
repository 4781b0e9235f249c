"""Migrations at start-up, which a server runs before it serves requests."""

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any

import psycopg
from alembic import command
from alembic.migration import MigrationContext
from alembic.runtime.migration import MigrationInfo
from psycopg import errors as pg
from sqlalchemy import URL, Connection, Engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from nexus_schema.database import (
    connection_parameters,
    database_url,
    in_background,
    migration_url,
    parse_url,
    url_from,
)
from nexus_schema.errors import SchemaError, full_report, is_seconds, is_unreachable, user_message
from nexus_schema.lock import lock_migrations
from nexus_schema.scripts import check_known, check_numbers, is_newer, name_of, script_directory
from nexus_schema.session import check_engine, migration_connection

log = logging.getLogger(__name__)

# The version table of the first schema of the search_path. One in a later schema would belong to another
# project. A server at head executes this statement only.
_REVISIONS = (
    "SELECT version_num FROM alembic_version"
    " WHERE tableoid = to_regclass(format('%I.alembic_version', current_schema()))"
)
# The start time identifies the server, and needs no privilege.
_WHERE = "SELECT current_schema(), current_database(), extract(epoch FROM pg_postmaster_start_time())::float8"

CONNECT_TIMEOUT = 10
"""Seconds that libpq tries each address, unless the URL says otherwise; libpq's own default is minutes."""

_DRIVERS = ("psycopg", "psycopg_async")

# Alembic's op and context are global to the process.
_alembic_in_use = threading.Lock()


class Outcome(StrEnum):
    """How a call of :func:`upgrade_database` ended."""

    UPGRADED = "upgraded"
    AT_HEAD = "at head"
    AHEAD = "ahead"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class AppliedRevision:
    """A revision that this call applied: the name of its file, and its duration in seconds."""

    name: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class UpgradeResult:
    """The result of a call.

    ``applied``: the revisions that this call applied, even if a later one failed.
    ``error``: the failure in one line, with the original error as its ``__cause__``; None unless failed.
    """

    outcome: Outcome
    applied: tuple[AppliedRevision, ...] = ()
    error: SchemaError | None = None


def upgrade_database(
    database: str | URL | Engine | None = None,
    *,
    online: bool = False,
    connect_wait: float = 60.0,
    lock_wait: float | None = None,
    raise_on_error: bool = False,
) -> UpgradeResult:
    """Upgrade a database to the newest revision, and return what happened.

    At the newest revision, it needs one connection and one small query. Otherwise it takes the migration
    lock, checks again and upgrades: on MIGRATION_DATABASE_URL if that is set, else over a new connection with
    the parameters of the given one. A failure is logged in full and returned, not raised.

    :param database: a URL or an engine of psycopg 3; None: the URL in DATABASE_URL. The schema is the first
        of its search_path, as it is outside of a transaction.
    :param online: do not block reads and writes (:mod:`alembic_online`). After a failure, finished operations
        stay, and the next call continues from there.
    :param connect_wait: how many seconds in total to wait for a database that cannot be reached.
    :param lock_wait: how many seconds to wait for another migration and, online, for a blocking session;
        None: no limit.
    :param raise_on_error: raise :class:`SchemaError` on a failure, after logging it.
    """
    return _Upgrade(
        partial(_reader, database),
        online=online,
        connect_wait=connect_wait,
        lock_wait=lock_wait,
        raise_on_error=raise_on_error,
    ).run()


async def upgrade_database_async(
    database: str | URL | Engine | AsyncEngine | None = None,
    *,
    online: bool = False,
    connect_wait: float = 60.0,
    lock_wait: float | None = None,
    raise_on_error: bool = False,
) -> UpgradeResult:
    """Run :func:`upgrade_database` in a thread, so that the event loop continues.

    Accepts an ``AsyncEngine`` as well. Cancelling the task cancels the running statement on the server and
    rolls back the unfinished revision.
    """
    loop = asyncio.get_running_loop()
    reader = (
        partial(_async_reader, database, loop)
        if isinstance(database, AsyncEngine)
        else partial(_reader, database)
    )
    upgrade = _Upgrade(
        reader,
        online=online,
        connect_wait=connect_wait,
        lock_wait=lock_wait,
        raise_on_error=raise_on_error,
    )
    try:
        return await asyncio.to_thread(upgrade.run)
    except asyncio.CancelledError:
        loop.run_in_executor(None, upgrade.cancel)
        raise


@dataclass(frozen=True, kw_only=True)
class _State:
    """The state of the given database. Only ``revisions`` is set if it is at head."""

    revisions: frozenset[str]
    schema: str | None = None
    identity: tuple[object, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)


# Reads the state of the given database; the argument is the revisions of a database at head.
_Read = Callable[[frozenset[str]], _State]


def _reader(database: str | URL | Engine | AsyncEngine | None) -> _Read:
    if isinstance(database, Engine):
        engine = database
        check_engine(engine, *_DRIVERS)

        def read_engine(heads: frozenset[str]) -> _State:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                return _read_connection(connection, heads)

        return read_engine
    if isinstance(database, AsyncEngine):
        raise SchemaError("an AsyncEngine needs upgrade_database_async()")
    if database is None:
        url = database_url()
    elif isinstance(database, URL):
        url = database
    elif isinstance(database, str):
        url = parse_url(database, "the database URL")
    else:
        raise SchemaError(f"pass a URL or an engine, not an object of {type(database).__name__}")
    if url.get_backend_name() != "postgresql":
        raise SchemaError(
            f"the database URL is one of {url.get_backend_name()}; this schema needs PostgreSQL"
        )
    url = url.set(drivername="postgresql+psycopg")
    _, parameters = url.get_dialect()().create_connect_args(url)
    parameters.setdefault("connect_timeout", str(CONNECT_TIMEOUT))

    def read_url(heads: frozenset[str]) -> _State:
        # Without an engine, which would query the server version and more first.
        with psycopg.connect(**parameters, autocommit=True) as connection:
            return _read(connection, connection, heads)

    return read_url


def _async_reader(engine: AsyncEngine, loop: asyncio.AbstractEventLoop) -> _Read:
    """Return a reader that works in the engine's event loop, for a caller in another thread."""
    check_engine(engine.sync_engine, *_DRIVERS)

    async def ask(heads: frozenset[str]) -> _State:
        async with engine.connect() as connection:
            connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            return await connection.run_sync(_read_connection, heads)

    return lambda heads: asyncio.run_coroutine_threadsafe(ask(heads), loop).result()


def _read_connection(connection: Connection, heads: frozenset[str]) -> _State:
    return _read(connection.connection, connection.connection.driver_connection, heads)


def _read(connection: Any, driver: Any, heads: frozenset[str]) -> _State:
    """Read over a DBAPI connection in autocommit mode; ``driver`` is the psycopg connection below it."""
    cursor = connection.cursor()
    try:
        cursor.execute(_REVISIONS)
        revisions = frozenset(_text(row[0]) for row in cursor.fetchall())
    except pg.UndefinedTable:
        revisions = frozenset()
    if revisions == heads:
        return _State(revisions=revisions)
    cursor.execute(_WHERE)
    schema, database, started = cursor.fetchone()
    return _State(
        revisions=revisions,
        schema=None if schema is None else _text(schema),
        identity=(_text(database), started),
        parameters=connection_parameters(driver),
    )


def _text(value: Any) -> str:
    """Return a text from the server, which psycopg returns as bytes if client_encoding is SQL_ASCII."""
    return value.decode() if isinstance(value, bytes) else str(value)


def _check_seconds(**options: Any) -> None:
    for name, value in options.items():
        if not is_seconds(value) or not 0 <= value < float("inf"):
            raise SchemaError(f"{name} is {value!r}; it takes a number of seconds, 0 or more")


class _Upgrade:
    """One call of :func:`upgrade_database`."""

    def __init__(
        self,
        reader: Callable[[], _Read],
        *,
        online: bool,
        connect_wait: float,
        lock_wait: float | None,
        raise_on_error: bool,
    ) -> None:
        self._reader = reader
        self._online = online
        self._connect_wait = connect_wait
        self._lock_wait = lock_wait
        self._raise_on_error = raise_on_error
        self._applied: list[AppliedRevision] = []
        self._running = ""  # the name of the running revision
        self._reached = False  # whether this attempt got a connection for the migration
        self._driver: psycopg.Connection[Any] | None = None
        self._stop = threading.Event()
        self._idle = threading.Event()
        self._idle.set()

    def run(self) -> UpgradeResult:
        self._idle.clear()
        try:
            self._check_stop()
            _check_seconds(connect_wait=self._connect_wait, lock_wait=self._lock_wait or 0.0)
            self._config, self._script = script_directory()
            check_numbers(self._script)
            self._script.get_revision("head")  # raises for multiple heads
            self._heads = frozenset(self._script.get_heads())
            log.info("[Migr] Found %d migration file(s)", len(list(self._script.walk_revisions())))
            outcome = self._retry(self._reader())
        except Exception as error:  # whatever it is, the server starts
            if self._stop.is_set():
                log.info(
                    "[Migr] cancelled; unfinished work is rolled back; the next run continues from there"
                )
                raise
            state = (
                "is unfinished; the next run continues there"
                if self._online
                else "failed and was rolled back"
            )
            where = f"{self._running} {state}: " if self._running else ""
            line = user_message(error)
            log.log(
                logging.ERROR,
                "[Migr] %s%s",
                where,
                full_report(error),
                exc_info=error if line is None else None,
            )
            failure = SchemaError(where + (line or f"{type(error).__name__}: {error}"))
            failure.__cause__ = error.__cause__ if isinstance(error, SchemaError) else error
            if self._raise_on_error:
                raise failure from failure.__cause__
            return UpgradeResult(outcome=Outcome.FAILED, applied=tuple(self._applied), error=failure)
        finally:
            self._idle.set()
        log.info("[Migr] Migration run complete")
        return UpgradeResult(outcome=outcome, applied=tuple(self._applied))

    def cancel(self) -> None:
        """Cancel from another thread; returns when the run has ended."""
        self._stop.set()
        while not self._idle.wait(0.2):  # repeatedly: a cancel between two statements has no effect
            if self._driver is not None:
                with suppress(psycopg.Error):
                    self._driver.cancel_safe(timeout=5)

    def _check_stop(self, *_: object) -> None:
        if self._stop.is_set():
            raise SchemaError("cancelled")

    def _retry(self, read: _Read) -> Outcome:
        """Retry while the database cannot be reached, for at most ``connect_wait`` seconds in a row."""
        self._deadline, delay = time.monotonic() + self._connect_wait, 0.1
        lost_in: set[str] = set()
        while True:
            try:
                return self._attempt(read)
            except Exception as error:
                if not is_unreachable(error):
                    raise
                if self._reached:
                    if self._running in lost_in:  # this revision may crash the server
                        raise
                    lost_in.add(self._running)
                    self._deadline, delay = time.monotonic() + self._connect_wait, 0.1
                left = self._deadline - time.monotonic()
                if left <= 0:
                    raise
                pause = min(left, delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads replicas
                delay = min(2 * delay, 5.0)
                log.warning("[Migr] trying again in %.1f s: %s", pause, user_message(error))
                if self._stop.wait(pause):
                    raise SchemaError("cancelled while waiting for the database") from error

    def _attempt(self, read: _Read) -> Outcome:
        self._reached, self._running = False, ""
        state = self._read_in_time(read)
        outcome = self._outcome(state.revisions)
        if outcome is not None:
            return outcome
        direct = migration_url()
        url = direct or url_from(state.parameters)
        if "connect_timeout" not in url.query:
            seconds = max(2, min(CONNECT_TIMEOUT, round(self._connect_wait)))  # libpq raises 1 to 2
            url = url.update_query_dict({"connect_timeout": str(seconds)})
        with migration_connection(url, schema=state.schema) as connection:
            self._reached = True
            if direct is not None and self._identity(connection) != state.identity:
                raise SchemaError(
                    "MIGRATION_DATABASE_URL points to another database than the one to upgrade; set both to"
                    " the same one"
                )
            lock_migrations(connection, wait=self._lock_wait, stop=self._stop)
            current = frozenset(MigrationContext.configure(connection).get_current_heads())
            connection.rollback()
            outcome = self._outcome(current)
            if outcome is None:
                self._driver = connection.connection.driver_connection
                try:
                    self._apply(connection, current)
                finally:
                    self._driver = None
                outcome = Outcome.UPGRADED
        return outcome

    def _read_in_time(self, read: _Read) -> _State:
        """Read, with a time limit: an engine may wait for an unresponsive server without one."""
        reading = in_background(partial(read, self._heads))
        deadline = max(self._deadline, time.monotonic() + 1.0)
        while not wait([reading], timeout=0.1).done:
            self._check_stop()
            if time.monotonic() > deadline:
                raise pg.ConnectionTimeout(f"no answer within {max(1.0, self._connect_wait):g} s")
        state: _State = reading.result()
        return state

    def _identity(self, connection: Connection) -> tuple[object, ...]:
        _, *identity = connection.execute(text(_WHERE)).one()
        connection.rollback()
        return tuple(identity)

    def _outcome(self, revisions: frozenset[str]) -> Outcome | None:
        """Return the outcome if there is nothing to apply, or None."""
        if revisions == self._heads:
            log.info("[Migr] already at %s", ", ".join(sorted(revisions)))
            # An earlier attempt of this call may have lost its connection after the last revision.
            return Outcome.UPGRADED if self._applied else Outcome.AT_HEAD
        if not is_newer(self._script, revisions):
            check_known(self._script, revisions)
            return None
        names = ", ".join(sorted(revisions))
        log.warning(
            "[Migr] the database is ahead of this code: it is at %s, and %s is the newest revision known"
            " here; nothing to do",
            names,
            ", ".join(sorted(self._heads)),
        )
        return Outcome.AHEAD

    def _apply(self, connection: Connection, current: frozenset[str]) -> None:
        names = [name_of(step) for step in self._script.iterate_revisions("heads", tuple(current))][::-1]
        to_come = iter(names)
        started = time.monotonic()
        stamped: list[str] = []
        self._running = next(to_come)

        def version_applied(*, step: MigrationInfo, **_: object) -> None:
            stamped.append(name_of(self._script.get_revision(str(step.up_revision_id))))

        def finished(*_: object) -> None:
            """Record what is committed: when the next transaction begins, and at the end."""
            nonlocal started
            now = time.monotonic()
            for name in stamped:
                self._applied.append(AppliedRevision(name=name, seconds=now - started))
                log.info("[Migr] applied %s in %.2f s", name, now - started)
                started = now
                self._running = next(to_come, "")
            stamped.clear()

        event.listen(connection, "begin", finished)
        event.listen(connection, "before_cursor_execute", self._check_stop)
        self._config.attributes |= {
            "prepared_connection": connection,
            "on_version_apply": version_applied,
            "online": self._online,
            "lock_wait": self._lock_wait,
        }
        with _alembic_in_use:
            command.upgrade(self._config, "heads")
        finished()
