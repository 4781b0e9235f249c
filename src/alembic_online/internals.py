"""Private names of Alembic and SQLAlchemy that this package needs.

Copies of operations: a column, constraint or index of SQLAlchemy belongs to one table. Attached to a second
table, it loses its foreign keys or raises an error. A revision is read before it runs, and a statement that
did not get its lock is tried again, so each use of an operation takes a copy and the revision's own objects
stay unattached. SQLAlchemy can copy only whole tables.

Steps and sessions: Alembic has no event before a revision and none at the end of a run.

Updates: the columns that a statement sets have no public name.

Names: SQLAlchemy applies naming conventions, and shortens long names, only when it compiles a statement.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from copy import copy
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic.operations import BatchOperations, Operations, ops
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.util import sqla_compat
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.schema import ColumnCollectionConstraint
from sqlalchemy.sql import visitors

_Operation = TypeVar("_Operation", bound=ops.MigrateOperation)
_Columns = Mapping["sa.Column[Any]", "sa.Column[Any]"]


Implementation = Callable[[Operations, Any], Any]
"""Executes an operation."""


def registered(kind: type[ops.MigrateOperation]) -> Implementation:
    """Return the registered implementation of a kind of operation: Alembic's own or another plugin's."""
    found: Implementation = Operations._to_impl.dispatch(kind)
    return found


def copies_table(batch: BatchOperations) -> bool:
    """Return whether a batch replaces its table by a copy."""
    impl: Any = batch.impl
    return bool(impl._should_recreate())


def batch_table(batch: BatchOperations) -> tuple[str, str | None]:
    """Return the name and schema of the table of a batch."""
    impl: Any = batch.impl
    return impl.table_name, impl.schema


def is_transaction_per_revision(context: MigrationContext) -> bool:
    """Return whether a context was configured with ``transaction_per_migration``."""
    return bool(context._transaction_per_migration)


def is_in_transaction_of_caller(context: MigrationContext) -> bool:
    """Return whether a transaction was open when a context was configured."""
    return bool(context._in_external_transaction)


def transaction_of_revision(context: MigrationContext) -> AbstractContextManager[Any]:
    """Return the transaction in which Alembic runs a revision."""
    transaction: AbstractContextManager[Any] = context.begin_transaction(_per_migration=True)
    return transaction


def steps_of(context: MigrationContext, heads: tuple[str, ...]) -> Iterable[MigrationStep]:
    """Return the revisions that a run of a context would take."""
    found: Any = context._migrations_fn
    steps: Iterable[MigrationStep] = found(heads, context)
    return steps


def on_steps(
    context: MigrationContext, prepared: Callable[[Iterable[MigrationStep]], Iterator[MigrationStep]]
) -> None:
    """Pass the revisions of a run through a function, which can act before each of them."""
    found: Any = context._migrations_fn
    steps: Any = lambda heads, of: prepared(found(heads, of))  # noqa: E731 - typed
    context._migrations_fn = steps


def columns_set(statement: sa.Update) -> list[str]:
    """Return the names of the columns that an UPDATE sets, those with ``onupdate`` included."""
    given: Any = statement._values
    columns: Any = statement.table.c
    found = [columns.get(key, key) if isinstance(key, str) else key for key in given or ()]
    found += [column for column in columns if getattr(column, "onupdate", None) is not None]
    return [column if isinstance(column, str) else str(column.name) for column in found]


def final_name(item: "sa.Constraint | sa.Index", dialect: sa.Dialect) -> str | None:
    """Return the name of a constraint or index in the database, if it has one."""
    found = sqla_compat._get_constraint_final_name(item, dialect)
    return None if found is None else str(found)


def is_written(constraint: sa.Constraint, impl: Any) -> bool:
    """Return whether the dialect creates a constraint, which may belong to a type."""
    rule: Any = constraint._create_rule
    return not rule or bool(rule(impl))


def copied_column(column: "sa.Column[Any]") -> "sa.Column[Any]":
    """Return a column that belongs to no table."""
    return column._copy()


def copied(operation: _Operation) -> _Operation:
    """Return a copy of an operation, with copies of its columns, constraints and indexes."""
    fresh = copy(operation)
    if isinstance(fresh, ops.CreateTableOp):
        columns: dict[sa.Column[Any], sa.Column[Any]] = {}
        for item in fresh.columns:
            if isinstance(item, sa.Column) and not _belongs(item):  # Alembic copies the others by itself
                columns[item] = item._copy()
        fresh.columns = [
            columns.get(item, item) if isinstance(item, sa.Column) else _copied_item(item, columns)
            for item in fresh.columns
        ]
    if isinstance(fresh, ops.AddColumnOp):
        fresh.column = fresh.column._copy()
    if isinstance(fresh, ops.CreateIndexOp | ops.DropIndexOp):
        fresh.kw = dict(fresh.kw)
    return fresh


def _copied_item(item: Any, columns: _Columns) -> Any:
    """Return a copy of a constraint or index, unless it already belongs to a table."""
    if _belongs(item):
        return item
    if isinstance(item, sa.ForeignKeyConstraint):
        return sa.ForeignKeyConstraint(
            item.column_keys,
            [element._colspec for element in item.elements],
            name=item.name,
            onupdate=item.onupdate,
            ondelete=item.ondelete,
            deferrable=item.deferrable,
            initially=item.initially,
            use_alter=item.use_alter,
            link_to_name=item.link_to_name,
            match=item.match,
            comment=item.comment,
            **item.dialect_kwargs,
        )
    if not isinstance(item, ColumnCollectionConstraint | sa.Index):
        return item
    fresh: Any = copy(item)
    fresh._columns = type(item._columns)()
    fresh._pending_colargs = [_key(argument) for argument in item._pending_colargs]
    if isinstance(item, sa.Index):
        fresh.expressions = [_replaced(_key(expression), columns) for expression in item.expressions]
    if isinstance(fresh, sa.CheckConstraint):
        fresh.sqltext = _replaced(fresh.sqltext, columns)
    if isinstance(fresh, ExcludeConstraint):
        fresh._render_exprs = [
            (_replaced(_key(expression), columns), name, operator)
            for expression, name, operator in fresh._render_exprs
        ]
    return fresh


def _belongs(item: Any) -> bool:
    """Return whether a column, constraint or index belongs to a table."""
    owner = item.table if isinstance(item, sa.Column | sa.Index) else getattr(item, "parent", None)
    return owner is not None


def _key(argument: Any) -> Any:
    """Return the key of a column, by which its copy is found; anything else is returned unchanged."""
    return argument.key if isinstance(argument, sa.Column) else argument


def _replaced(expression: Any, columns: _Columns) -> Any:
    """Return an expression with columns replaced by their copies."""
    if not isinstance(expression, sa.ClauseElement):
        return expression
    return visitors.replacement_traverse(
        expression, {}, lambda element, **_: columns.get(element) if isinstance(element, sa.Column) else None
    )
