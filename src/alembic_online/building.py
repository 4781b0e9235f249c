"""Build indexes while others write, for the live interpreter."""

from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import DBAPIError

from alembic_online import catalog, driver
from alembic_online.errors import OnlineError
from alembic_online.probe import index_of_part, require_same
from alembic_online.server import Server
from alembic_online.steps import STRONG_LOCK_TIMEOUT, Index, Locking

Watched = Callable[..., Any]
"""Runs long work under a watch; takes a title, the work, and a function that cleans up after a failure."""


def build_index(server: Server, index: Index, watched: Watched) -> None:
    """Build an index, unless it exists and is valid: then a run was interrupted right after the build.

    Raises :class:`OnlineError` if another index has the name, or if rows are not unique.
    """
    run = server.session.run_sql
    what = f"create index {index.name}"

    def build() -> None:
        if server.index(index.full) is not None:  # left by an earlier attempt
            run(f"DROP INDEX CONCURRENTLY IF EXISTS {index.full}")
        run(index.create(concurrently=True))

    found = server.index(index.full)
    if found is not None:
        require_same(server, index, found)
        if found.valid:
            return
    try:
        watched(what, build, undo=lambda: _drop(server, index))
    except DBAPIError as error:
        if driver.sqlstate(error) != driver.UNIQUE_VIOLATION:
            raise
        raise OnlineError(
            f"index {index.name} was not built, because rows are not unique: {driver.detail(error)}"
            " Remove the duplicates, then rerun"
        ) from error


def _drop(server: Server, index: Index) -> None:
    """Drop an index, with a short lock timeout so that others do not queue behind a busy table."""
    with server.session.transaction(lock_timeout=STRONG_LOCK_TIMEOUT):
        server.session.run_sql(f"DROP INDEX IF EXISTS {index.full}")


def build_parts(server: Server, index: Index, watched: Watched, brief: Callable[[Locking], None]) -> None:
    """Build an index on each partition and attach them to the index of the partitioned table.

    :param brief: executes a step that changes the catalog under a strong lock.
    """
    while parts := server.rows(catalog.PARTITIONS_WITHOUT, table=index.table, index=index.full):
        part = parts[0]
        of_part = index_of_part(server, index, part.table, part.schema)
        what = f"create index {of_part.name}"
        if server.is_partitioned(of_part.table):
            if not server.exists(of_part.full):
                brief(Locking(what, (of_part.create(only=True),), (of_part.table,), stops_reads=False))
            build_parts(server, of_part, watched, brief)
        elif server.exists(of_part.full) or not server.safe_to_lock(of_part.table):
            build_index(server, of_part, watched)
        else:
            brief(Locking(what, (of_part.create(),), (of_part.table,), stops_reads=False))
        attach = f"ALTER INDEX {index.full} ATTACH PARTITION {of_part.full}"
        brief(Locking(f"attach {of_part.name}", (attach,), stops_reads=False))
