"""upgrade_database(): what a server calls at start-up, with success and with failures."""

import asyncio
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from databases import SECRET, WAITING, Database, catalog, url_of, wait_until_a_session_waits
from marks import quick
from programs import Fork, alembic_program, copy_project, python_program
from servers import Server, directory, own_server, pooler
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from support import HEAD, NEXT, REVISIONS

from nexus_schema import Outcome, UpgradeResult, upgrade_database, upgrade_database_async
from nexus_schema.database import parse_url
from nexus_schema.errors import SchemaError
from nexus_schema.scripts import name_of, script_directory

NAMES = [name_of(revision) for revision in script_directory()[1].walk_revisions()][::-1]
LOGGERS = ("nexus_schema", "alembic.online")
LOCK = "SELECT pg_advisory_lock(hashtextextended('nexus_schema public', 0))"
TO_005 = "UPDATE alembic_version SET version_num = '005'; DROP TABLE conversation_metrics CASCADE"
START = "from nexus_schema import upgrade_database; print(upgrade_database())"


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.delenv("MIGRATION_DATABASE_URL", raising=False)
    for name in LOGGERS:
        caplog.set_level(logging.INFO, name)
    return caplog


@pytest.fixture
def server() -> Iterator[Server]:
    with own_server() as server:
        yield server


def applied(result: UpgradeResult) -> list[str]:
    return [revision.name for revision in result.applied]


def version(database: Database) -> list[tuple[str]]:
    return database.execute("SELECT version_num FROM alembic_version").fetchall()


def migr(log: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines that a host application would log, without durations."""
    lines = [
        record.getMessage()
        for record in log.records
        if record.name in {"nexus_schema.upgrade", "nexus_schema.lock"}
    ]
    assert all(line.startswith("[Migr] ") for line in lines)
    return [line.rpartition(" in ")[0] if line.startswith("[Migr] applied") else line for line in lines]


class Hook(logging.Handler):
    """Runs a function, once, in the thread that logs a certain line."""

    def __init__(self, line: str, work: Callable[[], None]) -> None:
        super().__init__()
        self._line, self._work = line, work
        self.hit = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.hit and self._line in record.getMessage():
            self.hit = True
            self._work()

    def __enter__(self) -> "Hook":
        for name in LOGGERS:
            logging.getLogger(name).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for name in LOGGERS:
            logging.getLogger(name).removeHandler(self)
        assert self.hit, f"nothing logged {self._line}"


def test_an_empty_database(empty: Database, log: pytest.LogCaptureFixture) -> None:
    result = upgrade_database(url_of(empty))
    assert (result.outcome, applied(result), result.error) == (Outcome.UPGRADED, NAMES, None)
    assert all(revision.seconds > 0 for revision in result.applied)
    assert version(empty) == [(HEAD,)]
    assert migr(log) == [
        f"[Migr] Found {len(NAMES)} migration file(s)",
        *(f"[Migr] applied {name}" for name in NAMES),
        "[Migr] Migration run complete",
    ]


def test_at_head_it_sends_one_query(server: Server, log: pytest.LogCaptureFixture) -> None:
    """By its log: one connection and one statement, which locks nothing but the two relations it reads."""
    assert upgrade_database(server.url()).outcome is Outcome.UPGRADED
    server.log()
    log.clear()
    result = upgrade_database(server.url())
    assert (result.outcome, result.applied) == (Outcome.AT_HEAD, ())
    lines = [line.split("|", 2)[2] for line in server.log()]
    assert len([line for line in lines if "connection received" in line]) == 1
    statements = [line.removeprefix("LOG:  statement: ") for line in lines if "statement:" in line]
    assert statements == [
        "SELECT version_num FROM alembic_version"
        " WHERE tableoid = to_regclass(format('%I.alembic_version', current_schema()))"
    ]
    assert not [line for line in lines if "ERROR" in line or "execute" in line]
    assert migr(log) == [
        f"[Migr] Found {len(NAMES)} migration file(s)",
        f"[Migr] already at {HEAD}",
        "[Migr] Migration run complete",
    ]
    engine = create_engine(parse_url(server.url()))
    upgrade_database(engine)  # the engine's first connection also queries the server's version and more
    server.log()
    assert upgrade_database(engine).outcome is Outcome.AT_HEAD
    engine.dispose()
    assert [line.split("statement: ")[1] for line in server.log() if "statement:" in line] == statements


def test_at_head_it_needs_no_lock(head: Database) -> None:
    """Neither the lock of migrations, nor one that blocks writers or schema changes."""
    with psycopg.connect(url_of(head)) as other:
        other.execute(LOCK)
        other.execute("LOCK TABLE api_requests, streaming_chunks, conversation_metrics")
        other.execute("LOCK TABLE alembic_version IN EXCLUSIVE MODE")
        assert upgrade_database(url_of(head)).outcome is Outcome.AT_HEAD


def in_schema(connection: Database) -> dict[str, str]:
    connection.execute("CREATE SCHEMA IF NOT EXISTS app")
    return {"options": "-csearch_path=app"}


def sync_engine(url: URL, options: dict[str, str]) -> UpgradeResult:
    engine = create_engine(url, connect_args=options, pool_size=1, max_overflow=0)
    try:
        return upgrade_database(engine)
    finally:
        with engine.connect() as connection:  # unchanged: none of our settings is left
            assert connection.exec_driver_sql("SHOW row_security").scalar() == "on"
            assert connection.exec_driver_sql("SHOW search_path").scalar() == options["options"].split("=")[1]
        engine.dispose()


def async_engine(url: URL, options: dict[str, str]) -> UpgradeResult:
    async def run() -> UpgradeResult:
        engine = create_async_engine(url, connect_args=options)
        try:
            return await upgrade_database_async(engine)
        finally:
            await engine.dispose()

    return asyncio.run(run())


def url_text(url: URL, options: dict[str, str]) -> UpgradeResult:
    return upgrade_database(url.update_query_dict(options).render_as_string(hide_password=False))


def url_object(url: URL, options: dict[str, str]) -> UpgradeResult:
    return upgrade_database(url.set(drivername="postgresql").update_query_dict(options))


def variable(url: URL, options: dict[str, str]) -> UpgradeResult:
    os.environ["DATABASE_URL"] = url.update_query_dict(options).render_as_string(hide_password=False)
    try:
        return upgrade_database()
    finally:
        del os.environ["DATABASE_URL"]


@pytest.mark.parametrize(
    "how",
    quick(
        {how.__name__: how for how in (sync_engine, async_engine, url_text, url_object, variable)},
        "sync_engine",
        "async_engine",
        "url_text",
    ),
)
def test_supported_arguments(empty: Database, how: Callable[[URL, dict[str, str]], UpgradeResult]) -> None:
    """Each also with a search_path, which a new connection must have, too."""
    options = in_schema(empty)
    url = parse_url(url_of(empty))
    assert how(url, options).outcome is Outcome.UPGRADED
    assert empty.execute(
        "SELECT to_regclass('app.api_requests'), to_regclass('public.api_requests')"
    ).fetchone() == (
        "app.api_requests",
        None,
    )
    assert how(url, options).outcome is Outcome.AT_HEAD
    empty.execute(f"SET search_path TO app; {TO_005}")
    assert applied(how(url, options)) == NAMES[6:]


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        (None, "DATABASE_URL is not set"),
        (f"mysql://u:{SECRET}@h/d", "the database URL has an unsupported scheme mysql://"),
        (
            make_url(f"mysql://u:{SECRET}@h/d"),
            "the database URL is one of mysql; this schema needs PostgreSQL",
        ),
        (f"postgresql://u:{SECRET}@@h/d", "the database URL is malformed"),
        (create_engine("sqlite://"), "the engine uses sqlite+pysqlite; pass one with postgresql+psycopg"),
        (create_async_engine("postgresql+psycopg://"), "an AsyncEngine needs upgrade_database_async()"),
        (5, "pass a URL or an engine, not an object of int"),
        (
            create_engine("postgresql+psycopg://", execution_options={"schema_translate_map": {None: "app"}}),
            "the engine has a schema_translate_map, which revisions ignore; select the schema",
        ),
    ],
)
def test_unsupported_arguments(log: pytest.LogCaptureFixture, database: Any, expected: str) -> None:
    result = upgrade_database(database)
    assert result.outcome is Outcome.FAILED
    assert expected in str(result.error)
    assert expected in migr(log)[-1]
    assert SECRET not in log.text + repr(result)
    with pytest.raises(SchemaError, match=expected.split(";")[0].replace("+", r"\+").replace("()", "")):
        upgrade_database(database, raise_on_error=True)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "1", True])
@pytest.mark.parametrize("option", ["connect_wait", "lock_wait"])
def test_impossible_waits(empty: Database, option: str, value: Any) -> None:
    result = upgrade_database(url_of(empty), **{option: value})
    assert f"{option} is {value!r}; it takes a number of seconds, 0 or more" in str(result.error)
    assert catalog(empty) == {}


@pytest.mark.parametrize("kind", quick(["async engine", "url", "engine"]))
def test_a_server_that_accepts_connections_and_never_answers(kind: str) -> None:
    """The driver alone would wait for minutes; the limit ends the wait."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = make_url(f"postgresql+psycopg://u:{SECRET}@127.0.0.1:{silent.getsockname()[1]}/d")
        if kind == "async engine":
            result = asyncio.run(upgrade_database_async(create_async_engine(url), connect_wait=0.5))
        else:
            result = upgrade_database(create_engine(url) if kind == "engine" else url, connect_wait=0.5)
    assert "cannot reach the database: no answer within 1 s" in str(result.error)


def test_a_pool_without_a_free_connection(head: Database, log: pytest.LogCaptureFixture) -> None:
    engine = create_engine(parse_url(url_of(head)), pool_size=1, max_overflow=0, pool_timeout=0.1)
    held = engine.connect()
    with Hook("trying again", held.close):
        assert upgrade_database(engine).outcome is Outcome.AT_HEAD
    assert "no connection of the engine's pool became available: QueuePool limit" in log.text
    engine.dispose()


def test_a_database_that_is_ahead(head: Database, log: pytest.LogCaptureFixture) -> None:
    head.execute("UPDATE alembic_version SET version_num = %s", [NEXT])
    before = catalog(head)
    result = upgrade_database(url_of(head), raise_on_error=True)
    assert (result.outcome, result.error) == (Outcome.AHEAD, None)
    assert migr(log)[1:] == [
        f"[Migr] the database is ahead of this code: it is at {NEXT}, and {HEAD} is the newest revision known"
        " here; nothing to do",
        "[Migr] Migration run complete",
    ]
    assert catalog(head) == before


def test_the_version_table_of_another_project(empty: Database) -> None:
    empty.execute("CREATE TABLE alembic_version (version_num varchar(32))")
    empty.execute("INSERT INTO alembic_version VALUES ('1a2b3c4d5e6f')")
    result = upgrade_database(url_of(empty))
    assert "revision 1a2b3c4d5e6f belongs to another project, which uses the" in str(result.error)
    # An alembic_version in a later schema of the search_path is not used.
    options = {"options": "-csearch_path=app,public"}
    in_schema(empty)
    assert url_text(parse_url(url_of(empty)), options).outcome is Outcome.UPGRADED


def test_a_role_without_privileges(empty: Database, role: str, log: pytest.LogCaptureFixture) -> None:
    empty.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    url = parse_url(url_of(empty)).set(username=role, password=SECRET)
    result = upgrade_database(url)
    assert (result.outcome, result.applied) == (Outcome.FAILED, ())
    assert "missing privilege: permission denied for schema public; grant it" in str(result.error)
    assert "statement: CREATE TABLE alembic_version" in log.text.replace("\n  ", " ").replace("\t", "")
    assert not [line for line in migr(log) if "trying again" in line]
    # The same for a role that may not even read the revision of the database.
    assert upgrade_database(url_of(empty)).outcome is Outcome.UPGRADED
    assert "permission denied for table alembic_version" in str(upgrade_database(url).error)
    assert SECRET not in log.text + repr(result)


def test_a_wrong_password_is_not_retried(server: Server, log: pytest.LogCaptureFixture) -> None:
    server.execute("CREATE ROLE app LOGIN PASSWORD 'other'")
    hba = server.path / "data" / "pg_hba.conf"
    hba.write_text(f"local all app scram-sha-256\n{hba.read_text()}")
    server.stop()
    server.start()
    url = parse_url(server.url("app")).set(password=SECRET)
    result = upgrade_database(url, connect_wait=3600)
    assert 'password authentication failed for user "app"' in str(result.error)
    assert len([line for line in server.log() if "password authentication failed" in line]) == 1
    assert SECRET not in log.text + repr(result)


def intercept_index_of_004(database: Database, action: str) -> None:
    """Create an event trigger that executes an action when 004 creates its index."""
    database.execute(
        "CREATE FUNCTION object() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF current_query() LIKE '%idx_requests_conversation_timestamp_id%' THEN {action}; END IF; END $$"
    )
    database.execute("CREATE EVENT TRIGGER object ON ddl_command_start EXECUTE FUNCTION object()")


def test_a_revision_that_fails(empty: Database, log: pytest.LogCaptureFixture) -> None:
    intercept_index_of_004(
        empty, "RAISE EXCEPTION 'not today' USING HINT = 'ask again tomorrow', ERRCODE = 'P0099'"
    )
    result = upgrade_database(url_of(empty))
    assert (result.outcome, applied(result)) == (Outcome.FAILED, NAMES[:4])
    assert str(result.error).startswith(f"{NAMES[4]} failed and was rolled back: the database refused: not")
    line = migr(log)[-1]
    for part in (NAMES[4], "statement: CREATE INDEX", "hint: ask again tomorrow", "where: PL/pgSQL function"):
        assert part in line
    assert version(empty) == [("003",)]
    empty.execute("DROP EVENT TRIGGER object; DROP FUNCTION object()")
    assert applied(upgrade_database(url_of(empty))) == NAMES[4:]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project, to which a test adds a revision."""
    return copy_project(tmp_path, "src", "alembic", "alembic.ini")


REVISION = f'''"""One more."""
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{NEXT}", "{HEAD}"

def upgrade() -> None:
    op.execute("CREATE TABLE one_more ()")
    {{work}}

def downgrade() -> None:
    op.execute("DROP TABLE one_more")
'''


@pytest.mark.parametrize(
    ("files", "expected"),
    quick(
        {
            "one number": (
                {f"{NEXT}_a.py": NEXT, f"{NEXT}_b.py": NEXT},
                f"two files have the revision number {NEXT}: {NEXT}_a.py and {NEXT}_b.py; give the later one",
            ),
            "two heads": (
                {"a.py": NEXT, "b.py": f"{NEXT}b"},
                f"multiple heads: {NEXT}, {NEXT}b; set down_revision of the later one to the other",
            ),
        }
    ),
)
def test_branches_that_were_not_merged(
    head: Database, copy: Path, files: dict[str, str], expected: str
) -> None:
    """Alembic alone runs one of two files with the same number, without a warning."""
    for name, number in files.items():
        text = REVISION.format(work="pass").replace(f'"{NEXT}"', f'"{number}"')
        (copy / "alembic" / "versions" / name).write_text(text)
    before = catalog(head)
    url, path = url_of(head), str(copy / "src")
    assert expected in python_program("-c", START, url=url, cwd=copy, PYTHONPATH=path).stdout
    said = alembic_program("upgrade", "head", url=url, cwd=copy, PYTHONPATH=path)
    assert said.returncode == 1
    assert expected in said.stderr.splitlines()[-1]
    assert len([line for line in said.stderr.splitlines() if not line.startswith("INFO")]) == 1
    assert catalog(head) == before


@pytest.mark.parametrize(
    ("work", "expected", "logged"),
    [
        ("op.execute('SELECT 1 / 0')", "the database refused: division by zero", "statement: SELECT 1 / 0"),
        ("{}['missing']", "KeyError: 'missing'", "Traceback (most recent call last)"),
    ],
)
def test_a_revision_that_fails_on_purpose(
    head: Database, copy: Path, work: str, expected: str, logged: str
) -> None:
    """Newer code fails, but the program starts. Fixed, it succeeds; older code finds the database ahead."""
    new = copy / "alembic" / "versions" / f"{NEXT}_one_more.py"
    new.write_text(REVISION.format(work=work))
    before = catalog(head)
    failed = python_program(
        "-c",
        f"{START}; print('started')",
        url=url_of(head),
        cwd=copy,
        PYTHONPATH=str(copy / "src"),
    )
    assert failed.returncode == 0
    assert f"{NEXT}_one_more failed and was rolled back: {expected}" in failed.stdout
    assert failed.stdout.endswith("started\n")
    assert logged in failed.stderr
    assert catalog(head) == before
    new.write_text(REVISION.format(work="pass"))
    fixed = python_program("-c", START, url=url_of(head), cwd=copy, PYTHONPATH=str(copy / "src"))
    assert f"name='{NEXT}_one_more'" in fixed.stdout
    assert upgrade_database(url_of(head)).outcome is Outcome.AHEAD


@pytest.mark.thorough
def test_a_database_that_comes_up_later(log: pytest.LogCaptureFixture) -> None:
    with directory() as path:
        server = Server(path)
        with Hook("trying again", server.start):
            result = upgrade_database(server.url(), connect_wait=3600)
        server.stop("immediate")
    assert result.outcome is Outcome.UPGRADED
    assert "cannot reach the database" in migr(log)[1]


def test_a_database_that_does_not_come_up(log: pytest.LogCaptureFixture) -> None:
    result = upgrade_database(f"postgresql://u:{SECRET}@127.0.0.1:1/d", connect_wait=0.5)
    assert result.outcome is Outcome.FAILED
    assert "cannot reach the database" in str(result.error)
    assert len([line for line in migr(log) if "trying again" in line]) > 1
    assert SECRET not in log.text + repr(result)


LINES = [f"[Migr] applied {NAMES[0]}", "requests linked to the Task call", f"[Migr] applied {NAMES[5]}"]


@pytest.mark.parametrize(
    ("mode", "line"),
    [
        pytest.param(
            mode, line, marks=[] if (mode, line) == ("immediate", LINES[1]) else pytest.mark.thorough
        )
        for mode in ("fast", "immediate")
        for line in LINES[:3]
    ],
)
def test_a_server_that_is_restarted_meanwhile(
    server: Server, log: pytest.LogCaptureFixture, line: str, mode: str
) -> None:
    """Between two revisions and within one; finished work is not repeated."""

    def restart() -> None:
        server.stop(mode)
        server.start()

    with Hook(line, restart):
        result = upgrade_database(server.url())
    assert (result.outcome, applied(result)) == (Outcome.UPGRADED, NAMES)
    assert len([text for text in migr(log) if "trying again" in text]) == 1
    assert upgrade_database(server.url()).outcome is Outcome.AT_HEAD


@pytest.mark.parametrize("kind", quick(["async", "sync"]))
def test_an_engine_whose_pooled_connection_is_dead(server: Server, kind: str) -> None:
    """As after a restart of the server: the pool returns the dead connection once more."""
    if kind == "sync":
        engine = create_engine(parse_url(server.url()))
        engine.connect().close()
        server.stop()
        server.start()
        assert upgrade_database(engine).outcome is Outcome.UPGRADED
        engine.dispose()
        return

    async def run() -> None:
        engine = create_async_engine(parse_url(server.url()))
        async with engine.connect():
            pass
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        assert (await upgrade_database_async(engine)).outcome is Outcome.UPGRADED
        await engine.dispose()

    asyncio.run(run())


def test_a_revision_that_breaks_its_connection(empty: Database, log: pytest.LogCaptureFixture) -> None:
    """It is retried only once."""
    intercept_index_of_004(empty, "PERFORM pg_terminate_backend(pg_backend_pid())")
    result = upgrade_database(url_of(empty))
    assert (result.outcome, applied(result)) == (Outcome.FAILED, NAMES[:4])
    assert str(result.error).startswith(f"{NAMES[4]} failed")
    assert len([text for text in migr(log) if "trying again" in text]) == 1


@pytest.mark.thorough
@pytest.mark.parametrize(
    "others", [[], ["alembic", "upgrade", "head"]], ids=["servers", "and the command line"]
)
def test_sixteen_at_once(empty: Database, others: list[str]) -> None:
    commands = [["python", "-c", START] for _ in range(16)]
    if others:
        commands[::2] = [others] * 8
    results = [fork.wait() for fork in [Fork(*command, url=url_of(empty)) for command in commands]]
    assert [result.returncode for result in results] == [0] * 16, results
    said = "\n".join(result.stdout + result.stderr for result in results)
    by_servers = said.count("AppliedRevision(")
    by_command_line = said.count("Running upgrade")
    assert by_servers + by_command_line == len(REVISIONS), said
    assert "failed" not in said
    assert version(empty) == [(HEAD,)]
    assert upgrade_database(url_of(empty)).outcome is Outcome.AT_HEAD


def test_waiting_names_the_other_migration(empty: Database, log: pytest.LogCaptureFixture) -> None:
    with psycopg.connect(url_of(empty, application_name="somebody else's"), autocommit=True) as other:
        other.execute(LOCK)
        result = upgrade_database(url_of(empty), lock_wait=0.3)
        expected = f'process {other.info.backend_pid} of role {other.info.user}, "somebody else\'s"'
    assert result.outcome is Outcome.FAILED
    assert f"[Migr] waiting for another migration of this schema: {expected}" in migr(log)[1]
    assert expected in str(result.error)
    assert len(migr(log)) == 3, "reported once, not at each check"
    assert catalog(empty) == {}


@pytest.mark.parametrize("command", ["upgrade", "downgrade"])
def test_the_command_line_uses_the_same_lock(head: Database, command: str) -> None:
    target = {"upgrade": "head", "downgrade": "005"}[command]
    with psycopg.connect(url_of(head), autocommit=True) as other:
        other.execute(LOCK)
        result = alembic_program("-x", "lock_wait=0.2", command, target, url=url_of(head))
    assert result.returncode == 1
    assert "another migration of this schema is running (process" in result.stderr
    assert version(head) == [(HEAD,)]


def test_an_index_is_built_concurrently_while_others_wait(head: Database) -> None:
    """The build would wait for a waiter with a snapshot, such as one in pg_advisory_lock()."""
    head.execute(TO_005)
    with psycopg.connect(url_of(head), autocommit=True) as holder:
        holder.execute(LOCK)
        waiting = threading.Event()
        results: list[UpgradeResult] = []
        with Hook("waiting for another migration", waiting.set):
            waiter = threading.Thread(target=lambda: results.append(upgrade_database(url_of(head))))
            waiter.start()
            assert waiting.wait(60)
            holder.execute("SET statement_timeout = '60s'")
            holder.execute("CREATE INDEX CONCURRENTLY own ON api_requests (model)")
            assert not results
            holder.execute("SELECT pg_advisory_unlock_all()")
            waiter.join()
    assert applied(results[0]) == NAMES[6:]


@pytest.mark.thorough
def test_the_lock_outlives_its_holder_while_a_statement_runs(empty: Database) -> None:
    """After SIGKILL of the migrating process, its statement still runs: nobody may start before it ends."""
    empty.execute(
        "CREATE FUNCTION wait() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_advisory_xact_lock(42); END $$"
    )
    empty.execute(
        "CREATE EVENT TRIGGER wait ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION wait()"
    )
    with psycopg.connect(url_of(empty), autocommit=True) as gate:
        gate.execute("SELECT pg_advisory_lock(42)")
        victim = Fork("python", "-c", START, url=url_of(empty))
        wait_until_a_session_waits(empty)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        row = empty.execute(WAITING.replace("count(*)", "pid")).fetchone()
        assert row is not None, "the statement still runs"
        assert f"(process {row[0]} " in str(upgrade_database(url_of(empty), lock_wait=0.3).error)
        gate.execute("SELECT pg_advisory_unlock_all()")
    assert applied(upgrade_database(url_of(empty))) == NAMES


def test_the_event_loop_is_not_blocked(empty: Database) -> None:
    """The upgrade can only end after another task of the loop has released the lock."""

    async def run() -> UpgradeResult:
        holder = await psycopg.AsyncConnection.connect(url_of(empty), autocommit=True)
        await holder.execute(LOCK)
        engine = create_async_engine(parse_url(url_of(empty)))
        upgrade = asyncio.create_task(upgrade_database_async(engine))
        for _ in range(50):
            await asyncio.sleep(0.01)
        assert not upgrade.done()
        await holder.close()
        result = await upgrade
        await engine.dispose()
        return result

    assert applied(asyncio.run(run())) == NAMES


@pytest.mark.parametrize("where", ["waiting for the lock", "in a statement", "waiting for the server"])
def test_cancelling(empty: Database, log: pytest.LogCaptureFixture, where: str) -> None:
    """The thread ends, too: asyncio.run() waits for it, so the process could not end otherwise."""

    async def run() -> None:
        url = "postgresql://u@127.0.0.1:1/d" if where == "waiting for the server" else url_of(empty)
        upgrade = asyncio.create_task(upgrade_database_async(url, connect_wait=3600))
        if where == "in a statement":
            while empty.execute(WAITING).fetchone() == (0,):
                await asyncio.sleep(0.02)
        else:
            await asyncio.sleep(1)
        upgrade.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upgrade

    with psycopg.connect(url_of(empty)) as other:
        if where == "waiting for the lock":
            other.execute(LOCK)
        elif where == "in a statement":
            other.execute("CREATE TABLE api_requests (id int)")
        before = catalog(empty)
        asyncio.run(run())
        other.rollback()
    assert not [record for record in log.records if record.levelno >= logging.ERROR]
    assert catalog(empty) == before
    others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nexus_schema' AND datname = %s"
    while empty.execute(others, [empty.info.dbname]).fetchone() != (0,):
        time.sleep(0.02)


def test_the_logging_of_the_host_is_not_changed(empty: Database) -> None:
    program = """if True:
        import logging
        logging.basicConfig(format="HOST %(name)s %(message)s", level=logging.INFO)
        quiet = logging.getLogger("alembic")
        quiet.setLevel(logging.ERROR)
        def state():
            loggers = [logging.getLogger(), *map(logging.getLogger, sorted(known))]
            return [(log.name, log.level, log.disabled, log.propagate, log.handlers[:]) for log in loggers]
        known = ["alembic", "alembic.runtime.migration", "app", "nexus_schema", "sqlalchemy"]
        from nexus_schema import upgrade_database
        before = state()
        upgrade_database()
        assert state() == before
    """
    result = python_program("-c", program, url=url_of(empty))
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert "HOST nexus_schema.upgrade [Migr] Migration run complete" in lines
    assert all(line.startswith("HOST nexus_schema.") for line in lines), "alembic was told to be quiet"


# --- MIGRATION_DATABASE_URL and poolers


def test_another_database_behind_the_direct_url(
    empty: Database, head: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRATION_DATABASE_URL", url_of(head))
    result = upgrade_database(url_of(empty))
    assert "MIGRATION_DATABASE_URL points to another database" in str(result.error)
    assert catalog(empty) == {}


@pytest.mark.thorough
def test_the_direct_url_comes_first_on_the_command_line(empty: Database) -> None:
    nowhere = f"postgresql://u:{SECRET}@127.0.0.1:1/d"
    result = alembic_program("upgrade", "head", url=nowhere, MIGRATION_DATABASE_URL=url_of(empty))
    assert result.returncode == 0, result.stderr
    assert version(empty) == [(HEAD,)]
    malformed = alembic_program("upgrade", "head", MIGRATION_DATABASE_URL=f"mysql://u:{SECRET}@h/d")
    assert malformed.stderr.startswith("error: MIGRATION_DATABASE_URL has an unsupported scheme")
    assert SECRET not in malformed.stderr


PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(
    PGBOUNCER is None, reason="pgbouncer is not installed (apt-get install pgbouncer)"
)


@needs_pgbouncer
@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_through_a_pooler(
    head: Database, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture, mode: str
) -> None:
    with pooler(str(PGBOUNCER), url_of(head), mode) as url:
        assert upgrade_database(url).outcome is Outcome.AT_HEAD
        head.execute(TO_005)
        before = catalog(head)
        result = upgrade_database(url)
        assert result.outcome is Outcome.FAILED
        assert "a pooler in transaction mode" in str(result.error)
        assert "set MIGRATION_DATABASE_URL to the server itself" in str(result.error)
        assert "\n" not in migr(log)[-1]
        program = alembic_program("upgrade", "head", url=url)
        assert program.returncode == 1
        assert program.stderr == f"error: {result.error}\n"
        assert catalog(head) == before
        with psycopg.connect(
            url, autocommit=True
        ) as client:  # the next client finds a session without settings of ours
            assert client.execute("SHOW row_security").fetchone() == ("on",)
        monkeypatch.setenv("MIGRATION_DATABASE_URL", url)
        assert "a pooler in transaction mode" in str(upgrade_database(url).error)
        monkeypatch.setenv("MIGRATION_DATABASE_URL", url_of(head))
        assert applied(upgrade_database(url)) == NAMES[6:]


@needs_pgbouncer
def test_through_a_busy_pooler(head: Database) -> None:
    """Other clients use the server's sessions, so two checks do not find the same session."""
    head.execute(TO_005)
    stop = threading.Event()

    def work(url: str) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not stop.is_set():
                connection.execute("SELECT pg_sleep(0.001)", prepare=False)

    with pooler(str(PGBOUNCER), url_of(head), "transaction") as url:
        workers = [threading.Thread(target=work, args=[url]) for _ in range(6)]
        for worker in workers:
            worker.start()
        try:
            for _ in range(5):
                assert "a pooler in transaction mode" in str(upgrade_database(url).error)
        finally:
            stop.set()
            for worker in workers:
                worker.join()


@needs_pgbouncer
def test_through_a_pooler_in_session_mode(empty: Database) -> None:
    """In this mode, a client keeps its session."""
    with pooler(str(PGBOUNCER), url_of(empty), "session") as url:
        assert applied(upgrade_database(url)) == NAMES


def test_the_chain_of_these_tests_is_the_whole_chain() -> None:
    assert [name[:3] for name in NAMES] == REVISIONS
