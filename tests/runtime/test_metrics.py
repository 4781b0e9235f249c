"""Metrics are written where they belong, and never harm their caller."""

import asyncio
import logging
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, get_type_hints

import psycopg
import pytest
from databases import WAITING, Database, url_of
from servers import own_server
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from nexus_schema import metrics, record_conversation_metrics, record_conversation_metrics_async
from nexus_schema.database import parse_url
from nexus_schema.metrics import ConversationMetrics
from nexus_schema.models import Base

FIELDS: ConversationMetrics = {
    "conversation_id": "c-1",
    "user_id": "u",
    "record_ms": 1,
    "whisper_ms": 2,
    "translate_ms": 3,
    "tts_ms": 4,
    "detected_lang": "en",
    "target_lang": "de",
    "voice_used": "v",
}


@pytest.fixture(autouse=True)
def enabled(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("METRICS_ENABLED", "true")
    monkeypatch.setattr(metrics, "_failures", metrics._Failures())
    caplog.set_level(logging.INFO, "nexus_schema.metrics")


@pytest.fixture
def engine(head: Database) -> Iterator[Engine]:
    engine = create_engine(parse_url(url_of(head)))
    yield engine
    engine.dispose()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("nexus_schema")]


def conversations(head: Database) -> list[Any]:
    return [row[0] for row in head.execute("SELECT conversation_id FROM conversation_metrics ORDER BY 1")]


def test_the_fields_are_those_of_the_model() -> None:
    table = Base.metadata.tables["conversation_metrics"]
    expected = {
        column.name: column.type.python_type if not column.nullable else column.type.python_type | None
        for column in table.columns
    }
    assert get_type_hints(ConversationMetrics) == expected


def test_every_field_is_written(head: Database, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    given: ConversationMetrics = {
        **FIELDS,
        "id": uuid.uuid4(),
        "created_at": datetime(2025, 6, 1),
    }
    assert record_conversation_metrics(engine, **given)
    names = ", ".join(given)
    assert head.execute(f"SELECT {names} FROM conversation_metrics").fetchall() == [tuple(given.values())]
    assert lines(caplog) == ["[Metrics] write ok"]


def test_nothing_given_is_a_row_of_defaults(head: Database, engine: Engine) -> None:
    assert record_conversation_metrics(engine)
    assert head.execute(
        "SELECT count(*) FROM conversation_metrics WHERE id IS NOT NULL AND created_at IS NOT NULL"
    ).fetchone() == (1,)


@pytest.mark.parametrize("value", ["true", "TRUE", "1", "Yes", "oN", " true "])
def test_enabled(head: Database, engine: Engine, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("METRICS_ENABLED", value)
    assert record_conversation_metrics(engine, **FIELDS)
    assert conversations(head) == ["c-1"]


@pytest.mark.parametrize("value", [None, "", "false", "0", "no", "off", "2", "enabled"])
def test_not_enabled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str | None
) -> None:
    """Nothing is accessed: the server cannot be reached, and the fields are wrong."""
    if value is None:
        monkeypatch.delenv("METRICS_ENABLED")
    else:
        monkeypatch.setenv("METRICS_ENABLED", value)
    wrong: Any = {"no_field": 1}
    assert not record_conversation_metrics(create_engine("postgresql+psycopg://127.0.0.1:1/d"), **wrong)
    nowhere = create_async_engine("postgresql+psycopg://127.0.0.1:1/d")
    assert not asyncio.run(record_conversation_metrics_async(nowhere, **wrong))
    assert lines(caplog) == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"voice_used": "x" * 51}, "voice_used is longer than 50 characters (51)"),
        ({"user_id": "ü" * 256}, "user_id is longer than 255 characters (256)"),
        ({"record_ms": "12"}, "record_ms is of type str, not int"),
        ({"record_ms": 1.5}, "record_ms is of type float, not int"),
        ({"tts_ms": True}, "tts_ms is of type bool, not int"),
        ({"tts_ms": 2**31}, "tts_ms is out of range"),
        ({"target_lang": b"de"}, "target_lang is of type bytes, not str"),
        ({"target_lang": "d\0"}, "target_lang contains a character that PostgreSQL does not accept"),
        ({"target_lang": "d\ud800"}, "target_lang contains a character that PostgreSQL does not accept"),
        ({"created_at": "now"}, "created_at is of type str, not datetime"),
        ({"id": None}, "id is None"),
        ({"id": "1"}, "id is of type str, not UUID"),
        ({"speaker": "x"}, "speaker is not a field of conversation_metrics"),
        ({"speaker": "x", "id": None, "conversation_id": "c"}, "speaker is not a field"),
    ],
)
def test_wrong_values_are_reported_by_name(
    head: Database, engine: Engine, caplog: pytest.LogCaptureFixture, fields: Any, expected: str
) -> None:
    assert not record_conversation_metrics(engine, **fields)
    assert len(lines(caplog)) == 1
    assert expected in lines(caplog)[0]
    assert conversations(head) == []


def test_the_longest_values_fit(head: Database, engine: Engine) -> None:
    assert record_conversation_metrics(
        engine, user_id="ü" * 255, voice_used="\U0001f600" * 50, tts_ms=-(2**31)
    )
    assert head.execute(
        "SELECT length(user_id), length(voice_used) FROM conversation_metrics"
    ).fetchone() == (
        255,
        50,
    )


# What the caller may pass, each in a transaction that has already written.
def in_connection(engine: Engine, work: Any) -> None:
    with engine.begin() as connection:
        work(connection, connection)


def in_session(engine: Engine, work: Any) -> None:
    with Session(engine) as session, session.begin():
        work(session, session)


def in_manual_transaction(engine: Engine, work: Any) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("BEGIN")
        work(connection, connection)
        connection.exec_driver_sql("COMMIT")


CALLERS = [in_connection, in_session, in_manual_transaction]
OWN_ROW = text("INSERT INTO conversation_metrics (conversation_id) VALUES ('own')")


@pytest.mark.parametrize("caller", CALLERS)
def test_it_joins_the_transaction_of_its_caller(head: Database, engine: Engine, caller: Any) -> None:
    def work(target: Any, executing: Connection) -> None:
        executing.execute(text("SET LOCAL statement_timeout = '77s'"))
        executing.execute(OWN_ROW)
        assert record_conversation_metrics(target, **FIELDS)
        assert conversations(head) == [], "nothing is committed yet"
        assert executing.execute(text("SHOW statement_timeout")).scalar() == "77s"

    caller(engine, work)
    assert conversations(head) == ["c-1", "own"]


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(
    "harm",
    [
        "ALTER TABLE conversation_metrics ADD CHECK (tts_ms < 0)",
        "ALTER TABLE conversation_metrics RENAME COLUMN tts_ms TO other",
        "LOCK",
    ],
)
def test_a_failed_write_leaves_the_transaction_unchanged(
    head: Database, engine: Engine, caplog: pytest.LogCaptureFixture, caller: Any, harm: str
) -> None:
    def work(target: Any, executing: Connection) -> None:
        executing.execute(text("SET LOCAL statement_timeout = '77s'"))
        executing.execute(text("CREATE TABLE own (id int)"))
        if harm == "LOCK":
            # Only this thread releases it: a call that waited for it would never return.
            locker.execute("LOCK TABLE conversation_metrics IN ACCESS EXCLUSIVE MODE")
        assert not record_conversation_metrics(target, timeout=0.2, **FIELDS)
        assert executing.execute(text("SHOW statement_timeout")).scalar() == "77s"
        executing.execute(text("INSERT INTO own VALUES (1)"))

    if harm != "LOCK":
        head.execute(harm)
    with psycopg.connect(url_of(head)) as locker:
        caller(engine, work)
    assert head.execute("SELECT id FROM own").fetchall() == [(1,)]
    assert conversations(head) == []
    assert len(lines(caplog)) == 1
    assert lines(caplog)[0].startswith("[Metrics] write failed (1 since the last report): ")
    assert "c-1" not in lines(caplog)[0], "no values of the row"


def test_a_session_in_a_transaction_that_failed_before(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with Session(engine) as session:
        with pytest.raises(Exception, match="division by zero"):
            session.execute(text("SELECT 1 / 0"))
        assert not record_conversation_metrics(session, **FIELDS)
        session.rollback()
        assert session.scalar(text("SELECT 1")) == 1
    assert "current transaction is aborted" in lines(caplog)[0]


@pytest.mark.parametrize("kind", ["connection", "session", "autocommit"])
def test_outside_of_a_transaction_it_is_committed_at_once(head: Database, engine: Engine, kind: str) -> None:
    options = {"isolation_level": "AUTOCOMMIT"} if kind == "autocommit" else {}
    opened = Session(engine) if kind == "session" else engine.connect().execution_options(**options)
    with opened as target:
        assert record_conversation_metrics(target, **FIELDS)
        assert conversations(head) == ["c-1"]
        assert not target.in_transaction()
        assert target.scalar(text("SHOW statement_timeout")) == "0"


def test_a_write_does_not_flush_the_session(head: Database, engine: Engine) -> None:
    """Objects that the caller has not flushed yet may be invalid, which does not concern metrics."""
    from nexus_schema.models import ConversationMetric

    with Session(engine) as session:
        session.begin()
        pending = ConversationMetric(voice_used="x" * 51)
        session.add(pending)
        assert record_conversation_metrics(session, **FIELDS)
        assert pending in session.new
        session.expunge(pending)
        session.commit()
    assert conversations(head) == ["c-1"]


def test_a_locked_table(head: Database, engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    with psycopg.connect(url_of(head)) as locker:
        locker.execute("LOCK TABLE conversation_metrics IN ACCESS EXCLUSIVE MODE")
        assert not record_conversation_metrics(engine, timeout=0.2, **FIELDS)
        assert not asyncio.run(write_async(head, "engine", timeout=0.2))
    assert len(lines(caplog)) == 1, "the second counts for the next line"
    assert record_conversation_metrics(engine, **FIELDS)
    assert conversations(head) == ["c-1"], "what was given up is not written later"


def test_a_pool_without_a_free_connection(head: Database, caplog: pytest.LogCaptureFixture) -> None:
    """A synchronous write opens its own connection; an asyncio one waits for the pool until its timeout."""
    options: Any = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 3600}
    engine = create_engine(parse_url(url_of(head)), **options)
    with engine.connect():
        assert record_conversation_metrics(engine, **FIELDS)
    engine.dispose()
    assert conversations(head) == ["c-1"]

    async def wait_for_it() -> None:
        engine = create_async_engine(parse_url(url_of(head)), **options)
        async with engine.connect():
            assert not await record_conversation_metrics_async(engine, timeout=0.1, **FIELDS)
        assert await record_conversation_metrics_async(engine, **FIELDS)
        await engine.dispose()

    asyncio.run(wait_for_it())
    assert "the database took longer than 0.1 s" in caplog.text
    assert conversations(head) == ["c-1", "c-1"], "what was given up is not written later"


@contextmanager
def silent_port() -> Iterator[tuple[str, int]]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield server.getsockname()


def test_a_dead_database_blocks_no_other_and_recovers_at_once(head: Database, engine: Engine) -> None:
    failing = create_engine(parse_url(url_of(head)))
    connecting: list[bool] = []
    with silent_port() as (host, port), ThreadPoolExecutor(20) as callers:

        @event.listens_for(failing, "do_connect")
        def connect(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
            connecting.append(True)
            if len(connecting) <= 20:
                parameters.update(host=host, port=port)

        write = partial(record_conversation_metrics, failing, timeout=3, **FIELDS)
        hanging = [callers.submit(write) for _ in range(20)]
        while len(connecting) < 20 and not any(call.done() for call in hanging):
            time.sleep(0.02)
        assert record_conversation_metrics(engine, timeout=10, **FIELDS), "another database"
        assert record_conversation_metrics(failing, timeout=10, **FIELDS), "the same one, back again"
        assert not any(call.result() for call in hanging)
    failing.dispose()
    assert conversations(head) == ["c-1", "c-1"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_server_that_does_not_answer(caplog: pytest.LogCaptureFixture, kind: str) -> None:
    with silent_port() as (host, port):
        url = f"postgresql+psycopg://u:secret@{host}:{port}/d"
        started = time.monotonic()
        if kind == "sync":
            assert not record_conversation_metrics(create_engine(url), timeout=0.1, **FIELDS)
        else:
            writing = record_conversation_metrics_async(create_async_engine(url), timeout=0.1, **FIELDS)
            assert not asyncio.run(writing)
    assert time.monotonic() - started < 60, "the driver itself waits 130 s"
    assert "secret" not in caplog.text
    assert len(lines(caplog)) == 1


@pytest.fixture
def stoppable() -> Iterator[tuple[URL, Callable[[Any], None]]]:
    """A server, and a function that stops the server process of a connection, which then never answers."""
    with own_server() as server, ExitStack() as stack:

        def stop(connection: Any) -> None:
            process = connection.driver_connection.info.backend_pid
            os.kill(process, signal.SIGSTOP)
            stack.callback(os.kill, process, signal.SIGCONT)

        url = parse_url(server.url())
        engine = create_engine(url)
        Base.metadata.tables["conversation_metrics"].create(engine)
        engine.dispose()
        yield url, stop


def test_a_server_that_falls_silent(
    stoppable: tuple[URL, Callable[[Any], None]], caplog: pytest.LogCaptureFixture
) -> None:
    url, stop = stoppable
    engine = create_engine(url)
    own = text("SELECT pg_backend_pid()")
    with engine.connect() as connection:
        pooled = connection.scalar(own)
    event.listen(engine, "engine_connect", lambda connection: stop(connection.connection), once=True)
    assert not record_conversation_metrics(engine, timeout=0.5, **FIELDS)
    assert "the database took longer than 0.5 s" in lines(caplog)[0]
    assert record_conversation_metrics(engine, timeout=10, **FIELDS)
    with engine.connect() as connection:
        assert connection.scalar(own) == pooled, "the engine's own connections are kept"
        assert connection.scalar(text("SELECT count(*) FROM conversation_metrics")) == 1
    engine.dispose()


@pytest.mark.parametrize("pre_ping", [False, True])
def test_a_pooled_connection_of_asyncio_that_falls_silent(
    stoppable: tuple[URL, Callable[[Any], None]], caplog: pytest.LogCaptureFixture, *, pre_ping: bool
) -> None:
    url, stop = stoppable

    async def run() -> None:
        engine = create_async_engine(url, pool_pre_ping=pre_ping)
        async with engine.connect() as connection:
            stop(await connection.get_raw_connection())
        started = time.monotonic()
        assert not await record_conversation_metrics_async(engine, timeout=0.5, **FIELDS)
        assert time.monotonic() - started < 4, "psycopg asks the server to cancel, which takes 5 s and more"
        assert await record_conversation_metrics_async(engine, timeout=10, **FIELDS)
        await engine.dispose()

    asyncio.run(run())
    assert "the database took longer than 0.5 s" in lines(caplog)[0]


def test_a_server_that_is_down(caplog: pytest.LogCaptureFixture) -> None:
    engine = create_engine("postgresql+psycopg://u:secret@127.0.0.1:1/d")
    assert not record_conversation_metrics(engine, **FIELDS)
    assert "cannot reach the database" in caplog.text
    assert "secret" not in caplog.text


def test_a_creator_with_its_own_pool(head: Database) -> None:
    """As with psycopg_pool: close() returns the connection to the pool, which lends it again."""

    class Lent(psycopg.Connection[Any]):
        def close(self) -> None:
            pass

    with Lent.connect(url_of(head)) as lent:
        engine = create_engine("postgresql+psycopg://", creator=lambda: lent, poolclass=NullPool)
        for _ in range(2):
            assert record_conversation_metrics(engine, timeout=0.5, **FIELDS)
        lent.execute("SELECT pg_sleep(0.6)")
        psycopg.Connection.close(lent)
    assert conversations(head) == ["c-1", "c-1"]


def test_an_error_without_a_message(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> Any:
        raise NotImplementedError

    assert not record_conversation_metrics(create_engine("postgresql+psycopg://", creator=fail), **FIELDS)
    assert lines(caplog)[0].endswith("NotImplementedError: ")


def test_failures_are_logged_once_a_minute_with_their_number(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    moments = iter([1000.0, 1001.0, 1059.9, 1060.0, 1119.0, 1200.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    engine = create_engine("postgresql+psycopg://u@127.0.0.1:1/d")
    wrong: Any = {"record_ms": "x"}
    for _ in range(6):
        assert not record_conversation_metrics(engine, **wrong)
    reason = "record_ms is of type str, not int"
    assert lines(caplog) == [
        f"[Metrics] write failed ({number} since the last report): {reason}" for number in (1, 3, 2)
    ]


async def write_async(head: Database, kind: str, **options: Any) -> bool:
    engine = create_async_engine(parse_url(url_of(head)))
    try:
        if kind == "engine":
            return await record_conversation_metrics_async(engine, **options, **FIELDS)
        if kind == "session":
            async with AsyncSession(engine) as session:
                return await record_conversation_metrics_async(session, **options, **FIELDS)
        if kind == "connection":
            async with engine.connect() as connection:
                return await record_conversation_metrics_async(connection, **options, **FIELDS)
        opened = AsyncSession(engine) if kind == "session in transaction" else engine.connect()
        async with opened as target, target.begin():
            await target.execute(text("CREATE TABLE IF NOT EXISTS own (id int)"))
            written = await record_conversation_metrics_async(target, **options, **FIELDS)
            await target.execute(text("INSERT INTO own VALUES (1)"))
        return written
    finally:
        await engine.dispose()


ASYNC_KINDS = ["engine", "session", "connection", "session in transaction", "connection in transaction"]


@pytest.mark.parametrize("kind", ASYNC_KINDS)
def test_async(head: Database, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    assert asyncio.run(write_async(head, kind))
    assert conversations(head) == ["c-1"]
    assert lines(caplog) == ["[Metrics] write ok"]
    with psycopg.connect(url_of(head)) as locker:
        locker.execute("LOCK TABLE conversation_metrics IN ACCESS EXCLUSIVE MODE")
        assert not asyncio.run(write_async(head, kind, timeout=0.2))
    assert conversations(head) == ["c-1"]
    if "transaction" in kind:
        assert head.execute("SELECT count(*) FROM own").fetchone() == (2,)


def test_async_cancelled(head: Database) -> None:
    """A cancelled caller is cancelled: metrics do not swallow that as a failure."""

    async def run() -> None:
        task = asyncio.create_task(write_async(head, "engine", timeout=60))
        while head.execute(WAITING).fetchone() == (0,):
            await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with psycopg.connect(url_of(head)) as locker:
        locker.execute("LOCK TABLE conversation_metrics IN ACCESS EXCLUSIVE MODE")
        asyncio.run(run())
    assert conversations(head) == []


def test_async_cancelled_in_the_callers_transaction(head: Database) -> None:
    """Cancelling the statement would break the caller's connection, so the write finishes first."""

    async def run() -> None:
        engine = create_async_engine(parse_url(url_of(head)))
        async with AsyncSession(engine) as session, session.begin():
            await session.execute(text("CREATE TABLE own (id int)"))
            write = asyncio.create_task(record_conversation_metrics_async(session, timeout=0.5, **FIELDS))
            while head.execute(WAITING).fetchone() == (0,):
                await asyncio.sleep(0.02)
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
            await session.execute(text("INSERT INTO own VALUES (1)"))
        await engine.dispose()

    with psycopg.connect(url_of(head)) as locker:
        locker.execute("LOCK TABLE conversation_metrics IN ACCESS EXCLUSIVE MODE")
        asyncio.run(run())
    assert head.execute("SELECT count(*) FROM own").fetchone() == (1,)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e12, "1", None, True])
def test_an_impossible_timeout(
    head: Database, engine: Engine, caplog: pytest.LogCaptureFixture, timeout: Any
) -> None:
    assert not record_conversation_metrics(engine, timeout=timeout, **FIELDS)
    assert f"timeout is {timeout!r}; it takes seconds" in lines(caplog)[0]
    assert conversations(head) == []


@pytest.mark.parametrize("what", ["postgresql://u:secret@h/d", None, 5])
def test_unsupported_objects(caplog: pytest.LogCaptureFixture, monkeypatch: Any, what: Any) -> None:
    monkeypatch.setattr(metrics, "LOG_EVERY_SECONDS", 0)
    assert not record_conversation_metrics(what, **FIELDS)
    assert not asyncio.run(record_conversation_metrics_async(what, **FIELDS))
    kind = type(what).__name__
    for line, names in zip(
        lines(caplog), ("Engine, Connection", "AsyncEngine, AsyncConnection"), strict=True
    ):
        assert f"pass an {names} or" in line
        assert line.endswith(f"not an object of {kind}")


def test_the_event_loop_is_not_blocked(head: Database) -> None:
    """Another task of the loop releases the lock: a blocked loop would never run it."""

    async def run() -> bool:
        locker = await psycopg.AsyncConnection.connect(url_of(head))
        await locker.execute("LOCK TABLE conversation_metrics IN ACCESS EXCLUSIVE MODE")
        write = asyncio.create_task(write_async(head, "engine", timeout=60))
        while head.execute(WAITING).fetchone() == (0,):
            await asyncio.sleep(0.02)
        await locker.close()
        return await write

    assert asyncio.run(run())


def test_created_at_is_the_servers(head: Database, engine: Engine) -> None:
    before = datetime.now(UTC)
    assert record_conversation_metrics(engine, **FIELDS)
    row = head.execute("SELECT created_at::timestamptz FROM conversation_metrics").fetchone()
    assert row is not None
    assert abs((row[0] - before).total_seconds()) < 3600
