"""What differs between drivers: psycopg 3 and 2, asyncpg, and others that SQLAlchemy knows."""

import sqlalchemy as sa


def is_in_autocommit(connection: sa.Connection) -> bool:
    """Return whether each statement commits by itself."""
    return bool(getattr(connection.connection.dbapi_connection, "autocommit", False))


def takes_several_statements(connection: sa.Connection) -> bool:
    """Return whether a text may hold several statements; what prepares statements takes one at a time."""
    return connection.dialect.driver.startswith("psycopg")


def first_line(error: BaseException) -> str:
    """Return the first line of what the server says of an error: the others may hold values of rows."""
    cause = getattr(error, "orig", None) or error
    diagnostics = getattr(cause, "diag", None)  # psycopg 3 and 2
    said = getattr(diagnostics, "message_primary", None)
    if said is None:  # SQLAlchemy wraps asyncpg's error and puts its class before the text
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
