"""Describe operations: for the journal, which must recognize them, and for the log."""

import logging
import re
import warnings
from io import StringIO
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import CompileError

from alembic_online import sql
from alembic_online.filling.operation import BackfillOp
from alembic_online.internals import Implementation, copied
from alembic_online.log import log
from alembic_online.render import Renderer

if TYPE_CHECKING:
    import sqlalchemy as sa


def name_of(operation: ops.MigrateOperation) -> str:
    """Return the kind of an operation."""
    return type(operation).__name__.removesuffix("Op")


_LONGEST_TITLE = 60


def title(text: str) -> str:
    """Return a statement for the log; a long one only up to the name of its object, or its first words."""
    without_comments = re.sub(r"\A(\s*--[^\n]*\n|\s*/\*.*?\*/)+", "", text, flags=re.DOTALL)
    words = " ".join(without_comments.split())
    if len(words) <= _LONGEST_TITLE:
        return words
    named = " ".join((sql.head(text) or "").split())
    return named or f"{words[:_LONGEST_TITLE].rpartition(' ')[0] or words[:_LONGEST_TITLE]} …"


def shown(render: Renderer, operation: ops.ExecuteSQLOp) -> str:
    """Return the statement of op.execute, or the summary of it that another plugin gives as an option."""
    return (operation.execution_options or {}).get("summary") or sql_of(render, operation)


def sql_of(render: Renderer, operation: ops.ExecuteSQLOp) -> str:
    """Return the statement of op.execute, with placeholders for its values."""
    statement = operation.sqltext
    if isinstance(statement, str):
        return statement
    return render.plain(str(cast("sa.ClauseElement", statement).compile(dialect=render.dialect)))


class Description(NamedTuple):
    """What an operation does.

    ``text`` identifies it for the next run; None if each run repeats it. It is the SQL that Alembic executes,
    with values, except for statements that change rows.
    """

    title: str
    text: str | None
    values: str = ""
    """A statement that changes rows, with its values."""
    memo: dict[str, Any] = {}  # noqa: RUF012 - a NamedTuple
    """Alembic's record of the types that it has created."""
    written: str = ""
    """The SQL in the order in which Alembic executes it."""


def describe(render: Renderer, operation: ops.MigrateOperation, original: Implementation) -> Description:
    """Return what an operation does.

    :param original: Alembic's implementation of it.
    """
    if isinstance(operation, ops.BulkInsertOp):
        name = operation.table.fullname
        return Description(f"insert into {name}", f"bulk_insert {name}", repr(operation.rows))
    if isinstance(operation, BackfillOp):
        text = f"backfill {_with_values(render, operation.statement)}"
        return Description(operation.what, text)
    if isinstance(operation, ops.ExecuteSQLOp):
        text = sql_of(render, operation)
        if sql.kind(text) == "session" or sql.is_temporary(text):  # each run repeats it
            return Description(title(shown(render, operation)), None)
        values = text if isinstance(operation.sqltext, str) else _with_values(render, operation.sqltext)
        kept = text if sql.kind(text) == "rows" else values
        return Description(title(shown(render, operation)), kept, values)
    output = StringIO()
    script = _script(render.context, output)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the same warnings come again when it runs
            original(Operations(script), copied(operation))
    except Exception as error:  # noqa: BLE001 - the same error comes again when it runs
        log.debug("%s cannot be compiled to SQL: %s", type(operation).__name__, error)
        names = ("table_name", "column_name", "index_name", "constraint_name", "schema")
        text = " ".join([type(operation).__name__, *(str(getattr(operation, name, "")) for name in names)])
        return Description(title(text), text)
    # SQLAlchemy keeps the indexes and keys of a table in sets, so their order differs between processes.
    head, *others = output.getvalue().split(";\n\n")
    text = ";\n\n".join([head, *sorted(others)])
    return Description(title(head), text, memo=script.impl.memo, written=output.getvalue())


def remember_types(context: MigrationContext, description: Description) -> None:
    """Tell Alembic which types a finished operation has created."""
    for name, found in description.memo.items():
        if isinstance(found, set):
            context.impl.memo.setdefault(name, set()).update(found)


def update_of(render: Renderer, operation: BackfillOp) -> str:
    """Return the statement of a backfill, with its values if they can be compiled to SQL."""
    try:
        compiled = operation.statement.compile(dialect=render.dialect, compile_kwargs={"literal_binds": True})
    except (CompileError, NotImplementedError):
        compiled = operation.statement.compile(dialect=render.dialect)
    return render.plain(str(compiled))


def _script(context: MigrationContext, output: StringIO) -> MigrationContext:
    """Return a context that writes a script, without the log lines of its creation."""
    opts = {"target_metadata": context.opts.get("target_metadata")}
    opts |= {"as_sql": True, "output_buffer": output, "literal_binds": True}
    alembic_log = logging.getLogger(MigrationContext.__module__)
    alembic_log.addFilter(_nothing)
    try:
        return MigrationContext.configure(dialect=context.dialect, opts=opts)
    finally:
        alembic_log.removeFilter(_nothing)


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _with_values(render: Renderer, statement: Any) -> str:
    compiled = statement.compile(dialect=render.dialect)
    values = repr(sorted((compiled.params or {}).items()))
    return f"{compiled} {re.sub(' at 0x[0-9a-f]+', '', values)}"


def written_tables(render: Renderer, operation: ops.MigrateOperation) -> set[str]:
    """Return the tables, without schema, whose rows or definition an operation changes.

    For a backfill they include the tables that it reads, because it must process their new rows.
    """
    if isinstance(operation, BackfillOp):
        return {table.name for table in operation.tables}
    if isinstance(operation, ops.ExecuteSQLOp):
        return {sql.last_part(name) for name in sql.written(sql_of(render, operation))}
    if isinstance(operation, ops.BulkInsertOp):
        return {operation.table.name}
    if isinstance(operation, ops.AddConstraintOp):
        return {operation.to_constraint(render.context).table.name}
    return {str(getattr(operation, "table_name", ""))}
