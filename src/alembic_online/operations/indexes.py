"""Create, drop and rename indexes, also those of other operations."""

from collections.abc import Iterator

from alembic.operations import ops

from alembic_online import catalog
from alembic_online.internals import final_name
from alembic_online.log import log
from alembic_online.operations import handles
from alembic_online.operations.rename_index import RenameIndexOp
from alembic_online.probe import require_same
from alembic_online.server import Server
from alembic_online.steps import (
    AS_ALEMBIC_DOES,
    WEAK_LOCK_TIMEOUT,
    BuildIndex,
    BuildParts,
    Index,
    Locking,
    NonBlocking,
    Step,
)


@handles(ops.CreateIndexOp)
def create_index(server: Server, operation: ops.CreateIndexOp) -> Iterator[Step]:
    """Create an index CONCURRENTLY; keep an existing one with the same definition, rebuild an invalid one."""
    index = server.render.index(operation.to_index(server.render.context))
    yield from build(server, index, lenient=bool(operation.if_not_exists))


def build(server: Server, index: Index, *, lenient: bool = False) -> Iterator[Step]:
    """Build an index while others write; keep an existing valid index with the same definition.

    :param lenient: whether to accept any valid index of this name.

    Raises :class:`OnlineError` if another index has the name.
    """
    what = f"create index {index.name}"
    found = server.index(index.full)
    if found is not None and not (lenient and found.valid):
        require_same(server, index, found)
    if found is not None and found.valid:
        log.debug("index %s already exists", index.name)
        return
    partitioned = server.is_partitioned(index.table)
    if found is not None and not partitioned:
        log.info("index %s is invalid; rebuilding", index.name)
        yield drop_concurrently(index.full)
    if server.safe_to_lock(index.table):
        yield Locking(what, (index.create(),), (index.table,), stops_reads=False)
    elif partitioned:
        if found is None:
            yield Locking(what, (index.create(only=True),), (index.table,), stops_reads=False)
        yield BuildParts(what, index)
    else:
        yield BuildIndex(what, index)


@handles(ops.DropIndexOp)
def drop_index(server: Server, operation: ops.DropIndexOp) -> Iterator[Step]:
    """Drop an index CONCURRENTLY; PostgreSQL cannot do that for an index of a partitioned table."""
    index = operation.to_index(server.render.context)
    name = server.render.quoted(str(final_name(index, server.render.dialect)), operation.schema)
    kind = server.scalar(catalog.KIND, table=name)
    if server.can_tell and kind in {None, "I"}:
        exists = "IF EXISTS " if operation.if_exists else ""
        yield Locking(f"drop index {name}", (f"DROP INDEX {exists}{name}",), (name,))
    else:
        yield drop_concurrently(name, sure=kind is None and not operation.if_exists)


def drop_concurrently(name: str, *, sure: bool = False) -> NonBlocking:
    """Return the step that drops an index.

    :param name: its quoted name.
    :param sure: whether a missing index is an error, as in a script.
    """
    exists = "" if sure else "IF EXISTS "
    return NonBlocking(f"drop index {name}", (f"DROP INDEX CONCURRENTLY {exists}{name}",), transaction=False)


@handles(RenameIndexOp)
def rename_index(server: Server, operation: RenameIndexOp) -> Iterator[Step]:  # noqa: ARG001
    """Rename an index under a lock that blocks neither readers nor writers."""
    what = f"rename index {operation.old_name} to {operation.new_name}"
    yield Locking(what, AS_ALEMBIC_DOES, stops_reads=False, limit=WEAK_LOCK_TIMEOUT)
