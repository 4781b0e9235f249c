"""Asks the server in the scratch schema, in savepoints that are rolled back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from alembic_drift.objects import Facts, Key
from alembic_drift.sql import as_text, qualified, quote

_NAME = "drift probe"


Recreate = Callable[[str, str, str], tuple[Sequence[str], str]]
"""For a table, a name and a definition: statements that recreate an object, and the query for its text."""


class Cast(NamedTuple):
    """How a column's type is changed: the USING expression, and whether the default can be converted too."""

    using: str | None
    keeps_default: bool


class Probes:
    """Questions about one schema of the models."""

    def __init__(
        self, connection: sa.Connection, path: str, scratch: str, renamed: Callable[[str], str]
    ) -> None:
        """Prepare to ask on a connection.

        :param path: the search_path in which the models' objects are found before those of the database.
        :param scratch: the name of the scratch schema.
        :param renamed: replaces the names of scratch schemas by those of the schemas that they stand for.
        """
        self._connection, self._path, self._scratch, self._renamed = connection, path, scratch, renamed

    def cast(self, column: str, old: str, new: str, default: str | None) -> Cast | None:
        """Return how a column is converted to another type; None if the server has no cast.

        :param column: the name of the column, for USING.
        :param old: its current type, as the server writes it.
        :param new: the new type.
        :param default: the expression of its current default, if it has one.
        """
        for using in (None, f"{quote(column)}::{new}"):
            for kept in [default, None] if default is not None else [None]:
                if self._casts(column, old, new, kept, using):
                    return Cast(using, keeps_default=kept is default)
        return None

    def _casts(self, column: str, old: str, new: str, default: str | None, using: str | None) -> bool:
        table = qualified(_NAME, self._scratch)
        default = "" if default is None else f" DEFAULT {default}"
        using = "" if using is None else f" USING {using}"
        with self._undone() as send:
            send(f"CREATE TABLE {table} ({quote(column)} {old}{default})")
            send(f"ALTER TABLE {table} ALTER COLUMN {quote(column)} TYPE {new}{using}")
            return True
        return False

    def after_round_trip(self, key: Key, facts: Facts, recreate: Recreate | None) -> str | None:
        """Return the server's text of an object after executing its first text once more; None if that fails.

        Operations contain the server's text, and PostgreSQL changes some expressions again when it executes
        them: ``kind IN ('a', 'b')`` of a varchar.

        :param recreate: how to recreate an object of this kind.
        """
        probe = qualified(_NAME, self._scratch)
        written = facts["_written"]
        with self._undone() as send:
            if key.kind == "index":
                send(written.replace(facts["_named"], f" INDEX {quote(_NAME)} ON ", 1))
                said = send(f"SELECT pg_get_indexdef('{probe}'::regclass)").scalar_one()
                said = said.replace(f" INDEX {quote(_NAME)} ON ", facts["_named"], 1)
            elif key.kind == "constraint":
                table = qualified(str(key.table), self._scratch)
                send(f"ALTER TABLE {table} ADD CONSTRAINT {quote(_NAME)} {written}")
                said = send(
                    "SELECT pg_get_constraintdef(oid) FROM pg_constraint"  # noqa: S608 - quoted
                    f" WHERE conrelid = $name${table}$name$::regclass AND conname = '{_NAME}'"
                ).scalar_one()
            elif recreate is not None:
                made, asked = recreate(qualified(str(key.table), self._scratch), key.name, written)
                for statement in made:
                    send(statement)
                said = send(asked).scalar_one()
            else:
                send(f"CREATE VIEW {probe} AS {written}")
                said = send(f"SELECT rtrim(pg_get_viewdef('{probe}'::regclass), ';')").scalar_one()
            return self._renamed(said)
        return None

    @contextmanager
    def _undone(self) -> Iterator[Callable[[str], Any]]:
        """Yield a function that executes a statement; an error of the server only ends the block."""

        def send(statement: str) -> Any:
            return self._connection.execute(sa.text(as_text(statement)))

        with self._connection.begin_nested() as savepoint:
            try:
                self._connection.execute(
                    sa.text("SELECT set_config('search_path', :path, true)"), {"path": self._path}
                )
                yield send
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
            finally:
                if savepoint.is_active:
                    savepoint.rollback()
