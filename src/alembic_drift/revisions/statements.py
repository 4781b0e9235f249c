"""What the statements of an SQL text create, drop and rename.

Only the beginning of a statement is read, and the columns of a table. Statements that are not understood are
ignored, and so are those that are marked as statements for an unmanaged object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from alembic_drift.revisions.changes import RELATIONS, Change, Created, Drop, Rename
from alembic_drift.revisions.tokens import Statement, names_in, split, tokens_of

if TYPE_CHECKING:
    from collections.abc import Iterator


def changes_of(sql: str) -> Iterator[Change]:
    """Yield the changes that the statements of a text make, in their order."""
    for tokens in split(list(tokens_of(sql)), ";"):
        statement = Statement(tokens)
        match statement.word("create", "alter", "drop"):
            case "create":
                yield from _create(statement)
            case "alter":
                yield from _alter(statement)
            case "drop":
                yield from _drop(statement)


def routine(signature: str) -> str | None:
    """Return the name by which a function or procedure is compared: its name and number of arguments.

    Types have several spellings, so only the number tells functions of the same name apart.
    """
    statement = Statement(list(tokens_of(signature)))
    name = statement.name()
    return None if name is None else name[1] + statement.arguments()


def identifiers(expression: str) -> list[str]:
    """Return the names in an expression, including those of columns."""
    return names_in(tokens_of(expression))


_SERIALS = {"serial", "serial2", "serial4", "serial8", "bigserial", "smallserial"}
_CONSTRAINTS = ("constraint", "primary", "unique", "check", "foreign", "like")
KINDS = ("table", "view", "index", "sequence", "type", "domain", "function", "procedure", "statistics")
_ROUTINES = {"function", "procedure", "routine"}


def _kind(statement: Statement, *others: str) -> str:
    if statement.word("materialized"):
        return "materialized view" if statement.word("view") else ""
    statement.word("foreign")
    return statement.word(*KINDS, *others)


def _create(statement: Statement) -> Iterator[Change]:
    statement.words("or replace")
    while statement.word("unique", "unlogged", "recursive"):
        pass
    kind = _kind(statement)  # none for temporary objects, which belong to no schema that is compared
    statement.word("concurrently")
    statement.words("if not exists")
    if not kind or statement.next().word == "on":  # an index without a name
        return
    found = statement.name()
    if found is None:
        return
    schema, name = found
    match kind:
        case "table":
            yield Created(schema, kind, name)
            for item in statement.group():
                yield from _column(schema, name, Statement(item))
        case "index":
            if statement.word("on"):
                statement.word("only")
                yield from _of_table(statement, kind, name)
        case "statistics":
            for of in list(split(statement.rest(), "from"))[1:]:
                yield from _of_table(Statement(of), kind, name)
        case "function" | "procedure":
            yield Created(schema, kind, name + statement.arguments())
        case _:
            yield Created(schema, kind, name)


def _of_table(statement: Statement, kind: str, name: str) -> Iterator[Created]:
    """Yield an index or statistics: its schema is that of its table; it needs the columns that it names."""
    table = statement.name()
    if table is not None:
        yield Created(table[0], kind, name, table[1], frozenset(names_in(statement.rest())))


def _column(schema: str | None, table: str, statement: Statement) -> Iterator[Created]:
    """Yield what the definition of a column creates; nothing for a constraint."""
    following = [token.word for token in statement.rest()[:2]]
    if statement.word(*_CONSTRAINTS) or following in (["exclude", "using"], ["exclude", "("]):
        return
    name = statement.identifier()
    if name is not None:
        yield from column(schema, table, name, serial=bool(statement.word(*_SERIALS)))


def column(schema: str | None, table: str, name: str, *, serial: bool) -> Iterator[Created]:
    """Yield a column, and the sequence of a serial."""
    yield Created(schema, "column", name, table)
    if serial:
        yield Created(schema, "sequence", f"{table}_{name}_seq", table, frozenset({name}))


def _alter(statement: Statement) -> Iterator[Change]:
    kind = _kind(statement, "routine")
    statement.words("if exists")
    statement.word("only")
    found = statement.name()
    if not kind or found is None:
        return
    schema, name = found
    if kind in _ROUTINES:
        name += statement.arguments()
    statement.word("*")
    if statement.words("rename to"):
        new = statement.identifier()
        yield Drop(schema, kind, name) if new is None else Rename(schema, kind, name, new)
    elif statement.words("set schema"):
        yield Rename(schema, kind, name, found[1], new_schema=statement.identifier())
    elif statement.word("rename"):
        if kind in RELATIONS and not statement.word("constraint"):
            yield from _rename_column(schema, name, statement)
    elif kind == "table":
        for action in split(statement.rest(), ","):
            yield from _change_table(schema, name, Statement(action))


def _rename_column(schema: str | None, table: str, statement: Statement) -> Iterator[Change]:
    statement.word("column")
    old = statement.identifier()
    new = statement.identifier() if statement.word("to") else None
    if old is not None:
        yield Drop(schema, "column", old, table) if new is None else Rename(schema, "column", old, new, table)


def _change_table(schema: str | None, table: str, action: Statement) -> Iterator[Change]:
    match action.word("add", "drop"):
        case "add":
            action.word("column")
            action.words("if not exists")
            yield from _column(schema, table, action)
        case "drop" if not action.word("constraint"):
            action.word("column")
            action.words("if exists")
            name = action.identifier()
            if name is not None:
                yield Drop(schema, "column", name, table)


def _drop(statement: Statement) -> Iterator[Change]:
    kind = _kind(statement, "routine", "schema")
    statement.word("concurrently")
    statement.words("if exists")
    while kind and (found := statement.name()) is not None:
        schema, name = found
        yield Drop(schema, kind, name + (statement.arguments() if kind in _ROUTINES else ""))
        if not statement.word(","):
            return
