"""What differs between the database and the models, in words and as operations that mend it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic.operations import ops
from alembic.util import sqla_compat
from sqlalchemy.sql.elements import conv

from alembic_drift.catalog import Catalog, Facts, Key, literal, qualified, quote
from alembic_drift.operations import (
    BothWays,
    CreateMaterializedViewOp,
    CreateViewOp,
    DropFunctionOp,
    DropMaterializedViewOp,
    DropViewOp,
    ReplaceFunctionOp,
    as_text,
)
from alembic_drift.ownership import OWN, Made, element


class Difference(NamedTuple):
    """What the database has of an object and what the models say; None where it is not there."""

    key: Key
    aspect: str
    database: Any
    models: Any

    def __str__(self) -> str:
        """Return it as a line."""
        if self.aspect:
            database, models = _shown(self.database), _shown(self.models)
            said = f"{self.aspect}: the database has {database}, the models say {models}"
        elif self.database is None:
            said = f"not in the database; the models say {_shown(self.models)}"
        else:
            said = f"not in the models; the database has {_shown(self.database)}"
        return f"{self.key}: {_apart(said, self)}"

    def __repr__(self) -> str:
        """Return its name, which is what the message of ``alembic check`` lists."""
        return f"{self.key}" + (f" ({self.aspect})" if self.aspect else "")


_SHOWN = 160


def _shown(value: Any) -> str:
    return "none" if value is None or value == "" else " ".join(str(value).split())


def _apart(said: str, of: Difference) -> str:
    """Shorten long definitions to what is around the first character that differs."""
    if len(said) <= 3 * _SHOWN:
        return said
    left, right = _shown(of.database), _shown(of.models)
    first = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), 0)
    start = max(0, first - _SHOWN // 2)

    def cut(text: str) -> str:
        return (
            ("…" if start else "")
            + text[start : start + _SHOWN]
            + ("…" if len(text) > start + _SHOWN else "")
        )

    return said.replace(left, cut(left)).replace(right, cut(right))


class Phase(IntEnum):
    """When an operation runs. A downgrade goes through them the other way."""

    VIEWS_GO = 1
    KEYS_GO = 2
    CONSTRAINTS_GO = 3
    INDEXES_GO = 4
    TYPES = 5
    TABLES = 6
    KEYED = 7  # primary keys and unique constraints, which foreign keys need
    INDEXES = 8
    CONSTRAINTS = 9
    FUNCTIONS = 10
    VIEWS = 11
    FUNCTIONS_OF_VIEWS = 12
    REST = 13
    FUNCTIONS_GO = 14


class Plan(NamedTuple):
    """An operation and its place among all."""

    phase: Phase
    number: int
    operation: ops.MigrateOperation


# What a column can be altered to; the rest of it is settled by hand.
_ALTERED = {"type", "collation", "not null", "default", "identity", "comment"}
# What is part of another object, which goes with the table of its key.
_WORDS = {"p": "primary", "u": "unique", "f": "foreignkey", "c": "check", "x": None}
_LETTERS = {
    "primary_key_constraint": "p",
    "unique_constraint": "u",
    "foreign_key_constraint": "f",
    "check_constraint": "c",
    "table_or_column_check_constraint": "c",
    "column_check_constraint": "c",
}
_RELATIONS = {"table", "view", "materialized view", "sequence"}
# What an operator adds to a database without changing what can be written into it.
_OWN_KINDS = {"column", "index", "statistics"}

# What no operation on a table makes or drops with it.
_APART_KINDS = {"trigger", "rule", "policy", "statistics"}
_APART_ASPECTS = ("row security", "replica identity")


class Comparison:
    """Compares one schema."""

    def __init__(
        self,
        name: str,
        database: Catalog,
        models: Catalog,
        *,
        schema: str | None,
        tables: dict[str, sa.Table],
        dialect: sa.Dialect,
        made: Made,
        with_tables: set[str],
        columns: Callable[[str], list[Any]],
        hidden: Callable[[Key], bool],
    ) -> None:
        """Compare a database with the models.

        :param name: the schema's name in the database.
        :param schema: its name in operations; None if it is the first of the search_path.
        :param tables: the tables of the models in that schema, views among them.
        :param with_tables: the types that are created by the operations that create tables.
        :param columns: returns the columns of a table in the database, as SQLAlchemy reflects them.
        :param hidden: whether an object is no part of the comparison.
        """
        self._name, self._schema, self._tables, self._made = name, schema, tables, made
        self._dialect, self._columns, self._with_tables = dialect, columns, with_tables
        self._database = _shown_of(database, hidden)
        self._models = _shown_of(models, hidden)
        self.own: list[Key] = []
        self._own: set[Key] = set()
        self.differences: list[Difference] = []
        self.by_hand: list[str] = []
        self._planned: list[Plan] = []
        self._created: set[str] = set()
        self._clashing = self._clashes()
        for key in sorted({*self._database, *self._models}, key=str):
            if key.table in self._clashing or (key.name in self._clashing and key.kind in _RELATIONS):
                continue  # told and settled as a whole
            if self._is_own(key):
                self._own.add(key)
                if not any(self._is_own(whole) for whole in self._wholes(key)):  # else it goes with that
                    self.own.append(key)
            else:
                self._compare(key)
        self._rebuilt = self._views_to_rebuild()

    # What differs.

    def _clashes(self) -> set[str]:
        """Tell of relations that are another kind of thing in the database; returns their names."""
        kinds: list[dict[str, str]] = [
            {key.name: key.kind for key in catalog if key.kind in _RELATIONS}
            for catalog in (self._database, self._models)
        ]
        clashing = {name for name, kind in kinds[0].items() if kinds[1].get(name, kind) != kind}
        for name in sorted(clashing):
            key = Key(kinds[1][name], None, name)
            self.differences.append(Difference(key, "kind", kinds[0][name], kinds[1][name]))
        return clashing

    def _is_own(self, key: Key) -> bool:
        """Return whether an object is the operator's own: no model has it, and no revision made it.

        What belongs to a table or column of the operator's is as well. A trigger or rule on a table of ours,
        or a constraint of its columns, is a difference: it changes what can be written.
        """
        if key in self._models or key in self._made:
            return False
        if key.kind == "sequence":
            numbered = _parent(key, self._database)
            if numbered is not None and (numbered in self._models or numbered in self._made):
                return False  # what numbers a column of ours is a part of it
        if key.kind == "column" and self._is_of_view(key):
            return all(self._is_own(whole) for whole in self._wholes(key))
        if key.table is None or key.kind in _OWN_KINDS:
            return True
        return any(self._is_own(whole) for whole in self._wholes(key))

    def _wholes(self, key: Key) -> Iterator[Key]:
        """Return the table and, for a constraint, the columns of the database that an object is a part of."""
        parent = _parent(key, self._database)
        if parent is not None:
            yield parent
        if key.kind == "constraint":
            yield from (Key("column", key.table, name) for name in self._database[key].get("_columns", ()))

    def _compare(self, key: Key) -> None:
        database, models = self._database.get(key), self._models.get(key)
        if database is None or models is None:
            # A table that is missing or gone as a whole is one difference, and what does not go with it.
            side = self._models if database is None else self._database
            parent = _parent(key, side)
            other = self._database if database is None else self._models
            with_it = parent is not None and parent not in other and key.kind not in _APART_KINDS
            of_view = key.kind == "column" and self._is_of_view(key)  # which says so by its query
            if not with_it and not of_view:
                self.differences.append(Difference(key, "", _told(database), _told(models)))
            return
        for aspect in sorted({*database, *models}):
            if not aspect.startswith("_") and database.get(aspect) != models.get(aspect):
                self.differences.append(Difference(key, aspect, database.get(aspect), models.get(aspect)))

    # How it is mended.

    def plan(self, found: Iterable[tuple[int, ops.MigrateOperation]]) -> list[Plan]:
        """Return the operations that mend the differences, each with its place.

        :param found: what Alembic's own comparators have found, numbered. Its tables and columns are kept,
            where the server sees a difference as well; all else is made from the catalogs.
        """
        altered = self._take_over(found)
        for key in {difference.key: None for difference in self.differences}:
            self._mend(key, [d for d in self.differences if d.key == key], altered)
        for view in self._rebuilt:
            self._rebuild(view)
        for number, operation in enumerate(altered.values()):
            if operation.has_changes():
                self._plan(Phase.TABLES, operation, number=10_000 + number)
        return self._planned

    def _plan(self, phase: Phase, operation: ops.MigrateOperation, *, number: int | None = None) -> None:
        self._planned.append(Plan(phase, len(self._planned) if number is None else number, operation))

    def _both(
        self, phase: Phase, up: Sequence[ops.MigrateOperation], down: Sequence[ops.MigrateOperation]
    ) -> None:
        if up or down:
            self._plan(phase, BothWays(up, down))

    def _take_over(
        self, found: Iterable[tuple[int, ops.MigrateOperation]]
    ) -> dict[tuple[str, str], ops.AlterColumnOp]:
        """Keep what Alembic has found of tables and columns; return the changes of columns, not kept yet."""
        differing = {difference.key for difference in self.differences if difference.aspect != "kind"}
        altered: dict[tuple[str, str], ops.AlterColumnOp] = {}
        for number, operation in found:
            match operation:
                case ops.CreateTableOp() | ops.DropTableOp():
                    kept = Key("table", None, operation.table_name) in differing
                case ops.AddColumnOp():
                    kept = Key("column", operation.table_name, operation.column.name) in differing
                case ops.DropColumnOp():
                    kept = Key("column", operation.table_name, operation.column_name) in differing
                case ops.AlterColumnOp():
                    kept = False  # but completed, if the server sees a difference as well
                    if Key("column", operation.table_name, operation.column_name) in differing:
                        altered[operation.table_name, operation.column_name] = operation
                case ops.CreateTableCommentOp() | ops.DropTableCommentOp():
                    key = Key("table", None, operation.table_name)
                    kept = any(d.key == key and d.aspect == "comment" for d in self.differences)
                case ops.CreateIndexOp():
                    # Of a new table; what is new on others comes from the catalogs.
                    table = Key("table", None, str(operation.table_name))
                    kept = table in differing and table not in self._database
                case ops.DropIndexOp() | ops.AddConstraintOp() | ops.DropConstraintOp():
                    kept = False
                case _:
                    kept = True
            if kept:
                if isinstance(operation, ops.CreateTableOp):
                    self._complete_table(operation)
                elif isinstance(operation, ops.DropTableOp):
                    self._drop_with_table(operation)
                    self._own_goes(Key("table", None, operation.table_name))
                elif isinstance(operation, ops.DropColumnOp):
                    self._sequence_goes(operation)
                    self._own_goes(Key("column", operation.table_name, operation.column_name))
                self._plan(Phase.TABLES, operation, number=number)
        return altered

    def _mend(
        self, key: Key, differences: list[Difference], altered: dict[tuple[str, str], ops.AlterColumnOp]
    ) -> None:
        database, models = self._database.get(key), self._models.get(key)
        both = database is not None and models is not None
        left = differences
        aspects = {difference.aspect for difference in differences}
        match key.kind:
            case _ if key.name in self._clashing:
                pass
            case "table":
                left = [d for d in left if d.aspect not in {"", "comment"}]
                if database is None and models is not None:
                    self._comments_of(key, Phase.REST)
                    left += [Difference(key, a, None, models[a]) for a in _APART_ASPECTS if a in models]
            case "column" if self._is_of_view(key):
                left = [d for d in left if d.aspect != "comment"]
                if "comment" in aspects and self._view_of(key.table) not in self._rebuilt:
                    self._comment(key)
            case "column":
                left = [d for d in left if d.aspect not in {"", *_ALTERED}] if both else []
                left += self._alter(key, aspects, altered) if both else []
            case "constraint":
                if not both or "definition" in aspects:
                    self._exchange_constraint(key)
                    left = []
                else:
                    left = [d for d in left if d.aspect != "comment"]
                    self._comment(key)
            case "index" if self._view_of(key.table) in self._rebuilt:
                left = []
            case "index":
                if not both or aspects & {"definition", "tablespace", "validity"}:
                    self._both(Phase.INDEXES_GO, *self._pair(key, self._drop_index, self._create_index))
                    self._both(
                        Phase.INDEXES, *self._pair(key, self._create_index, self._drop_index, new=True)
                    )
                    left = [
                        d for d in left if d.aspect in {"clustered", "replica identity", "statistics target"}
                    ]
                else:
                    left = [d for d in left if d.aspect != "comment"]
                    self._comment(key)
            case "view" | "materialized view":
                left = [d for d in left if d.aspect not in {"", "query", "comment"}]
                if "comment" in aspects and key not in self._rebuilt:
                    self._comment(key)
            case "function" | "procedure":
                left = []
                self._exchange_function(key, aspects)
            case "sequence" if not self._owner_has_identity(key):
                left = []
                self._exchange_sequence(key, aspects)
            case "type" | "domain" if not both and (models or database or {})["_makeable"]:
                left = []
                self._exchange_type(key)
            case "type" | "domain" if aspects == {"comment"}:
                left = []
                self._comment(key)
        self.by_hand += [str(difference) for difference in left]

    # Columns.

    def _alter(
        self, key: Key, aspects: set[str], altered: dict[tuple[str, str], ops.AlterColumnOp]
    ) -> list[Difference]:
        """Complete what Alembic has found of a column, or find it; return what it cannot alter."""
        database, models = self._database[key], self._models[key]
        column = self._tables[str(key.table)].c[key.name]
        operation = altered.get((str(key.table), key.name))
        if operation is None:
            operation = ops.AlterColumnOp(str(key.table), key.name, schema=self._schema)
            altered[str(key.table), key.name] = operation
        left = []
        operation.existing_type = copy(operation.existing_type or self._reflected(key)["type"])
        operation.modify_type = column.type if {"type", "collation"} & aspects else None
        if "collation" in database and hasattr(operation.existing_type, "collation"):
            operation.existing_type.collation = database["collation"].strip('"')
        if operation.modify_type is not None and (
            isinstance(operation.existing_type, sa.types.NullType)
            or ("collation" in aspects and not hasattr(operation.existing_type, "collation"))
        ):
            operation.modify_type = None
            left += [d for d in self.differences if d.key == key and d.aspect in {"type", "collation"}]
        if operation.modify_type is not None and "storage" in database:
            # Another type has its own storage; the downgrade brings back what was set, after the type.
            stored = (
                f"ALTER TABLE {self._qualified(str(key.table))} ALTER COLUMN {quote(key.name)} SET STORAGE"
            )
            back = [_sql(f"{stored} {database['storage'].upper()}")]
            self._plan(Phase.TABLES, BothWays([], back), number=9_500)
        operation.kw.pop("autoincrement", None)  # which is for MySQL
        operation.existing_nullable = "not null" not in database
        operation.modify_nullable = None
        if "not null" in aspects:
            if ("not null" in database) != ("not null" in models):
                operation.modify_nullable = "not null" not in models
            elif database["not null"].endswith("NOT VALID"):
                self._validate_not_null(key)
            else:
                left.append(Difference(key, "not null", database["not null"], models["not null"]))
        if "identity" in aspects:
            if "default" in aspects:  # from a sequence of its own, or to one
                left += [d for d in self.differences if d.key == key and d.aspect in {"identity", "default"}]
            else:
                self._exchange_identity(key)
        elif "default" in aspects:
            operation.existing_server_default = _default(database)
            operation.modify_server_default = _default(models)
        elif "default" in database:
            operation.existing_server_default = _default(database)
        operation.existing_comment = database.get("comment")
        operation.modify_comment = models.get("comment") if "comment" in aspects else False
        return left

    def _exchange_identity(self, key: Key) -> None:
        database, models = self._database[key].get("_identity"), self._models[key].get("_identity")
        alter = f"ALTER TABLE {self._qualified(str(key.table))} ALTER COLUMN {quote(key.name)}"

        def way(found: Any, wanted: Any) -> list[ops.MigrateOperation]:
            if wanted is None:
                return [_sql(f"{alter} DROP IDENTITY IF EXISTS")]
            generated, options = wanted
            if found is None:
                return [
                    _sql(f"{alter} ADD GENERATED {generated} AS IDENTITY ({' '.join(options)})"),
                    self._go_on(str(key.table), key.name),
                ]
            return [
                _sql(f"{alter} SET GENERATED {generated} {' '.join(f'SET {option}' for option in options)}")
            ]

        # An identity needs NOT NULL: it comes after and goes before.
        number = 9_000 if models is None else 20_000
        self._plan(Phase.TABLES, BothWays(way(database, models), way(models, database)), number=number)

    def _go_on(self, table: str, column: str, *, sequence: str | None = None) -> ops.MigrateOperation:
        """Let the sequence of a column, or its identity's, go on after the values that there are."""
        name = self._qualified(table)
        sequence = sequence or f"pg_get_serial_sequence({literal(name)}, {literal(column)})"
        return _sql(f"SELECT setval({sequence}, coalesce(max({quote(column)}), 0) + 1, false) FROM {name}")  # noqa: S608

    def _reflected(self, key: Key) -> Any:
        return next(column for column in self._columns(str(key.table)) if column["name"] == key.name)

    def _validate_not_null(self, key: Key) -> None:
        table, column = self._qualified(str(key.table)), quote(key.name)
        name = quote(self._database[key]["_not_null_constraint"])
        self._both(
            Phase.REST,
            [_sql(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")],
            [
                _sql(f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL"),
                _sql(f"ALTER TABLE {table} ADD CONSTRAINT {name} NOT NULL {column} NOT VALID"),
            ],
        )

    # Constraints and indexes.

    def _pair(
        self,
        key: Key,
        there: Callable[[Key, Facts], list[ops.MigrateOperation]],
        back: Callable[[Key, Facts], list[ops.MigrateOperation]],
        *,
        new: bool = False,
    ) -> tuple[list[ops.MigrateOperation], list[ops.MigrateOperation]]:
        facts = (self._models if new else self._database).get(key)
        return ([], []) if facts is None else (there(key, facts), back(key, facts))

    def _exchange_constraint(self, key: Key) -> None:
        phase = {"f": Phase.CONSTRAINTS, "c": Phase.CONSTRAINTS}
        drop: Callable[[Key, Facts], list[ops.MigrateOperation]] = self._drop_constraint
        database, models = self._database.get(key), self._models.get(key)
        if database is not None:
            gone = Phase.KEYS_GO if database["_type"] == "f" else Phase.CONSTRAINTS_GO
            self._both(gone, *self._pair(key, drop, self._add_constraint_as_is))
        if models is not None:
            self._both(
                phase.get(models["_type"], Phase.KEYED),
                *self._pair(key, self._add_constraint, drop, new=True),
            )

    def _drop_constraint(self, key: Key, facts: Facts) -> list[ops.MigrateOperation]:
        return [
            ops.DropConstraintOp(
                conv(key.name), str(key.table), type_=_WORDS[facts["_type"]], schema=self._schema
            )
        ]

    def _add_constraint(self, key: Key, facts: Facts) -> list[ops.MigrateOperation]:
        """Add a constraint of the models as their own object says it, where they have one."""
        if facts["_type"] == "x" or " INCLUDE (" in facts["definition"]:  # operations do not know them well
            return self._add_constraint_as_is(key, facts)
        for constraint in self._tables[str(key.table)].constraints if key.table in self._tables else ():
            name = sqla_compat._get_constraint_final_name(constraint, self._dialect)
            unnamed_key = (
                name is None and facts["_type"] == "p" and isinstance(constraint, sa.PrimaryKeyConstraint)
            )
            if name == key.name or unnamed_key:
                operation = ops.AddConstraintOp.from_constraint(constraint)
                operation.constraint_name = conv(key.name)  # type: ignore[attr-defined]
                return [operation, *self._comment_of(key, facts)]
        return self._add_constraint_as_is(key, facts)

    def _add_constraint_as_is(self, key: Key, facts: Facts) -> list[ops.MigrateOperation]:
        table, name, with_ = self._qualified(str(key.table)), quote(key.name), facts.get("_with")
        return [
            _sql(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name}"),
            _sql(f"ALTER TABLE {table} ADD CONSTRAINT {name} {facts['definition']}"),
            *([_sql(f"ALTER INDEX {self._qualified(key.name)} SET ({with_})")] if with_ else []),
            *self._comment_of(key, facts),
        ]

    def _complete_table(self, operation: ops.CreateTableOp) -> None:
        """Add by itself what a new table cannot be created with, or Alembic leaves out of its creation."""
        table = operation.table_name
        self._created.add(table)
        operation.columns = [
            item
            for item in operation.columns
            if not isinstance(item, sa.ForeignKeyConstraint) or not self._refers_ahead(item)
        ]
        within = [
            item
            for item in operation.columns
            if isinstance(item, sa.Constraint) and not isinstance(getattr(item, "parent", None), sa.Column)
        ]
        names = {sqla_compat._get_constraint_final_name(item, self._dialect) for item in within}
        unnamed = {
            (_LETTERS.get(item.__visit_name__), frozenset(item.columns.keys()))
            for item in within
            if isinstance(item, sa.schema.ColumnCollectionConstraint)
            and sqla_compat._get_constraint_final_name(item, self._dialect) is None
        }
        for key, facts in self._models.items():
            if key.kind != "constraint" or key.table != table or key.name in names:
                continue
            kind = facts["_type"]
            if (kind, frozenset(facts.get("_columns", ()))) in unnamed:
                continue
            if kind == "c" and (any(c == "c" for c, _ in unnamed) or self._is_of_type(table, key.name)):
                continue
            self._exchange_constraint(key)

    def _refers_ahead(self, key: sa.ForeignKeyConstraint) -> bool:
        """Return whether a foreign key of a new table refers to a table that is created after it."""
        referred = key.referred_table
        ahead = (
            self._tables.get(referred.name) is referred
            and Key("table", None, referred.name) not in self._database
            and referred.name not in self._created
        )
        return bool(key.use_alter) or ahead

    def _is_of_type(self, table: str, name: str) -> bool:
        """Return whether a check is that of a column's type, as an Enum has that the database does not."""
        return any(
            sqla_compat._is_type_bound(item)
            and sqla_compat._get_constraint_final_name(item, self._dialect) == name
            for item in self._tables[table].constraints
        )

    def _drop_index(self, key: Key, _facts: Facts) -> list[ops.MigrateOperation]:
        return [ops.DropIndexOp(key.name, str(key.table), schema=self._schema)]

    def _create_index(self, key: Key, facts: Facts) -> list[ops.MigrateOperation]:
        options: dict[str, Any] = {}
        if facts["_using"] != "btree":
            options["postgresql_using"] = facts["_using"]
        if "_where" in facts:
            options["postgresql_where"] = sa.text(as_text(facts["_where"]))
        if "_include" in facts:
            options["postgresql_include"] = facts["_include"]
        if "_with" in facts:
            options["postgresql_with"] = dict(option.split("=", 1) for option in facts["_with"])
        if facts["_nulls_equal"]:
            options["postgresql_nulls_not_distinct"] = True
        if "tablespace" in facts:
            options["postgresql_tablespace"] = facts["tablespace"]
        columns = [
            name if name and text in {name, quote(name)} else sa.text(as_text(text))
            for name, text in facts["_keys"]
        ]
        created = ops.CreateIndexOp(
            key.name, str(key.table), columns, schema=self._schema, unique=facts["_unique"], **options
        )
        return [created, *self._comment_of(key, facts)]

    def _drop_with_table(self, operation: ops.DropTableOp) -> None:
        """Drop what a table has one by one, where the downgrade would not make it as it was.

        Foreign keys come first, because tables that refer to each other go in no order.
        """
        for key, facts in self._database.items():
            if key.table != operation.table_name:
                continue
            if key.kind == "index":
                self._both(Phase.INDEXES_GO, self._drop_index(key, facts), self._create_index(key, facts))
            elif key.kind == "constraint" and facts["_type"] in {"f", "x"}:
                drop, add = self._drop_constraint(key, facts), self._add_constraint_as_is(key, facts)
                self._both(Phase.KEYS_GO, drop, add)
        made = operation._reverse
        if made is not None:
            made.columns = [item for item in made.columns if not isinstance(item, sa.ForeignKeyConstraint)]
            for item in made.columns:
                type_: Any = element(item.type) if isinstance(item, sa.Column) else None
                if hasattr(type_, "create_type"):  # by a statement of its own, for all tables that have it
                    type_.create_type = False

    def _sequence_goes(self, operation: ops.DropColumnOp) -> None:
        """Bring the sequence of a column back with it, which Alembic forgets."""
        added, column = operation._reverse, Key("column", operation.table_name, operation.column_name)
        for key, facts in self._database.items():
            owned = key.kind == "sequence" and facts["_owner"] == [column.table, column.name]
            if added is None or not owned or "default" not in self._database[column]:
                continue
            self._both(Phase.FUNCTIONS_GO, [], self._create_sequence(key, facts))
            self._both(Phase.KEYS_GO, [], [self._owned(self._qualified(key.name), facts)])
            added.column.server_default = _default(self._database[column])

    def _own_goes(self, dropped: Key) -> None:
        """Note what of the operator's own PostgreSQL drops with a table or column of ours."""
        table = dropped.table or dropped.name
        for key in sorted(self._own, key=str):
            if key.table == table and (
                dropped.table is None or dropped.name in self._database[key].get("_columns", ())
            ):
                self.by_hand.append(f"{key}: no model has it, and it goes with {dropped}")

    # Comments.

    def _comments_of(self, table: Key, phase: Phase) -> None:
        """Comment on what belongs to a new table and gets no comment with it."""
        for key, facts in self._models.items():
            if key.table == table.name and key.kind in {"constraint", "index"}:
                self._both(phase, self._comment_of(key, facts), [])

    def _comment_of(self, key: Key, facts: Facts) -> list[ops.MigrateOperation]:
        return [self._comment_op(key, facts["comment"])] if "comment" in facts else []

    def _comment(self, key: Key) -> None:
        database, models = self._database[key].get("comment"), self._models[key].get("comment")
        if database != models:
            self._both(Phase.REST, [self._comment_op(key, models)], [self._comment_op(key, database)])

    def _comment_op(self, key: Key, comment: str | None) -> ops.MigrateOperation:
        match key.kind:
            case "column":
                on = f"COLUMN {self._qualified(str(key.table))}.{quote(key.name)}"
            case "constraint":
                on = f"CONSTRAINT {quote(key.name)} ON {self._qualified(str(key.table))}"
            case "function" | "procedure":
                on = f"ROUTINE {self._signature(key)}"
            case _:
                on = f"{key.kind.upper()} {self._qualified(key.name)}"
        return _sql(f"COMMENT ON {on} IS {'NULL' if comment is None else literal(comment)}")

    def _qualified(self, name: str) -> str:
        return qualified(name, self._schema)

    # Views.

    def _view_of(self, name: str | None) -> Key | None:
        for kind in ("materialized view", "view"):
            key = Key(kind, None, str(name))
            if key in self._database or key in self._models:
                return key
        return None

    def _is_of_view(self, key: Key) -> bool:
        return self._view_of(key.table) is not None

    def _views_to_rebuild(self) -> list[Key]:
        """Return the views that differ, or read what changes, those first that others read."""
        changed = {
            (str(key.table), key.name)
            for key, aspect, _, _ in self.differences
            if key.kind == "column" and aspect in {"", "type", "collation", "generated"}
        }
        views = {
            key
            for key in (*self._database, *self._models)
            if key.kind in {"view", "materialized view"} and key.name not in self._clashing
        }
        rebuilt = {d.key for d in self.differences if d.key in views and d.aspect in {"", "query"}}

        def reads_what_changes(view: Key) -> bool:
            gone = {key.name for key in rebuilt}
            return any(tuple(read) in changed or read[0] in gone for read in self._reads(view))

        while more := {view for view in views - rebuilt - self._own if reads_what_changes(view)}:
            rebuilt |= more
        for view in sorted(views & self._own, key=str):
            if reads_what_changes(view):
                self.by_hand.append(f"{view}: no model has it, and it reads what changes; drop it before")
        ordered: list[Key] = []
        while rebuilt:
            names = {view.name for view in rebuilt}
            ready = sorted(
                view for view in rebuilt if not names & {read[0] for read in self._reads(view)} - {view.name}
            )
            ordered += ready or sorted(rebuilt)
            rebuilt -= set(ordered)
        return ordered

    def _reads(self, view: Key) -> Iterator[Sequence[str]]:
        for catalog in (self._database, self._models):
            yield from catalog.get(view, {}).get("_reads", ())

    def _rebuild(self, view: Key) -> None:
        create: Any = CreateMaterializedViewOp if view.kind == "materialized view" else CreateViewOp
        drop: Any = DropMaterializedViewOp if view.kind == "materialized view" else DropViewOp
        place = self._rebuilt.index(view)
        dropped: list[ops.MigrateOperation] = [drop(view.name, schema=self._schema)]
        own = [
            _sql(OWN + self._unqualified(facts["definition"]))
            for key, facts in self._database.items()
            if key in self._own and key.kind == "index" and key.table == view.name
        ]
        for catalog, phase, number in (
            (self._database, Phase.VIEWS_GO, -place),
            (self._models, Phase.VIEWS, place),
        ):
            if view not in catalog:
                continue
            made = [create(view.name, catalog[view]["query"].strip(), schema=self._schema)]
            made += self._comment_of(view, catalog[view])
            for key, facts in catalog.items():
                if key.table == view.name and key.kind == "index" and key not in self._own:
                    made += self._create_index(key, facts)
                elif key.table == view.name and key.kind == "column":
                    made += self._comment_of(key, facts)
            made += own
            up, down = (dropped, made) if phase is Phase.VIEWS_GO else (made, dropped)
            self._plan(phase, BothWays(up, down), number=number)

    # Functions, sequences, types.

    def _signature(self, key: Key) -> str:
        return key.name if self._schema is None else f"{quote(self._schema)}.{key.name}"

    def _unqualified(self, definition: str) -> str:
        """Return a definition without the name of the schema that it is found in anyhow."""
        if self._schema is not None:
            return definition
        for name in (quote(self._name), self._name):
            before, qualified, after = definition.partition(f" {name}.")
            if qualified and "\n" not in before:
                return f"{before} {after}"
        return definition

    def _function_op(self, key: Key, facts: Facts) -> list[ops.MigrateOperation]:
        definition, own_path = facts["definition"], False
        if self._schema is None and facts.get("_search_path") in {
            f"search_path={self._name}",
            f"search_path={quote(self._name)}",
        }:
            lines = definition.split("\n")
            line = next((text for text in lines if text.startswith(" SET search_path TO ")), None)
            if line is not None:
                lines.remove(line)
                definition, own_path = "\n".join(lines), True
        definition = self._unqualified(definition).rstrip("\n")
        replaced = ReplaceFunctionOp(self._signature(key), definition, own_search_path=own_path)
        return [replaced, *self._comment_of(key, facts)]

    def _exchange_function(self, key: Key, aspects: set[str]) -> None:
        database, models = self._database.get(key), self._models.get(key)
        if aspects == {"comment"}:
            self._comment(key)
            return
        drop: list[ops.MigrateOperation] = [DropFunctionOp(self._signature(key))]
        if database is None and models is not None:
            self._both(self._function_phase(models), self._function_op(key, models), drop)
        elif models is None and database is not None:
            self._both(Phase.FUNCTIONS_GO, drop, self._function_op(key, database))
        elif database is not None and models is not None:
            up, down = self._function_op(key, models), self._function_op(key, database)
            if database.get("_result") != models.get("_result"):  # which CREATE OR REPLACE does not change
                up, down = [*drop, *up], [*drop, *down]
            elif database.get("comment") != models.get("comment"):
                up = [up[0], self._comment_op(key, models.get("comment"))]
                down = [down[0], self._comment_op(key, database.get("comment"))]
            self._both(self._function_phase(models), up, down)

    def _function_phase(self, facts: Facts) -> Phase:
        if any(self._view_of(name) for name in facts["_uses"]):
            return Phase.FUNCTIONS_OF_VIEWS
        return Phase.FUNCTIONS if facts["_uses"] else Phase.TYPES

    def _create_sequence(self, key: Key, facts: Facts) -> list[ops.MigrateOperation]:
        created = _sql(f"CREATE SEQUENCE IF NOT EXISTS {self._qualified(key.name)} {facts['_options']}")
        return [created, *self._comment_of(key, facts)]

    def _exchange_sequence(self, key: Key, aspects: set[str]) -> None:
        database, models = self._database.get(key), self._models.get(key)
        name = self._qualified(key.name)
        drop = [_sql(f"DROP SEQUENCE IF EXISTS {name}")]
        if database is None or models is None:
            facts = models if models is not None else database
            assert facts is not None  # noqa: S101 - one side has it
            create = self._create_sequence(key, facts)
            owned: list[ops.MigrateOperation] = []
            if facts["_owner"][0] is not None:
                owned = [self._owned(name, facts), self._go_on(*facts["_owner"], sequence=literal(name))]
            if models is not None:
                self._both(Phase.TYPES, create, drop)
                self._both(Phase.REST, owned, [])
            else:
                self._both(Phase.FUNCTIONS_GO, drop, [*create, *owned])
            return
        if {"type", "numbers"} & aspects:
            alter = partial(str.format, "ALTER SEQUENCE {} {}", name)
            self._both(Phase.REST, [_sql(alter(models["_options"]))], [_sql(alter(database["_options"]))])
        if "owned by" in aspects:
            self._both(Phase.REST, [self._owned(name, models)], [self._owned(name, database)])
        if "persistence" in aspects:
            self.by_hand.append(
                str(Difference(key, "persistence", database.get("persistence"), models.get("persistence")))
            )
        self._comment(key)

    def _owner_has_identity(self, key: Key) -> bool:
        table, column = (self._models.get(key) or self._database[key])["_owner"]
        owner = Key("column", table, str(column))
        return any(d.key == owner and d.aspect == "identity" for d in self.differences)

    def _owned(self, name: str, facts: Facts) -> ops.MigrateOperation:
        table, column = facts["_owner"]
        owner = "NONE" if table is None else f"{self._qualified(table)}.{quote(column)}"
        return _sql(f"ALTER SEQUENCE {name} OWNED BY {owner}")

    def _exchange_type(self, key: Key) -> None:
        """Create or drop an enumerated type or a domain; what creates a table creates its types as well."""
        name, kind = self._qualified(key.name), key.kind.upper()
        drop = [_sql(f"DROP {kind} IF EXISTS {name}")]
        facts = self._models.get(key) or self._database[key]
        comment = self._comment_of(key, facts)
        create = [_sql(f"CREATE {kind} {name} AS {facts['definition']}"), *comment]
        if key not in self._models:
            self._both(Phase.FUNCTIONS_GO, drop, create)
        elif key.name in self._with_tables:
            self._both(Phase.TYPES, [], drop)
            self._both(Phase.REST, comment, [])
        else:
            self._both(Phase.TYPES, [*drop, *create], drop)


def _parent(key: Key, catalog: Catalog) -> Key | None:
    """Return the relation, or for a sequence the column, that an object goes with."""
    if key.kind == "sequence":
        table, name = catalog[key]["_owner"]
        column = Key("column", table, str(name))
        return column if column in catalog else None
    for kind in ("table", "materialized view", "view"):
        if key.table is not None and Key(kind, None, key.table) in catalog:
            return Key(kind, None, key.table)
    return None


def _shown_of(catalog: Catalog, hidden: Callable[[Key], bool]) -> Catalog:
    return {
        key: facts
        for key, facts in catalog.items()
        if not hidden(key) and ((parent := _parent(key, catalog)) is None or not hidden(parent))
    }


def _told(facts: Facts | None) -> str | None:
    """Say in one phrase what an object is."""
    if facts is None:
        return None
    for fact in ("definition", "query", "numbers"):
        if facts.get(fact):
            return str(facts[fact])
    return " ".join(str(facts[fact]) for fact in ("type", "not null", "default") if facts.get(fact)) or "it"


def _default(facts: Facts) -> sa.DefaultClause | None:
    return sa.DefaultClause(sa.text(as_text(facts["default"]))) if "default" in facts else None


def _sql(statement: str) -> ops.ExecuteSQLOp:
    return ops.ExecuteSQLOp(as_text(statement))
