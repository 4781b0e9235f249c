"""Marks cases of a test as thorough: the quick run skips them."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest


def quick(cases: Mapping[str, Any] | Iterable[str], *names: str) -> list[Any]:
    """Return the cases of a test as parameters: all except those named (or the first) are thorough."""
    given = cases if isinstance(cases, Mapping) else {case: case for case in cases}
    names = names or tuple(given)[:1]
    assert set(names) <= set(given)
    return [
        pytest.param(
            *(value if type(value) is tuple else (value,)),
            id=name,
            marks=[] if name in names else pytest.mark.thorough,
        )
        for name, value in given.items()
    ]
