"""One online run of Alembic: decides how each revision and each of its operations runs."""

import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from sqlalchemy import event

from alembic_online import catalog, sql
from alembic_online.effects import expected_objects
from alembic_online.errors import OnlineError, RefusedError
from alembic_online.executor import Executor
from alembic_online.internals import Implementation, transaction_of_revision
from alembic_online.journal import Journal, replaced
from alembic_online.log import log
from alembic_online.operations.description import title
from alembic_online.options import Request
from alembic_online.program import Item, Mode, Program
from alembic_online.render import Renderer
from alembic_online.script import HEAD
from alembic_online.server import NoServer, Server
from alembic_online.session import Session, around_autocommit_block, lost

KEY = "alembic_online"
"""The key of the run in the options of an enabled context; the value is None without an online run."""


def way_of(step: RevisionStep) -> str:
    """Return the journal's name for a revision and its direction, like "upgrade 003"."""
    return f"{'upgrade' if step.is_upgrade else 'downgrade'} {step.revision.revision}"


def opts_out(step: RevisionStep) -> bool:
    """Return whether a revision has ``online = False``."""
    return getattr(step.revision.module, "online", True) is False


class Run:
    """One run of Alembic.

    :param request: the value of ``-x online``. Without it, only revisions that were begun online run online.
    """

    def __init__(self, context: MigrationContext, *, lock_wait: float | None, request: Request) -> None:
        self.context = context
        self.offline = context.as_sql
        self.mode = Mode()
        self.session = Session(context, lock_wait)
        render = Renderer(context)
        self.journal = Journal(self.session, render)
        self._server: Server = (NoServer if self.offline else Server)(self.session, render)
        self._request = request
        self._program = Program()
        self.executor = Executor(self._server, self.journal, self._program, self.mode)
        self._ours = 0
        if not self.offline:
            around_autocommit_block(context, self._ended_group)

    @contextmanager
    def _ended_group(self) -> Iterator[None]:
        """End a group of rows before an autocommit_block() commits it."""
        self.executor.groups.close()
        yield

    # The run: one step for each revision.

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock of migrations; after an error, log what the next run needs."""
        with self.session.held():
            event.listen(self.session.connection, "before_cursor_execute", self._look_for_writes)
            try:
                self.journal.require_name()
                yield
            except BaseException as error:
                if self._program.resumed and not isinstance(error, OnlineError):
                    log.warning(
                        "an earlier run was interrupted in %s; if objects that it created cause this error,"
                        " undo its changes and start over with -x online=restart",
                        self.mode.revision,
                    )
                if needed := sorted(self.journal.made):
                    log.warning(
                        "%s is not finished; keep these tables for the next run: %s",
                        self.mode.revision,
                        ", ".join(needed),
                    )
                raise
            finally:
                event.remove(self.session.connection, "before_cursor_execute", self._look_for_writes)

    def steps(self, found: Iterable[MigrationStep]) -> Iterator[MigrationStep]:
        """Yield Alembic's steps, and prepare each before it runs."""
        if self.offline:
            self.context.impl.static_output(HEAD)
        steps = [*found]
        if not self.offline:
            self._require_finished(steps)
        for step in steps:
            self.mode.active = self.mode.skipping = False
            self.journal.leave()
            self._server.to_be_checked.clear()
            if isinstance(step, RevisionStep):
                self._begin(step)
            yield step

    def _require_finished(self, steps: list[MigrationStep]) -> None:
        """Raise :class:`OnlineError` if an interrupted run went in the other direction."""
        ways = {way_of(step) for step in steps if isinstance(step, RevisionStep)}
        if len(ways) < len(steps):  # a stamp, which clears the journal
            return
        back = any(way.startswith("downgrade") for way in ways)
        for begun in self.journal.unfinished():
            if begun not in ways and (back or begun.startswith("downgrade")):
                raise OnlineError(
                    f"nothing was changed: the {begun.replace(' ', ' of ')} was interrupted; finish it first:"
                    f" alembic -x online {begun.partition(' ')[0]}"
                )

    def _begin(self, step: RevisionStep) -> None:
        revision = self.mode.revision = self.session.revision = step.revision.revision
        begun = False
        self._program = Program(revision)
        if not self.offline:
            self.journal.load(way_of(step))
            self._restart()
            begun = bool(self.journal)
        online = self._is_online(step, begun=begun)
        self.mode.active, self.mode.skipping = online, begun and not online
        self.executor = Executor(self._server, self.journal, self._program, self.mode)
        if begun:
            self._resume()
        if online and not self.offline:
            self._read_through(step, Program(revision) if begun else self._program)

    def _is_online(self, step: RevisionStep, *, begun: bool) -> bool:
        revision = self.mode.revision
        if opts_out(step):
            if self._request.online or begun:
                done = ", without the operations that an online run has done" if begun else ""
                log.info("%s says online = False: it runs in one transaction%s", revision, done)
            return False
        if begun and not self._request.online:
            log.info("%s was begun online and is finished online", revision)
        return begun or self._request.online

    def _restart(self) -> None:
        """Clear the journal of an interrupted revision, if a restart was requested."""
        if not self._request.restart or not self.journal:
            return
        rows = [state["title"] for _, _, state in self.journal.begun if "values" in state]
        if rows and not self._request.with_rows:
            raise OnlineError(
                f"revision {self.mode.revision} cannot start over, because these statements would run twice:"
                f" {'; '.join(rows)}; undo them and run -x online=restart-with-rows"
            )
        self.journal.clear()

    def _resume(self) -> None:
        """Continue a revision that an earlier run has begun.

        Raises :class:`OnlineError` if objects that it created no longer exist, or an older version began it.
        """
        revision = self.mode.revision
        if self.journal.read is None:
            raise OnlineError(
                f"revision {revision} was begun by an older version of alembic_online: finish it with that"
                " version, or undo its changes and start it over with -x online=restart"
            )
        begun = self.journal.begun
        items = {
            Item(digest, number, state["title"]): state
            for digest, number, state in begun
            if "free" not in state
        }
        done = [item for item, state in items.items() if "done" in state]
        self._program.resume(self.journal.read, items, done)
        expected = expected_objects(
            effect for *_, state in begun if "done" in state for effect in state.get("effects", ())
        )
        kinds, tables, names = zip(*sorted(expected), strict=True) if expected else ((), (), ())
        gone = self.session.rows(catalog.GONE, kinds=[*kinds], tables=[*tables], names=[*names])
        named = [f"{row.kind} {row.name} of {row.tab}" for row in gone]
        named += [f"table {name} (replaced by another table)" for name in replaced(self.session, begun)]
        if named:
            raise OnlineError(
                f"revision {revision}: an earlier run was interrupted in it, and objects that it created no"
                f" longer exist: {', '.join(named)}; restore them, or undo the other changes and start it"
                " over with -x online=restart"
            )

    def _read_through(self, step: RevisionStep, program: Program) -> None:
        """Read the revision without executing it, so that operations are refused before it starts.

        A revision that reads what it has just written cannot be read to its end. Later operations are refused
        only when the run reaches them.
        """
        created = set(self._server.created)
        executor, self.executor = self.executor, Executor(self._server, self.journal, program, self.mode)
        groups = self.executor.groups
        self.mode.reading = self._server.reading = True
        try:
            with self.session.read_only(), transaction_of_revision(self.context), _silence():
                step.migration_fn()
            program.complete = True
        except RefusedError:
            raise
        except Exception as error:  # noqa: BLE001 - as below
            if self.session.connection.invalidated:
                raise lost(error) from None
            # The error occurs again when the revision runs.
            log.debug("%s cannot be read through: %s", self.mode.revision, error)
        finally:
            self.mode.reading = self._server.reading = False
            self._server.created = created
            self.journal.restart()
            self.executor = executor
            executor.groups.know(groups)

    def stamped(self, **_: object) -> None:
        """Clear the journal of a revision, in the transaction that stamps it.

        Raises :class:`OnlineError` if a resumed revision may have skipped operations.
        """
        if self.offline:
            return
        if self.mode.active or self.mode.skipping:
            self.executor.groups.close()
            self._program.require_all()
        self.journal.forget()

    # Operations.

    def execute(self, operation: Any, original: Implementation) -> Any:
        """Execute an operation of a revision; see :meth:`Executor.execute`."""
        self._ours += 1
        try:
            return self.executor.execute(operation, original)
        finally:
            self._ours -= 1

    def _look_for_writes(self, _connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        """Warn of writes outside of operations: an earlier run may already have made them."""
        if self._ours or self.mode.reading or not self._program.resumed or not self.mode.active:
            return
        if sql.writes(statement) and self.context.version_table not in statement:
            log.warning(
                "%s writes through op.get_bind(); an earlier run may already have done this: %s",
                self.mode.revision,
                title(statement),
            )


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress what this thread prints."""
    with redirect_stdout(_OtherThreads(sys.stdout)):
        yield


class _OtherThreads:
    """A stream that prints only for other threads."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        """Print, unless the silenced thread calls it."""
        return len(text) if threading.get_ident() == self._thread else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
