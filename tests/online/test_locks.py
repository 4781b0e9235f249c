"""What others can do while an operation runs: strong locks are only for changes of the catalog."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from databases import Database
from marks import quick
from online.cases import CASES, Case
from online.project import Project, others_work, reset, session_of, state
from sqlalchemy import Engine, event

# Event triggers record for each DDL statement, in its transaction, which locks on the tables of BASE its
# session holds, and whether it has scanned one of them.
OBSERVER = """
CREATE SCHEMA observer;
CREATE TABLE observer.tables AS
    SELECT oid, relname, pg_relation_filenode(oid) AS file FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i');
CREATE TABLE observer.seen (statement text, mode text, scans bigint);
CREATE FUNCTION observer.scans() RETURNS bigint LANGUAGE sql AS $$
    SELECT coalesce(sum(seq_scan + coalesce(idx_scan, 0)), 0) FROM pg_stat_xact_user_tables
    WHERE relid IN (SELECT oid FROM observer.tables) $$;
CREATE FUNCTION observer.begins() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM set_config('observer.scans', observer.scans()::text, false); END $$;
CREATE FUNCTION observer.ends() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO observer.seen
    SELECT current_query(), mode, observer.scans() - current_setting('observer.scans')::bigint
    FROM pg_locks WHERE pid = pg_backend_pid() AND relation IN (SELECT oid FROM observer.tables); END $$;
CREATE EVENT TRIGGER observer_begins ON ddl_command_start EXECUTE FUNCTION observer.begins();
CREATE EVENT TRIGGER observer_ends ON ddl_command_end EXECUTE FUNCTION observer.ends();
"""
STRONG = ["ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"]
STALLS = """
SELECT statement FROM observer.seen WHERE mode = ANY (%s) AND scans > 0
UNION ALL
SELECT relname || ' was written anew' FROM observer.tables
WHERE file <> pg_relation_filenode(oid)
"""
HELD = """
SELECT mode FROM pg_locks WHERE pid = %s AND granted AND relation IN (SELECT oid FROM observer.tables)"""


@pytest.fixture
def observed(project: Project) -> Iterator[Project]:
    project.database.execute(OBSERVER)
    yield project
    project.database.execute("DROP EVENT TRIGGER observer_begins; DROP EVENT TRIGGER observer_ends")
    project.database.execute("DROP SCHEMA observer CASCADE")


class Held:
    """Records, over another connection, which locks a run holds after each of its statements."""

    def __init__(self, database: Database) -> None:
        self.found: list[tuple[str, set[str]]] = []
        self._database = database

    def __call__(self, engine: Engine) -> None:
        event.listen(engine, "after_cursor_execute", self._after)

    def _after(self, _connection: Any, cursor: Any, statement: str, *_: object) -> None:
        modes = self._database.execute(HELD, [session_of(cursor)[1]])
        self.found.append((statement.strip(), {mode for (mode,) in modes}))


@pytest.mark.parametrize("case", quick(CASES, *[name for name, case in CASES.items() if case.stalls][::4]))
def test_no_strong_lock_while_rows_are_read_or_written(observed: Project, case: Case) -> None:
    database = observed.database
    held = Held(database)
    observed.revision(case.upgrade)
    observed.upgrade(hooks=[held])
    assert database.execute(STALLS, [STRONG]).fetchall() == []
    for statement, modes in held.found:
        if statement.startswith("UPDATE") and "_journal" not in statement:
            assert modes - {"AccessShareLock"} == {"RowExclusiveLock"}
        if statement in {"COMMIT", "ROLLBACK"}:
            assert not modes


@pytest.mark.thorough
@pytest.mark.parametrize("case", list(CASES.values())[::2], ids=list(CASES)[::2])
def test_one_transaction_stalls_as_declared(observed: Project, case: Case) -> None:
    """This checks the observer."""
    observed.revision(case.upgrade)
    observed.upgrade(online=False)
    assert bool(observed.database.execute(STALLS, [STRONG]).fetchall()) == case.stalls


WAITING = {
    "index": CASES["index"],
    "unique constraint": CASES["unique constraint"],
    "drop index": CASES["drop index"],
    "column, index": CASES["column, index"],
}


@pytest.mark.parametrize("case", WAITING.values(), ids=WAITING)
def test_others_work_while_an_index_waits(project: Project, case: Case) -> None:
    project.revision(case.upgrade.replace("index=True)", "index=True), if_not_exists=True"))
    project.upgrade(online=False)
    wanted = state(project.database)
    reset(project.database)
    if case is CASES["column, index"]:  # otherwise the column itself waits for the writer
        project.database.execute("ALTER TABLE t ADD c int")
    with psycopg.connect(project.url) as writer:
        writer.execute("UPDATE t SET a = a WHERE id = 1")
        run = project.in_thread()
        project.waits("%INDEX CONCURRENTLY%")
        others_work(project.database)
        writer.rollback()
    run.end()
    found = state(project.database)
    assert (found - wanted, wanted - found) == (set(), set())
