"""What we add to Alembic's autogenerate: views, idempotent operations, numbers for new revisions."""

import ast
import functools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate import renderers, rewriter
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql.psycopg import PGCompiler_psycopg
from sqlalchemy.schema import SchemaItem

from nexus_schema import legacy
from nexus_schema.errors import SchemaError
from nexus_schema.views import columns_read_by, found_statements, rendered_statements

PLUGIN = "nexus_schema.views"


def include_object(
    item: SchemaItem,
    name: str | None,
    kind: str,
    reflected: bool,  # noqa: FBT001 - Alembic's signature
    compare_to: SchemaItem | None,
) -> bool:
    """Hide what Alembic must not touch: views, which ``compare_views`` compares, and the operator's own.

    A table, column, index or constraint of the database that no model has is to be dropped when a
    revision of the chain made it; otherwise it is the operator's own.
    """
    if kind == "table" and isinstance(item, sa.Table) and item.is_view:
        return False
    if not reflected or compare_to is not None:
        return True
    table = item if isinstance(item, sa.Table) else getattr(item, "table", None)
    return (kind.removesuffix("_constraint"), table.name if table is not None else None, name) in (
        _made_by_the_chain(Path(context.script.versions))
    )


# What the operations of a revision make whose first two arguments are its name and its table.
_MAKING = {
    "create_index": "index",
    "create_unique_constraint": "unique",
    "create_foreign_key": "foreign_key",
    "create_check_constraint": "check",
}
_NAME = r'(?:"((?:[^"]|"")+)"|(\w+))'
_INDEX_IN_SQL = re.compile(rf"CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?{_NAME} ON {_NAME}")
# Before a statement in a revision that makes again what is the operator's own; it stays the operator's own.
_OWN = "/* the operator's own */ "


@functools.cache
def _made_by_the_chain(folder: Path) -> frozenset[tuple[str, str, str]]:
    """Return kind, table and name of whatever the revisions made and did not drop again.

    000 to 006 are in the data of ``legacy``; the upgrades of the later ones are read: autogenerate writes
    their names as literals.
    """
    made = {("table", table, table) for table in legacy.TABLES}
    made |= {
        ("column", table, name)
        for tables in legacy.COLUMNS.values()
        for table, columns in tables.items()
        for name in columns
    }
    made |= {
        ("index", text.split(" ON ")[1].split()[0], name)
        for name, text in legacy.INDEXES.items()
        if name != legacy.DROPPED_AGAIN
    }
    made |= {
        ("foreign_key" if text.startswith("FOREIGN") else "unique", table, name)
        for table, constraints in legacy.CONSTRAINTS.items()
        for name, text in constraints.items()
    }
    for file in sorted(folder.glob("*.py")):
        if file.name[:3] in legacy.REVISIONS:
            continue
        for function in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(function, ast.FunctionDef) and function.name == "upgrade":
                for statement in function.body:
                    for node in ast.walk(statement):
                        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("op."):
                            made = (made - _dropped_by(node, made)) | _made_by(node)
    return frozenset(made)


def _dropped_by(call: ast.Call, made: set[tuple[str, str, str]]) -> set[tuple[str, str, str]]:
    operation = ast.unparse(call.func).removeprefix("op.")
    texts = [_text(argument) for argument in call.args]
    match operation, texts:
        case "drop_table", [table, *_]:
            return {item for item in made if item[1] == table}
        case "drop_column", [table, column, *_]:
            return {("column", str(table), str(column))}
        case (("drop_index" | "drop_constraint"), [name, *_]):
            return {item for item in made if item[2] == name and item[0] not in {"table", "column"}}
    return set()


def _made_by(call: ast.Call) -> set[tuple[str, str, str]]:
    operation = ast.unparse(call.func).removeprefix("op.")
    texts = [_text(argument) for argument in call.args]
    if operation in _MAKING:
        return {(_MAKING[operation], texts[1] or "", texts[0] or "")} if len(texts) > 1 else set()
    if operation == "execute" and texts:
        index = _index_of(texts[0] or "")
        return {index} if index else set()
    if operation not in {"create_table", "add_column"} or not texts or texts[0] is None:
        return set()
    made = {("table", texts[0], texts[0])} if operation == "create_table" else set()
    for inner in (
        node for argument in call.args for node in ast.walk(argument) if isinstance(node, ast.Call)
    ):
        of = ast.unparse(inner.func).rpartition(".")[2]
        if of == "Column" and inner.args:
            made.add(("column", texts[0], _text(inner.args[0]) or ""))
        for keyword in inner.keywords:
            if keyword.arg == "name":
                kind = {"UniqueConstraint": "unique", "CheckConstraint": "check"}.get(of, "foreign_key")
                made.add((kind, texts[0], _text(keyword.value) or ""))
    return made


def _text(node: ast.expr) -> str | None:
    """Return the text of a literal, also one wrapped in op.f()."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "op.f" and node.args:
        node = node.args[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


class _ViewOp(ops.MigrateOperation):
    """A materialized view, and the statements that make it with its indexes and comments."""

    def __init__(self, name: str, statements: Sequence[str]) -> None:
        self.name, self.statements = name, statements


class MakeViewOp(_ViewOp):
    """Make a materialized view with its indexes and comments."""

    def reverse(self) -> "DropViewOp":
        """Return the operation that drops it."""
        return DropViewOp(self.name, self.statements)

    def to_diff_tuple(self) -> tuple[str, str]:
        """Describe the difference, for ``alembic check``."""
        return ("make_view", self.name)


class DropViewOp(_ViewOp):
    """Drop a materialized view; its statements are those that bring it back."""

    def reverse(self) -> MakeViewOp:
        """Return the operation that brings it back."""
        return MakeViewOp(self.name, self.statements)

    def to_diff_tuple(self) -> tuple[str, str]:
        """Describe the difference, for ``alembic check``."""
        return ("drop_view", self.name)


@renderers.dispatch_for(DropViewOp)
def _render_drop_view(_context: AutogenContext, operation: DropViewOp) -> str:
    return f"op.execute({f'DROP MATERIALIZED VIEW IF EXISTS {operation.name}'!r})"


@renderers.dispatch_for(MakeViewOp)
def _render_make_view(_context: AutogenContext, operation: MakeViewOp) -> list[str]:
    # First dropped, because the statements that follow have no IF NOT EXISTS.
    statements = [f"DROP MATERIALIZED VIEW IF EXISTS {operation.name}", *operation.statements]
    return [f"op.execute({_as_text(statement)!r})" for statement in statements]


def _as_text(sql: str) -> str:
    """Return SQL as it has to stand in text(), where a colon before a word would be a parameter."""
    return re.sub(r"(?<![:\w\\]):(?=\w)", r"\:", sql)


class _RevisionCompiler(PGCompiler_psycopg):
    """Renders the expressions of a revision: check constraints, defaults, predicates."""

    def __str__(self) -> str:
        return _as_text(super().__str__())


def compare_views(
    autogen_context: AutogenContext, upgrade_ops: ops.UpgradeOps, _schemas: set[str | None]
) -> PriorityDispatchResult:
    """Compare the materialized views of the models with the database's, with their indexes and comments.

    A view that differs, or stands in the way of a change to a column that it reads, is dropped before all
    else and made after all else.
    """
    connection = autogen_context.connection
    assert connection is not None  # noqa: S101 - autogenerate always has one
    for table in autogen_context.sorted_tables:
        if table.is_view:
            wanted = _wanted_statements(table)
            found = found_statements(connection, table.name)
            made = _made_by_the_chain(Path(context.script.versions))
            ours = [statement for statement in found if _index_of(statement) in {None, *made}]
            own = [_OWN + statement for statement in found if statement not in ours]
            in_the_way = _changed_columns(upgrade_ops) & columns_read_by(connection, table.name)
            if in_the_way or rendered_statements(connection, table.name, wanted) != ours:
                if found:
                    upgrade_ops.ops.insert(0, DropViewOp(table.name, ours + own))
                upgrade_ops.ops.append(MakeViewOp(table.name, wanted + own))
    return PriorityDispatchResult.CONTINUE


def _index_of(statement: str) -> tuple[str, str, str] | None:
    """Return kind, table and name of the index that a statement makes, if it makes one."""
    found = _INDEX_IN_SQL.match(statement)
    if found is None:
        return None
    quoted_name, name, quoted_table, table = found.groups()
    return ("index", table or quoted_table.replace('""', '"'), name or quoted_name.replace('""', '"'))


def _changed_columns(upgrade_ops: ops.UpgradeOps) -> set[tuple[str, str]]:
    """Return table and name of the columns that change their type or go."""
    return {
        (operation.table_name, operation.column_name)
        for table in upgrade_ops.ops
        if isinstance(table, ops.ModifyTableOps)
        for operation in table.ops
        if isinstance(operation, ops.DropColumnOp)
        or (isinstance(operation, ops.AlterColumnOp) and operation.modify_type is not None)
    }


def _wanted_statements(view: sa.Table) -> list[str]:
    """Return the statements that ``create_all`` would run for a view, without those for its functions."""
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    statements: list[str] = []

    def collect(statement: Any, *_: object, **__: object) -> None:
        statements.append(str(statement.compile(dialect=dialect)).strip())

    engine = sa.create_mock_engine("postgresql+psycopg://", collect)
    view.metadata.create_all(engine, tables=[view], checkfirst=False)
    of_the_view = re.compile(
        "CREATE MATERIALIZED|COMMENT ON MATERIALIZED|COMMENT ON COLUMN|CREATE (UNIQUE )?INDEX"
    )
    return [statement for statement in statements if of_the_view.match(statement)]


_idempotent = rewriter.Rewriter()


@_idempotent.rewrites(ops.CreateTableOp)
@_idempotent.rewrites(ops.CreateIndexOp)
@_idempotent.rewrites(ops.AddColumnOp)
def _if_not_exists(_context: MigrationContext, _revision: object, operation: Any) -> Any:
    operation.if_not_exists = True
    return operation


@_idempotent.rewrites(ops.DropTableOp)
@_idempotent.rewrites(ops.DropIndexOp)
@_idempotent.rewrites(ops.DropColumnOp)
@_idempotent.rewrites(ops.DropConstraintOp)
def _if_exists(_context: MigrationContext, _revision: object, operation: Any) -> Any:
    operation.if_exists = True
    return operation


@_idempotent.rewrites(ops.AddConstraintOp)
def _drop_first(_context: MigrationContext, _revision: object, operation: ops.AddConstraintOp) -> Any:
    # PostgreSQL has no ADD CONSTRAINT IF NOT EXISTS.
    drop = ops.DropConstraintOp.from_constraint(operation.to_constraint())
    drop.if_exists = True
    return [drop, operation]


def process_revision_directives(
    context: MigrationContext, revision: Any, directives: list[ops.MigrationScript]
) -> None:
    """Give a new revision its number and idempotent operations; write none when nothing has changed."""
    arguments = context.opts["revision_context"].command_args
    environment = context.environment_context
    command_line = getattr(environment and environment.config.cmd_opts, "autogenerate", None)
    if command_line is None and arguments["message"] is None:
        return  # alembic check, which writes nothing
    # Expressions are rendered by this dialect; psycopg's doubles the percent signs.
    dialect = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]
    dialect.statement_compiler = _RevisionCompiler
    context.impl.dialect = dialect
    script = directives[0]
    if arguments["autogenerate"] and script.upgrade_ops is not None and script.upgrade_ops.is_empty():
        directives.clear()
        sys.stderr.write("models and database agree: no revision was written\n")
        return
    if not (arguments["message"] or "").strip():
        raise SchemaError("a revision needs a message that names it: alembic revision -m 'add request tags'")
    if arguments["rev_id"] is None and context.script is not None:
        numbers = [int(r.revision) for r in context.script.walk_revisions() if r.revision.isdigit()]
        script.rev_id = f"{max(numbers, default=-1) + 1:03d}"
    _idempotent.process_revision_directives(context, revision, directives)


# Alembic keeps plugins by name for the life of the process, and this module is imported once in it.
_plugin = Plugin(PLUGIN)
_plugin.add_autogenerate_comparator(compare_views, "schema", "views", priority=DispatchPriority.LAST)
