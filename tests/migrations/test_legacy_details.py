"""Details of adoption that no kind of legacy database has; each test creates its own."""

import logging
import re
from collections.abc import Callable

import pytest
from databases import Database, as_role, catalog, url_of
from legacy_databases import BOOTSTRAP, KINDS, SCRIPT_000, SCRIPT_000_REST, build
from sqlalchemy import create_engine
from sqlalchemy.exc import ProgrammingError
from support import insert, run_alembic

from nexus_schema.database import parse_url
from nexus_schema.errors import SchemaError
from nexus_schema.views import rendered_statements

REFUSED = {
    "a column of the row's type": (
        BOOTSTRAP + "CREATE TABLE mine (request api_requests)",
        r'"api_requests\.path" because of: column request of mine; drop that',
    ),
    "an id without its sequence": (
        BOOTSTRAP + "ALTER TABLE streaming_chunks ALTER id SET DEFAULT 5",
        r'"streaming_chunks\.id" has the default 5, not nextval',
    ),
}


@pytest.mark.parametrize(("made", "expected"), REFUSED.values(), ids=REFUSED)
def test_refused(empty: Database, made: str, expected: str) -> None:
    empty.execute(made)
    before = catalog(empty)
    with pytest.raises(SchemaError, match=f"nothing was changed: .*{expected}"):
        run_alembic("upgrade", "head", url=url_of(empty))
    assert catalog(empty) == before


def test_the_function_of_another_role(empty: Database, role: str) -> None:
    empty.execute(SCRIPT_000 + SCRIPT_000_REST)
    empty.execute(
        f"ALTER SCHEMA public OWNER TO {role}; ALTER TABLE api_requests OWNER TO {role};"
        f"ALTER TABLE streaming_chunks OWNER TO {role}; ALTER MATERIALIZED VIEW hourly_stats OWNER TO {role}"
    )
    expected = r"function refresh_hourly_stats\(\) is owned by role"
    with pytest.raises(SchemaError, match=expected):
        run_alembic("upgrade", "head", url=as_role(empty, role))


def test_a_role_that_may_not_create(empty: Database, role: str) -> None:
    empty.execute(SCRIPT_000 + SCRIPT_000_REST)
    empty.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    for table in ("api_requests", "streaming_chunks", "hourly_stats", "alembic_version"):
        empty.execute(f"ALTER TABLE {table} OWNER TO {role}")
    empty.execute(f"ALTER FUNCTION refresh_hourly_stats() OWNER TO {role}")
    empty.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    before = catalog(empty)
    with pytest.raises(SchemaError, match="missing privilege: CREATE on the schema"):
        run_alembic("upgrade", "head", url=as_role(empty, role))
    assert catalog(empty) == before


def test_a_missing_privilege_is_not_mistaken_for_another_view(empty: Database, role: str) -> None:
    """The view would be dropped then."""
    empty.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    engine = create_engine(parse_url(as_role(empty, role)))
    with engine.connect() as connection, pytest.raises(ProgrammingError, match="permission denied"):
        rendered_statements(connection, "mine", ["CREATE MATERIALIZED VIEW mine AS SELECT 1"])
    engine.dispose()


def test_a_sequence_without_its_column(empty: Database, head: Database) -> None:
    build(empty, KINDS["bootstrap"])
    empty.execute("ALTER SEQUENCE streaming_chunks_id_seq OWNED BY NONE")
    run_alembic("upgrade", "head", url=url_of(empty))
    assert catalog(empty) == catalog(head)


@pytest.mark.thorough
def test_an_online_failure_keeps_finished_work(empty: Database, head: Database) -> None:
    build(empty, KINDS["bootstrap"])
    empty.execute(
        "CREATE FUNCTION object() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$;"
        "CREATE TRIGGER object BEFORE UPDATE ON api_requests FOR EACH ROW EXECUTE FUNCTION object()"
    )
    with pytest.raises(SchemaError, match="^not today"):
        run_alembic("upgrade", "head", url=url_of(empty), x={"online": ""})
    empty.execute("DROP TRIGGER object ON api_requests; DROP FUNCTION object()")
    run_alembic("upgrade", "head", url=url_of(empty))
    assert catalog(empty) == catalog(head)


class Writer(logging.Handler):
    """Inserts a row without headers when a certain line is logged."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database, self.rows = database, 0

    def emit(self, record: logging.LogRecord) -> None:
        if self.rows < 2 and re.search("rows of api_requests given their headers", record.getMessage()):
            self.rows += 1
            insert(self.database, "api_requests", headers=None)


@pytest.mark.thorough
def test_rows_inserted_during_the_online_backfill_of_headers(empty: Database, head: Database) -> None:
    """Rows that the proxy inserts between the backfill of a column and its NOT NULL are filled, too."""
    build(empty, KINDS["bootstrap"])
    writer = Writer(empty)
    logger = logging.getLogger("alembic.online")
    logger.addHandler(writer)
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        run_alembic("upgrade", "head", url=url_of(empty), x={"online": ""})
    finally:
        logger.removeHandler(writer)
        logger.setLevel(before)
    assert writer.rows == 2
    assert catalog(empty) == catalog(head)
    assert empty.execute("SELECT count(*) FROM api_requests WHERE headers IS NULL").fetchone() == (0,)


def test_an_invalid_index_is_an_error_or_rebuilt_online(at_revision: Callable[[str], Database]) -> None:
    database = at_revision("002")
    database.execute(
        "CREATE INDEX idx_requests_request_id ON api_requests (request_id);"
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_requests_request_id'::regclass"
    )
    with pytest.raises(SchemaError, match="index idx_requests_request_id is invalid .*-x online"):
        run_alembic("upgrade", "004", url=url_of(database))
    run_alembic("upgrade", "004", url=url_of(database), x={"online": ""})
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'idx_requests_request_id'::regclass"
    assert database.execute(valid).fetchone() == (True,)
