"""The operation of a backfill."""

import warnings
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations, ops
from sqlalchemy.sql.util import find_tables

from alembic_online.errors import OnlineError
from alembic_online.render import counted


@Operations.register_operation("backfill")
class BackfillOp(ops.MigrateOperation):
    """Run an UPDATE that fills rows; see :meth:`backfill`."""

    def __init__(
        self,
        statement: sa.Update,
        *,
        what: str,
        over: sa.TableClause | None = None,
    ) -> None:
        if not isinstance(statement.table, sa.TableClause):
            raise OnlineError(f"a backfill updates a table by its own name, not by an alias ({what})")
        if statement.whereclause is None:
            raise OnlineError(f"a backfill needs a WHERE that matches the rows without the values ({what})")
        self.statement = statement
        self.what = what
        self.over = over

    @classmethod
    def backfill(
        cls,
        operations: Operations,
        statement: sa.Update,
        *,
        what: str,
        over: sa.TableClause | None = None,
        key: Sequence[str] | None = None,
    ) -> int:
        """Set columns on the rows that lack them; returns the number of changed rows, 0 in a script.

        :param statement: an UPDATE whose WHERE matches only rows that lack the values, so that a filled row
            is not found again: ``sa.update(t).values(c=1).where(t.c.c.is_(None))``. It may join other tables.
        :param what: a title for the log, like "requests given the account of their domain".
        :param over: the table that is divided into batches, if it is not the updated table: a smaller table
            that the statement joins by an indexed column.
        :param key: has no effect any more. Batches are ranges of the table's pages, or of its primary key if
            the server shows no pages.
        """
        if key is not None:
            warnings.warn("key= of op.backfill has no effect: leave it out", DeprecationWarning, stacklevel=3)
        changed: int = operations.invoke(cls(statement, what=what, over=over))
        return changed

    def result(self, changed: int) -> str:
        """Return the title with the number of changed rows, for the log."""
        return f"{self.what} ({counted(changed, 'row', 'rows')})"

    @property
    def table(self) -> sa.TableClause:
        """The table that is updated."""
        assert isinstance(self.statement.table, sa.TableClause)  # noqa: S101 - revisions update tables
        return self.statement.table

    @property
    def tables(self) -> list[sa.TableClause]:
        """All tables that the statement reads or writes."""
        found: list[Any] = [*find_tables(self.statement, check_columns=True, include_crud=True), self.walked]
        plain = {table.element if isinstance(table, sa.Alias) else table: None for table in found}
        return [table for table in plain if isinstance(table, sa.TableClause)]

    @property
    def walked(self) -> sa.TableClause:
        """The table that is divided into batches."""
        return self.table if self.over is None else self.over
