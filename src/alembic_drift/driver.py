"""Differences between drivers: psycopg 3 and 2, asyncpg, and others that SQLAlchemy supports."""

import sqlalchemy as sa


def is_in_autocommit(connection: sa.Connection) -> bool:
    """Return whether the connection commits each statement."""
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


def takes_several_statements(connection: sa.Connection) -> bool:
    """Return whether one text may hold several statements; prepared statements take only one."""
    return connection.dialect.driver.startswith("psycopg")


def first_line(error: BaseException) -> str:
    """Return the first line of a server's error message; the other lines may contain values of rows."""
    cause = getattr(error, "orig", None) or error
    diagnostics = getattr(cause, "diag", None)  # psycopg 3 and 2
    said = getattr(diagnostics, "message_primary", None)
    if said is None:  # SQLAlchemy wraps asyncpg's error and puts its class in front
        said = str(cause.__cause__ or cause)
    return (said.strip().splitlines() or [type(cause).__name__])[0]


def sqlstate(error: BaseException) -> str | None:
    """Return the SQLSTATE of a database's error, or None."""
    cause = getattr(error, "orig", None) or error
    for name in ("sqlstate", "pgcode"):
        found = getattr(cause, name, None)
        if found is not None:
            return str(found)
    return None
