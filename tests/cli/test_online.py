"""``alembic -x online``: interrupted, killed, blocked by other sessions, and as a script."""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from databases import WAITING, Database, catalog, content, dump_schema, run_sql_script, url_of
from marks import quick
from programs import Fork, alembic_program, run_program
from support import at, insert, run_alembic, task_response, user_message

SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'nexus_schema 0%%' AND datname = %s"
)


@contextmanager
def snapshot(database: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Hold a snapshot. Concurrent index builds wait for it, other statements do not."""
    with psycopg.connect(url_of(database)) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT count(*) FROM pg_class")
        yield other
        other.rollback()


@contextmanager
def waiting_upgrade(database: Database, *options: str) -> Iterator[Fork]:
    """Run an online upgrade until one of its statements waits for another session."""
    process = Fork("alembic", "-x", "online", *options, "upgrade", "head", url=url_of(database))
    try:
        waiting = f"{WAITING} AND locktype = 'virtualxid'"
        while database.execute(waiting).fetchone() == (0,) and not process.ended:
            time.sleep(0.05)
        assert not process.ended, process.said()
        yield process
    finally:
        process.kill()


@pytest.fixture
def filled(empty: Database) -> Database:
    """A database at 001 with rows; 002 builds indexes without blocking writes."""
    run_alembic("upgrade", "001", url=url_of(empty))
    insert(empty, "api_requests", timestamp=at(0), response_body=task_response("go"))
    insert(empty, "api_requests", timestamp=at(5), body=user_message("go"))
    return empty


def sessions(database: Database) -> int:
    (number,) = database.execute(SESSIONS, [database.info.dbname]).fetchone() or (0,)
    return int(number)


@pytest.mark.parametrize(
    ("sent", "status"), quick({"SIGTERM": (signal.SIGTERM, 143), "SIGINT": (signal.SIGINT, 130)})
)
def test_interrupted(filled: Database, sent: signal.Signals, status: int) -> None:
    with snapshot(filled):
        with waiting_upgrade(filled) as process:
            assert sessions(filled) == 1
            process.send_signal(sent)
            result = process.wait()
        assert result.returncode == status
        assert "Traceback" not in result.stderr
        assert result.stderr.splitlines()[-1].startswith("interrupted: unfinished work is rolled back")
        while sessions(filled):
            time.sleep(0.05)
    assert alembic_program("-x", "online", "upgrade", "head", url=url_of(filled)).returncode == 0
    assert alembic_program("check", url=url_of(filled)).returncode == 0


@pytest.mark.thorough
def test_a_killed_client_leaves_no_statement_running(filled: Database) -> None:
    """The index build waits for the snapshot, but the server detects that its client is gone."""
    with snapshot(filled):
        with waiting_upgrade(filled) as process:
            process.send_signal(signal.SIGKILL)
        for _ in range(600):
            if not sessions(filled):
                break
            time.sleep(0.05)
        assert sessions(filled) == 0
    assert alembic_program("-x", "online", "upgrade", "head", url=url_of(filled)).returncode == 0
    assert filled.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)


def test_it_gives_up_after_lock_wait_and_names_the_blocking_session(filled: Database) -> None:
    with snapshot(filled) as other:
        result = alembic_program("-x", "online", "-x", "lock_wait=1", "upgrade", "head", url=url_of(filled))
        assert result.returncode == 1
        last = result.stderr.splitlines()[-1]
        assert last.startswith("error: gave up after 1 s: create index idx_requests_conversation_timestamp")
        assert f"process {other.info.backend_pid} of role" in last
        assert "in its transaction for" in last
        assert filled.execute("SELECT count(*) FROM pg_index WHERE NOT indisvalid").fetchone() == (0,)
    assert alembic_program("-x", "online", "upgrade", "head", url=url_of(filled)).returncode == 0


@pytest.mark.parametrize("start", ["base", "001"])
def test_its_script_makes_the_same_schema(empty: Database, head: Database, start: str) -> None:
    if start == "001":
        run_alembic("upgrade", "001", url=url_of(empty))
        insert(empty, "api_requests", timestamp=at(0), response_body=task_response("go"))
        insert(empty, "api_requests", timestamp=at(5), body=user_message("go"))
        before = content(empty)
    span = "head" if start == "base" else "001:head"
    script = alembic_program("-x", "online", "upgrade", span, "--sql").stdout
    assert "CREATE INDEX CONCURRENTLY" in script
    result = run_sql_script(empty, script)
    assert result.returncode == 0, result.stderr
    assert dump_schema(empty) == dump_schema(head)
    assert catalog(empty) == catalog(head)
    if start == "001":
        assert content(empty, like=before)["api_requests"] == before["api_requests"]
        linked = empty.execute("SELECT count(*) FROM api_requests WHERE account_id IS NOT NULL").fetchone()
        assert linked == (2,)


def test_squawk_finds_nothing_in_its_script(tmp_path: Path) -> None:
    script = tmp_path / "head.sql"
    script.write_text(alembic_program("-x", "online", "upgrade", "head", "--sql").stdout)
    squawk = Path(sys.executable).with_name("squawk")
    result = run_program(squawk, script)
    assert result.returncode == 0, result.stdout
    atomic = tmp_path / "atomic.sql"
    atomic.write_text(alembic_program("upgrade", "001:head", "--sql").stdout)
    assert "require-concurrent-index-creation" in run_program(squawk, atomic).stdout


def test_a_downgrade_that_checks_for_data_loss_needs_the_lock(head: Database) -> None:
    result = alembic_program("-x", "online", "downgrade", "005", url=url_of(head))
    assert result.returncode == 1
    assert "without -x online" in result.stderr.splitlines()[-1]
    assert alembic_program("-x", "online", "-x", "allow_data_loss=true", "downgrade", "base", url=url_of(head)
    ).returncode == 0  # fmt: skip
    assert catalog(head) == {}


REFUSES = """
CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
CREATE TRIGGER refuses BEFORE UPDATE ON api_requests FOR EACH ROW EXECUTE FUNCTION refuses()"""


@pytest.mark.thorough
def test_dropped_work_tables_are_recreated(filled: Database) -> None:
    filled.execute("UPDATE api_requests SET conversation_id = gen_random_uuid()")
    filled.execute(REFUSES)
    result = alembic_program("-x", "online", "upgrade", "head", url=url_of(filled))
    assert result.returncode == 1
    needed = "public.nexus_schema_003_changes, public.nexus_schema_003_found"
    assert f"003 is not finished; keep these tables for the next run: {needed}" in result.stderr
    filled.execute("DROP TRIGGER refuses ON api_requests; DROP FUNCTION refuses")
    filled.execute("DROP TABLE nexus_schema_003_changes, nexus_schema_003_found")
    assert alembic_program("-x", "online", "upgrade", "head", url=url_of(filled)).returncode == 0
    assert filled.execute("SELECT count(*) FROM api_requests WHERE is_subtask").fetchone() == (1,)
    assert alembic_program("check", url=url_of(filled)).returncode == 0


@pytest.mark.parametrize("options", [(), ("-x", "online")], ids=["default", "online"])
@pytest.mark.parametrize("name", ["nexus_schema_003_found", "nexus_schema_003_changes"])
def test_an_unmanaged_table_with_the_name_of_a_work_table_stays(
    filled: Database, name: str, options: tuple[str, ...]
) -> None:
    filled.execute(f"CREATE TABLE {name} AS SELECT 5 AS mine")
    result = alembic_program(*options, "upgrade", "head", url=url_of(filled))
    assert result.returncode == 1
    assert f'relation "{name}" already exists' in result.stderr.splitlines()[-1]
    assert filled.execute(f"SELECT mine FROM {name}").fetchall() == [(5,)]
