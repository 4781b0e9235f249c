"""Copies of operations.

A column, constraint or index of SQLAlchemy belongs to one table: attached to a second one, it has lost its
foreign keys, or is an error. A revision is read through before it runs, and a statement that did not get its
lock is tried again, so each use of an operation takes a copy, and the revision's own objects stay unattached.
"""

from collections.abc import Mapping
from copy import copy
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic.operations import ops
from sqlalchemy.dialects.postgresql import ExcludeConstraint
from sqlalchemy.schema import ColumnCollectionConstraint
from sqlalchemy.sql import visitors

_Operation = TypeVar("_Operation", bound=ops.MigrateOperation)
_Columns = Mapping["sa.Column[Any]", "sa.Column[Any]"]


def copied(operation: _Operation) -> _Operation:
    """Return an operation with columns, constraints and indexes of its own."""
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
    """Return a copy of a constraint or index, unless it belongs to a table already."""
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
    """Return whether a column, constraint or index has its table."""
    owner = item.table if isinstance(item, sa.Column | sa.Index) else getattr(item, "parent", None)
    return owner is not None


def _key(argument: Any) -> Any:
    """Return the key by which the copy of a column is found, or something else as it is."""
    return argument.key if isinstance(argument, sa.Column) else argument


def _replaced(expression: Any, columns: _Columns) -> Any:
    """Return an expression that names the copies of columns."""
    if not isinstance(expression, sa.ClauseElement):
        return expression
    return visitors.replacement_traverse(
        expression, {}, lambda element, **_: columns.get(element) if isinstance(element, sa.Column) else None
    )
