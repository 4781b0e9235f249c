"""How things are written in SQL: names, columns, constraints, indexes, and what Alembic would execute."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext

from alembic_online.internals import copied_column, final_name, is_written
from alembic_online.steps import Index, Validate

_Named = TypeVar("_Named", sa.Constraint, sa.Index)

LONGEST_NAME = 63
"""Bytes of a name of PostgreSQL's."""


def plain(dialect: sa.Dialect, compiled: str) -> str:
    """Return what SQLAlchemy wrote for the driver without its doubled percent signs."""
    return compiled.replace("%%", "%") if dialect.paramstyle in {"format", "pyformat"} else compiled


def table_name(dialect: sa.Dialect, table: sa.TableClause) -> str:
    """Return the name of a table as SQL writes it."""
    return plain(dialect, dialect.identifier_preparer.format_table(table))


def quoted(dialect: sa.Dialect, name: str) -> str:
    """Return a name within a table or schema as SQL writes it."""
    return plain(dialect, dialect.identifier_preparer.quote(name))


def by_name(found: Iterable[_Named]) -> list[_Named]:
    """Return constraints or indexes in one order: SQLAlchemy holds them in sets."""
    return sorted(found, key=lambda item: str(item.name))


class _Recorder:
    """In place of a connection: keeps what would be executed."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self.dialect = dialect
        self.found: list[Any] = []

    def execute(self, statement: Any, parameters: Any = None) -> None:  # noqa: ARG002 - of DDL, there are none
        self.found.append(statement)


class Renderer:
    """Writes SQL for the dialect of a context."""

    def __init__(self, context: MigrationContext) -> None:
        self.context = context
        self.dialect = context.dialect
        self.operations = Operations(context)

    def plain(self, compiled: str) -> str:
        """Return what SQLAlchemy wrote for the driver without its doubled percent signs."""
        return plain(self.dialect, compiled)

    def quoted(self, name: str, schema: str | None = None) -> str:
        """Return the name of a table, or of an index, as SQL writes it."""
        return table_name(self.dialect, sa.table(name, schema=schema))

    def quote(self, name: str) -> str:
        """Return a name within a table or schema as SQL writes it."""
        return quoted(self.dialect, name)

    def statements(self, work: Callable[[Operations], object]) -> tuple[str, ...]:
        """Return what Alembic would execute.

        :param work: calls one of Alembic's implementations, or a method of ``impl``.
        """
        recorder: Any = _Recorder(self.dialect)
        impl: Any = type(self.context.impl)(self.dialect, recorder, False, True, None, {})  # noqa: FBT003
        work(Operations(self.context, impl=impl))
        return tuple(
            self.plain(str(statement.compile(dialect=self.dialect))).strip() for statement in recorder.found
        )

    def added_column(
        self,
        table: str,
        schema: str | None,
        column: "sa.Column[Any]",
        operation: ops.AddColumnOp,
        *,
        inline: bool = False,
    ) -> tuple[str, ...]:
        """Return the statement that adds a column, without keys, checks and indexes.

        :param inline: with the foreign key that is in its definition.
        """
        added = copied_column(column)
        self.operations.schema_obj.table(table, added, schema=schema)
        return self.statements(
            lambda alembic: alembic.impl.add_column(
                table,
                added,
                schema=schema,
                if_not_exists=operation.if_not_exists,
                inline_references=inline,
                **operation.kw,
            )
        )

    def column_without_default(self, column: "sa.Column[Any]", table: str, schema: str | None) -> str:
        """Return the definition of a column, without its default, that may be NULL."""
        bare = plain_column(column)
        bare.server_default, bare.nullable = None, True
        holder = sa.Table(table, sa.MetaData(), bare, schema=schema)
        return self.plain(self._compiler().get_column_specification(holder.columns[bare.name]))

    def default(self, column: "sa.Column[Any]") -> str:
        """Return the default of a column."""
        return self.plain(str(self._compiler().get_column_default_string(plain_column(column))))

    def validation(self, step: Validate) -> str:
        """Return the statement that looks through all rows."""
        return f"ALTER TABLE {step.table} VALIDATE CONSTRAINT {self.quote(step.constraint)}"

    def constraint(self, constraint: sa.Constraint) -> str:
        """Return the definition of a constraint, with its name."""
        return self.plain(str(self._compiler().process(constraint)))

    def index(self, index: sa.Index) -> Index:
        """Return an index whose table and name can be exchanged."""
        table = index.table
        assert table is not None  # noqa: S101 - an operation's index has one
        for column in index.dialect_options["postgresql"].get("include") or ():
            if column not in table.c:  # as Alembic does: an index operation knows its own columns alone
                table.append_column(sa.Column(column, sa.types.NullType()))
        index.dialect_options["postgresql"]["concurrently"] = False
        statement = self.plain(str(sa.schema.CreateIndex(index).compile(dialect=self.dialect)))
        name = self.quoted(table.name, table.schema)
        head, on, tail = statement.partition(f" ON {name} ")
        assert on  # noqa: S101 - so SQLAlchemy writes it
        final = str(final_name(index, self.dialect))
        full = self.quoted(final, table.schema)
        unique = head.startswith("CREATE UNIQUE")
        return Index(name, table.schema, final, self.quote(final), full, unique, tail)

    def parents(self, *holders: "sa.Table | sa.ForeignKeyConstraint") -> tuple[str, ...]:
        """Return the tables that foreign keys, or those of tables, refer to."""
        found = []
        for holder in holders:
            keys: Iterable[sa.ForeignKeyConstraint] = (
                holder.foreign_key_constraints if isinstance(holder, sa.Table) else [holder]
            )
            for key in keys:
                *schema, table, _ = next(iter(key.elements)).target_fullname.split(".")
                found.append(self.quoted(table, ".".join(schema) or None))
        return tuple(found)

    def holder(self, operation: ops.AddColumnOp) -> sa.Table:
        """Return Alembic's own way to a table for a new column, with the tables that it refers to."""
        table: sa.Table = self.operations.schema_obj.table(
            operation.table_name, copied_column(operation.column), schema=operation.schema
        )
        return table

    def constraints(self, operation: ops.AddColumnOp, holder: sa.Table) -> list[sa.Constraint]:
        """Return the constraints of a new column, those within its definition as constraints of a table."""
        found: list[sa.Constraint] = []
        for check in holder.columns[operation.column.name].constraints:
            if isinstance(check, sa.CheckConstraint):
                alone = sa.Table(holder.name, sa.MetaData(), schema=holder.schema)
                found.append(sa.CheckConstraint(check.sqltext, name=check.name, table=alone))
        for constraint in by_name(holder.constraints):
            if isinstance(constraint, sa.PrimaryKeyConstraint) or not is_written(
                constraint, self.context.impl
            ):
                continue
            if operation.inline_references and isinstance(constraint, sa.ForeignKeyConstraint):
                constraint.name = None  # that, Alembic leaves out
            found.append(constraint)
        return found

    def _compiler(self) -> Any:
        compiler: Any = self.dialect.ddl_compiler
        return compiler(self.dialect, None)


def plain_column(column: "sa.Column[Any]") -> "sa.Column[Any]":
    """Return a column without its keys, checks, index and comment, which are added by themselves."""
    plain: sa.Column[Any] = sa.Column(
        column.name, column.type, nullable=column.nullable, autoincrement=column.autoincrement
    )
    default = column.server_default
    if isinstance(default, sa.Identity | sa.Computed):
        plain = copied_column(column)
        plain.comment, plain.index, plain.unique = None, None, None
    elif default is not None:
        plain.server_default = default
    return plain


def default_name(table: str, columns: str, label: str) -> str:
    """Return the name that PostgreSQL gives to something of columns, as long as it is free.

    The rule is that of its makeObjectName(): of a name that is too long, the longer part loses its end.
    """
    parts = [table.encode(), columns.encode()]
    while len(b"_".join(parts)) + 1 + len(label.encode()) > LONGEST_NAME:
        longest = 0 if len(parts[0]) > len(parts[1]) else 1
        parts[longest] = parts[longest][:-1]
    return "_".join([*(part.decode(errors="ignore") for part in parts), label])
