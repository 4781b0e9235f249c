"""Settings of columns: storage, compression, statistics target and options; also of an index's columns."""

from collections.abc import Iterator, Mapping

from alembic.operations import Operations, ops

from alembic_drift.kinds import settings
from alembic_drift.kinds.settings import AFTER_COLUMNS, changed
from alembic_drift.objects import Facts, Key
from alembic_drift.order import Phase
from alembic_drift.resolution import Planned, Resolution
from alembic_drift.simple import SimpleOp, Value, named, set_and_reset
from alembic_drift.sql import qualified, quote

_STORED = {"storage", "compression"}
_COUNTED = {"statistics target", "attribute options"}
_BEFORE_TYPES = 9_300
"""Orders operations in Phase.TABLES: a downgrade runs these after it has changed types back."""


def resolve(resolution: Resolution, key: Key, aspects: set[str]) -> set[str]:
    """Plan the settings in which a column differs; return the other aspects."""
    database, models = resolution.sides(key)
    if database is None or models is None:
        up = [] if models is None else of_new(resolution, key, models)
        down = [] if database is None else of_new(resolution, key, database)
        resolution.both(Phase.REST, up, [])
        resolution.both(Phase.NAMES, [], down, number=-1)  # a downgrade runs it after the column exists
        return aspects
    done = (_STORED | _COUNTED) & aspects
    if {"type", "collation"} & aspects:  # they reset the storage to that of the new type
        up, down = ([*_alter(resolution, key, _stored(facts), facts, facts)] for facts in (models, database))
        resolution.both(Phase.TABLES, up, [], number=AFTER_COLUMNS)
        resolution.both(Phase.TABLES, [], down, number=_BEFORE_TYPES)
    counted = done if not {"type", "collation"} & aspects else done & _COUNTED
    up, down = (
        [*_alter(resolution, key, counted, old, new)] for old, new in ((database, models), (models, database))
    )
    resolution.both(Phase.REST, up, down)
    return aspects - done


def _stored(facts: Facts) -> set[str]:
    return {aspect for aspect in _STORED if aspect in facts}


def of_new(resolution: Resolution, key: Key, facts: Facts) -> Planned:
    """Return what gives a column that was just created its settings."""
    has = {aspect for aspect in _STORED | _COUNTED if aspect in facts}
    return [*_alter(resolution, key, has, {}, facts)]


def of_new_table(resolution: Resolution, table: str) -> None:
    """Plan the settings of the columns and keys of a table that the upgrade or the downgrade creates."""
    for catalog in (resolution.models, resolution.database):
        made: Planned = []
        for key, facts in catalog.items():
            if key.table != table or key in resolution.unmanaged or resolution.is_unwritten(key):
                continue
            if key.kind == "column":
                made += of_new(resolution, key, facts)
            elif key.kind == "constraint" and facts["_type"] in "pu":
                made += settings.of_new(resolution, "index", key.name, facts)
        if catalog is resolution.models:
            resolution.both(Phase.REST, made, [])
        else:
            resolution.both(Phase.NAMES, [], made, number=-1)


def _alter(
    resolution: Resolution, key: Key, aspects: set[str], old: Facts, new: Facts
) -> Iterator[ops.MigrateOperation]:
    table, column, schema = str(key.table), key.name, resolution.schema
    if _STORED & aspects:
        yield AlterColumnStorageOp(
            table,
            column,
            storage=new["_storage"] if "storage" in aspects else None,
            compression=new.get("compression", "default") if "compression" in aspects else None,
            schema=schema,
        )
    if _COUNTED & aspects:
        yield AlterColumnStatisticsOp(
            table,
            column,
            target=new.get("statistics target", -1) if "statistics target" in aspects else None,
            options=changed(old.get("attribute options"), new.get("attribute options"))
            if "attribute options" in aspects
            else None,
            schema=schema,
        )


def of_index(resolution: Resolution, name: str, old: Facts, new: Facts) -> Planned:
    """Return what sets the statistics targets of the expressions of an index."""
    before, after = (facts.get("_targets") or {} for facts in (old, new))
    return [
        AlterColumnStatisticsOp(name, int(number), target=after.get(number, -1), schema=resolution.schema)
        for number in sorted({*before, *after}, key=int)
        if before.get(number) != after.get(number)
    ]


# The operations.


@Operations.register_operation("alter_column_storage", "alter")
class AlterColumnStorageOp(SimpleOp):
    """Change how the values of a column are stored."""

    operation = "alter_column_storage"

    def __init__(
        self,
        table: str,
        column: str,
        *,
        storage: str | None = None,
        compression: str | None = None,
        schema: str | None = None,
    ) -> None:
        self.table, self.column, self.schema = table, column, schema
        self.storage, self.compression = storage, compression

    @classmethod
    def alter(
        cls,
        operations: Operations,
        table: str,
        column: str,
        *,
        storage: str | None = None,
        compression: str | None = None,
        schema: str | None = None,
    ) -> None:
        """Change how the values of a column are stored, in new rows and in rows that are updated.

        Existing values stay as they are, and remain readable.

        :param table: the table or materialized view.
        :param column: its column.
        :param storage: "plain", "external", "extended" or "main".
        :param compression: "pglz" or "lz4", or "default" for the server's setting.
        :param schema: the table's schema, if it is not the first of the search_path.
        """
        operations.invoke(cls(table, column, storage=storage, compression=compression, schema=schema))

    def statements(self) -> Iterator[str]:
        """Yield one ALTER TABLE."""
        column = f"ALTER COLUMN {quote(self.column)} SET"
        given = {"STORAGE": self.storage, "COMPRESSION": self.compression}
        actions = [f"{column} {what} {value.upper()}" for what, value in given.items() if value is not None]
        if actions:
            yield f"ALTER TABLE {qualified(self.table, self.schema)} {', '.join(actions)}"

    def arguments(self) -> Iterator[str]:
        """Yield the arguments."""
        yield from (repr(self.table), repr(self.column))
        yield from named(storage=self.storage, compression=self.compression, schema=self.schema)


@Operations.register_operation("alter_column_statistics", "alter")
class AlterColumnStatisticsOp(SimpleOp):
    """Change the statistics that ANALYZE collects about a column."""

    operation = "alter_column_statistics"

    def __init__(
        self,
        table: str,
        column: str | int,
        *,
        target: int | None = None,
        options: Mapping[str, Value] | None = None,
        schema: str | None = None,
    ) -> None:
        self.table, self.column, self.schema = table, column, schema
        self.target, self.options = target, options

    @classmethod
    def alter(
        cls,
        operations: Operations,
        table: str,
        column: str | int,
        *,
        target: int | None = None,
        options: Mapping[str, Value] | None = None,
        schema: str | None = None,
    ) -> None:
        """Change the statistics that ANALYZE collects about a column, from its next run on.

        :param table: the table or materialized view, or an index.
        :param column: the column; for an index, the number of an expression, from 1.
        :param target: the statistics target, up to 10000; -1 for the server's setting.
        :param options: values by name: ``{"n_distinct": -0.05}``; None resets one.
        :param schema: the table's schema, if it is not the first of the search_path.
        """
        operations.invoke(cls(table, column, target=target, options=options, schema=schema))

    def statements(self) -> Iterator[str]:
        """Yield one ALTER TABLE or ALTER INDEX."""
        of_index = isinstance(self.column, int)
        actions = [] if self.target is None else [f"SET STATISTICS {self.target}"]
        actions += set_and_reset(self.options or {})
        if actions:
            alter = f"ALTER {'INDEX' if of_index else 'TABLE'} {qualified(self.table, self.schema)}"
            column = f"ALTER COLUMN {self.column if of_index else quote(str(self.column))}"
            yield f"{alter} {', '.join(f'{column} {action}' for action in actions)}"

    def arguments(self) -> Iterator[str]:
        """Yield the arguments."""
        yield from (repr(self.table), repr(self.column))
        yield from named(target=self.target, options=self.options, schema=self.schema)
