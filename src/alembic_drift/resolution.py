"""The resolution of differences: kinds of objects, and the operations planned for one schema."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from alembic.operations import ops

from alembic_drift.objects import Catalog, Difference, Facts, Key, view_of
from alembic_drift.order import Phase, Plan, free_names
from alembic_drift.probes import Probes, Recreate
from alembic_drift.render import WithDowngrade
from alembic_drift.sql import as_text, literal, qualified, quote

Planned = list[ops.MigrateOperation]
Rename = Callable[[str, str], ops.MigrateOperation]
Columns = dict[tuple[str, str], ops.AlterColumnOp]
"""Alembic's operations for columns that change, by table and name."""


@dataclass(frozen=True)
class Kind:
    """A kind of object: one file of :mod:`alembic_drift.kinds`."""

    names: tuple[str, ...]
    """The names of its objects, in the query and for people: "view", "materialized view"."""
    query: str
    """A SELECT of kind, table, name and facts, on top of the query in :mod:`alembic_drift.catalog`."""
    resolve: Callable[["Resolution", Key, set[str]], Iterable[str]]
    """Plans operations for the aspects that differ; returns the aspects that no operation resolves."""
    may_be_unmanaged: bool = False
    """Whether an object on a table of the models may be unmanaged: it does not change what can be written."""
    separate: bool = False
    """Whether the object is created and dropped separately from its table."""
    recreate: Recreate | None = None
    """Recreates an object from the server's text; None if the probes know how to do that."""


@dataclass
class Resolution:
    """The differences of one schema, and the operations planned so far."""

    name: str
    """The name of the schema in the database."""
    schema: str | None
    """The name of the schema in operations; None for the first schema of the search_path."""
    default: str
    """The name of the first schema of the search_path."""
    database: Catalog
    models: Catalog
    tables: dict[str, sa.Table]
    """The tables of the models, including views."""
    dialect: sa.Dialect
    differences: list[Difference]
    unmanaged: set[Key]
    """The unmanaged objects."""
    hidden: Catalog
    """The objects of the database that own_objects or the filters of env.py exclude."""
    clashing: set[str]
    """Names of relations that are of another kind in the database."""
    probes: Probes
    columns: Callable[[str], Any]
    """Returns the columns of a table in the database, as SQLAlchemy reflects them."""

    rebuilt: list[Key] = field(default_factory=list)
    """The views to be recreated, each after the views that it reads."""
    places: dict[Key, int] = field(default_factory=dict)
    """The position of each view among those of all schemas."""
    recreated: set[Key] = field(default_factory=set)
    """The triggers, rules and policies to be recreated."""
    altered: Columns = field(default_factory=dict)
    planned: list[Plan] = field(default_factory=list)
    unresolved: list[str] = field(default_factory=list)
    """Lines about differences that no operation resolves."""
    renames: list[tuple[Rename, str, str]] = field(default_factory=list)
    """Renames: a function that returns the operation for two names, the old and the new name."""
    hints: list[str] = field(default_factory=list)
    """Lines about changes that may be meant as something else, such as a rename."""

    @property
    def version(self) -> int:
        """The major version of the server."""
        known: tuple[int, ...] = getattr(self.dialect, "server_version_info", None) or (0,)
        return known[0]

    def plan(self, phase: Phase, operation: ops.MigrateOperation, *, number: int | None = None) -> None:
        """Add an operation at the end of its phase."""
        self.planned.append(Plan(phase, len(self.planned) if number is None else number, operation))

    def both(
        self,
        phase: Phase,
        up: Sequence[ops.MigrateOperation],
        down: Sequence[ops.MigrateOperation],
        *,
        number: int | None = None,
    ) -> None:
        """Plan operations for the upgrade and the downgrade."""
        if up or down:
            self.plan(phase, WithDowngrade(up, down), number=number)

    def plan_renames(self) -> None:
        """Plan the renames in an order in which each new name is free."""
        for number, old, new in free_names([names for _, *names in self.renames]):
            rename = self.renames[number][0]
            self.both(Phase.NAMES, [rename(old, new)], [rename(new, old)])

    def of(self, key: Key) -> Iterator[Difference]:
        """Yield the differences of an object."""
        return (difference for difference in self.differences if difference.key == key)

    def sides(self, key: Key) -> tuple[Facts | None, Facts | None]:
        """Return the facts of an object in the database and in the models."""
        return self.database.get(key), self.models.get(key)

    def qualified(self, name: str) -> str:
        """Return a name as the SQL of a revision contains it."""
        return qualified(name, self.schema)

    def is_unwritten(self, key: Key) -> bool:
        """Return whether an object is missing that only plain SQL creates: no operation can create it.

        This applies to tables without an sa.Table, to other columns of a table, and to what belongs to them.
        """
        if key in self.database or key not in self.models:
            return False
        name = key.name if key.kind == "table" else key.table
        table = Key("table", None, str(name))
        if name not in self.tables:
            return table in self.models and table not in self.database
        columns = set(self.models[key].get("_columns", ())) | ({key.name} if key.kind == "column" else set())
        known = {column.name for column in self.tables[name].columns}
        return table in self.models and any(
            column not in known and Key("column", name, column) not in self.database for column in columns
        )

    def unqualified(self, definition: str) -> str:
        """Return a definition without the schema's name, if the schema is first in the search_path."""
        if self.schema is not None:
            return definition
        for name in (quote(self.name), self.name):
            before, found, after = definition.partition(f" {name}.")
            if found and "\n" not in before:
                return f"{before} {after}"
        return definition

    def in_operations(self, schema: str) -> str | None:
        """Return the name of a schema in operations."""
        return None if schema == self.default else schema

    def changed_columns(self) -> set[tuple[str | None, str]]:
        """Return the columns, by table and name, that nothing may read while they change."""
        return {
            (key.table, key.name)
            for key, aspect, _, _ in self.differences
            if key.kind == "column" and aspect in {"", "type", "collation", "generated"}
        }

    # Comments: Alembic has operations only for those on tables and columns.

    def comment_of(self, key: Key, facts: Facts) -> Planned:
        """Return the operation for the comment of a newly created object."""
        return [self.comment_op(key, facts["comment"])] if "comment" in facts else []

    def comment(self, key: Key) -> None:
        """Plan a change of the comment, if it differs."""
        database, models = self.database[key].get("comment"), self.models[key].get("comment")
        if database != models:
            self.both(Phase.REST, [self.comment_op(key, models)], [self.comment_op(key, database)])

    def comment_op(self, key: Key, comment: str | None) -> ops.MigrateOperation:
        """Return the operation that sets or removes a comment."""
        match key.kind:
            case "column":
                on = f"COLUMN {self.qualified(str(key.table))}.{quote(key.name)}"
            case "constraint" | "trigger" | "rule" | "policy":
                on = f"{key.kind.upper()} {quote(key.name)} ON {self.qualified(str(key.table))}"
            case "function" | "procedure":
                on = f"ROUTINE {key.name if self.schema is None else f'{quote(self.schema)}.{key.name}'}"
            case _:
                on = f"{key.kind.upper()} {self.qualified(key.name)}"
        return execute(f"COMMENT ON {on} IS {'NULL' if comment is None else literal(comment)}")

    # Views that objects of other kinds depend on.

    def view_of(self, name: str | None) -> Key | None:
        """Return the view of that name on either side."""
        return view_of(name, self.database, self.models)

    def is_rebuilt(self, table: str | None) -> bool:
        """Return whether a relation is a view that is recreated, with all that belongs to it."""
        return self.view_of(table) in self.rebuilt


def execute(statement: str) -> ops.ExecuteSQLOp:
    """Return the operation that executes a statement."""
    return ops.ExecuteSQLOp(as_text(statement))


def nothing(_resolution: Resolution, _key: Key, aspects: set[str]) -> set[str]:
    """Return all aspects: kinds that have no operations resolve nothing."""
    return aspects
