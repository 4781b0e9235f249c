"""The models, made by PostgreSQL in scratch schemas that nobody ever sees.

All is done in a transaction or savepoint that is undone, so nothing of it outlives a crash.
"""

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.sql.ddl import CreateView

from alembic_drift.catalog import SET_PATH, read, renamed
from alembic_drift.driver import first_line, is_in_autocommit, sqlstate, takes_several_statements
from alembic_drift.errors import DriftError
from alembic_drift.objects import Catalog, Key
from alembic_drift.probes import Probes


class Statement(NamedTuple):
    """What makes one object of the models."""

    key: Key
    sql: str
    """As the driver wants it."""
    error: str | None = None
    """Why SQLAlchemy cannot write it."""


@dataclass(frozen=True)
class Both:
    """One schema on both sides."""

    name: str
    """In the database."""
    database: Catalog
    models: Catalog
    unmade: dict[Key, str]
    """What could not be made of the models, and why."""
    probes: Probes
    default: str
    """The name of the first schema of the search_path."""


def statements_of(
    metadata: sa.MetaData, schemas: dict[str | None, str], dialect: sa.Dialect
) -> list[Statement]:
    """Return the SQL by which ``create_all`` would make the models; an error, if an event asks a database.

    :param schemas: the schema to use for each schema that the models name.
    :param dialect: that of the connection: what it writes depends on the server's version.
    """
    translated = {name: schema for name, schema in schemas.items() if name is not None}
    options = {"schema_translate_map": translated, "render_schema_translate": True} if translated else {}
    statements: list[Statement] = []

    def collect(statement: Any, *_: object, **__: object) -> None:
        key = _key_of(statement)
        try:
            text = str(statement.compile(dialect=dialect, **options)).strip()
        except Exception as error:  # noqa: BLE001 - whatever stops SQLAlchemy stops this object alone
            said = str(error).partition("\n")[0]
            if not isinstance(error, SQLAlchemyError):
                said = f"SQLAlchemy cannot write it; give its default, check or expression as SQL ({said})"
            statements.append(Statement(key, "", said))
            return
        # The scratch schema is made in a transaction, and nobody reads its views.
        text = re.sub(r"\A(CREATE (?:UNIQUE )?INDEX) CONCURRENTLY", r"\1", text)
        text += " WITH NO DATA" if text.startswith("CREATE MATERIALIZED VIEW") else ""
        statements.append(Statement(key, text))

    metadata.create_all(sa.create_mock_engine("postgresql+psycopg://", collect), checkfirst=False)
    return statements


def _key_of(statement: Any) -> Key:
    """Return what a statement makes, or is about; for plain SQL its beginning."""
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
    return Key("statement", None, words if len(words) <= 60 else f"{words[:60]}…")


@contextmanager
def both_sides(
    connection: sa.Connection,
    metadatas: Sequence[sa.MetaData],
    schemas: Iterable[str | None],
    ignored: set[str],
) -> Iterator[dict[str | None, Both]]:
    """Yield for each schema what it holds, and what it would hold if the models made it.

    Both sides are read by the same query and so in the same words.

    :param schemas: the schemas to read; None is the first one of the search_path.
    :param ignored: relations that are no part of the schema: Alembic's own.
    """
    schemas = sorted(set(schemas), key=lambda schema: schema or "")
    with _undone(connection):
        path, visible = connection.execute(_WHERE).one()
        if not visible and None in schemas:
            raise DriftError(f"no schema of the search_path ({path}) exists; create it, or name another one")
        named = {table.schema for metadata in metadatas for table in metadata.tables.values()}
        names = {schema: str(schema or visible[0]) for schema in {*schemas, *named, None}}
        found = {schema: read(connection, names[schema], path, ignored) for schema in schemas}
        scratch, written = _make_scratch(connection, names)
        # In the path stand the scratch schemas of those that stand in it: what is not in the path is written
        # with its schema, and both sides have to be written alike.
        scratch_path = ", ".join([*(scratch[name] for name in visible if name in scratch), path])
        places = {schema: scratch[names[schema]] for schema in names}
        connection.execute(SET_PATH, {"path": scratch_path})
        try:
            statements = [s for m in metadatas for s in statements_of(m, places, connection.dialect)]
        except (AttributeError, TypeError):  # an event of the models asks the database
            unmade: dict[Key, str] = {}
            _create_all(connection, metadatas, places)
        else:
            unmade = _make(connection, statements)
        rename = {place: (name, written[name]) for name, place in scratch.items()}
        made = {
            schema: read(connection, places[schema], scratch_path, ignored, rename=rename)
            for schema in schemas
        }
        connection.execute(SET_PATH, {"path": path})
        yield {
            schema: Both(
                names[schema],
                found[schema],
                made[schema],
                unmade,
                Probes(connection, scratch_path, places[schema], partial(renamed, rename=rename)),
                names[None],
            )
            for schema in schemas
        }


# A server with JIT compiles the query of the catalogs for 0.8 s and then runs it in 0.02 s.
_WHERE = sa.text(
    "SELECT current_setting('search_path'), current_schemas(false)::text[]"
    " FROM set_config('jit', 'off', true)"
)
MAY_NOT_CREATE = sa.text("""\
SELECT CASE
    WHEN current_setting('transaction_read_only')::boolean THEN 'the transaction may only read'
    WHEN NOT has_database_privilege(current_database(), 'CREATE') THEN format(
        'role %s may not create a schema in database %s; GRANT CREATE ON DATABASE lets it',
        current_user, current_database())
END""")
"""Why the role cannot have the models made in a scratch schema, or NULL."""


@contextmanager
def _undone(connection: sa.Connection) -> Iterator[None]:
    """Undo at the end whatever was done."""
    if is_in_autocommit(connection):
        connection.exec_driver_sql("BEGIN")
        try:
            yield
        finally:
            if not connection.invalidated:
                connection.exec_driver_sql("ROLLBACK")
        return
    with connection.begin_nested() as savepoint:
        try:
            yield
        finally:
            if savepoint.is_active:
                savepoint.rollback()


def _make_scratch(
    connection: sa.Connection, names: dict[str | None, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Create a scratch schema for each schema; returns their names, and each schema's as SQL writes it."""
    tag = uuid.uuid4().hex[:12]
    scratch = {name: f"drift_scratch_{tag}_{number:04}" for number, name in enumerate({*names.values()})}
    for name in scratch.values():
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    ordered = [*scratch]
    asked = sa.text(
        "SELECT array_agg(quote_ident(name) ORDER BY place)"
        " FROM unnest(CAST(:names AS text[])) WITH ORDINALITY AS names (name, place)"
    )
    return scratch, dict(
        zip(ordered, connection.execute(asked, {"names": ordered}).scalar_one(), strict=True)
    )


def _create_all(
    connection: sa.Connection, metadatas: Sequence[sa.MetaData], schemas: dict[str | None, str]
) -> None:
    """Make the models as ``create_all`` does, with the database at hand."""
    translated = {name: schema for name, schema in schemas.items() if name is not None}
    before = connection.get_execution_options().get("schema_translate_map")
    connection.execution_options(schema_translate_map=translated)
    try:
        for metadata in metadatas:
            metadata.create_all(connection, checkfirst=False)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        raise DriftError(f"the models cannot be made in a scratch schema: {first_line(error)}") from error
    finally:
        connection.execution_options(schema_translate_map=before)


def _make(connection: sa.Connection, statements: list[Statement]) -> dict[Key, str]:
    """Execute what makes the models; returns what could not be made, and why.

    All at once, where the driver takes that; one by one after a failure.
    """
    unmade = {statement.key: statement.error for statement in statements if statement.error is not None}
    wanted = [statement for statement in statements if statement.error is None]
    if not unmade and takes_several_statements(connection):
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(";\n".join(statement.sql for statement in wanted))
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
        else:
            return unmade
    for statement in wanted:
        if statement.key.table is not None and Key("table", None, statement.key.table) in unmade:
            continue  # told with its table
        try:
            with connection.begin_nested():
                connection.exec_driver_sql(statement.sql)
        except DBAPIError as error:
            if error.connection_invalidated or (sqlstate(error) or "08").startswith("08"):
                raise
            unmade.setdefault(statement.key, first_line(error))
    return unmade
