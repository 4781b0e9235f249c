"""An operation that renames an index, which Alembic lacks."""

import sqlalchemy as sa
from alembic.operations import Operations, ops

from alembic_online.render import quoted, table_name
from alembic_online.session import literal


@Operations.register_operation("rename_index")
class RenameIndexOp(ops.MigrateOperation):
    """Rename an index; see :meth:`rename_index`."""

    def __init__(
        self, old_name: str, new_name: str, *, schema: str | None = None, if_exists: bool = False
    ) -> None:
        self.old_name = old_name
        self.new_name = new_name
        self.schema = schema
        self.if_exists = if_exists

    @classmethod
    def rename_index(
        cls,
        operations: Operations,
        old_name: str,
        new_name: str,
        *,
        schema: str | None = None,
        if_exists: bool = False,
    ) -> None:
        """Rename an index; readers and writers do not wait for it.

        :param if_exists: do nothing if no index has the old name.
        """
        operations.invoke(cls(old_name, new_name, schema=schema, if_exists=if_exists))

    def reverse(self) -> "RenameIndexOp":
        """Return the operation for a downgrade."""
        return RenameIndexOp(self.new_name, self.old_name, schema=self.schema, if_exists=self.if_exists)


def rename_index(operations: Operations, operation: RenameIndexOp) -> None:
    """Rename an index, or write the statement to a script."""
    dialect = operations.migration_context.dialect
    old = table_name(dialect, sa.table(operation.old_name, schema=operation.schema))
    exists = "IF EXISTS " if operation.if_exists else ""
    statement = f"ALTER INDEX {exists}{old} RENAME TO {quoted(dialect, operation.new_name)}"
    operations.migration_context.impl.execute(literal(statement))
