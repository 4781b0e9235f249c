"""One online run of Alembic: which revisions, and which of their operations, run in which way."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from alembic_online import driver
from alembic_online.errors import ChangedError, OnlineError, RefusedError, first_line
from alembic_online.filling.operation import BackfillOp
from alembic_online.internals import Implementation, copied, transaction_of_revision
from alembic_online.journal import Entry, Journal
from alembic_online.live import Live
from alembic_online.log import log
from alembic_online.operations import plan, refuse
from alembic_online.operations.description import describe, name_of, title, written_tables
from alembic_online.operations.refusals import copied_table, refuse_because
from alembic_online.render import Renderer
from alembic_online.script import HEAD, Script
from alembic_online.server import NoServer, Server
from alembic_online.session import Session, lost
from alembic_online.steps import BuildIndex, Setting, Step

KEY = "alembic_online"
"""Where the options of an enabled context hold its run, or None where all runs in one transaction."""


class Run:
    """One run of Alembic.

    :param requested: whether it was asked for; if not, only what was begun online is finished online.
    """

    def __init__(self, context: MigrationContext, *, lock_wait: float | None, requested: bool = True) -> None:
        self.context = context
        self.offline = context.as_sql
        self.planning = False
        """Whether a revision is only read through."""
        self.active = True
        """Whether the revision that runs runs online."""
        self.skipping = False
        """Whether the revision runs in one transaction, after an online run that did a part of it."""
        self.filled = 0
        """Rows that the backfills of the current pass changed."""
        self.session = Session(context, lock_wait)
        render = Renderer(context)
        self.journal = Journal(self.session, render)
        self._server: Server = (NoServer if self.offline else Server)(self.session, render)
        self._operations = Operations(context)
        self._requested = requested
        self._revision = ""

    # The run: one step for each revision.

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock out other migrations; after an error, say what the next run needs."""
        with self.session.held():
            try:
                self.journal.require_name()
                yield
            except BaseException:
                if needed := sorted(self.journal.made):
                    log.warning(
                        "%s is not finished; the next run needs what this one has made: %s",
                        self._revision,
                        ", ".join(needed),
                    )
                raise

    def steps(self, found: Iterable[MigrationStep]) -> Iterator[MigrationStep]:
        """Yield Alembic's steps, each made ready before it runs."""
        if self.offline:
            self.context.impl.static_output(HEAD)
        for step in found:
            self.active = self.skipping = False
            self.journal.leave()
            self._server.to_be_checked.clear()
            if isinstance(step, RevisionStep):
                self._begin(step)
            yield step

    def _begin(self, step: RevisionStep) -> None:
        self._revision = self.session.revision = step.revision.revision
        if not self.offline:
            self.journal.load(f"{'upgrade' if step.is_upgrade else 'downgrade'} {self._revision}")
        begun = bool(self.journal)
        if getattr(step.revision.module, "online", True) is False:
            self.skipping = begun
            if self._requested or self.skipping:
                done = ", without what an online run has done already" if self.skipping else ""
                log.info("%s says online = False: it runs in one transaction%s", self._revision, done)
            return
        if not self._requested:
            if not begun:
                return
            log.info("%s was begun online, and is finished online", self._revision)
        self.active = True
        if not self.offline:
            self._read_through(step)
            self.journal.restart()

    def _read_through(self, step: RevisionStep) -> None:
        """Read the revision through without doing anything, so that what is refused is so before it starts.

        A revision that reads what it has just written cannot be read to its end; what comes after that is
        refused where it stands.
        """
        created = set(self._server.created)
        self.planning = self._server.reading = True
        try:
            with self.session.read_only(), transaction_of_revision(self.context):
                step.migration_fn()
        except RefusedError:
            raise
        except Exception as error:  # noqa: BLE001 - as below
            if self.session.connection.invalidated:
                raise lost(error) from None
            # Whatever it is will come again when the revision runs.
            log.debug("%s cannot be read through: %s", self._revision, error)
        finally:
            self.planning = self._server.reading = False
            self._server.created = created

    def stamped(self, **_: object) -> None:
        """Forget what was done of a revision, in the transaction that stamps it."""
        if not self.offline:
            self.journal.forget()

    # Its operations.

    def carry_out(self, operation: ops.MigrateOperation, original: Implementation) -> Any:
        """Carry out an operation of a revision, unless an earlier run has done it.

        :param original: does it in one transaction, or writes it to a script.
        """
        text = None if self.offline else describe(self._server.render, operation, original)
        entry = None if text is None else self.journal.entry(text)
        if entry is not None:
            self._believe(entry, operation)
            if entry.done:
                if not self.planning:
                    log.info("done already: %s", title(text or ""))
                return self._recall(operation, entry.state)
        self._refuse(operation, entry)
        if self.planning:
            return self._foresee(operation)
        if self.skipping:
            self._require_whole(entry)
            return original(self._operations, operation)
        if self.offline:
            return self._write(operation, original)
        return self._execute(operation, original, entry, text)

    def _believe(self, entry: Entry, operation: ops.MigrateOperation) -> None:
        """Do again what made a table that is gone, and what was done to that."""
        made = self.journal.believe(entry, lambda: written_tables(self._server.render, operation))
        if made and not self.planning:
            log.info("%s is gone, and made again", ", ".join(made))

    def _refuse(self, operation: ops.MigrateOperation, entry: Entry | None) -> None:
        """Raise :class:`RefusedError` for an operation without a way that lets others read and write."""
        if not self.active:
            return
        with self._refusing():
            if not self.offline and self.session.connection.in_nested_transaction():
                refuse_because(
                    f"{name_of(operation)} within begin_nested()",
                    "each operation commits by itself, which a savepoint cannot contain",
                    "move it out of the with statement",
                )
            if entry is None or entry.steps is None:
                if not self.offline:
                    self._server.made = set(self.journal.made)
                refuse(self._server, operation)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Have a refusal say where it is, and whether anything was done."""
        try:
            yield
        except RefusedError as error:
            before = self.planning or self.offline
            state = "was not started" if before else "stopped here, to go on another time"
            raise RefusedError(f"revision {self._revision} {state}: {error}") from error.__cause__

    def refuse_copy(self, table: str, schema: str | None) -> None:
        """Raise :class:`RefusedError` for a batch that copies a table, unless that has no rows."""
        with self._refusing():
            copied_table(self._server, table, schema)

    def queue(self, batch: Operations, operation: ops.MigrateOperation, original: Implementation) -> Any:
        """Have Alembic carry out an operation at the end of its batch, which copies a table without rows."""
        with self._refusing():
            try:
                return original(batch, operation)
            except CommandError as error:
                raise RefusedError(str(error)) from error

    def _foresee(self, operation: ops.MigrateOperation) -> Any:
        """Return what an operation that is only read would return, and note which tables are new by it."""
        return self._recall(operation, {"backfill": {"changed": 0}, **self._will_create(operation)})

    def _will_create(self, operation: ops.MigrateOperation) -> dict[str, bool]:
        if not isinstance(operation, ops.CreateTableOp):
            return {}
        name = self._server.render.quoted(operation.table_name, operation.schema)
        return {} if operation.if_not_exists and self._server.exists(name) else {"created": True}

    def _recall(self, operation: ops.MigrateOperation, state: dict[str, Any]) -> Any:
        """Return what an operation that is done already returned."""
        self._server.remember(operation, created="created" in state)
        if isinstance(operation, BackfillOp):
            self.filled += state["backfill"]["changed"]
            return state["backfill"]["changed"]
        if isinstance(operation, ops.CreateTableOp):
            return copied(operation).to_table(self.context)
        return None

    def _write(self, operation: ops.MigrateOperation, original: Implementation) -> Any:
        with self._refusing():
            steps = plan(self._server, operation)
        script = Script(self._server, operation, lambda: original(self._operations, copied(operation)))
        script.write(steps)
        return self._recall(operation, {"backfill": {"changed": 0}, "created": True})

    def _require_whole(self, entry: Entry | None) -> None:
        """Raise :class:`OnlineError` for a half-done operation, which one transaction cannot finish."""
        steps = entry.steps if entry is not None else None
        if entry is not None and steps and entry.state["at"]:
            raise OnlineError(
                f"revision {self._revision}: an online run was interrupted in {steps[0].what}; finish the"
                " operation online: take online = False out of the revision until that is done"
            )

    @contextmanager
    def _interrupted(self, what: str | None) -> Iterator[None]:
        """Have an error of an operation that an earlier run has begun say that; None: this run has."""
        try:
            yield
        except (DBAPIError, ChangedError) as error:
            changed = isinstance(error, ChangedError) or (driver.sqlstate(error) or "")[:2] in {"42", "2B"}
            if what is None or not changed:
                raise
            raise OnlineError(
                f"revision {self._revision}: an earlier run was interrupted in {what}, and this one cannot go"
                f" on: {first_line(error)}. If somebody has changed what it left, put that back"
            ) from error

    def _execute(
        self, operation: ops.MigrateOperation, original: Implementation, entry: Entry | None, text: str | None
    ) -> Any:
        created = self._will_create(operation)
        begun = time.monotonic()
        with self.session.outside(title(text or name_of(operation))):
            steps = entry.steps if entry is not None else None
            if steps is None:
                with self._refusing():
                    steps = plan(self._server, operation)
        if steps and isinstance(steps[0], Setting):
            original(self._operations, operation)
            with self.session.outside("keeps a setting"):  # which commits it
                return None
        with self.session.outside(title(text or name_of(operation))):
            if entry is not None:
                self.journal.begin()
                if entry.steps is None:
                    self.journal.plan(entry, steps, **created)
            live = Live(
                self._server,
                self.journal,
                entry,
                operation,
                lambda: original(self._operations, copied(operation)),
            )
            first = 0 if entry is None else entry.state["at"]
            with self._interrupted(steps[0].what if steps and first else None):
                live.execute(steps, first)
            if entry is not None and not entry.done:  # there was nothing to do
                self.journal.note(entry, done=True, steps=None, at=None)
        changed = live.result if isinstance(operation, BackfillOp) else None
        _say(operation, steps, changed, time.monotonic() - begun)
        return self._recall(
            operation, {"backfill": {"changed": changed}, **(entry.state if entry else created)}
        )


def _say(operation: ops.MigrateOperation, steps: list[Step], changed: object, seconds: float) -> None:
    """Log what an operation did."""
    if not steps:
        return
    first = steps[0]
    what = f"{changed} {operation.what}" if isinstance(operation, BackfillOp) else first.what
    if isinstance(first, BuildIndex) or any(
        "CONCURRENTLY" in text for text in getattr(first, "work", None) or ()
    ):
        what += " concurrently"
    # Comments are many, and nobody waits for one.
    level = logging.DEBUG if what.lower().startswith("comment on") else logging.INFO
    log.log(level, "%s: %.1f s", what, seconds)
