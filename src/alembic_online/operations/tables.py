"""Create, drop, rename and comment on tables."""

from collections.abc import Iterable, Iterator

import sqlalchemy as sa
from alembic.operations import Operations, ops

from alembic_online import catalog
from alembic_online.errors import OnlineError
from alembic_online.internals import copied
from alembic_online.log import log
from alembic_online.operations import handles
from alembic_online.operations.constraints import drop_by_name
from alembic_online.operations.indexes import build
from alembic_online.render import by_name
from alembic_online.server import Server
from alembic_online.steps import AS_ALEMBIC_DOES, Locking, NonBlocking, Step


@handles(ops.CreateTableOp)
def create_table(server: Server, operation: ops.CreateTableOp) -> Iterator[Step]:
    """Create a table; with ``if_not_exists``, an existing one gets its missing indexes and its comments."""
    table = copied(operation).to_table(server.render.context)
    name = server.render.quoted(operation.table_name, operation.schema)
    lenient = bool(operation.if_not_exists)
    if lenient and server.exists(name):
        log.debug("%s already exists", name)
        for index in by_name(table.indexes):
            yield from build(server, server.render.index(index))
        if comments := server.render.statements(lambda alembic: _comment(alembic, table)):
            yield NonBlocking(f"comment on {name}", comments)
        return
    parents = [
        parent for key in server.render.parents(table) for parent in server.lockable(key, sure=not lenient)
    ]
    yield Locking(f"create table {name}", AS_ALEMBIC_DOES, tuple(parents), stops_reads=False)


def _comment(alembic: Operations, table: sa.Table) -> None:
    if table.comment is not None:
        alembic.impl.create_table_comment(table)
    for column in table.columns:
        if column.comment is not None:
            alembic.impl.create_column_comment(column)


@handles(ops.DropTableOp)
def drop_table(server: Server, operation: ops.DropTableOp) -> Iterator[Step]:
    """Drop the foreign keys one by one, because each locks another table; then drop the table."""
    name = server.render.quoted(operation.table_name, operation.schema)
    require_no_dependents(name, server.rows(catalog.TABLE_DEPENDENTS, table=name))
    for constraint, parent in server.rows(catalog.FOREIGN_KEYS, table=name):
        yield drop_by_name(server, name, constraint, parent)
    locks = server.lockable(name, sure=not operation.if_exists)
    yield Locking(f"drop table {name}", AS_ALEMBIC_DOES, locks)


def require_no_dependents(what: str, dependents: Iterable[tuple[str]]) -> None:
    """Raise :class:`OnlineError` if other objects depend on an object to drop."""
    found = [name for (name,) in dependents]
    if found:
        verb = "depends" if len(found) == 1 else "depend"
        raise OnlineError(f"{what} cannot be dropped: {', '.join(found)} {verb} on it; drop that first")


@handles(ops.RenameTableOp)
def rename_table(server: Server, operation: ops.RenameTableOp) -> Iterator[Step]:
    """Rename a table without rows; other tables are refused."""
    name = server.render.quoted(operation.table_name, operation.schema)
    yield Locking(f"rename {name}", AS_ALEMBIC_DOES, (name,))


@handles(ops.CreateTableCommentOp, ops.DropTableCommentOp)
def table_comment(
    server: Server,  # noqa: ARG001 - of every handler
    operation: ops.CreateTableCommentOp | ops.DropTableCommentOp,
) -> Iterator[Step]:
    """Comment on a table, which blocks nobody."""
    yield NonBlocking(f"comment on {operation.table_name}", AS_ALEMBIC_DOES)
