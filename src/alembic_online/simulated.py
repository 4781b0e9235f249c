"""Simulates the server for a plan: it answers as if the operations read so far had run.

A plan reads a revision against a server that none of its operations has changed. As far as their names are
known, objects that the operations drop count as dropped, and indexes that they build as existing.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from alembic.operations import ops
from sqlalchemy.exc import DBAPIError

from alembic_online import catalog, driver, sql
from alembic_online.errors import first_line
from alembic_online.internals import final_name
from alembic_online.operations.description import sql_of
from alembic_online.operations.rename_index import RenameIndexOp
from alembic_online.render import Renderer
from alembic_online.server import Found, Server
from alembic_online.session import Session
from alembic_online.tokens import Reader, readers

if TYPE_CHECKING:
    import sqlalchemy as sa

_FIRST_IS_CONSTRAINT = (catalog.COLUMN_FOREIGN_KEYS, catalog.FOREIGN_KEYS, catalog.COLUMN_CHECKS)


class SimulatedServer(Server):
    """The server of a plan, with the changes of the operations read so far."""

    def __init__(self, session: Session, render: Renderer) -> None:
        super().__init__(session, render)
        self.ahead = True
        """Whether it answers as if the operations read so far had run."""
        self.unknown: list[str] = []
        """What it could not find out since this list was cleared."""
        self._indexes: dict[str, Found | None] = {}
        self._partitioned: set[str] = set()
        """Indexes of partitioned tables."""
        self._gone: set[str] = set()
        """Dropped tables and views."""
        self._gone_oids: set[str] = set()
        """Their oids, also when their names will be used again."""
        self._gone_constraints: set[tuple[str, str]] = set()
        self._gone_columns: set[tuple[str, str]] = set()
        self._filled: set[str] = set()
        """Tables in which the revision writes rows."""
        self._made: set[str] = set()
        """Tables and views that statements of the revision create."""
        self.changed = False
        """Whether an operation that changes the schema was read."""

    @contextmanager
    def as_it_is(self) -> Iterator[None]:
        """Answer from the current state of the server."""
        self.ahead = False
        try:
            yield
        finally:
            self.ahead = True

    # Answers.

    def scalar(self, question: "sa.TextClause", **parameters: object) -> Any:
        """Ask for one value."""
        if self.ahead:
            if question is catalog.KIND and (name := parameters["table"]) in self._indexes:
                kind = "I" if name in self._partitioned else "i"
                return kind if self._indexes[str(name)] else None
            if self._is_gone(parameters):
                return None
        return super().scalar(question, **parameters)

    def rows(self, question: "sa.TextClause", **parameters: object) -> Sequence[Any]:
        """Ask for rows."""
        if not self.ahead:
            return super().rows(question, **parameters)
        if self._is_gone(parameters):
            return []
        found = super().rows(question, **parameters)
        table = str(parameters.get("table"))
        if question in _FIRST_IS_CONSTRAINT:
            return [row for row in found if (table, row[0]) not in self._gone_constraints]
        if question is catalog.COLUMN_INDEXES:
            return [row for row in found if self._indexes.get(row[0], row) is not None]
        if question in (catalog.TABLE_DEPENDENTS, catalog.COLUMN_DEPENDENTS):
            return [row for row in found if not self._is_gone_by_description(row[0])]
        return found

    def _is_gone(self, parameters: dict[str, object]) -> bool:
        table = str(parameters.get("table"))
        return (
            table in self._gone
            or (table, parameters.get("column")) in self._gone_columns
            or (table, parameters.get("name")) in self._gone_constraints
        )

    def _is_gone_by_description(self, what: str) -> bool:
        """Return whether an object is dropped, by the server's description: "constraint c on table t"."""
        _, _, name = what.rpartition("view ")
        return (
            name in self._gone
            or any(what.endswith(f" on table {table}") for table in self._gone)
            or any(what == f"constraint {name} on table {table}" for table, name in self._gone_constraints)
        )

    def index(self, name: str) -> Found | None:
        """Return the index of a quoted name, without waiting for the end of its build."""
        if not self.ahead:
            return self._index(name)
        if name in self._indexes:
            return self._indexes[name]
        found = self._index(name)
        return None if found is not None and found.table in self._gone_oids else found

    def _drop_table(self, table: str) -> None:
        self._gone_oids.add(str(super().scalar(catalog.OID, table=table)))
        self._gone.add(table)

    def is_of_revision(self, table: str) -> bool:
        """Return whether the revision creates a table, by an operation or a statement."""
        return (self.ahead and table in self._made) or super().is_of_revision(table)

    def safe_to_lock(self, table: str) -> bool:
        """Return whether locking a table blocks nobody: it is new, missing, or will have no rows."""
        if self.ahead and table in self._filled and not self.created_in_this_run(table):
            if table in self._made:
                self.unknown.append(f"whether {table} will have rows")
            return False
        return super().safe_to_lock(table)

    @contextmanager
    def copy_of(self, table: str, how: str = "LIKE {}") -> Iterator[None]:
        """Try something on an empty copy of a table; note why it could not be tried."""
        try:
            with super().copy_of(table, how):
                yield
        except DBAPIError as error:
            if not error.connection_invalidated:
                later = self.changed and driver.sqlstate(error) in driver.UNDEFINED
                when = "before earlier operations of the revision" if later else "on an empty copy"
                self.unknown.append(f"it cannot be tried {when} ({first_line(error)})")
            raise

    # Changes by the operations.

    def remember(self, operation: ops.MigrateOperation, *, created: bool) -> None:
        """Record which objects will exist after an operation, and which will be dropped."""
        super().remember(operation, created=created)
        if not self.ahead:
            return
        self.changed = True
        match operation:
            case ops.CreateTableOp():
                self._gone.discard(self.render.quoted(operation.table_name, operation.schema))
            case ops.DropTableOp():
                self._drop_table(self.render.quoted(operation.table_name, operation.schema))
            case ops.RenameTableOp():
                self._gone.add(self.render.quoted(operation.table_name, operation.schema))
                self._gone.discard(self.render.quoted(operation.new_table_name, operation.schema))
            case ops.AddColumnOp() | ops.DropColumnOp():
                self._change_column(operation)
            case ops.CreateIndexOp() | ops.DropIndexOp() | RenameIndexOp():
                self._change_index(operation)
            case ops.AddConstraintOp():
                constraint = operation.to_constraint(self.render.context)
                table = self.render.quoted(constraint.table.name, constraint.table.schema)
                self._gone_constraints.discard((table, str(final_name(constraint, self.render.dialect))))
            case ops.DropConstraintOp():
                self._drop_constraint(operation)
            case ops.BulkInsertOp():
                self._filled.add(self.render.quoted(operation.table.name, operation.table.schema))
            case ops.ExecuteSQLOp():
                self._execute(sql_of(self.render, operation))

    def _change_column(self, operation: ops.AddColumnOp | ops.DropColumnOp) -> None:
        table = self.render.quoted(operation.table_name, operation.schema)
        if isinstance(operation, ops.AddColumnOp):
            self._gone_columns.discard((table, operation.column.name))
            return
        given = {"table": table, "column": operation.column_name}
        self._gone_constraints |= {(table, row[0]) for row in self.rows(catalog.COLUMN_FOREIGN_KEYS, **given)}
        self._indexes |= {row[0]: None for row in self.rows(catalog.COLUMN_INDEXES, **given)}
        self._gone_columns.add((table, operation.column_name))

    def _change_index(self, operation: ops.CreateIndexOp | ops.DropIndexOp | RenameIndexOp) -> None:
        if isinstance(operation, RenameIndexOp):
            old = self.render.quoted(operation.old_name, operation.schema)
            self._rename_index(old, self.render.quoted(operation.new_name, operation.schema))
            return
        index = operation.to_index(self.render.context)
        name = self.render.quoted(str(final_name(index, self.render.dialect)), operation.schema)
        if isinstance(operation, ops.DropIndexOp):
            self._indexes[name] = None
        elif (found := self.index(name)) is None or not found.valid:
            self._indexes[name] = Found("", True, "")  # noqa: FBT003 - valid
            if self.is_partitioned(self.render.quoted(operation.table_name, operation.schema)):
                self._partitioned.add(name)

    def _rename_index(self, old: str, new: str) -> None:
        if self.scalar(catalog.KIND, table=old) == "I":
            self._partitioned.add(new)
        self._indexes[new], self._indexes[old] = self.index(old), None

    def _drop_constraint(self, operation: ops.DropConstraintOp) -> None:
        table = self.render.quoted(operation.table_name, operation.schema)
        name = str(operation.constraint_name)
        if operation.constraint_type not in {"check", "foreignkey"}:
            self._indexes[self.render.quoted(name, operation.schema)] = None
        self._gone_constraints.add((table, name))

    def _execute(self, text: str) -> None:
        self._filled |= {name for name in sql.written(text) if sql.kind(text) == "rows"}
        for name in sql.created(text):
            # A table created from a query may have rows if a table that the query reads has rows.
            if self.exists(name):
                continue
            self._made.add(name)
            sources = [source for reader in readers(text) for source in _sources(reader)]
            if not all(self.safe_to_lock(source) for source in sources):
                self._filled.add(name)
            self._gone.discard(name)
        for reader in readers(text):
            if reader.takes("DROP"):
                self._drop(reader)
            elif reader.takes("ALTER", "INDEX"):
                reader.takes("IF", "EXISTS")
                old = reader.name()
                if reader.takes("RENAME", "TO") and old and (new := reader.name()):
                    self._rename_index(old, new)

    def _drop(self, reader: Reader) -> None:
        index = reader.takes("INDEX")
        reader.takes("CONCURRENTLY")
        reader.takes("MATERIALIZED")
        if not index and not reader.takes("TABLE") and not reader.takes("VIEW"):
            return
        reader.takes("IF", "EXISTS")
        for name in reader.names():
            if index:
                self._indexes[name] = None
            else:
                self._drop_table(name)


def _sources(reader: Reader) -> Iterator[str]:
    """Yield the tables that a query reads, as far as they follow FROM."""
    while reader.after("FROM"):
        if (name := reader.name()) is not None:
            yield name
