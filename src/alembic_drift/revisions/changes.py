"""What a revision does to a schema, as far as it matters whose an object is: it makes, drops and renames."""

from collections.abc import Iterable
from typing import NamedTuple


class Thing(NamedTuple):
    """An object that is made."""

    schema: str | None
    """Where it is; None for the first schema of the search_path."""
    kind: str
    name: str
    """For a function, ``name/3``: with the number of its arguments."""
    table: str | None = None
    """What it is a part of: a column's table, an index's table or view, the table that a serial numbers."""
    columns: frozenset[str] = frozenset()
    """The columns of that table without which it cannot be."""


class Drop(NamedTuple):
    """An object goes, and what is a part of it."""

    schema: str | None
    kind: str
    name: str
    """For a function, ``name/3``, or ``name`` for that with any arguments."""
    table: str | None = None
    """For a column, its table."""


class Rename(NamedTuple):
    """An object gets another name or schema, and what is a part of it goes with it."""

    schema: str | None
    kind: str
    name: str
    new: str
    table: str | None = None
    """For a column, its table."""
    new_schema: str | None = None
    """Where it is moved to, if it is."""


Change = Thing | Drop | Rename

# ALTER TABLE renames all of them.
RELATIONS = {"table", "view", "materialized view", "sequence", "index"}
_ROUTINES = {"function", "procedure"}


def existing_after(changes: Iterable[Change], default: str | None) -> set[Thing]:
    """Return what is there after all changes, in the order in which they are made.

    :param default: the name of the first schema of the search_path, if it is known.
    """
    things: set[Thing] = set()
    for change in changes:
        if change.schema == default:
            change = change._replace(schema=None)
        match change:
            case Thing():
                things.add(change)
            case Drop():
                things = {thing for thing in things if not _is_dropped(thing, change)}
            case Rename():
                things = {_renamed(thing, change, default) for thing in things}
    return things


def _is_dropped(thing: Thing, drop: Drop) -> bool:
    if drop.kind == "schema":
        return thing.schema == drop.name
    if thing.schema != drop.schema:
        return False
    if drop.kind == "column":
        return thing.table == drop.table and drop.name in {*thing.columns, *_column(thing)}
    return _is(thing, drop.kind, drop.name) or (drop.kind in RELATIONS and thing.table == drop.name)


def _renamed(thing: Thing, rename: Rename, default: str | None) -> Thing:
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


def _is(thing: Thing, kind: str, name: str) -> bool:
    kinds = _ROUTINES if kind in {*_ROUTINES, "routine"} else {kind}
    if thing.kind not in kinds or thing.kind == "column":
        return False
    return thing.name == name or (thing.kind in _ROUTINES and thing.name.rpartition("/")[0] == name)


def _column(thing: Thing) -> set[str]:
    return {thing.name} if thing.kind == "column" else set()
