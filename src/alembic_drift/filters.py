"""Asks env.py's filters, include_name and include_object, in the way that Alembic asks them."""

from typing import Any

import sqlalchemy as sa
from alembic.autogenerate.api import AutogenContext

from alembic_drift.internals import final_name, has_object_filters
from alembic_drift.objects import Catalog, Key

_CONSTRAINTS = {
    "u": "unique_constraint",
    "f": "foreign_key_constraint",
    "c": "check_constraint",
}
"""Alembic's names for constraints; it does not ask about primary keys and exclusion constraints."""

_RELATIONS = {"table", "view", "materialized view"}


class Filters:
    """The filters of a context, for one schema."""

    def __init__(self, context: AutogenContext, schema: str | None, tables: dict[str, sa.Table]) -> None:
        """Prepare to ask about the objects of a schema.

        :param schema: its name in operations.
        :param tables: the tables of the models in it.
        """
        self._context, self._schema, self._tables = context, schema, tables
        self._asks_objects = has_object_filters(context)
        self._reflected: dict[str, sa.Table] = {}
        self._answers: dict[Key, bool] = {}

    def hide(self, key: Key, database: Catalog, models: Catalog) -> bool:
        """Return whether the filters exclude an object or its table."""
        if key not in self._answers:
            self._answers[key] = self._hides(key, database, models)
        return self._answers[key]

    def _hides(self, key: Key, database: Catalog, models: Catalog) -> bool:
        if key.table is not None and key.kind not in _RELATIONS:
            for kind in sorted(_RELATIONS):
                table = Key(kind, None, key.table)
                if (table in database or table in models) and self.hide(table, database, models):
                    return True
        facts = database.get(key) or models.get(key) or {}
        type_: Any = {"column": "column", "index": "index"}.get(key.kind)
        if key.kind == "constraint":
            type_ = _CONSTRAINTS.get(str(facts.get("_type")))
        elif key.kind in _RELATIONS:
            type_ = "table"
        if type_ is None:
            return False
        if key.kind in {"column", "constraint"} and not self._is_on_both_sides(key, database, models):
            return False  # it is created and dropped with its table
        return not self._includes(key, type_, there=key in database)

    def _is_on_both_sides(self, key: Key, database: Catalog, models: Catalog) -> bool:
        table = Key("table", None, str(key.table))
        return table in database and table in models

    def _includes(self, key: Key, type_: Any, *, there: bool) -> bool:
        parents: Any = {"schema_name": self._schema}
        if type_ != "table":
            parents["table_name"] = key.table
        if there and not self._context.run_name_filters(key.name, type_, parents):
            return False
        if not self._asks_objects:
            return True
        of_models = self._item(self._tables.get(str(key.table or key.name)), key, type_)
        of_database = self._item(self._table(str(key.table or key.name)), key, type_) if there else None
        if of_models is None and of_database is None:
            return True
        reflected = of_models is None
        shown = of_database if reflected else of_models
        compared = None if reflected else of_database
        return self._context.run_object_filters(shown, key.name, type_, reflected, compared)  # type: ignore[arg-type]

    def _table(self, name: str) -> sa.Table | None:
        """Return a table of the database as SQLAlchemy reflects it; each table is reflected once."""
        if name not in self._reflected:
            table = sa.Table(name, sa.MetaData(), schema=self._schema)
            try:
                self._context.inspector.reflect_table(table, None, resolve_fks=False)
            except sa.exc.NoSuchTableError:
                return None
            self._reflected[name] = table
        return self._reflected[name]

    def _item(self, table: sa.Table | None, key: Key, type_: str) -> sa.schema.SchemaItem | None:
        if table is None or type_ == "table":
            return table
        if type_ == "column":
            return table.columns.get(key.name)
        items = table.indexes if type_ == "index" else table.constraints
        found = (item for item in items if final_name(item, self._context.dialect) == key.name)
        return next(found, None)
