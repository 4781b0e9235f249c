"""What becomes of a new revision of this project: its number, and operations that can run twice."""

import logging
import sys
from importlib.util import find_spec
from typing import Any

from alembic.autogenerate import rewriter
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext

from nexus_schema.errors import SchemaError

log = logging.getLogger(__name__)

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
    if context.script is not None and find_spec("ruff") is None:
        context.script.hooks = []
        log.warning("ruff is not installed: the revision is written, but not formatted")
