"""Change rows: op.execute, op.bulk_insert and op.backfill."""

from collections.abc import Iterator

from alembic.operations import ops

from alembic_online import sql, work
from alembic_online.errors import OnlineError
from alembic_online.filling.operation import BackfillOp
from alembic_online.operations import handles
from alembic_online.operations.columns import NOT_ASKED
from alembic_online.operations.description import shown, sql_of, title
from alembic_online.render import Renderer
from alembic_online.server import Server
from alembic_online.steps import (
    AS_ALEMBIC_DOES,
    Fill,
    Locking,
    NonBlocking,
    Rows,
    Setting,
    Step,
)


@handles(ops.BulkInsertOp)
def bulk_insert(server: Server, operation: ops.BulkInsertOp) -> Iterator[Step]:
    """Insert the rows once, however often the revision is resumed."""
    yield from filter(None, [rows_of(server.render, operation)])


def rows_of(render: Renderer, operation: ops.MigrateOperation) -> Rows | None:
    """Return the step of an operation that changes rows, or None for other operations."""
    if isinstance(operation, ops.BulkInsertOp):
        return Rows(f"insert into {operation.table.name}", guarded=False)
    if isinstance(operation, ops.ExecuteSQLOp):
        text = sql_of(render, operation)
        kind = (operation.execution_options or {}).get("online")
        if sql.kind(text) == "rows" and kind in {None, "long"}:
            return Rows(title(shown(render, operation)), guarded=kind is None)
    return None


@handles(BackfillOp)
def backfill(server: Server, operation: BackfillOp) -> Iterator[Step]:  # noqa: ARG001
    """Fill rows in batches."""
    yield Fill(operation.what)


@handles(ops.ExecuteSQLOp)
def execute(server: Server, operation: ops.ExecuteSQLOp) -> Iterator[Step]:
    """Run a statement once, however often the revision is resumed, as its kind requires."""
    text = sql_of(server.render, operation)
    what = title(shown(server.render, operation))
    kind = (operation.execution_options or {}).get("online") or sql.kind(text)
    if kind == "session":
        yield Setting(what)
    elif (rows := rows_of(server.render, operation)) is not None:
        yield rows
    elif kind in {"long", "outside"}:
        yield NonBlocking(what, AS_ALEMBIC_DOES, transaction=kind == "long")
    elif kind == "brief":
        sure = not sql.is_lenient(text)
        yield Locking(
            what,
            AS_ALEMBIC_DOES,
            tuple(name for table in sql.locked(text) for name in server.lockable(table, sure=sure)),
            stops_reads=not sql.creates_trigger(text),
            warning=None if server.can_tell else _not_asked(server, text),
        )
    else:
        raise OnlineError(f'execution_options={{"online": {kind!r}}} is unknown; use "brief" or "long"')


def _not_asked(server: Server, statement: str) -> str | None:
    """Return the comment of a script on a statement that may rewrite a table."""
    unknown = [
        found
        for found in work.examine(statement)
        if isinstance(found, work.Change) and not server.safe_to_lock(found.table)
    ]
    return NOT_ASKED.format(title(statement)) if unknown else None
