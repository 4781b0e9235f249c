"""Show the progress of a backfill."""

import sys
import time

from tqdm import tqdm

from alembic_online.filling.operation import BackfillOp
from alembic_online.log import log

LOG_EVERY_SECONDS = 5.0


class Progress:
    """A progress bar on a terminal, otherwise a log line every few seconds."""

    def __init__(self, operation: BackfillOp) -> None:
        self._what = operation.what
        self._begun = self._logged = time.monotonic()
        self._bar = tqdm(
            total=100, unit="%", desc=operation.table.name, disable=None, file=sys.stderr, leave=False,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed} < {remaining}{postfix}",
        )  # fmt: skip
        self._number = 1

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, number: int, part: float, rows: int) -> None:
        """Show which part of a pass is done, and how many rows all passes have changed."""
        now = time.monotonic()
        rate = rows / max(1e-3, now - self._begun)
        if not self._bar.disable:
            if number != self._number:
                self._number = number
                self._bar.reset()
            self._bar.set_postfix_str(f" {rows:,} rows, {rate:,.0f}/s", refresh=False)
            self._bar.update(100 * part - self._bar.n)
        elif now - self._logged >= LOG_EVERY_SECONDS:
            self._logged = now
            left = (now - self._begun) / max(part, 1e-3) * (1 - part)
            log.info(
                "%s so far: %d %%, %s rows, %.0f/s, about %.0f s left",
                self._what,
                100 * part,
                rows,
                rate,
                left,
            )
