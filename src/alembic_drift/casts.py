"""Whether a column's type changes by itself: the server is asked, on a table in the scratch schema."""

from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from alembic_drift.sql import as_text, quote

_NAMED = "a probe of the types"


class Cast(NamedTuple):
    """How the type of a column is changed: what USING has to say, and whether the default goes along."""

    using: str | None
    keeps_default: bool


class Casts:
    """Asks the server, within the transaction of the comparison."""

    def __init__(self, connection: sa.Connection, path: str, scratch: str) -> None:
        """Ask on a connection.

        :param path: the search_path in which the models' types are found before those of the database.
        :param scratch: the scratch schema.
        """
        self._connection, self._path, self._scratch = connection, path, scratch

    def find(self, column: str, old: str, new: str, default: str | None) -> Cast | None:
        """Return how a column comes from one type to another, or None where the server has no cast.

        :param column: its name, for USING.
        :param old: its type now, as the server writes it.
        :param new: the type it is to have.
        :param default: the expression of its default now, if it has one.
        """
        for using in (None, f"{quote(column)}::{new}"):
            for kept in [default, None] if default is not None else [None]:
                if self._works(column, old, new, kept, using):
                    return Cast(using, keeps_default=kept is default)
        return None

    def _works(self, column: str, old: str, new: str, default: str | None, using: str | None) -> bool:
        table = f"{quote(self._scratch)}.{quote(_NAMED)}"
        default = "" if default is None else f" DEFAULT {default}"
        using = "" if using is None else f" USING {using}"
        statements = (
            f"CREATE TABLE {table} ({quote(column)} {old}{default})",
            f"ALTER TABLE {table} ALTER COLUMN {quote(column)} TYPE {new}{using}",
        )
        with self._connection.begin_nested() as savepoint:
            try:
                self._connection.execute(
                    sa.text("SELECT set_config('search_path', :path, true)"), {"path": self._path}
                )
                for statement in statements:
                    self._connection.execute(sa.text(as_text(statement)))
            except DBAPIError:
                return False
            finally:
                savepoint.rollback()
        return True
