"""Evaluates expressions of a source: constants, imports, and calls of these."""

from __future__ import annotations

import ast
from collections import ChainMap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alembic_drift.revisions import values
from alembic_drift.revisions.calls import MANY, UNKNOWN, Call, Ref

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Names = ChainMap[str, Any]
YIELDED = "yield"  # a keyword, so no source has a variable of this name
_MOST = 200_000  # steps: a source that takes more has a large loop


class TooLongError(Exception):
    """A source that takes too many steps."""


@dataclass(eq=False)
class Function:
    """A function that the module defines."""

    node: ast.FunctionDef
    names: Names

    @property
    def plain(self) -> bool:
        """Return whether a call does what the body says: a decorator could change that."""
        return not self.node.decorator_list


class Expressions:
    """Evaluates expressions, and collects calls of what the module does not define."""

    def __init__(self, collect: Callable[[Call], None]) -> None:
        self.collect = collect
        self.uncertain = 0
        """The number of enclosing branches that may not be taken."""
        self._steps = 0

    def call(self, function: Function, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Evaluate a function of the module; return its result."""
        raise NotImplementedError

    def bind(self, target: ast.expr, value: Any, names: Names) -> None:
        """Assign a value to the names of a target."""
        raise NotImplementedError

    def step(self) -> None:
        """Count a step."""
        self._steps += 1
        if self._steps > _MOST:
            raise TooLongError

    def value(self, node: ast.expr, names: Names) -> Any:
        """Return the value of an expression, or UNKNOWN; collect the calls in it."""
        self.step()
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return names[node.id] if node.id in names else Ref(f"builtins.{node.id}")
            case ast.Attribute():
                return values.attribute(self.value(node.value, names), node.attr)
            case ast.Call():
                return self._call(node, names)
            case ast.List() | ast.Tuple() | ast.Set():
                items = self._items(node.elts, names)
                return UNKNOWN if MANY in items else tuple(items) if isinstance(node, ast.Tuple) else items
            case ast.Dict():
                return self._dict(node, names)
            case ast.JoinedStr():
                parts = [self.value(part, names) for part in node.values]
                return UNKNOWN if UNKNOWN in parts else "".join(parts)
            case ast.FormattedValue():
                return self._formatted(node, names)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self._comprehension(node, names)
            case ast.NamedExpr():
                value = self.value(node.value, names)
                self.bind(node.target, value, names)
                return value
            case ast.Yield() | ast.YieldFrom():
                return self._yield(node, names)
        return self._computed(node, names)

    def _computed(self, node: ast.expr, names: Names) -> Any:
        match node:
            case ast.BinOp():
                return _short(
                    values.combined(node.op, self.value(node.left, names), self.value(node.right, names))
                )
            case ast.Compare(ops=[by], comparators=[right]):
                return values.combined(by, self.value(node.left, names), self.value(right, names))
            case ast.UnaryOp(op=ast.Not()):
                holds = values.truth(self.value(node.operand, names))
                return UNKNOWN if holds is UNKNOWN else not holds
            case ast.BoolOp():
                return self._either(node, names)
            case ast.IfExp():
                holds = values.truth(self.value(node.test, names))
                if holds is UNKNOWN:
                    return values.same([self.value(node.body, names), self.value(node.orelse, names)])
                return self.value(node.body if holds else node.orelse, names)
            case ast.Subscript():
                of, key = self.value(node.value, names), node.slice
                if isinstance(key, ast.Slice):
                    ends = [e and self.value(e, names) for e in (key.lower, key.upper, key.step)]
                    return values.item(of, slice(*ends)) if values.constant(ends) else UNKNOWN
                return values.item(of, self.value(key, names))
        return UNKNOWN

    def _either(self, node: ast.BoolOp, names: Names) -> Any:
        stops = isinstance(node.op, ast.Or)
        found = [self.value(item, names) for item in node.values]
        for value in found:
            holds = values.truth(value)
            if holds is UNKNOWN or holds is stops:
                return value if holds is stops else UNKNOWN
        return found[-1]

    def _items(self, nodes: Sequence[ast.expr], names: Names) -> list[Any]:
        """Return a list of values; MANY for a starred value that is not known."""
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                items = values.items_of(self.value(node.value, names))
                found += [MANY] if items is None else [MANY if item is UNKNOWN else item for item in items]
            else:
                found.append(self.value(node, names))
        return found

    def _dict(self, node: ast.Dict, names: Names) -> Any:
        found: dict[Any, Any] = {}
        for key_node, value_node in zip(node.keys, node.values, strict=True):
            value = self.value(value_node, names)
            if key_node is None:
                if not isinstance(value, dict):
                    return UNKNOWN
                found.update(value)
                continue
            key = self.value(key_node, names)
            if not _is_key(key):
                return UNKNOWN
            found[key] = value
        return found

    def _formatted(self, node: ast.FormattedValue, names: Names) -> Any:
        value = self.value(node.value, names)
        spec = "" if node.format_spec is None else self.value(node.format_spec, names)
        if not values.constant(value) or not isinstance(spec, str):
            return UNKNOWN
        convert: dict[int, Callable[[Any], Any]] = {ord("r"): repr, ord("s"): str, ord("a"): ascii}
        try:
            return format(convert.get(node.conversion, lambda value: value)(value), spec)
        except (TypeError, ValueError):
            return UNKNOWN

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, names: Names
    ) -> Any:
        found: list[Any] = []
        known = self._generate(node, 0, names.new_child(), found)
        if isinstance(node, ast.DictComp):
            known = known and all(_is_key(key) for key, _ in found)
            return dict(found) if known else UNKNOWN
        return found if known else UNKNOWN

    def _generate(self, node: Any, place: int, names: Names, found: list[Any]) -> bool:
        """Evaluate the loops of a comprehension; return whether all of it is known."""
        if place == len(node.generators):
            if isinstance(node, ast.DictComp):
                found.append((self.value(node.key, names), self.value(node.value, names)))
            else:
                found.append(self.value(node.elt, names))
            return True
        loop = node.generators[place]
        items = values.items_of(self.value(loop.iter, names))
        known = items is not None
        for item in [UNKNOWN] if items is None else items:
            self.bind(loop.target, item, names)
            tests = [values.truth(self.value(test, names)) for test in loop.ifs]
            known = known and UNKNOWN not in tests
            if False not in tests:
                known = self._generate(node, place + 1, names, found) and known
        return known

    def _yield(self, node: ast.Yield | ast.YieldFrom, names: Names) -> Any:
        value = None if node.value is None else self.value(node.value, names)
        yielded = names.get(YIELDED)
        if isinstance(yielded, list):
            items = values.items_of(value) if isinstance(node, ast.YieldFrom) else [value]
            yielded += [UNKNOWN] if items is None else items
        return UNKNOWN

    def _call(self, node: ast.Call, names: Names) -> Any:
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        of = self.value(node.func.value if isinstance(node.func, ast.Attribute) else node.func, names)
        args = self._items(node.args, names)
        kwargs: dict[str, Any] = {}
        for keyword in node.keywords:
            value = self.value(keyword.value, names)
            if keyword.arg is not None:
                kwargs[keyword.arg] = value
            elif isinstance(value, dict) and all(isinstance(key, str) for key in value):
                kwargs.update(value)
            else:
                kwargs[""] = UNKNOWN
        if isinstance(of, str | list | dict) and method:
            return _short(values.method(of, method, args, kwargs, certain=not self.uncertain))
        if isinstance(of, Function):
            return self.call(of, args, kwargs) if of.plain and not method else UNKNOWN
        if not isinstance(of, Ref | Call):
            return UNKNOWN
        if isinstance(of, Call):
            call = Call(method, args, kwargs, of)
        else:
            call = Call(f"{of.path}.{method}" if method else of.path, args, kwargs)
        if call.path in values.FUNCTIONS:
            return _short(values.function(call.path, args, kwargs))
        self.collect(call)
        return call


def _is_key(value: Any) -> bool:
    return values.constant(value) and not isinstance(value, list | dict)


def _short(value: Any) -> Any:
    """Return a value, or UNKNOWN if it is larger than a revision needs."""
    return UNKNOWN if isinstance(value, str | list | tuple | dict) and len(value) > values.LONGEST else value
