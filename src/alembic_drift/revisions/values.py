"""Computes with constants: the operators, functions and methods that revisions use for names."""

from __future__ import annotations

import ast
import operator
import textwrap
from typing import TYPE_CHECKING, Any

from alembic_drift.revisions.calls import UNKNOWN, Call, Ref

if TYPE_CHECKING:
    from collections.abc import Callable

_CONSTANT = str | int | float | bytes | None


def constant(value: Any) -> bool:
    """Return whether a value and all its items are known."""
    if isinstance(value, list | tuple):
        return all(constant(item) for item in value)
    if isinstance(value, dict):
        return all(constant(item) for item in value.values())
    return isinstance(value, _CONSTANT)


def truth(value: Any) -> Any:
    """Return whether a value is true, or UNKNOWN."""
    if not isinstance(value, _CONSTANT | list | tuple | dict):
        return UNKNOWN
    return UNKNOWN if isinstance(value, list | dict) and UNKNOWN in value else bool(value)


def same(values: list[Any]) -> Any:
    """Return the common value of all, or UNKNOWN if they differ."""
    first = values[0]
    return first if all(value is first or value == first for value in values) else UNKNOWN


def items_of(value: Any) -> list[Any] | None:
    """Return the items that a loop over a value visits; None if they are not known."""
    return list(value) if isinstance(value, list | tuple | dict | str) else None


_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mod: operator.mod,
    ast.BitOr: operator.or_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.Gt: operator.gt,
    ast.In: lambda left, right: left in right,
    ast.NotIn: lambda left, right: left not in right,
    ast.Is: operator.eq,
    ast.IsNot: operator.ne,
}


def combined(by: ast.operator | ast.cmpop, left: Any, right: Any) -> Any:
    """Return the result of an operator, or UNKNOWN."""
    do = _OPERATORS.get(type(by))
    joins = isinstance(by, ast.Add | ast.BitOr) and isinstance(left, list | tuple | dict)
    if do is None or not (joins or (constant(left) and constant(right))):
        return UNKNOWN
    return _tried(do, left, right)


def _tried(do: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return do(*args, **kwargs)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError):
        return UNKNOWN


def item(of: Any, key: Any) -> Any:
    """Return ``of[key]``, or UNKNOWN."""
    if not isinstance(of, list | tuple | dict | str) or not (constant(key) or isinstance(key, slice)):
        return UNKNOWN
    return _tried(operator.getitem, of, key)


def store(of: Any, key: Any, value: Any) -> None:
    """Execute ``of[key] = value``."""
    if isinstance(of, dict):
        known = constant(key) and not isinstance(key, list | dict)
        of[key if known else UNKNOWN] = value if known else UNKNOWN
    elif isinstance(of, list):
        of.append(UNKNOWN) if key is UNKNOWN else _tried(operator.setitem, of, key, value)


# Functions without side effects, so that their result for constants is known. Sets are lists without
# duplicates.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "builtins.dict": dict,
    "builtins.enumerate": lambda *args, **kwargs: list(enumerate(*args, **kwargs)),
    "builtins.frozenset": lambda *args: list(dict.fromkeys(*args)),
    "builtins.len": len,
    "builtins.list": list,
    "builtins.range": lambda *args: list(range(*args)) if len(range(*args)) <= LONGEST else UNKNOWN,
    "builtins.reversed": lambda of: list(of)[::-1],
    "builtins.set": lambda *args: list(dict.fromkeys(*args)),
    "builtins.sorted": lambda of, **kwargs: sorted(of, **kwargs),
    "builtins.str": str,
    "builtins.tuple": tuple,
    "textwrap.dedent": textwrap.dedent,
    "builtins.zip": lambda *args, strict=False: list(zip(*args, strict=strict)),
}
_OF_CONSTANTS = {f"builtins.{name}" for name in ("str", "len", "sorted", "set", "frozenset")}
LONGEST = 100_000
"""Longer texts and lists come from a loop; they are not followed."""


def function(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Return the result of one of these functions, or UNKNOWN."""
    if any(not isinstance(arg, list | tuple | dict | _CONSTANT) for arg in args):
        return UNKNOWN
    if name in _OF_CONSTANTS and not constant(args):
        return UNKNOWN
    return _tried(FUNCTIONS[name], *args, **kwargs)


_GROWS = {"add", "append", "extend", "insert", "setdefault", "update"}
_SHRINKS = {"clear", "discard", "pop", "popitem", "remove"}


def method(of: Any, name: str, args: list[Any], kwargs: dict[str, Any], *, certain: bool) -> Any:
    """Return the result of a constant's method, or UNKNOWN.

    :param certain: whether the call is certainly made; if not, nothing is removed.
    """
    if isinstance(of, str):
        known = constant(args) and constant(kwargs)
        return _tried(lambda: getattr(of, name)(*args, **kwargs)) if known else UNKNOWN
    if name in _GROWS or (name in _SHRINKS and certain):
        return mutated(of, name, args, kwargs)
    if name == "get" and UNKNOWN not in of:
        return _tried(of.get, *args)
    if name in {"items", "keys", "values"}:
        return list(getattr(of, name)()) if isinstance(of, dict) else UNKNOWN
    return of.copy() if name == "copy" else UNKNOWN


def mutated(of: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Change a list or dict by one of its methods; one UNKNOWN stands for any number of unknown items."""
    if len(of) > LONGEST:
        return UNKNOWN
    if name in {"update", "extend"} and any(items_of(arg) is None for arg in args):
        store(of, UNKNOWN, UNKNOWN)
        return UNKNOWN
    if isinstance(of, list):
        name = {"add": "append", "discard": "remove", "update": "extend"}.get(name, name)
    return _tried(lambda: getattr(of, name)(*args, **kwargs))


def attribute(of: Any, name: str) -> Any:
    """Return an attribute: of a module, a column's name, or a call that is not followed."""
    if isinstance(of, Ref):
        return Ref(f"{of.path}.{name}")
    if not isinstance(of, Call):
        return UNKNOWN
    if name in of.kwargs:
        return of.kwargs[name]
    if name == "name" and of.args:
        return of.arg(0, name)
    return Call(name, [], {}, of)
