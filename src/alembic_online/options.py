"""What ``-x online`` and ``-x lock_wait`` mean."""

import math
import re
from typing import Any

from alembic_online.errors import OnlineError

_WORDS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


def read_flag(name: str, value: Any) -> bool:
    """Return what the value of an option says, in any case; without one it is true.

    Raises :class:`OnlineError` for anything else.
    """
    if isinstance(value, bool):
        return value
    found = _WORDS.get(str(value).lower() or "true")
    if found is None:
        raise OnlineError(
            f"option -x {name} takes true, 1, yes, on, false, 0, no, off or nothing, not {value!r}"
        )
    return found


def read_seconds(name: str, value: Any) -> float | None:
    """Return a number of seconds, or None where there is none.

    Raises :class:`OnlineError` for anything else.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    if isinstance(value, bool) or not re.fullmatch(r"\d+(\.\d*)?|\.\d+", str(value).strip(), re.ASCII):
        raise OnlineError(f"option -x {name} takes a number of seconds, not {value!r}")
    return float(value)
