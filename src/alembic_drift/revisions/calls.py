"""What the calls in a revision create, drop and rename: calls of ``op``, of a batch, and of ``create()``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alembic_drift.revisions import statements
from alembic_drift.revisions.changes import Change, Created, Drop, Rename

if TYPE_CHECKING:
    from collections.abc import Iterator


class Unknown:
    """A value that cannot be determined from the source."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN = Unknown()
MANY = Unknown()
"""Stands for any number of arguments: ``*unknown``."""


@dataclass(frozen=True)
class Ref:
    """An imported module, or an attribute of one: ``alembic.op.create_table``."""

    path: str


@dataclass
class Call:
    """A call of something outside the revision, with its arguments."""

    path: str
    args: list[Any]
    kwargs: dict[str, Any]
    of: Any = None
    """The object that the method belongs to, if that is not a module."""

    @property
    def name(self) -> str:
        """Return the name of what is called, without its modules."""
        return self.path.rpartition(".")[2]

    def arg(self, position: int | None, keyword: str) -> Any:
        """Return an argument; UNKNOWN if it is not given or is computed."""
        if keyword in self.kwargs:
            return self.kwargs[keyword]
        if position is None or position >= len(self.args) or MANY in self.args[: position + 1]:
            return UNKNOWN
        return self.args[position]

    def all_of(self, name: str) -> list[Call]:
        """Return the arguments that are calls of that name."""
        return [item for item in self.args if isinstance(item, Call) and item.name == name]


_OP = "alembic.op."
_BATCH = "alembic.op.batch_alter_table"
_INDEX = {"create_index", "drop_index"}
_ENUMS = {"Enum", "ENUM", "NativeEnum"}
_INTEGERS = {"Integer", "INTEGER", "BigInteger", "BIGINT", "SmallInteger", "SMALLINT"}


def changes_of(call: Call) -> Iterator[Change]:
    """Yield the changes that a call makes; none for an unknown call."""
    if isinstance(call.of, Call) and call.of.path == _BATCH:
        yield from _operation(_unbatched(call, call.of))
    elif call.of is None and call.path.startswith(_OP):
        yield from _operation(call)
    elif call.name in {"execute", "exec_driver_sql", "scalar", "scalars"} and _is_of_op(call):
        yield from _execute(call.arg(0, "statement"))
    elif call.name in {"create", "drop"} and isinstance(call.of, Call):
        yield from _element(call.name, call.of)


def _unbatched(call: Call, batch: Call) -> Call:
    """Return the operation of a batch as a call of ``op``."""
    table = batch.arg(0, "table_name")
    at = min(call.name in _INDEX, len(call.args))  # after the name of an index, otherwise first
    schema = {key: value for key, value in batch.kwargs.items() if key in {"schema", ""}}
    schema.update(zip(["schema"], batch.args[1:2], strict=False))
    args = [*call.args[:at], table, *call.args[at:]]
    return Call(call.path, args if call.args else [table], {**call.kwargs, **schema, "table_name": table})


def _is_of_op(value: Any) -> bool:
    """Return whether a value is the revision's connection, a Session on it, or a call of one of them."""
    if not isinstance(value, Call):
        return False
    if value.path.startswith(("alembic.op.get_", "alembic.context.")) or _is_of_op(value.of):
        return True
    own = value.path.startswith("sqlalchemy.")
    return own and any(_is_of_op(item) for item in (*value.args, *value.kwargs.values()))


def _text(value: Any) -> str | None:
    """Return a name or text; None if it is not known."""
    if isinstance(value, Call) and value.name in {"f", "quoted_name", "conv", "text", "DDL"} and value.args:
        return _text(value.args[0])
    if isinstance(value, Call) and value.name in {"bindparams", "columns", "execution_options"}:
        return _text(value.of)
    return value if isinstance(value, str) else None


def _schema(call: Call) -> tuple[str | None] | None:
    """Return the schema that a call names, in a tuple; None if it is not known."""
    if "" in call.kwargs:  # **options
        return None
    schema = call.kwargs.get("schema")
    return (None,) if schema is None else (text,) if (text := _text(schema)) is not None else None


_MADE = {
    "create_view": "view",
    "create_materialized_view": "materialized view",
    "create_type": "type",
    "create_domain": "domain",
}
_DROPPED = {
    "drop_table": "table",
    "drop_index": "index",
    "drop_view": "view",
    "drop_materialized_view": "materialized view",
    "drop_type": "type",
    "drop_domain": "domain",
}


def _operation(call: Call) -> Iterator[Change]:
    name, place = _text(call.arg(0, _FIRST.get(call.name, "name"))), _schema(call)
    match call.name:
        case "execute":
            yield from _execute(call.arg(0, "sqltext"))
        case "replace_function":
            yield from _execute(call.arg(1, "definition"))
        case "drop_function" if isinstance(signature := _text(call.arg(0, "signature")), str):
            yield from statements.changes_of(f"DROP ROUTINE {signature}")
        case _ if name is None or place is None:
            pass
        case "create_table":
            if not any("TEMP" in prefix.upper() for prefix in _texts(call.kwargs.get("prefixes"))):
                yield from _table(place[0], name, call)
        case "rename_table":
            yield from _rename(Drop(place[0], "table", name), call.arg(1, "new_table_name"))
        case "rename_index":
            yield from _rename(Drop(place[0], "index", name), call.arg(1, "new_name"))
        case "create_index":
            yield from _index(place[0], name, _text(call.arg(1, "table_name")), call.arg(2, "columns"))
        case "add_column":
            yield from _column(place[0], name, call.arg(1, "column"), serial=False)
        case "drop_column" | "alter_column":
            column = _text(call.arg(1, "column_name"))
            renamed = call.name == "drop_column" or call.kwargs.get("new_column_name") is not None
            if column is not None and renamed:
                yield from _rename(Drop(place[0], "column", column, name), call.arg(None, "new_column_name"))
        case made if made in _MADE:
            yield Created(place[0], _MADE[made], name)
        case dropped if dropped in _DROPPED:
            yield Drop(place[0], _DROPPED[dropped], name)


_FIRST = {
    **dict.fromkeys(
        ("create_table", "drop_table", "add_column", "drop_column", "alter_column"), "table_name"
    ),
    **dict.fromkeys(("create_index", "drop_index"), "index_name"),
    "rename_table": "old_table_name",
    "rename_index": "old_name",
}


def _rename(old: Drop, new: Any) -> Iterator[Change]:
    """Yield a rename; a drop if the new name is not known."""
    name = _text(new)
    yield old if name is None else Rename(old.schema, old.kind, old.name, name, old.table)


def _execute(value: Any) -> Iterator[Change]:
    text = _text(value)
    if text is not None:
        yield from statements.changes_of(text)
    elif isinstance(value, Call) and value.args and isinstance(value.args[0], Call):
        for verb, kind in (("Create", "create"), ("Drop", "drop")):
            if value.name in {f"{verb}Sequence", f"{verb}Table", f"{verb}EnumType", f"{verb}DomainType"}:
                yield from _element(kind, value.args[0])


def _element(verb: str, element: Call) -> Iterator[Change]:
    """Yield the changes that ``create()`` or ``drop()`` of a type, sequence or table makes."""
    made = [*_type(element, explicit=True), *_sequence(element)]
    name, place = _text(element.arg(0, "name")), _schema(element)
    if element.name == "Table" and name is not None and place is not None:
        made += _table(place[0], name, element)
    if verb == "create":
        yield from made
    else:
        yield from (Drop(thing.schema, thing.kind, thing.name) for thing in made if thing.kind != "column")


def _sequence(value: Call) -> Iterator[Created]:
    name, place = _text(value.arg(0, "name")), _schema(value)
    if value.name == "Sequence" and name is not None and place is not None:
        yield Created(place[0], "sequence", name)


def _table(schema: str | None, name: str, call: Call) -> Iterator[Created]:
    yield Created(schema, "table", name)
    columns = call.all_of("Column")
    keyed = _named_by(call, "PrimaryKeyConstraint")
    keyed += [
        text for c in columns if c.kwargs.get("primary_key") is True and (text := _text(c.arg(0, "name")))
    ]
    referring = [
        text for key in call.all_of("ForeignKeyConstraint") for text in _texts(key.arg(0, "columns"))
    ]
    for column in columns:
        of_key = _text(column.arg(0, "name")) in keyed and _text(column.arg(0, "name")) not in referring
        alone = len(set(keyed)) == 1 or column.kwargs.get("autoincrement") is True
        yield from _column(schema, name, column, serial=of_key and alone)
    for index in call.all_of("Index"):
        index_name = _text(index.arg(0, "name"))
        if index_name is not None:
            yield from _index(schema, index_name, name, index.args[1:])


def _named_by(call: Call, constraint: str) -> list[str]:
    return [text for key in call.all_of(constraint) for text in _texts(key.args)]


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list | tuple):
        return []
    return [text for value in values if (text := _text(value)) is not None]


def _index(schema: str | None, name: str, table: str | None, columns: Any) -> Iterator[Created]:
    if table is not None:
        found = _texts(columns)
        named = [part for text in found for part in statements.identifiers(text)]
        yield Created(schema, "index", name, table, frozenset([*found, *named]))


def _column(schema: str | None, table: str, column: Any, *, serial: bool) -> Iterator[Created]:
    """Yield the objects that a column creates.

    :param serial: whether an integer column is a serial, unless its arguments exclude that.
    """
    if not isinstance(column, Call) or column.name != "Column":
        return
    name = _text(column.arg(0, "name"))
    others = any(column.all_of(kind) for kind in ("ForeignKey", "Identity", "Computed", "Sequence"))
    set_off = (
        "server_default" in column.kwargs
        or "" in column.kwargs
        or any(isinstance(item, Unknown) for item in column.args)
    )
    wanted = column.kwargs.get("autoincrement", "auto") not in {False, "ignore_fk"}
    types = [column.kwargs["type_"]] if "type_" in column.kwargs else column.args[1:2]
    integer = any(_class(type_) in _INTEGERS for type_ in types)
    if name is not None:
        is_serial = serial and wanted and integer and not others and not set_off
        yield from statements.column(schema, table, name, serial=is_serial)
        if column.kwargs.get("index") is True:  # the name that SQLAlchemy chooses without a convention
            label = "_".join(part for part in ("ix", schema, table, name) if part)
            yield Created(schema, "index", label, table, frozenset({name}))
    for sequence in column.all_of("Sequence"):
        yield from _sequence(sequence)
    for type_ in types:
        yield from _type(type_)


def _class(value: Any) -> str:
    return value.path.rpartition(".")[2] if isinstance(value, Ref | Call) else ""


def _type(value: Any, *, explicit: bool = False) -> Iterator[Created]:
    """Yield the type or domain that a column's type creates.

    :param explicit: whether the type is created regardless of ``create_type``.
    """
    if not isinstance(value, Call):
        return
    if value.of is not None:  # with_variant()
        yield from _type(value.of, explicit=explicit)
    elif value.name == "ARRAY":
        yield from _type(value.arg(0, "item_type"), explicit=explicit)
    elif value.name in _ENUMS or value.name == "DOMAIN":
        domain = value.name == "DOMAIN"
        name, place = _text(value.arg(0 if domain else None, "name")), _schema(value)
        makes = explicit or value.kwargs.get("create_type", True) is True
        native = value.kwargs.get("native_enum", True) is True
        if name is not None and place is not None and makes and native:
            yield Created(place[0], "domain" if domain else "type", name)
