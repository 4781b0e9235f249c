"""Where the database is, and a connection that is fit to migrate it."""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from sqlalchemy import URL, Connection, NullPool, create_engine, event, text

from nexus_schema.errors import SchemaError, enabled

log = logging.getLogger(__name__)

MINIMUM_SERVER_VERSION = 14
LOCK_TIMEOUT = "5s"
"""Longest wait for a lock unless the connection already sets one. It has to exceed deadlock_timeout (1 s):
only then does the server cancel an autovacuum that stands in the way."""

MAINTENANCE_WORK_MEM = "512MB"
"""What an index build may use, unless the connection allows more; taken only as far as a sort needs it."""

CLIENT_CHECK_INTERVAL = "5s"
"""How often the server looks whether the client of a running statement is still there."""

APPLICATION_NAME = "nexus_schema"
"""What pg_stat_activity calls a migration's session, unless the connection has a name already."""

_SCHEMES = {"postgres", "postgresql", "postgresql+psycopg"}
# SQLAlchemy hides the password of a URL, and no other parameter.
_SECRETS = {"sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
_EXAMPLE = "postgresql://user:password@host:5432/database"

# One migration at a time in each schema. Polled, because a blocking wait holds a snapshot, for which a
# concurrent index build of the other migration would wait in turn.
_TRY_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended('nexus_schema ' || current_schema(), 0))")
_POLL_SECONDS = 0.2
_LOG_WAIT_EVERY_SECONDS = 30.0
# The server tells other roles less; pid and role are always told.
_LOCK_HOLDER = text("""
SELECT format('process %s of role %s%s%s, connected since %s', pid, usename,
    ', "' || nullif(application_name, '') || '"', ' from ' || host(client_addr),
    coalesce(to_char(backend_start, 'YYYY-MM-DD HH24:MI:SS TZ'), 'a time it may not tell'))
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (classid::bigint << 32 | objid::bigint) = hashtextextended('nexus_schema ' || current_schema(), 0)""")

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


def parse_url(value: str, variable: str = "DATABASE_URL") -> URL:
    """Return the SQLAlchemy URL (psycopg 3, for sync and async engines) of a libpq connection URI.

    libpq itself reads the URI, so whatever libpq understands works: several hosts, socket directories,
    sslmode, options. Raises :class:`SchemaError` without repeating the value, which holds a password.

    :param variable: what the error calls the value.
    """
    scheme, separator, rest = value.strip().partition("://")
    if not separator:
        raise SchemaError(f"{variable} is not a URL; expected {_EXAMPLE}")
    if scheme not in _SCHEMES:
        shown = f" {scheme}://" if re.fullmatch(r"[a-z0-9+]{1,30}", scheme) else ""
        raise SchemaError(f"{variable} has an unsupported scheme{shown}; expected {_EXAMPLE}")
    parameters: dict[str, Any] | None
    try:
        parameters = {**conninfo_to_dict(f"postgresql://{rest}")}
    except psycopg.ProgrammingError:
        parameters = None
    authority, _, path = rest.partition("?")[0].partition("/")
    # An @ too many ends the password early, and the rest of it would be shown as the host or database.
    misread = authority.count("@") > 1 or "@" in path
    if parameters is None or misread or not re.fullmatch(r"[0-9,]*", str(parameters.get("port", ""))):
        # Raised outside the handler: libpq's own message repeats parts of the URL.
        raise SchemaError(
            f"{variable} is malformed; expected {_EXAMPLE}, with special characters in the"
            " user name and password percent-encoded (@ as %40, / as %2F), and parameters that libpq knows"
        )
    for name in sorted(_SECRETS & parameters.keys()):
        raise SchemaError(
            f"{variable} holds {name}, which logs would show; put it into a connection service file and"
            " name the service: ?service=NAME"
        )
    return url_from(parameters)


def url_from(parameters: Mapping[str, Any]) -> URL:
    """Return the SQLAlchemy URL of libpq's connection parameters (``dbname``, ``user``, ``host``, …)."""
    rest = {name: str(value) for name, value in parameters.items()}
    return URL.create(
        "postgresql+psycopg",
        username=rest.pop("user", None),
        password=rest.pop("password", None),
        database=rest.pop("dbname", None),
        query=rest,  # host and port too: here they may name several servers
    )


def database_url() -> URL:
    """Return the URL that DATABASE_URL names, for ``create_engine`` and ``create_async_engine``.

    Raises :class:`SchemaError` when the variable is unset, empty or malformed.
    """
    value = os.environ.get("DATABASE_URL")
    if not (value and value.strip()):
        state = "not set" if value is None else "empty"
        raise SchemaError(f"DATABASE_URL is {state}; set it to {_EXAMPLE}")
    return parse_url(value)


def migration_url() -> URL | None:
    """Return the URL that MIGRATION_DATABASE_URL names, which comes first for migrating; None when unset.

    Raises :class:`SchemaError` when the variable is malformed.
    """
    value = os.environ.get("MIGRATION_DATABASE_URL", "").strip()
    return parse_url(value, "MIGRATION_DATABASE_URL") if value else None


@contextmanager
def migration_connection(url: URL, *, schema: str | None = None) -> Iterator[Connection]:
    """Connect for a migration: one schema only, a bounded wait for locks, a server new enough.

    :param schema: the schema to work in; by default the first existing one of the search_path. The
        search_path of the connection is narrowed to it, so that nothing in another schema is taken for
        ours (above all another ``alembic_version``).

    Raises :class:`SchemaError` for a schema that does not exist, a server that is too old, or a connection
    pooler that gives each transaction another session.
    """
    engine = create_engine(url, poolclass=NullPool, echo=enabled("DEBUG"))

    # On connect, before SQLAlchemy looks at the connection: it takes the default schema for its own, and
    # Alembic finds no transaction of somebody else's.
    @event.listens_for(engine, "connect", insert=True)
    def prepare(dbapi_connection: psycopg.Connection[Any], _record: object) -> None:
        dbapi_connection.autocommit = True
        _check_session(dbapi_connection)  # first: behind a pooler, settings would reach other clients
        _check_server(dbapi_connection.info.server_version)
        _narrow_search_path(dbapi_connection, schema)
        # A lock has to be followed by a look at what is there then, not at what was there before it.
        dbapi_connection.execute("SET default_transaction_isolation = 'read committed'")
        # An error instead of rows that a policy hides and a backfill would miss.
        dbapi_connection.execute("SET row_security = off")
        dbapi_connection.execute(
            "SELECT set_config('lock_timeout', %s, false) WHERE current_setting('lock_timeout') = '0'",
            [LOCK_TIMEOUT],
        )
        # Index builds sort in memory as long as it lasts; the server's default is meant for autovacuum too.
        dbapi_connection.execute(
            "SELECT set_config('maintenance_work_mem', %s, false)"
            " WHERE pg_size_bytes(current_setting('maintenance_work_mem')) < pg_size_bytes(%s)",
            [MAINTENANCE_WORK_MEM, MAINTENANCE_WORK_MEM],
        )
        # JIT judges by estimates, which are far too high for tables that were just created or filled.
        dbapi_connection.execute("SET jit = off")
        # The session holds the lock of migrations, and is idle while Python works.
        dbapi_connection.execute("SET idle_session_timeout = 0")
        dbapi_connection.execute(
            "SELECT set_config('application_name', %s, false) WHERE current_setting('application_name') = ''",
            [APPLICATION_NAME],
        )
        # A client that is gone without a word leaves no statement running for hours. Not on every system.
        with suppress(psycopg.errors.InvalidParameterValue):
            dbapi_connection.execute(f"SET client_connection_check_interval = '{CLIENT_CHECK_INTERVAL}'")
        dbapi_connection.autocommit = False

    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def in_background(work: Callable[[], Any]) -> "Future[Any]":
    """Run something in a thread that nobody has to wait for, not even the end of the process."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - for whoever asks for the result
            future.set_exception(error)

    threading.Thread(target=run, name="nexus_schema", daemon=True).start()
    return future


def lock_migrations(
    connection: Connection, *, wait: float | None = None, stop: threading.Event | None = None
) -> None:
    """Take the lock that lets one migration at a time work in a schema; it ends with the connection.

    While another session has it, the log says which one.

    :param wait: how many seconds to wait for it; None: as long as it takes.
    :param stop: ends the waiting when another thread sets it.

    Raises :class:`SchemaError` when the time is over or ``stop`` is set.
    """
    stop = stop or threading.Event()
    begin = time.monotonic()
    next_log = begin
    holder = "another session"
    while not connection.execute(_TRY_LOCK).scalar_one():
        now = time.monotonic()
        if now >= next_log:
            holder = connection.execute(_LOCK_HOLDER).scalar() or holder
            log.info("[Migr] waiting for another migration of this schema: %s", holder)
            next_log = now + _LOG_WAIT_EVERY_SECONDS
        connection.commit()
        if wait is not None and now - begin >= wait:
            raise SchemaError(
                f"lock not obtained: another migration of this schema is running ({holder});"
                " try again when it has ended"
            )
        if stop.wait(_POLL_SECONDS):
            raise SchemaError("cancelled while waiting for another migration of this schema")
    connection.commit()


def _check_session(connection: psycopg.Connection[Any]) -> None:
    """Raise :class:`SchemaError` unless the connection keeps one session of the server for itself.

    A pooler gives its own number for the process of the server. In session mode that does not matter; in
    transaction mode the lock of migrations would protect nothing. Which of the two it is shows by what
    two connections see in turn: processes of their own that stay the same, or not.
    """

    def process(connection: psycopg.Connection[Any]) -> int:
        return int(connection.execute("SELECT pg_backend_pid()", prepare=False).fetchall()[0][0])

    if process(connection) == connection.info.backend_pid:
        return
    with psycopg.connect(make_conninfo(**connection_parameters(connection)), autocommit=True) as second:
        seen = [(process(connection), process(second)) for _ in range(5)]
    if len(set(seen)) > 1 or seen[0][0] == seen[0][1]:
        raise SchemaError(
            "this connection goes through a pooler in transaction mode (pgbouncer, for example), where locks"
            " and settings of a session are not its own; set MIGRATION_DATABASE_URL to the server itself"
        )


def connection_parameters(
    connection: "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]",
) -> dict[str, str]:
    """Return the parameters with which a connection was made, the password included, for another one."""
    info = connection.info
    return info.get_parameters() | ({"password": info.password} if info.password else {})


def _check_server(version: int) -> None:
    if version < MINIMUM_SERVER_VERSION * 10_000:
        raise SchemaError(
            f"the server is PostgreSQL {version // 10_000}, older than {MINIMUM_SERVER_VERSION};"
            " upgrade the server, or set DATABASE_URL to another one"
        )


def _narrow_search_path(connection: psycopg.Connection[Any], schema: str | None) -> None:
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
    connection.execute("SELECT set_config('search_path', quote_ident(%s), false)", [row[0]])
