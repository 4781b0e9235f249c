"""What a statement of ``op.execute`` does under its lock, as far as its words tell: pure functions.

It reads tokens, not SQL: comments, strings, quoted names and the bodies of functions are never taken for
words. A whole parser is not worth its dependency: sqlglot 30 does not know VALIDATE CONSTRAINT, USING INDEX,
EXCLUDE, VACUUM FULL, REINDEX and CREATE INDEX ON ONLY, and reads CLUSTER as the name of a column. What words
cannot tell (whether a type or a default writes the table anew), the server is asked on an empty copy.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""
    --[^\n]* | /\*.*?\*/
    | (?P<token>
        [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*'
        | \$(?P<tag>\w*)\$.*?\$(?P=tag)\$
        | "(?:[^"]|"")*"
        | [^\W\d][\w$]*
        | \S
    )
    """,
    re.DOTALL | re.VERBOSE,
)
_INDEX, _READS, _WRITES = "builds an index", "reads every row", "writes the table anew"


class Token(NamedTuple):
    """A word, in capitals, or a name, string or sign as it stands; and where it ends."""

    text: str
    end: int


class Work(NamedTuple):
    """What a statement does with all rows of a table, under a lock that stops others."""

    table: str | None
    """As it is written; None for more than one."""
    what: str
    instead: str
    column: str | None = None
    """The column that it would make NOT NULL, unless the server knows that it has no NULL."""


class Change(NamedTuple):
    """An ALTER TABLE of which only the server knows whether it writes the table anew."""

    table: str
    actions: str
    instead: str


def statements(sql: str) -> Iterator[list[Token]]:
    """Yield the tokens of each statement."""
    found: list[Token] = []
    for match in _TOKEN.finditer(sql):
        text = match["token"]
        if text == ";":
            yield found
            found = []
        elif text is not None:
            found.append(Token(text.upper() if text[0].isalpha() and "'" not in text else text, match.end()))
    yield found


def examine(sql: str) -> list[Work | Change]:
    """Return what the statements do with all rows of tables."""
    found: list[Work | Change] = []
    for tokens in statements(sql):
        reader = _Reader(sql, tokens)
        if reader.takes("CREATE"):
            found += _create_index(reader)
        elif reader.takes("ALTER", "TABLE"):
            found += _alter_table(reader)
        elif reader.takes("CLUSTER"):
            reader.options()
            found.append(Work(reader.name(), _WRITES, "leave it out: it is not kept up for new rows"))
        elif reader.takes("VACUUM"):
            if "FULL" in reader.options():
                found.append(
                    Work(reader.name(), _WRITES, "VACUUM without FULL makes the space free for rows")
                )
        elif reader.takes("REINDEX") and not any(token.text == "CONCURRENTLY" for token in tokens):
            reader.options()
            kind = reader.next()
            table = reader.name() if kind in {"TABLE", "INDEX"} else None
            found.append(Work(table, "builds indexes", "say REINDEX … CONCURRENTLY"))
    return found


def validated(sql: str) -> list[str]:
    """Return the tables of which the statements validate a constraint, as they are written."""
    found = []
    for tokens in statements(sql):
        reader = _Reader(sql, tokens)
        if reader.takes("ALTER", "TABLE") and any(token.text == "VALIDATE" for token in tokens):
            reader.takes("ONLY")
            found.append(reader.name() or "")
    return found


def created(sql: str) -> list[str]:
    """Return the tables that the statements create, as they are written."""
    found = []
    for tokens in statements(sql):
        reader = _Reader(sql, tokens)
        if reader.takes("CREATE"):
            while reader.takes("UNLOGGED") or reader.takes("MATERIALIZED"):
                pass
            if reader.takes("TABLE") or reader.takes("VIEW"):
                reader.takes("IF", "NOT", "EXISTS")
                found.append(reader.name() or "")
    return found


class _Reader:
    """Takes the tokens of a statement one by one."""

    def __init__(self, sql: str, tokens: list[Token]) -> None:
        self._sql = sql
        self._tokens = tokens
        self._at = 0

    def takes(self, *words: str) -> bool:
        """Go past these words, if they come next."""
        there = [token.text for token in self._tokens[self._at : self._at + len(words)]]
        if there != [*words]:
            return False
        self._at += len(words)
        return True

    def next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1].text if self._at <= len(self._tokens) else ""

    def name(self) -> str | None:
        """Go past a name, with its schema; return it as it is written."""
        begin = self._at
        if begin >= len(self._tokens):
            return None
        self._at += 1
        while self.takes("."):
            self._at += 1
        last = self._tokens[min(self._at, len(self._tokens)) - 1]
        written = self._sql[self._tokens[begin].end - len(self._tokens[begin].text) : last.end]
        return "".join(written.split()) if '"' not in written else written

    def options(self) -> set[str]:
        """Go past options before a name, in brackets or not."""
        found = set()
        if self.takes("("):
            while (word := self.next()) not in {")", ""}:
                found.add(word)
        while any(self.takes(word) for word in ("FULL", "FREEZE", "VERBOSE", "ANALYZE")):
            found.add(self._tokens[self._at - 1].text)
        return found

    def rest(self) -> str:
        return self._sql[self._tokens[self._at - 1].end : self._tokens[-1].end]

    def parts(self) -> Iterator[list[str]]:
        """Yield the words of what stands between the commas that are in no brackets; they go into none."""
        depth, part = 0, list[str]()
        for token in self._tokens[self._at :]:
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            if token.text == "," and depth == 0:
                yield part
                part = []
            elif depth == 0 and token.text != ")":
                part.append(token.text)
        yield part


def _create_index(reader: _Reader) -> list[Work | Change]:
    unique = reader.takes("UNIQUE")
    if not reader.takes("INDEX") or reader.takes("CONCURRENTLY"):
        return []
    reader.takes("IF", "NOT", "EXISTS")
    if not reader.takes("ON"):
        reader.name()
        reader.takes("ON")
    if reader.takes("ONLY"):  # an index of a partitioned table that has no parts yet
        return []
    return [Work(reader.name(), _INDEX, f"use op.create_index{'(…, unique=True)' if unique else ''}")]


def _alter_table(reader: _Reader) -> list[Work | Change]:
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
                found.append(Work(table, _READS, "use op.alter_column(…, nullable=False)", _folded(column)))
            elif rest[:1] == ["TYPE"] or rest[:3] == ["SET", "DATA", "TYPE"]:
                change = "use op.alter_column(…, type_=…)"
        elif part[:1] == ["SET"] and words & {"TABLESPACE", "LOGGED", "UNLOGGED", "ACCESS"}:
            found.append(Work(table, _WRITES, "do it where nobody waits"))
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
    """Return what it takes to add a constraint, of which these are the words outside of brackets."""
    has_index = "USING" in words and words[0] != "EXCLUDE"
    if not _is_constraint(words) or has_index or words[-2:] == ["NOT", "VALID"]:
        return None
    what, instead = {
        "UNIQUE": (_INDEX, "use op.create_unique_constraint"),
        "PRIMARY": (_INDEX, "use op.create_primary_key"),
        "EXCLUDE": (_INDEX, "create it with a new table, and move the rows"),
        "CHECK": (_READS, "use op.create_check_constraint"),
        "FOREIGN": (_READS, "use op.create_foreign_key"),
        "NOT": (_READS, "use op.alter_column(…, nullable=False)"),
    }[words[0]]
    return Work(table, what, instead)


def _folded(name: str) -> str:
    """Return a name as PostgreSQL knows it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
