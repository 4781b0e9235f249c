"""The progress of a backfill, as the journal stores it."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class State(NamedTuple):
    """The progress of a backfill: pass, last page or key, changed rows in all and in this pass."""

    number: int = 1
    position: Any = None
    changed: int = 0
    in_pass: int = 0
    before: int | None = None
    finished: bool = False
    range: Sequence[int] | None = None
    """The first and end page of the current rounds, and the number of rounds."""
    round: int = 1
    """The number of the current round."""

    @property
    def left(self) -> int:
        """The number of rounds left for the range, including the current one."""
        return 1 if self.range is None else self.range[2] - self.round + 1

    def after_batch(self, *, in_vain: bool) -> "State":
        """Return the state after a batch: at the end of a range, with the next round or without a range.

        :param in_vain: whether more rounds would not make updates heap-only; then the last round comes next.
        """
        if self.range is None:
            return self
        first, end, rounds = self.range
        if in_vain:
            return self._replace(position=first, round=rounds)
        if self.position < end:
            return self
        if self.left > 1:
            return self._replace(position=first, round=self.round + 1)
        return self._replace(range=None, round=1)
