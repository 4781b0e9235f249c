"""Rounds over a range of pages, so that most rows of a backfill are updated on their own page.

A heap-only update writes no index entry and no other page. It needs that no index has a column which is set,
and that the new version fits on the row's page. Pages of a table that was only inserted into are full. So the
first round over a range updates one row of each page, or a few, which move to other pages. When that is
committed, the server prunes what they left as soon as the page is read again, and the next round finds room
there.
"""

import math
from typing import Any

import sqlalchemy as sa

from alembic_online.filling.operation import BackfillOp
from alembic_online.filling.ranges import PARTS, shows_pages
from alembic_online.internals import columns_set
from alembic_online.render import quoted, table_name

SAMPLE = 128
"""Pages at the beginning of a range whose rows are counted."""

# An index that is not ready or not valid counts as well. The server counts only columns of the table itself:
# what an index says of whole rows, or of generated columns, shows in the number of heap-only updates.
_INDEXED = sa.text(f"""
{PARTS}
SELECT EXISTS (
    SELECT FROM parts JOIN pg_attribute ON attrelid = part AND attname = ANY (CAST(:columns AS text[]))
    JOIN pg_index ON indrelid = part JOIN pg_class ON pg_class.oid = indexrelid
    JOIN pg_am ON pg_am.oid = relam
    WHERE NOT (amname = 'brin' AND current_setting('server_version_num')::int >= 160000)
      AND (attnum = ANY (indkey) OR EXISTS (
        SELECT FROM pg_depend WHERE classid = CAST('pg_class' AS regclass) AND objid = indexrelid
          AND refclassid = CAST('pg_class' AS regclass) AND refobjid = part AND refobjsubid = attnum)))""")  # noqa: S608
_COUNTED = sa.text(f"""
{PARTS}
SELECT sum(pg_stat_get_xact_tuples_hot_updated(part)) FROM parts""")  # noqa: S608


def can_stay(connection: sa.Connection, operation: BackfillOp) -> bool:
    """Return whether updates of a backfill may be heap-only."""
    given = {"table": table_name(connection.dialect, operation.table)}
    columns = columns_set(operation.statement)
    indexed = connection.execute(_INDEXED, given | {"columns": columns}).scalar()
    return not indexed and shows_pages(connection, operation.table)


class Rounds:
    """Says how many rounds a range takes, and which rows belong to which."""

    def __init__(self, connection: sa.Connection, operation: BackfillOp) -> None:
        self._connection = connection
        self._operation = operation
        self._table = table_name(connection.dialect, operation.table)
        name = quoted(connection.dialect, operation.table.name)
        self._tid: sa.ColumnClause[Any] = sa.literal_column(f"{name}.ctid")
        self._page: tuple[sa.ColumnClause[Any], ...] = (
            sa.literal_column(f"{name}.tableoid"),
            sa.literal_column(f"substr(tidsend({name}.ctid), 1, 4)"),  # no function has it as a number
        )

    def number(self, sample: list["sa.ColumnElement[bool]"]) -> int:
        """Return how many rounds a range takes, as the rows of its first pages tell.

        As many as three pages in four have rows to fill, at most: one moves, and the others find room one
        after the other. Where that are many, each round takes several: of n rows on a page in r rounds n / r
        move. To move a row costs about eight times as much as to read a page, so r is at most the root of
        8 n.
        """
        pages = self._pages(sample, sa.func.count(sa.distinct(self._tid)).label("rows")).subquery()
        most = sa.func.percentile_disc(0.75).within_group(pages.c.rows)
        on_page = int(self._connection.scalar(sa.select(most)) or 1)
        return max(1, min(on_page, math.ceil(math.sqrt(8 * on_page))))

    def some(self, conditions: list["sa.ColumnElement[bool]"], left: int) -> "sa.ColumnElement[bool]":
        """Return the condition of the rows of a round: the first of each page, of those still to be filled.

        :param left: how many rounds there are still to come, this one included.

        The rows are found by a scan of their pages, which prunes them. A Tid Scan, which updates the rows,
        does not prune.
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
        """Return how many heap-only updates the session made, exact as a difference within a transaction."""
        return int(self._connection.execute(_COUNTED, {"table": self._table}).scalar() or 0)
