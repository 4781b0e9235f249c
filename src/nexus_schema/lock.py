"""The lock of migrations, by which one at a time works in a schema; and who holds the lock of a table."""

import logging
import re
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from psycopg.errors import LockNotAvailable
from sqlalchemy import Connection, text

from nexus_schema.errors import SchemaError, database_error, statement_of

log = logging.getLogger(__name__)

# Polled, because a blocking wait holds a snapshot, for which a
# concurrent index build of the other migration would wait in turn.
_KEY = "hashtextextended('nexus_schema ' || current_schema(), 0)"
_LOCK = text(f"SELECT pg_try_advisory_lock({_KEY})")
_LOCK_IN_TRANSACTION = text(f"SELECT pg_try_advisory_xact_lock({_KEY})")
_LOCKED = f"""locktype = 'advisory' AND granted AND objsubid = 1
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (classid::bigint << 32 | objid::bigint) = {_KEY}"""  # noqa: S608 - constants
_UNLOCK = f"""
SELECT pg_advisory_unlock({_KEY}) FROM pg_locks WHERE pid = pg_backend_pid() AND {_LOCKED}"""  # noqa: S608
_POLL_SECONDS = 0.2
_LOG_WAIT_EVERY_SECONDS = 30.0
# In a transaction of the caller's, whose locks the other migration may wait for.
_WAIT_IN_TRANSACTION_SECONDS = 5.0
# The server tells other roles less; pid and role are always told.
_LOCK_HOLDER = text(f"""
SELECT format('process %s of role %s%s%s, connected since %s', pid, usename,
    ', "' || nullif(application_name, '') || '"', ' from ' || host(client_addr),
    coalesce(to_char(backend_start, 'YYYY-MM-DD HH24:MI:SS TZ'), 'a time it may not tell'))
FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE {_LOCKED}""")  # noqa: S608

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


def lock_migrations(
    connection: Connection, *, wait: float | None = None, stop: threading.Event | None = None
) -> None:
    """Take the lock that lets one migration at a time work in a schema.

    It ends with the connection, or with the transaction where the connection is in one. While another
    session has it, the log says which one.

    :param wait: how many seconds to wait for it; None: as long as it takes, but 5 s in a transaction.
    :param stop: ends the waiting when another thread sets it.

    Raises :class:`SchemaError` when the time is over or ``stop`` is set.
    """
    inside = connection.in_transaction()
    lock = _LOCK_IN_TRANSACTION if inside else _LOCK
    if inside and wait is None:
        wait = _WAIT_IN_TRANSACTION_SECONDS
    stop = stop or threading.Event()
    begin = time.monotonic()
    next_log = begin
    holder = "another session"
    while not connection.execute(lock).scalar_one():
        now = time.monotonic()
        if now >= next_log:
            holder = connection.execute(_LOCK_HOLDER).scalar() or holder
            log.info("[Migr] waiting for another migration of this schema: %s", holder)
            next_log = now + _LOG_WAIT_EVERY_SECONDS
        if not inside:
            connection.commit()
        if wait is not None and now - begin >= wait:
            raise SchemaError(
                f"lock not obtained: another migration of this schema is running ({holder});"
                " try again when it has ended"
            )
        if stop.wait(_POLL_SECONDS):
            raise SchemaError("cancelled while waiting for another migration of this schema")
    if not inside:
        connection.commit()


def unlock_migrations(driver: Any) -> None:
    """Give the lock back, however often the session of this connection of psycopg has taken it."""
    while driver.execute(_UNLOCK).fetchall() == [(True,)]:
        pass


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
