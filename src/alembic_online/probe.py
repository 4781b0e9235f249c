"""Try statements on an empty copy of a table, to see what the server would do."""

import itertools
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import DBAPIError

from alembic_online import catalog
from alembic_online.errors import ChangedError, first_line
from alembic_online.log import log
from alembic_online.render import default_name
from alembic_online.server import Found, Server
from alembic_online.steps import Index

if TYPE_CHECKING:
    import sqlalchemy as sa


THE_TABLE, AN_INDEX = "the table", "an index"


def rewritten(server: Server, table: str, change: Iterable[str]) -> list[str]:
    """Return what a change would rewrite: the table, and "an index" for each of its indexes.

    :param change: statements on :data:`catalog.PROBE`, which stands for the table.
    """
    if not server.can_tell:
        return []
    with server.copy_of(table, "LIKE {} INCLUDING ALL"):
        before = server.rows(catalog.FILES)
        server.run(change)
        after = server.rows(catalog.FILES)
    names = sorted(name for name, _ in {*map(tuple, before)} - {*map(tuple, after)})
    return [THE_TABLE if name == catalog.PROBE else AN_INDEX for name in names]


def rewritten_if_tried(server: Server, table: str, change: Iterable[str]) -> list[str]:
    """Return what a change would rewrite; nothing if it cannot be tried."""
    try:
        return rewritten(server, table, change)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        log.debug("a change of %s cannot be tried: %s", table, first_line(error))
        return []


def type_name(server: Server, type_: "sa.types.TypeEngine[Any]") -> Any:
    """Return the server's name of a type, with its collation."""
    if not server.can_tell:
        return None
    with server.copy_of("", f"probed {type_.compile(server.render.dialect)}"):
        return server.scalar(catalog.COLUMN, table=catalog.PROBE, column="probed")


def index_definition(server: Server, index: Index) -> str | None:
    """Return the server's definition of an index, without its name and table."""
    name = f"{catalog.PROBE}_index"
    with server.copy_of(index.table):
        server.run([index.on(catalog.PROBE, name).create()])
        made = server.index(name)
    return None if made is None else made.definition


def constraint_on_copy(
    server: Server, table: str, name: str, rule: str, parent: str | None = None
) -> Found | None:
    """Return a constraint with the server's definition of it, or None if it cannot be created on a copy.

    :param rule: its definition.
    :param parent: the table that a foreign key references; it is replaced by a copy too.
    """
    wanted = None
    with server.copy_of(table), suppress(DBAPIError):
        if parent is not None:
            copied = f"{catalog.PROBE}_parent"
            server.run([f"CREATE TEMP TABLE {copied} (LIKE {parent} INCLUDING INDEXES)"])
            rule = rule.replace(f" REFERENCES {parent} ", f" REFERENCES {copied} ", 1)
        server.run([f"ALTER TABLE {catalog.PROBE} ADD {rule}"])
        wanted = server.constraint(catalog.PROBE, name)
    return wanted


def index_of_part(server: Server, whole: Index, table: str, schema: str | None) -> Index:
    """Return the index of a partition, with the name that PostgreSQL would choose.

    :param whole: the index of the partitioned table.
    :param table: the partition, without schema.
    """
    render = server.render
    part = render.quoted(table, schema)
    short = whole.on("pg_temp.p", "").create().replace("INDEX  ON", "INDEX ON", 1)
    with server.copy_of(part):
        server.run([f"CREATE TEMP TABLE p (LIKE {part})", short])
        columns = str(server.scalar(catalog.INDEX_NAME, table="pg_temp.p"))[len("p_") : -len("_idx")]
    wanted = index_definition(server, whole.on(part))
    for number in itertools.count():
        name = default_name(table, columns, f"idx{number or ''}")
        index = Index(
            part, schema, name, render.quote(name), render.quoted(name, schema), whole.unique, whole.tail
        )
        if not server.exists(index.full):
            return index
        found = server.index(index.full)
        if (
            found is not None
            and found.definition == wanted
            and found.table == server.scalar(catalog.OID, table=part)
            and not server.scalar(catalog.ATTACHED, name=index.full)
        ):
            return index  # an earlier run was interrupted before it attached the index
    raise AssertionError


def require_same(server: Server, index: Index, found: Found) -> None:
    """Raise :class:`ChangedError` if the existing index of this name has another definition or table."""
    same_table = found.table == server.scalar(catalog.OID, table=index.table)
    if found.definition != index_definition(server, index) or not same_table:
        raise ChangedError(f"index {index.name} already exists as {found.definition}; rename or drop it")
