"""Indexes: create, drop, rename; also those of other operations."""

import logging
from collections.abc import Iterator

from alembic.operations import ops

from alembic_online import catalog
from alembic_online.errors import OnlineError
from alembic_online.internals import final_name
from alembic_online.operations import handles
from alembic_online.operations.rename_index import RenameIndexOp
from alembic_online.probe import index_definition, index_name_of_part
from alembic_online.render import Index
from alembic_online.server import Found, Server
from alembic_online.steps import (
    AS_ALEMBIC_DOES,
    WEAK_LOCK_TIMEOUT,
    BuildIndex,
    Locking,
    NonBlocking,
    Step,
)

log = logging.getLogger(__name__)


@handles(ops.CreateIndexOp)
def create_index(server: Server, operation: ops.CreateIndexOp) -> Iterator[Step]:
    """CONCURRENTLY; an equal index is kept, an invalid leftover replaced."""
    index = server.render.index(operation.to_index(server.render.context))
    yield from build(server, index, lenient=bool(operation.if_not_exists))


def build(
    server: Server, index: Index, *, lenient: bool = False, taken: set[str] | None = None
) -> Iterator[Step]:
    """Build an index while others write; one that is there is kept if it is the same and valid.

    :param lenient: whether another one of the name will do.
    :param taken: names that steps before will have given.

    Raises :class:`OnlineError` if another index has the name.
    """
    quoted = server.render.quoted(index.name, index.schema)
    what = f"create index {index.name}"
    found = server.index(quoted)
    if found is not None and not (lenient and found.valid):
        _require_same(server, index, found)
    if found is not None and found.valid:
        log.debug("index %s already exists", index.name)
        return
    partitioned = server.is_partitioned(index.table)
    if found is not None and not partitioned:
        log.info("index %s is invalid; rebuilding", index.name)
        yield drop_concurrently(quoted)
    if server.safe_to_lock(index.table):
        yield Locking(what, (index.create(),), (index.table,), stops_reads=False)
    elif partitioned:
        yield from _build_parts(server, index, there=found is not None, taken=taken or set())
    else:
        yield BuildIndex(what, index.create(concurrently=True), quoted)


def _require_same(server: Server, index: Index, found: Found) -> None:
    same_table = found.table == server.scalar(catalog.OID, table=index.table)
    if found.definition != index_definition(server, index) or not same_table:
        raise OnlineError(f"index {index.name} is there already as {found.definition}; rename or drop it")


def _build_parts(server: Server, index: Index, *, there: bool, taken: set[str]) -> Iterator[Step]:
    """Build the index of each partition by itself, and join them under one of the whole table."""
    quoted = server.render.quoted(index.name, index.schema)
    if not there:
        what = f"create index {index.name}"
        yield Locking(what, (index.create(only=True),), (index.table,), stops_reads=False)
    for part in server.rows(catalog.PARTITIONS_WITHOUT, table=index.table, index=quoted):
        name = index_name_of_part(server, index, part.table, part.schema, taken)
        taken.add(server.render.quoted(name, part.schema))
        table = server.render.quoted(part.table, part.schema)
        of_part = Index(table, part.schema, name, server.render.quote(name), index.unique, index.tail)
        yield from build(server, of_part, taken=taken)
        attach = f"ALTER INDEX {quoted} ATTACH PARTITION {server.render.quoted(name, part.schema)}"
        yield Locking(f"attach {name}", (attach,), stops_reads=False)


@handles(ops.DropIndexOp)
def drop_index(server: Server, operation: ops.DropIndexOp) -> Iterator[Step]:
    """Drop an index while others write; that of a partitioned table PostgreSQL drops under a lock only."""
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

    :param name: quoted.
    :param sure: whether it is an error if it is not there, as in a script.
    """
    exists = "" if sure else "IF EXISTS "
    return NonBlocking(f"drop index {name}", (f"DROP INDEX CONCURRENTLY {exists}{name}",), transaction=False)


@handles(RenameIndexOp)
def rename_index(server: Server, operation: RenameIndexOp) -> Iterator[Step]:  # noqa: ARG001
    """Rename an index under a lock that stops neither readers nor writers."""
    what = f"rename index {operation.old_name} to {operation.new_name}"
    yield Locking(what, AS_ALEMBIC_DOES, stops_reads=False, limit=WEAK_LOCK_TIMEOUT)
