"""The interpreter that prints steps for ``-x online=plan``: the statement, its lock, who would wait."""

import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import singledispatchmethod
from typing import Any

from alembic.operations import ops

from alembic_online import catalog, locks, sql
from alembic_online.filling.operation import BackfillOp
from alembic_online.live import backfill_of
from alembic_online.locks import Lock
from alembic_online.operations.description import describe, name_of, shown, title, update_of
from alembic_online.probe import index_of_part
from alembic_online.render import counted, table_name
from alembic_online.server import Server
from alembic_online.steps import (
    BuildIndex,
    BuildParts,
    Fill,
    Locking,
    NonBlocking,
    Rows,
    Setting,
    Step,
    Validate,
    Work,
)
from alembic_online.tokens import statements

IN_TRANSACTION = "in one transaction"
"""The kind of an operation of a revision with online = False."""

DONE, REFUSED = "already done", "refused"

_KINDS = {
    Locking: ("brief statement", "brief statements"),
    NonBlocking: ("long statement", "long statements"),
    BuildIndex: ("index build", "index builds"),
    BuildParts: ("index build of partitions", "index builds of partitions"),
    Rows: ("change of rows", "changes of rows"),
    Validate: ("validation", "validations"),
    Fill: ("backfill", "backfills"),
    Setting: ("setting", "settings"),
    IN_TRANSACTION: (f"operation {IN_TRANSACTION}", f"operations {IN_TRANSACTION}"),
}


class Counts:
    """How many steps of each kind a plan has."""

    def __init__(self) -> None:
        self.revisions = 0
        self._found: Counter[Any] = Counter()

    def __getitem__(self, kind: object) -> int:
        return self._found[kind]

    def add(self, kind: object) -> None:
        """Count a step."""
        self._found[kind] += 1

    def __str__(self) -> str:
        steps = sum(self._found[kind] for kind in _KINDS)
        parts = [counted(self._found[kind], *words) for kind, words in _KINDS.items() if self._found[kind]]
        text = f"{counted(self.revisions, 'revision', 'revisions')}, {counted(steps, 'step', 'steps')}"
        return "; ".join(
            [
                f"{text}: {', '.join(parts)}" if parts else text,
                *(f"{self._found[kind]} {kind}" for kind in (DONE, REFUSED) if self._found[kind]),
            ]
        )


def _parts(text: str) -> list[str]:
    """Return the statements of a text."""
    return [text[tokens[0].begin : tokens[-1].end] for tokens in statements(text) if tokens]


class Plan:
    """Prints the steps of one operation.

    :param original: executes the operation as Alembic itself does.
    """

    def __init__(
        self,
        server: Server,
        operation: ops.MigrateOperation,
        original: Callable[..., Any],
        *,
        say: Callable[[str], None],
        counts: Counts,
    ) -> None:
        self._server = server
        self._operation = operation
        self._original = original
        self._say = say
        self._counts = counts
        self._remarks: list[str] = []
        """Remarks for each line: why it is uncertain."""

    def write(self, steps: list[Step], remarks: Iterable[str], done: int = 0) -> None:
        """Print the steps.

        :param remarks: why the printed lines are uncertain.
        :param done: how many of the steps an interrupted run has done.
        """
        self._remarks = [*remarks]
        if not steps:
            self._line(f"nothing to do: {self._title()}")
        for step in steps[:done]:
            self._counts.add(DONE)
            self._line(f"{DONE}: {step.what}")
        for step in steps[done:]:
            self._counts.add(Locking if self._is_comment(step) else type(step))
            self._take(step)

    def write_done(self, remarks: Iterable[str]) -> None:
        """Print that an interrupted run has done the operation."""
        self._remarks = [*remarks]
        self._counts.add(DONE)
        self._line(f"{DONE}: {self._title()}")

    def write_refused(self, why: str, remarks: Iterable[str]) -> None:
        """Print why the operation would stop the run."""
        self._remarks = [*remarks]
        self._counts.add(REFUSED)
        self._line(f"{REFUSED}: {why}")

    def write_in_transaction(self, remarks: Iterable[str]) -> None:
        """Print what Alembic does for the operation, in the transaction of its revision."""
        self._remarks = [*remarks]
        self._counts.add(IN_TRANSACTION)
        self._step(self._title(), self._statements(None), brief=False)

    @singledispatchmethod
    def _take(self, step: Any) -> None:
        raise NotImplementedError(step)

    @_take.register
    def _setting(self, step: Setting) -> None:
        self._step(step.what, self._statements(step.work))

    @_take.register
    def _locking(self, step: Locking) -> None:
        unknown = ["whether it rewrites the table is not known"] if step.warning else []
        mode = locks.ALL if step.stops_reads else locks.WRITES
        if isinstance(self._operation, ops.ExecuteSQLOp):
            others = []  # only its words are known
        else:
            others = [Lock(mode, table) for table in step.locks]
        self._step(step.what, self._statements(step.work), others=others, unknown=unknown)

    @_take.register
    def _non_blocking(self, step: NonBlocking) -> None:
        self._step(step.what, self._statements(step.work), brief=self._is_comment(step))

    @_take.register
    def _build_index(self, step: BuildIndex) -> None:
        self._step(step.what, [step.index.create(concurrently=True)], brief=False)

    @_take.register
    def _build_parts(self, step: BuildParts) -> None:
        """Print the indexes of the existing partitions."""
        server, index = self._server, step.index
        for part in server.rows(catalog.PARTITIONS_WITHOUT, table=index.table, index=index.full):
            of_part = index_of_part(server, index, part.table, part.schema)
            if server.is_partitioned(of_part.table):
                whole = of_part.create(only=True)
                self._step(f"create index {of_part.name}", [whole])
                self._build_parts(BuildParts(step.what, of_part))
            else:
                empty = server.safe_to_lock(of_part.table)
                statement = of_part.create(concurrently=not empty)
                self._step(f"create index {of_part.name}", [statement], brief=empty)
            attach = f"ALTER INDEX {index.full} ATTACH PARTITION {of_part.full}"
            self._step(f"attach {of_part.name}", [attach])

    @_take.register
    def _rows(self, step: Rows) -> None:
        self._step(step.what, self._statements(None), brief=step.guarded)

    @_take.register
    def _validate(self, step: Validate) -> None:
        self._step(step.what, [self._server.render.validation(step)], brief=False)

    @_take.register
    def _fill(self, step: Fill) -> None:
        operation: Any = self._operation if step.default is None else backfill_of(step.default, step.what)
        self._line(step.what)
        self._under(update_of(self._server.render, operation))
        table = table_name(self._server.render.dialect, operation.table)
        self._under(
            f"-- {locks.ROWS} on {table}, in batches: nobody waits, except briefly for a row of a batch;"
            " runs as long as it takes"
        )

    # Lines.

    def _step(
        self,
        what: str,
        statements: list[str],
        *,
        brief: bool = True,
        others: Iterable[Lock] = (),
        unknown: Iterable[str] = (),
    ) -> None:
        if [*map(title, statements)] == [what] and "\n" not in statements[0]:
            self._line(statements[0])  # the title would repeat it
        else:
            self._line(what)
            for statement in statements:
                self._under(statement)
        parts = [part for statement in statements for part in _parts(statement)]
        taken = [locks.taken(part) for part in parts]
        new = {name for part in parts for name in self._new(part)}
        known = [lock for found in taken for lock in found or () if lock.on not in new]
        named = {lock.on for lock in known}
        others = [*others, *(lock for part in parts for lock in _locked_with(self._server, part))]
        found = locks.strongest([*known, *(lock for lock in others if lock.on not in named)])
        said = [self._waits(found, brief=brief)] if found or None not in taken else []
        said += unknown
        if None in taken:
            said.append("its other locks are not known" if found else "its locks are not known")
        self._under(f"-- {'; '.join(said)}")

    def _new(self, part: str) -> Iterator[str]:
        """Yield the tables and views that a statement creates, and nobody locks."""
        yield from sql.created(part)
        if self._server.can_tell and sql.begins_with(part, "CREATE", "OR", "REPLACE", "VIEW"):
            yield from (lock.on for lock in locks.taken(part) or () if not self._server.exists(lock.on))

    def _waits(self, found: list[Lock], *, brief: bool) -> str:
        """Return which locks are taken, who waits for them, and how long."""
        server = self._server
        existing = [
            lock
            for lock in found
            if not server.created_in_this_run(lock.on) and not server.is_of_revision(lock.on)
        ]
        if not existing:
            return "nobody waits: the table is new" if found else "no table lock: nobody waits"
        by_mode = {
            mode: [lock.on for lock in existing if lock.mode == mode] for mode in reversed(locks.STRENGTH)
        }
        modes = ", ".join(f"{mode} on {', '.join(on)}" for mode, on in by_mode.items() if on)
        who = locks.who_waits(existing)
        if who == "nobody":
            return f"{modes}: nobody waits" + ("" if brief else "; runs as long as it takes")
        verb = "waits" if who == "everybody" else "wait"
        return f"{modes}: {who} {verb}, {'briefly' if brief else 'as long as it takes'}"

    def _is_comment(self, step: Step) -> bool:
        return isinstance(step, NonBlocking) and all(
            sql.begins_with(text, "COMMENT") for text in self._statements(step.work)
        )

    def _line(self, text: str) -> None:
        self._say(textwrap.indent("; ".join([text, *self._remarks]), "  "))

    def _under(self, text: str) -> None:
        self._say(textwrap.indent(text, "      "))

    def _title(self) -> str:
        if isinstance(self._operation, BackfillOp):
            return self._operation.what
        return title(next(iter(self._statements(None)), name_of(self._operation)))

    def _statements(self, work: Work) -> list[str]:
        """Return the statements of a step; for None, the statements that Alembic itself executes."""
        if work is not None:
            return [*work]
        operation, render = self._operation, self._server.render
        if isinstance(operation, BackfillOp):
            return [update_of(self._server.render, operation)]
        if isinstance(operation, ops.BulkInsertOp):
            table = render.quoted(operation.table.name, operation.table.schema)
            count = len(operation.rows)
            return [f"INSERT INTO {table} -- {counted(count, 'row', 'rows')}"]
        if isinstance(operation, ops.ExecuteSQLOp):
            return [textwrap.dedent(shown(render, operation)).strip()]
        lines = render.plain(describe(render, operation, self._original).written).expandtabs(4).splitlines()
        text = "\n".join(line.rstrip() for line in lines if line.strip())
        return _parts(text)


def _locked_with(server: Server, statement: str) -> Iterator[Lock]:
    """Yield the locks of DROP TABLE on tables that the statement does not name."""
    for name in locks.dropped_tables(statement):
        for (other,) in server.rows(catalog.LOCKED_WITH, table=name):
            yield Lock(locks.ALL, other)
