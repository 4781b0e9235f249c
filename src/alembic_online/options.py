"""Parse the options ``-x online`` and ``-x lock_wait``."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from alembic_online.errors import OnlineError

_WORDS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


_NAMES = ("online", "lock_wait")


def check_names(names: Iterable[str]) -> None:
    """Raise :class:`OnlineError` for a mistyped option, which Alembic would ignore.

    Names that are less similar are options of the project.
    """
    for name in set(names) - {*_NAMES}:
        for meant in get_close_matches(name.lower(), _NAMES, n=1, cutoff=0.8):
            if meant.startswith(name[:1].lower()):
                raise OnlineError(f"unknown option -x {name}; did you mean -x {meant}?")


def is_plan(value: Any) -> bool:
    """Return whether the value of ``-x online`` asks for a plan."""
    return str(value).strip().lower() == "plan"


def read_flag(name: str, value: Any) -> bool:
    """Return the value of an option as a bool, ignoring case; an option without a value is true.

    Raises :class:`OnlineError` for any other value.
    """
    if isinstance(value, bool):
        return value
    found = _WORDS.get(str(value).lower() or "true")
    if found is None:
        plan = "plan, restart, restart-with-rows, " if name == "online" else ""
        raise OnlineError(
            f"option -x {name} takes {plan}true, 1, yes, on, false, 0, no, off or nothing, not {value!r}"
        )
    return found


@dataclass(frozen=True)
class Request:
    """The meaning of ``-x online``."""

    online: bool = False
    restart: bool = False
    """Start an interrupted revision over."""
    with_rows: bool = False
    """Even if it has inserted or changed rows."""


_RESTART = {"restart": Request(online=True, restart=True)}
_RESTART["restart-with-rows"] = replace(_RESTART["restart"], with_rows=True)


def read_request(name: str, value: Any) -> Request:
    """Return the meaning of a value of the option, ignoring case; an option without a value is true.

    Raises :class:`OnlineError` for any other value.
    """
    found = _RESTART.get(str(value).lower())
    return found or Request(online=read_flag(name, value))


def read_seconds(name: str, value: Any) -> float | None:
    """Return a number of seconds, or None if the option is not set.

    Raises :class:`OnlineError` for any other value.
    """
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    if isinstance(value, bool) or not re.fullmatch(r"\d+(\.\d*)?|\.\d+", str(value).strip(), re.ASCII):
        raise OnlineError(f"option -x {name} takes a number of seconds, not {value!r}")
    return float(value)
