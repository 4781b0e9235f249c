"""The questions that handlers ask the server."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from alembic.operations import ops

from alembic_online import catalog, sql
from alembic_online.render import Renderer
from alembic_online.session import Session, literal
from alembic_online.waiting import Holders

if TYPE_CHECKING:
    import sqlalchemy as sa


class Found(NamedTuple):
    """An existing index or constraint of a given name."""

    table: str
    valid: bool
    definition: str


class Server:
    """Answers questions about the database. The server of a script answers "not known" (None)."""

    can_tell = True
    """Whether there is a server to ask."""

    def __init__(self, session: Session, render: Renderer) -> None:
        self.render = render
        self.session = session
        self.created: set[str] = set()
        """Tables that this run, or this script, has created."""
        self.made: set[str] = set()
        """Tables that the revision has created, also from a query; so they may have rows."""
        self.reading = False
        """Whether a revision is only read."""
        self.to_be_checked: set[str] = set()
        """Tables to which the revision adds a constraint that may prove that a column has no NULL."""

    def scalar(self, question: "sa.TextClause", **parameters: object) -> Any:
        """Ask for one value."""
        return self.session.scalar(question, **parameters)

    def rows(self, question: "sa.TextClause", **parameters: object) -> Sequence[Any]:
        """Ask for rows."""
        return self.session.rows(question, **parameters)

    def is_at_least(self, major: int) -> bool:
        """Return whether the server has this major version of PostgreSQL or a later one."""
        return bool(self.scalar(catalog.VERSION) >= major * 10_000)

    def exists(self, relation: str) -> bool:
        """Return whether a table, view or index of this name exists."""
        return self.scalar(catalog.KIND, table=relation) is not None

    def is_partitioned(self, table: str) -> bool:
        """Return whether a table has partitions."""
        return bool(self.scalar(catalog.KIND, table=table) == "p")

    def created_in_this_run(self, table: str) -> bool:
        """Return whether this run, or this script, has created a table."""
        return table in self.created

    def is_of_revision(self, table: str) -> bool:
        """Return whether the revision has created a table, so that nobody else uses it yet."""
        return bool(self.scalar(catalog.AMONG, table=table, names=[*self.made]))

    def safe_to_lock(self, table: str) -> bool:
        """Return whether locking a table blocks nobody: it is new in this run, missing or empty."""
        if self.created_in_this_run(table):
            return True
        restricted = self.scalar(catalog.IS_RESTRICTED, table=table)
        if restricted is None:
            return True
        if restricted:
            return False  # a row security policy makes the query below an error
        return not self.scalar(literal(f"SELECT EXISTS (SELECT FROM {table})"))  # noqa: S608 - quoted

    def lockable(self, table: str, *, sure: bool = True) -> tuple[str, ...]:  # noqa: ARG002 - for a script
        """Return a table to lock.

        :param sure: whether it must exist.
        """
        return (table,)

    def index(self, name: str) -> Found | None:
        """Return the index of a quoted name; wait if another process is still building it."""
        found = self._index(name)
        if found is None or found.valid:
            return found
        with self.session.outside(f"create index {name}"):
            holders, started = Holders(self.session, f"create index {name}"), time.monotonic()
            while (
                found is not None
                and not found.valid
                and (builder := self.scalar(catalog.BUILDER, index=name)) is not None
            ):
                holders.check(started, f"process {builder}, which builds it")
                time.sleep(0.5)
                found = self._index(name)
        return found

    def _index(self, name: str) -> Found | None:
        row = next(iter(self.rows(catalog.INDEX, name=name)), None)
        return None if row is None else Found(*row)

    def constraint(self, table: str, name: str) -> Found | None:
        """Return the constraint of this name."""
        row = next(iter(self.rows(catalog.CONSTRAINT, table=table, name=name)), None)
        return None if row is None else Found(table, *row)

    @contextmanager
    def copy_of(self, table: str, how: str = "LIKE {}") -> Iterator[None]:
        """Provide an empty copy of a table, :data:`catalog.PROBE`, in a transaction that is rolled back.

        :param how: the definition of the copy; ``{}`` stands for the table.
        """
        with self.session.outside("asks the server, on an empty copy of a table"):
            connection = self.session.connection
            try:
                connection.exec_driver_sql("BEGIN READ WRITE")
                self.session.run_sql(f"CREATE TEMP TABLE {catalog.PROBE} ({how.format(table)})")
                yield
            except BaseException:
                with suppress(Exception):  # an error of a lost connection would hide the cause
                    connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("ROLLBACK")

    def run(self, statements: Iterable[str]) -> None:
        """Try statements on a copy."""
        for statement in statements:
            self.session.run_sql(statement)

    def remember(self, operation: ops.MigrateOperation, *, created: bool) -> None:
        """Record which tables are new after an operation.

        :param created: whether a CreateTableOp created its table.
        """
        if isinstance(operation, ops.CreateTableOp) and created:
            self.created.add(self.render.quoted(operation.table_name, operation.schema))
        if isinstance(operation, ops.DropTableOp):
            self.created.discard(self.render.quoted(operation.table_name, operation.schema))
        if isinstance(operation, ops.RenameTableOp):
            old = self.render.quoted(operation.table_name, operation.schema)
            if old in self.created:
                self.created.discard(old)
                self.created.add(self.render.quoted(operation.new_table_name, operation.schema))


class NoServer(Server):
    """The server of a script: it knows only what the script itself creates."""

    can_tell = False

    def scalar(self, question: "sa.TextClause", **parameters: object) -> Any:  # noqa: ARG002
        """Return None, for not known."""
        return None

    def rows(self, question: "sa.TextClause", **parameters: object) -> Sequence[Any]:  # noqa: ARG002
        """Return no rows, for not known."""
        return ()

    def is_at_least(self, major: int) -> bool:  # noqa: ARG002
        """Return False, because the version may be any."""
        return False

    def safe_to_lock(self, table: str) -> bool:
        """Return whether the script has created a table; any other may have rows."""
        return self.created_in_this_run(table)

    def is_of_revision(self, table: str) -> bool:
        """Return whether the script has created a table, also from a query."""
        return table in self.made

    def lockable(self, table: str, *, sure: bool = True) -> tuple[str, ...]:
        """Return a table to lock, if it must exist."""
        return (table,) if sure else ()

    def remember(self, operation: ops.MigrateOperation, *, created: bool) -> None:
        """Record which tables are new after an operation, including those that op.execute creates."""
        super().remember(operation, created=created and not getattr(operation, "if_not_exists", False))
        if isinstance(operation, ops.ExecuteSQLOp):
            self.made.update(sql.created(str(operation.sqltext)))
