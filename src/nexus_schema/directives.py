"""What becomes of a new revision of this project: its number, operations that can run twice, their proof."""

import logging
import sys
from importlib.util import find_spec
from typing import Any

from alembic.autogenerate import rewriter
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from nexus_schema.errors import SchemaError
from nexus_schema.proofs import refusals, verifications
from nexus_schema.scripts import next_number

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


def _drop_first(container: ops.OpContainer, dropped: set[tuple[str, Any]]) -> None:
    """Drop a constraint before it is added: PostgreSQL has no ADD CONSTRAINT IF NOT EXISTS."""
    rewritten: list[ops.MigrateOperation] = []
    for operation in container.ops:
        if isinstance(operation, ops.OpContainer):
            _drop_first(operation, dropped)
        elif isinstance(operation, ops.DropConstraintOp):
            dropped.add((operation.table_name, operation.constraint_name))
        elif isinstance(operation, ops.AddConstraintOp):
            drop = ops.DropConstraintOp.from_constraint(operation.to_constraint())
            drop.if_exists = True
            if (drop.table_name, drop.constraint_name) not in dropped:
                rewritten.append(drop)
        rewritten.append(operation)
    container.ops[:] = rewritten


def process_revision_directives(
    context: MigrationContext, revision: Any, directives: list[ops.MigrationScript]
) -> None:
    """Give a new revision its number and idempotent operations; write none when nothing has changed.

    What autogenerate has found ends its upgrade with ``verify`` and begins its downgrade with
    ``refuse_data_loss``, as far as its operations call for them.
    """
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
    _check_message(arguments["message"], "alembic revision -m 'add request tags'")
    if context.script is not None and arguments["head"] in {None, "head"}:
        context.script.get_revision("head")  # raises where there are several, with a line of ours
    if arguments["rev_id"] is None and context.script is not None:
        script.rev_id = next_number(context.script)
    _idempotent.process_revision_directives(context, revision, directives)
    if script.upgrade_ops is not None and script.downgrade_ops is not None:
        _drop_first(script.upgrade_ops, set())
        _drop_first(script.downgrade_ops, set())
        script.upgrade_ops.ops += verifications(script.upgrade_ops)
        script.downgrade_ops.ops[:0] = refusals(script.downgrade_ops)
    if context.script is not None:
        _choose_hooks(context.script, keep_imports=not arguments["autogenerate"])


def prepare_merge(script: ScriptDirectory, options: Any) -> dict[str, str]:
    """Give the revision of ``alembic merge`` the next number; return what the template has to know for it.

    Alembic hands over no directives for it: it runs env.py, and then writes the file under an id that it
    has chosen before. The name of the file and the template are still ours to say.
    """
    _check_message(options.message, "alembic merge heads -m 'join the two'")
    _choose_hooks(script, keep_imports=False)
    if options.rev_id is not None:
        return {}
    number = next_number(script)
    script.file_template = script.file_template.replace("%(rev)s", number)
    return {"number": number}


def _check_message(message: str | None, example: str) -> None:
    if not (message or "").strip():
        raise SchemaError(f"a revision needs a message that names it: {example}")


def _choose_hooks(script: ScriptDirectory, *, keep_imports: bool) -> None:
    """Format a new file; what a person is still to fill in keeps the imports that this takes."""
    if find_spec("ruff") is None:
        script.hooks = []
        log.warning("ruff is not installed: the revision is written, but not formatted")
    elif keep_imports:
        script.hooks = [hook for hook in script.hooks if hook["_hook_name"] != "ruff_check"]
