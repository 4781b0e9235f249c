"""The tokens of SQL: words, quoted names, string literals and signs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from alembic_drift.ownership import OWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    SchemaOf = Callable[[str, str], str | None]


class Token(NamedTuple):
    """A word, a quoted name, a string literal or a sign."""

    word: str
    """The token as a keyword or sign; empty for a quoted name or a literal."""
    name: str | None
    """The token as a name; None for a sign or a literal."""


_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n]*)
    |(?P<comment>/\*)
    |(?P<text>[eE]'(?:[^'\\]|''|\\.)*'|(?:[uU]&|[bBnNxX])?'(?:[^']|'')*'|[uU]&"(?:[^"]|"")*"
        |(?P<dollars>\$(?:[^\W\d]\w*)?\$).*?(?:(?P=dollars)|\Z))
    |"(?P<quoted>(?:[^"]|"")+)"
    |(?P<word>[^\W\d][\w$]*)
    |(?P<sign>.)
    """,
    re.DOTALL | re.VERBOSE,
)
_COMMENT_PARTS = re.compile(r"/\*|\*/")
_OWN = Token(OWN.strip(), None)


def tokens_of(sql: str) -> Iterator[Token]:
    """Yield the tokens of a text. Comments are left out, except the mark of unmanaged objects."""
    return (token for token, _, _ in _placed(sql))


def with_schemas(sql: str, schema_of: SchemaOf, *, within_texts: bool = False) -> str:
    """Return SQL in which schemas are replaced; string literals and function bodies stay unchanged.

    The text of a DO block is replaced too, because it is executed at once.

    :param schema_of: returns the schema to write, as SQL, for a schema and a name in it; None to keep it.
    :param within_texts: whether to replace in every literal, as in a DO block.
    """
    parts, end = list[str](), 0
    for start, stop, other in _with_others(sql, schema_of, within_texts):
        parts += [sql[end:start], other]
        end = stop
    return "".join([*parts, sql[end:]])


def _with_others(sql: str, schema_of: SchemaOf, within_texts: bool) -> Iterator[tuple[int, int, str]]:  # noqa: FBT001
    """Yield the positions of schemas and literals, with their replacements."""
    placed = [*_placed(sql)]
    tokens = [*(token for token, *_ in placed), *[Token("", None)] * 2]
    is_block = False
    for number, (token, start, stop) in enumerate(placed):
        before = tokens[number - 1].word if number else ";"
        is_block = token.word == "do" if before == ";" else is_block
        other = None
        if not token.word and token.name is None:
            if is_block or within_texts or _is_name(tokens, number):
                other = _text_with_schemas(sql[start:stop], schema_of)
        elif tokens[number + 1].word == "." and before != "." and token.name is not None:
            name = tokens[number + 2].name
            other = None if name is None else schema_of(token.name, name)
        if other is not None:
            yield start, stop, other


_NAMING = {"nextval", "currval", "setval", "to_regclass", "to_regtype", "pg_get_serial_sequence"}
"""Functions that take the name of an object."""


def _is_name(tokens: Sequence[Token], number: int) -> bool:
    """Return whether a literal is the name of an object: ``'app.s'::regclass``, ``nextval('app.s')``."""
    cast = [token.word for token in tokens[number + 1 : number + 4]]
    if (cast[:2] == [":", ":"] or cast[:1] == ["as"]) and cast[-1 if cast[0] == ":" else 1].startswith("reg"):
        return True
    called = [token.word for token in tokens[max(0, number - 2) : number]]
    return called[-1:] == ["("] and called[0] in _NAMING


def _text_with_schemas(text: str, schema_of: SchemaOf) -> str:
    """Return a literal of SQL with its schemas replaced; one with escapes stays unchanged."""
    if text.startswith("'"):
        inner = with_schemas(text[1:-1].replace("''", "'"), schema_of, within_texts=True)
        return "'" + inner.replace("'", "''") + "'"
    if text.startswith("$"):
        tag = text[: text.index("$", 1) + 1]
        inner = text.removeprefix(tag).removesuffix(tag)
        return tag + with_schemas(inner, schema_of, within_texts=True) + tag
    return text


_DROPPED = {
    *(
        "table",
        "view",
        "index",
        "sequence",
        "type",
        "domain",
        "function",
        "procedure",
        "routine",
        "aggregate",
    ),
    *("materialized", "foreign", "concurrently", "statistics", "if", "exists"),
}


def dropping_in(sql: str, schema: str) -> str:
    """Return SQL in which each DROP of a name without a schema drops from the given schema only.

    :param schema: the schema, quoted for SQL.
    """
    parts, end = list[str](), 0
    depth, before, is_drop, is_name = 0, ";", False, False
    tokens = [*_placed(sql)]
    for number, (token, start, _) in enumerate(tokens):
        if before == ";":
            is_drop, is_name = token.word == "drop", False
        elif is_drop and before == "drop":
            is_drop = is_name = token.word in _DROPPED
        elif is_drop and is_name and depth == 0 and token.name is not None and token.word not in _DROPPED:
            if [following.word for following, *_ in tokens[number + 1 : number + 2]] != ["."]:
                parts += [sql[end:start], f"{schema}."]
                end = start
            is_name = False
        depth += {"(": 1, ")": -1}.get(token.word, 0)
        is_name = is_name or (token.word == "," and depth == 0)
        before = token.word
    return "".join([*parts, sql[end:]])


def _placed(sql: str) -> Iterator[tuple[Token, int, int]]:
    """Yield the tokens of a text, with their start and end."""
    position = 0
    while found := _TOKEN.match(sql, position):
        start, position = found.span()
        match found.lastgroup:
            case "comment":
                position = _after_comment(sql, start)
                if sql.startswith(OWN.strip(), start):
                    yield _OWN, start, position
            case "text" | "dollars":
                yield Token("", None), start, position
            case "quoted":
                yield Token("", found["quoted"].replace('""', '"')), start, position
            case "word":
                yield Token(found["word"].lower(), found["word"].lower()), start, position
            case "sign":
                yield Token(found["sign"], None), start, position


def _after_comment(sql: str, start: int) -> int:
    """Return the end of a comment; comments of PostgreSQL can be nested."""
    depth = 0
    for part in _COMMENT_PARTS.finditer(sql, start):
        depth += 1 if part[0] == "/*" else -1
        if depth == 0:
            return part.end()
    return len(sql)


def split(tokens: Sequence[Token], sign: str) -> Iterator[list[Token]]:
    """Yield the tokens between the signs, except signs in parentheses; nothing if there are no tokens."""
    depth, part = 0, list[Token]()
    for token in tokens:
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.word, 0)
        if token.word == sign and depth <= 0:
            yield part
            part = []
        else:
            part.append(token)
    if part:
        yield part


def names_in(tokens: Iterable[Token]) -> list[str]:
    """Return the tokens that may be names."""
    return [token.name for token in tokens if token.name is not None]


class Statement:
    """The tokens of a statement, read from left to right."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def rest(self) -> list[Token]:
        """Return the remaining tokens."""
        return self._tokens[self._at :]

    def next(self) -> Token:
        """Return the next token."""
        return self._tokens[self._at] if self._at < len(self._tokens) else Token("", None)

    def word(self, *words: str) -> str:
        """Skip one of the words, if it is next; return it, or an empty text."""
        word = self.next().word
        if word not in words:
            return ""
        self._at += 1
        return word

    def words(self, words: str) -> bool:
        """Skip all the words, if they are next; return whether they were."""
        wanted = words.split()
        if [token.word for token in self._tokens[self._at : self._at + len(wanted)]] != wanted:
            return False
        self._at += len(wanted)
        return True

    def identifier(self) -> str | None:
        """Skip a name without a schema; return it."""
        name = self.next().name
        self._at += name is not None
        return name

    def name(self) -> tuple[str | None, str] | None:
        """Skip a name; return its schema and the name."""
        parts: list[str] = []
        while (part := self.identifier()) is not None:
            parts.append(part)
            if not self.word("."):
                return (parts[-2] if len(parts) > 1 else None, part)
        return None

    def group(self) -> list[list[Token]]:
        """Skip a list in parentheses, if it is next; return what its commas separate."""
        if not self.word("("):
            return []
        start, depth = self._at, 1
        while depth and self._at < len(self._tokens):
            depth += {"(": 1, ")": -1}.get(self.next().word, 0)
            self._at += 1
        return list(split(self._tokens[start : self._at - 1], ","))

    def arguments(self) -> str:
        """Skip the arguments of a function; return ``/3`` for three, and nothing without parentheses.

        OUT arguments do not count: they do not distinguish functions.
        """
        if self.next().word != "(":
            return ""
        return f"/{len([argument for argument in self.group() if argument[0].word != 'out'])}"
