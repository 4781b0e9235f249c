"""Add, drop and alter columns; each part of an operation has its own steps."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic.operations import ops, toimpl

from alembic_online import catalog
from alembic_online.internals import copied_column
from alembic_online.log import log
from alembic_online.operations import handles
from alembic_online.operations.constraints import add, drop_by_name, set_not_null
from alembic_online.operations.indexes import build, drop_concurrently
from alembic_online.operations.tables import require_no_dependents
from alembic_online.probe import THE_TABLE, rewritten, type_name
from alembic_online.render import by_name, plain_column
from alembic_online.server import Server
from alembic_online.steps import AS_ALEMBIC_DOES, Default, Fill, Locking, NonBlocking, Step, Validate

NOT_ASKED = (
    "A script cannot ask the server whether {} makes it rewrite the table under a lock that blocks reads and"
    " writes."
)


@handles(ops.AddColumnOp)
def add_column(server: Server, operation: ops.AddColumnOp) -> Iterator[Step]:
    """Add the bare column, then each part that would scan or rewrite the table."""
    render = server.render
    table = render.quoted(operation.table_name, operation.schema)
    column, name = operation.column, operation.column.name
    holder = render.holder(operation)
    if server.safe_to_lock(table):
        locks = (table, *render.parents(holder))
        yield Locking(f"add column {table}.{name}", AS_ALEMBIC_DOES, locks)
        return
    keys = list(holder.foreign_key_constraints)
    indexes = by_name(holder.indexes)
    # Add the foreign key with the column: PostgreSQL skips the check for a column of NULLs.
    inline = bool(
        operation.inline_references
        and server.can_tell
        and len(keys) == 1
        and column.server_default is None
        and column.nullable is not False
    )
    # Like Alembic: an existing column stays unchanged, and its constraints and indexes are added.
    exists = server.scalar(catalog.COLUMN, table=table, column=name) is not None
    there = exists and bool(operation.if_not_exists)
    if there:
        log.debug("%s.%s already exists", table, name)
    elif not exists and _computes_default(server, table, operation):
        yield from _add_and_fill(server, table, operation)
    else:
        yield _add_bare(server, table, operation, render.parents(holder) if inline else (), inline=inline)
    for constraint in render.constraints(operation, holder):
        inside = constraint.table is not holder  # written with the column by Alembic
        if not (inline and constraint in keys) and not (inside and there):
            yield from add(server, table, constraint)
    for index in indexes:
        yield from build(server, render.index(index))
    if column.comment is not None:
        commented = holder.columns[name]
        comment = render.statements(lambda alembic: alembic.impl.create_column_comment(commented))
        yield NonBlocking(f"comment on {table}.{name}", comment)


def _add_bare(
    server: Server, table: str, operation: ops.AddColumnOp, parents: tuple[str, ...], *, inline: bool
) -> Locking:
    column = operation.column
    added = copied_column(column) if inline else plain_column(column)
    if inline:
        added.index = added.unique = None
    asked = server.can_tell or column.server_default is None
    return Locking(
        f"add column {table}.{column.name}",
        server.render.added_column(operation.table_name, operation.schema, added, operation, inline=inline),
        (*server.lockable(table, sure=not operation.if_not_exists), *parents),
        warning=None if asked else NOT_ASKED.format(f"the default of {table}.{column.name}"),
    )


def _computes_default(server: Server, table: str, operation: ops.AddColumnOp) -> bool:
    """Return whether PostgreSQL would compute the default for each row, like gen_random_uuid()."""
    column = operation.column
    if not server.can_tell or not isinstance(column.server_default, sa.DefaultClause):
        return False
    change = server.render.added_column(catalog.PROBE, None, plain_column(column), operation)
    return THE_TABLE in rewritten(server, table, change)


def _add_and_fill(server: Server, table: str, operation: ops.AddColumnOp) -> Iterator[Step]:
    """Add a column and set its default in one statement, which writes no row; then fill the rows."""
    column, name = operation.column, operation.column.name
    bare = server.render.column_without_default(column, operation.table_name, operation.schema)
    value = server.render.default(column)
    statement = (
        f"ALTER TABLE {table} ADD COLUMN {bare}, ALTER COLUMN {server.render.quote(name)} SET DEFAULT {value}"
    )
    yield Locking(f"add column {table}.{name}", (statement,), (table,))
    yield Fill(
        f"rows of {operation.table_name} given their {name}",
        Default(operation.table_name, operation.schema, name, value),
    )
    if column.nullable is False:
        yield from set_not_null(server, table, operation.table_name, name)


@handles(ops.DropColumnOp)
def drop_column(server: Server, operation: ops.DropColumnOp) -> Iterator[Step]:
    """Drop the foreign keys and indexes of the column one by one, then the column."""
    table = server.render.quoted(operation.table_name, operation.schema)
    column = operation.column_name
    if not server.safe_to_lock(table):
        given = {"table": table, "column": column}
        require_no_dependents(f"{table}.{column}", server.rows(catalog.COLUMN_DEPENDENTS, **given))
        for constraint, parent in server.rows(catalog.COLUMN_FOREIGN_KEYS, **given):
            yield drop_by_name(server, table, constraint, parent)
        for (index,) in server.rows(catalog.COLUMN_INDEXES, **given):
            yield drop_concurrently(index)
    locks = server.lockable(table, sure=not operation.if_exists)
    yield Locking(f"drop column {table}.{column}", AS_ALEMBIC_DOES, locks)


@handles(ops.AlterColumnOp)
def alter_column(server: Server, operation: ops.AlterColumnOp) -> Iterator[Step]:
    """Change type, default, nullability and comment, one after the other."""
    table = server.render.quoted(operation.table_name, operation.schema)
    what = f"alter column {table}.{operation.column_name}"
    if server.safe_to_lock(table):
        yield Locking(what, AS_ALEMBIC_DOES, (table,))
        return
    if operation.modify_type is not None:
        yield from _alter_type(server, what, table, operation)
    default = operation.modify_server_default
    identity = isinstance(default, sa.Identity)  # requires a NOT NULL column
    if default is not False and not identity:
        said = f"{what}: {'drop' if default is None else 'set'} default"
        yield Locking(said, _part(server, operation, modify_server_default=default), (table,))
    if operation.modify_nullable is True:
        yield Locking(f"{what}: drop not null", _part(server, operation, modify_nullable=True), (table,))
    elif operation.modify_nullable is False:
        yield from set_not_null(server, table, operation.table_name, operation.column_name)
    if identity:
        said = f"{what}: set identity"
        yield Locking(said, _part(server, operation, modify_server_default=default), (table,))
    if operation.modify_comment is not False:
        said = f"comment on {table}.{operation.column_name}"
        yield NonBlocking(said, _part(server, operation, modify_comment=operation.modify_comment))


def _part(server: Server, operation: ops.AlterColumnOp, **change: Any) -> tuple[str, ...]:
    """Return the statements for one of the changes of an operation."""
    kept = {
        name: getattr(operation, name)
        for name in ("existing_type", "existing_server_default", "existing_nullable", "existing_comment")
    }
    part = ops.AlterColumnOp(
        operation.table_name, operation.column_name, schema=operation.schema, **kept, **change
    )
    if "modify_type" in change:
        part.kw = operation.kw
    return server.render.statements(lambda alembic: toimpl.alter_column(alembic, part))


def _alter_type(server: Server, what: str, table: str, operation: ops.AlterColumnOp) -> Iterator[Step]:
    """Change the type. Recreate valid checks as NOT VALID, because PostgreSQL would recheck all rows."""
    column = operation.column_name
    changed = _part(server, operation, modify_type=operation.modify_type)
    assert operation.modify_type is not None  # noqa: S101 - so it was called
    type_ = sa.types.to_instance(operation.modify_type)
    what += f": type {type_.compile(server.render.dialect)}"
    if not server.can_tell:
        yield Locking(what, changed, (table,), warning=NOT_ASKED.format(f"the type of {table}.{column}"))
        return
    wanted = type_name(server, type_)
    if server.scalar(catalog.COLUMN, table=table, column=column) == wanted:
        return
    checks = server.rows(catalog.COLUMN_CHECKS, table=table, column=column)
    before = [f"ALTER TABLE {table} DROP CONSTRAINT {server.render.quote(row.conname)}" for row in checks]
    after = [
        f"ALTER TABLE {table} ADD CONSTRAINT {server.render.quote(row.conname)} {row.definition} NOT VALID"
        for row in checks
    ]
    comments = [row.comment for row in checks if row.comment is not None]
    yield Locking(what, (*before, *changed, *after, *comments), (table,))
    for row in checks:
        yield Validate(f"validate {row.conname}", table, row.conname)
