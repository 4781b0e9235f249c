"""The changes of a revision that decide which objects are managed: it creates, drops and renames objects."""

from collections.abc import Iterable
from typing import NamedTuple


class Created(NamedTuple):
    """An object is created."""

    schema: str | None
    """Its schema; None for the first schema of the search_path."""
    kind: str
    name: str
    """For a function, ``name/3``: with the number of its arguments."""
    table: str | None = None
    """What it belongs to: a column's table, an index's table or view, the table of a serial's sequence."""
    columns: frozenset[str] = frozenset()
    """The columns of that table that it needs."""


class Drop(NamedTuple):
    """An object is dropped, with everything that belongs to it."""

    schema: str | None
    kind: str
    name: str
    """For a function, ``name/3``, or ``name`` regardless of its arguments."""
    table: str | None = None
    """For a column, its table."""


class Rename(NamedTuple):
    """An object gets another name or schema, with everything that belongs to it."""

    schema: str | None
    kind: str
    name: str
    new: str
    table: str | None = None
    """For a column, its table."""
    new_schema: str | None = None
    """The schema that it is moved to, if any."""


Change = Created | Drop | Rename

# ALTER TABLE renames all of them.
RELATIONS = {"table", "view", "materialized view", "sequence", "index"}
_ROUTINES = {"function", "procedure"}


def existing_after(changes: Iterable[Change], default: str | None) -> set[Created]:
    """Return the objects that exist after all changes, applied in their order.

    :param default: the name of the first schema of the search_path, if it is known.
    """
    things: set[Created] = set()
    for change in changes:
        if change.schema == default:
            change = change._replace(schema=None)
        match change:
            case Created():
                things.add(change)
            case Drop():
                things = {thing for thing in things if not _is_dropped(thing, change)}
            case Rename():
                things = {_renamed(thing, change, default) for thing in things}
    return things


def _is_dropped(thing: Created, drop: Drop) -> bool:
    if drop.kind == "schema":
        return thing.schema == drop.name
    if thing.schema != drop.schema:
        return False
    if drop.kind == "column":
        return thing.table == drop.table and drop.name in {*thing.columns, *_column(thing)}
    return _is(thing, drop.kind, drop.name) or (drop.kind in RELATIONS and thing.table == drop.name)


def _renamed(thing: Created, rename: Rename, default: str | None) -> Created:
    if thing.schema != rename.schema:
        return thing
    if rename.kind == "column":
        if thing.table != rename.table:
            return thing
        columns = frozenset(rename.new if name == rename.name else name for name in thing.columns)
        renamed = rename.name in _column(thing)
        return thing._replace(name=rename.new if renamed else thing.name, columns=columns)
    moved = thing
    if rename.kind in RELATIONS and thing.table == rename.name:
        moved = thing._replace(table=rename.new)
    elif rename.kind in RELATIONS and thing.kind in RELATIONS and thing.name == rename.name:
        moved = thing._replace(name=rename.new)
    elif _is(thing, rename.kind, rename.name):
        arguments = thing.name.rpartition("/")[1:] if thing.kind in _ROUTINES else ()
        moved = thing._replace(name=rename.new + "".join(arguments))
    if moved is not thing and rename.new_schema is not None:
        moved = moved._replace(schema=None if rename.new_schema == default else rename.new_schema)
    return moved


def _is(thing: Created, kind: str, name: str) -> bool:
    kinds = _ROUTINES if kind in {*_ROUTINES, "routine"} else {kind}
    if thing.kind not in kinds or thing.kind == "column":
        return False
    return thing.name == name or (thing.kind in _ROUTINES and thing.name.rpartition("/")[0] == name)


def _column(thing: Created) -> set[str]:
    return {thing.name} if thing.kind == "column" else set()
