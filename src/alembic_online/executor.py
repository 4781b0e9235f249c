"""Execute the operations of a revision, each by its own steps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic.operations import Operations, ops
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError

from alembic_online import driver, sql
from alembic_online.effects import effects
from alembic_online.errors import ChangedError, OnlineError, RefusedError, first_line
from alembic_online.filling.operation import BackfillOp
from alembic_online.groups import Groups
from alembic_online.internals import Implementation, copied
from alembic_online.journal import Entry, Journal
from alembic_online.live import Live
from alembic_online.log import log
from alembic_online.operations import plan, refuse
from alembic_online.operations.description import (
    Description,
    describe,
    name_of,
    remember_types,
    written_tables,
)
from alembic_online.operations.refusals import copied_table, refuse_because
from alembic_online.operations.rows import rows_of
from alembic_online.program import Item, Mode, Program
from alembic_online.script import Script
from alembic_online.server import Server
from alembic_online.steps import BuildIndex, Rows, Setting, Step


class Executor:
    """Executes the operations of one revision."""

    def __init__(self, server: Server, journal: Journal, program: Program, mode: Mode) -> None:
        self.filled = 0
        """Rows that the backfills of the current pass changed."""
        self.offline = not server.can_tell
        self.groups = Groups(server.session, journal, program, mode)
        self._server = server
        self._session = server.session
        self._context = server.render.context
        self._journal = journal
        self._program = program
        self._mode = mode
        self._operations = Operations(self._context)

    def execute(self, operation: ops.MigrateOperation, original: Implementation) -> Any:
        """Execute an operation of a revision, unless an earlier run has done it.

        :param original: executes it in one transaction, or writes it to a script.
        """
        if self.offline:
            self._refuse(operation, None)
            return self._write(operation, original)
        description = describe(self._server.render, operation, original)
        if (rows := rows_of(self._server.render, operation)) is not None:
            self._refuse(operation, None)
            return self._change_rows(operation, original, description, rows)
        entry = self._entry(operation, description)
        if entry is not None and entry.done:
            if not self._mode.reading:
                log.info("already done: %s", description.title)
            remember_types(self._context, description)
            return self._recall(operation, entry.state)
        self._refuse(operation, entry)
        if self._mode.reading:
            return self._recall(operation, {"backfill": {"changed": 0}, **self._will_create(operation)})
        if self._mode.skipping:
            self._require_whole(entry)
            return original(self._operations, operation)
        return self._execute(operation, original, entry, description)

    def _change_rows(
        self, operation: ops.MigrateOperation, original: Implementation, description: Description, step: Rows
    ) -> None:
        self.groups.execute(
            step,
            sql.without_values(description.text or ""),
            description.values,
            written_tables(self._server.render, operation),
            lambda: original(self._operations, copied(operation)),
        )

    def _entry(self, operation: ops.MigrateOperation, description: Description) -> Entry | None:
        """Return the journal entry of an operation, or None if it is not recorded."""
        if description.text is None:
            self.groups.end_before("what is not noted")  # enters a digest in the journal: never change it
            return None
        entry = self._journal.entry(description.text)
        self.groups.end_before(f"{entry.digest} {entry.number}")
        if self._mode.converging:
            if entry.done:
                entry.state.clear()
        else:
            item = Item(entry.digest, entry.number, description.title)
            (self._program.read if self._mode.reading else self._program.ask)(item)
        dropped = self._journal.reset_if_dropped(
            entry, lambda: written_tables(self._server.render, operation)
        )
        if dropped and not self._mode.reading:
            log.info("dropped since an earlier run; recreating: %s", ", ".join(dropped))
        return entry

    def _refuse(self, operation: ops.MigrateOperation, entry: Entry | None) -> None:
        """Raise :class:`RefusedError` for an operation that cannot run without blocking others."""
        if not self._mode.active:
            return
        with self._refusing():
            if not self.offline and self._session.connection.in_nested_transaction():
                refuse_because(
                    f"{name_of(operation)} within begin_nested()",
                    "each operation commits by itself, which is impossible inside a savepoint",
                    "move it out of the with statement",
                )
            if entry is None or entry.steps is None:
                if not self.offline:
                    self._server.made = set(self._journal.made)
                refuse(self._server, operation)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Add to a refusal its revision, and whether that was started."""
        try:
            yield
        except RefusedError as error:
            before = self._mode.reading or self.offline
            state = "stopped here and can be resumed"
            if before:
                state = "was not resumed" if not self.offline and self._journal else "was not started"
            raise RefusedError(f"revision {self._mode.revision} {state}: {error}") from error.__cause__

    def refuse_copy(self, table: str, schema: str | None) -> None:
        """Raise :class:`RefusedError` for a batch that copies a table, unless the table has no rows."""
        with self._refusing():
            copied_table(self._server, table, schema)

    def queue(self, batch: Operations, operation: ops.MigrateOperation, original: Implementation) -> Any:
        """Queue an operation of a batch that copies an empty table; Alembic executes it with the batch."""
        with self._refusing():
            try:
                return original(batch, operation)
            except CommandError as error:
                raise RefusedError(str(error)) from error

    def _will_create(self, operation: ops.MigrateOperation) -> dict[str, bool]:
        if not isinstance(operation, ops.CreateTableOp):
            return {}
        name = self._server.render.quoted(operation.table_name, operation.schema)
        return {} if operation.if_not_exists and self._server.exists(name) else {"created": True}

    def _recall(self, operation: ops.MigrateOperation, state: dict[str, Any]) -> Any:
        """Return the result of an operation that is done, and remember which tables it created."""
        self._server.remember(operation, created="created" in state)
        if isinstance(operation, BackfillOp):
            self.filled += state["backfill"]["changed"]
            return state["backfill"]["changed"]
        if isinstance(operation, ops.CreateTableOp):
            return copied(operation).to_table(self._context)
        return None

    def _require_whole(self, entry: Entry | None) -> None:
        """Raise :class:`OnlineError` for a partly done operation, which one transaction cannot finish."""
        steps = entry.steps if entry is not None else None
        if entry is not None and steps and entry.state["at"]:
            raise OnlineError(
                f"revision {self._mode.revision}: an online run was interrupted in {steps[0].what}; finish"
                " the operation online: remove online = False from the revision until that is done"
            )

    def _write(self, operation: ops.MigrateOperation, original: Implementation) -> Any:
        with self._refusing():
            steps = plan(self._server, operation)
        script = Script(self._server, operation, lambda: original(self._operations, copied(operation)))
        script.write(steps)
        return self._recall(operation, {"backfill": {"changed": 0}, "created": True})

    def _execute(
        self,
        operation: ops.MigrateOperation,
        original: Implementation,
        entry: Entry | None,
        description: Description,
    ) -> Any:
        begun = time.monotonic()
        with self._session.outside(description.title):
            created = self._will_create(operation)
            stored = entry.steps if entry is not None else None
            steps = stored
            if steps is None:
                with self._refusing():
                    steps = plan(self._server, operation)
            if not (steps and isinstance(steps[0], Setting)):
                if entry is not None:
                    self._journal.begin(self._program.to_json())
                    if stored is None:
                        known: dict[str, Any] = {"free": True}
                        if not self._mode.converging:
                            known = {"effects": effects(self._server.render, operation)}
                        entry.plan(steps, title=description.title, **known, **created)
                live = Live(
                    self._server,
                    self._journal,
                    entry,
                    operation,
                    lambda: original(self._operations, copied(operation)),
                )
                first = 0 if entry is None else entry.state["at"]
                with self._interrupted(steps[0].what if steps and first else None):
                    live.execute(steps, first)
                if entry is not None and not entry.done:  # there was nothing to do
                    entry.state = self._journal.note(entry, done=True, steps=None, at=None)
                changed = live.result if isinstance(operation, BackfillOp) else None
                _say(operation, steps, changed, time.monotonic() - begun)
                state = entry.state if entry is not None else created
                return self._recall(operation, {"backfill": {"changed": changed}, **state})
        original(self._operations, operation)
        with self._session.outside("keeps a setting"):  # leaving the transaction commits it
            return None

    @contextmanager
    def _interrupted(self, what: str | None) -> Iterator[None]:
        """Explain errors of an operation that an earlier run has begun.

        :param what: the operation, or None if this run has begun it.
        """
        try:
            yield
        except (DBAPIError, ChangedError) as error:
            changed = isinstance(error, ChangedError) or (driver.sqlstate(error) or "")[:2] in {"42", "2B"}
            if what is None or not changed:
                raise
            raise OnlineError(
                f"revision {self._mode.revision}: an earlier run was interrupted in {what}, and this one"
                f" cannot continue: {first_line(error)}. If someone changed what that run left, restore it"
            ) from error


def _say(operation: ops.MigrateOperation, steps: list[Step], changed: Any, seconds: float) -> None:
    """Log what an operation did."""
    if not steps:
        return
    first = steps[0]
    what = operation.result(changed) if isinstance(operation, BackfillOp) else first.what
    if isinstance(first, BuildIndex) or any(
        "CONCURRENTLY" in text for text in getattr(first, "work", None) or ()
    ):
        what += " concurrently"
    # There are many comments, and they block nobody.
    say = log.debug if what.lower().startswith("comment on") else log.info
    say("%s: %.1f s", what, seconds)
