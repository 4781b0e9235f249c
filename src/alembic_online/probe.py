"""What the server makes of something, asked on an empty copy of a table."""

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
    """Return what of a table and its indexes a change would write anew: the table, an index for each.

    :param change: statements on :data:`catalog.PROBE`, in the place of the table.
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
    """Return what a change writes anew; nothing where it cannot be tried."""
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
    """Return how the server writes an index, without its name and table."""
    name = f"{catalog.PROBE}_index"
    with server.copy_of(index.table):
        server.run([index.on(catalog.PROBE, name).create()])
        made = server.index(name)
    return None if made is None else made.definition


def constraint_on_copy(
    server: Server, table: str, name: str, rule: str, parent: str | None = None
) -> Found | None:
    """Return a constraint as the server writes it, or None where it cannot be had.

    :param rule: its definition.
    :param parent: the table that a foreign key refers to, of which a copy takes the place as well.
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
    """Return the index of a partition under the name that PostgreSQL would give it.

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
            return index  # of a run that was interrupted before it was attached
    raise AssertionError


def require_same(server: Server, index: Index, found: Found) -> None:
    """Raise :class:`ChangedError` if what has the name of an index is another one."""
    same_table = found.table == server.scalar(catalog.OID, table=index.table)
    if found.definition != index_definition(server, index) or not same_table:
        raise ChangedError(f"index {index.name} is there already as {found.definition}; rename or drop it")
