"""The plan of ``-x online=plan``: read the revisions, and print what a run would do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from alembic.config import Config
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from alembic_online import catalog
from alembic_online.errors import OnlineError, RefusedError, first_line
from alembic_online.internals import steps_of, transaction_of_revision
from alembic_online.options import Request
from alembic_online.plan import REFUSED, Counts
from alembic_online.plan_executor import LATER, PlanExecutor
from alembic_online.program import Program
from alembic_online.run import Run, opts_out, way_of
from alembic_online.server import NoServer
from alembic_online.session import lost
from alembic_online.simulated import SimulatedServer


class UnreadableError(Exception):
    """Ends the reading of a revision, because the next operation would change the database."""


class Planner(Run):
    """A run that prints what it would do, and changes nothing.

    :param say: prints a line.
    """

    def __init__(self, context: MigrationContext, say: Callable[[str], None]) -> None:
        super().__init__(context, lock_wait=None, request=Request())
        self.mode.reading = True
        self.counts = Counts()
        self._say = say
        self._asked = SimulatedServer(self.session, self._server.render)
        self._asked.reading = True
        self._blind = NoServer(self.session, self._server.render)
        self._blind.created = self._asked.created  # tables that the plan knows to be new

    def print_plan(self, **arguments: Any) -> None:
        """Print what would run, instead of Alembic's ``run_migrations``.

        Raises :class:`OnlineError` for a stamp, or if another relation has the name of the journal.
        """
        if self.context.purge:
            raise OnlineError("-x online=plan is for alembic upgrade and alembic downgrade")
        try:
            heads = self.context.get_current_heads()
        except DBAPIError as error:
            raise OnlineError(f"no plan: cannot read the database's revision: {first_line(error)}") from error
        self.journal.require_name()
        first = True
        with self._reading():
            for step in steps_of(self.context, heads):
                if not isinstance(step, RevisionStep):
                    raise OnlineError("-x online=plan is for alembic upgrade and alembic downgrade")
                self._print_revision(step, arguments, first=first)
                first = False
        if first:
            self._say(f"nothing to do: the database is at {', '.join(heads) or 'no revision'}")
        self._say(str(self.counts))

    def note(self, text: str) -> None:
        """Print a line in the plan."""
        marks = "" if self._server is self._asked else f"; {LATER}"
        self._say(f"  {text}{marks}")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Make the session read-only, with row security as in a run."""
        session = self.session
        before = str(session.scalar(catalog.ROW_SECURITY))
        session.set({"row_security": "off"})
        try:
            with session.read_only():
                yield
        finally:
            connection = session.connection
            if not connection.invalidated and not connection.closed:
                connection.rollback()
                session.set({"row_security": before})
                connection.commit()

    def _print_revision(self, step: RevisionStep, arguments: dict[str, Any], *, first: bool) -> None:
        self.counts.revisions += 1
        mode = self.mode
        mode.revision = self.session.revision = step.revision.revision
        self._server = self._asked if first else self._blind
        self._server.to_be_checked.clear()
        mode.skipping = opts_out(step)
        mode.active = not mode.skipping
        plan = PlanExecutor(
            self._server,
            self._asked,
            self._blind,
            self.journal,
            Program(),
            mode,
            say=self._say,
            counts=self.counts,
        )
        self.executor = plan
        self._say(str(step))
        if mode.skipping:
            self.note("online = False: it runs in one transaction and holds its locks until the end")
        try:
            self.journal.load(way_of(step))
            if self.journal:
                self.note("an interrupted run has begun it; it is finished online")
            with transaction_of_revision(self.context):
                step.migration_fn(**arguments)
        except Exception as error:  # noqa: BLE001 - the next revision can still be read
            if self.session.connection.invalidated:
                raise lost(error) from None
            self._stop(error, at_once=not plan.read)
            plan.read += 1
        if not plan.read:
            self.note("no operations")

    def _stop(self, error: Exception, *, at_once: bool) -> None:
        """Print why a revision was not read to its end.

        An error before the first operation would also stop a run. A later error may come from reading
        something that an operation of the revision would have created.
        """
        said = str(error)
        if isinstance(error, DBAPIError):
            said = first_line(error)
        elif not isinstance(error, CommandError | UnreadableError):
            said = f"{type(error).__name__}: {said}"
        said = "; ".join(line.strip() for line in said.splitlines() if line.strip())
        found_at_once = self._server is self._asked and at_once
        expected = isinstance(error, UnreadableError | DBAPIError)
        if isinstance(error, RefusedError) or (found_at_once and not expected):
            self.counts.add(REFUSED)
            self.note(f"{REFUSED}: {said}")
        else:
            self.note(f"it could be read only to this point: {said}")

    def copy(self, _batch: Any, table: Any) -> NoReturn:
        """Refuse that a batch copies its table; replaces the first method that Alembic calls to copy it.

        Raises :class:`UnreadableError`.
        """
        if self.mode.active:
            self.executor.refuse_copy(table.name, table.schema)
        raise UnreadableError(f"op.batch_alter_table copies {table.name}")


def plan_instead(context: MigrationContext, config: Config) -> Planner:
    """Make a context print a plan instead of running migrations."""
    planner = Planner(context, config.print_stdout)

    def print_plan(**arguments: Any) -> None:
        planner.print_plan(**arguments)
        if not planner.counts[REFUSED]:
            return
        if hasattr(config.cmd_opts, "cmd"):  # on the command line, the plan says it all
            raise SystemExit(1)
        raise RefusedError(f"the plan contains {REFUSED} operations: {planner.counts}")

    context.run_migrations = print_plan  # type: ignore[method-assign] # it would create the version table
    impl: Any = context.impl
    impl.prep_table_for_batch = planner.copy
    return planner
