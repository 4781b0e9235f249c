"""Pure functions that find, by its words, the kind of a statement and the tables that it names."""

from alembic_online.tokens import Reader, readers, statements

_TRANSACTION = {"SAVEPOINT", "RELEASE", "ROLLBACK", "ABORT", "BEGIN", "START", "COMMIT", "END"}
_ROWS = {"INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "COPY"}


def kind(sql: str) -> str:
    """Return how a statement of ``op.execute`` runs online.

    - ``session``: changes a setting for later statements
    - ``local``: changes a setting for its transaction, in which nothing else runs
    - ``transaction``: begins or ends a transaction
    - ``outside``: PostgreSQL refuses it in a transaction
    - ``long``: its locks do not block reads and writes
    - ``rows``: changes rows, and waits only for row locks
    - ``brief``: everything else
    """
    kinds = [_kind(reader) for reader in readers(sql)]
    if "transaction" in kinds and not any(reader.has("ATOMIC") for reader in readers(sql)):
        return "transaction"
    if len(kinds) == 1 or set(kinds) == {"long"}:
        return kinds[0]
    return "outside" if "outside" in kinds else "brief"


def _kind(reader: "Reader") -> str:
    first = reader.next()
    if first == "SET":
        if reader.takes("LOCAL"):
            return "local"
        return "brief" if reader.takes("CONSTRAINTS") else "session"
    if first in _TRANSACTION or (first == "PREPARE" and reader.takes("TRANSACTION")):
        return "transaction"
    if first in {"CREATE", "DROP"} and (reader.takes("INDEX") or reader.takes("UNIQUE", "INDEX")):
        return "outside" if reader.takes("CONCURRENTLY") else "brief"
    if first == "VACUUM" or (first == "REINDEX" and reader.has("CONCURRENTLY")):
        return "outside"
    if first == "ALTER" and reader.takes("TABLE"):
        if reader.has("DETACH") and reader.has("CONCURRENTLY"):
            return "outside"
        reader.takes("IF", "EXISTS")
        reader.names()
        return "long" if all(part[:1] == ["VALIDATE"] for part in reader.parts()) else "brief"
    if (
        first == "ANALYZE"
        or (first == "COMMENT" and reader.takes("ON"))
        or (first in {"CREATE", "REFRESH"} and reader.takes("MATERIALIZED", "VIEW"))
        or (first == "CREATE" and _is_create_table_as(reader))
    ):
        return "long"
    return "session" if first == "RESET" else "rows" if first in _ROWS else "brief"


def _is_create_table_as(reader: "Reader") -> bool:
    """Return whether a statement is CREATE TABLE AS, after its first word."""
    for word in ("GLOBAL", "LOCAL", "UNLOGGED", "TEMP", "TEMPORARY"):
        reader.takes(word)
    if not reader.takes("TABLE"):
        return False
    reader.takes("IF", "NOT", "EXISTS")
    reader.name()
    return any("AS" in part for part in reader.parts())


def is_temporary(sql: str) -> bool:
    """Return whether a statement creates a temporary object."""
    for reader in readers(sql):
        if reader.takes("CREATE"):
            _ = reader.takes("GLOBAL") or reader.takes("LOCAL")
            return reader.takes("TEMP") or reader.takes("TEMPORARY")
        break
    return False


def writes(sql: str) -> bool:
    """Return whether statements change rows or definitions."""
    first = {reader.next() for reader in readers(sql)}
    return bool(
        first & {"INSERT", "UPDATE", "DELETE", "MERGE", "COPY", "CREATE", "ALTER", "DROP", "TRUNCATE"}
    )


def is_lenient(sql: str) -> bool:
    """Return whether a statement has IF EXISTS, so that an object may be missing."""
    return any(reader.after("IF", "EXISTS") for reader in readers(sql))


def creates_trigger(sql: str) -> bool:
    """Return whether a statement creates a trigger, which does not block readers."""
    for reader in readers(sql):
        if not reader.takes("CREATE"):
            return False
        reader.takes("OR", "REPLACE")
        reader.takes("CONSTRAINT")
        return reader.takes("TRIGGER")
    return False


_BEFORE_KIND = {
    "OR", "REPLACE", "GLOBAL", "LOCAL", "TEMP", "TEMPORARY", "UNLOGGED", "UNIQUE", "MATERIALIZED", "FOREIGN",
    "CONSTRAINT", "EVENT",
}  # fmt: skip


def head(sql: str) -> str | None:
    """Return a CREATE or DROP up to the name of its object; None for other statements."""
    for reader in readers(sql):
        if reader.next() not in {"CREATE", "DROP"}:
            return None
        while reader.next() in _BEFORE_KIND:
            pass
        for words in (("CONCURRENTLY",), ("IF", "NOT", "EXISTS"), ("IF", "EXISTS"), ("ONLY",)):
            reader.takes(*words)
        return None if reader.name() is None else reader.so_far()
    return None


def last_part(name: str) -> str:
    """Return a name without its schema, folded and unquoted."""
    *_, last = next(statements(name))
    return folded(name[last.begin : last.end])


def names(sql: str) -> set[str]:
    """Return all words of the statements that may be names, folded and unquoted."""
    found = {sql[token.begin : token.end] for tokens in statements(sql) for token in tokens}
    return {folded(word) for word in found if word[0].isalpha() or word[0] in '_"'}


def without_values(sql: str) -> str:
    """Return the statements without their strings and numbers."""
    words = [token.text for tokens in statements(sql) for token in tokens]
    return " ".join("?" if word[0].isdigit() or "'" in word[:2] or word[0] == "$" else word for word in words)


def folded(name: str) -> str:
    """Return a name without quotes, or in lower case if it has none, as PostgreSQL stores it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def begins_with(sql: str, *words: str) -> bool:
    """Return whether the first statement begins with these words."""
    return any(reader.takes(*words) for reader in [*readers(sql)][:1])


def locked(sql: str) -> list[str]:
    """Return the tables that the statements lock against others, as the statements write them."""
    found: list[str] = []
    for reader in readers(sql):
        if names := _locked(reader):
            found += names
            while reader.after("REFERENCES"):
                found += filter(None, [reader.name()])
    new = created(sql)
    return [name for name in found if name not in new]


def _locked(reader: "Reader") -> list[str]:
    first = reader.next()
    if first in {"ALTER", "DROP", "TRUNCATE", "LOCK"} and (
        reader.takes("TABLE") or first in {"TRUNCATE", "LOCK"}
    ):
        reader.takes("IF", "EXISTS")
        return reader.names()
    if first in {"CREATE", "DROP", "ALTER"}:
        reader.takes("OR", "REPLACE")
        reader.takes("CONSTRAINT")
        if (reader.takes("TRIGGER") or reader.takes("POLICY")) and reader.after("ON"):
            return [*filter(None, [reader.name()])]
    return []


_BEFORE_WRITTEN = [
    ("INSERT", "INTO"), ("UPDATE",), ("DELETE", "FROM"), ("MERGE", "INTO"), ("ANALYZE",),
    ("TRUNCATE", "TABLE"), ("TRUNCATE",), ("ALTER", "TABLE"), ("COMMENT", "ON", "TABLE"),
]  # fmt: skip


def written(sql: str) -> list[str]:
    """Return the tables that the statements change, rows or definition, as the statements write them."""
    found: list[str] = []
    for reader in readers(sql):
        there = any(reader.takes(*words) for words in _BEFORE_WRITTEN)
        if not there and reader.takes("CREATE"):
            reader.takes("UNIQUE")
            there = reader.takes("INDEX") and reader.after("ON")
        if there:
            reader.takes("IF", "EXISTS")
            reader.takes("ONLY")
            found += filter(None, [reader.name()])
    return found


def validated(sql: str) -> list[str]:
    """Return the tables of which the statements validate a constraint, as the statements write them."""
    found = []
    for reader in readers(sql):
        if reader.takes("ALTER", "TABLE") and reader.has("VALIDATE"):
            reader.takes("ONLY")
            found.append(reader.name() or "")
    return found


def created(sql: str) -> list[str]:
    """Return the tables that the statements create, as the statements write them."""
    found = []
    for reader in readers(sql):
        if reader.takes("CREATE"):
            while reader.takes("UNLOGGED") or reader.takes("MATERIALIZED"):
                pass
            if reader.takes("TABLE") or reader.takes("VIEW"):
                reader.takes("IF", "NOT", "EXISTS")
                found.append(reader.name() or "")
    return found
