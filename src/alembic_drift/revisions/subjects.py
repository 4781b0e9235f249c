"""The objects that a statement would have created or changed, if it had not failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from alembic_drift.revisions.statements import KINDS
from alembic_drift.revisions.tokens import Statement, names_in, split, tokens_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class Subject(NamedTuple):
    """An object that a statement creates or changes."""

    schema: str | None
    kind: str
    name: str
    """Without arguments; empty if the server chooses the name."""
    table: str | None = None
    """The table that it is on, if the statement names one."""
    named: frozenset[str] | None = None
    """If the object is changed, not created: the names in the statement."""


def subjects_of(sql: str) -> Iterator[Subject | None]:
    """Yield the objects of a text's statements; None for a statement that may create anything: DO, SELECT.

    Statements that create no object of a schema yield nothing.
    """
    in_body = False
    for tokens in split(list(tokens_of(sql)), ";"):
        words = [token.word for token in tokens]
        if not in_body:
            yield from _subject(Statement(tokens))
        # An SQL-standard body (BEGIN ATOMIC) contains statements, which are skipped.
        in_body = words[:1] != ["end"] if in_body else "atomic" in words


_VERBS = ("create", "alter", "comment")
_MAKES_NOTHING = {
    *("drop", "grant", "revoke", "insert", "update", "delete", "truncate", "copy"),
    *("set", "reset", "analyze", "vacuum", "reindex", "cluster", "refresh", "lock", "begin", "commit"),
}
_IN_NO_SCHEMA = {
    *("extension", "schema", "role", "user", "group", "database", "event", "server", "publication"),
    *("subscription", "language", "cast", "default", "temp", "temporary", "system", "access"),
}
_OTHER_KINDS = ("trigger", "policy", "rule", "aggregate", "routine", "column", "constraint", "collation")
_BEFORE_TABLE = {"index": "on", "trigger": "on", "policy": "on", "constraint": "on", "statistics": "from"}
_BEFORE_KIND = ("unique", "unlogged", "recursive", "foreign", "global", "local")


def _subject(statement: Statement) -> Iterator[Subject | None]:
    if statement.next().word in _MAKES_NOTHING:
        return
    verb = statement.word(*_VERBS)
    _ = statement.words("or replace") or (verb == "comment" and statement.word("on"))
    while statement.word(*_BEFORE_KIND):
        pass
    if verb and statement.next().word in _IN_NO_SCHEMA:
        return
    if verb == "create":
        statement.word("constraint")  # CREATE CONSTRAINT TRIGGER
    materialized = statement.word("materialized")
    kind = statement.word(*KINDS, *_OTHER_KINDS)
    statement.word("concurrently")
    _ = statement.words("if not exists") or statement.words("if exists")
    statement.word("only")
    is_unnamed = kind == "index" and statement.next().word == "on"
    found = (None, "") if is_unnamed else statement.name()
    if not verb or not kind or found is None:
        yield None
        return
    schema, name = found
    rest = statement.rest()
    named = None if verb == "create" else frozenset(names_in(rest))
    if kind == "column":  # the schema is ignored in a name of three parts
        yield Subject(None, kind, name, schema, named)
    elif kind == "rule" or kind in _BEFORE_TABLE:
        before = "to" if kind == "rule" and verb == "create" else _BEFORE_TABLE.get(kind, "on")
        on = Statement(next(iter(list(split(rest, before))[1:]), []))
        on.word("only")
        table = on.name() or (schema, None)
        yield Subject(table[0], kind, name, table[1], named)
    else:
        yield Subject(schema, f"materialized {kind}" if materialized else kind, name, None, named)


_BEFORE_RELATION = {"on", "from", "join", "into", "table", "only", "references"}


def relations_in(sql: str) -> Iterator[tuple[str | None, str]]:
    """Yield the schema and name of possible tables that a statement uses, outside the bodies of functions."""
    tokens = list(tokens_of(sql))
    for number, token in enumerate(tokens):
        name = Statement(tokens[number + 1 :]).name() if token.word in _BEFORE_RELATION else None
        if name is not None:
            yield name
