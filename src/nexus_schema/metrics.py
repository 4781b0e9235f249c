"""Metrics of the voice translation service: a row for each message, and never harm to who writes it."""

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

from nexus_schema.errors import SchemaError, describe, enabled, is_seconds
from nexus_schema.models import Base, ConversationMetric

log = logging.getLogger(__name__)

LOG_EVERY_SECONDS = 60.0
"""Failures are logged once in so many seconds, with their number."""

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
    """Write a row of conversation_metrics, if METRICS_ENABLED says so; return whether it was written.

    Never raises: a failure is logged, at most once a minute and with the number of failures since.

    :param database: an engine: the row is written over a new connection, outside the engine's pool. A
        connection or session that is in a transaction: the row becomes part of it, behind a savepoint, and
        is committed with it. One that is in none is left in none, and the row is committed.
    :param timeout: the longest that this may take, in seconds; then the row is given up. To connect, psycopg
        takes whole seconds, at least 2, for each address of the server. Looking up a host name has limits of
        its own, and so have an engine's ``creator`` and a session that has to connect first. On a connection
        of the caller's the server keeps the time: one that has fallen silent holds it like any statement.
    :param fields: the columns of :class:`models.ConversationMetric`, durations in milliseconds.
    """
    if not enabled("METRICS_ENABLED"):
        return False
    with _failures.logged():
        row = _checked(fields, timeout)
        bind = _bind(database)
        if isinstance(bind, Engine):
            _write_apart(bind, row, timeout)
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
    """Do what :func:`record_conversation_metrics` does, with an engine, connection or session of asyncio.

    Given an engine, it uses the engine's pool; the timeout is exact, and includes all waits for a connection.
    """
    if not enabled("METRICS_ENABLED"):
        return False
    with _failures.logged():
        row = _checked(fields, timeout)
        if isinstance(database, AsyncSession):
            bind = await _to_its_end(database.run_sync(_bind))
            database = AsyncEngine(bind) if isinstance(bind, Engine) else database
        if isinstance(database, AsyncEngine):
            await _write_apart_async(database, row, timeout)
        elif isinstance(database, AsyncConnection):
            await _to_its_end(database.run_sync(_write, row, timeout))
        elif isinstance(database, AsyncSession):
            await _to_its_end(database.run_sync(lambda _: _write(bind, row, timeout)))
        else:
            raise _wrong(database, "an AsyncEngine, AsyncConnection or AsyncSession")
        log.info("[Metrics] write ok")
        return True
    return False


def _wrong(database: object, wanted: str) -> SchemaError:
    return SchemaError(f"pass {wanted}, not an object of {type(database).__name__}")


def _bind(database: Engine | Connection | Session) -> Engine | Connection:
    """Return where to write: a session that is in no transaction shall be in none afterwards."""
    if isinstance(database, Engine | Connection):
        return database
    if not isinstance(database, Session):
        raise _wrong(database, "an Engine, Connection or Session")
    if database.in_transaction():
        return database.connection(bind_arguments={"mapper": ConversationMetric})
    return database.get_bind(ConversationMetric)


def _checked(fields: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Return the row; raises :class:`SchemaError` that names each field that the table would not take."""
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
        return f"is no field of {_TABLE.name}"
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
            return "holds a character that PostgreSQL does not take"
    return None


# The timeout ends with the transaction; within the caller's, the value before it is put back.
_SET_TIMEOUT = text(
    "SELECT current_setting('statement_timeout'), set_config('statement_timeout', :milliseconds, true)"
)


def _write(connection: Connection, row: Mapping[str, Any], timeout: float) -> None:
    with _apart(connection) as within:
        milliseconds = str(max(1, round(timeout * 1000)))
        before, _ = connection.execute(_SET_TIMEOUT, {"milliseconds": milliseconds}).one()
        connection.execute(insert(_TABLE).values(**row))
        if within:
            connection.execute(_SET_TIMEOUT, {"milliseconds": before})


@contextmanager
def _apart(connection: Connection) -> Iterator[bool]:
    """Begin a transaction, or a savepoint within the caller's; undo it alone when something goes wrong.

    Yields whether it is within one.
    """
    driver: Any = connection.connection
    within = connection.in_transaction()
    if not driver.autocommit:
        with connection.begin_nested() if within else connection.begin():
            yield within
        return
    # To SQLAlchemy every statement stands alone here, but the caller may have begun by hand.
    by_hand = driver.driver_connection.info.transaction_status != pq.TransactionStatus.IDLE
    begin, end, undo = _SAVEPOINT if by_hand else _TRANSACTION
    try:
        connection.exec_driver_sql(begin)
        try:
            yield by_hand
        except BaseException:
            connection.exec_driver_sql(undo)
            raise
        connection.exec_driver_sql(end)
    finally:
        if not (within or by_hand):
            connection.rollback()  # of SQLAlchemy's own notion; the server's transaction has ended


_TRANSACTION = ("BEGIN", "COMMIT", "ROLLBACK")
_SAVEPOINT = tuple(f"{verb} SAVEPOINT nexus_metrics" for verb in ("", "RELEASE", "ROLLBACK TO"))

# Shares of the timeout: the server gives up first, so that the connection stays usable; then the client.
_SERVER_SHARE, _CLIENT_SHARE = 0.8, 0.9
_TOO_LATE = "the database took longer than {:g} s"
_deadline: ContextVar[float | None] = ContextVar("_deadline", default=None)


@event.listens_for(Engine, "do_connect")
def _limit_connecting(_dialect: object, _record: object, _args: object, parameters: dict[str, Any]) -> None:
    if (deadline := _deadline.get()) is not None:
        parameters["connect_timeout"] = max(1, int(deadline - time.monotonic()) + 1)


def _wait(driver: Any, *steps: Any, **options: Any) -> Any:
    # Without a deadline, as the driver itself: a creator may lend the connection to others afterwards.
    if (deadline := _deadline.get()) is not None:
        options["timeout"] = max(0, deadline - time.monotonic())
    return type(driver).wait(driver, *steps, **options)


def _write_apart(engine: Engine, row: Mapping[str, Any], timeout: float) -> None:
    """Write over a new connection, made as the engine makes its own, and limit every wait on it.

    The engine's pool takes no deadline, neither for the wait for a free connection nor for a ping of one
    whose server has fallen silent.
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
                connection.invalidate()  # closed without a rollback, to which a silent server has no answer
                raise
    except Exception as error:
        if time.monotonic() < deadline:
            raise
        raise SchemaError(_TOO_LATE.format(timeout)) from error
    finally:
        _deadline.set(None)
        pool.dispose()


async def _write_apart_async(engine: AsyncEngine, row: Mapping[str, Any], timeout: float) -> None:
    # The first makes psycopg ask the server to cancel, and wait ten seconds for that. The second ends that.
    first, second = asyncio.timeout(_CLIENT_SHARE * timeout), asyncio.timeout(timeout)
    try:
        async with second, first, engine.connect() as connection:
            await connection.run_sync(_write, row, _SERVER_SHARE * timeout)
    except TimeoutError:
        raise SchemaError(_TOO_LATE.format(timeout)) from None


async def _to_its_end(work: Coroutine[Any, Any, Any]) -> Any:
    """Await what uses the caller's connection, to its end even when the caller is cancelled.

    Cancelling it would cut the connection, and the caller's transaction with it. The timeout ends it.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


class _Failures:
    """Swallows failures and logs them, once in a while with their number."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0
        self._last_logged: float | None = None

    @contextmanager
    def logged(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - metrics never harm the caller
            with self._lock:
                self._number += 1
                now = time.monotonic()
                if self._last_logged is not None and now - self._last_logged < LOG_EVERY_SECONDS:
                    return
                number, self._number, self._last_logged = self._number, 0, now
            line = describe(error) or f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            log.warning("[Metrics] write failed (%d since the last such line): %s", number, line)


_failures = _Failures()
