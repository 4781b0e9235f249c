"""Renders operations that Alembic does not have or cannot render."""

from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import render_op
from alembic.operations import Operations, ops
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg

from alembic_drift.sql import as_text, literal


class WithDowngrade(ops.OpContainer):
    """Operations of an upgrade and those of its downgrade, if these are not simply the reverse."""

    def __init__(self, up: Sequence[ops.MigrateOperation], down: Sequence[ops.MigrateOperation]) -> None:
        super().__init__(up)
        self.down = down

    def reverse(self) -> "WithDowngrade":
        """Return the operations for the other direction."""
        return WithDowngrade(self.down, self.ops)


class UnresolvedOp(ops.MigrateOperation):
    """Differences that no operation resolves, and hints: comments at the top of the revision."""

    def __init__(self, lines: Sequence[str], hints: Sequence[str]) -> None:
        self.lines, self.hints = lines, hints

    def reverse(self) -> "UnresolvedOp":
        """Return an operation without lines: the comment is written once."""
        return UnresolvedOp([], [])


class RevisionCompiler(PGCompiler_psycopg):
    """Renders the expressions of a revision: check constraints, defaults, predicates."""

    def __str__(self) -> str:
        return as_text(super().__str__())


class Rewrites(NamedTuple):
    """The tables that a statement scans or rewrites under a lock that blocks others.

    It is the execution option "rewrites" of the statement, for programs that run revisions beside others.
    """

    what: str
    """What the statement does, for people."""
    tables: str
    """A SELECT of the tables; no rows if there is nothing to do."""
    instead: str
    """What to do instead."""


def run(
    operations: Operations, statement: str, rewrites: Rewrites | None = None, *, summary: str | None = None
) -> None:
    """Execute a statement of an operation.

    :param summary: what a DO block does: the statement in it, or words that are no SQL. It is the execution
        option "summary", for programs that show what a revision does.
    """
    options = {"rewrites": None if rewrites is None else tuple(rewrites), "summary": summary}
    given = {name: value for name, value in options.items() if value is not None}
    operations.execute(as_text(statement), execution_options=given or None)


def as_one(statements: Sequence[str]) -> str:
    """Return statements as one, so that nothing runs between them, whatever the transaction mode."""
    if len(statements) == 1:
        return statements[0]
    body = "\n".join(f"EXECUTE {literal(statement)};" for statement in statements)
    tag = next(tag for tag in (f"$do{number}$" for number in count()) if tag not in body)
    return f"DO {tag} BEGIN\n{body}\nEND {tag}"


def text_of(text: str) -> str:
    """Return a text as Python source, one line for each line of the text."""
    lines = text.splitlines(keepends=True)
    return repr(text) if len(lines) == 1 else "\n".join(["", *(f"    {line!r}" for line in lines)])


def in_schema(schema: str | None) -> str:
    """Return the schema argument of an operation; empty for None."""
    return f", schema={schema!r}" if schema else ""


def imported(context: AutogenContext) -> None:
    """Have the revision import the plugin's operations, which adds them to ``op``."""
    context.imports.add("import alembic_drift.operations  # noqa: F401")


@renderers.dispatch_for(WithDowngrade)
def _render_with_downgrade(context: AutogenContext, operation: WithDowngrade) -> list[str]:
    return [line for inner in operation.ops for line in _lines(render_op(context, inner))]


def _lines(rendered: Sequence[str] | str) -> Sequence[str]:
    return [rendered] if isinstance(rendered, str) else rendered


@renderers.dispatch_for(UnresolvedOp)
def _render_by_hand(context: AutogenContext, operation: UnresolvedOp) -> list[str]:
    lines = [f"# {hint}" for hint in operation.hints]
    if operation.lines:
        lines += [
            "# Resolve manually (no operation does this):",
            *(f"# - {line}" for line in operation.lines),
        ]
    if lines:
        context.imports.add("\n".join(lines))
    return []


# Alembic's own renderer raises an error.
@renderers.dispatch_for(ops.CreatePrimaryKeyOp, replace=True)
def _render_create_primary_key(_context: AutogenContext, operation: ops.CreatePrimaryKeyOp) -> str:
    name, columns = str(operation.constraint_name), list(operation.columns)
    options = "".join(f", {option}={value!r}" for option, value in operation.kw.items())
    where = f"{operation.table_name!r}, {columns!r}{in_schema(operation.schema)}"
    return f"op.create_primary_key(op.f({name!r}), {where}{options})"


class ConvertOp(ops.AlterColumnOp):
    """A change of a column's type, with the expression that converts its values."""

    def __init__(self, *arguments: Any, using: str, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.using = using


@renderers.dispatch_for(ConvertOp)
def _render_convert(context: AutogenContext, operation: ConvertOp) -> str:
    # Alembic does not render options of a dialect here.
    plain = ops.AlterColumnOp(operation.table_name, operation.column_name)
    rendered: str = renderers.dispatch(plain)(context, operation)
    return f"{rendered.rstrip().removesuffix(')')}, postgresql_using={operation.using!r})"
