"""An application passes an Engine or a Connection to Alembic, as in its cookbook and pytest-alembic."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from databases import Database, as_role, catalog, url_of
from marks import quick
from programs import ROOT
from sqlalchemy import URL, Connection, Engine, create_engine, text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import create_async_engine

from nexus_schema.database import parse_url
from nexus_schema.errors import SchemaError

SETTINGS = (
    "SELECT name, setting FROM pg_settings WHERE context IN ('user', 'superuser')"
    " AND name NOT LIKE 'transaction_%' AND name NOT LIKE 'plpgsql.%' ORDER BY 1"  # once PL/pgSQL is used
)
LOCK = "SELECT pg_advisory_lock(hashtextextended('nexus_schema public', 0))"
OF_LOCKS = """
FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND datname = current_database()"""
LOCKS = f"SELECT count(*) {OF_LOCKS}"

Passed = Callable[[Engine], AbstractContextManager[Engine | Connection]]


@pytest.fixture
def url(empty: Database, role: str) -> URL:
    """The URL of the database for a role that owns the schema and is no superuser."""
    empty.execute(
        f"GRANT CREATE ON DATABASE {empty.info.dbname} TO {role}; ALTER SCHEMA public OWNER TO {role}"
    )
    return parse_url(as_role(empty, role))


@pytest.fixture
def engine(url: URL) -> Iterator[Engine]:
    """An engine with one connection, so that a test can check whether it is unchanged."""
    engine = create_engine(url, pool_size=1, max_overflow=0, pool_timeout=1)
    yield engine
    engine.dispose()


@contextmanager
def in_transaction(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as connection:
        yield connection


@contextmanager
def with_own_settings(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as connection:
        connection.execute(text("SET lock_timeout = '77s'"))
        connection.execute(text("SET search_path = public, pg_temp"))
        connection.commit()
        yield connection


PASSED: dict[str, Passed] = {
    "engine": nullcontext,
    "connection": lambda engine: engine.connect(),
    "connection with its own settings": with_own_settings,
    "transaction": in_transaction,
}
passed = pytest.mark.parametrize("how", quick(PASSED, "engine", "transaction"))


def run(name: str, database: Any, *arguments: str, **attributes: Any) -> None:
    config = Config(ROOT / "alembic.ini")
    config.attributes |= {"connection": database, **attributes}
    getattr(command, name)(config, *arguments)


def state(connection: Connection) -> list[Any]:
    """Return the server process, its settings, and the number of advisory locks."""
    driver: Any = connection.connection.dbapi_connection
    return [driver.info.backend_pid, driver.autocommit] + [
        connection.execute(text(query)).fetchall() for query in (SETTINGS, LOCKS)
    ]


@passed
def test_it_is_migrated_and_restored(empty: Database, head: Database, engine: Engine, how: Passed) -> None:
    with how(engine) as database:
        if isinstance(database, Connection):
            was_inside = database.in_transaction()
            before = state(database)
            if not was_inside:
                database.rollback()
            run("upgrade", database, "head")
            assert database.in_transaction() == was_inside
            after = state(database)
            if was_inside:  # the lock stays until its end
                assert after.pop() == [(1,)]
                before.pop()
            assert after == before
        else:
            with engine.connect() as connection:
                before = state(connection)
            run("upgrade", database, "head")
            with engine.connect() as connection:
                assert state(connection) == before
    assert catalog(empty) == catalog(head)
    assert empty.execute(LOCKS).fetchone() == (0,)
    with how(engine) as database:
        run("check", database)
        run("current", database)


def test_the_caller_can_roll_back_its_transaction(empty: Database, engine: Engine) -> None:
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE of_caller (id int)"))
        run("upgrade", connection, "head")
        assert connection.scalar(text("SELECT count(*) FROM alembic_version")) == 1
        assert catalog(empty) == {}
        connection.rollback()
    assert catalog(empty) == {}


@passed
@pytest.mark.parametrize("name", quick(["upgrade", "downgrade", "stamp"]))
def test_it_waits_for_the_lock_of_migrations(empty: Database, engine: Engine, how: Passed, name: str) -> None:
    with psycopg.connect(url_of(empty)) as other, how(engine) as database:
        other.execute(LOCK)
        with pytest.raises(SchemaError, match="lock not obtained: another migration of this schema"):
            run(name, database, "base" if name == "downgrade" else "head", lock_wait=0.3)
    assert catalog(empty) == {}


@pytest.mark.parametrize("kind", ["engine", "connection"])
def test_it_is_restored_after_a_failure(empty: Database, engine: Engine, kind: str) -> None:
    empty.execute("CREATE VIEW api_requests AS SELECT 1")
    with engine.connect() as connection:
        before = state(connection)
    with PASSED[kind](engine) as database, pytest.raises(SchemaError, match="nothing was changed"):
        run("upgrade", database, "head")
    with engine.connect() as connection:
        assert state(connection) == before


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("CREATE VIEW api_requests AS SELECT 1", "nothing was changed"),
        (  # in the server
            "CREATE FUNCTION object() RETURNS event_trigger LANGUAGE plpgsql"
            " AS $$ BEGIN IF tg_tag = 'CREATE INDEX' THEN RAISE 'not today'; END IF; END $$;"
            "CREATE EVENT TRIGGER object ON ddl_command_end EXECUTE FUNCTION object()",
            "not today",
        ),
    ],
)
def test_after_a_failure_a_transaction_is_rolled_back(
    empty: Database, engine: Engine, made: str, expected: str
) -> None:
    empty.execute(made)
    with engine.connect() as connection:
        before = state(connection)
        with pytest.raises(SchemaError, match=expected):
            run("upgrade", connection, "head")
        connection.rollback()
        assert state(connection) == before


@pytest.mark.parametrize("kind", quick(["connection", "engine"]))
def test_online(empty: Database, head: Database, engine: Engine, kind: str) -> None:
    with PASSED[kind](engine) as database:
        run("upgrade", database, "head", online=True)
    assert catalog(empty) == catalog(head)
    with engine.connect() as connection:
        assert connection.scalar(text("SHOW lock_timeout")) == "0"
        assert connection.scalar(text(LOCKS)) == 0


def test_online_refuses_a_transaction_of_the_caller(empty: Database, engine: Engine) -> None:
    with engine.begin() as connection, pytest.raises(SchemaError, match="needs a connection without a trans"):
        run("upgrade", connection, "head", online=True)
    assert catalog(empty) == {}


@pytest.mark.parametrize("level", quick(["AUTOCOMMIT", "SERIALIZABLE"]))
def test_an_engine_at_another_level(empty: Database, head: Database, url: URL, level: str) -> None:
    """The level of an engine's connections is restored; a connection with such a level is refused."""
    engine = create_engine(url, isolation_level=level)
    run("upgrade", engine, "head")
    assert catalog(empty) == catalog(head)
    with engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        assert driver.autocommit or connection.get_isolation_level() == "SERIALIZABLE"
        connection.rollback()
        with pytest.raises(SchemaError, match="autocommit mode|isolation level of the connection is serial"):
            run("downgrade", connection, "005")
    engine.dispose()


@pytest.mark.parametrize(
    ("database", "expected"),
    [
        (create_engine("sqlite://"), "the engine uses sqlite"),
        (
            create_async_engine("postgresql+psycopg://"),
            "pass an Engine or a Connection, not an object",
        ),
        (
            create_async_engine("postgresql+psycopg://").sync_engine,
            "the engine is asynchronous; pass its conn",
        ),
        ("postgresql://localhost/", "pass an Engine or a Connection, not an object of str"),
    ],
)
def test_unsupported_objects(database: Any, expected: str) -> None:
    with pytest.raises(SchemaError, match=expected):
        run("upgrade", database, "head")


def test_a_connection_that_is_lost(empty: Database, engine: Engine) -> None:
    """The error is one line, and the engine continues with another connection."""

    def kill(**_: Any) -> None:
        empty.execute(f"SELECT pg_terminate_backend(pid) {OF_LOCKS}")

    with pytest.raises(SchemaError, match="the connection was terminated: terminating connection .*; rerun"):
        run("upgrade", engine, "head", on_version_apply=kill)
    run("upgrade", engine, "head")


@pytest.mark.thorough
def test_an_asynchronous_engine(empty: Database, head: Database, url: URL) -> None:
    """As in Alembic's cookbook: run_sync() passes a connection that looks synchronous."""

    async def upgrade() -> None:
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            before = await connection.run_sync(state)
            await connection.rollback()
            await connection.run_sync(lambda given: run("upgrade", given, "head"))
            assert await connection.run_sync(state) == before
        async with engine.begin() as connection:
            await connection.run_sync(lambda given: run("downgrade", given, "base"))
            await connection.run_sync(lambda given: run("upgrade", given, "head"))
        await engine.dispose()

    asyncio.run(upgrade())
    assert catalog(empty) == catalog(head)


def test_a_connection_that_cannot_be_used(empty: Database, engine: Engine) -> None:
    with engine.connect() as connection:
        with pytest.raises(ProgrammingError):
            connection.execute(text("SELECT FROM nothing"))
        with pytest.raises(
            SchemaError, match="the transaction of the connection has failed; roll it back first"
        ):
            run("upgrade", connection, "head")
    with pytest.raises(SchemaError, match="the connection is closed"):
        run("upgrade", connection, "head")
    assert catalog(empty) == {}
