"""Print the operations of a revision instead of executing them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from alembic.operations import Operations, ops
from sqlalchemy.exc import DBAPIError

from alembic_online.errors import OnlineError, RefusedError, first_line
from alembic_online.executor import Executor
from alembic_online.internals import Implementation
from alembic_online.journal import Journal
from alembic_online.operations import plan
from alembic_online.operations.description import describe
from alembic_online.operations.refusals import copied_table
from alembic_online.operations.rows import rows_of
from alembic_online.plan import REFUSED, Counts, Plan
from alembic_online.program import Mode, Program
from alembic_online.server import NoServer, Server
from alembic_online.simulated import SimulatedServer
from alembic_online.steps import Rows, Step

LATER = "depends on earlier revisions"
WITHIN = "depends on earlier operations of the revision"


class PlanExecutor(Executor):
    """Prints the operations of one revision.

    :param server: the server for this revision: ``asked`` or ``blind``.
    :param asked: the server for the first revision, which answers questions; ``blind``: for later ones.
    :param say: prints a line.
    """

    def __init__(
        self,
        server: Server,
        asked: SimulatedServer,
        blind: NoServer,
        journal: Journal,
        program: Program,
        mode: Mode,
        *,
        say: Callable[[str], None],
        counts: Counts,
    ) -> None:
        super().__init__(server, journal, program, mode)
        self.offline = False
        self.read = 0
        """The number of operations that were read."""
        self._asked = asked
        self._blind = blind
        self._counts = counts
        self._say = say
        self._copied: set[str] = set()
        self._remarks: list[str] = []
        """Why the lines of the operation are uncertain."""

    def execute(self, operation: ops.MigrateOperation, original: Implementation) -> Any:
        """Print an operation of a revision, and return its result as far as that is known.

        :param original: executes it in one transaction.
        """
        self.read += 1
        self._remarks = [] if self._server is self._asked else [LATER]
        self._asked.unknown.clear()
        nested = self._session.connection.in_nested_transaction()
        with nullcontext() if nested else self._session.outside("plan"):
            return self._print(operation, original)

    def _print(self, operation: ops.MigrateOperation, original: Implementation) -> Any:
        description = describe(self._server.render, operation, original)
        writer = Plan(self._server, operation, original, say=self._say, counts=self._counts)
        rows = rows_of(self._server.render, operation)
        entry = None
        if rows is not None:
            self._change_rows(operation, original, description, rows)
        else:
            entry = self._entry(operation, description)
        if self.groups.done if rows is not None else entry is not None and entry.done:
            writer.write_done(self._remarks)
            with self._asked.as_it_is():
                return self._simulate(operation, {} if entry is None else entry.state)
        if self._mode.skipping:
            writer.write_in_transaction(self._remarks)
            return self._simulate(operation)
        try:
            with self._asked.as_it_is():  # like a run before it starts
                self._refuse(operation, entry)
            before = entry.steps if entry is not None else None
            steps = self._steps(operation, rows) if before is None else before
        except OnlineError as error:
            writer.write_refused(str(error), self._remarks)
            with self._asked.as_it_is():  # a refused operation changes nothing
                return self._simulate(operation)
        done = entry.state["at"] if entry is not None and before is not None else 0
        self._remarks += [f"not known: {what}" for what in dict.fromkeys(self._asked.unknown)]
        writer.write(steps, self._remarks, done)
        return self._simulate(operation)

    def _simulate(self, operation: ops.MigrateOperation, state: dict[str, Any] | None = None) -> Any:
        known = self._will_create(operation) if state is None else state
        return self._recall(operation, {"backfill": {"changed": 0}, **known})

    def _steps(self, operation: ops.MigrateOperation, rows: Rows | None) -> list[Step]:
        """Return the steps of an operation; if the server cannot tell, the steps of a script."""
        if rows is not None:
            return [rows]
        # The second try does without an empty copy.
        for can_tell in (True, False) if self._server is self._asked else ():
            self._asked.can_tell = can_tell
            try:
                return plan(self._asked, operation)
            except OnlineError as error:
                if not self._asked.changed:
                    raise
                self._remarks.append(f"{WITHIN}; on the current database: {error}")
                break
            except DBAPIError as error:
                if error.connection_invalidated:
                    raise
                if not self._asked.unknown:
                    self._remarks.append(f"not known: {first_line(error)}")
            finally:
                self._asked.can_tell = True
        return plan(self._blind, operation)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Leave a refusal unchanged, because it is printed under its revision."""
        yield

    def refuse_copy(self, table: str, schema: str | None) -> None:
        """Print once that a batch copies a table."""
        self.read += 1
        name = self._server.render.quoted(table, schema)
        if name in self._copied:
            return
        self._copied.add(name)
        try:
            with self._asked.as_it_is():
                copied_table(self._server, table, schema)
        except RefusedError as error:
            self._counts.add(REFUSED)
            marks = "" if self._server is self._asked else f"; {LATER}"
            self._say(f"  {REFUSED}: {error}{marks}")

    def queue(
        self,
        batch: Operations,  # noqa: ARG002
        operation: ops.MigrateOperation,
        original: Implementation,  # noqa: ARG002
    ) -> Any:
        """Skip an operation of a batch that copies a table."""
        return self._simulate(operation)
