"""What each of Alembic's operations does online, and what is refused."""

import hashlib
import logging
import re
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from copy import copy
from functools import partial
from typing import Any, NamedTuple, cast

import psycopg
import sqlalchemy as sa
from alembic.operations import BatchOperations, Operations, ops, toimpl
from alembic.runtime.migration import MigrationContext
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import SchemaItem

from nexus_schema.errors import SchemaError, database_error, describe
from nexus_schema.online import catalog
from nexus_schema.online.backfill import BackfillOp, fill_at_once, fill_in_batches, write_batches
from nexus_schema.online.run import (
    KEY,
    STRONG_LOCK_TIMEOUT,
    Entry,
    Found,
    RefusedError,
    Run,
    is_autocommit,
)
from nexus_schema.online.waiting import Holders

log = logging.getLogger(__name__)


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
        if isinstance(operation, ops.AddConstraintOp):
            constraint = operation.to_constraint(self.context)
            table = self.quoted(constraint.table.name, constraint.table.schema)
            if not self.offline and not self.without_ceremony(table):
                self._refuse_constraint(table, constraint)
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
        elif self.offline:  # nothing else can be known without a catalog
            return
        elif isinstance(operation, ops.AddColumnOp):
            if not self.without_ceremony(table):
                self._refuse_column(table, operation)
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
        state = "was not started" if self.planning or self.offline else "stopped here, to go on another time"
        raise RefusedError(
            f"revision {self._revision} {state}: {what} is refused online, because {reason};"
            f" {instead}; or, if the lock does no harm, put online = False at the top of the revision, which"
            " then runs in one transaction"
        )

    def _refuse_unnamed(self, kind: str, table: str) -> None:
        self._refuse(
            f"an unnamed {kind} on {table}",
            "a run that is repeated could not tell whether it is there",
            "give it a name",
        )

    def _refuse_constraint(self, table: str, constraint: SchemaItem) -> None:
        kind = type(constraint).__name__
        if isinstance(constraint, postgresql.ExcludeConstraint):
            self._refuse(
                f"an exclusion constraint on {table}",
                "PostgreSQL builds its index under a lock that stops reads and writes",
                "create it with a new table, and move the rows",
            )
        if not getattr(constraint, "name", None):
            self._refuse_unnamed(kind, table)
        partitioned = self._is_partitioned(table)
        foreign_key = isinstance(constraint, sa.ForeignKeyConstraint)
        unique = isinstance(constraint, sa.UniqueConstraint | sa.PrimaryKeyConstraint)
        if partitioned and (unique or (foreign_key and not self._server_is(18))):
            self._refuse(
                f"a {kind} on the partitioned table {table}",
                "PostgreSQL checks all partitions under one lock",
                "add it to each partition first, under the same name",
            )

    def _refuse_column(self, table: str, operation: ops.AddColumnOp) -> None:
        column = operation.column
        if self._scalar(catalog.COLUMN, table=table, column=column.name) is not None:
            return
        inline = (
            len(column.foreign_keys) == 1 and column.server_default is None and column.nullable is not False
        )
        if any(key.name is None for key in column.foreign_keys) and not inline:
            self._refuse_unnamed("ForeignKeyConstraint", table)
        if any(check.name is None for check in column.constraints):
            self._refuse_unnamed("CheckConstraint", table)
        if isinstance(column.server_default, sa.DefaultClause):
            return
        plain = _plain_column(column)
        rewritten = ["its values"] if column.primary_key else []
        try:
            rewritten = rewritten or self.rewritten(
                table, lambda copy: self._add(copy, None, plain, operation)
            )
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            log.debug("adding %s.%s cannot be tried: %s", table, column.name, describe(error))
            return
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

        try:
            rewritten = self.rewritten(table, change)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            log.debug("%s.%s cannot be tried: %s", table, operation.column_name, describe(error))
            return []
        return ["the table" if name == catalog.PROBE else "an index" for name in sorted(rewritten)]

    def _server_is(self, major: int) -> bool:
        return not self.offline and self._scalar(catalog.VERSION) >= major * 10_000

    # The operations.

    def create_table(self, operation: ops.CreateTableOp) -> sa.Table:
        """Create a table; one that is there has to have the columns."""
        table = _table_of(operation, self.context)
        name = self.quoted(operation.table_name, operation.schema)
        begun = self.entry(f"create table {name}")
        if not self.offline and self._scalar(catalog.KIND, table=name) is not None:
            if begun.state is None:
                self._require_columns(name, table)
            self._remember(name, begun)
            log.info("%s is there already", name)
            # As CREATE TABLE IF NOT EXISTS, after which Alembic comments on what is there.
            self.long(f"comment on {name}", lambda: self._comment(table), transaction=True)
            return table

        def create() -> None:
            toimpl.create_table(self.operations, operation)
            if not self.offline:
                self.note(begun, {"created": True})

        with self.outside(f"create table {name}"):
            if not self.offline:
                self.open_journal()
            parents = self._parents(table.foreign_key_constraints)
            self.brief(f"create table {name}", create, *parents, stops_reads=False)
        self._created.add(name)
        return table

    def plan_table(self, operation: ops.CreateTableOp) -> sa.Table:
        """Return the table, and remember that it is new if an interrupted run has created it."""
        name = self.quoted(operation.table_name, operation.schema)
        self._remember(name, self.entry(f"create table {name}"))
        return _table_of(operation, self.context)

    def _remember(self, name: str, begun: Entry) -> None:
        if begun.state is not None:
            self._created.add(name)

    def _comment(self, table: sa.Table) -> None:
        if table.comment is not None:
            self.context.impl.create_table_comment(table)
        for column in table.columns:
            if column.comment is not None:
                self.context.impl.create_column_comment(column)

    def _require_columns(self, name: str, table: sa.Table) -> None:
        found = set(self.connection.scalars(catalog.COLUMNS, {"table": name}))
        missing = [column.name for column in table.columns if column.name not in found]
        if missing:
            raise SchemaError(
                f"{name} is there already, without {', '.join(missing)}; rename or drop it, or add what"
                " is missing"
            )

    def drop_table(self, operation: ops.DropTableOp) -> None:
        """Drop the foreign keys one by one, each of which locks another table, then the table."""
        name = self.quoted(operation.table_name, operation.schema)
        if not self.offline:
            if self._scalar(catalog.KIND, table=name) is None:
                log.info("%s is gone already", name)
                return
            dependents = list(self.connection.scalars(catalog.TABLE_DEPENDENTS, {"table": name}))
            if dependents:
                raise SchemaError(
                    f"{name} cannot be dropped: {', '.join(dependents)} depends on it; drop that first"
                )
            for constraint, parent in self.connection.execute(catalog.FOREIGN_KEYS, {"table": name}).all():
                self._drop_constraint(name, constraint, parent)
        self.brief(f"drop table {name}", lambda: toimpl.drop_table(self.operations, operation), name)
        self._created.discard(name)

    def table_comment(self, operation: ops.CreateTableCommentOp | ops.DropTableCommentOp) -> None:
        """Comment on a table, for which nobody has to wait."""
        write: Callable[..., None] = toimpl.drop_table_comment
        if isinstance(operation, ops.CreateTableCommentOp):
            write = toimpl.create_table_comment
        what = f"comment on {operation.table_name}"
        self.long(what, lambda: write(self.operations, operation), transaction=True)

    def rename_table(self, operation: ops.RenameTableOp) -> None:
        """Rename a table without rows; any other is refused."""
        # Not refused: nobody uses a table without rows.
        name = self.quoted(operation.table_name, operation.schema)
        renamed = self.quoted(operation.new_table_name, operation.schema)
        if (
            not self.offline
            and self._scalar(catalog.KIND, table=name) is None
            and self._scalar(catalog.KIND, table=renamed)
        ):
            log.info("%s is renamed already", name)
            return
        self.brief(f"rename {name}", lambda: toimpl.rename_table(self.operations, operation), name)

    def add_column(self, operation: ops.AddColumnOp) -> None:
        """Add the bare column, then whatever would read or write the table."""
        table = self.quoted(operation.table_name, operation.schema)
        column = operation.column
        plain = _plain_column(column)
        # Alembic's own way to a table for the column, with the tables that it refers to.
        holder = self.operations.schema_obj.table(
            operation.table_name,
            column._copy(),
            schema=operation.schema,
        )
        keys = list(holder.foreign_key_constraints)
        existing = None if self.offline else self._scalar(catalog.COLUMN, table=table, column=column.name)
        what = f"add column {table}.{column.name}"
        begun = self.entry(what)
        inline, fill = False, existing is not None and begun.state is not None
        if existing is not None:
            wanted = self._format_type(plain)
            if existing != wanted:
                raise SchemaError(f"{table}.{column.name} is there already as {existing}, not {wanted}")
        elif self.without_ceremony(table):
            self.brief(
                what, lambda: toimpl.add_column(self.operations, operation), table, *self._parents(keys)
            )
            return
        elif isinstance(column.server_default, sa.DefaultClause) and self._default_rewrites(table, operation):
            self._add_with_default(what, table, operation, begun)
            fill = True
        else:
            # With a key to it at once: PostgreSQL knows that a column of NULLs needs no check.
            inline = (
                not self.offline
                and len(keys) == 1
                and column.server_default is None
                and column.nullable is not False
            )
            added = column._copy() if inline else plain
            if inline:
                added.index = added.unique = None
            self.brief(
                what,
                lambda: self._add(operation.table_name, operation.schema, added, operation, inline=inline),
                table,
                *(self._parents(keys) if inline else ()),
            )
        if fill:
            self._fill_default(operation)
        if column.nullable is False and not self.offline:
            self._set_not_null(table, column.name)
        for check in column.constraints:
            if isinstance(check, sa.CheckConstraint):
                named = str(check.name)
                self.operations.invoke(
                    ops.CreateCheckConstraintOp(
                        named, operation.table_name, check.sqltext, schema=operation.schema
                    )
                )
        for constraint in holder.constraints:
            skipped = isinstance(constraint, sa.PrimaryKeyConstraint) or (inline and constraint in keys)
            if not skipped:
                self.operations.invoke(ops.AddConstraintOp.from_constraint(constraint))
        for index in holder.indexes:
            self.operations.invoke(ops.CreateIndexOp.from_index(index))
        if column.comment is not None:
            commented = holder.columns[column.name]
            self.long(
                f"comment on {table}.{column.name}",
                lambda: self.context.impl.create_column_comment(commented),
                transaction=True,
            )

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
            table, added, schema=schema, if_not_exists=True, inline_references=inline, **operation.kw
        )

    def _default_rewrites(self, table: str, operation: ops.AddColumnOp) -> bool:
        """Return whether PostgreSQL would compute the default for each row, as for gen_random_uuid()."""
        if self.offline:
            return False
        plain = _plain_column(operation.column)
        return catalog.PROBE in self.rewritten(table, lambda copy: self._add(copy, None, plain, operation))

    def _add_with_default(self, what: str, table: str, operation: ops.AddColumnOp, begun: Entry) -> None:
        """Add a column without its default and give it that in one statement: no row is written."""
        plain = _plain_column(operation.column)
        plain.server_default, plain.nullable = None, True
        holder = sa.Table(operation.table_name, sa.MetaData(), plain, schema=operation.schema)
        rendered = self._compiler().get_column_specification(holder.columns[plain.name])
        name = self.context.dialect.identifier_preparer.quote(plain.name)
        statement = (
            f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {rendered},"
            f" ALTER COLUMN {name} SET DEFAULT {self._default_of(operation.column)}"
        )
        with self.outside(what):
            self.open_journal()

            def add() -> None:
                self.run_sql(statement)
                self.note(begun, {"added": True})

            self.brief(what, add, table)

    def _compiler(self) -> Any:
        compiler: Any = self.context.dialect.ddl_compiler
        return compiler(self.context.dialect, None)

    def _default_of(self, column: "sa.Column[Any]") -> str:
        return str(self._compiler().get_column_default_string(_plain_column(column)))

    def _fill_default(self, operation: ops.AddColumnOp) -> None:
        name = operation.column.name
        table = sa.table(operation.table_name, sa.column(name), schema=operation.schema)
        self.backfill(
            BackfillOp(
                sa.update(table)
                .values({name: sa.literal_column(self._default_of(operation.column))})
                .where(table.c[name].is_(None)),
                what=f"rows of {operation.table_name} given their {name}",
            )
        )

    def _format_type(self, column: "sa.Column[Any]") -> Any:
        """Return the server's name of a column's type."""
        with self._copy_of("", f"probed {column.type.compile(self.context.dialect)}"):
            return self._scalar(catalog.COLUMN, table=catalog.PROBE, column="probed")

    def _parents(self, keys: Iterable[sa.ForeignKeyConstraint]) -> list[str]:
        """Return the tables that foreign keys refer to."""
        found = []
        for key in keys:
            *schema, table, _ = next(iter(key.elements)).target_fullname.split(".")
            found.append(self.quoted(table, ".".join(schema) or None))
        return found

    def drop_column(self, operation: ops.DropColumnOp) -> None:
        """Drop foreign keys and indexes of the column one by one, then the column."""
        table = self.quoted(operation.table_name, operation.schema)
        column = operation.column_name
        if not self.offline and not self.without_ceremony(table):
            if self._scalar(catalog.COLUMN, table=table, column=column) is None:
                log.info("%s.%s is gone already", table, column)
                return
            given = {"table": table, "column": column}
            dependents = list(self.connection.scalars(catalog.COLUMN_DEPENDENTS, given))
            if dependents:
                raise SchemaError(
                    f"{table}.{column} cannot be dropped: {', '.join(dependents)} depends on it; drop"
                    " that first"
                )
            for constraint, parent in self._rows(catalog.COLUMN_FOREIGN_KEYS, **given):
                self._drop_constraint(table, constraint, parent)
            for index in self.connection.scalars(catalog.COLUMN_INDEXES, given).all():
                self._drop_index_concurrently(index)
        self.brief(
            f"drop column {table}.{column}", lambda: toimpl.drop_column(self.operations, operation), table
        )

    def alter_column(self, operation: ops.AlterColumnOp) -> None:
        """Change default, type, nullability and comment, one after the other."""
        table = self.quoted(operation.table_name, operation.schema)
        what = f"alter column {table}.{operation.column_name}"
        if self.is_new(table) or self.without_ceremony(table):
            if not self._is_renamed(table, operation):
                self.brief(what, lambda: toimpl.alter_column(self.operations, operation), table)
            return
        if operation.modify_type is not None:
            self._alter_type(what, table, operation)
        if operation.modify_server_default is not False:
            part = self._part(operation, modify_server_default=operation.modify_server_default)
            self.brief(what, lambda: toimpl.alter_column(self.operations, part), table)
        if operation.modify_nullable is True:
            part = self._part(operation, modify_nullable=True)
            self.brief(what, lambda: toimpl.alter_column(self.operations, part), table)
        elif operation.modify_nullable is False:
            self._set_not_null(table, operation.column_name)
        if operation.modify_comment is not False:
            commented = self._part(operation, modify_comment=operation.modify_comment)
            self.long(what, lambda: toimpl.alter_column(self.operations, commented), transaction=True)

    def _is_renamed(self, table: str, operation: ops.AlterColumnOp) -> bool:
        """Return whether an interrupted run has renamed the column, with all else that was to change."""
        if operation.modify_name is None or self.offline:
            return False
        old, new = operation.column_name, operation.modify_name
        return self._scalar(catalog.COLUMN, table=table, column=old) is None and (
            self._scalar(catalog.COLUMN, table=table, column=new) is not None
        )

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
            self.brief(what, lambda: toimpl.alter_column(self.operations, changed), table)
            return
        given = {"table": table, "column": operation.column_name}
        begun = self.entry(f"{what} type")
        unproved: list[str] = (begun.state or {}).get("checks", [])
        wanted = self._format_type(sa.Column(operation.column_name, operation.modify_type))
        if self._scalar(catalog.COLUMN, **given) != wanted:
            # A valid check would be tried on every row again, under the lock.
            checks = self._rows(catalog.COLUMN_CHECKS, **given)
            unproved = [row.conname for row in checks]
            name = self.context.dialect.identifier_preparer.quote

            def change() -> None:
                for row in checks:
                    self.run_sql(f"ALTER TABLE {table} DROP CONSTRAINT {name(row.conname)}")
                toimpl.alter_column(self.operations, changed)
                for row in checks:
                    rule = f"ADD CONSTRAINT {name(row.conname)} {row.definition} NOT VALID"
                    self.run_sql(f"ALTER TABLE {table} {rule}")
                if checks:
                    self.note(begun, {"checks": unproved})

            with self.outside(what):
                if checks:
                    self.open_journal()
                self.brief(what, change, table)
        for check in unproved:
            self._validate(table, check)

    def _set_not_null(self, table: str, column: str) -> None:
        """Prove that no row lacks a value while others write, then set NOT NULL, which needs no scan."""
        quote = self.context.dialect.identifier_preparer.quote
        what = f"set not null {table}.{column}"
        if self._server_is(18):
            given = {"table": table, "column": column}
            if self._scalar(catalog.NOT_NULL, **given) is None:
                self.brief(
                    what,
                    lambda: self.run_sql(f"ALTER TABLE {table} ADD NOT NULL {quote(column)} NOT VALID"),
                    table,
                )
            name, valid = self.connection.execute(catalog.NOT_NULL, given).one()
            if not valid:
                self._validate(table, name)
            return
        short = hashlib.md5(f"{table}.{column}".encode(), usedforsecurity=False).hexdigest()[:8]
        name = f"nexus_schema_not_null_{short}"
        if self.offline or not self._scalar(catalog.IS_NOT_NULL, table=table, column=column):
            found = None if self.offline else self._constraint(table, name)
            if found is None:
                self.brief(
                    what,
                    lambda: self.run_sql(
                        f"ALTER TABLE {table} ADD CONSTRAINT {name}"
                        f" CHECK ({quote(column)} IS NOT NULL) NOT VALID"
                    ),
                    table,
                )
            if found is None or not found.valid:
                self._validate(table, name)
            self.brief(
                what,
                lambda: self.run_sql(f"ALTER TABLE {table} ALTER COLUMN {quote(column)} SET NOT NULL"),
                table,
            )
        if self.offline or self._constraint(table, name) is not None:
            self._drop_constraint(table, name)

    def create_constraint(self, operation: ops.AddConstraintOp) -> None:
        """Add the constraint unproved, then prove it; a key gets its index first."""
        constraint = operation.to_constraint(self.context)
        holder = constraint.table
        table = self.quoted(holder.name, holder.schema)
        keys = [constraint] if isinstance(constraint, sa.ForeignKeyConstraint) else []
        name = str(constraint.name)
        what = f"add constraint {name}"
        found = None if self.offline or constraint.name is None else self._constraint(table, name)
        if found is not None:
            self._require_same(table, constraint, found)
            if not found.valid:
                self._validate(table, name)
            else:
                log.info("constraint %s is there already", name)
            return
        locked = (table, *self._parents(keys))
        if self.without_ceremony(table):
            self.brief(
                what,
                lambda: toimpl.create_constraint(self.operations, operation),
                *locked,
                stops_reads=not keys,
            )
        elif isinstance(constraint, sa.UniqueConstraint | sa.PrimaryKeyConstraint):
            self._add_key(what, table, constraint)
        else:
            constraint.dialect_options["postgresql"]["not_valid"] = True
            self.brief(
                what,
                lambda: self.context.impl.add_constraint(constraint),
                *locked,
                stops_reads=not keys,
            )
            self._validate(table, name)

    def _require_same(self, table: str, constraint: sa.Constraint, found: Found) -> None:
        """Raise :class:`SchemaError` if a constraint of the name says something else than the wanted one."""
        if isinstance(constraint, sa.ForeignKeyConstraint):
            columns = ", ".join(constraint.column_keys)
            referred = self._scalar(catalog.REFERRED_OID, table=table, name=str(constraint.name))
            if f"FOREIGN KEY ({columns})" in found.definition.replace('"', "") and referred == self._scalar(
                catalog.OID, table=self._parents([constraint])[0]
            ):
                return
        elif isinstance(constraint, sa.CheckConstraint):
            with self._copy_of(table, "LIKE {}"):
                rule = constraint._copy(target_table=sa.Table(catalog.PROBE, sa.MetaData()))
                self.context.impl.add_constraint(rule)
                probed = self._constraint(catalog.PROBE, str(constraint.name))
            wanted = None if probed is None else probed.definition
            if wanted == found.definition:
                return
        else:
            named: Any = constraint
            columns = ", ".join(column.name for column in named.columns)
            kind = "PRIMARY KEY" if isinstance(constraint, sa.PrimaryKeyConstraint) else "UNIQUE"
            if found.definition.replace('"', "").startswith(
                kind
            ) and f"({columns})" in found.definition.replace('"', ""):
                return
        raise SchemaError(
            f"constraint {constraint.name} of {table} is there already as {found.definition};"
            " rename or drop it"
        )

    def _add_key(
        self, what: str, table: str, constraint: "sa.UniqueConstraint | sa.PrimaryKeyConstraint"
    ) -> None:
        """Build the index under the constraint's own name, then make it the constraint's."""
        options = constraint.dialect_options["postgresql"]
        primary = isinstance(constraint, sa.PrimaryKeyConstraint)
        if primary:
            for column in constraint.columns:
                self._set_not_null(table, column.name)
        index = sa.Index(str(constraint.name), *constraint.columns, unique=True)
        for option in ("include", "nulls_not_distinct", "with", "tablespace"):
            if options.get(option):
                index.dialect_options["postgresql"][option] = options[option]
        self._build(self._rendered(index))
        quoted = self.context.dialect.identifier_preparer.quote(str(constraint.name))
        tail = " DEFERRABLE" if constraint.deferrable else ""
        tail += " INITIALLY DEFERRED" if str(constraint.initially).upper() == "DEFERRED" else ""
        kind = "PRIMARY KEY" if primary else "UNIQUE"
        self.brief(
            what,
            lambda: self.run_sql(
                f"ALTER TABLE {table} ADD CONSTRAINT {quoted} {kind} USING INDEX {quoted}{tail}"
            ),
            table,
        )

    def _validate(self, table: str, name: str) -> None:
        quoted = self.context.dialect.identifier_preparer.quote(name)
        self.long(
            f"validate {name}", lambda: self.run_sql(f"ALTER TABLE {table} VALIDATE CONSTRAINT {quoted}")
        )

    def drop_constraint(self, operation: ops.DropConstraintOp) -> None:
        """Drop a constraint, if it is there."""
        table = self.quoted(operation.table_name, operation.schema)
        if self.offline:
            self.brief(
                f"drop constraint {operation.constraint_name}",
                lambda: toimpl.drop_constraint(self.operations, operation),
                table,
            )
            return
        name = str(operation.constraint_name)
        if self._constraint(table, name) is None:
            log.info("constraint %s is gone already", name)
            return
        parent = self._scalar(catalog.REFERRED, table=table, name=name)
        self._drop_constraint(table, name, parent)

    def _drop_constraint(self, table: str, name: str, parent: str | None = None) -> None:
        quoted = self.context.dialect.identifier_preparer.quote(name)
        self.brief(
            f"drop constraint {name}",
            lambda: self.run_sql(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {quoted}"),
            table,
            *([parent] if parent else []),
        )

    def create_index(self, operation: ops.CreateIndexOp) -> None:
        """Build an index while others write."""
        self._build(self._rendered(operation.to_index(self.context)))

    def _rendered(self, index: sa.Index) -> "_Index":
        """Return an index as SQL, whose table and name can be exchanged."""
        table = index.table
        assert table is not None  # noqa: S101 - an operation's index has one
        for column in index.dialect_options["postgresql"].get("include") or ():
            if column not in table.c:  # as Alembic does: an index operation knows its own columns alone
                table.append_column(sa.Column(column, sa.types.NullType()))
        index.dialect_options["postgresql"]["concurrently"] = False
        statement = str(sa.schema.CreateIndex(index).compile(dialect=self.context.dialect))
        if self.context.dialect.paramstyle in {"format", "pyformat"}:
            statement = statement.replace("%%", "%")
        name = self.quoted(table.name, table.schema)
        head, on, tail = statement.partition(f" ON {name} ")
        assert on  # noqa: S101 - so SQLAlchemy writes it
        return _Index(name, table.schema, str(index.name), head.startswith("CREATE UNIQUE"), tail)

    def _build(self, index: "_Index") -> None:
        """Build an index while others write; one that is there is kept if it is the same and valid."""
        quoted = self.quoted(index.name, index.schema)
        what = f"create index {index.name}"
        found = None if self.offline else self._finished_index(index, quoted)
        if found is not None and found.valid:
            log.info("index %s is there already", index.name)
            return
        if found is not None and not self._is_partitioned(index.table):
            log.info("index %s is invalid: it is built anew", index.name)
            self._drop_index_concurrently(quoted)
        if self.without_ceremony(index.table):
            self.brief(what, lambda: self.run_sql(self._sql(index)), index.table, stops_reads=False)
            return
        if self._is_partitioned(index.table):
            self._build_partitioned(what, index, quoted)
            return
        try:
            # An invalid index costs every write and, if unique, refuses duplicates.
            self.long(
                what,
                lambda: self.run_sql(self._sql(index, concurrently=True)),
                undo=lambda: self._drop_index_at_once(quoted),
            )
        except DBAPIError as error:
            driver = database_error(error)
            if isinstance(driver, psycopg.errors.UniqueViolation):
                raise SchemaError(
                    f"index {index.name} was not built, because rows are not unique:"
                    f" {driver.diag.message_detail} Remove the duplicates, then run it again"
                ) from error
            raise

    def _sql(self, index: "_Index", *, concurrently: bool = False, only: bool = False) -> str:
        unique = "UNIQUE " if index.unique else ""
        how = "CONCURRENTLY " if concurrently else ""
        name = self.context.dialect.identifier_preparer.quote(index.name)
        return f"CREATE {unique}INDEX {how}{name} ON {'ONLY ' if only else ''}{index.table} {index.tail}"

    def _drop_index_at_once(self, name: str) -> None:
        """Drop an index if its table is free: nobody waits for whatever made the build fail."""
        with self.transaction(lock_timeout=STRONG_LOCK_TIMEOUT):
            self.run_sql(f"DROP INDEX IF EXISTS {name}")

    def _finished_index(self, index: "_Index", quoted: str) -> Found | None:
        """Return the index of the name, not before a server process that still builds it has ended."""
        found = self._index(quoted)
        if found is None:
            return None
        with self.outside(f"create index {index.name}"):
            holders = Holders(self, f"create index {index.name}")
            started = time.monotonic()
            while not found.valid and (builder := self._scalar(catalog.BUILDER, index=quoted)) is not None:
                holders.check(started, f"process {builder}, which builds it")
                time.sleep(0.5)
                found = self._index(quoted)
                if found is None:
                    return None
            with self._copy_of(index.table, "LIKE {}"):
                self.run_sql(self._sql(index._replace(table=catalog.PROBE, name=f"{catalog.PROBE}_index")))
                wanted = self._index(f"{catalog.PROBE}_index")
            if (
                wanted is None
                or found.definition != wanted.definition
                or found.table != self._scalar(catalog.OID, table=index.table)
            ):
                raise SchemaError(
                    f"index {index.name} is there already as {found.definition}; rename or drop it"
                )
        return found

    def _build_partitioned(self, what: str, index: "_Index", quoted: str) -> None:
        """Build the index of each partition by itself, and join them under one of the whole table."""
        if self._index(quoted) is None:
            self.brief(
                what, lambda: self.run_sql(self._sql(index, only=True)), index.table, stops_reads=False
            )
        for part in self._rows(catalog.PARTITIONS_WITHOUT, table=index.table, index=quoted):
            path = f"{part.schema}.{part.table}"
            short = hashlib.md5(path.encode(), usedforsecurity=False).hexdigest()[:12]
            name = f"{index.name[:40]}_{short}"
            self._build(
                index._replace(table=self.quoted(part.table, part.schema), schema=part.schema, name=name)
            )
            attach = f"ALTER INDEX {quoted} ATTACH PARTITION {self.quoted(name, part.schema)}"
            self.brief(f"attach {name}", partial(self.run_sql, attach), stops_reads=False)

    def drop_index(self, operation: ops.DropIndexOp) -> None:
        """Drop an index, if it is there."""
        index = operation.to_index(self.context)
        name = self.quoted(str(operation.index_name), operation.schema)
        if self.offline:
            index.dialect_options["postgresql"]["concurrently"] = True
            self.long(
                f"drop index {name}",
                lambda: self.context.impl.drop_index(index, if_exists=operation.if_exists),
            )
        elif self._scalar(catalog.KIND, table=name) is None:
            log.info("index %s is gone already", name)
        elif self._scalar(catalog.KIND, table=name) == "I":
            self.brief(f"drop index {name}", lambda: toimpl.drop_index(self.operations, operation), name)
        else:
            self._drop_index_concurrently(name)

    def _drop_index_concurrently(self, name: str) -> None:
        self.long(f"drop index {name}", lambda: self.run_sql(f"DROP INDEX CONCURRENTLY IF EXISTS {name}"))

    def bulk_insert(self, operation: ops.BulkInsertOp) -> None:
        """Insert the rows once, however often the revision is run."""
        name = operation.table.name
        self._once(
            f"bulk_insert {name}",  # not its rows: they may hold the time or a random key
            lambda work: self.long(f"insert into {name}", work, transaction=True),
            lambda: toimpl.bulk_insert(self.operations, operation),
        )

    def execute(self, operation: ops.ExecuteSQLOp) -> None:
        """Run a statement once, however often the revision is run, in the way that fits it."""
        statement = operation.sqltext
        text = statement if isinstance(statement, str) else str(statement)
        what = " ".join(text.split())[:60]
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
            self._once(text, lambda work: self.long(what, work, transaction=True), run)
        elif kind == "brief":
            self._once(text, lambda work: self.brief(what, work, unknown=True), run)
        else:
            raise SchemaError(
                f'execution_options={{"online": {kind!r}}} is unknown; there are "brief", "long"'
            )

    def _keep_setting(self) -> None:
        """Commit a SET, so that it lasts beyond the next operation's own transaction."""
        with self.outside("keeps a setting"):
            pass

    def _once(
        self, text: str, way: Callable[[Callable[[], None]], object], work: Callable[[], object]
    ) -> None:
        """Run what the catalog says nothing of, unless the journal says that it is done."""
        if self.offline:
            way(lambda: cast("None", work()))
            return
        entry = self.entry(text)
        if entry.state is not None:
            log.info("done already: %s", " ".join(text.split())[:60])
            return
        with self.outside("keeps a journal"):
            self.open_journal()

            def noted() -> None:
                work()
                self.note(entry, {"done": True})

            way(noted)

    def backfill(self, operation: BackfillOp) -> int:
        """Fill rows in batches; returns how many."""
        changed = 0
        if self.offline:
            write_batches(self, operation)
        else:
            changed = fill_in_batches(self, operation)
        self.filled += changed
        return changed


_SESSION = re.compile(r"\s*(SET\s+(?!LOCAL|CONSTRAINTS)|RESET\s)", re.IGNORECASE)
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


def kind_of(statement: str) -> str:
    """Say how a statement of ``op.execute`` runs online, by its first words.

    ``session``: sets something for what follows. ``outside``: PostgreSQL refuses it in a transaction.
    ``long``: its locks let others read and write. ``brief``: everything else.
    """
    statement = re.sub(r"\A(\s*--[^\n]*\n|\s*/\*.*?\*/)+", "", statement, flags=re.DOTALL)
    for kind, pattern in (("session", _SESSION), ("outside", _OUTSIDE), ("long", _LONG)):
        if pattern.match(statement):
            return kind
    return "brief"


def _table_of(operation: ops.CreateTableOp, context: MigrationContext) -> sa.Table:
    """Return the table, of copies: a column belongs to one table, and its keys would be lost for the next."""
    copied = copy(operation)
    copied.columns = [item._copy() if isinstance(item, sa.Column) else item for item in operation.columns]
    return copied.to_table(context)


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


# The implementations take the place of Alembic's own in this process, and do nothing else where no context is
# online: one registry serves all.

_Handler = Callable[[Online, Any], Any]


def _implementation(original: Callable[..., Any], handler: _Handler) -> Callable[[Operations, Any], Any]:
    def run(operations: Operations, operation: Any) -> Any:
        context = operations.migration_context
        online = context.opts.get(KEY)
        if not isinstance(online, Online) or not online.active:
            return original(operations, operation)
        # A batch would queue the operation and run it past us; on PostgreSQL it has no use.
        del operations
        online.refuse(operation)
        if online.planning:
            return online.plan_table(operation) if isinstance(operation, ops.CreateTableOp) else 0
        return handler(online, operation)

    return run


def _not_concurrently(original: Callable[..., Any]) -> Callable[[Operations, Any], Any]:
    """Build and drop indexes within a transaction also where a revision says CONCURRENTLY."""

    def run(operations: Operations, operation: Any) -> Any:
        context = operations.migration_context
        transaction = context.as_sql or not is_autocommit(context)
        if transaction and not isinstance(operations, BatchOperations):
            operation.kw.pop("postgresql_concurrently", None)
        return original(operations, operation)

    return run


for _operation, _original, _handler in (
    (ops.CreateTableOp, toimpl.create_table, Online.create_table),
    (ops.DropTableOp, toimpl.drop_table, Online.drop_table),
    (ops.RenameTableOp, toimpl.rename_table, Online.rename_table),
    (ops.CreateTableCommentOp, toimpl.create_table_comment, Online.table_comment),
    (ops.DropTableCommentOp, toimpl.drop_table_comment, Online.table_comment),
    (ops.AddColumnOp, toimpl.add_column, Online.add_column),
    (ops.DropColumnOp, toimpl.drop_column, Online.drop_column),
    (ops.AlterColumnOp, toimpl.alter_column, Online.alter_column),
    (ops.AddConstraintOp, toimpl.create_constraint, Online.create_constraint),
    (ops.DropConstraintOp, toimpl.drop_constraint, Online.drop_constraint),
    (ops.CreateIndexOp, _not_concurrently(toimpl.create_index), Online.create_index),
    (ops.DropIndexOp, _not_concurrently(toimpl.drop_index), Online.drop_index),
    (ops.BulkInsertOp, toimpl.bulk_insert, Online.bulk_insert),
    (ops.ExecuteSQLOp, toimpl.execute_sql, Online.execute),
    (BackfillOp, fill_at_once, Online.backfill),
):
    Operations.implementation_for(_operation, replace=_operation is not BackfillOp)(
        _implementation(_original, cast("_Handler", _handler))
    )
