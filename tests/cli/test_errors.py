"""An error is one line and an exit status. It changes nothing and shows no password."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from databases import SECRET, WAITING, Database, as_role, catalog, dump_schema, url_of
from legacy_databases import KINDS, build
from programs import Fork, alembic_program
from psycopg.conninfo import conninfo_to_dict
from servers import own_server
from sqlalchemy import text
from support import HEAD, REVISIONS, insert, run_alembic

from nexus_schema import Outcome, session, upgrade_database
from nexus_schema.database import parse_url
from nexus_schema.errors import SchemaError
from nexus_schema.session import migration_connection


def assert_one_line(url: str, expected: str, *command: str, debug: bool = True) -> None:
    """Run a command that must fail with one line, and also with a traceback if DEBUG=true."""
    command = command or ("upgrade", "head")
    plain = alembic_program(*command, url=url)
    errors = [line for line in plain.stderr.splitlines() if not line.startswith("INFO")]
    assert len(errors) == 1, plain.stderr
    assert errors[0].startswith("error: ")
    assert expected in errors[0]
    assert plain.returncode == 1
    assert SECRET not in plain.stdout + plain.stderr
    if debug:
        verbose = alembic_program(*command, url=url, DEBUG="true")
        assert verbose.returncode == 1
        assert verbose.stderr.splitlines()[-1] == errors[0]
        assert "Traceback (most recent call last)" in verbose.stderr
        assert SECRET not in verbose.stdout + verbose.stderr


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"postgresql://u:{SECRET}@127.0.0.1:1/d", "cannot reach the database"),
        (f"postgresql://u:{SECRET}@/d?host=/nonexistent", "cannot reach the database"),
        (f"postgresql://u:{SECRET}@no-such-host.invalid/d", "cannot reach the database"),
        (f"postgresql://u:{SECRET}@h:port/d", "DATABASE_URL is malformed"),
        (f"mysql://u:{SECRET}@h/d", "unsupported scheme mysql://"),
        (SECRET, "DATABASE_URL is not a URL"),
        ("", "DATABASE_URL is empty"),
    ],
)
def test_a_database_that_cannot_be_reached(url: str, expected: str) -> None:
    assert_one_line(url, expected)


def test_a_database_that_does_not_exist(empty: Database) -> None:
    info = empty.info
    url = f"postgresql://{info.user}:{SECRET}@/no_such_database?host={info.host}&port={info.port}"
    if "TEST_DATABASE_URL" in os.environ:
        url = url.replace(SECRET, info.password or "")
    assert_one_line(url, 'database "no_such_database" does not exist')


def test_a_wrong_password(empty: Database, role: str) -> None:
    if "TEST_DATABASE_URL" not in os.environ:
        require_passwords(empty, role)
    else:
        try:
            psycopg.connect(as_role(empty, role, "wrong")).close()
        except psycopg.OperationalError:
            pass
        else:
            pytest.skip("this server asks for no password")
    psycopg.connect(as_role(empty, role)).close()
    before = dump_schema(empty)
    assert_one_line(
        as_role(empty, role, f"not-{SECRET}"), f'password authentication failed for user "{role}"'
    )
    assert dump_schema(empty) == before


def require_passwords(connection: Database, role: str) -> None:
    row = connection.execute("SHOW hba_file").fetchone()
    assert row is not None
    hba = Path(row[0])
    hba.write_text(f"local all {role} scram-sha-256\n{hba.read_text()}")
    connection.execute("SELECT pg_reload_conf()")
    for _ in range(100):  # the server reloads its files asynchronously
        rules = connection.execute(
            "SELECT count(*) FROM pg_hba_file_rules WHERE %s = ANY (user_name)", [role]
        )
        try:
            assert rules.fetchone() == (1,)
            psycopg.connect(as_role(connection, role, "wrong")).close()
        except psycopg.OperationalError:
            return
    pytest.fail("the server did not load the new rule")


def test_no_privilege_to_create(empty: Database, role: str) -> None:
    empty.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    before = dump_schema(empty)
    assert_one_line(as_role(empty, role), "missing privilege: permission denied for schema public")
    assert dump_schema(empty) == before


def test_a_lock_that_is_held(at_revision: Callable[[str], Database]) -> None:
    empty = at_revision("004")
    before = dump_schema(empty)
    with psycopg.connect(url_of(empty)) as other:
        other.execute("LOCK TABLE api_requests IN ACCESS SHARE MODE")
        assert_one_line(
            url_of(empty, options="-c lock_timeout=100ms"),
            "lock not obtained in 005_populate_account_ids: table api_requests is held by process"
            f" {other.info.backend_pid} of role {other.info.user}, in its transaction for ",
            debug=False,
        )
    assert empty.execute("SELECT version_num FROM alembic_version").fetchall() == [("004",)]
    assert dump_schema(empty) == before


def test_the_error_names_the_session_that_blocks(at_revision: Callable[[str], Database]) -> None:
    """Readers do not block an index build, however long they take; a writer does."""
    database = at_revision("001")
    url = url_of(database, options="-c lock_timeout=100ms")
    with psycopg.connect(url_of(database)) as reader, psycopg.connect(url_of(database)) as writer:
        reader.execute("SELECT count(*) FROM api_requests")
        insert(writer, "api_requests")
        with pytest.raises(
            SchemaError,
            match=f"in 002_.* table api_requests is held by process {writer.info.backend_pid} ",
        ):
            run_alembic("upgrade", "head", url=url)
        writer.rollback()
        run_alembic("upgrade", "002", url=url)
    with psycopg.connect(url_of(database)) as other:
        other.execute("LOCK TABLE alembic_version")
        with pytest.raises(
            SchemaError, match=f"table alembic_version is held by process {other.info.backend_pid}"
        ):
            run_alembic("upgrade", "head", url=url)


def test_another_migration_of_the_same_schema(empty: Database) -> None:
    before = dump_schema(empty)
    with psycopg.connect(url_of(empty)) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('nexus_schema public', 0))")
        command = ("-x", "lock_wait=0.3", "upgrade", "head")
        assert_one_line(url_of(empty), "another migration of this schema is running (process ", *command)
        alembic_current = alembic_program("current", url=url_of(empty))
        assert alembic_current.returncode == 0, "reading needs no lock"
    assert dump_schema(empty) == before


def test_a_server_that_is_too_old(empty: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """No older server is available, so the test raises the minimum version."""
    monkeypatch.setattr(session, "MINIMUM_SERVER_VERSION", 99)
    before = dump_schema(empty)
    with pytest.raises(SchemaError, match=r"the server is PostgreSQL \d+, older than 99; upgrade"):
        run_alembic("upgrade", "head", url=url_of(empty))
    assert dump_schema(empty) == before


def test_settings_of_roles_and_databases_do_not_affect_a_migration(empty: Database, role: str) -> None:
    """They are meant for other programs; two of these change how the server prints SQL."""
    given = {
        "standard_conforming_strings": ("off", "on"),
        "quote_all_identifiers": ("on", "off"),
        "client_encoding": ("SQL_ASCII", "UTF8"),
        "default_transaction_isolation": ("serializable", "read committed"),
        "row_security": ("on", "off"),
        "statement_timeout": ("1min", "0"),
        "lock_timeout": ("1min", session.LOCK_TIMEOUT),
        "idle_in_transaction_session_timeout": ("1min", "0"),
        "idle_session_timeout": ("1min", "0"),
        "transaction_timeout": ("1min", "0"),
    }
    if empty.info.server_version < 170_000:
        del given["transaction_timeout"]
    build(empty, KINDS["bootstrap"])
    empty.execute(
        f"GRANT ALL ON SCHEMA public TO {role}; GRANT CREATE ON DATABASE {empty.info.dbname} TO {role}"
    )
    for table in ("api_requests", "streaming_chunks"):
        empty.execute(f"ALTER TABLE {table} OWNER TO {role}")
    for number, (name, (value, _)) in enumerate(given.items()):
        place = f"DATABASE {empty.info.dbname}" if number % 2 else f"ROLE {role}"
        empty.execute(f"ALTER {place} SET {name} = '{value}'")
    url = as_role(empty, role)
    with migration_connection(parse_url(f"{url}&options=-c%20statement_timeout%3D77s")) as connection:
        found = {name: connection.scalar(text(f"SHOW {name}")) for name in given}
    assert found == {name: wanted for name, (_, wanted) in given.items()} | {"statement_timeout": "77s"}
    empty.execute(f"ALTER DATABASE {empty.info.dbname} SET datestyle = 'German'")
    result = upgrade_database(url)
    assert (result.outcome, result.error) == (Outcome.UPGRADED, None)
    assert upgrade_database(url).outcome is Outcome.AT_HEAD
    run_alembic("check", url=url)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (
            "allow_dataloss=true",
            "unknown option -x allow_dataloss; options are: account_domains, allow_data_loss, lock_wait",
        ),
        ("lock_wait=soon", "takes a number of seconds"),
        ("allow_data_loss=maybe", "takes true, 1, yes, on, false, 0, no, off or nothing, not 'maybe'"),
        ("schema", "needs a value"),
        ("schema=nowhere", 'no schema "nowhere" exists'),
        ("account_domains=nowhere.toml", "cannot read the account domains file nowhere.toml: No such file"),
    ],
)
def test_invalid_options(empty: Database, option: str, expected: str) -> None:
    before = dump_schema(empty)
    assert_one_line(url_of(empty), expected, "-x", option, "upgrade", "head")
    assert dump_schema(empty) == before


def test_a_search_path_without_schema(empty: Database) -> None:
    assert_one_line(url_of(empty, options="-c search_path=nowhere"), "no schema of the search_path exists")


def test_a_revision_that_does_not_exist(empty: Database) -> None:
    said = "Can't locate revision identified by '999'; alembic history lists them"
    assert_one_line(url_of(empty), said, "upgrade", "999")


def test_check_before_an_upgrade(empty: Database) -> None:
    assert_one_line(url_of(empty), "database is not up to date; run alembic upgrade head first", "check")


@pytest.mark.parametrize(
    "command",
    [
        ("upgrade", "head"),
        *(
            pytest.param(command, marks=pytest.mark.thorough)
            for command in [("stamp", "head"), ("check",), ("current",)]
        ),
    ],
)
@pytest.mark.parametrize(
    ("revision", "expected"),
    [
        ("1a2b3c4d5e6f", "revision 1a2b3c4d5e6f belongs to another project, which uses the alembic_version"),
        ("999", f"the database is at revision 999, newer than this code, which ends at {HEAD}; use code"),
    ],
)
def test_a_database_at_an_unknown_revision(
    empty: Database, revision: str, expected: str, command: tuple[str, ...]
) -> None:
    empty.execute("CREATE TABLE alembic_version (version_num varchar(32))")
    empty.execute("INSERT INTO alembic_version VALUES (%s)", [revision])
    with pytest.raises(SchemaError, match=expected):
        run_alembic(*command, url=url_of(empty))
    assert catalog(empty) == {}
    run_alembic("stamp", "head", url=url_of(empty), purge=True)  # the user can override the error


@pytest.mark.parametrize("command", [("upgrade", "head"), ("check",)])
def test_a_read_only_server(empty: Database, command: tuple[str, ...]) -> None:
    empty.execute(f"ALTER DATABASE {empty.info.dbname} SET default_transaction_read_only = on")
    assert_one_line(
        url_of(empty), "the server is read-only or a standby: cannot execute CREATE TABLE", *command
    )


@pytest.mark.thorough
def test_a_standby() -> None:
    with own_server() as server:
        server.stop()
        (server.path / "data" / "standby.signal").touch()
        server.start()
        expected = "the server is read-only or a standby: cannot execute CREATE TABLE in a read-only"
        with pytest.raises(SchemaError, match=expected + r".*target_session_attrs=read-write$"):
            run_alembic("upgrade", "head", url=server.url())
        with pytest.raises(
            SchemaError, match="no server of the URL accepts writes, as target_session_attrs requires"
        ):
            run_alembic("upgrade", "head", url=f"{server.url()}&target_session_attrs=read-write")


def test_an_application_gets_an_exception_with_the_same_text() -> None:
    with pytest.raises(SchemaError, match="cannot reach the database"):
        run_alembic("upgrade", "head", url=f"postgresql://u:{SECRET}@127.0.0.1:1/d")


def test_debug_shows_the_sql(head: Database) -> None:
    result = alembic_program("current", url=url_of(head), DEBUG="true")
    assert "SELECT alembic_version.version_num" in result.stdout + result.stderr
    assert "SELECT alembic_version" not in str(alembic_program("current", url=url_of(head)))


def test_parallel_upgrades_do_not_disturb_each_other(empty: Database) -> None:
    from concurrent.futures import ThreadPoolExecutor

    url = url_of(empty)
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda _: alembic_program("upgrade", "head", url=url), range(3)))
    assert [(result.returncode, result.stderr.count("Running upgrade")) for result in results].count(
        (0, len(REVISIONS))
    ) == 1
    assert [(result.returncode, result.stderr.count("Running upgrade")) for result in results].count(
        (0, 0)
    ) == 2


def test_an_interrupted_migration_is_rolled_back(empty: Database) -> None:
    run_alembic("upgrade", "005", url=url_of(empty))
    before = dump_schema(empty)
    with psycopg.connect(url_of(empty)) as other:
        other.execute("CREATE TABLE conversation_metrics (id int)")  # not committed: the migration waits
        url = url_of(empty, options="-c lock_timeout=60s")
        process = Fork("alembic", "upgrade", "head", url=url)
        while empty.execute(WAITING).fetchone() == (0,) and not process.ended:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        result = process.wait()
        other.rollback()
    assert result.returncode == 130
    assert "Traceback" not in result.stderr
    assert (
        result.stderr.splitlines()[-1]
        == "interrupted: unfinished work is rolled back; the next run continues from there"
    )
    assert dump_schema(empty) == before


def test_the_connection_is_lost(empty: Database) -> None:
    """A connection that breaks during a migration is reported in one line, too."""
    empty.execute(
        "CREATE FUNCTION die() RETURNS event_trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); END $$"
    )
    empty.execute(
        "CREATE EVENT TRIGGER die ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION die()"
    )
    before = dump_schema(empty)
    assert_one_line(url_of(empty), "terminating connection due to administrator command")
    assert dump_schema(empty) == before


def test_the_url_of_these_tests_works(empty: Database) -> None:
    given: dict[str, Any] = conninfo_to_dict(url_of(empty))
    assert given["dbname"] == empty.info.dbname
