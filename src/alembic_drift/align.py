"""Matches objects of both sides that differ only in their names."""

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

from alembic_drift.internals import constraints_of, final_name
from alembic_drift.objects import NAME, Catalog, Facts, Key
from alembic_drift.sql import quote

LETTERS = {
    "primary_key_constraint": "p",
    "unique_constraint": "u",
    "foreign_key_constraint": "f",
    "check_constraint": "c",
    "table_or_column_check_constraint": "c",
    "column_check_constraint": "c",
    "exclude_constraint": "x",
}
"""The catalog's letters for SQLAlchemy's constraints."""


def match_unnamed(
    database: Catalog, models: Catalog, tables: dict[str, sa.Table], dialect: sa.Dialect
) -> Catalog:
    """Return the models' side, in which constraints without a name get the database's names.

    The server gave them names in the scratch schema. Two constraints match if they have the same kind and the
    same columns; checks and exclusion constraints, if they have the same definition. A constraint that the
    models also contain with a name is left out if the database has it only once.
    """
    named = {
        (name, final_name(constraint, dialect))
        for name, table in tables.items()
        for constraint in constraints_of(table)
    }
    unnamed = {
        (name, letter, columns)
        for name, table in tables.items()
        for letter, columns in _unnamed(table, dialect)
    }
    taken: dict[Key, Key] = {}
    repeated: set[Key] = set()
    for key in sorted(models):
        facts = models[key]
        if key.kind != "constraint" or key in database or (key.table, key.name) in named:
            continue
        columns = frozenset(facts.get("_columns", ())) if facts["_type"] in "puf" else None
        if (key.table, facts["_type"], columns) not in unnamed:
            continue
        for other in _same(key, facts, database):
            if other not in models and other not in taken.values():
                taken[key] = other
                break
        else:
            if any(_says(models.get(other), facts) for other in _same(key, facts, database)):
                repeated.add(key)
    return {taken.get(key, key): facts for key, facts in models.items() if key not in repeated}


def _says(facts: Facts | None, other: Facts) -> bool:
    return facts is not None and facts["definition"] == other["definition"]


def _unnamed(table: sa.Table, dialect: sa.Dialect) -> Iterator[tuple[str, frozenset[str] | None]]:
    for constraint in constraints_of(table):
        letter = LETTERS.get(constraint.__visit_name__)
        if letter is not None and final_name(constraint, dialect) is None:
            known = letter in "puf" and isinstance(constraint, sa.schema.ColumnCollectionConstraint)
            yield letter, frozenset(column.name for column in constraint.columns) if known else None  # type: ignore[attr-defined]


def _same(key: Key, facts: Facts, catalog: Catalog) -> list[Key]:
    """Return the constraints that may be this one; those with the same definition come first."""
    found = [
        (other_facts["definition"] != facts["definition"], other)
        for other, other_facts in catalog.items()
        if other.kind == "constraint" and other.table == key.table and other_facts["_type"] == facts["_type"]
    ]
    if facts["_type"] in "cx":
        found = [(differs, other) for differs, other in found if not differs]
    else:
        columns = set(facts["_columns"])
        referred = facts.get("_referred")
        found = [
            (differs, other)
            for differs, other in found
            if facts["_type"] == "p"
            or (set(catalog[other]["_columns"]) == columns and catalog[other].get("_referred") == referred)
        ]
    return [other for _, other in sorted(found)]


_SHAPES: dict[str, Callable[[Facts], Any]] = {
    "constraint": lambda facts: (facts["_type"], facts["definition"]),
    "index": lambda facts: (
        facts["definition"].replace(facts["_named"], " ON ", 1),
        facts.get("tablespace"),
        facts.get("validity"),
    ),
    "sequence": lambda facts: facts["_owner"] if facts["_owner"][0] is not None else None,
}
"""What objects of one table or column have in common if they differ only in their names."""


def match_renamed(
    database: Catalog, models: Catalog, may_rename: Callable[[Key], bool]
) -> tuple[Catalog, Catalog]:
    """Return both sides; objects that differ only in their names get the key of the models on both.

    Their fact :data:`NAME` is the name on each side.

    :param may_rename: returns False for an unmanaged object of the database.
    """
    renamed: dict[Key, Key] = {}
    for key in sorted(models, key=str):
        shape = _SHAPES.get(key.kind)
        if shape is None or key in database or shape(models[key]) is None:
            continue
        for other in sorted(database, key=str):
            if (
                (other.kind, other.table) == (key.kind, key.table)
                and other not in models
                and other not in renamed
                and shape(database[other]) == shape(models[key])
                and may_rename(other)
            ):
                renamed[other] = key
                break
    left = {
        renamed.get(key, key): facts | {NAME: key.name} if key in renamed else facts
        for key, facts in database.items()
    }
    right = {
        key: facts | {NAME: key.name} if key in renamed.values() else facts for key, facts in models.items()
    }
    for old, new in renamed.items():
        if old.kind == "sequence":
            _follow(left, old.name, new.name)
    return left, right


def _follow(catalog: Catalog, old: str, new: str) -> None:
    """Replace a sequence's name in the default that reads it, as the database does on a rename."""
    for key, facts in catalog.items():
        if key.kind == "column" and str(facts.get("default", "")).startswith("nextval("):
            for before, after in ((old, new), (quote(old), quote(new))):
                for prefix in ("'", "."):
                    changed = facts["default"].replace(f"{prefix}{before}'", f"{prefix}{after}'")
                    if changed != facts["default"]:
                        catalog[key] = facts | {"default": changed}
                        break
