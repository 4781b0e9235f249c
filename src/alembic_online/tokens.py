"""A tokenizer for SQL statements.

It never takes comments, strings, quoted names and function bodies for words. A full parser is not worth the
dependency: sqlglot 30 does not know VALIDATE CONSTRAINT, USING INDEX, EXCLUDE, VACUUM FULL, REINDEX and
CREATE INDEX ON ONLY, and reads CLUSTER as the name of a column.
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


class Token(NamedTuple):
    """A word in capitals, or an unchanged quoted name, string or sign; with its position."""

    text: str
    begin: int
    end: int


def statements(sql: str) -> Iterator[list[Token]]:
    """Yield the tokens of each statement."""
    found: list[Token] = []
    for match in _TOKEN.finditer(sql):
        text = match["token"]
        if text == ";":
            yield found
            found = []
        elif text is not None:
            word = text.upper() if text[0].isalpha() and "'" not in text else text
            found.append(Token(word, match.start(), match.end()))
    yield found


def readers(sql: str) -> Iterator["Reader"]:
    """Yield a reader of each statement that is not empty."""
    for tokens in statements(sql):
        if tokens:
            yield Reader(sql, tokens)


class Reader:
    """Reads the tokens of a statement one by one."""

    def __init__(self, sql: str, tokens: list[Token]) -> None:
        self._sql = sql
        self._tokens = tokens
        self._at = 0

    def takes(self, *words: str) -> bool:
        """Skip these words if they come next, and return whether they did."""
        there = [token.text for token in self._tokens[self._at : self._at + len(words)]]
        if there != [*words]:
            return False
        self._at += len(words)
        return True

    def has(self, word: str) -> bool:
        """Return whether the statement has a word, anywhere."""
        return any(token.text == word for token in self._tokens)

    def next(self) -> str:
        """Read a word."""
        self._at += 1
        return self._tokens[self._at - 1].text if self._at <= len(self._tokens) else ""

    def name(self) -> str | None:
        """Read a name with its schema, as the statement writes it."""
        begin = self._at
        if begin >= len(self._tokens):
            return None
        self._at += 1
        while self.takes("."):
            self._at += 1
        last = self._tokens[min(self._at, len(self._tokens)) - 1]
        written = self._sql[self._tokens[begin].begin : last.end]
        return "".join(written.split()) if '"' not in written else written

    def names(self) -> list[str]:
        """Read names separated by commas; each may have ONLY before it and * after it."""
        found: list[str] = []
        while True:
            self.takes("ONLY")
            if (name := self.name()) is None:
                return found
            found.append(name)
            self.takes("*")
            if not self.takes(","):
                return found

    def after(self, *words: str) -> bool:
        """Skip to behind the next occurrence of these words; do not move if there is none."""
        for at in range(self._at, len(self._tokens)):
            before, self._at = self._at, at
            if self.takes(*words):
                return True
            self._at = before
        return False

    def options(self) -> set[str]:
        """Read options before a name, with or without parentheses."""
        found: set[str] = set()
        if self.takes("("):
            while (word := self.next()) not in {")", ""}:
                found.add(word)
        while any(self.takes(word) for word in ("FULL", "FREEZE", "VERBOSE", "ANALYZE")):
            found.add(self._tokens[self._at - 1].text)
        return found

    def so_far(self) -> str:
        """Return the part of the statement that was read, unchanged."""
        return self._sql[self._tokens[0].begin : self._tokens[min(self._at, len(self._tokens)) - 1].end]

    def rest(self) -> str:
        """Return the rest of the statement, unchanged."""
        return self._sql[self._tokens[self._at - 1].end : self._tokens[-1].end]

    def parts(self) -> Iterator[list[str]]:
        """Yield the words of each part between top-level commas, without those in parentheses."""
        depth, part = 0, list[str]()
        for token in self._tokens[self._at :]:
            depth += {"(": 1, ")": -1}.get(token.text, 0)
            if token.text == "," and depth == 0:
                yield part
                part = []
            elif depth == 0 and token.text != ")":
                part.append(token.text)
        yield part
