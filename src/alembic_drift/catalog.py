"""What a schema holds, read from the server's catalogs: the database's, and what the models would make."""

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from alembic_drift.errors import DriftError, first_line


class Key(NamedTuple):
    """An object of a schema: what it is, the table that it is a part of, if any, and its name."""

    kind: str
    table: str | None
    name: str

    def __str__(self) -> str:
        """Return how a person would call it."""
        if self.kind == "column":
            return f"column {self.table}.{self.name}"
        return f"{self.kind} {self.name}" + (f" on {self.table}" if self.table else "")


Facts = dict[str, Any]
Catalog = dict[Key, Facts]
"""What is there; facts whose name begins with ``_`` serve to make an object again and are not compared."""


_READ = sa.text(Path(__file__).with_name("catalog.sql").read_text(encoding="utf-8"))


def quote(name: str) -> str:
    """Return a name as SQL writes it, quoted always."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Return a text as SQL writes it, whatever standard_conforming_strings says."""
    quoted = "'" + value.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in quoted else quoted


def qualified(name: str, schema: str | None) -> str:
    """Return the name of a relation or type as SQL writes it, with its schema if that is given."""
    return quote(name) if schema is None else f"{quote(schema)}.{quote(name)}"


def statements_of(metadata: sa.MetaData, schemas: dict[str | None, str], dialect: sa.Dialect) -> list[str]:
    """Return the SQL by which ``create_all`` would make the models, as the driver wants it.

    :param schemas: the schema to use for each schema that the models name.
    :param dialect: that of the connection: what it writes depends on the server's version.

    Raises :class:`DriftError` if that cannot be known without a database.
    """
    translated = {name: schema for name, schema in schemas.items() if name is not None}
    options = {"schema_translate_map": translated, "render_schema_translate": True} if translated else {}
    statements: list[str] = []

    def collect(statement: Any, *_: object, **__: object) -> None:
        text = str(statement.compile(dialect=dialect, **options)).strip()
        # The scratch schema is made in a transaction, and nobody reads its views.
        text = re.sub(r"\A(CREATE (?:UNIQUE )?INDEX) CONCURRENTLY", r"\1", text)
        statements.append(text + (" WITH NO DATA" if text.startswith("CREATE MATERIALIZED VIEW") else ""))

    try:
        metadata.create_all(sa.create_mock_engine("postgresql+psycopg://", collect), checkfirst=False)
    except (AttributeError, TypeError) as error:
        raise DriftError(
            f"the models cannot be written as SQL, because an event of theirs asks the database ({error});"
            " let it execute DDL only"
        ) from error
    return statements


def read_both(
    connection: sa.Connection,
    metadatas: Sequence[sa.MetaData],
    schemas: Iterable[str | None],
    ignored: set[str],
) -> dict[str | None, tuple[str, Catalog, Catalog]]:
    """Return for each schema its name, what it holds, and what it would hold if the models made it.

    PostgreSQL makes the models in a scratch schema, in a transaction or savepoint that is undone, so nobody
    ever sees it and nothing of it outlives a crash. Both sides are read by the same query and so in the same
    words.

    :param schemas: the schemas to read; None is the first one of the search_path.
    :param ignored: relations that are no part of the schema: Alembic's own.

    Raises :class:`DriftError` if the models cannot be made.
    """
    schemas = sorted(set(schemas), key=lambda schema: schema or "")
    with _undone(connection):
        path, visible = connection.execute(_WHERE).one()
        if not visible and None in schemas:
            raise DriftError(f"no schema of the search_path ({path}) exists; create it, or name another one")
        named = {table.schema for metadata in metadatas for table in metadata.tables.values()}
        names = {schema: str(schema or visible[0]) for schema in {*schemas, *named, None}}
        found = {schema: _read(connection, names[schema], path, ignored) for schema in schemas}
        scratch = _make_scratch(connection, names)
        # In the path stand the scratch schemas of those that stand in it: what is not in the path is written
        # with its schema, and both sides have to be written alike.
        scratch_path = ", ".join([*(scratch[name] for name in visible if name in scratch), path])
        places = {schema: scratch[names[schema]] for schema in names}
        _make(
            connection,
            scratch_path,
            [s for metadata in metadatas for s in statements_of(metadata, places, connection.dialect)],
        )
        made = {
            schema: _read(connection, places[schema], scratch_path, ignored, rename=scratch)
            for schema in schemas
        }
    return {schema: (names[schema], found[schema], made[schema]) for schema in schemas}


# A server with JIT compiles the query of the catalogs for 0.8 s and then runs it in 0.02 s.
_WHERE = sa.text(
    "SELECT current_setting('search_path'), current_schemas(false)::text[]"
    " FROM set_config('jit', 'off', true)"
)
_SET_PATH = sa.text("SELECT set_config('search_path', :path, true)")
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
    if getattr(connection.connection.driver_connection, "autocommit", False):
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


def _make_scratch(connection: sa.Connection, names: dict[str | None, str]) -> dict[str, str]:
    """Create a scratch schema for each schema; returns their names."""
    tag = uuid.uuid4().hex[:12]
    scratch = {name: f"drift_scratch_{tag}_{number:04}" for number, name in enumerate({*names.values()})}
    for name in scratch.values():
        connection.exec_driver_sql(f"CREATE SCHEMA {name}")
    return scratch


def _make(connection: sa.Connection, path: str, statements: list[str]) -> None:
    connection.execute(_SET_PATH, {"path": path})
    if connection.dialect.driver.startswith("psycopg"):  # others take one statement at a time
        statements = [";\n".join(statements)]
    try:
        for statement in statements:
            connection.exec_driver_sql(statement)
    except DBAPIError as error:
        reason = first_line(error)
        raise DriftError(f"the models cannot be made in a scratch schema: {reason}") from error


def _read(
    connection: sa.Connection,
    schema: str,
    path: str,
    ignored: set[str],
    *,
    rename: dict[str, str] | None = None,
) -> Catalog:
    """Read one schema; ``rename`` has the scratch schema of each schema, whose name is to stand instead."""
    # What is not in the path is written with its schema, so the path decides the words.
    connection.execute(_SET_PATH, {"path": path})
    catalog: Catalog = {}
    for kind, table, name, facts in connection.execute(_READ, {"schema": schema, "ignored": sorted(ignored)}):
        for real, scratch in (rename or {}).items():
            name = _renamed(name, scratch, real)
            facts = {fact: _renamed(value, scratch, real) for fact, value in facts.items()}
        if kind in {"index", "constraint"}:
            facts["definition"] = _OPTIONS.sub(_somebodys, facts["definition"])
        catalog[Key(kind, table, name)] = {fact: value for fact, value in facts.items() if value is not None}
    return catalog


# WITH (fillfactor='70'), and tsvector_ops (siglen='100'): in expressions there are spaces around the sign.
_OPTION = r"\w+=(?:'(?:[^']|'')*'|[\w.+-]+)"
_OPTIONS = re.compile(rf" (\S+) \(({_OPTION}(?:, {_OPTION})*)\)")


def _somebodys(found: re.Match[str]) -> str:
    """Return options in the order of their names, without those of the server."""
    options = sorted(option for option in re.findall(_OPTION, found[2]) if not option.startswith("pg_"))
    return f" {found[1]} ({', '.join(options)})" if options else ""


def _renamed(value: Any, scratch: str, real: str) -> Any:
    if not isinstance(value, str):
        return value
    value = value.replace(f"'{scratch}'", literal(real))  # the search_path of a function
    plain = real if re.fullmatch("[a-z_][a-z0-9_]*", real) else quote(real)
    return value.replace(scratch, plain)
