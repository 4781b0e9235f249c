"""What we add to Alembic's autogenerate: views, idempotent operations, numbers for new revisions."""

import re
import sys
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import renderers, rewriter
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.runtime.plugins import Plugin
from alembic.util import DispatchPriority, PriorityDispatchResult
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import ProgrammingError

from nexus_schema.errors import SchemaError

PLUGIN = "nexus_schema.views"

# The statements that make a view as it is in the database, and the names of its indexes.
_FOUND_VIEW = sa.text("""\
SELECT format('CREATE MATERIALIZED VIEW %I AS %s', relname, rtrim(pg_get_viewdef(oid), ';')) AS statement
FROM pg_class WHERE oid = to_regclass(quote_ident(:view)) AND relkind = 'm'
UNION ALL
(SELECT pg_get_indexdef(indexrelid, 0, true)
FROM pg_index WHERE indrelid = to_regclass(quote_ident(:view)) ORDER BY indexrelid::regclass::text)
UNION ALL
(SELECT format('COMMENT ON COLUMN %I.%I IS %L', :view, attname, col_description(attrelid, attnum))
FROM pg_attribute
WHERE attrelid = to_regclass(quote_ident(:view)) AND col_description(attrelid, attnum) IS NOT NULL
ORDER BY attnum)
UNION ALL
SELECT format('COMMENT ON MATERIALIZED VIEW %I IS %L', :view, description) FROM pg_description
WHERE objoid = to_regclass(quote_ident(:view)) AND classoid = 'pg_class'::regclass AND objsubid = 0""")


def include_object(
    item: object,
    _name: str | None,
    kind: str,
    _reflected: bool,  # noqa: FBT001 - Alembic's signature
    _compare_to: object,
) -> bool:
    """Hide views from Alembic, which takes them for tables to be created; ``compare_views`` sees to them."""
    return not (kind == "table" and isinstance(item, sa.Table) and item.is_view)


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
            found = list(connection.scalars(_FOUND_VIEW, {"view": table.name}))
            if _as_postgresql_writes_it(connection, table.name, wanted) != found:
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


def _as_postgresql_writes_it(connection: sa.Connection, view: str, statements: list[str]) -> list[str]:
    """Return the statements as the server writes them back: only its own rendering can be compared.

    The view is made under another name and without data, in a savepoint that is undone, so that nobody
    waits for the comparison. A view that cannot be made is different: the list is empty.
    """
    probe = "nexus_schema_probe"
    with connection.begin_nested() as savepoint:
        try:
            for statement in statements:
                renamed = re.sub(r"^(CREATE (?:UNIQUE )?INDEX )", rf"\1{probe}_", statement)
                renamed = re.sub(rf"\b(?<!{probe}_){view}\b", probe, renamed, count=1)
                tail = " WITH NO DATA" if statement.startswith("CREATE MATERIALIZED VIEW") else ""
                connection.exec_driver_sql(renamed.replace("%", "%%") + tail)
            found = list(connection.scalars(_FOUND_VIEW, {"view": probe}))
        except ProgrammingError:  # it needs what the same revision adds
            found = []
        savepoint.rollback()
    return [statement.replace(f"{probe}_", "").replace(probe, view) for statement in found]


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
