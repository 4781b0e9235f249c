"""Pure functions that find, by its words, which table locks a statement takes, and who waits for them.

The lock modes have the names of PostgreSQL's documentation, "Explicit Locking".
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from alembic_online.tokens import Reader, readers

ROWS = "ROW EXCLUSIVE"
SCHEMA_CHANGES = "SHARE UPDATE EXCLUSIVE"
READS_ONLY = "SHARE"
WRITES = "SHARE ROW EXCLUSIVE"
ALMOST_ALL = "EXCLUSIVE"
ALL = "ACCESS EXCLUSIVE"

STRENGTH = (ROWS, SCHEMA_CHANGES, READS_ONLY, WRITES, ALMOST_ALL, ALL)
"""From the weakest to the strongest."""

_WITHOUT_TABLE = {
    "AGGREGATE", "CAST", "COLLATION", "DATABASE", "DOMAIN", "EXTENSION", "FUNCTION", "OPERATOR", "PROCEDURE",
    "ROLE", "ROUTINE", "SCHEMA", "SERVER", "USER",
}  # fmt: skip
_NEW = {*_WITHOUT_TABLE, "MATERIALIZED", "SEQUENCE", "STATISTICS", "TYPE", "VIEW"}
_RELATIONS = (("TABLE",), ("FOREIGN", "TABLE"), ("VIEW",), ("MATERIALIZED", "VIEW"), ("SEQUENCE",))
_OF_A_TABLE = ("TRIGGER", "POLICY", "RULE")


class Lock(NamedTuple):
    """A lock on a table, view or index."""

    mode: str
    on: str
    """The relation, as the statement writes it."""


def who_waits(locks: Iterable[Lock]) -> str:
    """Return who waits for locks: nobody, writers or everybody."""
    modes = {lock.mode for lock in locks}
    if ALL in modes:
        return "everybody"
    return "writers" if modes & {READS_ONLY, WRITES, ALMOST_ALL} else "nobody"


def taken(statement: str) -> list[Lock] | None:
    """Return the locks of statements for which others may wait; None if the words of one do not tell."""
    found: list[Lock] = []
    for reader in readers(statement):
        locks = _taken(reader)
        if locks is None:
            return None
        found += locks
    return strongest(found)


def dropped_tables(statement: str) -> list[str]:
    """Return the tables that statements drop, as the statements write them."""
    found: list[str] = []
    for reader in readers(statement):
        if reader.takes("DROP", "TABLE"):
            reader.takes("IF", "EXISTS")
            found += reader.names()
    return found


def strongest(locks: Iterable[Lock]) -> list[Lock]:
    """Return the strongest lock of each table."""
    found: dict[str, str] = {}
    for mode, on in locks:
        if on not in found or STRENGTH.index(mode) > STRENGTH.index(found[on]):
            found[on] = mode
    return [Lock(mode, on) for on, mode in found.items()]


def _on(mode: str, *names: str | None) -> list[Lock]:
    return [Lock(mode, name) for name in names if name]


def _taken(reader: Reader) -> list[Lock] | None:
    first = reader.next()
    if first in {"INSERT", "UPDATE", "DELETE", "MERGE", "COPY"}:
        _ = reader.takes("INTO") or reader.takes("FROM")
        reader.takes("ONLY")
        return _on(ROWS, reader.name())
    if first in {"SET", "RESET", "GRANT", "REVOKE"}:
        return []
    if first == "COMMENT":
        return _commented(reader)
    if first == "ANALYZE":
        reader.options()
        return _on(SCHEMA_CHANGES, reader.name())
    if first == "VACUUM":
        return _on(ALL if "FULL" in reader.options() else SCHEMA_CHANGES, reader.name())
    if first == "CLUSTER":
        reader.options()
        return _on(ALL, reader.name())
    if first == "REFRESH":
        reader.takes("MATERIALIZED", "VIEW")
        mode = ALMOST_ALL if reader.takes("CONCURRENTLY") else ALL
        return _on(mode, reader.name())
    if first in {"TRUNCATE", "LOCK"}:
        reader.takes("TABLE")
        names = reader.names()
        mode = " ".join(iter(reader.next, "MODE")) if first == "LOCK" and reader.takes("IN") else ALL
        return _on(mode, *names) if mode in STRENGTH else []
    if first == "REINDEX":
        return _reindexed(reader)
    other = {"CREATE": _created, "DROP": _dropped, "ALTER": _altered}.get(first)
    return None if other is None else other(reader)


def _commented(reader: Reader) -> list[Lock]:
    reader.takes("ON")
    if reader.takes("COLUMN"):
        return _on(SCHEMA_CHANGES, (reader.name() or "").rpartition(".")[0])
    if any(reader.takes(*words) for words in _RELATIONS[:-1]):
        return _on(SCHEMA_CHANGES, reader.name())
    return []


def _reindexed(reader: Reader) -> list[Lock] | None:
    """Return the locks of REINDEX; it also blocks queries that use the index."""
    reader.options()
    reader.takes("TABLE")
    reader.takes("INDEX")
    mode = SCHEMA_CHANGES if reader.takes("CONCURRENTLY") else ALL
    return _on(mode, reader.name())


def _created(reader: Reader) -> list[Lock] | None:
    replaces = reader.takes("OR", "REPLACE")
    while any(reader.takes(word) for word in ("GLOBAL", "LOCAL", "TEMP", "TEMPORARY", "UNLOGGED")):
        pass
    if reader.takes("TABLE"):
        reader.takes("IF", "NOT", "EXISTS")
        reader.name()
        whole = _on(ALL, reader.name()) if reader.takes("PARTITION", "OF") else []
        return [*whole, *_on(WRITES, *_referred(reader))]
    if reader.takes("UNIQUE", "INDEX") or reader.takes("INDEX"):
        mode = SCHEMA_CHANGES if reader.takes("CONCURRENTLY") else READS_ONLY
        reader.after("ON")
        reader.takes("ONLY")
        return _on(mode, reader.name())
    if replaces and reader.takes("VIEW"):
        return _on(ALL, reader.name())
    reader.takes("CONSTRAINT")
    if any(reader.takes(word) for word in _OF_A_TABLE[:2]):
        mode = ALL if reader.has("POLICY") else WRITES
        return _on(mode, reader.name()) if reader.after("ON") else None
    if reader.takes("RULE"):
        return _on(ALL, reader.name()) if reader.after("TO") else None
    return [] if reader.next() in _NEW else None


def _referred(reader: Reader) -> Iterator[str | None]:
    while reader.after("REFERENCES"):
        yield reader.name()


def _dropped(reader: Reader) -> list[Lock] | None:
    if reader.takes("INDEX"):
        mode = SCHEMA_CHANGES if reader.takes("CONCURRENTLY") else ALL
        reader.takes("IF", "EXISTS")
        return _on(mode, *reader.names())
    if any(reader.takes(*words) for words in _RELATIONS):
        reader.takes("IF", "EXISTS")
        return _on(ALL, *reader.names())
    if any(reader.takes(word) for word in _OF_A_TABLE):
        return _on(ALL, reader.name()) if reader.after("ON") else None
    return [] if reader.next() in {*_WITHOUT_TABLE, "TYPE", "STATISTICS"} else None


def _altered(reader: Reader) -> list[Lock] | None:
    if reader.takes("INDEX"):
        reader.takes("IF", "EXISTS")
        index = reader.name()
        if reader.takes("ATTACH", "PARTITION"):
            return [*_on(SCHEMA_CHANGES, index), *_on(ALL, reader.name())]
        return _on(SCHEMA_CHANGES, index)
    if reader.takes("SEQUENCE"):
        reader.takes("IF", "EXISTS")
        return _on(WRITES, reader.name())
    if not reader.takes("TABLE"):
        view = reader.takes("VIEW") or reader.takes("MATERIALIZED", "VIEW")
        if view:
            reader.takes("IF", "EXISTS")
            return _on(ALL, reader.name())
        adds_value = reader.takes("TYPE") and reader.has("VALUE")
        return [] if adds_value or reader.next() in _WITHOUT_TABLE else None
    reader.takes("IF", "EXISTS")
    reader.takes("ONLY")
    table = reader.name()
    reader.takes("*")
    found = [_mode(part) for part in reader.parts()]
    locks = _on(max(found, key=STRENGTH.index, default=ALL), table)
    if reader.has("ATTACH") and reader.after("PARTITION"):
        return [*locks, *_on(ALL, reader.name())]
    return [*locks, *_on(WRITES, *_referred(reader))]


def _mode(part: list[str]) -> str:
    """Return the lock of one action of ALTER TABLE, by its words outside of parentheses."""
    head = part[:1]
    rest = part[3:] if part[:2] == ["ADD", "CONSTRAINT"] else part[1:]
    if head == ["VALIDATE"] or part in (["SET"], ["RESET"]) or {"STATISTICS"} & {*part[-3:]}:
        return SCHEMA_CHANGES
    if part[:2] in (["ATTACH", "PARTITION"], ["CLUSTER", "ON"]) or part[-1:] == ["CONCURRENTLY"]:
        return SCHEMA_CHANGES
    if (head == ["ADD"] and rest[:2] == ["FOREIGN", "KEY"]) or "TRIGGER" in part[:3]:
        return WRITES
    return ALL
