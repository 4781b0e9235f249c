"""Metrics of the voice translation service: a row for each message. A failure never affects the caller."""

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import partial
from typing import Any, TypedDict, Unpack

from psycopg import pq
from sqlalchemy import Connection, Engine, String, event, insert, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from nexus_schema.errors import SchemaError, enabled, is_seconds, user_message
from nexus_schema.models import Base, ConversationMetric

log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 60.0
"""Failures are logged at most once in this many seconds, with their number."""

LONGEST_TIMEOUT = 3600.0
"""The longest timeout of a write, in seconds."""

_INTEGERS = range(-(2**31), 2**31)
_TABLE = Base.metadata.tables[ConversationMetric.__tablename__]


class ConversationMetrics(TypedDict, total=False):
    """The fields of :class:`models.ConversationMetric`; durations are in milliseconds."""

    id: uuid.UUID
    conversation_id: str | None
    user_id: str | None
    record_ms: int | None
    whisper_ms: int | None
    translate_ms: int | None
    tts_ms: int | None
    detected_lang: str | None
    target_lang: str | None
    voice_used: str | None
    created_at: datetime | None


def record_conversation_metrics(
    database: Engine | Connection | Session, *, timeout: float = 1.0, **fields: Unpack[ConversationMetrics]
) -> bool:
    """Write a row of conversation_metrics if METRICS_ENABLED is on; return whether it was written.

    Never raises: failures are logged, at most once a minute, with their number.

    :param database: an engine: the row is written over a new connection, outside the engine's pool. A
        connection or session in a transaction: the row is written behind a savepoint, and committed with
        the transaction. A connection or session in no transaction: the row is committed, and no transaction
        stays open.
    :param timeout: after this many seconds, the write is abandoned. To connect, psycopg takes whole seconds,
        at least 2 for each address of the server. The lookup of a host name, an engine's ``creator`` and a
        session that has to connect first have their own limits. On a connection of the caller, the server
        enforces the timeout; if the server does not respond, the write hangs like any other statement.
    :param fields: the columns of :class:`models.ConversationMetric`, durations in milliseconds.
    """
    if not enabled("METRICS_ENABLED"):
        return False
    with _failures.logged():
        row = _checked(fields, timeout)
        bind = _bind(database)
        if isinstance(bind, Engine):
            _write_with_engine(bind, row, timeout)
        else:
            _write(bind, row, timeout)
        log.info("[Metrics] write ok")
        return True
    return False


async def record_conversation_metrics_async(
    database: AsyncEngine | AsyncConnection | AsyncSession,
    *,
    timeout: float = 1.0,
    **fields: Unpack[ConversationMetrics],
) -> bool:
    """Do the same as :func:`record_conversation_metrics`, with an asyncio engine, connection or session.

    An engine is used through its pool. The timeout is exact, and includes all waits for a connection.
    """
    if not enabled("METRICS_ENABLED"):
        return False
    with _failures.logged():
        row = _checked(fields, timeout)
        if isinstance(database, AsyncSession):
            bind = await _shielded(database.run_sync(_bind))
            database = AsyncEngine(bind) if isinstance(bind, Engine) else database
        if isinstance(database, AsyncEngine):
            await _write_with_engine_async(database, row, timeout)
        elif isinstance(database, AsyncConnection):
            await _shielded(database.run_sync(_write, row, timeout))
        elif isinstance(database, AsyncSession):
            await _shielded(database.run_sync(lambda _: _write(bind, row, timeout)))
        else:
            raise _wrong(database, "an AsyncEngine, AsyncConnection or AsyncSession")
        log.info("[Metrics] write ok")
        return True
    return False


def _wrong(database: object, wanted: str) -> SchemaError:
    return SchemaError(f"pass {wanted}, not an object of {type(database).__name__}")


def _bind(database: Engine | Connection | Session) -> Engine | Connection:
    """Return where to write. A session in no transaction must be in none afterwards."""
    if isinstance(database, Engine | Connection):
        return database
    if not isinstance(database, Session):
        raise _wrong(database, "an Engine, Connection or Session")
    if database.in_transaction():
        return database.connection(bind_arguments={"mapper": ConversationMetric})
    return database.get_bind(ConversationMetric)


def _checked(fields: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Return the row; raise :class:`SchemaError` that names each field that the table would not accept."""
    if not is_seconds(timeout) or not 0 < timeout <= LONGEST_TIMEOUT:
        raise SchemaError(
            f"timeout is {timeout!r}; it takes seconds, more than 0 and at most {LONGEST_TIMEOUT:g}"
        )
    wrong = [f"{name} {what}" for name, value in fields.items() if (what := _problem(name, value))]
    if wrong:
        raise SchemaError("; ".join(wrong))
    return dict(fields)


def _problem(name: str, value: Any) -> str | None:
    column = _TABLE.columns.get(name)
    if column is None:
        return f"is not a field of {_TABLE.name}"
    if value is None:
        return None if column.nullable else "is None"
    kind = column.type.python_type
    if not isinstance(value, kind) or isinstance(value, bool):
        return f"is of type {type(value).__name__}, not {kind.__name__}"
    if isinstance(value, int) and value not in _INTEGERS:
        return "is out of range"
    if isinstance(value, str):
        limit = column.type.length if isinstance(column.type, String) else None
        if limit is not None and len(value) > limit:
            return f"is longer than {limit} characters ({len(value)})"
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value):
            return "contains a character that PostgreSQL does not accept"
    return None


# The setting ends with the transaction. In a transaction of the caller, the previous value is restored.
_SET_TIMEOUT = text(
    "SELECT current_setting('statement_timeout'), set_config('statement_timeout', :milliseconds, true)"
)


def _write(connection: Connection, row: Mapping[str, Any], timeout: float) -> None:
    with _atomic(connection) as within:
        milliseconds = str(max(1, round(timeout * 1000)))
        before, _ = connection.execute(_SET_TIMEOUT, {"milliseconds": milliseconds}).one()
        connection.execute(insert(_TABLE).values(**row))
        if within:
            connection.execute(_SET_TIMEOUT, {"milliseconds": before})


@contextmanager
def _atomic(connection: Connection) -> Iterator[bool]:
    """Begin a transaction, or a savepoint in the caller's transaction; on failure, roll back only that.

    Yields whether it is in a transaction of the caller.
    """
    driver: Any = connection.connection
    within = connection.in_transaction()
    if not driver.autocommit:
        with connection.begin_nested() if within else connection.begin():
            yield within
        return
    # To SQLAlchemy, each statement is a transaction here, but the caller may have executed BEGIN.
    begun = driver.driver_connection.info.transaction_status != pq.TransactionStatus.IDLE
    begin, end, undo = _SAVEPOINT if begun else _TRANSACTION
    try:
        connection.exec_driver_sql(begin)
        try:
            yield begun
        except BaseException:
            connection.exec_driver_sql(undo)
            raise
        connection.exec_driver_sql(end)
    finally:
        if not (within or begun):
            connection.rollback()  # resets SQLAlchemy; the transaction of the server has ended


_TRANSACTION = ("BEGIN", "COMMIT", "ROLLBACK")
_SAVEPOINT = tuple(f"{verb} SAVEPOINT nexus_metrics" for verb in ("", "RELEASE", "ROLLBACK TO"))

# Fractions of the timeout: first the server cancels, so that the connection stays usable; then the client.
_SERVER_SHARE, _CLIENT_SHARE = 0.8, 0.9
_TOO_LATE = "the database took longer than {:g} s"
_deadline: ContextVar[float | None] = ContextVar("_deadline", default=None)


@event.listens_for(Engine, "do_connect")
def _limit_connecting(_dialect: object, _record: object, _args: object, parameters: dict[str, Any]) -> None:
    if (deadline := _deadline.get()) is not None:
        parameters["connect_timeout"] = max(1, int(deadline - time.monotonic()) + 1)


def _wait(driver: Any, *steps: Any, **options: Any) -> Any:
    # Without a deadline, wait as the driver does: a creator may hand the connection to others afterwards.
    if (deadline := _deadline.get()) is not None:
        options["timeout"] = max(0, deadline - time.monotonic())
    return type(driver).wait(driver, *steps, **options)


def _write_with_engine(engine: Engine, row: Mapping[str, Any], timeout: float) -> None:
    """Write over a new connection, opened as the engine opens its own, and limit every wait on it.

    A pool accepts no deadline, neither for the wait for a free connection nor for the ping of a connection
    whose server no longer responds.
    """
    if engine.dialect.driver != "psycopg":
        raise _wrong(engine.dialect, "an engine of postgresql+psycopg")
    pool = engine.pool.recreate()

    @event.listens_for(pool, "connect", insert=True)
    def limit_waits(driver: Any, _record: object) -> None:
        driver.wait = partial(_wait, driver)

    deadline = time.monotonic() + timeout
    _deadline.set(deadline)
    try:
        with Connection(engine, pool.connect()) as connection:
            try:
                _write(connection, row, _SERVER_SHARE * timeout)
            except Exception:
                connection.invalidate()  # closes it without a rollback, which the server might not answer
                raise
    except Exception as error:
        if time.monotonic() < deadline:
            raise
        raise SchemaError(_TOO_LATE.format(timeout)) from error
    finally:
        _deadline.set(None)
        pool.dispose()


async def _write_with_engine_async(engine: AsyncEngine, row: Mapping[str, Any], timeout: float) -> None:
    # The first makes psycopg ask the server to cancel, and wait for that for ten seconds. The second ends
    # this wait.
    first, second = asyncio.timeout(_CLIENT_SHARE * timeout), asyncio.timeout(timeout)
    try:
        async with second, first, engine.connect() as connection:
            await connection.run_sync(_write, row, _SERVER_SHARE * timeout)
    except TimeoutError:
        raise SchemaError(_TOO_LATE.format(timeout)) from None


async def _shielded(work: Coroutine[Any, Any, Any]) -> Any:
    """Await work on the caller's connection until it ends, even if the caller is cancelled.

    Cancelling the work would close the connection and end the caller's transaction. The timeout limits it.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


class _Failures:
    """Suppresses failures, and logs them with their number, at most once in LOG_EVERY_SECONDS."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._last_logged: float | None = None

    @contextmanager
    def logged(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - metrics never raise
            with self._lock:
                self._number += 1
                now = time.monotonic()
                if self._last_logged is not None and now - self._last_logged < LOG_EVERY_SECONDS:
                    return
                number, self._number, self._last_logged = self._number, 0, now
            line = user_message(error) or f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            log.warning("[Metrics] write failed (%d since the last report): %s", number, line)


_failures = _Failures()
