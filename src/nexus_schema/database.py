"""Where the database is, and a connection that is fit to migrate it."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, Connection, NullPool, create_engine, event, text

from nexus_schema.errors import SchemaError, debug_enabled

MINIMUM_SERVER_VERSION = 14
LOCK_TIMEOUT = "5s"
"""Longest wait for a lock unless the connection already sets one. It has to exceed deadlock_timeout (1 s):
only then does the server cancel an autovacuum that stands in the way."""

_SCHEMES = {"postgres", "postgresql", "postgresql+psycopg"}
# SQLAlchemy hides the password of a URL, and no other parameter.
_SECRETS = {"sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
_EXAMPLE = "postgresql://user:password@host:5432/database"

# One migration at a time in each schema. Polled, because a blocking wait holds a snapshot, for which a
# concurrent index build of the other migration would wait in turn.
_TRY_LOCK = text("SELECT pg_try_advisory_lock(hashtextextended('nexus_schema ' || current_schema(), 0))")
_LOCK_TIMEOUT_MS = text("SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout'")

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


def parse_url(value: str) -> URL:
    """Return the SQLAlchemy URL (psycopg 3, for sync and async engines) of a libpq connection URI.

    libpq itself reads the URI, so whatever libpq understands works: several hosts, socket directories,
    sslmode, options. Raises :class:`SchemaError` without repeating the value, which holds a password.
    """
    scheme, separator, rest = value.strip().partition("://")
    if not separator:
        raise SchemaError(f"DATABASE_URL is not a URL; expected {_EXAMPLE}")
    if scheme not in _SCHEMES:
        shown = f" {scheme}://" if re.fullmatch(r"[a-z0-9+]{1,30}", scheme) else ""
        raise SchemaError(f"DATABASE_URL has an unsupported scheme{shown}; expected {_EXAMPLE}")
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
            f"DATABASE_URL is malformed; expected {_EXAMPLE}, with special characters in the"
            " user name and password percent-encoded (@ as %40, / as %2F)"
        )
    for name in sorted(_SECRETS & parameters.keys()):
        raise SchemaError(
            f"DATABASE_URL holds {name}, which logs would show; put it into a connection service file and"
            " name the service: ?service=NAME"
        )
    return URL.create(
        "postgresql+psycopg",
        username=parameters.pop("user", None),
        password=parameters.pop("password", None),
        database=parameters.pop("dbname", None),
        query=parameters,  # host and port too: here they may name several servers
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


@contextmanager
def migration_connection(url: URL, *, schema: str | None = None) -> Iterator[Connection]:
    """Connect for a migration: one schema only, a bounded wait for locks, a server new enough.

    :param schema: the schema to work in; by default the first existing one of the search_path. The
        search_path of the connection is narrowed to it, so that nothing in another schema is taken for
        ours (above all another ``alembic_version``).

    Raises :class:`SchemaError` for a schema that does not exist or a server that is too old.
    """
    engine = create_engine(url, poolclass=NullPool, echo=debug_enabled())

    # On connect, before SQLAlchemy looks at the connection: it takes the default schema for its own, and
    # Alembic finds no transaction of somebody else's.
    @event.listens_for(engine, "connect", insert=True)
    def prepare(dbapi_connection: psycopg.Connection[Any], _record: object) -> None:
        dbapi_connection.autocommit = True
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
        dbapi_connection.autocommit = False

    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def lock_migrations(connection: Connection) -> None:
    """Take the lock that lets one migration at a time work in a schema; it ends with the connection.

    Waits as long as the connection's lock_timeout says (0: for ever), then raises :class:`SchemaError`.
    """
    timeout_ms: int = connection.execute(_LOCK_TIMEOUT_MS).scalar_one()
    deadline = time.monotonic() + timeout_ms / 1000
    while not connection.execute(_TRY_LOCK).scalar_one():
        connection.commit()
        if timeout_ms and time.monotonic() > deadline:
            raise SchemaError(
                "lock not obtained: another migration of this schema is running; try again when it has ended"
            )
        time.sleep(0.2)
    connection.commit()


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
            f"{missing} exists in this database; create it, or name another with -x schema=NAME"
        )
    if schema is None:
        elsewhere = connection.execute(_TABLES_LATER_ON_THE_PATH).fetchone()
        if elsewhere is not None:
            raise SchemaError(
                f'the tables are in schema "{elsewhere[0]}", but the search_path begins with "{row[0]}",'
                f" where new ones would hide them; say which is meant: -x schema={elsewhere[0]} or {row[0]}"
            )
    connection.execute("SELECT set_config('search_path', quote_ident(%s), false)", [row[0]])
