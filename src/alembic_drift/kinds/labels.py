"""How a revision changes the labels of an enumerated type: which it adds and drops, and when."""

import re
from collections.abc import Iterator
from typing import Any

from alembic_drift.kinds.enumerations import AddTypeLabelOp, Labels, SetTypeLabelsOp
from alembic_drift.objects import Facts, Key, parent
from alembic_drift.order import Phase
from alembic_drift.render import in_schema
from alembic_drift.resolution import Planned, Resolution
from alembic_drift.sql import literal


def resolve(resolution: Resolution, key: Key) -> None:
    """Plan to give a type the labels of the models: new ones first, so that later operations can use them.

    Labels are dropped last, when no default, check or index uses them any more. The downgrade does the same
    in the other direction.
    """
    old, new = resolution.database[key]["_labels"], resolution.models[key]["_labels"]
    first, last = _steps(resolution, key, old, new, resolution.models)
    first_back, last_back = _steps(resolution, key, new, old, resolution.database)
    resolution.both(Phase.TYPES, first, last_back)
    resolution.both(Phase.LABELS_GO, last, first_back)
    for gone, added in _pairs(old, new):
        names = ", ".join(map(repr, (key.name, gone, added)))
        resolution.hints.append(
            f"dropped label {gone!r} and added label {added!r} of type {key.name}: if this is a rename, use"
            f" op.rename_type_label({names}{in_schema(resolution.schema)})"
        )


def _steps(
    resolution: Resolution, key: Key, old: Labels, new: Labels, wanted: dict[Key, Facts]
) -> tuple[Planned, Planned]:
    """Return the operations on the labels before all others, and those after them.

    Setting the labels rewrites the tables, so it is done only once if possible: last if nothing created in
    between needs the new labels, or first if nothing dropped needs the old ones.

    :param wanted: the side whose objects are created in between.
    """

    def all_of(labels: Labels) -> Planned:
        return [SetTypeLabelsOp(key.name, labels, schema=resolution.schema)]

    other = resolution.database if wanted is resolution.models else resolution.models
    added, gone = _without(new, old), _without(old, new)
    needed = _are_needed(resolution, key, added, wanted, go=False)
    if not gone and added and _without(new, added) == [*old] and not needed:
        return [*_additions(resolution, key, old, new)], []
    may_be_last = not needed and not _is_read(resolution, key, wanted)
    may_be_first = not _are_needed(resolution, key, gone, other, go=True) and not _is_read(
        resolution, key, other
    )
    if may_be_first and not (gone and may_be_last):
        return all_of(new), []
    if may_be_last or (gone and not added):
        return [], all_of(new)
    return (all_of(_united(old, new)), all_of(new)) if gone else (all_of(new), [])


def _without(labels: Labels, others: Labels) -> list[str]:
    return [label for label in labels if label not in others]


def _united(old: Labels, new: Labels) -> Labels:
    """Return the new labels, and each label that is dropped after the one that preceded it."""
    united = [*new]
    for place, label in enumerate(old):
        if label not in united:
            united.insert(united.index(old[place - 1]) + 1 if place else 0, label)
    return united


def _additions(resolution: Resolution, key: Key, old: Labels, new: Labels) -> Iterator[AddTypeLabelOp]:
    there = [*old]
    for place, label in enumerate(new):
        if label not in there:
            where = {"after": new[place - 1]} if place else {"before": there[0]} if there else {}
            there.insert(place, label)
            yield AddTypeLabelOp(key.name, label, **where, schema=resolution.schema)


def _are_needed(
    resolution: Resolution, key: Key, labels: Labels, side: dict[Key, Facts], *, go: bool
) -> bool:
    """Return whether something that the same revision creates, or drops, may use one of the labels.

    PostgreSQL does not allow a new label to be used in the transaction that adds it.

    :param side: the side that has what is created or dropped.
    :param go: whether it is dropped.
    """
    if not labels:
        return False
    other = resolution.database if side is resolution.models else resolution.models
    # Rows use labels too, in a column that is dropped or that gets another type.
    if any(go or Key("column", *name) in other for name in _columns(side, key) - _columns(other, key)):
        return True
    return any(_names(text, labels) for _, facts in _differing(resolution, side) for text in _sql(facts))


def _is_read(resolution: Resolution, key: Key, side: dict[Key, Facts]) -> bool:
    """Return whether a generated column that is created or dropped may read the type.

    PostgreSQL does not replace the type of a column that a generated column reads.

    :param side: the side that has the column.
    """
    names = {name for _, name in _columns(side, key)} | {key.name}
    return any(
        name in facts["generated"]
        for of, facts in _differing(resolution, side)
        if of.kind == "column" and "generated" in facts
        for name in names
    )


def _columns(side: dict[Key, Facts], key: Key) -> set[tuple[str, str]]:
    return {(table, name) for table, name in side[key].get("_columns") or ()}


def _differing(resolution: Resolution, side: dict[Key, Facts]) -> Iterator[tuple[Key, Facts]]:
    """Yield the objects of one side that differ, except types."""
    differing = {difference.key for difference in resolution.differences}
    for key, facts in side.items():
        if key.kind != "type" and {key, parent(key, side)} & differing:
            yield key, facts


def _sql(value: Any, fact: str = "") -> Iterator[str]:
    """Yield the texts of facts that are SQL: a comment is not."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _sql(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _sql(inner, fact)
    elif isinstance(value, str) and fact != "comment":
        yield value


def _names(text: str, labels: Labels) -> bool:
    """Return whether SQL has one of the labels as a literal, or as an element of an array or row."""
    if any(literal(label).removeprefix("E") in text for label in labels):
        return True
    bare = {_bare(label) for label in labels}
    return any(
        _bare(element) in bare
        for inner in re.findall(r"'[{(]((?:[^']|'')*)[})]'", text)
        for element in re.findall(r'"(?:[^"\\]|\\.)*"|[^{}(),"]+', inner.replace("''", "'"))
    )


def _bare(element: str) -> str:
    """Return an element without the quotes and backslashes that an array needs."""
    return re.sub(r'["\\]', "", element)


def _pairs(old: Labels, new: Labels) -> Iterator[tuple[str, str]]:
    """Yield dropped and added labels at one place among those that stay: they may be renames."""
    stay = [label for label in old if label in new]
    if stay != [label for label in new if label in old]:
        return

    def before(labels: Labels, label: str) -> int:
        return len([one for one in labels[: labels.index(label)] if one in stay])

    for gone in _without(old, new):
        for added in _without(new, old):
            if before(old, gone) == before(new, added):
                yield gone, added


def changed_columns(resolution: Resolution) -> set[tuple[str, str]]:
    """Return the columns of the types whose labels change."""
    return {
        (table, name)
        for key in _changed(resolution)
        for table, name in resolution.database[key].get("_columns", ())
    }


def changed_types(resolution: Resolution) -> set[str]:
    """Return the names of the types whose labels change."""
    return {key.name for key in _changed(resolution)}


def _changed(resolution: Resolution) -> Iterator[Key]:
    for key, aspect, *_ in resolution.differences:
        if (
            aspect == "definition"
            and "_labels" in resolution.database.get(key, ())
            and "_labels" in resolution.models[key]
        ):
            yield key
