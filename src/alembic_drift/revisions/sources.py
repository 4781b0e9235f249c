"""Reads a revision without running it: the calls of its upgrade(), with the arguments that the source gives.

Statements are evaluated in order: a loop over constants once for each of them, an ``if`` with an unknown
condition in both branches, and functions of the module where they are called. A name that may have several
values is unknown. Nothing is imported or executed.
"""

from __future__ import annotations

import ast
import warnings
from collections import ChainMap
from typing import TYPE_CHECKING, Any

from alembic_drift.revisions import values
from alembic_drift.revisions.calls import MANY, UNKNOWN, Call, Ref
from alembic_drift.revisions.expressions import YIELDED, Expressions, Function, Names

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DEEPEST = 30  # nested calls


def read_upgrade(source: bytes, collect: Callable[[Call], None]) -> None:
    """Pass the calls that ``upgrade()`` of a revision makes to ``collect``, in their order.

    Raises SyntaxError, ValueError or RecursionError if the source cannot be parsed, and
    :class:`~alembic_drift.revisions.expressions.TooLongError` if it takes too many steps.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # Python warned when Alembic imported the revision
        module = ast.parse(source)
    names: Names = ChainMap()
    Reader(lambda _: None).run(module.body, names)
    upgrade = names.get("upgrade")
    if isinstance(upgrade, Function):
        Reader(collect).call(upgrade, [], {})


class Reader(Expressions):
    """Evaluates statements."""

    def __init__(self, collect: Callable[[Call], None]) -> None:
        super().__init__(collect)
        self._depth = 0
        self._returned: list[list[Any]] = []

    def run(self, body: Sequence[ast.stmt], names: Names) -> str:
        """Evaluate statements; return how they end: "break", "continue", "return" or "" (at the last one)."""
        for statement in body:
            self.step()
            end = self._statement(statement, names)
            if end:
                return end
        return ""

    def _statement(self, node: ast.stmt, names: Names) -> str:
        match node:
            case ast.Expr():
                self.value(node.value, names)
            case ast.Assign() | ast.AnnAssign(value=ast.expr()) | ast.AugAssign():
                self._assign(node, names)
            case ast.Import() | ast.ImportFrom():
                _import(node, names)
            case ast.FunctionDef():
                names[node.name] = Function(node, names)
            case ast.AsyncFunctionDef() | ast.ClassDef():
                names[node.name] = UNKNOWN
            case ast.Return():
                value = None if node.value is None else self.value(node.value, names)
                if self._returned:
                    self._returned[-1].append(value)
                return "return"
            case ast.Raise():
                return "return"
            case ast.Break():
                return "break"
            case ast.Continue():
                return "continue"
            case ast.Delete():
                self._delete(node, names)
            case _:
                return self._compound(node, names)
        return ""

    def _compound(self, node: ast.stmt, names: Names) -> str:
        match node:
            case ast.If():
                holds = values.truth(self.value(node.test, names))
                if holds is not UNKNOWN:
                    return self.run(node.body if holds else node.orelse, names)
                return self._branches([node.body, node.orelse], names)
            case ast.For():
                return self._for(node, names)
            case ast.While():
                self.value(node.test, names)
                self._branches([node.body, []], names)
            case ast.With():
                for item in node.items:
                    value = self.value(item.context_expr, names)
                    if item.optional_vars is not None:
                        self.bind(item.optional_vars, value, names)
                return self.run(node.body, names)
            case ast.Try() | ast.TryStar():
                end = self.run([*node.body, *node.orelse], names)
                self._branches([[], *(handler.body for handler in node.handlers)], names)
                return self.run(node.finalbody, names) or end
            case ast.Match():
                self.value(node.subject, names)
                names.update(dict.fromkeys(_captured(node), UNKNOWN))
                return self._branches([[], *(case.body for case in node.cases)], names)
        return ""

    def _branches(self, bodies: Sequence[Sequence[ast.stmt]], names: Names) -> str:
        """Evaluate alternative branches; a name with different values after them becomes UNKNOWN."""
        local = names.maps[0]
        before, after = dict(local), list[dict[str, Any]]()
        ends = []
        self.uncertain += 1
        for body in bodies:
            local.clear()
            local.update(before)
            ends.append(self.run(body, names))
            after.append(dict(local))
        self.uncertain -= 1
        for name in {name for found in after for name in found}:
            local[name] = values.same([found[name] for found in after if name in found])
        return ends[0] if all(ends) else ""

    def _for(self, node: ast.For, names: Names) -> str:
        items = values.items_of(self.value(node.iter, names))
        if items is None:
            self.bind(node.target, UNKNOWN, names)
            self._branches([node.body, []], names)
            return self.run(node.orelse, names)
        for item in items:
            self.bind(node.target, item, names)
            end = self.run(node.body, names)
            if end == "break":
                return ""
            if end == "return":
                return end
        return self.run(node.orelse, names)

    def _assign(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign, names: Names) -> None:
        assert node.value is not None  # noqa: S101 - an annotation without a value is no assignment
        value = self.value(node.value, names)
        if isinstance(node, ast.AugAssign):
            value = values.combined(node.op, self.value(_loaded(node.target), names), value)
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            self.bind(target, value, names)

    def bind(self, target: ast.expr, value: Any, names: Names) -> None:
        """Assign a value to the names of a target."""
        match target:
            case ast.Name():
                names[target.id] = value
            case ast.Tuple() | ast.List():
                for inner, item in zip(target.elts, _unpacked(target.elts, value), strict=True):
                    self.bind(inner.value if isinstance(inner, ast.Starred) else inner, item, names)
            case ast.Subscript():
                values.store(self.value(target.value, names), self.value(target.slice, names), value)

    def _delete(self, node: ast.Delete, names: Names) -> None:
        for target in node.targets:
            if isinstance(target, ast.Subscript) and not self.uncertain:
                of = self.value(target.value, names)
                values.mutated(of, "pop", [self.value(target.slice, names)], {})

    def call(self, function: Function, args: list[Any], kwargs: dict[str, Any]) -> Any:
        """Evaluate a function of the module; return its result, or a list of what it yields."""
        if self._depth >= _DEEPEST:
            return UNKNOWN
        names = function.names.new_child()
        self._bind_arguments(function, args, kwargs, names)
        generates = any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function.node))
        names[YIELDED] = [] if generates else None
        self._depth += 1
        self._returned.append([])
        self.run(function.node.body, names)
        self._depth -= 1
        returned = self._returned.pop()
        return names[YIELDED] if generates else values.same(returned) if returned else None

    def _bind_arguments(
        self, function: Function, args: list[Any], kwargs: dict[str, Any], names: Names
    ) -> None:
        of = function.node.args
        positional = [*of.posonlyargs, *of.args]
        defaults = dict(zip([p.arg for p in positional][::-1], of.defaults[::-1], strict=False))
        defaults.update(
            (p.arg, d) for p, d in zip(of.kwonlyargs, of.kw_defaults, strict=True) if d is not None
        )
        known = args[: args.index(MANY)] if MANY in args else args
        given = {**dict(zip([p.arg for p in positional], known, strict=False)), **kwargs}
        for parameter in [*positional, *of.kwonlyargs]:
            name = parameter.arg
            if name in given:
                names[name] = given[name]
            elif name in defaults and "" not in kwargs and known is args:
                names[name] = self.value(defaults[name], function.names)
            else:
                names[name] = UNKNOWN
        if of.vararg is not None:
            names[of.vararg.arg] = args[len(positional) :] if known is args else UNKNOWN
        if of.kwarg is not None:
            taken = {p.arg for p in [*of.args, *of.kwonlyargs]}
            rest = {name: value for name, value in kwargs.items() if name not in taken}
            names[of.kwarg.arg] = UNKNOWN if "" in kwargs else rest


def _captured(node: ast.Match) -> set[str]:
    """Return the names that the patterns of a match statement bind."""
    patterns = [part for case in node.cases for part in ast.walk(case.pattern)]
    return {part.name for part in patterns if isinstance(part, ast.MatchAs | ast.MatchStar) and part.name}


def _loaded(target: ast.expr) -> ast.expr:
    """Return a target as an expression that reads it."""
    return ast.parse(ast.unparse(target), mode="eval").body


def _unpacked(targets: list[ast.expr], value: Any) -> list[Any]:
    """Return the values for the targets of an unpacking."""
    items = values.items_of(value)
    starred = next((place for place, target in enumerate(targets) if isinstance(target, ast.Starred)), None)
    fits = items is not None and (
        len(items) == len(targets) if starred is None else len(items) >= len(targets) - 1
    )
    if items is None or not fits:
        return [UNKNOWN] * len(targets)
    if starred is None:
        return items
    after = len(targets) - starred - 1
    end = len(items) - after
    return [*items[:starred], items[starred:end], *items[end:]]


def _import(node: ast.Import | ast.ImportFrom, names: Names) -> None:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            names[alias.asname or alias.name] = Ref("." * node.level + f"{node.module or ''}.{alias.name}")
        elif alias.asname:
            names[alias.asname] = Ref(alias.name)
        else:
            top = alias.name.partition(".")[0]
            names[top] = Ref(top)
