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
from sqlalchemy.schema import SchemaItem

from nexus_schema.errors import SchemaError
from nexus_schema.views import found_statements, rendered_statements

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
    return name in _names_in_the_chain(Path(context.script.versions))


@functools.cache
def _names_in_the_chain(folder: Path) -> frozenset[str]:
    """Return every string in the revision files; the name of whatever they made is among them."""
    return frozenset(
        node.value
        for file in folder.glob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


class ReplaceViewOp(ops.MigrateOperation):
    """Drop a materialized view, if it is there, and run the statements that make the wanted one, if any."""

    def __init__(self, name: str, *, wanted: Sequence[str], found: Sequence[str]) -> None:
        self.name, self.wanted, self.found = name, wanted, found

    def reverse(self) -> "ReplaceViewOp":
        """Return the operation that brings back what was found."""
        return ReplaceViewOp(self.name, wanted=self.found, found=self.wanted)

    def to_diff_tuple(self) -> tuple[str, str]:
        """Describe the difference, for ``alembic check``."""
        return ("replace_view", self.name)


@renderers.dispatch_for(ReplaceViewOp)
def _render_replace_view(_context: AutogenContext, operation: ReplaceViewOp) -> list[str]:
    statements = [f"DROP MATERIALIZED VIEW IF EXISTS {operation.name}", *operation.wanted]
    escaped = [re.sub(r"(?<![:\w]):(?=\w)", r"\:", statement) for statement in statements]  # not a parameter
    return [f"op.execute({statement!r})" for statement in escaped]


def compare_views(
    context: AutogenContext, upgrade_ops: ops.UpgradeOps, _schemas: set[str | None]
) -> PriorityDispatchResult:
    """Compare the materialized views of the models with the database's, with their indexes and comments."""
    connection = context.connection
    assert connection is not None  # noqa: S101 - autogenerate always has one
    for table in context.sorted_tables:
        if table.is_view:
            wanted = _wanted_statements(table)
            found = found_statements(connection, table.name)
            if rendered_statements(connection, table.name, wanted) != found:
                upgrade_ops.ops.append(ReplaceViewOp(table.name, wanted=wanted, found=found))
    return PriorityDispatchResult.CONTINUE


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
