"""Creates the models in scratch schemas, and names the objects that the server refuses.

First all statements are executed at once; if that fails, one by one. A refused table is created without its
constraints, which are then added one by one: only a faulty constraint is left out.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql.ddl import CreateView

from alembic_drift.driver import first_line, sqlstate, takes_several_statements
from alembic_drift.internals import final_name, without_constraints
from alembic_drift.objects import Key
from alembic_drift.revisions.statements import changes_of
from alembic_drift.revisions.tokens import dropping_in, with_schemas
from alembic_drift.sql import quote


class Statement(NamedTuple):
    """The SQL that creates one object of the models."""

    key: Key
    place: str
    """The schema in which it is created."""
    sql: str
    """In the form that the driver expects."""
    error: str | None = None
    """Why SQLAlchemy cannot compile it to SQL."""
    parts: Callable[[], list["Statement"]] | None = None
    """For a table: returns the statement that creates it without constraints, and those that add them."""
    checked: str | None = None
    """For plain SQL with schema names in its texts: a variant that the server can check."""


Refused = dict[str, dict[Key, str]]
"""For each schema the objects that could not be created, and why."""

PLAIN = "statement"
"""The kind of plain SQL statements."""

_UNNAMED = ""
"""The name of a constraint that the server is to name."""


class Models(NamedTuple):
    """Models, and the elements that ``create_all`` would execute."""

    metadatas: Sequence[sa.MetaData]
    schemas: set[str | None]
    """The schemas that the models name: for tables, types and sequences."""
    elements: list[Any] | None
    """None if it is unknown, because an event of the models queries the database."""


def models_of(metadatas: Sequence[sa.MetaData]) -> Models:
    """Return what ``create_all`` would execute for these models, in its order."""
    elements: list[Any] = []

    def collect(element: Any, *_: object, **__: object) -> None:
        elements.append(element)

    asks = False
    for metadata in metadatas:
        try:
            metadata.create_all(sa.create_mock_engine("postgresql+psycopg://", collect), checkfirst=False)
        except (AttributeError, TypeError):
            asks = True
    schemas = {table.schema for metadata in metadatas for table in metadata.tables.values()}
    schemas |= {_schema_of(element) for element in elements}
    return Models(metadatas, schemas, None if asks else elements)


def statements_of(
    elements: Iterable[Any], schemas: Mapping[str | None, str], default: str, dialect: sa.Dialect
) -> list[Statement]:
    """Return the SQL that creates the models; a type or sequence of several metadatas only once.

    :param schemas: the schema to use for each schema that the models name, and for None.
    :param default: the name of the schema for None, which plain SQL may contain.
    :param dialect: the dialect of the connection, because the SQL depends on the server's version.
    """
    translated = {name: schema for name, schema in schemas.items() if name is not None}
    options = {"schema_translate_map": translated, "render_schema_translate": True} if translated else {}
    statements: list[Statement] = []

    def written(statement: Any, key: Key, text_of: Callable[[], str]) -> Statement:
        place = schemas.get(_schema_of(statement), schemas[None])
        try:
            text = text_of().strip()
        except Exception as error:  # noqa: BLE001 - any error of SQLAlchemy concerns only this object
            said = str(error).partition("\n")[0]
            if not isinstance(error, SQLAlchemyError):
                said = f"SQLAlchemy cannot compile it; write its default, check or expression as SQL ({said})"
            return Statement(key, place, "", said)
        # CONCURRENTLY cannot run in a transaction, and nobody reads the views of a scratch schema.
        text = re.sub(r"\A(CREATE (?:UNIQUE )?INDEX) CONCURRENTLY", r"\1", text)
        text += " WITH NO DATA" if text.startswith("CREATE MATERIALIZED VIEW") else ""
        return Statement(key, place, text)

    def text_of(statement: Any) -> str:
        return str(statement.compile(dialect=dialect, **options))

    def parts_of(create: sa.schema.CreateTable) -> list[Statement]:
        left_out: list[sa.Constraint] = []
        table = partial(without_constraints, create, dialect, left_out, **options)
        parts = [written(create, _key_of(create), table)]
        for constraint in left_out:
            add = sa.schema.AddConstraint(constraint, isolate_from_table=False)
            name = final_name(constraint, dialect) or _UNNAMED
            key = Key("constraint", create.element.name, name)
            parts.append(written(add, key, partial(text_of, add)))
        return parts

    for element in elements:
        made = written(element, _key_of(element), partial(text_of, element))
        if isinstance(element, sa.schema.CreateTable):
            made = made._replace(parts=partial(parts_of, element))
        if made.key.kind not in {"type", "domain", "sequence"} or made not in statements:
            statements.append(made)
    return _in_place(statements, schemas, default)


def _in_place(
    statements: list[Statement], schemas: Mapping[str | None, str], default: str
) -> list[Statement]:
    """Replace the schemas in plain SQL and in texts by the scratch schemas.

    SQLAlchemy translates the schemas of its tables, but not those in the text of a default, a check or an
    index. Names of objects that the models do not create stay, such as functions of extensions: they are the
    database's. A DROP without a schema never reaches the database's objects.
    """
    real = {place: None if schema == default else schema for schema, place in schemas.items()}
    made = {
        (None if thing.schema == default else thing.schema, thing.name.partition("/")[0])
        for statement in statements
        if statement.key.kind == PLAIN
        for thing in changes_of(statement.sql)
    }
    made |= {(real[statement.place], statement.key.name) for statement in statements}

    def place_of(schema: str, name: str) -> str | None:
        known = None if schema == default else schema
        return schemas[known] if (known, name) in made and known in schemas else None

    def in_place(statement: Statement) -> Statement:
        sql, make_parts, checked = with_schemas(statement.sql, place_of), statement.parts, None
        if statement.key.kind == PLAIN:
            sql = dropping_in(sql, schemas[None])
            checked = with_schemas(sql, place_of, within_texts=True)
        parts = None if make_parts is None else lambda: [*map(in_place, make_parts())]
        return statement._replace(sql=sql, parts=parts, checked=None if checked == sql else checked)

    return [*map(in_place, statements)]


def _schema_of(statement: Any) -> str | None:
    """Return the schema of the object that a statement creates; None for plain SQL."""
    of = getattr(statement, "element", None)
    return getattr(of, "schema", getattr(getattr(of, "table", None), "schema", None))


def _key_of(statement: Any) -> Key:
    """Return the object that a statement creates or changes; for plain SQL, the beginning of its text."""
    of = getattr(statement, "element", None)
    name = getattr(of, "name", None)
    table = getattr(getattr(of, "table", None), "name", None)
    match of:
        case sa.Table() if isinstance(statement, CreateView):
            kind = "materialized view" if statement.materialized else "view"
            return Key(kind, None, of.name)
        case sa.Table():
            return Key("table", None, of.name)
        case sa.Column():
            return Key("column", table, of.name)
        case sa.Index():
            return Key("index", table, str(name))
        case sa.Constraint():
            return Key("constraint", table, str(name))
        case sa.Sequence():
            return Key("sequence", None, of.name)
        case sa.types.TypeEngine():
            kind = "domain" if type(statement).__name__.endswith("DomainType") else "type"
            return Key(kind, None, str(name))
    words = " ".join(str(getattr(statement, "statement", statement)).split())
    return Key(PLAIN, None, words if len(words) <= 60 else f"{words[:60]}…")


def make(
    connection: sa.Connection, statements: list[Statement], real: Mapping[str, str]
) -> tuple[Refused, list[Statement]]:
    """Create the models; return the objects that were refused, with reasons, and the plain SQL that failed.

    :param real: for each scratch schema the schema that it stands for, quoted for SQL.
    """
    if all(statement.error is None for statement in statements) and takes_several_statements(connection):
        together = ";\n".join(statement.sql for statement in statements)
        if _refused(connection, together) is None:
            return {}, []
    refused: Refused = {place: {} for place in real}
    failed: list[Statement] = []
    for statement in statements:
        key, here = statement.key, refused[statement.place]
        if key.table is not None and Key("table", None, key.table) in here:
            continue  # reported with its table
        error = statement.error or _refused(connection, statement.sql)
        if error is None or _made_unchecked(connection, statement):
            continue
        parts = _make_in_parts(connection, statement)
        if parts is not None:
            here.update(parts)
            continue
        here.setdefault(key, error)
        if key.kind == PLAIN:
            failed.append(statement)
        if key.kind == "table":
            # Otherwise what refers to it would find the table of the database, and lock it.
            table = quote(key.name)
            like = f"(LIKE {real[statement.place]}.{table} INCLUDING INDEXES)"
            _refused(connection, f"CREATE TABLE {statement.place}.{table} {like}")
    return refused, failed


def _make_in_parts(connection: sa.Connection, statement: Statement) -> dict[Key, str] | None:
    """Create a table without the constraints that the server refuses; return these, with reasons.

    Returns None if that is impossible: a column is at fault, or a constraint without a name, which cannot be
    found in the database.
    """
    if statement.parts is None:
        return None
    refused: dict[Key, str] = {}
    made: set[str] = set()
    table, *constraints = statement.parts()
    with connection.begin_nested() as savepoint:
        if table.error or _refused(connection, table.sql):
            savepoint.rollback()
            return None
        for part in constraints:
            if part.sql in made:
                continue  # twice in the models: some revisions add their constraints to the models
            error = part.error or _refused(connection, part.sql)
            if error is None:
                made.add(part.sql)
            elif part.key.name == _UNNAMED:
                savepoint.rollback()
                return None
            else:
                refused[part.key] = error
    return refused


def _made_unchecked(connection: sa.Connection, statement: Statement) -> bool:
    """Create a function whose body names the database's schema, after checking it with the scratch schema.

    The stored body keeps its names, because it is compared.
    """
    if statement.checked is None:
        return False
    with connection.begin_nested() as savepoint:
        error = _refused(connection, statement.checked)
        savepoint.rollback()
    check = "SELECT set_config('check_function_bodies', '{}', true)"
    connection.exec_driver_sql(check.format("off"))
    error = error or _refused(connection, statement.sql)
    connection.exec_driver_sql(check.format("on"))
    return error is None


def _refused(connection: sa.Connection, sql: str) -> str | None:
    """Execute a statement; return why the server refuses it, or None."""
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(sql)
    except DBAPIError as error:
        if error.connection_invalidated or (sqlstate(error) or "08").startswith("08"):
            raise
        return first_line(error)
    return None
