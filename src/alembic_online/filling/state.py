"""How far a backfill came, as the journal has it."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class State(NamedTuple):
    """How far a backfill came: which pass, after which page or key, rows changed in all and in this pass."""

    number: int = 1
    position: Any = None
    changed: int = 0
    in_pass: int = 0
    before: int | None = None
    finished: bool = False
    range: Sequence[int] | None = None
    """The pages over which rounds go now, from and to, and how many rounds they take."""
    round: int = 1
    """Which of them."""

    @property
    def left(self) -> int:
        """How many rounds are left of the range, the current one included."""
        return 1 if self.range is None else self.range[2] - self.round + 1

    def after_batch(self, *, in_vain: bool) -> "State":
        """Return it with the next round, or without a range, where this was the end of one.

        :param in_vain: whether another round would bring nothing: the last one comes next.
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
