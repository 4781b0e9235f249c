"""Creates the models with PostgreSQL, in scratch schemas that no other session sees.

Everything runs in a transaction or savepoint that is rolled back, so that nothing remains after a crash.
"""

import logging
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from alembic_drift.catalog import SET_PATH, read, renamed
from alembic_drift.creation import Models, Refused, Statement, make, statements_of
from alembic_drift.doubts import Block, Doubts, conditional_blocks, too_early
from alembic_drift.driver import first_line, is_in_autocommit
from alembic_drift.errors import DriftError
from alembic_drift.objects import Catalog, Key
from alembic_drift.probes import Probes

log = logging.getLogger("alembic.drift")


@dataclass(frozen=True)
class Both:
    """One schema on both sides."""

    name: str
    """Its name in the database."""
    database: Catalog
    models: Catalog
    refused: dict[Key, str]
    """The objects of the models that could not be created, and why."""
    doubts: Doubts
    """The objects that the models may create, but that cannot be compared."""
    probes: Probes
    default: str
    """The name of the first schema of the search_path."""


@contextmanager
def both_sides(
    connection: sa.Connection,
    models: Models,
    schemas: Iterable[str | None],
    ignored: set[str],
) -> Iterator[dict[str | None, Both]]:
    """Yield for each schema what it contains, and what it would contain if the models created it.

    Both sides are read by the same query, so that they are written alike.

    :param schemas: the schemas to read; None is the first one of the search_path.
    :param ignored: relations that are not compared: the tables of Alembic.
    """
    schemas = sorted(set(schemas), key=lambda schema: schema or "")
    with _undone(connection):
        path, visible = connection.execute(_WHERE).one()
        if not visible and None in schemas:
            raise DriftError(f"no schema of the search_path ({path}) exists; create one, or change the path")
        names = {schema: str(schema or visible[0]) for schema in {*schemas, *models.schemas, None}}
        found = {schema: read(connection, names[schema], path, ignored) for schema in schemas}
        scratch, written = _make_scratch(connection, names)
        # Only the scratch schemas of schemas in the path are in the path. What is outside the path is written
        # with its schema, and both sides must be written alike.
        scratch_path = ", ".join([*(scratch[name] for name in visible if name in scratch), path])
        places = {schema: scratch[names[schema]] for schema in names}
        connection.execute(SET_PATH, {"path": scratch_path})
        rename = {place: (name, written[name]) for name, place in scratch.items()}
        refused, failed = Refused(), list[Statement]()
        if models.elements is None:
            _create_all(connection, models.metadatas, places)
            blocks = [Block("an event that queries the database", "", is_opaque=True)]
        else:
            statements = statements_of(models.elements, places, names[None], connection.dialect)
            refused, failed = make(connection, statements, {scratch[name]: written[name] for name in scratch})
            blocks = conditional_blocks(statements)
            for line in too_early(statements, places[None]):
                log.warning("%s", line)
        made = {
            schema: read(connection, places[schema], scratch_path, ignored, rename=rename)
            for schema in schemas
        }
        connection.execute(SET_PATH, {"path": path})
        told_first = None if None in schemas else next(iter(schemas), None)
        yield {
            schema: Both(
                names[schema],
                found[schema],
                made[schema],
                {
                    key: renamed(why, rename)
                    # Plain SQL belongs to no schema; it is reported with the first one.
                    for place in {places[schema], places[None if schema == told_first else schema]}
                    for key, why in refused.get(place, {}).items()
                },
                Doubts(failed, blocks, places[schema], is_first=places[schema] == places[None]),
                Probes(connection, scratch_path, places[schema], partial(renamed, rename=rename)),
                names[None],
            )
            for schema in schemas
        }


# With JIT, the server compiles the query of the catalogs for 0.8 s and then runs it in 0.02 s.
_WHERE = sa.text(
    "SELECT current_setting('search_path'), current_schemas(false)::text[]"
    " FROM set_config('jit', 'off', true)"
)
MAY_NOT_CREATE = sa.text("""\
SELECT CASE
    WHEN current_setting('transaction_read_only')::boolean THEN 'the transaction is read-only'
    WHEN NOT has_database_privilege(current_database(), 'CREATE') THEN format(
        'role %s cannot create a schema in database %s; GRANT CREATE ON DATABASE allows it',
        current_user, current_database())
END""")
"""Why the role cannot create a scratch schema; NULL if it can."""


@contextmanager
def _undone(connection: sa.Connection) -> Iterator[None]:
    """Roll back everything at the end."""
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
    """Create a scratch schema for each schema; return their names, and the schemas' names quoted for SQL."""
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
    """Create the models with ``create_all``, for events that query the database."""
    translated = {name: schema for name, schema in schemas.items() if name is not None}
    before = connection.get_execution_options().get("schema_translate_map")
    connection.execution_options(schema_translate_map=translated)
    try:
        for metadata in metadatas:
            metadata.create_all(connection, checkfirst=False)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        raise DriftError(f"cannot create the models in a scratch schema: {first_line(error)}") from error
    finally:
        connection.execution_options(schema_translate_map=before)
