"""Waiting for other sessions outside of the lock queue, and naming them; the session afterwards."""

import logging
import subprocess
import sys
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import psycopg
import pytest
from marks import quick
from online.drivers import ASYNC_ENABLED, ASYNC_TEMPLATE
from online.project import Fault, Project, Stop, env, others_work, versions, wait_for
from servers import own_server
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

from alembic_online.errors import OnlineError, RefusedError

COLUMN = 'op.add_column("t", sa.Column("c", sa.Integer))'
INDEX = 'op.create_index("t_new_idx", "t", ["a"])'
BLOCKED = {
    "column": (COLUMN, "SELECT FROM t"),
    "foreign key": (
        'op.create_foreign_key("t_parent_fkey", "t", "parent", ["parent_id"], ["id"])',
        "UPDATE parent SET name = name",
    ),
    "table": (
        'op.create_table("fresh", sa.Column("t_id", sa.Integer, sa.ForeignKey("t.id")))',
        "UPDATE t SET a = a WHERE id = 9",
    ),
    "drop table": ('op.drop_table("child")', "SELECT FROM parent"),
}
blocked = pytest.mark.parametrize(("upgrade", "blocker"), quick(BLOCKED, "foreign key"))


@blocked
def test_a_long_transaction_is_waited_for_without_a_queue(
    project: Project, caplog: pytest.LogCaptureFixture, upgrade: str, blocker: str
) -> None:
    caplog.set_level(logging.INFO, "alembic.online")
    project.revision(upgrade)
    with psycopg.connect(project.url, application_name="the blocker") as other:
        other.execute(blocker)
        run = project.in_thread()
        named = f"waits for process {other.info.backend_pid} "
        while named not in caplog.text:
            assert run.is_alive()
            others_work(project.database)
        assert versions(project.database) == []
        assert '"the blocker", idle in transaction, in its transaction for ' in caplog.text
        other.rollback()
    run.end()
    assert versions(project.database) == ["r1"]


@blocked
def test_giving_up_names_the_blocker(project: Project, upgrade: str, blocker: str) -> None:
    project.revision(upgrade)
    with psycopg.connect(project.url, application_name="the blocker") as other:
        other.execute(blocker)
        with pytest.raises(OnlineError, match="gave up after 1 s: .* waits for process ") as error:
            project.upgrade(lock_wait=1.0)
        assert f"process {other.info.backend_pid} " in str(error.value)
        assert "\n" not in str(error.value)
        assert versions(project.database) == []
        other.rollback()
    project.upgrade(lock_wait=1.0)
    assert versions(project.database) == ["r1"]


@pytest.mark.parametrize(
    ("upgrade", "left"),
    quick(
        {
            "index": (INDEX, "t_new_idx"),
            "constraint": ('op.create_unique_constraint("t_a_key", "t", ["a"])', "t_a_key"),
        }
    ),
)
def test_a_build_gives_up_for_an_old_snapshot(project: Project, upgrade: str, left: str) -> None:
    project.revision(upgrade)
    with psycopg.connect(project.url, application_name="the blocker") as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT FROM parent")
        with pytest.raises(OnlineError, match="gave up after 1 s: .* waits for process ") as error:
            project.upgrade(lock_wait=1.0)
        assert f"process {other.info.backend_pid} " in str(error.value)
        assert project.database.execute("SELECT to_regclass(%s)", [left]).fetchone() == (None,)
        other.rollback()
    project.upgrade(lock_wait=1.0)
    assert versions(project.database) == ["r1"]
    assert project.database.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [left]
    ).fetchone() == (True,)


STATEMENTS = {
    "alter table": "ALTER TABLE IF EXISTS ONLY t ALTER COLUMN a SET DEFAULT 7",
    "drop table": "-- why\nDROP TABLE bare, public.t CASCADE",
    "truncate": "TRUNCATE t CASCADE",
    "trigger": (
        "CREATE TRIGGER stamp BEFORE UPDATE ON t EXECUTE FUNCTION suppress_redundant_updates_trigger()"
    ),
    "lock": "LOCK TABLE t",
    "references": "ALTER TABLE bare ADD FOREIGN KEY (id) REFERENCES t (id) NOT VALID",
}


@pytest.mark.parametrize("statement", quick(STATEMENTS))
def test_ddl_by_execute_waits_without_a_queue(project: Project, statement: str) -> None:
    """Its tables are found in its SQL."""
    project.revision(f"op.execute({statement!r})")
    with psycopg.connect(project.url, application_name="the blocker") as other:
        other.execute("UPDATE t SET a = a WHERE id = 9")
        run = project.in_thread(lock_wait=1.5)
        while run.is_alive():
            others_work(project.database)
            assert project.database.execute(QUEUED).fetchone() == (0,)
        with pytest.raises(OnlineError, match=f"waits for process {other.info.backend_pid} .*the blocker"):
            run.end()


QUEUED = """
SELECT count(*) FROM pg_locks
WHERE NOT granted AND relation = 't'::regclass AND mode = 'AccessExclusiveLock'"""


@pytest.mark.thorough
def test_ddl_with_unknown_tables_blocks_only_briefly(project: Project) -> None:
    project.revision("op.execute(\"DO $$ BEGIN EXECUTE 'ALTER TABLE t ADD c int'; END $$\")")
    with psycopg.connect(project.url) as other:
        other.execute("SELECT FROM t")
        run = project.in_thread(lock_wait=3.0)
        while run.is_alive():
            others_work(project.database)  # it waits for a lock at most one second
        other.rollback()
    with pytest.raises(OnlineError, match="gave up after 3 s"):
        run.end()


@pytest.mark.thorough
def test_an_autovacuum_is_cancelled(tmp_path: Path) -> None:
    with own_server() as server, psycopg.connect(server.url(), autocommit=True) as database:
        database.execute(
            "CREATE TABLE t (id int) WITH (autovacuum_enabled = false, autovacuum_vacuum_cost_delay = 100,"
            " autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 1,"
            " autovacuum_vacuum_scale_factor = 0)"
        )
        database.execute("INSERT INTO t SELECT generate_series(1, 100000)")
        database.execute("DELETE FROM t WHERE id % 2 = 0")
        database.execute("SELECT pg_stat_force_next_flush()")
        database.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        database.execute("SELECT pg_reload_conf()")
        database.execute("ALTER TABLE t SET (autovacuum_enabled = true)")
        vacuums = "SELECT EXISTS (SELECT FROM pg_stat_progress_vacuum WHERE relid = 't'::regclass)"
        wait_for(database, vacuums, seconds=90)
        project = Project(tmp_path / "project", database)
        project.revision(COLUMN)
        project.upgrade(lock_wait=30.0)
        assert versions(database) == ["r1"]
        assert "canceling autovacuum task" in (server.path / "log").read_text()


PROGRAM = """
import sys
from pathlib import Path
from alembic import command
from alembic.config import Config

config = Config()
config.set_main_option("script_location", sys.argv[1])
config.set_main_option("path_separator", "os")
url = sys.argv[2].replace("postgresql:", "postgresql+psycopg:")
config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
config.attributes.update(online=True, hooks=(), before=(), afterwards=())
command.upgrade(config, "head")
"""


def test_two_runs_at_once(project: Project) -> None:
    project.revision(INDEX)
    project.revision(
        'op.execute("INSERT INTO bare VALUES (0, 0)")\nop.alter_column("t", "a", nullable=False)'
    )
    with psycopg.connect(project.url) as writer:
        writer.execute("UPDATE t SET a = a WHERE id = 1")  # blocks the first run until the second one exists
        runs = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(project.path), project.url],
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        project.waits("%INDEX CONCURRENTLY%")
        wait_for(
            project.database,
            "SELECT count(*) = 2 FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid NOT IN (pg_backend_pid(), %s)",
            writer.info.backend_pid,
        )
        writer.rollback()
    for run in runs:
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 0, errors
    assert versions(project.database) == ["r2"]
    assert project.database.execute("SELECT count(*) FROM bare WHERE id = 0").fetchone() == (1,)


SETTINGS = {
    "lock_timeout": "7s",
    "statement_timeout": "3min",
    "application_name": "mine",
    "default_transaction_read_only": "off",
    "idle_in_transaction_session_timeout": "9min",
    "jit": "off",
}


@pytest.mark.parametrize("fails", [False, True])
def test_the_callers_settings_are_restored(project: Project, fails: bool) -> None:
    found: dict[str, Any] = {}

    def look(connection: Any) -> None:
        for name in SETTINGS:
            found[name] = connection.exec_driver_sql(f"SHOW {name}").scalar()
        connection.commit()

    project.revision(f"{COLUMN}\n{INDEX}\nop.alter_column('t', 'a', nullable=False)")
    attributes: dict[str, Any] = {
        "before": [f"SET {name} = '{value}'" for name, value in SETTINGS.items()],
        "afterwards": [look],
    }
    if fails:
        project.database.execute("UPDATE t SET a = NULL WHERE id = 3")
        with pytest.raises(OnlineError, match="null values|is violated"):
            project.upgrade(**attributes)
    else:
        project.upgrade(**attributes)
    assert found == SETTINGS


def test_the_callers_settings_are_restored_after_an_interrupt(project: Project) -> None:
    found: list[Any] = []
    project.revision(COLUMN + "\n" + INDEX)
    with pytest.raises(Fault):
        project.upgrade(
            before=["SET lock_timeout = '7s'", "SET application_name = 'mine'"],
            hooks=[Stop(1, matching="CREATE INDEX CONC")],
            afterwards=[
                lambda connection: found.append(
                    connection.exec_driver_sql(
                        "SELECT current_setting('lock_timeout'), current_setting('application_name')"
                    ).one()
                )
            ],
        )
    assert found == [("7s", "mine")]


def test_the_server_checks_its_client_connection(project: Project) -> None:
    project.revision(
        """
        show = sa.text("SHOW client_connection_check_interval")
        op.execute("COMMENT ON TABLE t IS 'checked every %s'" % op.get_bind().execute(show).scalar())
        """
    )
    project.upgrade()
    comment = "SELECT obj_description('t'::regclass, 'pg_class')"
    assert project.database.execute(comment).fetchone() == ("checked every 5s",)


HELD = """
SELECT 'lock', locktype || ' ' || mode FROM pg_locks WHERE pid = pg_backend_pid()
    AND locktype NOT IN ('relation', 'virtualxid')
UNION ALL SELECT name, setting FROM pg_settings WHERE name <> 'transaction_read_only'
ORDER BY 1, 2"""
ENDS: dict[str, tuple[str, dict[str, Any], type[BaseException] | None]] = {
    "done": (f"{COLUMN}\n{INDEX}", {}, None),
    "nothing to do": ("pass", {}, None),
    "another search_path": (
        'op.execute("SET search_path = pg_catalog, public")\nop.execute("SELECT 1")',
        {},
        None,
    ),
    "refused": ('op.rename_table("t", "u")', {}, RefusedError),
    "an error of the server": (COLUMN + '\nop.execute("SELECT 1 / 0")', {}, DBAPIError),
    "an error of the revision": (COLUMN + '\nraise ValueError("stop")', {}, ValueError),
    "interrupted": (COLUMN + "\n" + INDEX, {"hooks": [Stop(1, matching="CREATE INDEX CONC")]}, Fault),
    "interrupted, at a batch": (
        't = sa.table("t", sa.column("id", sa.Integer), sa.column("a", sa.Integer))\n'
        'op.backfill(sa.update(t).values(a=0).where(t.c.a > 0), what="rows")',
        {"hooks": [Stop(1, matching="COMMIT")]},
        Fault,
    ),
    "gave up": (COLUMN, {"lock_wait": 0.2}, OnlineError),
}
POOLED_ENV = """
from alembic import context
import alembic_online

with context.config.attributes["engine"].connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    alembic_online.enable(context)
    with context.begin_transaction():
        context.run_migrations()
"""


@pytest.mark.parametrize(("upgrade", "attributes", "error"), quick(ENDS, *list(ENDS)[::4]))
def test_a_pool_gets_its_connection_back_unchanged(
    project: Project, upgrade: str, attributes: dict[str, Any], error: type[BaseException] | None
) -> None:
    (project.path / "env.py").write_text(POOLED_ENV)
    project.revision(upgrade)
    engine = create_engine(project.url.replace("postgresql:", "postgresql+psycopg:"), pool_size=1)
    with psycopg.connect(project.url) as other, ExitStack() as stack:
        stack.callback(engine.dispose)
        if "lock_wait" in attributes:
            other.execute("SELECT FROM t")
        with engine.connect() as connection:
            process = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()
            before = connection.exec_driver_sql(HELD).all()
        for hook in attributes.get("hooks", ()):
            hook(engine)
        with nullcontext() if error is None else pytest.raises(error):
            project.upgrade(engine=engine, **attributes)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT pg_backend_pid()").scalar() == process
            after = connection.exec_driver_sql(HELD).all()
    changed = {tuple(row) for row in after} ^ {tuple(row) for row in before}
    assert {name for name, _ in changed} == ({"search_path"} if "search_path" in upgrade else set())


def test_an_asynchronous_environment(project: Project) -> None:
    (project.path / "env.py").write_text(env(ASYNC_TEMPLATE, ASYNC_ENABLED))
    project.revision(f"{COLUMN}\n{INDEX}\nop.execute('INSERT INTO bare VALUES (0, 0)')")
    with psycopg.connect(project.url) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT FROM parent")
        with pytest.raises(OnlineError, match="gave up after 1 s: create index t_new_idx waits for process"):
            project.upgrade(lock_wait=1.0)
    project.upgrade()
    assert versions(project.database) == ["r1"]
    assert project.database.execute("SELECT count(*) FROM bare WHERE id = 0").fetchone() == (1,)


@pytest.mark.parametrize(
    ("upgrade", "statement", "said"),
    [
        (
            'op.execute("UPDATE t SET a = 5 WHERE id = 1")',
            "UPDATE t SET a = 5%",
            "UPDATE t SET a = 5 WHERE id = 1",
        ),
        (INDEX, "%INDEX CONCURRENTLY%", "create index t_new_idx"),
    ],
    ids=["a statement", "an operation"],
)
def test_the_session_names_its_operation(project: Project, upgrade: str, statement: str, said: str) -> None:
    project.revision(upgrade)
    with psycopg.connect(project.url) as writer:
        writer.execute("UPDATE t SET a = a WHERE id = 1")
        run = project.in_thread(before=["SET application_name = 'mine'"])
        pid = project.waits(statement)
        name = project.database.execute(
            "SELECT application_name FROM pg_stat_activity WHERE pid = %s", [pid]
        ).fetchone()
        writer.rollback()
    run.end()
    assert name == (f"mine r1: {said}",)
