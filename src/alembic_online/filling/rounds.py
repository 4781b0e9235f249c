"""Rounds over a range of pages, so that most updates of a backfill are heap-only.

A heap-only update writes no index entry and no other page. It requires that no index uses an updated column,
and that the new row version fits on the same page. Pages of a table that has only had inserts are full. So
the first round over a range updates one row of each page, or a few, which move to other pages. After the
commit, the server prunes the old versions when it next reads the page, and the next round finds room there.
"""

import math
from typing import Any

import sqlalchemy as sa

from alembic_online.filling.operation import BackfillOp
from alembic_online.filling.ranges import PARTS, shows_pages
from alembic_online.internals import columns_set
from alembic_online.render import quoted, table_name

RANGE = 2048
"""The number of pages for a set of rounds: 16 MB, which stay in memory from one round to the next."""

SAMPLE = 128
"""The number of pages, at the beginning of a range, on which rows are counted."""

# An index that is not ready or not valid counts as well. The server counts only columns of the table itself:
# what an index says of whole rows, or of generated columns, shows in the number of heap-only updates.
_INDEXES = sa.text(f"""
{PARTS},
indexes (part, indexed) AS (
    SELECT part, NOT (amname = 'brin' AND current_setting('server_version_num')::int >= 160000)
        AND EXISTS (
            SELECT FROM pg_attribute
            WHERE attrelid = part AND attname = ANY (CAST(:columns AS text[])) AND (
                attnum = ANY (indkey) OR EXISTS (
                    SELECT FROM pg_depend WHERE classid = CAST('pg_class' AS regclass) AND objid = indexrelid
                    AND refclassid = CAST('pg_class' AS regclass) AND refobjid = part AND refobjsubid = attnum
                )
            )
        )
    FROM parts JOIN pg_index ON indrelid = part
    JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_am ON pg_am.oid = relam
)
SELECT (SELECT count(*) FROM parts) AS parts,
    EXISTS (SELECT FROM indexes WHERE indexed) AS indexed,
    (SELECT max(number) FROM (SELECT count(*) AS number FROM indexes GROUP BY part) AS numbers) AS number
""")  # noqa: S608 - constants
_COUNTED = sa.text(f"""
{PARTS}
SELECT sum(pg_stat_get_xact_tuples_hot_updated(part)) FROM parts""")  # noqa: S608


class Rounds:
    """Chooses the number of rounds for a range, and the rows of each round."""

    def __init__(self, connection: sa.Connection, operation: BackfillOp) -> None:
        self._connection = connection
        self._operation = operation
        self._table = table_name(connection.dialect, operation.table)
        name = quoted(connection.dialect, operation.table.name)
        self._tid: sa.ColumnClause[Any] = sa.literal_column(f"{name}.ctid")
        self._page: tuple[sa.ColumnClause[Any], ...] = (
            sa.literal_column(f"{name}.tableoid"),
            sa.literal_column(
                f"substr(tidsend({name}.ctid), 1, 4)"
            ),  # no function returns the page as a number
        )
        given = {"table": self._table, "columns": columns_set(operation.statement)}
        indexes = connection.execute(_INDEXES, given).one()
        self._indexes = int(indexes.number or 0)
        self.pages = max(1, RANGE // int(indexes.parts))
        """Pages of a range, of each partition."""
        self.may_stay = not indexes.indexed and shows_pages(connection, operation.table)
        """Whether updates may be heap-only."""

    def number(self, sample: list["sa.ColumnElement[bool]"]) -> int:
        """Return how many rounds a range takes, as the rows of a sample of its pages tell.

        As many as a page has rows to fill (the 75th percentile), so that one row moves and the others are
        updated in its place, one after the other. On pages with many rows, each round takes several: of n
        rows in r rounds, n / r move. Moving a row costs about 20 µs for the row and for each index; a round
        costs about 10 µs for a page and 1 µs for a row to fill (200,000 requests, PostgreSQL 18). So the sum
        is lowest at r = the root of 2 n (1 + indexes) / (1 + n / 20).
        """
        pages = self._pages(sample, sa.func.count(sa.distinct(self._tid)).label("rows")).subquery()
        percentile = sa.func.percentile_disc(0.75).within_group(pages.c.rows)
        rows = int(self._connection.scalar(sa.select(percentile)) or 1)
        return max(1, min(rows, math.ceil(math.sqrt(2 * rows * (1 + self._indexes) / (1 + rows / 20)))))

    def some(self, conditions: list["sa.ColumnElement[bool]"], left: int) -> "sa.ColumnElement[bool]":
        """Return the condition for the rows of a round: on each page, the first of the rows to fill.

        :param left: the number of rounds left, including this one.

        The rows are found by a scan of their pages, because that prunes them. The Tid Scan that updates the
        rows does not prune.
        """
        found: sa.ColumnElement[Any] = sa.func.array_agg(sa.distinct(self._tid))
        rows = f"count(DISTINCT {self._tid})"
        rest: sa.ColumnElement[Any] = sa.literal_column(f"CAST({rows} - greatest(1, {rows} / {left}) AS int)")
        places = self._pages(conditions, sa.func.unnest(sa.func.trim_array(found, rest)))
        return self._tid == sa.any_(sa.func.array(places.scalar_subquery()))

    def _pages(
        self, conditions: list["sa.ColumnElement[bool]"], column: "sa.ColumnElement[Any]"
    ) -> "sa.Select[Any]":
        where = self._operation.statement.whereclause
        assert where is not None  # noqa: S101 - checked by BackfillOp
        select: sa.Select[Any] = sa.select(column).select_from(self._operation.table)
        return select.where(where, *conditions).group_by(*self._page).correlate(None)

    def counted(self) -> int:
        """Return a count of the session's heap-only updates; differences within a transaction are exact."""
        return int(self._connection.execute(_COUNTED, {"table": self._table}).scalar() or 0)
