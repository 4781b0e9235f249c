"""What only the server can say: it is asked in the scratch schema, in a savepoint that is undone."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from alembic_drift.objects import Facts, Key
from alembic_drift.sql import as_text, qualified, quote

_NAME = "drift probe"


Again = Callable[[str, str, str], tuple[Sequence[str], str]]
"""For a table, a name and a definition: what makes one again, and what asks how the server writes it."""


class Cast(NamedTuple):
    """How the type of a column is changed: what USING has to say, and whether the default goes along."""

    using: str | None
    keeps_default: bool


class Probes:
    """Asks about one schema of the models."""

    def __init__(
        self, connection: sa.Connection, path: str, scratch: str, renamed: Callable[[str], str]
    ) -> None:
        """Ask on a connection.

        :param path: the search_path in which the models' objects are found before those of the database.
        :param scratch: the scratch schema.
        :param renamed: puts the names of schemas in the place of those of scratch schemas.
        """
        self._connection, self._path, self._scratch, self._renamed = connection, path, scratch, renamed

    def cast(self, column: str, old: str, new: str, default: str | None) -> Cast | None:
        """Return how a column comes from one type to another, or None where the server has no cast.

        :param column: its name, for USING.
        :param old: its type now, as the server writes it.
        :param new: the type it is to have.
        :param default: the expression of its default now, if it has one.
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

    def written_again(self, key: Key, facts: Facts, again: Again | None) -> str | None:
        """Return what the server writes of its own text, once that is executed; None if it cannot be.

        An operation is made of what the server writes, and for some expressions it then writes another text:
        ``kind IN ('a', 'b')`` of a varchar.

        :param again: what makes an object of its kind again.
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
            elif again is not None:
                made, asked = again(qualified(str(key.table), self._scratch), key.name, written)
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
        """Yield what sends a statement; an error of the server ends the block, and is no error."""

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
