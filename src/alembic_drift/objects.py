"""An object of a schema, what is known of it, and what differs between the database and the models."""

from typing import Any, NamedTuple


class Key(NamedTuple):
    """An object of a schema: what it is, the table that it is a part of, if any, and its name."""

    kind: str
    table: str | None
    name: str

    def __str__(self) -> str:
        """Return how a person would call it."""
        if self.kind == "column":
            return f"column {self.table}.{self.name}"
        return f"{self.kind} {self.name}" + (f" on {self.table}" if self.table else "")


Facts = dict[str, Any]
Catalog = dict[Key, Facts]
"""What is there; facts whose name begins with ``_`` serve to make an object again and are not compared."""


class Difference(NamedTuple):
    """What the database has of an object and what the models say; None where it is not there."""

    key: Key
    aspect: str
    database: Any
    models: Any

    def __str__(self) -> str:
        """Return it as a line."""
        if self.aspect == UNMADE:
            return f"{self.key}: {UNMADE}: {self.models}"
        if self.aspect:
            database, models = _shown(self.database), _shown(self.models)
            said = f"{self.aspect}: the database has {database}, the models say {models}"
        elif self.database is None:
            said = f"not in the database; the models say {_shown(self.models)}"
        else:
            said = f"not in the models; the database has {_shown(self.database)}"
        return f"{self.key}: {_apart(said, self)}"

    def __repr__(self) -> str:
        """Return its name, which is what the message of ``alembic check`` lists."""
        return f"{self.key}" + (f" ({self.aspect})" if self.aspect not in {"", UNMADE} else "")


UNMADE = "the models cannot make it"
"""The aspect of an object that the server, or SQLAlchemy, refuses; the models' side is the reason."""

NAME = "name"
"""The aspect of an object that differs in its name alone; its key has the name of the models."""


def parent(key: Key, catalog: Catalog) -> Key | None:
    """Return the relation, or for a sequence the column, that an object goes with."""
    if key.kind == "sequence":
        table, name = catalog[key]["_owner"]
        column = Key("column", table, str(name))
        return column if column in catalog else None
    for kind in ("table", "materialized view", "view"):
        if key.table is not None and Key(kind, None, key.table) in catalog:
            return Key(kind, None, key.table)
    return None


def view_of(name: str | None, *catalogs: Catalog) -> Key | None:
    """Return the view of a name, in whichever catalog it is."""
    for kind in ("materialized view", "view"):
        key = Key(kind, None, str(name))
        if any(key in catalog for catalog in catalogs):
            return key
    return None


def told(facts: Facts | None) -> str | None:
    """Say in one phrase what an object is."""
    if facts is None:
        return None
    if facts.get("enabled", "enabled") != "enabled":
        return f"{facts['definition']}, {facts['enabled']}"
    for fact in ("definition", "query", "numbers"):
        if facts.get(fact):
            return str(facts[fact])
    return " ".join(str(facts[fact]) for fact in ("type", "not null", "default") if facts.get(fact)) or "it"


_SHOWN = 160


def _shown(value: Any) -> str:
    return "none" if value is None or value == "" else " ".join(str(value).split())


def _apart(said: str, of: Difference) -> str:
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
