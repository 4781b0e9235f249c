"""The lock of migrations, by which one at a time works in a schema; and who holds the lock of a table."""

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

# The session that has held a lock of these tables, or of the tables of these indexes, for the longest time.
_TABLE_HOLDER = text("""
WITH named AS (
    SELECT oid FROM pg_class WHERE relname = ANY (:names)
      AND relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
)
SELECT format('table %s is held by process %s%s%s%s', relation::regclass, pid, ' of role ' || usename,
    ', "' || nullif(application_name, '') || '"',
    format(', in its transaction for %s s', extract(epoch FROM clock_timestamp() - xact_start)::int))
FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'relation' AND granted AND pid <> pg_backend_pid()
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation IN (
    SELECT oid FROM named UNION SELECT indrelid FROM pg_index JOIN named ON indexrelid = named.oid
    UNION SELECT confrelid FROM pg_constraint JOIN named ON conrelid = named.oid)
ORDER BY xact_start LIMIT 1""")


class _Log(logging.LoggerAdapter[logging.Logger]):
    def process(self, message: Any, kwargs: Any) -> tuple[Any, Any]:
        return f"[Migr] {message}", kwargs


def lock_migrations(
    connection: Connection, *, wait: float | None = None, stop: threading.Event | None = None
) -> None:
    """Take the lock of migrations as :func:`alembic_online.lock.lock_migrations` does, under our own name."""
    lock.lock_migrations(connection, name=NAME, wait=wait, stop=stop, log=_Log(log))


def unlock_migrations(connection: Connection) -> None:
    """Give back the lock of migrations, and that of online operations."""
    for name in (NAME, lock.NAME):
        lock.unlock_migrations(connection, name=name)


@contextmanager
def name_lock_holder(connection: Connection) -> Iterator[None]:
    """Have the error of a lock that was not obtained say in which revision, which table, and who holds it."""
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
        if not connection.in_transaction():  # else the server answers nothing until it is rolled back
            names = re.findall(r"\w+", statement_of(error) or "")
            holder = connection.execute(_TABLE_HOLDER, {"names": names}).scalar()
            connection.rollback()
        raise SchemaError(
            f"lock not obtained in {', '.join(revisions[:1]) or 'a revision'}:"
            f" {holder or 'another session holds it'}; try again at a quieter moment, use -x online, or allow"
            " a longer wait with PGOPTIONS='-c lock_timeout=60s'"
        ) from error
