"""Drivers other than psycopg 3: waiting, the connection of a pool, and the modules that a run needs."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
import pytest
from marks import quick
from online.drivers import EACH_KIND, ENVIRONMENTS, with_each
from online.project import Fault, Project, Stop, state, versions
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine

from alembic_online import driver as drivers
from alembic_online.errors import OnlineError

BLOCKED = {
    "a build": ('op.create_index("t_new_idx", "t", ["a"])', "create index t_new_idx", "parent"),
    "a change": ('op.add_column("t", sa.Column("c", sa.Integer))', "add column t.c", "t"),
}


@with_each
@pytest.mark.parametrize(("upgrade", "what", "table"), quick(BLOCKED))
def test_giving_up_names_the_blocking_session(driven: Project, upgrade: str, what: str, table: str) -> None:
    driven.revision(upgrade)
    before = state(driven.database)
    with psycopg.connect(driven.url, application_name="the blocker: 5%") as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute(f'SELECT FROM {table} AS "5%"')
        with pytest.raises(OnlineError) as error:
            driven.upgrade(lock_wait=0.5)
        assert re.match(
            f"gave up after 0.5 s: {what} waits for process {other.info.backend_pid} of role .*"
            f'"the blocker: 5%", idle in transaction, .*: SELECT FROM {table} AS "5%"; what is finished',
            str(error.value),
        )
    assert {row for row in state(driven.database) if "alembic" not in str(row)} == before
    driven.upgrade(lock_wait=0.5)
    assert versions(driven.database) == ["r1"]


HELD = """
SELECT 'lock', locktype || ' ' || mode FROM pg_locks WHERE pid = pg_backend_pid()
    AND locktype NOT IN ('relation', 'virtualxid')
UNION ALL SELECT name, setting FROM pg_settings WHERE name <> 'transaction_read_only'
UNION ALL SELECT 'process', CAST(pg_backend_pid() AS text)
ORDER BY 1, 2"""
POOLED_ENV = """
from alembic import context
import alembic_online

context.configure(connection=context.config.attributes["connection"], transaction_per_migration=True)
alembic_online.enable(context)
with context.begin_transaction():
    context.run_migrations()
"""


class RightAfter:
    """Raises an error after the first execution of a statement."""

    def __init__(self, statement: str) -> None:
        self._statement: str | None = statement

    def __call__(self, engine: Engine) -> None:
        event.listen(engine, "after_cursor_execute", self._after)

    def _after(self, _connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        if statement == self._statement:
            self._statement = None
            raise Fault(statement)


ENDS: dict[str, tuple[Callable[[], Callable[[Engine], None]] | None, type[BaseException] | None]] = {
    "done": (None, None),
    "interrupted": (lambda: Stop(1, matching="COMMIT"), Fault),
    "interrupted at the beginning of a transaction": (lambda: RightAfter("BEGIN"), Fault),
    "gave up": (None, OnlineError),
}


def in_turn(
    url: str, hooks: Sequence[Callable[[Engine], None]], *works: Callable[[Connection], None]
) -> None:
    """Call functions with the only connection of an application's pool; each returns it to the pool."""
    if "asyncpg" not in url:
        engine = create_engine(url, pool_size=1, max_overflow=0)
        for hook in hooks:
            hook(engine)
        try:
            for work in works:
                with engine.connect() as connection:
                    work(connection)
        finally:
            engine.dispose()
        return

    async def main() -> None:
        engine = create_async_engine(url, pool_size=1, max_overflow=0)
        for hook in hooks:
            hook(engine.sync_engine)
        try:
            for work in works:
                async with engine.connect() as connection:
                    await connection.run_sync(work)
        finally:
            await engine.dispose()

    asyncio.run(main())


@with_each
@pytest.mark.parametrize(("hook", "error"), quick(ENDS))
def test_a_pool_gets_its_connection_back_unchanged(
    driven: Project,
    driver: str,
    hook: Callable[[], Callable[[Engine], None]] | None,
    error: type[BaseException] | None,
) -> None:
    (driven.path / "env.py").write_text(POOLED_ENV)
    driven.revision(EACH_KIND.replace("op.execute(\"SET application_name = '5%: the revision''s'\")", ""))
    held: list[Any] = []

    def look(connection: Connection) -> None:
        held.append(connection.exec_driver_sql(HELD).all())

    def migrate(connection: Connection) -> None:
        if error is None:
            driven.upgrade(connection=connection)
            return
        with psycopg.connect(driven.url) as other:
            other.execute("SELECT FROM t" if hook is None else "SELECT 1")
            with pytest.raises(error):
                driven.upgrade(connection=connection, lock_wait=0.2)

    url = driven.url.replace("postgresql:", f"postgresql+{driver}:")
    in_turn(url, [] if hook is None else [hook()], look, migrate, look)
    assert held[0] == held[1]
    assert versions(driven.database) == (["r1"] if error is None else [])


# Without psycopg.
ALONE = """
import sys
sys.modules.update(dict.fromkeys({others!r}))
from alembic import command
from alembic.config import Config

config = Config()
config.set_main_option("script_location", sys.argv[1])
config.set_main_option("path_separator", "os")
config.set_main_option("sqlalchemy.url", sys.argv[2].replace("%", "%%"))
config.attributes.update(online=True, lock_wait=0.3, hooks=(), before=(), afterwards=())
command.upgrade(config, "head")
"""


@pytest.mark.parametrize("driver", quick([*ENVIRONMENTS]))
@pytest.mark.thorough
def test_it_needs_no_other_driver(driven: Project, driver: str) -> None:
    """Neither does its second connection."""
    driven.revision('op.create_index("t_new_idx", "t", ["a"])')
    others = [name for name in (*drivers.DRIVERS, "psycopg_binary") if name != driver]
    others += ["greenlet"] if driver != "asyncpg" else []
    url = driven.url.replace("postgresql:", f"postgresql+{driver}:")
    with psycopg.connect(driven.url) as other:
        other.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        other.execute("SELECT FROM parent")
        blocker = other.info.backend_pid
        result = subprocess.run(
            [sys.executable, "-c", ALONE.format(others=others), str(driven.path), url],
            check=False,
            capture_output=True,
            text=True,
        )
    assert f"gave up after 0.3 s: create index t_new_idx waits for process {blocker} " in result.stderr


@pytest.mark.parametrize("driver", ["psycopg2"])
@pytest.mark.thorough
def test_another_driver_is_one_line_of_error(driven: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "DRIVERS", ("psycopg", "asyncpg"))
    driven.revision("pass")
    with pytest.raises(OnlineError, match="^-x online needs the driver psycopg or asyncpg, not psycopg2$"):
        driven.upgrade()
