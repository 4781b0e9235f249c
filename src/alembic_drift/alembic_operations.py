"""Keeps those operations of Alembic's comparators that match a difference in the catalogs."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from alembic.operations import ops

from alembic_drift import new_tables
from alembic_drift.align import LETTERS
from alembic_drift.internals import copied, final_name, is_type_bound, reverse_of
from alembic_drift.kinds import constraints, indexes, sequences, settings
from alembic_drift.kinds.columns import default
from alembic_drift.kinds.types import plain
from alembic_drift.objects import REFUSED, Facts, Key
from alembic_drift.order import Phase
from alembic_drift.resolution import Resolution

Found = tuple[int, ops.MigrateOperation]
"""An operation and its position in Alembic's list."""

_NULLS = "postgresql_nulls_not_distinct"


def take_over(resolution: Resolution, found: Iterable[Found]) -> None:
    """Plan the operations that are kept: tables and columns created or dropped, and those of other plugins.

    Changes of columns are collected, and completed later. All other operations are built from the catalogs.
    """
    differing = {difference.key for difference in resolution.differences if difference.aspect == ""}
    created: set[str] = set()
    for number, operation in found:
        match operation:
            case ops.CreateTableOp():
                if Key("table", None, operation.table_name) in differing:
                    created.add(operation.table_name)
                    _complete_table(resolution, operation, created)
                    new_tables.complete(resolution, operation)
                    settings.complete(operation, resolution.models[Key("table", None, operation.table_name)])
                    resolution.plan(Phase.TABLES, operation, number=number)
            case ops.DropTableOp():
                if Key("table", None, operation.table_name) in differing:
                    _drop_table(resolution, operation)
                    resolution.plan(Phase.TABLES, operation, number=number)
            case ops.AddColumnOp():
                if Key("column", operation.table_name, operation.column.name) in differing:
                    operation.column = _plain_column(operation.column)
                    resolution.plan(Phase.TABLES, operation, number=number)
            case ops.DropColumnOp():
                if Key("column", operation.table_name, operation.column_name) in differing:
                    _drop_column(resolution, operation)
                    # At this point no generated column reads it.
                    resolution.plan(Phase.TABLES, operation, number=30_000 + number)
            case ops.AlterColumnOp():
                key = Key("column", operation.table_name, operation.column_name)
                if any(resolution.of(key)):
                    resolution.altered[operation.table_name, operation.column_name] = operation
            case ops.CreateTableCommentOp() | ops.DropTableCommentOp():
                key = Key("table", None, operation.table_name)
                if any(difference.aspect == "comment" for difference in resolution.of(key)):
                    resolution.plan(Phase.TABLES, operation, number=number)
            case ops.CreateIndexOp():
                # Indexes of new tables only; those of existing tables come from the catalogs.
                if Key("table", None, str(operation.table_name)) in differing:
                    resolution.plan(Phase.TABLES, operation, number=number)
            case ops.DropIndexOp() | ops.AddConstraintOp() | ops.DropConstraintOp():
                pass
            case _:
                resolution.plan(Phase.TABLES, operation, number=number)


def _plain_column(column: "sa.Column[Any]") -> "sa.Column[Any]":
    if plain(column.type) is column.type:
        return column
    plainer = copied(column)
    plainer.type = plain(column.type)
    return plainer


def _complete_table(resolution: Resolution, operation: ops.CreateTableOp, created: set[str]) -> None:
    """Add separately what a new table cannot be created with, or what Alembic leaves out."""
    table = operation.table_name
    refused = {of.key.name for of in resolution.differences if of.aspect == REFUSED and of.key.table == table}
    operation.columns = [
        _plain_column(item) if isinstance(item, sa.Column) else item
        for item in operation.columns
        if not (isinstance(item, sa.ForeignKeyConstraint) and _refers_ahead(resolution, item, created))
        and not (isinstance(item, sa.Constraint) and final_name(item, resolution.dialect) in refused)
    ]
    every = [item for item in operation.columns if isinstance(item, sa.Constraint)]
    within = [item for item in every if not is_type_bound(item)]
    # Checks of types; they are not written with their columns.
    bound: set[object] = set()
    for item in every:
        if is_type_bound(item) and isinstance(item, sa.CheckConstraint):
            bound.add(final_name(item, resolution.dialect) or frozenset(item.columns.keys()))
    names = {final_name(item, resolution.dialect) for item in within}
    unnamed = {
        (LETTERS.get(item.__visit_name__), frozenset(item.columns.keys()))
        for item in within
        if isinstance(item, sa.schema.ColumnCollectionConstraint)
        and final_name(item, resolution.dialect) is None
    }
    for key, facts in resolution.models.items():
        if (
            key.kind != "constraint"
            or key.table != table
            or key.name in names
            or resolution.is_unwritten(key)
        ):
            continue
        kind = facts["_type"]
        columns = frozenset(facts.get("_columns", ()))
        if (kind, columns) in unnamed and not {key.name, columns} & bound:
            continue
        if kind == "c" and any(letter == "c" for letter, _ in unnamed) and not {key.name, columns} & bound:
            continue
        constraints.exchange(resolution, key)


def _refers_ahead(resolution: Resolution, key: sa.ForeignKeyConstraint, created: set[str]) -> bool:
    """Return whether a foreign key of a new table refers to a table that is created after it."""
    referred = key.referred_table
    ahead = (
        resolution.tables.get(referred.name) is referred
        and Key("table", None, referred.name) not in resolution.database
        and referred.name not in created
    )
    return bool(key.use_alter) or ahead


def _drop_table(resolution: Resolution, operation: ops.DropTableOp) -> None:
    """Drop the parts of a table one by one, if the downgrade would not recreate them unchanged.

    Foreign keys come first, because tables that refer to each other have no order.
    """
    for key, facts in resolution.database.items():
        if key.table != operation.table_name:
            continue
        if key.kind == "index":
            create = indexes.create(resolution, key, facts)
            resolution.both(Phase.INDEXES_GO, indexes.drop(resolution, key, facts), create)
        elif key.kind == "constraint" and (facts["_type"] in {"f", "x"} or _is_odd_check(facts)):
            add = constraints.add(resolution, key, facts)
            resolution.both(Phase.KEYS_GO, constraints.drop(resolution, key, facts), add)
    made = reverse_of(operation)
    if made is not None:
        settings.complete(operation, resolution.database[Key("table", None, operation.table_name)])
        made.columns = [
            _reflected(resolution, operation.table_name, item) if isinstance(item, sa.Column) else item
            for item in made.columns
            if not isinstance(item, sa.ForeignKeyConstraint)
            and not (
                isinstance(item, sa.CheckConstraint)
                and _is_odd_check(
                    resolution.database.get(Key("constraint", operation.table_name, str(item.name)))
                )
            )
        ]
        for item in made.columns:
            # Reflected as False, and written as NULLS DISTINCT, which PostgreSQL supports since 15.
            if isinstance(item, sa.UniqueConstraint) and not item.dialect_kwargs.get(_NULLS):
                item.dialect_kwargs.pop(_NULLS, None)
        _make_as_it_was(resolution, operation)
    _note_unmanaged_drops(resolution, Key("table", None, operation.table_name))


def _is_odd_check(facts: Facts | None) -> bool:
    """Return whether a check is NOT VALID, NO INHERIT or not enforced, which SQLAlchemy does not reflect."""
    return (
        facts is not None
        and facts["_type"] == "c"
        and (not facts["_validated"] or facts["_no_inherit"] or not facts["_enforced"])
    )


def _drop_column(resolution: Resolution, operation: ops.DropColumnOp) -> None:
    """Have the downgrade recreate the sequence of a dropped column, which Alembic forgets."""
    added, column = reverse_of(operation), Key("column", operation.table_name, operation.column_name)
    if added is not None:
        added.column = _reflected(resolution, operation.table_name, added.column)
    for key, facts in resolution.database.items():
        owned = key.kind == "sequence" and facts["_owner"] == [column.table, column.name]
        if added is None or not owned or "default" not in resolution.database[column]:
            continue
        resolution.both(Phase.FUNCTIONS_GO, [], sequences.create(resolution, key, facts))
        resolution.both(Phase.KEYS_GO, [], [sequences.owned(resolution, key, facts)])
        added.column.server_default = default(resolution.database[column])
    _note_unmanaged_drops(resolution, column)


def _reflected(resolution: Resolution, table: str, column: "sa.Column[Any]") -> "sa.Column[Any]":
    """Return a column of the database; SQLAlchemy reflects the NOT NULL of its domain as the column's."""
    made = copied(column)
    made.type = plain(column.type)
    made.nullable = "not null" not in resolution.database.get(
        Key("column", table, column.name), {"not null": 1}
    )
    return made


def _make_as_it_was(resolution: Resolution, operation: ops.DropTableOp) -> None:
    """Recreate in the downgrade what SQLAlchemy does not reflect, or note that this is lost."""
    key = Key("table", None, operation.table_name)
    facts = resolution.database[key]
    if "partition key" in facts:
        operation.table_kw["postgresql_partition_by"] = facts["partition key"]
    if "_partitions" in facts:
        resolution.unresolved.append(
            f"{key}: its partitions {facts['_partitions']} are dropped with it;"
            " a downgrade recreates it without partitions"
        )
    for fact in ("replica identity", "inherits", "type", "foreign"):
        if fact in facts:
            resolution.unresolved.append(
                f"{key}: {fact}: {facts[fact]}: a downgrade recreates it without this"
            )


def _note_unmanaged_drops(resolution: Resolution, dropped: Key) -> None:
    """Note the unmanaged and excluded objects that PostgreSQL drops with a table or column."""
    table = dropped.table or dropped.name
    for key in sorted({*resolution.unmanaged, *resolution.hidden}, key=str):
        facts = resolution.hidden[key] if key in resolution.hidden else resolution.database[key]
        if key.table == table and (dropped.table is None or dropped.name in facts.get("_columns", ())):
            why = "excluded from the comparison" if key in resolution.hidden else "unmanaged"
            resolution.unresolved.append(f"{key}: {why}; dropped together with {dropped}")
