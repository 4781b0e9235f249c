"""Add constraints as NOT VALID, then validate them; for a key, build the index first. Drop constraints."""

import hashlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy.sql.elements import conv

from alembic_online import catalog
from alembic_online.errors import OnlineError
from alembic_online.internals import final_name
from alembic_online.log import log
from alembic_online.operations import handles
from alembic_online.operations.indexes import build
from alembic_online.probe import constraint_on_copy
from alembic_online.render import LONGEST_NAME, default_name
from alembic_online.server import Server
from alembic_online.steps import AS_ALEMBIC_DOES, Locking, Step, Validate


@handles(ops.AddConstraintOp)
def create_constraint(server: Server, operation: ops.AddConstraintOp) -> Iterator[Step]:
    """Add the constraint as NOT VALID, then validate it; for a key, build the index first."""
    constraint = operation.to_constraint(server.render.context)
    table = server.render.quoted(constraint.table.name, constraint.table.schema)
    if server.safe_to_lock(table):
        parents = _parents(server, constraint)
        yield Locking(
            f"add constraint {constraint.name}",
            AS_ALEMBIC_DOES,
            (table, *parents),
            stops_reads=not isinstance(constraint, sa.ForeignKeyConstraint),
        )
    else:
        yield from add(server, table, constraint)


def _parents(server: Server, constraint: sa.Constraint) -> tuple[str, ...]:
    return server.render.parents(constraint) if isinstance(constraint, sa.ForeignKeyConstraint) else ()


def add(server: Server, table: str, constraint: sa.Constraint) -> Iterator[Step]:
    """Add a constraint to a table that may have rows.

    Raises :class:`OnlineError` if another constraint has the name.
    """
    name = name_of(server, table, constraint)
    assert name is not None  # noqa: S101 - else it was refused
    constraint.name = conv(name)
    found = server.constraint(table, name)
    if found is not None:
        _require_same(server, table, constraint, name)
    if isinstance(constraint, sa.UniqueConstraint | sa.PrimaryKeyConstraint):
        if found is None:
            yield from _add_key(server, table, constraint, name)
        return
    rule = server.render.constraint(constraint).removesuffix(" NOT VALID")
    validate = not constraint.dialect_options["postgresql"]["not_valid"]
    yield from _add_and_validate(
        server,
        f"add constraint {name}",
        table,
        name,
        rule,
        _parents(server, constraint),
        validate=validate,
        stops_reads=not isinstance(constraint, sa.ForeignKeyConstraint),
    )


def _add_and_validate(
    server: Server,
    what: str,
    table: str,
    name: str,
    rule: str,
    parents: tuple[str, ...] = (),
    *,
    stops_reads: bool = True,
    validate: bool = True,
) -> Iterator[Step]:
    """Add a constraint that applies to new rows, then validate the existing rows."""
    found = server.constraint(table, name)
    undo = None
    if found is None:
        locks = (table, *parents)
        yield Locking(what, (f"ALTER TABLE {table} ADD {rule} NOT VALID",), locks, stops_reads=stops_reads)
        drop = f"ALTER TABLE {table} DROP CONSTRAINT {server.render.quote(name)}"
        undo = Locking(f"drop constraint {name}", (drop,), locks)
    if validate and (found is None or not found.valid):
        yield Validate(f"validate {name}", table, name, undo)


def _require_same(server: Server, table: str, constraint: sa.Constraint, name: str) -> None:
    """Raise :class:`OnlineError` if the existing constraint of this name has another definition.

    Both definitions are the server's; that of the new constraint comes from an empty copy of the table.
    """
    found = server.constraint(table, name)
    parent = next(iter(_parents(server, constraint)), None)
    same_parent = parent is None or server.scalar(catalog.OID, table=parent) == server.scalar(
        catalog.REFERRED_OID, table=table, name=name
    )
    wanted = constraint_on_copy(server, table, name, server.render.constraint(constraint), parent)
    if found is None or wanted is None or found.definition != wanted.definition or not same_parent:
        definition = "another one" if found is None else found.definition
        raise OnlineError(f"constraint {name} of {table} already exists as {definition}; rename or drop it")
    log.debug("constraint %s already exists", name)


def _add_key(
    server: Server, table: str, constraint: "sa.UniqueConstraint | sa.PrimaryKeyConstraint", name: str
) -> Iterator[Step]:
    """Build a unique index with the constraint's name, then add the constraint USING INDEX."""
    options = constraint.dialect_options["postgresql"]
    primary = isinstance(constraint, sa.PrimaryKeyConstraint)
    if primary:
        for column in constraint.columns:
            yield from set_not_null(server, table, constraint.table.name, column.name)
    index = sa.Index(conv(name), *constraint.columns, unique=True)
    for option in ("include", "nulls_not_distinct", "with", "tablespace"):
        if options.get(option):
            index.dialect_options["postgresql"][option] = options[option]
    rendered = server.render.index(index)
    yield from build(server, rendered)
    quoted = server.render.quote(name)
    tail = " DEFERRABLE" if constraint.deferrable else ""
    tail += " INITIALLY DEFERRED" if str(constraint.initially).upper() == "DEFERRED" else ""
    kind = "PRIMARY KEY" if primary else "UNIQUE"
    statement = f"ALTER TABLE {table} ADD CONSTRAINT {quoted} {kind} USING INDEX {quoted}{tail}"
    yield Locking(f"add constraint {name}", (statement,), (table,), uses=rendered)


def set_not_null(server: Server, table: str, name: str, column: str) -> Iterator[Step]:
    """Validate that no row is NULL while others write, then set NOT NULL, which then needs no scan.

    :param table: the quoted name of the table.
    :param name: its unquoted name.
    """
    what = f"set not null {table}.{column}"
    quoted = server.render.quote(column)
    alter = f"ALTER TABLE {table} ALTER COLUMN {quoted}"
    if server.is_at_least(18):
        found = next(iter(server.rows(catalog.NOT_NULL, table=table, column=column)), None)
        if found is None:
            rule = _free_name(server, table, name, column)
            not_null = f"CONSTRAINT {server.render.quote(rule)} NOT NULL {quoted}"
            yield Locking(what, (f"ALTER TABLE {table} ADD {not_null} NOT VALID",), (table,))
            undo = Locking(f"drop constraint {rule}", (f"{alter} DROP NOT NULL",), (table,))
            yield Validate(f"validate {rule}", table, rule, undo)
        elif not found.convalidated:
            yield Validate(f"validate {found.conname}", table, found.conname)
        return
    short = hashlib.md5(f"{table}.{column}".encode(), usedforsecurity=False).hexdigest()[:8]
    check = f"alembic_online_not_null_{short}"
    former = f"nexus_schema_not_null_{short}"  # from a run of an older version
    if server.constraint(table, former) is not None:
        check = former
    set_already = server.scalar(catalog.IS_NOT_NULL, table=table, column=column)
    if not set_already:
        rule = f"CONSTRAINT {check} CHECK ({quoted} IS NOT NULL)"
        yield from _add_and_validate(server, what, table, check, rule)
        yield Locking(what, (f"{alter} SET NOT NULL",), (table,))
    if not set_already or server.constraint(table, check) is not None:
        yield drop_by_name(server, table, check)


def _free_name(server: Server, table: str, name: str, column: str) -> str:
    """Return the name that PostgreSQL would give to a NOT NULL constraint."""
    found = default_name(name, column, "not_null")
    number = 0
    while server.scalar(catalog.TAKEN_BY_CONSTRAINT, table=table, name=found):
        number += 1
        found = default_name(name, column, f"not_null{number}")
    return found


def name_of(server: Server, table: str, constraint: sa.Constraint) -> str | None:
    """Return the name of a constraint, or the name that PostgreSQL would choose if that is known."""
    own = final_name(constraint, server.render.dialect)
    if own is not None:
        return own
    named: Any = constraint
    if isinstance(constraint, sa.ForeignKeyConstraint):
        parts = [*constraint.column_keys, "fkey"]
    elif isinstance(constraint, sa.UniqueConstraint):
        parts = [*(column.name for column in named.columns), "key"]
    elif isinstance(constraint, sa.PrimaryKeyConstraint):
        parts = ["pkey"]
    else:
        return None
    name = "_".join([named.table.name, *parts])
    if len(name.encode()) > LONGEST_NAME or server.scalar(catalog.TAKEN, table=table, name=name):
        return None
    return name


@handles(ops.DropConstraintOp)
def drop_constraint(server: Server, operation: ops.DropConstraintOp) -> Iterator[Step]:
    """Drop a constraint; for a foreign key this also locks the referenced table."""
    table = server.render.quoted(operation.table_name, operation.schema)
    constraint = server.render.operations.schema_obj.generic_constraint(
        operation.constraint_name,
        operation.table_name,
        operation.constraint_type,
        schema=operation.schema,
    )
    name = final_name(constraint, server.render.dialect)
    parent = server.scalar(catalog.REFERRED, table=table, name=name)
    locks = (*server.lockable(table, sure=not operation.if_exists), *([parent] if parent else ()))
    yield Locking(f"drop constraint {name}", AS_ALEMBIC_DOES, locks)


def drop_by_name(server: Server, table: str, name: str, parent: str | None = None) -> Locking:
    """Return the step that drops a constraint.

    :param parent: the table that it references.
    """
    statement = f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {server.render.quote(name)}"
    return Locking(f"drop constraint {name}", (statement,), (table, *([parent] if parent else ())))
