"""Compile to SQL: names, columns, constraints, indexes, and the statements that Alembic would execute."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext

from alembic_online.internals import copied_column, final_name, is_written
from alembic_online.steps import Index, Validate

_Named = TypeVar("_Named", sa.Constraint, sa.Index)

LONGEST_NAME = 63
"""The longest name in PostgreSQL, in bytes."""


def plain(dialect: sa.Dialect, compiled: str) -> str:
    """Return SQL that SQLAlchemy compiled for the driver, without its doubled percent signs."""
    return compiled.replace("%%", "%") if dialect.paramstyle in {"format", "pyformat"} else compiled


def table_name(dialect: sa.Dialect, table: sa.TableClause) -> str:
    """Return the name of a table with its schema, quoted where needed."""
    return plain(dialect, dialect.identifier_preparer.format_table(table))


def quoted(dialect: sa.Dialect, name: str) -> str:
    """Return a name without schema, quoted where needed."""
    return plain(dialect, dialect.identifier_preparer.quote(name))


def counted(number: int, one: str, many: str) -> str:
    """Return a number with its noun: "1 row", "2 rows"."""
    return f"{number} {one if number == 1 else many}"


def by_name(found: Iterable[_Named]) -> list[_Named]:
    """Return constraints or indexes in a fixed order: SQLAlchemy keeps them in sets."""
    return sorted(found, key=lambda item: str(item.name))


class _Recorder:
    """Stands in for a connection and keeps the statements instead of executing them."""

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
        """Return SQL that SQLAlchemy compiled for the driver, without its doubled percent signs."""
        return plain(self.dialect, compiled)

    def quoted(self, name: str, schema: str | None = None) -> str:
        """Return the name of a table or index with its schema, quoted where needed."""
        return table_name(self.dialect, sa.table(name, schema=schema))

    def quote(self, name: str) -> str:
        """Return a name without schema, quoted where needed."""
        return quoted(self.dialect, name)

    def statements(self, work: Callable[[Operations], object]) -> tuple[str, ...]:
        """Return the statements that Alembic would execute.

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

        :param inline: include the foreign key of its definition.
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
        """Return the definition of a column as nullable and without its default."""
        bare = plain_column(column)
        bare.server_default, bare.nullable = None, True
        holder = sa.Table(table, sa.MetaData(), bare, schema=schema)
        return self.plain(self._compiler().get_column_specification(holder.columns[bare.name]))

    def default(self, column: "sa.Column[Any]") -> str:
        """Return the default of a column."""
        return self.plain(str(self._compiler().get_column_default_string(plain_column(column))))

    def validation(self, step: Validate) -> str:
        """Return the statement that validates the existing rows."""
        return f"ALTER TABLE {step.table} VALIDATE CONSTRAINT {self.quote(step.constraint)}"

    def constraint(self, constraint: sa.Constraint) -> str:
        """Return the definition of a constraint with its name."""
        return self.plain(str(self._compiler().process(constraint)))

    def index(self, index: sa.Index) -> Index:
        """Return an index as data, in which table and name can be replaced."""
        table = index.table
        assert table is not None  # noqa: S101 - an operation's index has one
        for column in index.dialect_options["postgresql"].get("include") or ():
            if column not in table.c:  # like Alembic: an index operation knows only its own columns
                table.append_column(sa.Column(column, sa.types.NullType()))
        index.dialect_options["postgresql"]["concurrently"] = False
        statement = self.plain(str(sa.schema.CreateIndex(index).compile(dialect=self.dialect)))
        name = self.quoted(table.name, table.schema)
        head, on, tail = statement.partition(f" ON {name} ")
        assert on  # noqa: S101 - SQLAlchemy always writes it like this
        final = str(final_name(index, self.dialect))
        full = self.quoted(final, table.schema)
        unique = head.startswith("CREATE UNIQUE")
        return Index(name, table.schema, final, self.quote(final), full, unique, tail)

    def parents(self, *holders: "sa.Table | sa.ForeignKeyConstraint") -> tuple[str, ...]:
        """Return the tables that foreign keys, or the foreign keys of tables, reference."""
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
        """Return a table with the new column, as Alembic builds it, with stubs of the referenced tables."""
        table: sa.Table = self.operations.schema_obj.table(
            operation.table_name, copied_column(operation.column), schema=operation.schema
        )
        return table

    def constraints(self, operation: ops.AddColumnOp, holder: sa.Table) -> list[sa.Constraint]:
        """Return the constraints of a new column; those of its definition become table constraints."""
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
                constraint.name = None  # Alembic omits the name too
            found.append(constraint)
        return found

    def _compiler(self) -> Any:
        compiler: Any = self.dialect.ddl_compiler
        return compiler(self.dialect, None)


def plain_column(column: "sa.Column[Any]") -> "sa.Column[Any]":
    """Return a column without its keys, checks, index and comment, which are added separately."""
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
    """Return the name that PostgreSQL gives to an object on columns, if that name is free.

    It follows PostgreSQL's makeObjectName(): while the name is too long, its longer part is truncated.
    """
    parts = [table.encode(), columns.encode()]
    while len(b"_".join(parts)) + 1 + len(label.encode()) > LONGEST_NAME:
        longest = 0 if len(parts[0]) > len(parts[1]) else 1
        parts[longest] = parts[longest][:-1]
    return "_".join([*(part.decode(errors="ignore") for part in parts), label])
