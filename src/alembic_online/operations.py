"""What each of Alembic's operations does online, and what is refused."""

import hashlib
import itertools
import logging
import re
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from functools import partial
from io import StringIO
from typing import Any, NamedTuple, cast

import psycopg
import sqlalchemy as sa
from alembic.operations import BatchOperations, Operations, ops, toimpl
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError, sqla_compat
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import conv

from alembic_online import catalog, sql
from alembic_online.copies import copied
from alembic_online.errors import OnlineError, RefusedError, driver_error, first_line
from alembic_online.filling import BackfillOp, fill_at_once, fill_in_batches, key_of, write_batches
from alembic_online.renaming import RenameIndexOp, rename_index
from alembic_online.run import (
    KEY,
    STRONG_LOCK_TIMEOUT,
    WEAK_LOCK_TIMEOUT,
    Entry,
    Found,
    Run,
    in_transaction,
)
from alembic_online.waiting import Holders

log = logging.getLogger(__name__)

LONGEST_NAME = 63
"""Bytes of a name of PostgreSQL's."""

_VIOLATIONS = (
    psycopg.errors.CheckViolation,
    psycopg.errors.ForeignKeyViolation,
    psycopg.errors.NotNullViolation,
)


_WRITTEN_ANEW = "the table"


class _Index(NamedTuple):
    """An index to be built: ``tail`` is what follows the table."""

    table: str
    schema: str | None
    name: str
    unique: bool
    tail: str


class Online(Run):
    """Carries out the operations of a run."""

    # What is refused.

    def refuse(self, operation: ops.MigrateOperation) -> None:
        """Raise :class:`RefusedError` for an operation without a way that lets others read and write."""
        if not self.offline and self.connection.in_nested_transaction():
            self._refuse(
                f"{_name_of(operation)} within begin_nested()",
                "each operation commits by itself, which a savepoint cannot contain",
                "move it out of the with statement",
            )
        if isinstance(operation, ops.AddConstraintOp):
            constraint = operation.to_constraint(self.context)
            table = self.quoted(constraint.table.name, constraint.table.schema)
            self._checked.add(table)
            if not self.is_new(table) and not self.without_ceremony(table):
                self._refuse_constraint(table, constraint)
            return
        if isinstance(operation, ops.ExecuteSQLOp):
            kind = kind_of(self._sql_of(operation))
            if kind == "transaction":
                self._refuse(
                    f"op.execute of {_title(self._sql_of(operation))}",
                    "each operation is a transaction of its own",
                    "leave it out",
                )
            if kind == "local":
                raise RefusedError(
                    f"revision {self._revision} {self._state_of_revision()}: SET LOCAL has no effect online,"
                    " where each operation is a transaction of its own; use SET, and RESET after it"
                )
            if not (operation.execution_options or {}).get("online"):
                self._refuse_statement(self._sql_of(operation))
            return
        if isinstance(operation, BackfillOp) and not self.offline:
            table = self.quoted(operation.walked.name, operation.walked.schema)
            if self.scalar(catalog.KIND, table=table) and key_of(self.connection, operation) is None:
                self._refuse(
                    f"a backfill over {table}",
                    "the server shows no pages of it, and it has no primary key to go over",
                    "fill it on the server that has the rows, or give it a primary key if it can have one",
                )
            return
        if not isinstance(operation, ops.RenameTableOp | ops.AddColumnOp | ops.AlterColumnOp):
            return
        table = self.quoted(operation.table_name, operation.schema)
        renamed = isinstance(operation, ops.AlterColumnOp) and operation.modify_name is not None
        if isinstance(operation, ops.RenameTableOp) or renamed:
            if not self.is_new(table) and not self.without_ceremony(table):
                self._refuse(
                    f"renaming {table}" + (f".{getattr(operation, 'column_name', '')}" if renamed else ""),
                    "programs that run use the old name",
                    "add the new one, fill it with op.backfill, and drop the old one in a later revision",
                )
        elif isinstance(operation, ops.AddColumnOp):
            if not self.is_new(table) and not self.without_ceremony(table):
                self._refuse_column(table, operation)
        elif self.offline:  # nothing else can be known without a catalog
            return
        elif operation.modify_type is not None and not self.without_ceremony(table):
            rewritten = self._rewritten_by_type(table, operation)
            if rewritten:
                self._refuse(
                    f"changing the type of {table}.{operation.column_name}",
                    f"PostgreSQL writes {', '.join(rewritten)} anew under a lock that stops reads and writes",
                    "add a column of the new type, keep it up to date, fill it with op.backfill, and drop the"
                    " old one in a later revision",
                )

    def _refuse(self, what: str, reason: str, instead: str) -> None:
        raise RefusedError(
            f"revision {self._revision} {self._state_of_revision()}: {what} is refused online, because"
            f" {reason}; {instead}; or, if the lock does no harm, put online = False at the top of the"
            " revision, which then runs in one transaction"
        )

    def _state_of_revision(self) -> str:
        return "was not started" if self.planning or self.offline else "stopped here, to go on another time"

    def refuse_copy(self, name: str, schema: str | None) -> None:
        """Raise :class:`RefusedError` for a batch that copies a table, unless that has no rows."""
        table = self.quoted(name, schema)
        if not self.is_new(table) and not self.without_ceremony(table):
            self._refuse(
                f'op.batch_alter_table with recreate="always" of {table}',
                "it copies all rows and puts the copy in the table's place under a lock that stops reads and"
                " writes",
                "leave recreate away: PostgreSQL does without, and a new column goes to the end",
            )

    def queue(self, batch: Operations, operation: ops.MigrateOperation, at_once: "_Implementation") -> Any:
        """Have Alembic carry out an operation at the end of its batch, which copies a table without rows."""
        try:
            return at_once(batch, operation)
        except CommandError as error:
            raise RefusedError(f"revision {self._revision} {self._state_of_revision()}: {error}") from error

    def _refuse_constraint(self, table: str, constraint: sa.Constraint) -> None:
        kind = type(constraint).__name__
        if isinstance(constraint, postgresql.ExcludeConstraint):
            self._refuse(
                f"an exclusion constraint on {table}",
                "PostgreSQL builds its index under a lock that stops reads and writes",
                "create it with a new table, and move the rows",
            )
        if self._name(table, constraint) is None:
            self._refuse(
                f"an unnamed {kind} on {table}",
                "a run that is repeated could not tell whether it is there",
                "give it a name",
            )
        partitioned = self._is_partitioned(table)
        foreign_key = isinstance(constraint, sa.ForeignKeyConstraint)
        unique = isinstance(constraint, sa.UniqueConstraint | sa.PrimaryKeyConstraint)
        if partitioned and unique:
            self._refuse(
                f"a {kind} on the partitioned table {table}",
                "PostgreSQL cannot make it of indexes that were built before",
                "op.create_index(…, unique=True) keeps out the same rows",
            )
        if partitioned and foreign_key and not self._server_is(18):
            self._refuse(
                f"a {kind} on the partitioned table {table}",
                "PostgreSQL checks all partitions under one lock",
                "add it to each partition under the same name, and to the table in a later revision with"
                " online = False, which then has nothing left to check",
            )

    def _refuse_statement(self, statement: str) -> None:
        """Raise :class:`RefusedError` for a statement that reads or writes all rows under its lock."""
        self._checked.update(sql.validated(statement))
        for work in sql.examine(statement):
            table = work.table
            if table is not None and not self.offline:
                table = self.scalar(catalog.TABLE_OF_INDEX, name=table) or table
            if table is not None and (
                self.is_new(table)
                or self.without_ceremony(table)
                or (not self.offline and self.scalar(catalog.AMONG, table=table, names=[*self._all_made()]))
            ):
                continue
            what = f"op.execute of {_title(statement)}"
            if isinstance(work, sql.Work):
                if work.column is None or self._may_have_null(table, work.column):
                    self._refuse(what, f"it {work.what} under a lock that stops others", work.instead)
            elif self.offline:
                self._warn(_title(statement))
            elif rewritten := self._tried(str(table), partial(self._try_actions, work.actions)):
                anew = [_WRITTEN_ANEW if name == catalog.PROBE else "an index" for name in sorted(rewritten)]
                self._refuse(
                    what,
                    f"PostgreSQL writes {', '.join(anew)} anew under a lock that stops reads and writes",
                    work.instead,
                )

    def _may_have_null(self, table: str | None, column: str) -> bool:
        """Return whether the server has to look for NULLs: no valid check says that there are none."""
        if self.offline or (self.planning and table in self._checked):
            return False
        return not self.scalar(catalog.HAS_NO_NULL, table=table, column=column)

    def _try_actions(self, actions: str, table: str) -> None:
        self.run_sql(f"ALTER TABLE {table} {actions}")

    def _tried(self, table: str, change: Callable[[str], object]) -> list[str]:
        """Return what a change writes anew; nothing where it cannot be tried."""
        try:
            return self.rewritten(table, change)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            log.debug("a change of %s cannot be tried: %s", table, first_line(error))
            return []

    def _refuse_column(self, table: str, operation: ops.AddColumnOp) -> None:
        column = operation.column
        there = not self.offline and self._column_type(table, column.name) is not None
        if there and not self.resumed:
            return
        holder = self._holder(operation)
        for constraint in self._constraints(operation, holder):
            self._refuse_constraint(table, constraint)
        if there or self.offline:
            return
        if isinstance(column.server_default, sa.DefaultClause):
            return
        plain = _plain_column(column)
        rewritten = ["its values"] if column.primary_key else []
        rewritten = rewritten or self._tried(table, lambda copy: self._add(copy, None, plain, operation))
        if rewritten:
            self._refuse(
                f"adding the column {table}.{column.name}",
                "PostgreSQL computes its value in every row under a lock that stops reads and writes",
                "add it nullable with a default or a trigger for new rows, and fill the others with"
                " op.backfill",
            )

    def _rewritten_by_type(self, table: str, operation: ops.AlterColumnOp) -> list[str]:
        def change(copy: str) -> None:
            self.context.impl.alter_column(
                copy, operation.column_name, type_=operation.modify_type, **operation.kw
            )

        return [
            _WRITTEN_ANEW if name == catalog.PROBE else "an index"
            for name in sorted(self._tried(table, change))
        ]

    def _server_is(self, major: int) -> bool:
        return not self.offline and self.scalar(catalog.VERSION) >= major * 10_000

    # The operations.

    def carry_out(
        self,
        operation: ops.MigrateOperation,
        original: Callable[[Operations, Any], Any],
        handler: Callable[["Online", Any], Any],
    ) -> Any:
        """Carry out an operation of a revision, unless an earlier run has done it."""
        text = None if self.offline else self._describe(operation, original)
        entry = None if text is None else self.entry(text)
        if entry is not None:
            self._believe(entry, operation)
        if entry is not None and "done" in entry.state:
            if not self.planning:
                log.info("done already: %s", _title(text))
            return self._recall(operation, entry.state)
        with ExitStack() as stack:
            if entry is not None:
                stack.enter_context(self.journaled(entry))
            if self.active:
                self.refuse(operation)
            if self.planning:
                return self._foresee(operation)
            if entry is None or self.skipping:
                return handler(self, operation)
            stack.enter_context(self.outside(_title(text)))
            self.open_journal()
            begun, self._did = time.monotonic(), None
            result = handler(self, operation)
            if "done" not in entry.state:
                self.note(done=True)
            if isinstance(operation, BackfillOp):
                self._did = f"{result} {operation.what}"
            if self._did is not None:
                # Comments are many, and nobody waits for one.
                level = logging.DEBUG if self._did.lower().startswith("comment on") else logging.INFO
                log.log(level, "%s: %.1f s", self._did, time.monotonic() - begun)
            return result

    def _believe(self, entry: Entry, operation: ops.MigrateOperation) -> None:
        """Have an operation done again whose table somebody has dropped since, and what was done to that."""
        made = self._rows(catalog.MISSING, names=entry.state["made"]) if entry.state.get("made") else ()
        if not made and (not self._again or self._again.isdisjoint(self._written(operation))):
            return
        if made and not self.planning:
            log.info("%s is gone, and made again", ", ".join(name for (name,) in made))
        for (name,) in made:
            self._again.add(str(self.scalar(catalog.LAST_NAME, name=name)))
        entry.state.clear()
        self._made.pop((entry.digest, entry.number), None)

    def _written(self, operation: ops.MigrateOperation) -> set[str]:
        """Return the tables, without schema, of which an operation changes rows or definition.

        Those that a backfill reads as well: it has to go over the new rows of them.
        """
        if isinstance(operation, BackfillOp):
            return {table.name for table in operation.tables}
        if isinstance(operation, ops.ExecuteSQLOp):
            found = _WRITTEN.match(_without_comments(self._sql_of(operation)))
            return set() if found is None else {str(self.scalar(catalog.LAST_NAME, name=found["name"]))}
        if isinstance(operation, ops.BulkInsertOp):
            return {operation.table.name}
        if isinstance(operation, ops.AddConstraintOp):
            return {operation.to_constraint(self.context).table.name}
        return {str(getattr(operation, "table_name", ""))}

    def _foresee(self, operation: ops.MigrateOperation) -> Any:
        """Return what an operation that is only read would return, and note which tables are new by it."""
        state: dict[str, Any] = {"backfill": {"changed": 0}}
        if isinstance(operation, ops.CreateTableOp):
            name = self.quoted(operation.table_name, operation.schema)
            if not operation.if_not_exists or self.scalar(catalog.KIND, table=name) is None:
                state["created"] = True
        return self._recall(operation, state)

    def _recall(self, operation: ops.MigrateOperation, state: dict[str, Any]) -> Any:
        """Return what an operation that is done already returned."""
        if isinstance(operation, BackfillOp):
            self.filled += state["backfill"]["changed"]
            return state["backfill"]["changed"]
        if isinstance(operation, ops.CreateTableOp):
            if "created" in state:
                self._created.add(self.quoted(operation.table_name, operation.schema))
            return _table_of(operation, self.context)
        if isinstance(operation, ops.DropTableOp):
            self._created.discard(self.quoted(operation.table_name, operation.schema))
        if isinstance(operation, ops.RenameTableOp):
            self._renamed(operation)
        return None

    def _describe(
        self, operation: ops.MigrateOperation, original: Callable[[Operations, Any], Any]
    ) -> str | None:
        """Return what an operation does, by which the next run knows it, or None for what each run repeats.

        It is the SQL of one transaction, with its values; but without those of new rows, which may hold the
        time or a random key: whatever is in them, they are inserted once.
        """
        if isinstance(operation, ops.BulkInsertOp):
            return f"bulk_insert {operation.table.fullname}"
        if isinstance(operation, BackfillOp):
            return f"backfill {self._with_values(operation.statement)}"
        if isinstance(operation, ops.ExecuteSQLOp):
            text = self._sql_of(operation)
            if kind_of(text) == "session" or _TEMPORARY.match(_without_comments(text)):
                return None
            if isinstance(operation.sqltext, str) or re.match(r"\s*INSERT\b", _without_comments(text), re.I):
                return text
            return self._with_values(operation.sqltext)
        script, output = self._scratch()
        operation = copied(operation)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # whatever there is to warn of comes again
                original(Operations(script), operation)
        except Exception as error:  # noqa: BLE001 - as above
            log.debug("%s cannot be written as SQL: %s", type(operation).__name__, error)
            names = ("table_name", "column_name", "index_name", "constraint_name", "schema")
            return " ".join(
                [type(operation).__name__, *(str(getattr(operation, name, "")) for name in names)]
            )
        return output.getvalue()

    def _scratch(self) -> tuple[MigrationContext, StringIO]:
        """Return a context that writes a script, and what it writes to, without its lines in the log."""
        if self._script is None:
            opts = {"target_metadata": self.context.opts.get("target_metadata")}
            opts |= {"as_sql": True, "output_buffer": StringIO(), "literal_binds": True}
            alembic_log = logging.getLogger(MigrationContext.__module__)
            alembic_log.addFilter(_nothing)
            try:
                self._script = MigrationContext.configure(dialect=self.context.dialect, opts=opts)
            finally:
                alembic_log.removeFilter(_nothing)
        self._script.impl.memo.clear()
        output = self._script.impl.output_buffer = StringIO()
        return self._script, output

    def _with_values(self, statement: Any) -> str:
        compiled = statement.compile(dialect=self.context.dialect)
        values = repr(sorted((compiled.params or {}).items()))
        return f"{compiled} {re.sub(' at 0x[0-9a-f]+', '', values)}"

    def _sql_of(self, operation: ops.ExecuteSQLOp) -> str:
        statement = operation.sqltext
        if isinstance(statement, str):
            return statement
        compiled = cast("sa.ClauseElement", statement).compile(dialect=self.context.dialect)
        return self.plain(str(compiled))

    def create_table(self, operation: ops.CreateTableOp) -> sa.Table:
        """Create a table, or comment on one that may be there."""
        table = _table_of(operation, self.context)
        name = self.quoted(operation.table_name, operation.schema)
        if operation.if_not_exists and not self.offline and self.scalar(catalog.KIND, table=name):
            # As CREATE TABLE IF NOT EXISTS, after which Alembic makes indexes and comments all the same.
            log.debug("%s already exists", name)
            for index in table.indexes:
                self._build(self._rendered(index))
            self.long(f"comment on {name}", lambda: self._comment(table), transaction=True, step="done")
            return table

        def create() -> None:
            toimpl.create_table(self.operations, copied(operation))
            self.note(created=True)

        parents = [] if operation.if_not_exists and self.offline else self._parents(table)
        self.brief(f"create table {name}", create, *parents, stops_reads=False, step="done")
        self._created.add(name)
        return table

    def _comment(self, table: sa.Table) -> None:
        if table.comment is not None:
            self.context.impl.create_table_comment(table)
        for column in table.columns:
            if column.comment is not None:
                self.context.impl.create_column_comment(column)

    def drop_table(self, operation: ops.DropTableOp) -> None:
        """Drop the foreign keys one by one, each of which locks another table, then the table."""
        name = self.quoted(operation.table_name, operation.schema)
        if not self.offline:
            self._refuse_dependents(name, self._rows(catalog.TABLE_DEPENDENTS, table=name))
            for constraint, parent in self._rows(catalog.FOREIGN_KEYS, table=name):
                self._drop_constraint(name, constraint, parent)
        locked = [] if self.offline and operation.if_exists else [name]
        self.brief(
            f"drop table {name}", lambda: toimpl.drop_table(self.operations, operation), *locked, step="done"
        )
        self._created.discard(name)

    def _refuse_dependents(self, what: str, dependents: Iterable[tuple[str]]) -> None:
        found = [name for (name,) in dependents]
        if found:
            verb = "depends" if len(found) == 1 else "depend"
            raise OnlineError(f"{what} cannot be dropped: {', '.join(found)} {verb} on it; drop that first")

    def table_comment(self, operation: ops.CreateTableCommentOp | ops.DropTableCommentOp) -> None:
        """Comment on a table, for which nobody has to wait."""
        write: Callable[..., None] = toimpl.drop_table_comment
        if isinstance(operation, ops.CreateTableCommentOp):
            write = toimpl.create_table_comment
        what = f"comment on {operation.table_name}"
        self.long(what, lambda: write(self.operations, operation), transaction=True, step="done")

    def rename_table(self, operation: ops.RenameTableOp) -> None:
        """Rename a table without rows; any other is refused."""
        name = self.quoted(operation.table_name, operation.schema)
        self.brief(
            f"rename {name}", lambda: toimpl.rename_table(self.operations, operation), name, step="done"
        )
        self._renamed(operation)

    def _renamed(self, operation: ops.RenameTableOp) -> None:
        old = self.quoted(operation.table_name, operation.schema)
        if old in self._created:
            self._created.discard(old)
            self._created.add(self.quoted(operation.new_table_name, operation.schema))

    def add_column(self, operation: ops.AddColumnOp) -> None:
        """Add the bare column, then whatever would read or write the table."""
        table = self.quoted(operation.table_name, operation.schema)
        column, name = operation.column, operation.column.name
        what = f"add column {table}.{name}"
        holder = self._holder(operation)
        keys, indexes = list(holder.foreign_key_constraints), list(holder.indexes)
        locked = [] if self.offline and operation.if_not_exists else [table]
        if self.without_ceremony(table) and not self.resumed:
            self.brief(
                what,
                lambda: toimpl.add_column(self.operations, copied(operation)),
                table,
                *self._parents(holder),
                step="done",
            )
            return
        # With a key to it at once: PostgreSQL knows that a column of NULLs needs no check.
        inline = bool(
            operation.inline_references
            and not self.offline
            and len(keys) == 1
            and column.server_default is None
            and column.nullable is not False
        )
        # As Alembic does it, a column that is there stays as it is, and the rest is added to it.
        exists = (
            "column" not in self.state and not self.offline and self._column_type(table, name) is not None
        )
        there = exists and bool(operation.if_not_exists)
        if there:
            log.debug("%s.%s already exists", table, name)
        elif "fill" in self.state or (
            "column" not in self.state
            and not exists
            and isinstance(column.server_default, sa.DefaultClause)
            and self._default_rewrites(table, operation)
        ):
            self._add_with_default(what, table, operation)
            self._fill_default(operation)
        else:
            added = column._copy() if inline else _plain_column(column)
            if inline:
                added.index = added.unique = None
            if self.offline and column.server_default is not None:
                self._warn(f"the default of {table}.{name}")
            self.brief(
                what,
                lambda: self._add(operation.table_name, operation.schema, added, operation, inline=inline),
                *locked,
                *(self._parents(holder) if inline else ()),
                step="column",
            )
        if column.nullable is False and not self.offline and not there:
            self._set_not_null(table, name)
        for constraint in self._constraints(operation, holder):
            inside = constraint.table is not holder  # written with the column by Alembic
            if not (inline and constraint in keys) and not (inside and there):
                self._add_constraint(table, constraint)
        for index in indexes:
            self._build(self._rendered(index))
        if column.comment is not None:
            commented = holder.columns[name]
            self.long(
                f"comment on {table}.{name}",
                lambda: self.context.impl.create_column_comment(commented),
                transaction=True,
            )

    def _warn(self, what: str) -> None:
        self.context.impl.static_output(
            f"-- A script cannot ask the server whether {what} makes it write the table anew, under a lock"
            " that stops reads and writes."
        )

    def _holder(self, operation: ops.AddColumnOp) -> sa.Table:
        """Return Alembic's own way to a table for a new column, with the tables that it refers to."""
        table: sa.Table = self.operations.schema_obj.table(
            operation.table_name, operation.column._copy(), schema=operation.schema
        )
        return table

    def _constraints(self, operation: ops.AddColumnOp, holder: sa.Table) -> list[sa.Constraint]:
        """Return the constraints of a new column, those within its definition as constraints of a table."""
        found: list[sa.Constraint] = []
        for check in holder.columns[operation.column.name].constraints:
            if isinstance(check, sa.CheckConstraint):
                alone = sa.Table(holder.name, sa.MetaData(), schema=holder.schema)
                found.append(sa.CheckConstraint(check.sqltext, name=check.name, table=alone))
        for constraint in holder.constraints:
            rule = constraint._create_rule
            if isinstance(constraint, sa.PrimaryKeyConstraint) or (rule and not rule(self.context.impl)):
                continue
            if operation.inline_references and isinstance(constraint, sa.ForeignKeyConstraint):
                constraint.name = None  # that, Alembic leaves out
            found.append(constraint)
        return found

    def _add(
        self,
        table: str,
        schema: str | None,
        column: "sa.Column[Any]",
        operation: ops.AddColumnOp,
        *,
        inline: bool = False,
    ) -> None:
        added = column._copy()
        self.operations.schema_obj.table(table, added, schema=schema)
        self.context.impl.add_column(
            table,
            added,
            schema=schema,
            if_not_exists=operation.if_not_exists,
            inline_references=inline,
            **operation.kw,
        )

    def _default_rewrites(self, table: str, operation: ops.AddColumnOp) -> bool:
        """Return whether PostgreSQL would compute the default for each row, as for gen_random_uuid()."""
        if self.offline:
            return False
        plain = _plain_column(operation.column)
        return catalog.PROBE in self.rewritten(table, lambda copy: self._add(copy, None, plain, operation))

    def _add_with_default(self, what: str, table: str, operation: ops.AddColumnOp) -> None:
        """Add a column without its default and give it that in one statement: no row is written."""
        plain = _plain_column(operation.column)
        plain.server_default, plain.nullable = None, True
        holder = sa.Table(operation.table_name, sa.MetaData(), plain, schema=operation.schema)
        rendered = self._compiler().get_column_specification(holder.columns[plain.name])
        statement = (
            f"ALTER TABLE {table} ADD COLUMN {self.plain(rendered)},"
            f" ALTER COLUMN {self.quote(plain.name)} SET DEFAULT {self._default_of(operation.column)}"
        )

        def add() -> None:
            self.run_sql(statement)
            self.note(fill=True)

        self.brief(what, add, table, step="column")

    def _compiler(self) -> Any:
        compiler: Any = self.context.dialect.ddl_compiler
        return compiler(self.context.dialect, None)

    def _default_of(self, column: "sa.Column[Any]") -> str:
        return self.plain(str(self._compiler().get_column_default_string(_plain_column(column))))

    def _fill_default(self, operation: ops.AddColumnOp) -> None:
        name = operation.column.name
        table = sa.table(operation.table_name, sa.column(name), schema=operation.schema)
        fill_in_batches(
            self,
            BackfillOp(
                sa.update(table)
                .values({name: sa.literal_column(self._default_of(operation.column))})
                .where(table.c[name].is_(None)),
                what=f"rows of {operation.table_name} given their {name}",
            ),
        )

    def _column_type(self, table: str, column: str) -> Any:
        return self.scalar(catalog.COLUMN, table=table, column=column)

    def _format_type(self, column: "sa.Column[Any]") -> Any:
        """Return the server's name of a column's type."""
        with self._copy_of("", f"probed {column.type.compile(self.context.dialect)}"):
            return self._column_type(catalog.PROBE, "probed")

    def _parents(self, *holders: "sa.Table | sa.ForeignKeyConstraint") -> list[str]:
        """Return the tables that foreign keys, or those of tables, refer to."""
        found = []
        for holder in holders:
            keys = holder.foreign_key_constraints if isinstance(holder, sa.Table) else [holder]
            for key in keys:
                *schema, table, _ = next(iter(key.elements)).target_fullname.split(".")
                found.append(self.quoted(table, ".".join(schema) or None))
        return found

    def drop_column(self, operation: ops.DropColumnOp) -> None:
        """Drop foreign keys and indexes of the column one by one, then the column."""
        table = self.quoted(operation.table_name, operation.schema)
        column = operation.column_name
        if not self.offline and not self.without_ceremony(table):
            given = {"table": table, "column": column}
            self._refuse_dependents(f"{table}.{column}", self._rows(catalog.COLUMN_DEPENDENTS, **given))
            for constraint, parent in self._rows(catalog.COLUMN_FOREIGN_KEYS, **given):
                self._drop_constraint(table, constraint, parent)
            for (index,) in self._rows(catalog.COLUMN_INDEXES, **given):
                self._drop_index_concurrently(index)
        locked = [] if self.offline and operation.if_exists else [table]
        self.brief(
            f"drop column {table}.{column}",
            lambda: toimpl.drop_column(self.operations, operation),
            *locked,
            step="done",
        )

    def alter_column(self, operation: ops.AlterColumnOp) -> None:
        """Change default, type, nullability and comment, one after the other."""
        table = self.quoted(operation.table_name, operation.schema)
        what = f"alter column {table}.{operation.column_name}"
        if self.is_new(table) or (self.without_ceremony(table) and not self.resumed):
            self.brief(what, lambda: toimpl.alter_column(self.operations, operation), table, step="done")
            return
        if operation.modify_type is not None:
            self._alter_type(what, table, operation)
        default = operation.modify_server_default
        identity = isinstance(default, sa.Identity)  # for which the column has to be NOT NULL
        if default is not False and not identity:
            self._alter_part("default", what, table, operation, modify_server_default=default)
        if operation.modify_nullable is True:
            self._alter_part("nullable", what, table, operation, modify_nullable=True)
        elif operation.modify_nullable is False:
            self._set_not_null(table, operation.column_name)
        if identity:
            self._alter_part("default", what, table, operation, modify_server_default=default)
        if operation.modify_comment is not False:
            commented = self._part(operation, modify_comment=operation.modify_comment)
            self.long(what, lambda: toimpl.alter_column(self.operations, commented), transaction=True)

    def _alter_part(
        self, step: str, what: str, table: str, operation: ops.AlterColumnOp, **change: Any
    ) -> None:
        part = self._part(operation, **change)
        self.brief(what, lambda: toimpl.alter_column(self.operations, part), table, step=step)

    def _part(self, operation: ops.AlterColumnOp, **change: Any) -> ops.AlterColumnOp:
        """Return one of the changes of an operation as an operation of its own."""
        existing = {
            name: getattr(operation, name)
            for name in ("existing_type", "existing_server_default", "existing_nullable", "existing_comment")
        }
        return ops.AlterColumnOp(
            operation.table_name, operation.column_name, schema=operation.schema, **existing, **change
        )

    def _alter_type(self, what: str, table: str, operation: ops.AlterColumnOp) -> None:
        changed = self._part(operation, modify_type=operation.modify_type)
        changed.kw = operation.kw
        if self.offline:
            self._warn(f"the type of {table}.{operation.column_name}")
            self.brief(what, lambda: toimpl.alter_column(self.operations, changed), table)
            return
        column = operation.column_name
        wanted = self._format_type(sa.Column(column, operation.modify_type))
        if "type" not in self.state and self._column_type(table, column) != wanted:
            # A valid check would be tried on every row again, under the lock.
            checks = self._rows(catalog.COLUMN_CHECKS, table=table, column=column)

            def change() -> None:
                for row in checks:
                    self.run_sql(f"ALTER TABLE {table} DROP CONSTRAINT {self.quote(row.conname)}")
                toimpl.alter_column(self.operations, changed)
                for row in checks:
                    rule = f"ADD CONSTRAINT {self.quote(row.conname)} {row.definition} NOT VALID"
                    self.run_sql(f"ALTER TABLE {table} {rule}")
                    if row.comment is not None:
                        self.run_sql(row.comment)
                self.note(type=[row.conname for row in checks])

            self.brief(what, change, table)
        for check in self.state.get("type", ()):
            self._validate(table, check)

    def _set_not_null(self, table: str, column: str) -> None:
        """Prove that no row lacks a value while others write, then set NOT NULL, which needs no scan."""
        what = f"set not null {table}.{column}"
        alter = f"ALTER TABLE {table} ALTER COLUMN {self.quote(column)}"
        if self._server_is(18):
            step, given = f"not null {column}", {"table": table, "column": column}
            if self.scalar(catalog.NOT_NULL, **given) is None:
                self._step_of_rule(
                    what, f"ALTER TABLE {table} ADD NOT NULL {self.quote(column)} NOT VALID", table, step
                )
            name, valid = self.connection.execute(catalog.NOT_NULL, given).one()
            if not valid:
                self._validate(table, name, step=step, undo=f"{alter} DROP NOT NULL")
            return
        short = hashlib.md5(f"{table}.{column}".encode(), usedforsecurity=False).hexdigest()[:8]
        name = f"alembic_online_not_null_{short}"
        former = f"nexus_schema_not_null_{short}"  # of a run that an older version has begun
        if not self.offline and self._constraint(table, former) is not None:
            name = former
        if self.offline or not self.scalar(catalog.IS_NOT_NULL, table=table, column=column):
            self._prove(what, table, name, f"CONSTRAINT {name} CHECK ({self.quote(column)} IS NOT NULL)")
            self.brief(what, lambda: self.run_sql(f"{alter} SET NOT NULL"), table)
        if self.offline or self._constraint(table, name) is not None:
            self._drop_constraint(table, name)

    def _name(self, table: str, constraint: sa.Constraint) -> str | None:
        """Return the name of a constraint: its own, or PostgreSQL's choice, where that is known."""
        own = sqla_compat._get_constraint_final_name(constraint, self.context.dialect)
        if own is not None:
            return own
        named: Any = constraint
        if isinstance(constraint, sa.ForeignKeyConstraint):
            parts = [*constraint.column_keys, "fkey"]
        elif isinstance(constraint, sa.UniqueConstraint):
            parts = [*(column.name for column in named.columns), "key"]
        elif isinstance(constraint, sa.PrimaryKeyConstraint):
            parts = ["pkey"]
        else:
            return None
        name = "_".join([named.table.name, *parts])
        if len(name.encode()) > LONGEST_NAME:
            return None
        taken = not self.offline and not self.resumed and self.scalar(catalog.TAKEN, table=table, name=name)
        return None if taken else name

    def create_constraint(self, operation: ops.AddConstraintOp) -> None:
        """Add the constraint unproved, then prove it; a key gets its index first."""
        constraint = operation.to_constraint(self.context)
        table = self.quoted(constraint.table.name, constraint.table.schema)
        if self.is_new(table) or (self.without_ceremony(table) and not self.resumed):
            keys = [constraint] if isinstance(constraint, sa.ForeignKeyConstraint) else []
            self.brief(
                f"add constraint {constraint.name}",
                lambda: toimpl.create_constraint(self.operations, operation),
                table,
                *self._parents(*keys),
                stops_reads=not keys,
                step="done",
            )
            return
        self._add_constraint(table, constraint)

    def _add_constraint(self, table: str, constraint: sa.Constraint) -> None:
        name = self._name(table, constraint)
        assert name is not None  # noqa: S101 - else it was refused
        constraint.name = conv(name)
        what = f"add constraint {name}"
        step = f"add {name}"
        if not self.offline and step not in self.state and self._constraint(table, name) is not None:
            self._require_same(table, constraint, name)
        if isinstance(constraint, sa.UniqueConstraint | sa.PrimaryKeyConstraint):
            self._add_key(what, table, constraint, name, step)
            return
        keys = [constraint] if isinstance(constraint, sa.ForeignKeyConstraint) else []
        self._prove(
            what,
            table,
            name,
            self._specification(constraint).removesuffix(" NOT VALID"),
            *self._parents(*keys),
            stops_reads=not keys,
            prove=not constraint.dialect_options["postgresql"]["not_valid"],
        )

    def _specification(self, constraint: sa.Constraint) -> str:
        return self.plain(str(self._compiler().process(constraint)))

    def _prove(
        self,
        what: str,
        table: str,
        name: str,
        rule: str,
        *parents: str,
        stops_reads: bool = True,
        prove: bool = True,
    ) -> None:
        """Add a rule that new rows have to obey, then have the others looked through."""
        step = f"add {name}"
        found = None if self.offline else self._constraint(table, name)
        if found is None:
            add = f"ALTER TABLE {table} ADD {rule} NOT VALID"
            self._step_of_rule(what, add, table, step, *parents, stops_reads=stops_reads)
        if prove and (found is None or not found.valid):
            undo = f"ALTER TABLE {table} DROP CONSTRAINT {self.quote(name)}"
            self._validate(table, name, *parents, step=step, undo=undo)

    def _require_same(self, table: str, constraint: sa.Constraint, name: str) -> None:
        """Raise :class:`OnlineError` if a constraint of the name says something else than the wanted one.

        The server writes down both: one of them on an empty copy of the table, and of what it refers to.
        """
        found, wanted = self._constraint(table, name), None
        same_parent, rule = True, self._specification(constraint)
        with self._copy_of(table, "LIKE {}"), suppress(DBAPIError):
            if isinstance(constraint, sa.ForeignKeyConstraint):
                (parent,) = self._parents(constraint)
                referred = self.scalar(catalog.REFERRED_OID, table=table, name=name)
                same_parent = referred == self.scalar(catalog.OID, table=parent)
                copied = f"{catalog.PROBE}_parent"
                self.run_sql(f"CREATE TEMP TABLE {copied} (LIKE {parent} INCLUDING INDEXES)")
                rule = rule.replace(f" REFERENCES {parent} ", f" REFERENCES {copied} ", 1)
            self.run_sql(f"ALTER TABLE {catalog.PROBE} ADD {rule}")
            wanted = self._constraint(catalog.PROBE, name)
        if found is None or wanted is None or found.definition != wanted.definition or not same_parent:
            definition = "another one" if found is None else found.definition
            raise OnlineError(
                f"constraint {name} of {table} is there already as {definition}; rename or drop it"
            )
        log.debug("constraint %s already exists", name)

    def _add_key(
        self,
        what: str,
        table: str,
        constraint: "sa.UniqueConstraint | sa.PrimaryKeyConstraint",
        name: str,
        step: str,
    ) -> None:
        """Build the index under the constraint's own name, then make it the constraint's."""
        if not self.offline and self._constraint(table, name) is not None:
            return
        options = constraint.dialect_options["postgresql"]
        primary = isinstance(constraint, sa.PrimaryKeyConstraint)
        if primary:
            for column in constraint.columns:
                self._set_not_null(table, column.name)
        index = sa.Index(conv(name), *constraint.columns, unique=True)
        for option in ("include", "nulls_not_distinct", "with", "tablespace"):
            if options.get(option):
                index.dialect_options["postgresql"][option] = options[option]
        self._build(self._rendered(index))
        quoted = self.quote(name)
        tail = " DEFERRABLE" if constraint.deferrable else ""
        tail += " INITIALLY DEFERRED" if str(constraint.initially).upper() == "DEFERRED" else ""
        kind = "PRIMARY KEY" if primary else "UNIQUE"
        self.brief(
            what,
            lambda: self.run_sql(
                f"ALTER TABLE {table} ADD CONSTRAINT {quoted} {kind} USING INDEX {quoted}{tail}"
            ),
            table,
            step=step,
        )

    def _step_of_rule(
        self, what: str, statement: str, table: str, step: str, *parents: str, stops_reads: bool = True
    ) -> None:
        """Add a rule that is not proved, and note that it is ours."""

        def add() -> None:
            self.run_sql(statement)
            self.note(**{step: True})

        self.brief(what, add, table, *parents, stops_reads=stops_reads)

    def _validate(
        self, table: str, name: str, *parents: str, step: str = "", undo: str | None = None
    ) -> None:
        """Have all rows looked through; where one violates a rule of ours, take the rule away again.

        :param step: by which the journal says that the rule is ours.
        :param undo: the statement that takes it away.
        """
        try:
            self.long(
                f"validate {name}",
                lambda: self.run_sql(f"ALTER TABLE {table} VALIDATE CONSTRAINT {self.quote(name)}"),
            )
        except DBAPIError as error:
            driver = driver_error(error)
            if not isinstance(driver, _VIOLATIONS):
                raise
            # The detail of the others is a whole row, with whatever it holds.
            foreign = isinstance(driver, psycopg.errors.ForeignKeyViolation)
            rows = (driver.diag.message_detail if foreign else None) or driver.diag.message_primary
            left = "it was there before, and stays unproved"
            if undo is not None and step in self.state:

                def take_away() -> None:
                    self.run_sql(undo)
                    del self.state[step]
                    self.note()

                left = "nothing of it is left"
                self.brief(f"take {name} away", take_away, table, *parents)
            raise OnlineError(
                f"{name} of {table} is violated: {rows}; {left}. Mend the rows, then run it again"
            ) from error

    def drop_constraint(self, operation: ops.DropConstraintOp) -> None:
        """Drop a constraint, under a lock of the table that it refers to as well."""
        table = self.quoted(operation.table_name, operation.schema)
        constraint = self.operations.schema_obj.generic_constraint(
            operation.constraint_name,
            operation.table_name,
            operation.constraint_type,
            schema=operation.schema,
        )
        name = sqla_compat._get_constraint_final_name(constraint, self.context.dialect)
        parent = None if self.offline else self.scalar(catalog.REFERRED, table=table, name=name)
        self.brief(
            f"drop constraint {name}",
            lambda: toimpl.drop_constraint(self.operations, operation),
            *([] if self.offline and operation.if_exists else [table]),
            *([parent] if parent else []),
            step="done",
        )

    def _drop_constraint(self, table: str, name: str, parent: str | None = None) -> None:
        self.brief(
            f"drop constraint {name}",
            lambda: self.run_sql(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {self.quote(name)}"),
            table,
            *([parent] if parent else []),
        )

    def create_index(self, operation: ops.CreateIndexOp) -> None:
        """Build an index while others write."""
        self._build(self._rendered(operation.to_index(self.context)), lenient=bool(operation.if_not_exists))

    def _rendered(self, index: sa.Index) -> "_Index":
        """Return an index as SQL, whose table and name can be exchanged."""
        table = index.table
        assert table is not None  # noqa: S101 - an operation's index has one
        for column in index.dialect_options["postgresql"].get("include") or ():
            if column not in table.c:  # as Alembic does: an index operation knows its own columns alone
                table.append_column(sa.Column(column, sa.types.NullType()))
        index.dialect_options["postgresql"]["concurrently"] = False
        statement = self.plain(str(sa.schema.CreateIndex(index).compile(dialect=self.context.dialect)))
        name = self.quoted(table.name, table.schema)
        head, on, tail = statement.partition(f" ON {name} ")
        assert on  # noqa: S101 - so SQLAlchemy writes it
        final = sqla_compat._get_constraint_final_name(index, self.context.dialect)
        return _Index(name, table.schema, str(final), head.startswith("CREATE UNIQUE"), tail)

    def _build(self, index: "_Index", *, lenient: bool = False) -> None:
        """Build an index while others write; one that is there is kept if it is the same and valid.

        :param lenient: whether another one of the name will do.
        """
        quoted = self.quoted(index.name, index.schema)
        what = f"create index {index.name}"
        found = None if self.offline else self._finished_index(index, quoted, lenient=lenient)
        if found is not None and found.valid:
            log.debug("index %s already exists", index.name)
            return
        if found is not None and not self._is_partitioned(index.table):
            log.info("index %s is invalid; rebuilding", index.name)
            self._drop_index_concurrently(quoted)
        if self.without_ceremony(index.table):
            self.brief(what, lambda: self.run_sql(self._sql(index)), index.table, stops_reads=False)
            return
        if self._is_partitioned(index.table):
            self._build_partitioned(what, index, quoted)
            return
        self._did = self._did or f"{what} concurrently"
        try:
            # An invalid index costs every write and, if unique, refuses duplicates.
            self.long(
                what,
                lambda: self.run_sql(self._sql(index, concurrently=True)),
                undo=lambda: self._drop_index_at_once(quoted),
            )
        except DBAPIError as error:
            driver = driver_error(error)
            if isinstance(driver, psycopg.errors.UniqueViolation):
                raise OnlineError(
                    f"index {index.name} was not built, because rows are not unique:"
                    f" {driver.diag.message_detail} Remove the duplicates, then run it again"
                ) from error
            raise

    def _sql(self, index: "_Index", *, concurrently: bool = False, only: bool = False) -> str:
        unique = "UNIQUE " if index.unique else ""
        how = "CONCURRENTLY " if concurrently else ""
        head = f"CREATE {unique}INDEX {how}{self.quote(index.name)} ON"
        return f"{head} {'ONLY ' if only else ''}{index.table} {index.tail}"

    def _drop_index_at_once(self, name: str) -> None:
        """Drop an index if its table is free: nobody waits for whatever made the build fail."""
        with self.transaction(lock_timeout=STRONG_LOCK_TIMEOUT):
            self.run_sql(f"DROP INDEX IF EXISTS {name}")

    def _finished_index(self, index: "_Index", quoted: str, *, lenient: bool = False) -> Found | None:
        """Return the index of the name, not before a server process that still builds it has ended."""
        found = self._index(quoted)
        if found is None:
            return None
        with self.outside(f"create index {index.name}"):
            holders = Holders(self, f"create index {index.name}")
            started = time.monotonic()
            while not found.valid and (builder := self.scalar(catalog.BUILDER, index=quoted)) is not None:
                holders.check(started, f"process {builder}, which builds it")
                time.sleep(0.5)
                found = self._index(quoted)
                if found is None:
                    return None
            same = found.definition == self._definition(index) and found.table == self.scalar(
                catalog.OID, table=index.table
            )
            if not same and not (lenient and found.valid):
                raise OnlineError(
                    f"index {index.name} is there already as {found.definition}; rename or drop it"
                )
        return found

    def _definition(self, index: "_Index") -> str | None:
        """Return how the server writes an index, without its name and table."""
        with self._copy_of(index.table, "LIKE {}"):
            self.run_sql(self._sql(index._replace(table=catalog.PROBE, name=f"{catalog.PROBE}_index")))
            made = self._index(f"{catalog.PROBE}_index")
        return None if made is None else made.definition

    def _build_partitioned(self, what: str, index: "_Index", quoted: str) -> None:
        """Build the index of each partition by itself, and join them under one of the whole table."""
        if self._index(quoted) is None:
            self.brief(
                what, lambda: self.run_sql(self._sql(index, only=True)), index.table, stops_reads=False
            )
        for part in self._rows(catalog.PARTITIONS_WITHOUT, table=index.table, index=quoted):
            table = self.quoted(part.table, part.schema)
            name = self._name_of_part(index._replace(table=table, schema=part.schema), part.table)
            self._build(index._replace(table=table, schema=part.schema, name=name))
            attach = f"ALTER INDEX {quoted} ATTACH PARTITION {self.quoted(name, part.schema)}"
            self.brief(f"attach {name}", partial(self.run_sql, attach), stops_reads=False)

    def _name_of_part(self, index: "_Index", table: str) -> str:
        """Return the name that PostgreSQL would give to the index of a partition."""
        copied = f"pg_temp.{self.quote(table)}"
        unnamed = self._sql(index._replace(table=copied)).replace(f" {self.quote(index.name)} ON ", " ON ", 1)
        with self._copy_of(index.table, "LIKE {}"):
            self.run_sql(f"CREATE TEMP TABLE {self.quote(table)} (LIKE {index.table})")
            self.run_sql(unnamed)
            name = str(self.scalar(catalog.INDEX_NAME, table=copied))
        wanted = self._definition(index)
        for number in itertools.count(1):
            candidate = name if number == 1 else f"{name}{number - 1}"
            quoted = self.quoted(candidate, index.schema)
            if self.scalar(catalog.KIND, table=quoted) is None:
                return candidate
            found = self._index(quoted)
            if (
                found is not None
                and found.definition == wanted
                and found.table == self.scalar(catalog.OID, table=index.table)
                and not self.scalar(catalog.ATTACHED, name=quoted)
            ):
                return candidate  # of a run that was interrupted before it was attached
        raise AssertionError

    def drop_index(self, operation: ops.DropIndexOp) -> None:
        """Drop an index while others write."""
        index = operation.to_index(self.context)
        final = sqla_compat._get_constraint_final_name(index, self.context.dialect)
        name = self.quoted(str(final), operation.schema)
        if self.offline:
            index.dialect_options["postgresql"]["concurrently"] = True
            self.long(
                f"drop index {name}",
                lambda: self.context.impl.drop_index(index, if_exists=operation.if_exists),
            )
            return
        kind = self.scalar(catalog.KIND, table=name)
        if kind is None and self.resumed:
            log.debug("index %s already dropped", name)
        elif kind in {None, "I"}:  # an error, unless IF EXISTS; that of a partitioned table
            self.brief(
                f"drop index {name}", lambda: toimpl.drop_index(self.operations, operation), name, step="done"
            )
        else:
            self._drop_index_concurrently(name)

    def _drop_index_concurrently(self, name: str) -> None:
        self._did = self._did or f"drop index {name} concurrently"
        self.long(f"drop index {name}", lambda: self.run_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))

    def rename_index(self, operation: RenameIndexOp) -> None:
        """Rename an index under a lock that stops neither readers nor writers."""
        self.brief(
            f"rename index {operation.old_name} to {operation.new_name}",
            lambda: rename_index(self.operations, operation),
            stops_reads=False,
            limit=WEAK_LOCK_TIMEOUT,
            step="done",
        )

    def bulk_insert(self, operation: ops.BulkInsertOp) -> None:
        """Insert the rows once, however often the revision is run."""
        self.long(
            f"insert into {operation.table.name}",
            lambda: toimpl.bulk_insert(self.operations, operation),
            transaction=True,
            step="done",
        )

    def execute(self, operation: ops.ExecuteSQLOp) -> None:
        """Run a statement once, however often the revision is run, in the way that fits it."""
        text = self._sql_of(operation)
        what = _title(_without_comments(text))
        if self.offline:  # else the journal knows, by the catalog
            self._created.update(sql.created(text))
        kind = (operation.execution_options or {}).get("online") or kind_of(text)
        run: Callable[[], None] = lambda: toimpl.execute_sql(self.operations, operation)  # noqa: E731
        if kind == "session":
            with self.outside(what) if self.offline else ExitStack():
                run()
            if not self.offline:
                self._keep_setting()
        elif kind == "outside":
            self.long(what, run)
        elif kind == "long":
            self.long(what, run, transaction=True, step="done")
        elif kind in {"brief", "rows"}:
            tables = (
                [] if self.offline and re.search(r"\bIF\s+EXISTS\b", text, re.IGNORECASE) else tables_of(text)
            )
            limit = WEAK_LOCK_TIMEOUT if kind == "rows" else STRONG_LOCK_TIMEOUT
            stops_reads = not re.match(r"\s*CREATE\b.*?\bTRIGGER\b", text, re.IGNORECASE)
            self.brief(what, run, *tables, stops_reads=stops_reads, limit=limit, step="done")
        else:
            raise OnlineError(
                f'execution_options={{"online": {kind!r}}} is unknown; there are "brief", "long"'
            )

    def _keep_setting(self) -> None:
        """Commit a SET, so that it lasts beyond the next operation's own transaction."""
        with self.outside("keeps a setting"):
            pass

    def backfill(self, operation: BackfillOp) -> int:
        """Fill rows in batches; returns how many."""
        changed = 0
        if self.offline:
            write_batches(self, operation)
        else:
            changed = fill_in_batches(self, operation)
        self.filled += changed
        return changed


_LOCAL = re.compile(r"\s*SET\s+LOCAL\s", re.IGNORECASE)
_TRANSACTION = re.compile(
    r"\s*(SAVEPOINT|RELEASE|ROLLBACK|ABORT|BEGIN|START\s+TRANSACTION|COMMIT|END|PREPARE\s+TRANSACTION)\b",
    re.IGNORECASE,
)
_SESSION = re.compile(r"\s*(SET\s+(?!LOCAL|CONSTRAINTS)|RESET\s)", re.IGNORECASE)
_TEMPORARY = re.compile(r"\s*CREATE\s+((GLOBAL|LOCAL)\s+)?(TEMP|TEMPORARY)\s", re.IGNORECASE)
_ROWS = re.compile(r"\s*(INSERT|UPDATE|DELETE|MERGE|WITH|COPY)\b", re.IGNORECASE)
_OUTSIDE = re.compile(
    r"\s*(VACUUM\b|(CREATE\s+(UNIQUE\s+)?|DROP\s+)INDEX\s+CONCURRENTLY\b|REINDEX\b.*\bCONCURRENTLY\b"
    r"|ALTER\s+TABLE\b.*\bDETACH\s+PARTITION\b.*\bCONCURRENTLY\b)",
    re.IGNORECASE | re.DOTALL,
)
_LONG = re.compile(
    r"\s*(ANALYZE\b|COMMENT\s+ON\b|REFRESH\s+MATERIALIZED\s+VIEW\b|CREATE\s+MATERIALIZED\s+VIEW\b"
    r"|CREATE\s+((UNLOGGED|TEMP|TEMPORARY)\s+)?TABLE\s+(IF\s+NOT\s+EXISTS\s+)?\S+(\s*\([^()]*\))?\s+AS\b"
    r"|ALTER\s+TABLE\s+.*\bVALIDATE\s+CONSTRAINT\s+\S+\s*;?\s*$)",
    re.IGNORECASE | re.DOTALL,
)


# What takes a strong lock on tables that it names. A name is what PostgreSQL reads as one.
_NAME = r'(?:"(?:[^"]|"")+"|[\w$]+)(?:\s*\.\s*(?:"(?:[^"]|"")+"|[\w$]+))?'
_NAMES = rf"(?P<names>{_NAME}(?:\s*\*)?(?:\s*,\s*(?:ONLY\s+)?{_NAME}(?:\s*\*)?)*)"
_LOCKING = re.compile(
    rf"\s*(?:ALTER\s+TABLE|DROP\s+TABLE|TRUNCATE(?:\s+TABLE)?|LOCK(?:\s+TABLE)?)\s+(?:IF\s+EXISTS\s+)?"
    rf"(?:ONLY\s+)?{_NAMES}"
    rf"|\s*(?:CREATE(?:\s+OR\s+REPLACE)?|DROP|ALTER)\s+(?:CONSTRAINT\s+)?(?:TRIGGER|POLICY)\b"
    rf".*?\sON\s+(?P<on>{_NAME})",
    re.IGNORECASE | re.DOTALL,
)
_WRITTEN = re.compile(
    rf"\s*(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO|ANALYZE|TRUNCATE(?:\s+TABLE)?|ALTER\s+TABLE"
    rf"|COMMENT\s+ON\s+TABLE|CREATE\s+(?:UNIQUE\s+)?INDEX\b.*?\sON)"
    rf"\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?(?P<name>{_NAME})",
    re.IGNORECASE | re.DOTALL,
)
_REFERENCES = re.compile(rf"\bREFERENCES\s+({_NAME})", re.IGNORECASE)


def _without_comments(statement: str) -> str:
    return re.sub(r"\A(\s*--[^\n]*\n|\s*/\*.*?\*/)+", "", statement, flags=re.DOTALL)


def _is_single(statement: str) -> bool:
    """Return whether there is nothing after a first semicolon; one in a string counts as well."""
    return not statement.rstrip().rstrip(";").count(";")


def tables_of(statement: str) -> list[str]:
    """Return the tables that a statement locks so that others have to wait, as far as its words tell."""
    found = _LOCKING.match(_without_comments(statement))
    if found is None:
        return []
    names = re.findall(rf"(?:\bONLY\s+)?({_NAME})", found["names"] or found["on"], re.IGNORECASE)
    return [*names, *_REFERENCES.findall(statement)]


def kind_of(statement: str) -> str:
    """Say how a statement of ``op.execute`` runs online, by its first words.

    ``session``: sets something for what follows; ``local``: for a transaction that has nothing else in it;
    ``transaction``: begins or ends one.
    ``outside``: PostgreSQL refuses it in a transaction. ``long``: its locks let others read and write.
    ``rows``: waits for rows, with others waiting for nothing. ``brief``: everything else.
    """
    statement = _without_comments(statement)
    kinds = [("outside", _OUTSIDE), ("long", _LONG)]
    if _is_single(statement):
        kinds += [("transaction", _TRANSACTION), ("local", _LOCAL), ("session", _SESSION), ("rows", _ROWS)]
    for kind, pattern in kinds:
        if pattern.match(statement):
            return kind
    return "brief"


def _nothing(_: logging.LogRecord) -> bool:
    return False


def _name_of(operation: ops.MigrateOperation) -> str:
    return type(operation).__name__.removesuffix("Op")


def _title(text: str | None) -> str:
    return " ".join((text or "").split())[:60]


def _table_of(operation: ops.CreateTableOp, context: MigrationContext) -> sa.Table:
    return copied(operation).to_table(context)


def _plain_column(column: "sa.Column[Any]") -> "sa.Column[Any]":
    """Return a column without its keys, checks, index and comment, which are added by themselves."""
    plain: sa.Column[Any] = sa.Column(
        column.name, column.type, nullable=column.nullable, autoincrement=column.autoincrement
    )
    default = column.server_default
    if isinstance(default, sa.Identity | sa.Computed):
        plain = column._copy()
        plain.comment, plain.index, plain.unique = None, None, None
    elif default is not None:
        plain.server_default = default
    return plain


# The implementations take the place of Alembic's own, or of what another plugin has registered, in the whole
# process, because one registry serves all contexts. Where enable() was not called for a context, they hand on
# the operation as it is.

_Implementation = Callable[[Operations, Any], Any]
_Handler = Callable[[Online, Any], Any]


def _implementation(
    original: _Implementation, at_once: _Implementation, handler: _Handler
) -> _Implementation:
    """Return what carries out an operation in any context.

    :param original: where the context is not enabled.
    :param at_once: where its revision runs in one transaction.
    :param handler: online.
    """

    def run(operations: Operations, operation: Any) -> Any:
        opts = operations.migration_context.opts
        if KEY not in opts:
            return original(operations, operation)
        online = opts[KEY]
        if online is None or not (online.active or online.skipping):
            return at_once(operations, operation)
        if online.skipping:
            return online.carry_out(operation, at_once, lambda _, skipped: at_once(operations, skipped))
        if isinstance(operations, BatchOperations):
            batch: Any = operations.impl
            if batch._should_recreate():
                online.refuse_copy(batch.table_name, batch.schema)
                return online.queue(operations, operation, at_once)
            places = getattr(operation, "kw", {})
            if places.get("insert_before") or places.get("insert_after"):
                return online.queue(operations, operation, at_once)  # Alembic refuses it
        # Another batch would queue the operation and run it past us; on PostgreSQL it has no use.
        return online.carry_out(operation, at_once, handler)

    return run


def _not_concurrently(original: _Implementation) -> _Implementation:
    """Build and drop indexes within a transaction also where a revision says CONCURRENTLY."""

    def run(operations: Operations, operation: Any) -> Any:
        if in_transaction(operations.migration_context) and not isinstance(operations, BatchOperations):
            operation = copied(operation)
            operation.kw.pop("postgresql_concurrently", None)
        return original(operations, operation)

    return run


def _as_it_is(original: _Implementation) -> _Implementation:
    return original


for _operation, _at_once, _handler in (
    (ops.CreateTableOp, _as_it_is, Online.create_table),
    (ops.DropTableOp, _as_it_is, Online.drop_table),
    (ops.RenameTableOp, _as_it_is, Online.rename_table),
    (ops.CreateTableCommentOp, _as_it_is, Online.table_comment),
    (ops.DropTableCommentOp, _as_it_is, Online.table_comment),
    (ops.AddColumnOp, _as_it_is, Online.add_column),
    (ops.DropColumnOp, _as_it_is, Online.drop_column),
    (ops.AlterColumnOp, _as_it_is, Online.alter_column),
    (ops.AddConstraintOp, _as_it_is, Online.create_constraint),
    (ops.DropConstraintOp, _as_it_is, Online.drop_constraint),
    (ops.CreateIndexOp, _not_concurrently, Online.create_index),
    (ops.DropIndexOp, _not_concurrently, Online.drop_index),
    (ops.BulkInsertOp, _as_it_is, Online.bulk_insert),
    (ops.ExecuteSQLOp, _as_it_is, Online.execute),
):
    _original: _Implementation = Operations._to_impl.dispatch(_operation)
    Operations.implementation_for(_operation, replace=True)(
        _implementation(_original, _at_once(_original), cast("_Handler", _handler))
    )
Operations.implementation_for(RenameIndexOp)(_implementation(rename_index, rename_index, Online.rename_index))
Operations.implementation_for(BackfillOp)(_implementation(fill_at_once, fill_at_once, Online.backfill))
