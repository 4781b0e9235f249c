"""Every kind of database that existed before the chain ends as a new one does, with every row."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from legacy_databases import (
    BOOTSTRAP,
    KINDS,
    OPERATORS_OWN,
    SCRIPT_000,
    SCRIPT_000_REST,
    TRANSLATION_SERVICE,
    bootstrap,
    build,
    scripts,
)
from psycopg import sql
from support import (
    REVISIONS,
    Content,
    Database,
    alembic_program,
    catalog,
    content,
    dump_schema,
    insert,
    run_alembic,
    run_sql_script,
    url_of,
    wait_until_a_session_waits,
)

from nexus_schema import legacy
from nexus_schema.errors import SchemaError


@pytest.fixture
def new(head: Database) -> dict[tuple[str, str], str]:
    """The catalog of a new database at head."""
    return catalog(head)


def with_filled_headers(before: Content) -> Content:
    """Return the same rows with the one change that is meant: NULL headers become {}."""
    if "api_requests" not in before:
        return before
    columns, rows = before["api_requests"]
    at = columns.index("headers")
    filled = [(*row[:at], "{}" if row[at] is None else row[at], *row[at + 1 :]) for row in rows]
    # 005 knows the account of the one row that has none (its domain is in the built-in mapping).
    if "account_id" in columns:
        at, domain = columns.index("account_id"), columns.index("domain")
        known = {"claude-1.msldev.io": "claude-1"}
        filled = [(*row[:at], row[at] or known.get(row[domain]), *row[at + 1 :]) for row in filled]
    return before | {"api_requests": (columns, sorted(filled, key=str))}


@pytest.mark.parametrize("kind", KINDS)
def test_it_ends_as_a_new_database(empty: Database, new: dict[tuple[str, str], str], kind: str) -> None:
    build(empty, KINDS[kind])
    before = content(empty)
    url = url_of(empty)
    run_alembic("upgrade", "head", url=url)
    assert catalog(empty) == new
    assert content(empty, before) == with_filled_headers(before)

    once = dump_schema(empty), content(empty)
    run_alembic("upgrade", "head", url=url)
    assert (dump_schema(empty), content(empty)) == once
    run_alembic("check", url=url)
    run_alembic("downgrade", "005", url=url, x={"allow_data_loss": "true"})
    run_alembic("upgrade", "head", url=url)
    assert dump_schema(empty) == once[0]
    empty.execute("SELECT refresh_hourly_stats()")


def test_the_data_of_the_comparison_is_what_the_chain_makes(head: Database) -> None:
    """legacy.py repeats what 000 to 006 make; here the two are compared."""
    database_columns = {
        (table, name): (kind, nullable, default)
        for table, name, kind, nullable, default in head.execute(
            """
            SELECT attrelid::regclass::text, attname, format_type(atttypid, atttypmod), NOT attnotnull,
                pg_get_expr(adbin, adrelid)
            FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            WHERE attrelid::regclass::text = ANY (%s) AND attnum > 0
            """,
            [list(legacy.TABLES)],
        )
    }
    assert {
        (table, name): tuple(column)
        for tables in legacy.COLUMNS.values()
        for table, columns in tables.items()
        for name, column in columns.items()
    } == database_columns
    assert {
        name: row[0]
        for name, *row in head.execute(
            "SELECT relname, regexp_replace(pg_get_indexdef(indexrelid, 0, true),"
            " '^CREATE (UNIQUE )?INDEX .* ON ', '\\1INDEX ON ')"
            " FROM pg_index JOIN pg_class ON oid = indexrelid"
            " WHERE relnamespace = 'public'::regnamespace AND indrelid <> 'alembic_version'::regclass"
            " AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype <> 'f')"
        )
    } == {
        name: text for name, text in legacy.INDEXES.items() if name != "idx_requests_conversation_timestamp"
    }
    assert {
        (table, name): text
        for table, name, text in head.execute(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid::regclass::text = ANY (%s) AND contype <> 'n'",
            [list(legacy.TABLES)],
        )
    } == {(table, name): text for table, names in legacy.CONSTRAINTS.items() for name, text in names.items()}
    assert list(legacy.COLUMNS) == [revision for revision in REVISIONS if revision in legacy.COLUMNS]


@pytest.mark.parametrize("kind", ["bootstrap, then scripts to 005", "scripts to 001", "translation service"])
def test_the_operators_own_objects_stay(empty: Database, new: dict[tuple[str, str], str], kind: str) -> None:
    build(empty, KINDS[kind])
    own = OPERATORS_OWN if "translation" not in kind else "CREATE TABLE invoices (id int PRIMARY KEY)"
    empty.execute(own)
    mine = {key: value for key, value in catalog(empty).items() if any(name in key[1] for name in OWN_NAMES)}
    assert mine
    before = content(empty)
    run_alembic("upgrade", "head", url=url_of(empty))
    assert catalog(empty) == new | mine
    assert content(empty, before) == with_filled_headers(before)
    run_alembic("check", url=url_of(empty))


OWN_NAMES = ("team", "my_", "invoices")

FILENODES = """
SELECT relname, pg_relation_filenode(pg_class.oid), relkind::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
"""


@pytest.mark.parametrize("kind", ["bootstrap", "bootstrap, then scripts to 005", "scripts to 005"])
def test_nothing_is_rewritten_or_built_twice(empty: Database, kind: str) -> None:
    build(empty, KINDS[kind])
    before = {name: node for name, node, _ in empty.execute(FILENODES)}
    run_alembic("upgrade", "000", url=url_of(empty))
    after = {name: node for name, node, _ in empty.execute(FILENODES)}
    kept = {name: node for name, node in before.items() if name in after}
    assert {name: after[name] for name in kept} == kept
    assert {"api_requests", "streaming_chunks", "api_requests_pkey"} <= kept.keys()
    for old, wanted in legacy.RENAMED_INDEXES.items():
        if old in before and wanted not in before:
            assert after[wanted] == before[old], f"{wanted} was built although {old} was there"


def test_no_scan_that_postgresql_does_not_require(empty: Database) -> None:
    """The proxy's bootstrap needs two scans: one to find NULL headers, one to prove that there are none."""
    build(empty, bootstrap(None))
    empty.execute("ANALYZE; SELECT pg_stat_reset()")
    plan = Statements(empty)
    run_alembic("upgrade", "000", url=url_of(empty))
    scanning = [text for text in plan.seen(empty) if "api_requests" in text]
    assert [text for text in scanning if text.startswith("UPDATE")] == [
        "UPDATE api_requests SET headers='{}' WHERE api_requests.headers IS NULL"
    ]
    assert sum("SET NOT NULL" in text for text in scanning) == 1
    assert not any("VALIDATE" in text or "ADD CONSTRAINT" in text for text in scanning)
    assert not any(text.startswith("CREATE INDEX") for text in scanning)


class Statements:
    """What the database ran that changes tables, as an event trigger and a row trigger note it."""

    def __init__(self, database: Database) -> None:
        database.execute(
            """
            CREATE SCHEMA noted; CREATE TABLE noted.statements (id serial, text text);
            CREATE FUNCTION noted.ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO noted.statements (text) SELECT current_query()
                FROM pg_event_trigger_ddl_commands(); END $$;
            CREATE FUNCTION noted.dml() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO noted.statements (text) VALUES (current_query()); RETURN NULL; END $$;
            CREATE EVENT TRIGGER noted ON ddl_command_end EXECUTE FUNCTION noted.ddl();
            CREATE TRIGGER noted AFTER UPDATE ON api_requests EXECUTE FUNCTION noted.dml();
            """
        )

    def seen(self, database: Database) -> list[str]:
        rows = database.execute("SELECT text FROM noted.statements ORDER BY id").fetchall()
        return [text for (text,) in rows]


# Known names with another definition: what is changed, and how the line names it.
CONFLICTS = {
    "an index of this name on other columns": (
        bootstrap(0),
        "DROP INDEX idx_api_requests_domain;"
        " CREATE INDEX idx_api_requests_domain ON api_requests (domain, model)",
        'index "idx_api_requests_domain" is',
    ),
    "an index of a later revision": (
        bootstrap(None),
        "CREATE INDEX idx_requests_account_timestamp ON api_requests (account_id)",
        'index "idx_requests_account_timestamp" is',
    ),
    "a legacy index on other columns": (
        bootstrap(None),
        "DROP INDEX idx_chunks_request_id;"
        " CREATE INDEX idx_chunks_request_id ON streaming_chunks (timestamp)",
        'index "idx_chunks_request_id" is',
    ),
    "an index on another table": (
        scripts(0, by_hand=False),
        "DROP INDEX idx_api_requests_model; CREATE TABLE t (model text);"
        " CREATE INDEX idx_api_requests_model ON t (model)",
        'index "idx_api_requests_model" is',
    ),
    "a unique index": (
        scripts(0, by_hand=False),
        "DROP INDEX idx_api_requests_model;"
        " CREATE UNIQUE INDEX idx_api_requests_model ON api_requests (model)",
        'index "idx_api_requests_model" is "UNIQUE INDEX',
    ),
    "a table of an index's name": (
        scripts(0, by_hand=False),
        "CREATE TABLE idx_requests_branch_id (i int)",
        '"idx_requests_branch_id" is a table, not an index',
    ),
    "a column that would lose": (
        bootstrap(None),
        "ALTER TABLE api_requests ALTER path TYPE text",
        '"api_requests.path" is text, not character varying(1024)',
    ),
    "a wider column": (
        scripts(0, by_hand=False),
        "ALTER TABLE api_requests ALTER response_status TYPE bigint",
        '"api_requests.response_status" is bigint, not integer',
    ),
    "a column of a later revision": (
        scripts(0, by_hand=False),
        "ALTER TABLE api_requests ADD account_id uuid",
        '"api_requests.account_id" is uuid',
    ),
    "a generated column": (
        scripts(0, by_hand=False),
        "ALTER TABLE api_requests ADD total_tokens int"
        " GENERATED ALWAYS AS (input_tokens + output_tokens) STORED",
        '"api_requests.total_tokens" is generated',
    ),
    "a mandatory column that is missing": (
        scripts(0, by_hand=False),
        "DROP MATERIALIZED VIEW hourly_stats; ALTER TABLE api_requests RENAME domain TO host",
        '"api_requests" has no column "domain"',
    ),
    "a table that is a view": (
        [],
        "CREATE VIEW api_requests AS SELECT 1 AS request_id",
        '"api_requests" is a view, not a table',
    ),
    "a table that is something else": (
        [],
        "CREATE TABLE conversation_metrics (id int)",
        '"conversation_metrics.id" is integer, not uuid',
    ),
    "a partitioned table": (
        [],
        "CREATE TABLE streaming_chunks (id int) PARTITION BY RANGE (id)",
        '"streaming_chunks" is a partitioned table',
    ),
    "an unlogged table": (
        [TRANSLATION_SERVICE],
        "ALTER TABLE conversation_metrics SET UNLOGGED",
        '"conversation_metrics" is unlogged',
    ),
    "a view that is a table": (
        [],
        "CREATE TABLE hourly_stats (hour timestamptz)",
        '"hourly_stats" is a table, not a materialized view',
    ),
    "a view with other columns": (
        scripts(0, by_hand=False),
        "DROP MATERIALIZED VIEW hourly_stats; CREATE MATERIALIZED VIEW hourly_stats AS SELECT 1 AS hour",
        '"hourly_stats" has other columns',
    ),
    "another function": (
        scripts(0, by_hand=False),
        "CREATE OR REPLACE FUNCTION refresh_hourly_stats() RETURNS void LANGUAGE sql AS 'SELECT 1'",
        "function refresh_hourly_stats() is another one",
    ),
    "a constraint with another definition": (
        scripts(0, by_hand=False),
        "ALTER TABLE streaming_chunks DROP CONSTRAINT streaming_chunks_request_id_fkey;"
        " ALTER TABLE streaming_chunks ADD CONSTRAINT streaming_chunks_request_id_fkey"
        " FOREIGN KEY (request_id) REFERENCES api_requests",
        'constraint "streaming_chunks_request_id_fkey" is',
    ),
    "a primary key of another name": (
        scripts(0, by_hand=False),
        "ALTER TABLE api_requests RENAME CONSTRAINT api_requests_pkey TO mine",
        "RENAME CONSTRAINT mine TO api_requests_pkey",
    ),
    "duplicates where there may be none": (
        scripts(0, by_hand=False),
        "ALTER TABLE streaming_chunks DROP CONSTRAINT streaming_chunks_request_id_chunk_index_key;"
        " INSERT INTO streaming_chunks (request_id, chunk_index, timestamp, data)"
        " SELECT request_id, chunk_index, timestamp, data FROM streaming_chunks",
        "streaming_chunks_request_id_chunk_index_key",
    ),
    "a row that no key allows": (
        scripts(0, by_hand=False),
        "ALTER TABLE streaming_chunks DROP CONSTRAINT streaming_chunks_request_id_fkey;"
        " INSERT INTO streaming_chunks (request_id, chunk_index, timestamp, data)"
        " VALUES (gen_random_uuid(), 0, now(), '')",
        "streaming_chunks_request_id_fkey",
    ),
    "a NULL that cannot be filled": (
        scripts(0, by_hand=False),
        "ALTER TABLE api_requests ALTER domain DROP NOT NULL;"
        " INSERT INTO api_requests (request_id, timestamp, method, path, headers)"
        " VALUES (gen_random_uuid(), now(), '', '', '{}')",
        'column "domain"',
    ),
    "a row that may not be shown": (
        bootstrap(None),
        "ALTER TABLE api_requests ADD CONSTRAINT mine CHECK (headers <> '{}') NOT VALID",
        'fails: the database refused: new row for relation "api_requests" violates check constraint "mine"'
        " [SQLSTATE 23514]",
    ),
    "a view on a column that has to be widened": (
        bootstrap(None),
        "CREATE VIEW mine AS SELECT * FROM api_requests",
        "because of: rule _RETURN on view mine; drop that, upgrade, and make it again",
    ),
    "a trigger on such a column": (
        bootstrap(None),
        "CREATE TRIGGER mine BEFORE UPDATE OF path ON api_requests"
        " FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "because of: trigger mine on table api_requests",
    ),
    "a policy on such a column": (
        bootstrap(None),
        "CREATE POLICY mine ON api_requests USING (path LIKE '/v1%')",
        "because of: policy mine on table api_requests",
    ),
    "a generated column of such a column": (
        bootstrap(None),
        "ALTER TABLE api_requests ADD mine text GENERATED ALWAYS AS (lower(path)) STORED",
        "column mine of table api_requests",
    ),
    "a column of the type of the rows": (
        scripts(2, by_hand=True),
        "DROP INDEX idx_requests_conversation_detail; ALTER TABLE api_requests DROP message_count;"
        " CREATE TABLE history (request api_requests)",
        "because of: column request of history",
    ),
    "a type of a table's name": (
        bootstrap(None),
        "CREATE TYPE conversation_metrics AS ENUM ('a')",
        '"conversation_metrics" is a type',
    ),
    "a table without columns": (
        [],
        "CREATE TABLE api_requests ()",
        '"api_requests" has no column "request_id"',
    ),
    "chunks without requests": (
        scripts(0, by_hand=False),
        "DROP TABLE api_requests CASCADE",
        '"streaming_chunks" is there without "api_requests"',
    ),
    "a view of something else": (
        [],
        SCRIPT_000.partition(";")[0].replace("api_requests", "mine", 1)
        + ";"
        + SCRIPT_000_REST[SCRIPT_000_REST.index("CREATE MATERIALIZED") :]
        .partition(";")[0]
        .replace("FROM api_requests", "FROM mine"),
        '"hourly_stats" is a view of something else',
    ),
    "another query with a grant on a column": (
        scripts(0, by_hand=False),
        "DROP MATERIALIZED VIEW hourly_stats;"
        + SCRIPT_000_REST.replace("7 days", "8 days")
        + "GRANT SELECT (hour) ON hourly_stats TO PUBLIC",
        '"hourly_stats" is another query and has indexes or grants',
    ),
    "a sequence that is no serial's": (
        bootstrap(None),
        "ALTER SEQUENCE streaming_chunks_id_seq AS bigint INCREMENT 5",
        'sequence "streaming_chunks_id_seq" is not as a serial',
    ),
    "storage parameters of a key": (
        bootstrap(None),
        "ALTER INDEX api_requests_pkey SET (fillfactor = 70)",
        'index "api_requests_pkey" has storage parameters',
    ),
    "a sequence without its table": (
        [],
        "CREATE SEQUENCE streaming_chunks_id_seq",
        'sequence "streaming_chunks_id_seq" is there without its table',
    ),
}


@pytest.mark.parametrize("conflict", CONFLICTS)
def test_a_known_name_with_another_definition_stops_it_before_any_change(
    empty: Database, conflict: str
) -> None:
    made, change, expected = CONFLICTS[conflict]
    build(empty, made)
    empty.execute(change)
    before = dump_schema(empty), content(empty)
    result = alembic_program("upgrade", "head", url=url_of(empty))
    assert result.returncode == 1
    [line] = [line for line in result.stderr.splitlines() if not line.startswith("INFO")]
    assert line.startswith("error: ")
    assert expected in line
    assert (dump_schema(empty), content(empty)) == before
    assert empty.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)


# Differences that are settled although section 2 does not name them.
SETTLED = {
    "a foreign key that is not validated": "ALTER TABLE streaming_chunks DROP CONSTRAINT"
    " streaming_chunks_request_id_fkey; ALTER TABLE streaming_chunks ADD CONSTRAINT"
    " streaming_chunks_request_id_fkey FOREIGN KEY (request_id)"
    " REFERENCES api_requests ON DELETE CASCADE NOT VALID",
    "an invalid index": "UPDATE pg_index SET indisvalid = false"
    " WHERE indexrelid = 'idx_requests_conversation_id'::regclass",
    "an invalid legacy index": "UPDATE pg_index SET indisvalid = false"
    " WHERE indexrelid = 'idx_requests_domain'::regclass",
    "an invalid index beside a valid legacy one": "CREATE INDEX idx_api_requests_domain"
    " ON api_requests (domain); UPDATE pg_index SET indisvalid = false"
    " WHERE indexrelid = 'idx_api_requests_domain'::regclass",
    "constraints that are missing": "ALTER TABLE streaming_chunks DROP CONSTRAINT streaming_chunks_pkey;"
    " ALTER TABLE streaming_chunks DROP CONSTRAINT streaming_chunks_request_id_fkey;"
    " ALTER TABLE api_requests DROP CONSTRAINT api_requests_parent_task_request_id_fkey;"
    " ALTER TABLE api_requests DROP CONSTRAINT api_requests_pkey",
    "another default": "ALTER TABLE api_requests ALTER created_at SET DEFAULT clock_timestamp(),"
    " ALTER branch_id DROP DEFAULT, ALTER model SET DEFAULT 'none'",
    "another nullability": "ALTER TABLE api_requests ALTER domain DROP NOT NULL,"
    " ALTER created_at SET NOT NULL",
    "narrower columns": "ALTER TABLE api_requests ALTER method TYPE varchar(5), ALTER model TYPE varchar(90)",
    "a view of another query": SCRIPT_000_REST.replace("7 days", "9 days"),
    "a view that was never filled": SCRIPT_000_REST.replace(
        "GROUP BY hour, domain, model;", "GROUP BY hour, domain, model WITH NO DATA;"
    ),
}


@pytest.mark.parametrize("difference", SETTLED)
def test_other_differences_are_settled(
    empty: Database, new: dict[tuple[str, str], str], difference: str
) -> None:
    build(empty, bootstrap(None))
    empty.execute(
        "DELETE FROM api_requests WHERE headers IS NULL;"
        " UPDATE api_requests SET model = NULL, created_at = now(), method = 'GET'"
    )
    empty.execute(SETTLED[difference])
    before = content(empty)
    run_alembic("upgrade", "head", url=url_of(empty))
    assert catalog(empty) == new
    assert content(empty, before) == with_filled_headers(before)
    empty.execute("SELECT refresh_hourly_stats()")


def test_an_unproved_not_null_of_postgresql_18_is_proved(
    empty: Database, new: dict[tuple[str, str], str]
) -> None:
    if empty.info.server_version < 180000:
        pytest.skip("NOT NULL ... NOT VALID is new in PostgreSQL 18")
    build(empty, bootstrap(None))
    empty.execute(
        "ALTER TABLE api_requests ADD CONSTRAINT api_requests_headers_not_null NOT NULL headers NOT VALID"
    )
    run_alembic("upgrade", "head", url=url_of(empty))
    assert catalog(empty) == new
    assert empty.execute("SELECT count(*) FROM api_requests WHERE headers IS NULL").fetchone() == (0,)


def test_what_is_not_ours_and_not_in_order_is_reported(
    empty: Database, caplog: pytest.LogCaptureFixture
) -> None:
    build(empty, bootstrap(None))
    empty.execute("CREATE INDEX my_index ON api_requests (domain, model)")
    empty.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'my_index'::regclass")
    empty.execute("ALTER TABLE api_requests ADD CONSTRAINT my_check CHECK (duration_ms >= 0) NOT VALID")
    with caplog.at_level(logging.INFO, "nexus_schema"):
        run_alembic("upgrade", "head", url=url_of(empty))
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [text.split(";")[0] for text in warnings] == [
        "left alone: index my_index of api_requests is invalid",
        "left alone: constraint my_check of api_requests is not validated",
    ]


OWN_COLUMNS = (
    "ALTER TABLE api_requests ADD user_id text, ADD id int; CREATE TABLE model (name int, known int)"
)


def test_autogenerate_leaves_own_objects_whatever_their_names(empty: Database) -> None:
    """Names that occur in the revisions, but of other things."""
    build(empty, bootstrap(None))
    empty.execute(OWN_COLUMNS)
    run_alembic("upgrade", "head", url=url_of(empty))
    run_alembic("check", url=url_of(empty))


def test_deferred_triggers_are_not_in_the_way(empty: Database, new: dict[tuple[str, str], str]) -> None:
    build(empty, bootstrap(None))
    insert(empty, "api_requests", headers=None)
    empty.execute(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        " CREATE CONSTRAINT TRIGGER mine AFTER UPDATE ON api_requests DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION note()"
    )
    run_alembic("upgrade", "head", url=url_of(empty))
    assert catalog(empty).items() >= new.items()


def test_what_is_compared_is_locked_before(empty: Database) -> None:
    """An index that somebody builds at the same time is seen, although it was not there at first."""
    build(empty, bootstrap(None))
    with psycopg.connect(url_of(empty)) as other, ThreadPoolExecutor() as pool:
        other.execute("CREATE INDEX idx_requests_is_subtask ON api_requests (path)")
        upgrade = pool.submit(alembic_program, "upgrade", "head", url=url_of(empty))
        wait_until_a_session_waits(empty)
        other.commit()
        result = upgrade.result()
    assert 'index "idx_requests_is_subtask" is "INDEX ON api_requests USING btree (path)"' in result.stderr
    assert empty.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)


def test_the_log_says_what_was_found_and_what_was_changed(empty: Database) -> None:
    build(empty, bootstrap(None))
    log = alembic_program("upgrade", "head", url=url_of(empty)).stderr
    for expected in (
        "found api_requests (34 of 37 columns, 14 known indexes),"
        " streaming_chunks (7 of 7 columns, 1 known indexes),"
        " made without this chain",
        "missing, and added by the revisions: conversation_metrics, hourly_stats, api_requests.api_key_id,",
        "index idx_requests_domain renamed to idx_api_requests_domain",
        "api_requests.path: character varying(255) widened to character varying(1024)",
        "api_requests.headers: NULL becomes '{}' in 1 rows",
        "api_requests.headers: NOT NULL set",
        "api_requests.input_tokens: default 0 dropped",
        "api_requests.api_key_id added",
        "index idx_chunks_request_id dropped: idx_streaming_chunks_request_id serves its queries",
        "index idx_requests_account_id dropped: idx_requests_account_timestamp serves its queries",
    ):
        assert f"INFO  [nexus_schema.legacy] {expected}" in log


def test_an_index_is_dropped_only_when_the_one_that_serves_is_there(empty: Database) -> None:
    build(empty, bootstrap(None))
    run_alembic("upgrade", "004", url=url_of(empty))
    assert ("index", "idx_requests_account_id") in catalog(empty)
    run_alembic("upgrade", "005", url=url_of(empty))
    assert ("index", "idx_requests_account_id") not in catalog(empty)


class TestSchemas:
    """Other schemas than public, and two in one database."""

    @pytest.mark.parametrize("by", ["option", "search_path"])
    def test_two_schemas_do_not_disturb_each_other(
        self, empty: Database, new: dict[tuple[str, str], str], by: str
    ) -> None:
        build(empty, bootstrap(None))
        untouched = dump_schema(empty, "--schema=public"), content(empty)
        empty.execute('CREATE SCHEMA one; CREATE SCHEMA "Two 2"')
        empty.execute("SET search_path = one")
        empty.execute(BOOTSTRAP)
        insert(empty, "api_requests", headers=None)
        for schema in ("one", "Two 2"):
            if by == "option":
                run_alembic("upgrade", "head", url=url_of(empty), x={"schema": schema})
                run_alembic("check", url=url_of(empty), x={"schema": schema})
            else:
                path = f'-c search_path="{schema}",nowhere'.replace(" 2", "\\ 2")
                run_alembic("upgrade", "head", url=url_of(empty, options=path))
                run_alembic("check", url=url_of(empty, options=path))
            empty.execute(sql.SQL("SET search_path = {}").format(sql.Identifier(schema)))
            assert in_schema(catalog(empty), schema) == new
            assert empty.execute("SELECT version_num FROM alembic_version").fetchall() == [("006",)]
            empty.execute("SELECT refresh_hourly_stats()")
        empty.execute("SET search_path = public")
        assert (dump_schema(empty, "--schema=public"), content(empty)) == untouched
        assert empty.execute("SELECT to_regclass('public.alembic_version')").fetchone() == (None,)
        run_alembic("upgrade", "head", url=url_of(empty))
        assert catalog(empty) == new
        run_alembic("downgrade", "base", url=url_of(empty), x={"schema": "Two 2"})
        assert catalog(empty) == new

    def test_tables_later_on_the_search_path_are_not_hidden(self, empty: Database) -> None:
        build(empty, bootstrap(None))
        empty.execute("CREATE SCHEMA app")
        before = dump_schema(empty)
        path = "-c search_path=app,public"
        with pytest.raises(
            SchemaError, match=r'the tables are in schema "public", but .* -x schema=public or app'
        ):
            run_alembic("upgrade", "head", url=url_of(empty, options=path))
        assert dump_schema(empty) == before
        run_alembic("upgrade", "head", url=url_of(empty, options=path), x={"schema": "public"})
        run_alembic("upgrade", "head", url=url_of(empty, options=path), x={"schema": "app"})
        run_alembic("check", url=url_of(empty, options=path))

    def test_a_script_for_another_schema(self, empty: Database, new: dict[tuple[str, str], str]) -> None:
        empty.execute('CREATE SCHEMA "Two 2"')
        script = alembic_program("-x", "schema=Two 2", "upgrade", "head", "--sql").stdout
        result = run_sql_script(empty, script)
        assert (result.returncode, result.stderr) == (0, "")
        assert catalog(empty) == {}
        empty.execute('SET search_path = "Two 2"')
        assert in_schema(catalog(empty), "Two 2") == new


def in_schema(found: dict[tuple[str, str], str], schema: str) -> dict[tuple[str, str], str]:
    """Return a catalog as if its schema were public."""
    quoted = f'"{schema}"' if " " in schema else schema
    return {
        key: text.replace(f"{quoted}.", "public.").replace(
            f"search_path TO '{schema}'", "search_path TO 'public'"
        )
        for key, text in found.items()
    }


class TestRoles:
    """The role that migrates owns the tables and may create in the schema; no more."""

    @pytest.fixture
    def owner(self, empty: Database) -> Iterator[str]:
        name = f"nexus_owner_{empty.info.backend_pid}"
        empty.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'x' NOSUPERUSER NOCREATEDB NOCREATEROLE")
        empty.execute(f"REVOKE ALL ON DATABASE {empty.info.dbname} FROM PUBLIC")
        empty.execute(f"GRANT CONNECT ON DATABASE {empty.info.dbname} TO {name}")
        empty.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
        empty.execute(f"GRANT USAGE, CREATE ON SCHEMA public TO {name}")
        yield name
        empty.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")

    def url(self, database: Database, role: str) -> str:
        info = database.info
        return f"postgresql://{role}:x@/{info.dbname}?host={info.host}&port={info.port}"

    def test_it_needs_no_other_right(
        self, empty: Database, owner: str, new: dict[tuple[str, str], str]
    ) -> None:
        with psycopg.connect(self.url(empty, owner), autocommit=True) as connection:
            build(connection, bootstrap(5))
            run_alembic("upgrade", "head", url=self.url(empty, owner))
            assert catalog(connection) == new
            run_alembic("check", url=self.url(empty, owner))
            x = {"allow_data_loss": "true"}
            run_alembic("downgrade", "base", url=self.url(empty, owner), x=x)
            run_alembic("upgrade", "head", url=self.url(empty, owner))
            run_alembic("downgrade", "base", url=self.url(empty, owner))

    def test_rows_that_a_policy_hides_are_not_passed_over(self, empty: Database, owner: str) -> None:
        with psycopg.connect(self.url(empty, owner), autocommit=True) as connection:
            build(connection, bootstrap(None))
            connection.execute(
                "ALTER TABLE api_requests ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
                " CREATE POLICY mine ON api_requests USING (domain = 'mine')"
            )
            before = dump_schema(empty)
            with pytest.raises(SchemaError, match='"api_requests" has FORCE ROW LEVEL SECURITY: connect as'):
                run_alembic("upgrade", "head", url=self.url(empty, owner))
            assert dump_schema(empty) == before
            connection.execute("ALTER TABLE api_requests NO FORCE ROW LEVEL SECURITY")
            run_alembic("upgrade", "005", url=self.url(empty, owner))
            connection.execute("ALTER TABLE api_requests FORCE ROW LEVEL SECURITY")
            with pytest.raises(SchemaError, match="row-level security"):
                run_alembic("downgrade", "004", url=self.url(empty, owner))

    def test_tables_of_another_role_are_one_clear_line(self, empty: Database, owner: str) -> None:
        build(empty, bootstrap(None))
        before = dump_schema(empty)
        with pytest.raises(
            SchemaError, match=f'"api_requests" is owned by role "{empty.info.user}": connect'
        ):
            run_alembic("upgrade", "head", url=self.url(empty, owner))
        assert dump_schema(empty) == before


def test_current_says_what_it_cannot_know(empty: Database) -> None:
    build(empty, bootstrap(2))
    before = dump_schema(empty)
    result = alembic_program("current", url=url_of(empty))
    assert (result.returncode, result.stdout) == (0, "")
    assert "no revision is recorded, but there is api_requests (34 of 37 columns" in result.stderr
    assert "which scripts made it cannot be known" in result.stderr
    assert dump_schema(empty) == before
    assert empty.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)


def test_a_script_stops_at_a_database_that_it_cannot_see(empty: Database) -> None:
    build(empty, bootstrap(None))
    before = dump_schema(empty)
    script = alembic_program("upgrade", "head", "--sql")
    assert "a script cannot see its database" in script.stderr
    result = run_sql_script(empty, script.stdout)
    assert result.returncode != 0
    assert "this script is for a database without these tables" in result.stderr
    assert dump_schema(empty) == before


def test_scripts_000_alone_is_what_the_reference_says(empty: Database) -> None:
    """The fixtures themselves: no column of D1, no unique index on the view, a refresh that fails."""
    build(empty, [SCRIPT_000 + SCRIPT_000_REST])
    assert not {("column", f"api_requests.{name}") for name in ("total_tokens", "api_key_hash")} & set(
        catalog(empty)
    )
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        empty.execute("SELECT refresh_hourly_stats()")
