"""The private names of Alembic and SQLAlchemy that this package uses; there are no public ones.

Names: naming conventions are applied, and long names shortened, when a statement is compiled.
Type-bound checks: an Enum or Boolean adds them to its column, and Alembic does not render them.
The reverse of a dropped table or column, for a downgrade: Alembic keeps it with the operation.
Copies of columns: a column of SQLAlchemy belongs to one table, and only a whole table has a public copy.
Constraints of a table: SQLAlchemy's compiler writes them with ``process()``.
Variants: SQLAlchemy keeps the types for other dialects with a type.
Defaults: Alembic asks the database whether two defaults are equal; a quote in a default breaks its query.
"""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.util import sqla_compat


def final_name(constraint: sa.Constraint | sa.Index, dialect: sa.Dialect) -> str | None:
    """Return the name that a constraint has in the database, or None if the server names it."""
    name = sqla_compat._get_constraint_final_name(constraint, dialect)
    return None if name is None else str(name)


def constraints_of(table: sa.Table) -> Iterator[sa.Constraint]:
    """Yield the constraints of a table, and the checks that are written with a column."""
    yield from table.constraints
    for column in table.columns:
        yield from column.constraints


def is_type_bound(constraint: sa.Constraint) -> bool:
    """Return whether a check belongs to a column's type."""
    return bool(sqla_compat._is_type_bound(constraint))


def copied(column: "sa.Column[Any]") -> "sa.Column[Any]":
    """Return a copy of a column, attached to no table."""
    return sqla_compat._copy(column)


def reverse_of(operation: ops.DropTableOp | ops.DropColumnOp) -> Any:
    """Return the operation that recreates what is dropped, or None."""
    return operation._reverse


def variant_of(type_: sa.types.TypeEngine[Any]) -> "sa.types.TypeEngine[Any] | None":
    """Return the variant of a type for PostgreSQL, if there is one."""
    return type_._variant_mapping.get("postgresql")


def skip_default_comparison(migration: MigrationContext) -> None:
    """Keep Alembic from comparing server defaults."""
    migration._user_compare_server_default = False


def has_object_filters(context: AutogenContext) -> bool:
    """Return whether env.py filters objects, for which tables must be reflected."""
    return bool(context._object_filters)


def without_constraints(
    create: sa.schema.CreateTable, dialect: sa.Dialect, left_out: list[sa.Constraint], **options: Any
) -> str:
    """Return the SQL that creates a table without constraints; collect these in their order."""
    compiler: Any = dialect.ddl_compiler

    class Bare(compiler):  # type: ignore[misc]
        def create_table_constraints(self, table: sa.Table, **kw: Any) -> str:
            self.process = left_out.append  # collects the constraints instead of writing them
            try:
                super().create_table_constraints(table, **kw)
            finally:
                del self.process
            return ""

    return str(Bare(dialect, create, **options))
