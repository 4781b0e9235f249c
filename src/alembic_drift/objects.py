"""Objects of a schema, their facts, and the differences between the database and the models."""

from typing import Any, NamedTuple


class Key(NamedTuple):
    """Identifies an object of a schema: its kind, the table that it belongs to (if any), and its name."""

    kind: str
    table: str | None
    name: str

    def __str__(self) -> str:
        """Return the object as messages name it."""
        if self.kind == "column":
            return f"column {self.table}.{self.name}"
        return f"{self.kind} {self.name}" + (f" on {self.table}" if self.table else "")


Facts = dict[str, Any]
Catalog = dict[Key, Facts]
"""The objects of a schema. Facts with a leading ``_`` are used to recreate an object and are not compared."""


class Difference(NamedTuple):
    """One aspect of an object in the database and in the models; None where the object does not exist."""

    key: Key
    aspect: str
    database: Any
    models: Any

    def __str__(self) -> str:
        """Return the difference as one line."""
        if self.aspect == REFUSED:
            return f"{self.key}: {REFUSED}: {self.models}"
        if self.aspect:
            database, models = _shown(self.database), _shown(self.models)
            said = f"{self.aspect}: the database has {database}, the models have {models}"
        elif self.database is None:
            said = "only in the models" + (f": {_shown(self.models)}" if self.models else "")
        else:
            said = "only in the database" + (f": {_shown(self.database)}" if self.database else "")
        return f"{self.key}: {_shortened(said, self)}"

    def __repr__(self) -> str:
        """Return the object and the aspect, as the message of ``alembic check`` lists them."""
        return f"{self.key}" + (f" ({self.aspect})" if self.aspect not in {"", REFUSED} else "")


REFUSED = "cannot be created"
"""The aspect of an object that the server or SQLAlchemy refuses to create; ``models`` holds the reason."""

NAME = "name"
"""The aspect of an object that differs only in its name; its key has the name of the models."""


def parent(key: Key, catalog: Catalog) -> Key | None:
    """Return the relation (for a sequence, the column) that an object belongs to."""
    if key.kind == "sequence":
        table, name = catalog[key]["_owner"]
        column = Key("column", table, str(name))
        return column if column in catalog else None
    for kind in ("table", "materialized view", "view"):
        if key.table is not None and Key(kind, None, key.table) in catalog:
            return Key(kind, None, key.table)
    return None


def view_of(name: str | None, *catalogs: Catalog) -> Key | None:
    """Return the view of that name in any of the catalogs."""
    for kind in ("materialized view", "view"):
        key = Key(kind, None, str(name))
        if any(key in catalog for catalog in catalogs):
            return key
    return None


def summary(facts: Facts | None) -> str | None:
    """Return a short description of an object; empty if there is nothing to add to its name."""
    if facts is None:
        return None
    if facts.get("enabled", "enabled") != "enabled":
        return f"{facts['definition']}, {facts['enabled']}"
    for fact in ("definition", "query", "numbers"):
        if facts.get(fact):
            return str(facts[fact])
    return " ".join(str(facts[fact]) for fact in ("type", "not null", "default") if facts.get(fact))


_SHOWN = 160


def _shown(value: Any) -> str:
    return "none" if value is None or value == "" else " ".join(str(value).split())


def _shortened(said: str, of: Difference) -> str:
    """Shorten long definitions to what is around the first character that differs."""
    if len(said) <= 3 * _SHOWN:
        return said
    left, right = _shown(of.database), _shown(of.models)
    first = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), 0)
    start = max(0, first - _SHOWN // 2)

    def cut(text: str) -> str:
        return (
            ("…" if start else "")
            + text[start : start + _SHOWN]
            + ("…" if len(text) > start + _SHOWN else "")
        )

    return said.replace(left, cut(left)).replace(right, cut(right))
