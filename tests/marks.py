"""Which tests the quick run leaves out."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest


def quick(cases: Mapping[str, Any] | Iterable[str], *names: str) -> list[Any]:
    """Return parameters of a test: the cases of these names, or the first; the others are thorough."""
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
