"""The migration lock, which lets one migration at a time work in a schema; the holder of a table's lock."""

import logging
import re
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, text

from alembic_online import lock
from nexus_schema.errors import SchemaError, database_error, statement_of

log = logging.getLogger(__name__)

NAME = "nexus_schema"

# The session that holds a lock on these tables, or on the tables of these indexes. A session that writes
# comes first, then the one with the oldest transaction. Readers do not block an index build.
_TABLE_HOLDER = text("""
WITH named AS (
    SELECT oid FROM pg_class WHERE relname = ANY (:names)
      AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
)
SELECT format('table %s is held by process %s%s%s%s', relation::regclass, pid, ' of role ' || usename,
    ', "' || nullif(application_name, '') || '"',
    ', in its transaction for ' || extract(epoch FROM clock_timestamp() - xact_start)::int || ' s')
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'relation' AND granted AND pid <> pg_backend_pid()
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation IN (
    SELECT oid FROM named UNION SELECT indrelid FROM pg_index JOIN named ON indexrelid = named.oid
    UNION SELECT confrelid FROM pg_constraint JOIN named ON conrelid = named.oid)
  AND (:readers OR mode NOT IN ('AccessShareLock', 'RowShareLock', 'ShareLock'))
ORDER BY mode IN ('AccessShareLock', 'RowShareLock'), xact_start LIMIT 1""")


class _Log(logging.LoggerAdapter[logging.Logger]):
    def process(self, message: Any, kwargs: Any) -> tuple[Any, Any]:
        return f"[Migr] {message}", kwargs


def lock_migrations(
    connection: Connection, *, wait: float | None = None, stop: threading.Event | None = None
) -> None:
    """Take the migration lock of this project as :func:`alembic_online.lock.lock_migrations` does."""
    lock.lock_migrations(connection, name=NAME, wait=wait, stop=stop, log=_Log(log))


def unlock_migrations(connection: Connection) -> None:
    """Release the migration lock, and that of online operations."""
    for name in (NAME, lock.NAME):
        lock.unlock_migrations(connection, name=name)


@contextmanager
def name_lock_holder(connection: Connection) -> Iterator[None]:
    """Make the error of a lock that was not obtained name the revision, the table and the holder."""
    inside = connection.in_transaction()
    try:
        yield
    except Exception as error:
        if not isinstance(database_error(error), LockNotAvailable):
            raise
        revisions = [
            file.stem
            for frame, _ in traceback.walk_tb(error.__traceback__)
            if (file := Path(frame.f_code.co_filename)).parent.name == "versions"
        ]
        holder = None
        if not inside:  # otherwise no query works until the caller has rolled back
            connection.rollback()
            statement = statement_of(error) or ""
            readers = not re.match(r"\s*CREATE\s+(UNIQUE\s+)?INDEX\b", statement, re.IGNORECASE)
            names = re.findall(r"\w+", statement)
            holder = connection.execute(_TABLE_HOLDER, {"names": names, "readers": readers}).scalar()
            connection.rollback()
        raise SchemaError(
            f"lock not obtained{''.join(f' in {name}' for name in revisions[:1])}:"
            f" {holder or 'another session holds it'}; try again at a quieter moment, use -x online, or allow"
            " a longer wait with PGOPTIONS='-c lock_timeout=60s'"
        ) from error
