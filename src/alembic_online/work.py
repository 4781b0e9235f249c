"""Pure functions that find, by its words, whether a statement scans or rewrites a table under its lock.

Words do not tell whether a new type or default rewrites the table. For this, the statement is tried on an
empty copy of the table.
"""

from typing import NamedTuple

from alembic_online.sql import folded
from alembic_online.tokens import Reader, readers

_INDEX, _READS, _WRITES = "builds an index", "reads every row", "rewrites the table"


class Work(NamedTuple):
    """What a statement does with all rows of a table, under a lock that blocks others."""

    table: str | None
    """As the statement writes it; None for more than one."""
    what: str
    instead: str
    column: str | None = None
    """The column that it would make NOT NULL, unless the server knows that it has no NULL."""


class Change(NamedTuple):
    """An ALTER TABLE for which only the server knows whether it rewrites the table."""

    table: str
    actions: str
    instead: str


def examine(sql: str) -> list[Work | Change]:
    """Return what the statements do with all rows of tables."""
    found: list[Work | Change] = []
    for reader in readers(sql):
        if reader.takes("CREATE"):
            found += _create_index(reader)
        elif reader.takes("ALTER", "TABLE"):
            found += _alter_table(reader)
        elif reader.takes("CLUSTER"):
            reader.options()
            found.append(Work(reader.name(), _WRITES, "leave it out: new rows do not keep the order"))
        elif reader.takes("VACUUM"):
            if "FULL" in reader.options():
                found.append(
                    Work(reader.name(), _WRITES, "use VACUUM without FULL: new rows reuse the space")
                )
        elif reader.takes("REINDEX") and not reader.has("CONCURRENTLY"):
            reader.options()
            kind = reader.next()
            table = reader.name() if kind in {"TABLE", "INDEX"} else None
            found.append(Work(table, "builds indexes", "use REINDEX … CONCURRENTLY"))
    return found


def _create_index(reader: Reader) -> list[Work | Change]:
    unique = reader.takes("UNIQUE")
    if not reader.takes("INDEX") or reader.takes("CONCURRENTLY"):
        return []
    reader.takes("IF", "NOT", "EXISTS")
    if not reader.takes("ON"):
        reader.name()
        reader.takes("ON")
    if reader.takes("ONLY"):  # only the index of a partitioned table, without those of its partitions
        return []
    return [Work(reader.name(), _INDEX, f"use op.create_index{'(…, unique=True)' if unique else ''}")]


def _alter_table(reader: Reader) -> list[Work | Change]:
    reader.takes("IF", "EXISTS")
    reader.takes("ONLY")
    table = reader.name()
    if table is None:
        return []
    reader.takes("*")
    found: list[Work | Change] = []
    change: str | None = None
    for part in reader.parts():
        words = set(part)
        if part[:1] == ["ADD"]:
            rest = part[3:] if part[1:2] == ["CONSTRAINT"] else part[1:]
            work = _added_constraint(table, rest)
            if work is not None:
                found.append(work)
            elif part[1:2] != ["CONSTRAINT"] and not _is_constraint(rest):
                if words & {"UNIQUE", "PRIMARY"}:
                    found.append(Work(table, _INDEX, "use op.add_column"))
                elif "CHECK" in words or {"REFERENCES", "DEFAULT"} <= words:
                    found.append(Work(table, _READS, "use op.add_column"))
                change = change or "use op.add_column"
        elif part[:1] == ["ALTER"]:
            column, *rest = part[2:] if part[1:2] == ["COLUMN"] else part[1:] or [""]
            if rest[:3] == ["SET", "NOT", "NULL"]:
                found.append(Work(table, _READS, "use op.alter_column(…, nullable=False)", folded(column)))
            elif rest[:1] == ["TYPE"] or rest[:3] == ["SET", "DATA", "TYPE"]:
                change = "use op.alter_column(…, type_=…)"
        elif part[:1] == ["SET"] and words & {"TABLESPACE", "LOGGED", "UNLOGGED", "ACCESS"}:
            found.append(Work(table, _WRITES, "do it while nobody uses the table"))
    if change is not None and not found:
        found.append(Change(table, reader.rest(), change))
    return found


def _is_constraint(words: list[str]) -> bool:
    return words[:1] in (["UNIQUE"], ["CHECK"], ["EXCLUDE"]) or words[:2] in (
        ["PRIMARY", "KEY"],
        ["FOREIGN", "KEY"],
        ["NOT", "NULL"],
    )


def _added_constraint(table: str, words: list[str]) -> Work | None:
    """Return the work of adding a constraint, given its words outside of parentheses."""
    has_index = "USING" in words and words[0] != "EXCLUDE"
    if not _is_constraint(words) or has_index or words[-2:] == ["NOT", "VALID"]:
        return None
    what, instead = {
        "UNIQUE": (_INDEX, "use op.create_unique_constraint"),
        "PRIMARY": (_INDEX, "use op.create_primary_key"),
        "EXCLUDE": (_INDEX, "create it on a new table and move the rows"),
        "CHECK": (_READS, "use op.create_check_constraint"),
        "FOREIGN": (_READS, "use op.create_foreign_key"),
        "NOT": (_READS, "use op.alter_column(…, nullable=False)"),
    }[words[0]]
    return Work(table, what, instead)
