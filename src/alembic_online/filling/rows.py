"""Change the rows of a backfill, and verify that they are changed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from alembic_online.errors import OnlineError
from alembic_online.filling.operation import BackfillOp
from alembic_online.render import counted, quoted, table_name

LEFT_OVER = 1000
"""The number of rows that are checked together after the last pass."""

# Plan so that each row of the range is found by an index, without scans of other rows.
BY_INDEX = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_nestloop": "on",
}


_INSTEAD = sa.text("""
SELECT EXISTS (
    SELECT FROM pg_rewrite WHERE ev_class = to_regclass(:table) AND ev_type = '2' AND is_instead)""")


def update(
    connection: sa.Connection,
    operation: BackfillOp,
    conditions: list["sa.ColumnElement[bool]"],
    *,
    first: bool,
) -> int:
    """Run the statement for a range; returns the number of changed rows.

    Verify for the first changed rows that the WHERE does not match them again; else it would never end.
    """
    statement, where = operation.statement.where(*conditions), operation.statement.whereclause
    # With a DO INSTEAD rule, PostgreSQL returns no rows.
    name = table_name(connection.dialect, operation.table)
    if not first or where is None or connection.execute(_INSTEAD, {"table": name}).scalar():
        return connection.execute(statement).rowcount
    found_again = connection.scalars(statement.returning(where)).all()
    if any(found_again):
        raise OnlineError(
            f"a backfill finds rows again that it has filled ({operation.what}): its WHERE must match only"
            " rows that lack the values"
        )
    return len(found_again)


def fill_left_over(connection: sa.Connection, operation: BackfillOp) -> int | None:
    """Fill rows that the statement finds after its last pass; returns how many, None if there are none.

    Rows that others have inserted or moved meanwhile are no error. Raises :class:`OnlineError` for rows that
    an UPDATE does not change: afterwards they have the same ctid and xmin.
    """
    where = operation.statement.whereclause
    assert where is not None  # noqa: S101 - checked by BackfillOp
    table = quoted(connection.dialect, operation.table.name)
    place: list[sa.ColumnClause[Any]] = [
        sa.literal_column(f"CAST({table}.{column} AS text)", sa.Text).label(column)  # type: ignore[misc]
        for column in ("tableoid", "ctid", "xmin")
    ]
    finding = sa.select(*place).select_from(operation.table).where(where)
    found = {tuple(row) for row in connection.execute(finding.limit(LEFT_OVER))}
    if not found:
        return None
    places = ",".join(sorted({f'"{ctid}"' for _, ctid, _ in found}))
    there: sa.ColumnElement[bool] = sa.literal_column(
        f"({table}.ctid = ANY (CAST('{{{places}}}' AS tid[])))", sa.Boolean
    )
    changed = update(connection, operation, [there], first=True)
    left = len(found & {tuple(row) for row in connection.execute(finding.where(there))})
    if left:
        rows = counted(left, "row", "rows or more" if len(found) == LEFT_OVER else "rows")
        raise OnlineError(
            f"{rows} of {table} cannot be filled ({operation.what}): an UPDATE does not change them; check"
            f" {table} for a BEFORE UPDATE trigger that returns NULL, a DO INSTEAD rule or"
            " a row security policy"
        )
    return changed


@contextmanager
def by_index(connection: sa.Connection, operation: BackfillOp) -> Iterator[None]:
    """Make the planner join the rows of a small table by index, whatever the statistics are."""
    if operation.over is None:
        yield
        return
    names = ", ".join(f"current_setting('{name}') AS {name}" for name in BY_INDEX)
    before = connection.exec_driver_sql(f"SELECT {names}").one()._asdict()
    for name, value in BY_INDEX.items():
        connection.exec_driver_sql(f"SET LOCAL {name} = {value}")
    yield
    for name, value in before.items():
        connection.exec_driver_sql(f"SET LOCAL {name} = {value}")
