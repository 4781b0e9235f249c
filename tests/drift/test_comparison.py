"""The comparison itself: its cost, its side effects, what it ignores, and its limits."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command, op
from alembic.config import Config
from databases import PROGRAMS_OF, Database, dump_schema, engine_of, url_of
from drift.round_trip import Project, schema_of
from marks import quick
from programs import ROOT, alembic_program
from servers import own_server
from support import HEAD, NEXT, operations, run_alembic

from alembic_drift.creation import models_of
from alembic_drift.errors import DriftError
from alembic_drift.kinds import KIND_OF
from alembic_drift.objects import Catalog, Key
from alembic_drift.ownership import Allowed
from alembic_drift.scratch import both_sides
from nexus_schema.database import parse_url
from nexus_schema.errors import SchemaError


def read_both(connection: sa.Connection, metadata: sa.MetaData) -> tuple[str, Catalog, Catalog]:
    """Return the name of the first schema, its catalog, and the catalog that the models would create."""
    with both_sides(connection, models_of([metadata]), {None}, set()) as sides:
        both = sides[None]
        assert both.refused == {}
        return both.name, both.database, both.models


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the statements that SQLAlchemy sends."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def test_a_run_takes_a_few_dozen_statements(project: Project) -> None:
    engine_of(project.database)  # its queries of the server do not count
    with statements() as sent:
        project.check()
    assert len(sent) <= 36, sent
    assert sum("CREATE TABLE" in statement for statement in sent) == 1, "one statement creates the models"


def test_it_leaves_shows_and_locks_nothing(project: Project) -> None:
    """During the comparison, another session sees no new schema, and can use every table and the view."""
    seen: list[Any] = []

    def look(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "CREATE TABLE" in statement:  # the models were created, in an open transaction
            with psycopg.connect(url_of(project.database, options="-c lock_timeout=100ms")) as other:
                seen.extend(
                    other.execute("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'drift%'").fetchall()
                )
                for table in ("api_requests", "streaming_chunks", "conversation_metrics"):
                    other.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")  # conflicts with all but reads
                other.execute("SELECT refresh_hourly_stats()")
                seen.append("worked")

    before = dump_schema(project.database)
    sa.event.listen(sa.Engine, "after_cursor_execute", look)
    try:
        assert project.check() == []
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", look)
    assert seen == ["worked"]
    assert dump_schema(project.database) == before


def test_a_crash_leaves_nothing(project: Project) -> None:
    before = dump_schema(project.database)

    def die(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "CREATE TABLE" in statement:
            pid = connection.connection.driver_connection.info.backend_pid
            project.database.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    sa.event.listen(sa.Engine, "after_cursor_execute", die)
    try:
        with pytest.raises(SchemaError):
            project.check()
    finally:
        sa.event.remove(sa.Engine, "after_cursor_execute", die)
    assert dump_schema(project.database) == before
    assert project.check() == []


def test_internal_options_of_the_server_are_no_difference(project: Project) -> None:
    """PostgreSQL 15.20 keeps an internal number in attoptions of each column; users set n_distinct."""
    project.database.execute(
        "UPDATE pg_attribute SET attoptions = '{pg_attver=1}' WHERE attnum > 0"
        " AND attrelid IN (SELECT oid FROM pg_class WHERE relkind IN ('r', 'm')"
        " AND relnamespace = 'public'::regnamespace);"
        "UPDATE pg_class SET reloptions = '{pg_counter=1}'"
        " WHERE relkind IN ('r', 'm', 't')"
        " AND relnamespace IN ('public'::regnamespace, 'pg_toast'::regnamespace);"
        "UPDATE pg_class SET reloptions = '{pg_counter=1}' WHERE relname = 'idx_api_requests_domain';"
        "UPDATE pg_attribute SET attoptions = '{pg_attver=1}'"
        " WHERE attrelid = 'idx_api_requests_model'::regclass"
    )
    assert project.check() == []
    project.database.execute(
        "UPDATE pg_attribute SET attoptions = '{pg_attver=1,n_distinct=5}'"
        " WHERE attrelid = 'api_requests'::regclass AND attname = 'domain';"
        "UPDATE pg_class SET reloptions = '{pg_counter=1,fillfactor=70}' WHERE relname = 'streaming_chunks'"
    )
    assert project.check() == [
        "column api_requests.domain: attribute options: the database has n_distinct=5, the models have none",
        "table streaming_chunks: storage parameters: the database has fillfactor=70, the models have none",
    ]


def test_the_order_of_options_is_no_difference(project: Project) -> None:
    options = {"fillfactor": 70, "deduplicate_items": "off"}
    metadata = sa.MetaData()
    table = sa.Table("t", metadata, sa.Column("a", sa.Integer))
    sa.Index("by_a", table.c.a, postgresql_with=options)
    engine = sa.create_engine(parse_url(url_of(project.database)))
    project.database.execute("CREATE TABLE t (a integer)")
    project.database.execute("CREATE INDEX by_a ON t (a) WITH (deduplicate_items = off, fillfactor = 70)")
    with engine.connect() as connection:
        _, database, models = read_both(connection, metadata)
        key = Key("index", "t", "by_a")
        assert database[key]["storage parameters"] == models[key]["storage parameters"]
        connection.exec_driver_sql("ALTER INDEX by_a SET (fillfactor = 80)")
        _, database, models = read_both(connection, metadata)
        assert database[key]["storage parameters"] != models[key]["storage parameters"]
    engine.dispose()


def test_the_lines_describe_both_sides(project: Project) -> None:
    project.database.execute(
        "DROP INDEX idx_requests_message_count; ALTER TABLE api_requests ALTER model SET DEFAULT 'x'"
    )
    project.database.execute("CREATE TABLE audit (id integer)")
    lines = project.check()
    assert lines == [
        "column api_requests.model: default: the database has 'x'::character varying, the models have none",
        "index idx_requests_message_count on api_requests: only in the models: CREATE INDEX"
        " idx_requests_message_count ON public.api_requests USING btree (message_count)",
    ]
    said = project.said.getvalue().splitlines()
    assert said == ["unmanaged (in no model, created by no revision): table audit", *lines]


def test_check_on_the_command_line(head: Database) -> None:
    head.execute("DROP INDEX idx_requests_message_count")
    head.execute("CREATE FUNCTION f() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
    result = alembic_program("check", url=url_of(head))
    assert result.returncode == 255, "Alembic's own exit code"
    assert result.stdout.splitlines() == [
        "unmanaged (in no model, created by no revision): function f()",
        "index idx_requests_message_count on api_requests: only in the models: CREATE INDEX"
        " idx_requests_message_count ON public.api_requests USING btree (message_count)",
        "FAILED: New upgrade operations detected: [index idx_requests_message_count on api_requests]",
    ]
    assert "Detected" not in result.stderr, "nothing is reported twice"


def test_a_long_definition_is_shortened_to_the_difference(project: Project) -> None:
    project.database.execute(
        "DROP MATERIALIZED VIEW hourly_stats; CREATE MATERIALIZED VIEW hourly_stats AS"
        " SELECT date_trunc('hour', timestamp) AS hour, domain, model, count(*) AS request_count,"
        " sum(input_tokens) AS total_input_tokens, sum(output_tokens) AS total_output_tokens,"
        " sum(cache_creation_input_tokens) AS total_cache_creation_tokens,"
        " sum(cache_read_input_tokens) AS total_cache_read_tokens, avg(duration_ms) AS avg_response_time,"
        " sum(tool_call_count) AS total_tool_calls FROM api_requests"
        " WHERE timestamp > now() - interval '8 days' GROUP BY 1, 2, 3"
    )
    [line] = [line for line in project.check() if line.startswith("materialized view hourly_stats: query")]
    assert "8 days" in line
    assert "7 days" in line
    assert len(line) < 500


ALLOWED = [
    ("CREATE INDEX audit_1 ON api_requests (ip_address)", "index audit_*"),
    ("ALTER TABLE api_requests ADD note text", "column api_requests.note"),
    ("CREATE TABLE audit (id integer)", "table audit"),
    (
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        " CREATE TRIGGER touched BEFORE UPDATE ON api_requests FOR EACH ROW EXECUTE FUNCTION touch()",
        "* *touch*",
    ),
    ("ALTER TABLE api_requests ADD CONSTRAINT mine CHECK (path <> '')", "constraint mine on api_requests"),
]


@pytest.mark.parametrize(
    ("change", "pattern"),
    quick({case[1]: case for case in ALLOWED}, "index audit_*", "constraint mine on api_requests"),
)
def test_an_allowed_object_is_ignored(project: Project, tmp_path: Path, change: str, pattern: str) -> None:
    project.database.execute(change)
    project.check()
    assert project.said.getvalue() != ""
    file = tmp_path / "pyproject.toml"
    file.write_text(f'[tool.alembic_drift]\nown_objects = ["table nothing", "{pattern}"]\n')
    project.toml_file = file
    assert project.check() == []
    assert project.said.getvalue() == "No new upgrade operations detected.\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.alembic_drift]\nown_objects = 'index x'", "must be a list of patterns"),
        ("[tool.alembic_drift]\nown = ['index x']", "supports only own_objects, not own"),
        ("[tool.alembic_drift", "is not valid TOML"),
        ("[tool]\nalembic_drift = 3", "must be a table"),
    ],
)
def test_a_malformed_allow_list_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(DriftError, match=said):
        Allowed(Config(tmp_path / "alembic.ini"), None, KIND_OF)


def test_a_role_that_may_not_create_a_schema_gets_a_partial_comparison(
    head: Database, project: Project, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = f"nexus_owner_{head.info.backend_pid}"
    head.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'; ALTER SCHEMA public OWNER TO {role}")
    head.execute("CREATE INDEX mine ON api_requests (ip_address); DROP INDEX idx_requests_message_count")
    head.execute("ALTER TABLE streaming_chunks ALTER token_count SET DEFAULT 7")
    for table in (
        "api_requests",
        "streaming_chunks",
        "conversation_metrics",
        "alembic_version",
        "hourly_stats",
    ):
        head.execute(f"ALTER TABLE {table} OWNER TO {role}")
    url = f"postgresql://{role}:x@/{head.info.dbname}?host={head.info.host}&port={head.info.port}"
    monkeypatch.setenv("DATABASE_URL", url)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(Exception, match="idx_requests_message_count") as found,
    ):
        project.run("check")
    head.execute(f"REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}")
    assert "not compared: views, functions, triggers" in caplog.text
    assert f"role {role} cannot create a schema in database {head.info.dbname}" in caplog.text
    assert "mine" not in str(found.value), "an unmanaged index must not be dropped"
    assert "hourly_stats" not in str(found.value)
    assert "token_count" in str(found.value), "Alembic itself compares defaults"
    assert "unmanaged (in no model, created by no revision): index mine" in project.said.getvalue()


SETTINGS = {
    "DateStyle": "German, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "standard_conforming_strings": "off",
    "quote_all_identifiers": "on",
    "extra_float_digits": "0",
    "bytea_output": "escape",
    "default_statistics_target": "7",
    "default_toast_compression": "pglz",
    "default_transaction_isolation": "serializable",
    "row_security": "off",
    "search_path": '"$user", nowhere, public, pg_catalog',
    "transform_null_equals": "on",
    "enable_seqscan": "off",
}


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
def test_settings_of_the_role_are_no_difference(project: Project) -> None:
    for name, setting in SETTINGS.items():
        value = setting if name == "search_path" else f"'{setting}'"
        project.database.execute(f"ALTER DATABASE {project.database.info.dbname} SET {name} = {value}")
    assert project.check() == []


@pytest.mark.parametrize("schema", quick(['An "odd" one', "other", "search_path=%"]))
def test_another_schema_is_clean(empty: Database, schema: str) -> None:
    empty.execute(psycopg.sql.SQL("CREATE SCHEMA {}").format(psycopg.sql.Identifier(schema)))
    empty.execute("CREATE TABLE api_requests (id integer)")  # a different one, in public
    run_alembic("upgrade", "head", url=url_of(empty), x={"schema": schema})
    run_alembic("check", url=url_of(empty), x={"schema": schema})
    empty.execute(
        psycopg.sql.SQL("COMMENT ON COLUMN {}.hourly_stats.hour IS 'x'").format(
            psycopg.sql.Identifier(schema)
        )
    )
    with pytest.raises(Exception, match="hourly_stats.hour"):
        run_alembic("check", url=url_of(empty), x={"schema": schema})


@pytest.mark.parametrize("major", [16, pytest.param(18, marks=pytest.mark.thorough)])
def test_head_is_clean_on_each_embedded_server(major: int) -> None:
    with own_server(PROGRAMS_OF[major]) as server:
        url = server.url()
        run_alembic("upgrade", "head", url=url)
        run_alembic("check", url=url)
        with psycopg.connect(url, autocommit=True) as connection:
            assert connection.info.server_version // 10_000 == major
            connection.execute(
                "ALTER TABLE streaming_chunks DROP CONSTRAINT streaming_chunks_request_id_chunk_index_key"
            )
        with pytest.raises(Exception, match="streaming_chunks_request_id_chunk_index_key"):
            run_alembic("check", url=url)


def test_an_invalid_index_is_rebuilt(project: Project) -> None:
    database = project.database
    database.execute("DROP INDEX idx_requests_message_count")
    database.execute("INSERT INTO conversation_metrics (user_id) VALUES ('u'), ('u')")
    with pytest.raises(psycopg.errors.UniqueViolation):
        database.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON conversation_metrics (user_id)")
    database.execute(
        "DROP INDEX broken; CREATE INDEX idx_requests_message_count ON api_requests (message_count)"
    )
    database.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_requests_message_count'::regclass"
    )
    assert project.check() == [
        "index idx_requests_message_count on api_requests: validity: the database has invalid,"
        " the models have none"
    ]
    project.autogenerate()
    project.run("upgrade", "head")
    assert project.check() == []


def test_a_not_null_that_is_not_valid_is_validated(project: Project) -> None:
    database = project.database
    if database.info.server_version < 180_000:
        pytest.skip("NOT NULL can be NOT VALID from PostgreSQL 18 on")
    database.execute("ALTER TABLE api_requests ALTER method DROP NOT NULL")
    database.execute(
        "ALTER TABLE api_requests ADD CONSTRAINT api_requests_method_not_null NOT NULL method NOT VALID"
    )
    before = dump_schema(database)
    [line] = project.check()
    assert "column api_requests.method: not null: the database has NOT NULL NOT VALID" in line
    project.autogenerate()
    project.run("upgrade", "head")
    assert project.check() == []
    project.run("downgrade", HEAD)
    assert dump_schema(database) == before


def test_what_cannot_be_created_is_named_and_the_rest_compared(empty: Database) -> None:
    metadata = sa.MetaData()
    sa.Table("t", metadata, sa.Column("a", sa.Integer, server_default=sa.text("no_such_function()")))
    sa.Table("u", metadata, sa.Column("a", sa.Integer), sa.Index("nothing"))
    engine = sa.create_engine(parse_url(url_of(empty)))
    with (
        engine.connect() as connection,
        both_sides(connection, models_of([metadata]), {None}, set()) as sides,
    ):
        assert sides[None].refused[Key("table", None, "t")] == "function no_such_function() does not exist"
        assert Key("index", "u", "nothing") in sides[None].refused
        assert {str(key) for key in sides[None].models} == {"table u", "column u.a"}
    engine.dispose()


def test_a_reference_to_a_broken_table_locks_nothing(empty: Database) -> None:
    """A foreign key to a table that the models cannot create does not use the table of the database."""
    empty.execute("CREATE TABLE t (id int PRIMARY KEY, a int); CREATE TABLE u (t_id int REFERENCES t)")
    metadata = sa.MetaData()
    sa.Table("t", metadata, sa.Column("id", sa.Integer, server_default=sa.text("no_such_function()")))
    sa.Table("u", metadata, sa.Column("t_id", sa.Integer, sa.ForeignKey("t.id")))
    engine = sa.create_engine(parse_url(url_of(empty)))
    with (
        engine.connect() as connection,
        both_sides(connection, models_of([metadata]), {None}, set()) as sides,
    ):
        assert [str(key) for key in sides[None].refused] == ["table t"]
        held = "SELECT mode FROM pg_locks WHERE relation IN ('public.t'::regclass, 'public.u'::regclass)"
        assert set(connection.execute(sa.text(held)).scalars()) <= {"AccessShareLock"}
    engine.dispose()


def test_the_mark_of_cluster_is_no_difference(project: Project) -> None:
    project.database.execute(
        "ALTER TABLE api_requests CLUSTER ON api_requests_pkey;"
        " ALTER TABLE conversation_metrics CLUSTER ON idx_conversation_metrics_conversation"
    )
    assert project.check() == []


def test_a_connection_in_autocommit_leaves_nothing_behind(empty: Database) -> None:
    metadata = sa.MetaData()
    sa.Table("t", metadata, sa.Column("a", sa.Integer, comment="50% :x"))
    engine = sa.create_engine(parse_url(url_of(empty)), isolation_level="AUTOCOMMIT")
    before = dump_schema(empty)
    with engine.connect() as connection:
        name, database, models = read_both(connection, metadata)
    engine.dispose()
    assert (name, database) == ("public", {})
    assert {str(key) for key in models} == {"table t", "column t.a"}
    assert dump_schema(empty) == before
    assert empty.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'drift%'").fetchone() == (0,)


def test_models_that_query_the_database(empty: Database) -> None:
    metadata = sa.MetaData()
    table = sa.Table("t", metadata, sa.Column("a", sa.Integer))
    asked: list[Any] = []
    sa.event.listen(
        table,
        "after_create",
        lambda _table, bind, **_: asked.append(bind.exec_driver_sql("SELECT count(*) FROM t").scalar()),
    )
    engine = sa.create_engine(parse_url(url_of(empty)))
    with engine.connect() as connection:
        _, database, models = read_both(connection, metadata)
        assert (database, asked) == ({}, [0])
        assert {str(key) for key in models} == {"table t", "column t.a"}
        assert not sa.inspect(connection).get_table_names()
        table.append_column(sa.Column("b", sa.Integer, server_default=sa.text("no_such_function()")))
        with pytest.raises(DriftError, match="cannot create the models.*no_such_function"):
            read_both(connection, metadata)
    engine.dispose()


ANOTHER_ENV = """
import os
from alembic import context
import sqlalchemy as sa
from tables import metadata

engine = sa.create_engine(os.environ["URL"], poolclass=sa.NullPool)
with engine.connect() as connection:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_schemas=os.environ["SCHEMAS"] == "all",
        autogenerate_plugins=["alembic.autogenerate.*", "alembic_drift"],
    )
    with context.begin_transaction():
        context.run_migrations()
"""

ANOTHER_TABLES = """
import sqlalchemy as sa
from sqlalchemy.sql.ddl import CreateView

metadata = sa.MetaData()
sa.Table("customers", metadata, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, index=True))
sa.Table("orders", metadata, sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("customer_id", sa.ForeignKey("customers.id", name="to_customer"), nullable=False),
    sa.Column("state", sa.Enum("new", "paid", name="order_state", schema="other")),
    sa.Column("kind", sa.Enum("a", "b", name="order_kind")),
    sa.CheckConstraint("id > 0 AND '50%:x' <> ''", name="positive"), schema="other")
sa.Table("notes", metadata, sa.Column("order_id", sa.ForeignKey("other.orders.id", name="to_order")))
CreateView(sa.select(metadata.tables["other.orders"].c.id), "order_ids", metadata=metadata, materialized=True)
"""


@pytest.mark.parametrize("schemas", quick(["all", "first"]))
def test_another_project_with_two_schemas(
    empty: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schemas: str
) -> None:
    """It needs only the line in env.py, and knows no table of this project."""
    monkeypatch.setenv("SCHEMAS", schemas)
    (tmp_path / "tables.py").write_text(ANOTHER_TABLES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("URL", url_of(empty).replace("postgresql:", "postgresql+psycopg:"))
    empty.execute("CREATE SCHEMA other")
    config = Config()
    config.set_main_option("script_location", str(tmp_path / "scripts"))
    command.init(Config(tmp_path / "alembic.ini"), str(tmp_path / "scripts"), template="generic")
    (tmp_path / "scripts" / "env.py").write_text(ANOTHER_ENV)
    command.revision(config, "first", autogenerate=True)
    command.upgrade(config, "head")
    command.check(config)
    empty.execute("ALTER TABLE other.orders DROP CONSTRAINT to_customer")
    empty.execute(
        "ALTER TABLE other.orders ADD CONSTRAINT to_customer FOREIGN KEY (customer_id)"
        " REFERENCES customers ON DELETE CASCADE NOT VALID"
    )
    empty.execute(
        "DROP INDEX ix_customers_name; CREATE INDEX ix_customers_name ON customers USING hash (name)"
    )
    before = dump_schema(empty)
    with pytest.raises(Exception, match="index ix_customers_name on.*to_customer on orders"):
        command.check(config)
    command.revision(config, "second", autogenerate=True)
    command.upgrade(config, "head")
    command.check(config)
    command.downgrade(config, "-1")
    assert dump_schema(empty) == before


def test_only_objects_of_revisions_are_dropped(project: Project) -> None:
    """An index that is in no model is dropped if a revision created it, and kept if an operator did."""
    for name in ("by_revision", "by_operator"):
        project.database.execute(f"CREATE INDEX {name} ON api_requests (ip_address)")
    (project.folder / f"{NEXT}_made.py").write_text(
        f"from alembic import op\nrevision = '{NEXT}'\ndown_revision = '{HEAD}'\n"
        "def upgrade():\n"
        "    op.create_index('by_' + 'revision', 'api_requests', ['ip_address'], if_not_exists=True)\n"
        "def downgrade():\n    op.drop_index('by_revision')\n"
    )
    project.run("upgrade", "head")
    assert [line.partition(":")[0] for line in project.check()] == ["index by_revision on api_requests"]
    assert "unmanaged" in project.said.getvalue()
    assert "by_operator" in project.said.getvalue()


def test_objects_of_revisions_are_dropped_and_recreated(project: Project) -> None:
    """Tables that refer to each other, with an exclusion constraint, a type, a domain and a serial."""
    (project.folder / f"{NEXT}_made.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nfrom sqlalchemy.dialects import postgresql as pg\n"
        f"revision = '{NEXT}'\ndown_revision = '{HEAD}'\n"
        "kind = pg.ENUM('a', 'b', name='kind')\n"
        "code = pg.DOMAIN('code', sa.CHAR(2), check='VALUE = lower(VALUE)')\n"
        "def upgrade():\n"
        "    op.create_table('aa', sa.Column('id', sa.Integer, primary_key=True), sa.Column('kind', kind),\n"
        "        sa.Column('kinds', sa.ARRAY(pg.ENUM(name='kind', create_type=False))),\n"
        "        sa.Column('code', code), sa.Column('during', pg.TSTZRANGE),\n"
        "        pg.ExcludeConstraint((sa.text('during'), '&&'), name='aa_during_excl'))\n"
        "    op.create_table('bb', sa.Column('id', sa.Integer, primary_key=True),\n"
        "        sa.Column('a', sa.Integer, sa.ForeignKey('aa.id', name='bb_a_fkey', ondelete='CASCADE')))\n"
        "    op.create_foreign_key('aa_bb_fkey', 'aa', 'bb', ['id'], ['id'], deferrable=True)\n"
        "    op.execute('ALTER TABLE streaming_chunks ADD number serial')\n"
        "def downgrade():\n    raise NotImplementedError\n"
    )
    project.run("upgrade", "head")
    before = schema_of(project.database)
    lines = [line.partition(":")[0] for line in project.check()]
    assert lines == ["column streaming_chunks.number", "domain code", "table aa", "table bb", "type kind"]
    assert "unmanaged" not in project.said.getvalue()
    project.run("revision", message="gone", autogenerate=True, version_path=str(project.folder))
    project.run("upgrade", "head")
    assert project.check() == []
    project.run("downgrade", NEXT)
    assert schema_of(project.database) == before


def test_a_blocking_unmanaged_view_is_reported_at_the_top(project: Project) -> None:
    project.database.execute(
        "ALTER TABLE conversation_metrics ALTER target_lang TYPE varchar(7);"
        "CREATE VIEW mine AS SELECT target_lang FROM conversation_metrics"
    )
    text = project.autogenerate()
    assert "view mine: unmanaged, and depends on what changes; drop it first" in text


def test_a_view_with_an_odd_name(head: Database) -> None:
    before = dump_schema(head)
    for kind in ("view", "materialized_view"):
        with operations(head):
            getattr(op, f"create_{kind}")('v%1:x "y"', "SELECT '50%:z' AS \"a%:b\"")
        assert head.execute("SELECT relname FROM pg_class WHERE relname LIKE 'v\\%%'").fetchall() == [
            ('v%1:x "y"',)
        ]
        with operations(head):
            getattr(op, f"drop_{kind}")('v%1:x "y"')
    assert dump_schema(head) == before


def test_the_plugin_does_not_know_our_tables() -> None:
    for file in (ROOT / "src" / "alembic_drift").glob("*.py"):
        assert "models import" not in file.read_text(), f"{file.name} knows our tables"
        assert "api_requests" not in file.read_text(), f"{file.name} knows our tables"
