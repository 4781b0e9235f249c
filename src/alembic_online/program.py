"""The operations of a revision, as they were read before it began, compared with those of a resumed run.

A revision may inspect the database, for example by ``if not has_table(…)``. When it is resumed, it sees the
changes of its own first half and may issue other operations. So a resumed revision is stamped only if:

- each operation that was read is done, or was issued again; and
- either the revision was read to its end and issues nothing else, or all finished operations were issued
  again, in the same order, before any other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from alembic_online.errors import OnlineError

Key = tuple[str, int]

SHOWN = 5
"""The number of operations that an error names."""


class Item(NamedTuple):
    """An operation that was read."""

    digest: str
    number: int
    title: str


@dataclass
class Mode:
    """How the current revision runs."""

    revision: str = ""
    active: bool = True
    """It runs online."""
    skipping: bool = False
    """It runs in one transaction, after an online run that did part of it."""
    reading: bool = False
    """It is only read."""
    converging: bool = False
    """Its operations depend on the database (``depends_on_database()``) and may differ each time."""


class Program:
    """The operations of the current revision."""

    def __init__(self, revision: str = "") -> None:
        self.revision = revision
        self.items: list[Item] = []
        self.complete = False
        """Whether the revision was read to its end."""
        self.resumed = False
        self._begun: list[Item] = []
        """The operations that earlier runs have begun, in order."""
        self._done: set[Key] = set()
        """Those that they have finished."""
        self._asked: set[Key] = set()
        self._next = 0
        self._in_order = True

    def read(self, item: Item) -> None:
        """Record an operation while the revision is read."""
        self.items.append(item)

    def to_json(self) -> dict[str, Any]:
        """Return the program in the form of the journal."""
        return {"read": [list(item) for item in self.items], "complete": self.complete}

    def resume(self, stored: dict[str, Any], begun: Iterable[Item], done: Iterable[Item]) -> None:
        """Continue with the operations that were read before the revision began.

        :param stored: the program in the form of the journal.
        :param begun: the operations that earlier runs have begun, in order.
        :param done: those that they have finished.
        """
        self.items = [Item(*item) for item in stored["read"]]
        self.complete = stored["complete"]
        self._begun, self._done = [*begun], {item[:2] for item in done}
        self.resumed = True

    def ask(self, item: Item) -> None:
        """Record that the revision issues an operation.

        Raises :class:`OnlineError` if it is not among those that were read, and the revision has not issued
        all finished operations again.
        """
        if not self.resumed:
            return
        self._asked.add(item[:2])
        if self._in_order and self._next < len(self._begun):
            self._in_order = self._begun[self._next][:2] == item[:2]
            self._next += self._in_order
        known = self.complete and item.digest in {read.digest for read in self.items}
        if not self._in_order and not known:
            raise OnlineError(
                f"revision {self.revision}: an earlier run was interrupted in it, and now it issues another"
                f" operation ({item.title}), because it inspects the database, which has changed since."
                f" {self._way_out()}"
            )

    def require_all(self) -> None:
        """Raise :class:`OnlineError` if a resumed revision may have skipped operations."""
        if not self.resumed:
            return
        sure = self.complete or (self._in_order and self._next == len(self._begun))
        known = {item[:2] for item in self.items}
        wanted = [*self.items, *(item for item in self._begun if item[:2] not in known)]
        finished = self._asked if not sure else self._asked | self._done
        left = [item.title for item in wanted if item[:2] not in finished]
        if left:
            more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
            raise OnlineError(
                f"revision {self.revision} is not stamped: an earlier run was interrupted in it, and now it"
                f" skipped operations ({'; '.join(left[:SHOWN])}{more}), because it inspects the database,"
                f" which has changed since. {self._way_out()}"
            )

    def _way_out(self) -> str:
        return (
            f"Do the rest manually and run alembic stamp {self.revision}, or undo its changes and start it"
            " over with -x online=restart"
        )
