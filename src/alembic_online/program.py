"""What a revision is going to do, as it was read before it began, and what earlier runs have done of it.

A revision may look at the database, and sees there what its own first half has made: `if not has_table(…)` is
another question the second time. So a resumed run is stamped only if it is sure:

- all that was read is done, or was asked for again; and
- either all could be read, and nothing else was asked for; or all that is done was asked for again, in the
  same order, before anything else.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from alembic_online.errors import OnlineError

Key = tuple[str, int]

SHOWN = 5
"""So many operations an error names."""


class Item(NamedTuple):
    """An operation that was read."""

    digest: str
    number: int
    title: str


@dataclass
class Mode:
    """How the revision that runs is treated."""

    revision: str = ""
    active: bool = True
    """It runs online."""
    skipping: bool = False
    """It runs in one transaction, after an online run that did a part of it."""
    reading: bool = False
    """It is only read through."""
    converging: bool = False
    """It asks for what the database lacks, which may be something else each time."""


class Program:
    """What the revision that runs is going to do."""

    def __init__(self, revision: str = "") -> None:
        self.revision = revision
        self.items: list[Item] = []
        self.complete = False
        """Whether the revision could be read to its end."""
        self.resumed = False
        self._begun: list[Item] = []
        """What earlier runs have begun, in their order."""
        self._done: set[Key] = set()
        """What of it they have finished."""
        self._asked: set[Key] = set()
        self._next = 0
        self._in_order = True

    def read(self, item: Item) -> None:
        """Note an operation of the revision while it is read through."""
        self.items.append(item)

    def to_json(self) -> dict[str, Any]:
        """Return it as the journal holds it."""
        return {"read": [list(item) for item in self.items], "complete": self.complete}

    def resume(self, stored: dict[str, Any], begun: Iterable[Item], done: Iterable[Item]) -> None:
        """Go on with what was read before the revision began.

        :param begun: what earlier runs have begun, in their order.
        :param done: what of it they have finished.
        """
        self.items = [Item(*item) for item in stored["read"]]
        self.complete = stored["complete"]
        self._begun, self._done = [*begun], {item[:2] for item in done}
        self.resumed = True

    def ask(self, item: Item) -> None:
        """Note that the revision asks for an operation.

        Raises :class:`OnlineError` if it is none that it was to do, and not all that is done was asked for.
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
                f"revision {self.revision}: an earlier run was interrupted in it, and now it asks for"
                f" something else ({item.title}): it looks at the database, which has what it made itself."
                f" {self._way_out()}"
            )

    def require_all(self) -> None:
        """Raise :class:`OnlineError` if a resumed revision may have left something out."""
        if not self.resumed:
            return
        sure = self.complete or (self._in_order and self._next == len(self._begun))
        known = {item[:2] for item in self.items}
        wanted = [*self.items, *(item for item in self._begun if item[:2] not in known)]
        settled = self._asked if not sure else self._asked | self._done
        left = [item.title for item in wanted if item[:2] not in settled]
        if left:
            more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
            raise OnlineError(
                f"revision {self.revision} is not stamped: an earlier run was interrupted in it, and this one"
                f" did not ask for all that it was to do ({'; '.join(left[:SHOWN])}{more}): it looks at the"
                f" database, which has what it made itself. {self._way_out()}"
            )

    def _way_out(self) -> str:
        return (
            f"Do by hand what is left and run alembic stamp {self.revision}, or undo what it has made and"
            " begin it again with -x online=restart"
        )
