"""Materialized views as PostgreSQL displays them: queries can only be compared in that form."""

import re
import uuid
from collections.abc import Sequence

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from psycopg.errors import InsufficientPrivilege
from sqlalchemy.exc import ProgrammingError

# The statements that recreate a view as it is in the database: the view, its indexes, its comments.
_FOUND = sa.text("""\
SELECT format('CREATE MATERIALIZED VIEW %I AS %s', relname, rtrim(pg_get_viewdef(oid), ';')) AS statement
FROM pg_class WHERE oid = to_regclass(quote_ident(:view)) AND relkind = 'm'
UNION ALL
(SELECT pg_get_indexdef(indexrelid, 0, true)
FROM pg_index WHERE indrelid = to_regclass(quote_ident(:view)) ORDER BY indexrelid::regclass::text)
UNION ALL
(SELECT format('COMMENT ON COLUMN %I.%I IS %L', :view, attname, col_description(attrelid, attnum))
FROM pg_attribute
WHERE attrelid = to_regclass(quote_ident(:view)) AND col_description(attrelid, attnum) IS NOT NULL
ORDER BY attnum)
UNION ALL
SELECT format('COMMENT ON MATERIALIZED VIEW %I IS %L', :view, description) FROM pg_description
WHERE objoid = to_regclass(quote_ident(:view)) AND classoid = 'pg_class'::regclass AND objsubid = 0""")

_TEMPORARY = sa.text("""\
SELECT format('CREATE MATERIALIZED VIEW %I AS %s', CAST(:view AS text),
    rtrim(pg_get_viewdef(to_regclass(:probe)), ';'))""")

_COLUMNS_READ = sa.text("""\
SELECT DISTINCT relname AS table, attname AS name
FROM pg_rewrite JOIN pg_depend ON classid = 'pg_rewrite'::regclass AND objid = pg_rewrite.oid
JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid JOIN pg_class ON pg_class.oid = attrelid
WHERE ev_class = to_regclass(quote_ident(:view)) AND refobjid <> ev_class
  AND refclassid = 'pg_class'::regclass""")


def found_statements(connection: sa.Connection, view: str) -> list[str]:
    """Return the statements that recreate a materialized view; an empty list if there is no such view."""
    return list(connection.scalars(_FOUND, {"view": view}))


def columns_read_by(connection: sa.Connection, view: str) -> set[tuple[str, str]]:
    """Return the table and the name of each column that a view reads."""
    return {(row.table, row.name) for row in connection.execute(_COLUMNS_READ, {"view": view})}


def rendered_statements(connection: sa.Connection, view: str, statements: Sequence[str]) -> list[str]:
    """Return the statements that create a view as the server would display them.

    The view is created under another name and without data, in a savepoint that is rolled back, so that the
    comparison blocks nobody. The list is empty if the view cannot be created, because it needs a column that
    does not exist yet.
    """
    probe = f"probe_{uuid.uuid4().hex[:8]}"  # not the name of any relation; short, as part of index names
    with connection.begin_nested() as savepoint:
        try:
            for statement in statements:
                renamed = re.sub(r'^(CREATE (?:UNIQUE )?INDEX "?)', rf"\1{probe}_", statement)
                renamed = re.sub(rf"\b(?<!{probe}_){view}\b", probe, renamed, count=1)
                tail = " WITH NO DATA" if statement.startswith("CREATE MATERIALIZED VIEW") else ""
                connection.exec_driver_sql(renamed.replace("%", "%%") + tail)
            rendered = found_statements(connection, probe)
        except ProgrammingError as error:
            if isinstance(error.orig, InsufficientPrivilege):
                raise
            rendered = []
        savepoint.rollback()
    return [statement.replace(f"{probe}_", "").replace(probe, view) for statement in rendered]


def rendered_without_change(context: MigrationContext, view: str, statement: str) -> list[str]:
    """Do the same as :func:`rendered_statements` for a plan, with a temporary view.

    It uses a transaction of its own, because that of the plan is read-only. It needs TEMP on the database.
    """
    probe = f"probe_{uuid.uuid4().hex[:8]}"
    _, _, query = statement.partition(" AS\n")
    with context.autocommit_block():
        connection = context.connection
        assert connection is not None  # noqa: S101 - there is no plan of a script
        connection.exec_driver_sql("BEGIN READ WRITE")
        try:
            connection.exec_driver_sql(f"CREATE TEMP VIEW {probe} AS {query}".replace("%", "%%"))
            rendered = connection.scalars(_TEMPORARY, {"view": view, "probe": probe}).all()
        except ProgrammingError as error:
            if isinstance(error.orig, InsufficientPrivilege):
                raise
            rendered = []
        finally:
            connection.exec_driver_sql("ROLLBACK")
    return [*rendered]
