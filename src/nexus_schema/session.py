"""The session of a migration: one schema, and defined settings."""

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
"""Longest wait for a lock, unless the client sets another. It must exceed deadlock_timeout (1 s): only then
does the server cancel an autovacuum that blocks the migration."""

MAINTENANCE_WORK_MEM = "512MB"
"""Memory limit of an index build, unless the connection has a higher one. A sort uses only what it needs."""

CLIENT_CHECK_INTERVAL = "5s"
"""How often the server checks whether the client of a running statement is still connected."""

APPLICATION_NAME = "nexus_schema"
"""The application_name of a migration's session, unless the connection already has one."""

# Roles and databases may have other values, which are meant for programs other than migrations.
_SETTINGS = {
    # How the server reads SQL, and how it displays the catalog.
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "client_encoding": "UTF8",
    # After a migration has obtained a lock, it must see the current state, not an earlier snapshot.
    "default_transaction_isolation": "read committed",
    # Raise an error, instead of hiding rows from a backfill by a policy.
    "row_security": "off",
    # JIT depends on cost estimates, which are far too high for tables that were just created or filled.
    "jit": "off",
    # The session holds the migration lock, and is idle while Python works.
    "idle_session_timeout": "0",
}
# A client may set other values, with PGOPTIONS, options= in the URL, or SET.
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
# Index builds sort in memory if it suffices; the server's default has to suit autovacuum too.
_SET_MEMORY = """
SELECT set_config('maintenance_work_mem', %(memory)s, %(local)s)
WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < pg_size_bytes(%(memory)s)"""
_SET_NAME = "SELECT set_config('application_name', %s, false) WHERE current_setting('application_name') = ''"
# The settings that a session may change, without the state of the current transaction.
_READ_SETTINGS = """
SELECT name, setting, source FROM pg_settings
WHERE context IN ('user', 'superuser') AND name <> ALL (
    '{transaction_isolation,transaction_read_only,transaction_deferrable,seed}')"""

# The first schema of the search_path that has one of our tables, if it is not the first schema of the path.
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
    """Yield a connection for a migration: one schema, a limited wait for locks, a supported server version.

    For a URL, it opens a connection. For an engine, it takes a connection of the pool, which gets it back
    unchanged. It uses a given connection itself, also that of an asynchronous engine in ``run_sync()``, and
    restores its settings afterwards. If that connection is in a transaction, everything becomes part of the
    transaction, and the caller commits.

    :param schema: the schema to work in; by default the first existing one of the search_path. The
        search_path of the connection is narrowed to it, so that nothing in another schema is mistaken for
        part of this project (above all another ``alembic_version``).

    Raises :class:`SchemaError` for a schema that does not exist, a server that is too old, a pooler in
    transaction mode, and an engine or connection that does not use psycopg 3.
    """
    if isinstance(database, URL):
        with _own(database, schema) as connection:
            yield connection
    elif isinstance(database, Engine):
        check_engine(database)
        if database.dialect.is_async:
            raise SchemaError("the engine is asynchronous; pass its connection with run_sync()")
        with database.connect() as connection:
            # Overrides the engine's level; the pool restores it.
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
    """Raise :class:`SchemaError` unless the engine uses psycopg 3, or one of the given drivers."""
    dialect = engine.dialect
    if engine.get_execution_options().get("schema_translate_map"):
        raise SchemaError(
            "the engine has a schema_translate_map, which revisions ignore;"
            " select the schema with search_path"
        )
    if dialect.driver not in (drivers or ("psycopg",)):
        raise SchemaError(
            f"the engine uses {dialect.name}+{dialect.driver}; pass one with postgresql+psycopg, or a URL"
        )


@contextmanager
def _own(url: URL, schema: str | None) -> Iterator[Connection]:
    engine = create_engine(url, poolclass=NullPool, echo=enabled("DEBUG"))

    # On connect, before SQLAlchemy inspects the connection: SQLAlchemy then sees the narrowed search_path as
    # the default schema, and Alembic finds no open transaction.
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
    """Prepare a connection of the caller, and restore its settings and locks afterwards."""
    if connection.closed:
        raise SchemaError("the connection is closed; pass one that is open")
    driver: Any = connection.connection.dbapi_connection
    inside = connection.in_transaction()
    if driver.info.transaction_status == pq.TransactionStatus.INERROR:
        raise SchemaError("the transaction of the connection has failed; roll it back first")
    if driver.autocommit:
        raise SchemaError(
            "the connection is in autocommit mode, so a failed revision would not be rolled back; pass one"
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
                f"the isolation level of the connection is {level}, where a migration cannot see what another"
                " one has just committed; pass a connection in READ COMMITTED"
            )
        yield
    finally:
        if driver.closed and not connection.closed:
            connection.invalidate()  # SQLAlchemy does not notice it unless one of its own statements fails
        _give_back(connection, driver, before, inside=inside)


def _give_back(connection: Connection, driver: Any, before: dict[str, Any], *, inside: bool) -> None:
    if connection.closed or connection.invalidated or driver.closed:
        return
    if inside:  # if it has failed, the caller's rollback restores everything
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
                # NULL resets it to the default of the session, which it had before.
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
    """Return each setting of the session with its source, by name."""
    return {name: (setting, source) for name, setting, source in driver.execute(_READ_SETTINGS).fetchall()}


def _prepare(driver: Any, schema: str | None, *, local: bool) -> None:
    """Check a session and apply the settings of a migration to it, or only to its current transaction."""
    _check_session(driver)  # first: behind a pooler, settings would reach other clients
    _check_server(driver.info.server_version)
    wanted = _SETTINGS | _TIMEOUTS
    driver.execute(_SET, {"names": list(wanted), "values": list(wanted.values()), "local": local})
    driver.execute(_SET_MEMORY, {"memory": MAINTENANCE_WORK_MEM, "local": local})
    _narrow_search_path(driver, schema, local=local)
    if not local:
        # Stops the statement of a client that has vanished. Not every operating system supports it.
        with suppress(psycopg.errors.InvalidParameterValue):
            driver.execute(f"SET client_connection_check_interval = '{CLIENT_CHECK_INTERVAL}'")


def _check_session(connection: Any) -> None:
    """Raise :class:`SchemaError` unless the connection keeps one session of the server for itself.

    A pooler reports its own number as the process ID of the server. In session mode that does no harm. In
    transaction mode, the migration lock would protect nothing. To tell them apart, two connections ask for
    their process IDs in turn: in session mode, each keeps an ID of its own.
    """

    def process(connection: Any) -> int:
        return int(connection.execute("SELECT pg_backend_pid()").fetchall()[0][0])

    if process(connection) == connection.info.backend_pid:
        return
    with psycopg.connect(make_conninfo(**connection_parameters(connection)), autocommit=True) as second:
        seen = [(process(connection), process(second)) for _ in range(4)]  # too few to be prepared
    if len(set(seen)) > 1 or seen[0][0] == seen[0][1]:
        raise SchemaError(
            "this connection goes through a pooler in transaction mode (pgbouncer, for example), where locks"
            " and settings of a session are shared; set MIGRATION_DATABASE_URL to the server itself"
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
            f"{missing} exists in this database; create it, or select another with -x schema=NAME on the"
            " command line, or with search_path"
        )
    if schema is None:
        elsewhere = connection.execute(_TABLES_LATER_ON_THE_PATH).fetchone()
        if elsewhere is not None:
            raise SchemaError(
                f'the tables are in schema "{elsewhere[0]}", but the search_path begins with "{row[0]}",'
                f" where new ones would hide them; select one: -x schema={elsewhere[0]} or -x schema={row[0]}"
            )
    connection.execute("SELECT set_config('search_path', quote_ident(%s), %s)", [row[0], local])
