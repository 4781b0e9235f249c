"""A session that is fit to migrate: one schema, and settings of its own."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event

from nexus_schema.database import connection_parameters
from nexus_schema.errors import SchemaError, enabled
from nexus_schema.lock import unlock_migrations

MINIMUM_SERVER_VERSION = 14
LOCK_TIMEOUT = "5s"
"""Longest wait for a lock unless the client asks for another one. It has to exceed deadlock_timeout (1 s):
only then does the server cancel an autovacuum that stands in the way."""

MAINTENANCE_WORK_MEM = "512MB"
"""What an index build may use, unless the connection allows more; taken only as far as a sort needs it."""

CLIENT_CHECK_INTERVAL = "5s"
"""How often the server looks whether the client of a running statement is still there."""

APPLICATION_NAME = "nexus_schema"
"""What pg_stat_activity calls a migration's session, unless the connection has a name already."""

# What roles and databases may have set otherwise, for programs that are no migrations.
_SETTINGS = {
    # How the server reads SQL, and how its catalogs spell it.
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "client_encoding": "UTF8",
    # A lock has to be followed by a look at what is there then, not at what was there before it.
    "default_transaction_isolation": "read committed",
    # An error instead of rows that a policy hides and a backfill would miss.
    "row_security": "off",
    # JIT judges by estimates, which are far too high for tables that were just created or filled.
    "jit": "off",
    # The session holds the lock of migrations, and is idle while Python works.
    "idle_session_timeout": "0",
}
# A client may ask for others, by PGOPTIONS, by options= in the URL or by SET.
_TIMEOUTS = {
    "lock_timeout": LOCK_TIMEOUT,
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "transaction_timeout": "0",  # since PostgreSQL 17
}
_SET = f"""
SELECT set_config(name, value, %(local)s) FROM pg_settings
JOIN unnest(%(names)s::text[], %(values)s::text[]) AS wanted (name, value) USING (name)
WHERE name <> ALL ('{{{",".join(_TIMEOUTS)}}}') OR source NOT IN ('client', 'session')"""  # noqa: S608 - constants
# Index builds sort in memory as long as it lasts; the server's default is meant for autovacuum too.
_SET_MEMORY = """
SELECT set_config('maintenance_work_mem', %(memory)s, %(local)s)
WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < pg_size_bytes(%(memory)s)"""
_SET_NAME = "SELECT set_config('application_name', %s, false) WHERE current_setting('application_name') = ''"
# What a session may change of its own; the state of the current transaction is none of it.
_READ_SETTINGS = """
SELECT name, setting, source FROM pg_settings
WHERE context IN ('user', 'superuser') AND name <> ALL (
    '{transaction_isolation,transaction_read_only,transaction_deferrable,seed}')"""

# The first schema of the search_path that has one of our tables, when it is not the first of all.
_TABLES_LATER_ON_THE_PATH = """
SELECT nspname
FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (nspname, place)
JOIN pg_namespace USING (nspname) JOIN pg_class ON relnamespace = pg_namespace.oid
WHERE relname IN ('api_requests', 'streaming_chunks', 'conversation_metrics') AND relkind IN ('r', 'p', 'v')
GROUP BY nspname HAVING min(place) > 1 AND NOT EXISTS (
    SELECT FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
      AND relname IN ('api_requests', 'streaming_chunks', 'conversation_metrics'))
ORDER BY min(place) LIMIT 1"""


@contextmanager
def migration_connection(
    database: URL | Engine | Connection, *, schema: str | None = None
) -> Iterator[Connection]:
    """Yield a connection for a migration: one schema only, a bounded wait for locks, a server new enough.

    A URL: a connection of its own. An engine: one of its pool, which gets it back as it was. A connection,
    also of an asynchronous engine in ``run_sync()``: this one, with its settings as they were afterwards;
    where it is in a transaction, everything becomes part of it, and the caller commits.

    :param schema: the schema to work in; by default the first existing one of the search_path. The
        search_path of the connection is narrowed to it, so that nothing in another schema is taken for
        ours (above all another ``alembic_version``).

    Raises :class:`SchemaError` for a schema that does not exist, a server that is too old, a connection
    pooler that gives each transaction another session, an engine or connection that is not of psycopg 3.
    """
    if isinstance(database, URL):
        with _own(database, schema) as connection:
            yield connection
    elif isinstance(database, Engine):
        check_engine(database)
        if database.dialect.is_async:
            raise SchemaError("the engine is asynchronous; pass its connection by run_sync()")
        with database.connect() as connection:
            # Whatever the engine's own level is; the pool puts it back.
            connection.execution_options(isolation_level="READ COMMITTED")
            with _borrowed(connection, schema):
                yield connection
    elif isinstance(database, Connection):
        check_engine(database.engine)
        with _borrowed(database, schema):
            yield database
    else:
        raise SchemaError(f"pass an Engine or a Connection, not an object of {type(database).__name__}")


def check_engine(engine: Engine, *drivers: str) -> None:
    """Raise :class:`SchemaError` unless the engine is one of psycopg 3, or of the drivers that are named."""
    dialect = engine.dialect
    if engine.get_execution_options().get("schema_translate_map"):
        raise SchemaError(
            "the engine has a schema_translate_map, which revisions do not follow;"
            " name the schema by search_path"
        )
    if dialect.driver not in (drivers or ("psycopg",)):
        raise SchemaError(
            f"the engine is one of {dialect.name}+{dialect.driver}; pass one of postgresql+psycopg, or a URL"
        )


@contextmanager
def _own(url: URL, schema: str | None) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=NullPool, echo=enabled("DEBUG"))

    # On connect, before SQLAlchemy looks at the connection: it takes the default schema for its own, and
    # Alembic finds no transaction of somebody else's.
    @event.listens_for(engine, "connect", insert=True)
    def prepare(driver: Any, _record: object) -> None:
        driver.autocommit = True
        _prepare(driver, schema, local=False)
        driver.execute(_SET_NAME, [APPLICATION_NAME])
        driver.autocommit = False

    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


@contextmanager
def _borrowed(connection: Connection, schema: str | None) -> Iterator[None]:
    """Prepare somebody else's connection, and give it back with its settings and locks as they were."""
    if connection.closed:
        raise SchemaError("the connection is closed; pass one that is open")
    driver: Any = connection.connection.dbapi_connection
    inside = connection.in_transaction()
    if driver.info.transaction_status == pq.TransactionStatus.INERROR:
        raise SchemaError("a statement has failed in the transaction of the connection; roll it back first")
    if driver.autocommit:
        raise SchemaError(
            "the connection is in autocommit mode, in which a revision that fails is not undone; pass one"
            " that is not"
        )
    before: dict[str, Any] = {}
    try:
        with _autocommit(driver, unless=inside):
            before = _settings(driver)
            _prepare(driver, schema, local=inside)
        level = driver.execute("SHOW transaction_isolation").fetchone()[0]
        if not inside:
            driver.rollback()
        if level != "read committed":
            raise SchemaError(
                f"the isolation level of the connection is {level}, in which a migration cannot see what"
                " another one has just done; pass a connection in READ COMMITTED"
            )
        yield
    finally:
        if driver.closed and not connection.closed:
            connection.invalidate()  # SQLAlchemy has not seen it where no statement of its own failed
        _give_back(connection, driver, before, inside=inside)


def _give_back(connection: Connection, driver: Any, before: dict[str, Any], *, inside: bool) -> None:
    if connection.closed or connection.invalidated or driver.closed:
        return
    if inside:  # where it has failed, the rollback that has to follow brings all back
        if driver.info.transaction_status != pq.TransactionStatus.INTRANS:
            return
    else:
        connection.rollback()
        unlock_migrations(connection)
        connection.commit()
    with _autocommit(driver, unless=inside):
        now = _settings(driver)
        for name, (old, source) in before.items():
            if now[name][0] != old:
                # NULL: the default of the session, which is what it was.
                value = old if inside or source == "session" else None
                driver.execute("SELECT set_config(%s, %s, %s)", [name, value, inside])


@contextmanager
def _autocommit(driver: Any, *, unless: bool) -> Iterator[None]:
    if unless:
        yield
        return
    driver.autocommit = True
    try:
        yield
    finally:
        if not driver.closed:
            driver.autocommit = False


def _settings(driver: Any) -> dict[str, tuple[str, str]]:
    """Return every setting of the session with the place that it comes from, by name."""
    return {name: (setting, source) for name, setting, source in driver.execute(_READ_SETTINGS).fetchall()}


def _prepare(driver: Any, schema: str | None, *, local: bool) -> None:
    """Check a session and make its settings those of a migration, or those of its transaction alone."""
    _check_session(driver)  # first: behind a pooler, settings would reach other clients
    _check_server(driver.info.server_version)
    wanted = _SETTINGS | _TIMEOUTS
    driver.execute(_SET, {"names": list(wanted), "values": list(wanted.values()), "local": local})
    driver.execute(_SET_MEMORY, {"memory": MAINTENANCE_WORK_MEM, "local": local})
    _narrow_search_path(driver, schema, local=local)
    if not local:
        # A client that is gone without a word leaves no statement running for hours. Not on every system.
        with suppress(psycopg.errors.InvalidParameterValue):
            driver.execute(f"SET client_connection_check_interval = '{CLIENT_CHECK_INTERVAL}'")


def _check_session(connection: Any) -> None:
    """Raise :class:`SchemaError` unless the connection keeps one session of the server for itself.

    A pooler gives its own number for the process of the server. In session mode that does not matter; in
    transaction mode the lock of migrations would protect nothing. Which of the two it is shows by what
    two connections see in turn: processes of their own that stay the same, or not.
    """

    def process(connection: Any) -> int:
        return int(connection.execute("SELECT pg_backend_pid()").fetchall()[0][0])

    if process(connection) == connection.info.backend_pid:
        return
    with psycopg.connect(make_conninfo(**connection_parameters(connection)), autocommit=True) as second:
        seen = [(process(connection), process(second)) for _ in range(4)]  # not prepared yet
    if len(set(seen)) > 1 or seen[0][0] == seen[0][1]:
        raise SchemaError(
            "this connection goes through a pooler in transaction mode (pgbouncer, for example), where locks"
            " and settings of a session are not its own; set MIGRATION_DATABASE_URL to the server itself"
        )


def _check_server(version: int) -> None:
    if version < MINIMUM_SERVER_VERSION * 10_000:
        raise SchemaError(
            f"the server is PostgreSQL {version // 10_000}, older than {MINIMUM_SERVER_VERSION};"
            " upgrade the server, or set DATABASE_URL to another one"
        )


def _narrow_search_path(connection: Any, schema: str | None, *, local: bool) -> None:
    if schema is None:
        row = connection.execute("SELECT current_schema()").fetchone()
        missing = "no schema of the search_path"
    else:
        row = connection.execute(
            "SELECT max(nspname) FROM pg_namespace WHERE nspname = %s", [schema]
        ).fetchone()
        missing = f'no schema "{schema}"'
    if row is None or row[0] is None:
        raise SchemaError(
            f"{missing} exists in this database; create it, or name another with -x schema=NAME on the"
            " command line, or with search_path"
        )
    if schema is None:
        elsewhere = connection.execute(_TABLES_LATER_ON_THE_PATH).fetchone()
        if elsewhere is not None:
            raise SchemaError(
                f'the tables are in schema "{elsewhere[0]}", but the search_path begins with "{row[0]}",'
                f" where new ones would hide them; say which is meant: -x schema={elsewhere[0]} or {row[0]}"
            )
    connection.execute("SELECT set_config('search_path', quote_ident(%s), %s)", [row[0], local])
