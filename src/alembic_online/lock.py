"""A lock that allows one migration of a schema at a time."""

import threading
import time
from typing import Any

from sqlalchemy import Connection, text

from alembic_online.errors import OnlineError
from alembic_online.log import log

NAME = "alembic_online"

POLL_SECONDS = 0.2
"""Polled, because a blocking wait would hold a snapshot, and a concurrent index build of the other
migration would wait for the end of that snapshot."""

LOG_EVERY_SECONDS = 30.0

WAIT_IN_TRANSACTION_SECONDS = 5.0
"""Default wait within a transaction of the caller: the other migration may be waiting for its locks."""

_KEY = "hashtextextended(:name || ' ' || coalesce(current_schema(), ''), 0)"
_TRY = text(f"SELECT pg_try_advisory_lock({_KEY})")
_TRY_IN_TRANSACTION = text(f"SELECT pg_try_advisory_xact_lock({_KEY})")
_LOCKED = f"""locktype = 'advisory' AND granted AND objsubid = 1
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (classid::bigint << 32 | objid::bigint) = {_KEY}"""  # noqa: S608 - constants
# For any schema, because a migration may have changed search_path.
_UNLOCK = text("""
SELECT pg_advisory_unlock(key) FROM pg_locks JOIN (
    SELECT hashtextextended(:name || ' ' || schema, 0) AS key
    FROM (SELECT nspname::text FROM pg_namespace UNION SELECT '') AS schemas (schema)
) AS keys ON (classid::bigint << 32 | objid::bigint) = key
WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND granted AND objsubid = 1
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())""")
# Other roles may see less of a session; they always see its pid and role.
_HOLDER = text(f"""
SELECT format('process %s of role %s%s%s, connected since %s', pid, usename,
    ', "' || nullif(application_name, '') || '"', ' from ' || host(client_addr),
    coalesce(to_char(backend_start, 'YYYY-MM-DD HH24:MI:SS TZ'), 'an unknown time'))
FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE {_LOCKED}""")  # noqa: S608


def lock_migrations(
    connection: Connection,
    *,
    name: str = NAME,
    wait: float | None = None,
    stop: threading.Event | None = None,
    log: Any = log,
) -> None:
    """Take the lock of a schema, until the connection ends or, within a transaction, until that ends.

    While another session holds the lock, the log names that session.

    :param name: the name of the lock: programs that use the same name exclude each other.
    :param wait: how many seconds to wait; None: as long as it takes, but 5 s within a transaction.
    :param stop: ends the wait when another thread sets it.
    :param log: the logger to use.

    Raises :class:`OnlineError` when the time is over or ``stop`` is set.
    """
    inside = connection.in_transaction()
    statement = _TRY_IN_TRANSACTION if inside else _TRY
    if inside and wait is None:
        wait = WAIT_IN_TRANSACTION_SECONDS
    stop = stop or threading.Event()
    begin = time.monotonic()
    next_log = begin
    holder = "another session"
    while not connection.execute(statement, {"name": name}).scalar_one():
        now = time.monotonic()
        if now >= next_log:
            holder = connection.execute(_HOLDER, {"name": name}).scalar() or holder
            log.info("waiting for another migration of this schema: %s", holder)
            next_log = now + LOG_EVERY_SECONDS
        if not inside:
            connection.commit()
        if wait is not None and now - begin >= wait:
            raise OnlineError(
                f"lock not obtained: another migration of this schema is running ({holder});"
                " try again when it has ended"
            )
        if stop.wait(POLL_SECONDS):
            raise OnlineError("cancelled while waiting for another migration of this schema")
    if not inside:
        connection.commit()


def unlock_migrations(connection: Connection, *, name: str = NAME) -> None:
    """Release the lock, however often the session of this connection has taken it."""
    while any(connection.execute(_UNLOCK, {"name": name}).scalars().all()):
        pass
