"""Refuse operations that cannot run without blocking others."""

from typing import NoReturn

import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy.dialects import postgresql

from alembic_online import catalog, sql, work
from alembic_online.errors import RefusedError
from alembic_online.filling.operation import BackfillOp
from alembic_online.filling.ranges import key_of
from alembic_online.operations import refuses
from alembic_online.operations.constraints import name_of
from alembic_online.operations.description import sql_of, title
from alembic_online.probe import rewritten_if_tried
from alembic_online.render import plain_column
from alembic_online.server import Server
from alembic_online.session import literal


def refuse_because(what: str, reason: str, instead: str) -> NoReturn:
    """Raise :class:`RefusedError`."""
    raise RefusedError(
        f"{what} is refused online, because {reason}; {instead}; or, if the lock does no harm, put"
        " online = False at the top of the revision, which then runs in one transaction"
    )


@refuses(ops.RenameTableOp)
def rename_table(server: Server, operation: ops.RenameTableOp) -> None:
    """Refuse to rename a table with rows: running programs would not find it."""
    table = server.render.quoted(operation.table_name, operation.schema)
    if not server.safe_to_lock(table):
        _refuse_renaming(table)


def _refuse_renaming(what: str) -> NoReturn:
    refuse_because(
        f"renaming {what}",
        "running programs use the old name",
        "add the new one, fill it with op.backfill, and drop the old one in a later revision",
    )


def copied_table(server: Server, name: str, schema: str | None) -> None:
    """Raise :class:`RefusedError` for a batch that copies a table, unless the table has no rows."""
    table = server.render.quoted(name, schema)
    if not server.safe_to_lock(table):
        refuse_because(
            f'op.batch_alter_table with recreate="always" of {table}',
            "it copies all rows and replaces the table by the copy under a lock that blocks reads and writes",
            "omit recreate: PostgreSQL does not need it, and appends new columns",
        )


@refuses(ops.AddConstraintOp)
def add_constraint(server: Server, operation: ops.AddConstraintOp) -> None:
    """Refuse a constraint that cannot be added as NOT VALID and then validated."""
    constraint = operation.to_constraint(server.render.context)
    table = server.render.quoted(constraint.table.name, constraint.table.schema)
    server.to_be_checked.add(table)
    if not server.safe_to_lock(table):
        _refuse_constraint(server, table, constraint, named=name_of(server, table, constraint) is not None)


def _refuse_constraint(server: Server, table: str, constraint: sa.Constraint, *, named: bool) -> None:
    kind = type(constraint).__name__
    if isinstance(constraint, postgresql.ExcludeConstraint):
        refuse_because(
            f"an exclusion constraint on {table}",
            "PostgreSQL builds its index under a lock that blocks reads and writes",
            "create it on a new table and move the rows",
        )
    if not named:
        refuse_because(
            f"an unnamed {kind} on {table}",
            "a repeated run could not tell whether it already exists",
            "give it a name",
        )
    partitioned = server.is_partitioned(table)
    if partitioned and isinstance(constraint, sa.UniqueConstraint | sa.PrimaryKeyConstraint):
        refuse_because(
            f"a {kind} on the partitioned table {table}",
            "PostgreSQL cannot create it from existing indexes",
            "use op.create_index(…, unique=True), which rejects the same rows",
        )
    if partitioned and isinstance(constraint, sa.ForeignKeyConstraint) and not server.is_at_least(18):
        refuse_because(
            f"a {kind} on the partitioned table {table}",
            "PostgreSQL checks all partitions under one lock",
            "add it to each partition under the same name, and in a later revision with online = False to the"
            " table, which then needs no check",
        )


@refuses(ops.AddColumnOp)
def add_column(server: Server, operation: ops.AddColumnOp) -> None:
    """Refuse a column that PostgreSQL computes for every row, and constraints that cannot be added later."""
    table = server.render.quoted(operation.table_name, operation.schema)
    column = operation.column
    if (
        server.safe_to_lock(table)
        or server.scalar(catalog.COLUMN, table=table, column=column.name) is not None
    ):
        return
    constraints = server.render.constraints(operation, server.render.holder(operation))
    names = [name_of(server, table, constraint) for constraint in constraints]
    for constraint, name in zip(constraints, names, strict=True):
        _refuse_constraint(server, table, constraint, named=name is not None and names.count(name) == 1)
    if not server.can_tell or isinstance(column.server_default, sa.DefaultClause):
        return
    change = server.render.added_column(catalog.PROBE, None, plain_column(column), operation)
    if column.primary_key or rewritten_if_tried(server, table, change):
        refuse_because(
            f"adding the column {table}.{column.name}",
            "PostgreSQL computes its value in every row under a lock that blocks reads and writes",
            "add it nullable with a default or a trigger for new rows, and fill the others with op.backfill",
        )


@refuses(ops.AlterColumnOp)
def alter_column(server: Server, operation: ops.AlterColumnOp) -> None:
    """Refuse another name, and a type for which PostgreSQL rewrites the table."""
    table = server.render.quoted(operation.table_name, operation.schema)
    if server.safe_to_lock(table):
        return
    if operation.modify_name is not None:
        _refuse_renaming(f"{table}.{operation.column_name}")
    if operation.modify_type is None or not server.can_tell:
        return
    change = server.render.statements(
        lambda alembic: alembic.impl.alter_column(
            catalog.PROBE, operation.column_name, type_=operation.modify_type, **operation.kw
        )
    )
    if rewritten := rewritten_if_tried(server, table, change):
        _refuse_rewrite(
            f"changing the type of {table}.{operation.column_name}",
            rewritten,
            "add a column of the new type, keep it up to date, fill it with op.backfill, and drop the old one"
            " in a later revision",
        )


def _refuse_rewrite(what: str, rewritten: list[str], instead: str) -> NoReturn:
    refuse_because(
        what, f"PostgreSQL rewrites {', '.join(rewritten)} under a lock that blocks reads and writes", instead
    )


@refuses(ops.ExecuteSQLOp)
def execute(server: Server, operation: ops.ExecuteSQLOp) -> None:
    """Refuse statements that begin or end a transaction, or scan or rewrite a table under their lock."""
    statement = sql_of(server.render, operation)
    kind = sql.kind(statement)
    if kind == "transaction":
        refuse_because(
            f"op.execute of {title(statement)}", "each operation runs in its own transaction", "leave it out"
        )
    if kind == "local":
        raise RefusedError(
            "SET LOCAL has no effect online, where each operation runs in its own transaction; use SET, and"
            " RESET after it"
        )
    options = operation.execution_options or {}
    if options.get("online"):
        return
    if "rewrites" in options:
        _rewrites(server, *options["rewrites"])
    server.to_be_checked.update(sql.validated(statement))
    new = () if server.can_tell else sql.created(statement)
    for found in work.examine(statement):
        table = found.table
        if table in new:
            continue
        if table is not None:
            table = server.scalar(catalog.TABLE_OF_INDEX, name=table) or table
            if server.safe_to_lock(table) or server.is_of_revision(table):
                continue
        what = f"op.execute of {title(statement)}"
        if isinstance(found, work.Work):
            if found.column is None or _may_have_null(server, table, found.column):
                refuse_because(what, f"it {found.what} under a lock that blocks others", found.instead)
        elif rewritten := rewritten_if_tried(
            server, str(table), [f"ALTER TABLE {catalog.PROBE} {found.actions}"]
        ):
            _refuse_rewrite(what, rewritten, found.instead)


def _rewrites(server: Server, what: str, tables: str, instead: str) -> None:
    """Refuse an operation of another plugin that declares that it reads or writes all rows of tables.

    :param what: a title of the operation.
    :param tables: a SELECT of the tables whose rows it reads or writes.
    """
    for (table,) in server.rows(literal(tables)):
        if not (server.safe_to_lock(table) or server.is_of_revision(table)):
            reason = f"PostgreSQL reads or writes all rows of {table} under a lock that blocks others"
            refuse_because(what, reason, instead)


def _may_have_null(server: Server, table: str | None, column: str) -> bool:
    """Return whether the server must scan for NULLs, because no valid constraint excludes them."""
    if not server.can_tell or (server.reading and table in server.to_be_checked):
        return False
    return not server.scalar(catalog.HAS_NO_NULL, table=table, column=column)


@refuses(BackfillOp)
def backfill(server: Server, operation: BackfillOp) -> None:
    """Refuse a table that cannot be filled in batches."""
    table = server.render.quoted(operation.walked.name, operation.walked.schema)
    if server.exists(table) and key_of(server.session.connection, operation) is None:
        refuse_because(
            f"a backfill over {table}",
            "the server shows no pages of it, and it has no primary key to use instead",
            "fill it on the server that has the rows, or give it a primary key if it can have one",
        )
