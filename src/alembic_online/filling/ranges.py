"""Divide a table into ranges for a backfill: ranges of pages or of keys."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import sqlalchemy as sa

from alembic_online.filling.operation import BackfillOp
from alembic_online.render import quoted, table_name

PARTS = """
WITH RECURSIVE parts (part) AS (
    SELECT CAST(to_regclass(:table) AS oid)
    UNION SELECT inhrelid FROM pg_inherits JOIN parts ON inhparent = part
)"""
"""A table with its partitions and children."""

_PAGES = sa.text(f"""
{PARTS}
SELECT max(pg_relation_size(part)) / current_setting('block_size')::int FROM parts""")  # noqa: S608 - a constant
_HAS_FOREIGN_PARTS = sa.text(f"""
{PARTS}
SELECT bool_or(relkind = 'f') FROM parts JOIN pg_class ON oid = part""")  # noqa: S608 - a constant
_PRIMARY_KEY = sa.text("""
SELECT attname::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
WHERE indrelid = to_regclass(:table) AND indisprimary
ORDER BY array_position(CAST(indkey AS int2[]), attnum)""")
_TYPE = sa.text("""
SELECT format_type(atttypid, atttypmod) FROM pg_attribute
WHERE attrelid = to_regclass(:table) AND attname = :column AND attnum > 0 AND NOT attisdropped""")
_ROWS = sa.text("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(:table)")


def shows_pages(connection: sa.Connection, table: sa.TableClause) -> bool:
    """Return whether the server shows the pages of a table.

    For a foreign table, or a table distributed over other servers, it shows no pages or pages of another
    relation.
    """
    given = {"table": table_name(connection.dialect, table)}
    if connection.execute(_HAS_FOREIGN_PARTS, given).scalar():
        return False
    if connection.execute(_PAGES, given).scalar():
        return True
    return connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).first() is None


def key_of(connection: sa.Connection, operation: BackfillOp) -> tuple[str, ...] | None:
    """Return the key columns for the ranges of a backfill; () for ranges of pages, None if it has neither.

    The primary key is used if the server shows no pages.
    """
    if shows_pages(connection, operation.walked):
        return ()
    given = {"table": table_name(connection.dialect, operation.walked)}
    return tuple(connection.execute(_PRIMARY_KEY, given).scalars()) or None


class Pages:
    """Ranges of a table's pages: they read each page once and need no index."""

    def __init__(self, connection: sa.Connection, operation: BackfillOp) -> None:
        name = table_name(connection.dialect, operation.walked)
        self._end = connection.execute(_PAGES, {"table": name}).scalar() or 0
        self._tid: sa.ColumnClause[Any] = sa.literal_column(
            quoted(connection.dialect, operation.walked.name) + ".ctid"
        )

    def range(self, position: Any, step: int) -> tuple[list["sa.ColumnElement[bool]"], Any] | None:
        """Return the conditions for ``step`` pages after a position, and the next position."""
        first = position or 0
        if first >= self._end:
            return None
        end = min(first + step, self._end)
        return [self._tid >= _tid(first), self._tid < _tid(end)], end

    def part(self, position: Any) -> float:
        """Return the fraction of the table before a position, from 0 to 1."""
        return min(1.0, (position or 0) / max(1, self._end))


class Keys:
    """Ranges of the primary key, for a table whose pages the server does not show."""

    def __init__(self, connection: sa.Connection, operation: BackfillOp, key: Sequence[str]) -> None:
        quote = partial(quoted, connection.dialect)
        self._connection = connection
        self._table = operation.walked
        self._columns: list[sa.ColumnElement[Any]] = [
            sa.literal_column(f"{quote(operation.walked.name)}.{quote(name)}") for name in key
        ]
        table = table_name(connection.dialect, operation.walked)
        self._types = [self._type(table, name) for name in key]
        # Keys after the currently last one belong to the next pass.
        self._last = self._row(self._keys().order_by(*(column.desc() for column in self._columns)))
        self._total = connection.execute(_ROWS, {"table": table}).scalar() or 1
        self._seen = 0

    def _type(self, table: str, column: str) -> str:
        """Return the type of a column with its length; without the length, ranges would miss rows."""
        return str(self._connection.execute(_TYPE, {"table": table, "column": column}).scalar_one())

    def _keys(self) -> "sa.Select[Any]":
        return _select(*(column.cast(sa.Text) for column in self._columns))

    def _row(self, select: "sa.Select[Any]") -> list[str] | None:
        row = self._connection.execute(select.select_from(self._table).limit(1)).one_or_none()
        return None if row is None else list(row)

    def _key(self, position: Sequence[str]) -> "sa.ColumnElement[Any]":
        literals: Iterator[sa.ColumnElement[Any]] = (
            sa.literal_column(f"CAST({_quote(value)} AS {kind})")
            for value, kind in zip(position, self._types, strict=True)
        )
        return sa.tuple_(*literals)

    def range(self, position: Any, step: int) -> tuple[list["sa.ColumnElement[bool]"], Any] | None:
        """Return the conditions for ``step`` keys after a position, and the next position."""
        if self._last is None or position == self._last:
            return None
        key = sa.tuple_(*self._columns)
        conditions = [key <= self._key(self._last)]
        if position is not None:
            conditions.append(key > self._key(position))
        end = (
            self._row(self._keys().where(*conditions).order_by(*self._columns).offset(step - 1)) or self._last
        )
        self._seen += step
        return [*conditions[1:], key <= self._key(end)], end

    def part(self, position: Any) -> float:
        """Return the approximate fraction of the table before a position, from 0 to 1."""
        return 1.0 if position == self._last else min(1.0, self._seen / max(1, self._total))


def _select(*columns: "sa.ColumnElement[Any]") -> "sa.Select[Any]":
    statement: sa.Select[Any] = sa.select(*columns)
    return statement


def _tid(page: int) -> "sa.ColumnElement[Any]":
    return sa.literal_column(f"'({page},0)'::tid")


def _quote(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
