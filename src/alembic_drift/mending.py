"""How differences are mended: what a kind of object is, and what its operations are planned with."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from alembic.operations import ops

from alembic_drift.objects import Catalog, Difference, Facts, Key, view_of
from alembic_drift.order import Phase, Plan, free_names
from alembic_drift.probes import Again, Probes
from alembic_drift.render import BothWays
from alembic_drift.sql import as_text, literal, qualified, quote

Planned = list[ops.MigrateOperation]
Rename = Callable[[str, str], ops.MigrateOperation]
Columns = dict[tuple[str, str], ops.AlterColumnOp]
"""What Alembic has found of columns that change, by table and name."""


@dataclass(frozen=True)
class Kind:
    """A kind of object: one file of :mod:`alembic_drift.kinds`."""

    names: tuple[str, ...]
    """What it calls its objects, as the query does and people do: "view", "materialized view"."""
    query: str
    """A SELECT of kind, table, name and facts, over what :mod:`alembic_drift.catalog` provides."""
    mend: Callable[["Mending", Key, set[str]], Iterable[str]]
    """Plans what mends the aspects in which an object differs; returns those that no operation mends."""
    may_be_own: bool = False
    """Whether one on a table of ours may be the operator's own: it does not change what can be written."""
    apart: bool = False
    """Whether it does not come and go with the creation of its table."""
    again: Again | None = None
    """What makes one again as the server writes it, if that is not known anyhow."""


@dataclass
class Mending:
    """The differences of one schema, and the operations planned so far."""

    name: str
    """The schema's name in the database."""
    schema: str | None
    """Its name in operations; None if it is the first of the search_path."""
    default: str
    """The name of the first schema of the search_path."""
    database: Catalog
    models: Catalog
    tables: dict[str, sa.Table]
    """The tables of the models, views among them."""
    dialect: sa.Dialect
    differences: list[Difference]
    own: set[Key]
    """What is the operator's own."""
    hidden: Catalog
    """What of the database the filters of env.py, or own_objects, leave out."""
    clashing: set[str]
    """Names of relations that are another kind of thing in the database."""
    probes: Probes
    columns: Callable[[str], Any]
    """Returns the columns of a table in the database, as SQLAlchemy reflects them."""

    rebuilt: list[Key] = field(default_factory=list)
    """The views to be made again, those first that others read."""
    places: dict[Key, int] = field(default_factory=dict)
    """The place of each among those of all schemas."""
    remade: set[Key] = field(default_factory=set)
    """The triggers, rules and policies to be made again."""
    altered: Columns = field(default_factory=dict)
    planned: list[Plan] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)
    """Lines of what no operation mends."""
    renames: list[tuple[Rename, str, str]] = field(default_factory=list)
    """What gets another name: the operation for two names, the old one and the new one."""
    hints: list[str] = field(default_factory=list)
    """Lines of what may be meant otherwise."""

    @property
    def version(self) -> int:
        """The major version of the server."""
        known: tuple[int, ...] = getattr(self.dialect, "server_version_info", None) or (0,)
        return known[0]

    def plan(self, phase: Phase, operation: ops.MigrateOperation, *, number: int | None = None) -> None:
        """Put an operation into its phase, after those that are there."""
        self.planned.append(Plan(phase, len(self.planned) if number is None else number, operation))

    def both(
        self,
        phase: Phase,
        up: Sequence[ops.MigrateOperation],
        down: Sequence[ops.MigrateOperation],
        *,
        number: int | None = None,
    ) -> None:
        """Plan operations, and those of the downgrade."""
        if up or down:
            self.plan(phase, BothWays(up, down), number=number)

    def plan_renames(self) -> None:
        """Plan the new names in an order in which each is free."""
        for number, old, new in free_names([names for _, *names in self.renames]):
            rename = self.renames[number][0]
            self.both(Phase.NAMES, [rename(old, new)], [rename(new, old)])

    def of(self, key: Key) -> Iterator[Difference]:
        """Yield the differences of an object."""
        return (difference for difference in self.differences if difference.key == key)

    def sides(self, key: Key) -> tuple[Facts | None, Facts | None]:
        """Return what the database and the models have of an object."""
        return self.database.get(key), self.models.get(key)

    def qualified(self, name: str) -> str:
        """Return a name as SQL writes it in a revision."""
        return qualified(name, self.schema)

    def is_unwritten(self, key: Key) -> bool:
        """Return whether an object is lacking that no operation makes: plain SQL makes what no sa.Table has.

        That is a table, or a column of one, and what belongs to them.
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
        """Return a definition without the name of the schema that it is found in anyhow."""
        if self.schema is not None:
            return definition
        for name in (quote(self.name), self.name):
            before, found, after = definition.partition(f" {name}.")
            if found and "\n" not in before:
                return f"{before} {after}"
        return definition

    def in_operations(self, schema: str) -> str | None:
        """Return what operations call a schema."""
        return None if schema == self.default else schema

    def changed_columns(self) -> set[tuple[str | None, str]]:
        """Return the columns, by table and name, that nothing may read while they change."""
        return {
            (key.table, key.name)
            for key, aspect, _, _ in self.differences
            if key.kind == "column" and aspect in {"", "type", "collation", "generated"}
        }

    # Comments, which have no operation of Alembic but on tables and columns.

    def comment_of(self, key: Key, facts: Facts) -> Planned:
        """Return what comments on an object that was just made."""
        return [self.comment_op(key, facts["comment"])] if "comment" in facts else []

    def comment(self, key: Key) -> None:
        """Plan another comment, if it differs."""
        database, models = self.database[key].get("comment"), self.models[key].get("comment")
        if database != models:
            self.both(Phase.REST, [self.comment_op(key, models)], [self.comment_op(key, database)])

    def comment_op(self, key: Key, comment: str | None) -> ops.MigrateOperation:
        """Return what comments on an object, or takes its comment away."""
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

    # Views, on which other kinds depend.

    def view_of(self, name: str | None) -> Key | None:
        """Return the view of a name, on either side."""
        return view_of(name, self.database, self.models)

    def is_rebuilt(self, table: str | None) -> bool:
        """Return whether a relation is a view that is made again, with all that belongs to it."""
        return self.view_of(table) in self.rebuilt


def execute(statement: str) -> ops.ExecuteSQLOp:
    """Return the operation that executes a statement."""
    return ops.ExecuteSQLOp(as_text(statement))


def nothing(_mending: Mending, _key: Key, aspects: set[str]) -> set[str]:
    """Mend nothing: for kinds that have no operation yet."""
    return aspects
