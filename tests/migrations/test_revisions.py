"""Every revision: up, down and up again, also repeated, and no loss of data without permission."""

import re
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import psycopg
import pytest
from databases import Database, dump_schema, run_sql_script, url_of, wait_until_a_session_waits
from marks import quick
from programs import ROOT, alembic_program
from psycopg.types.json import Jsonb
from support import (
    HEAD,
    REVISIONS,
    START,
    at,
    insert,
    revision_module,
    run_alembic,
    task_response,
    user_message,
)

from nexus_schema.errors import SchemaError

At = Callable[[str], Database]

STEPS = list(zip(["base", *REVISIONS], REVISIONS, strict=False))


def rows(database: Database) -> list[Any]:
    tables = [
        row[0] for row in database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    ]
    return [
        (table, database.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall())
        for table in sorted(tables)
        if table != "alembic_version"
    ]


def fill(database: Database, revision: str) -> None:
    """Insert rows for every backfill."""
    parent = insert(database, "api_requests", response_body=task_response("go"))
    child = insert(database, "api_requests", timestamp=at(5), body=user_message("go"))
    insert(database, "api_requests", domain="unknown.example")
    insert(database, "streaming_chunks", request_id=parent, chunk_index=0, timestamp=START, data="x")
    if revision >= "001":
        database.execute(
            "UPDATE api_requests SET conversation_id = %s WHERE request_id = %s", [uuid.uuid4(), child]
        )
    if revision >= "006":
        insert(database, "conversation_metrics", user_id="u")


@pytest.mark.parametrize(
    ("before", "revision"), quick({step[1]: step for step in STEPS}, "003", "005", "007")
)
def test_up_down_up(at_revision: At, before: str, revision: str) -> None:
    empty = at_revision(before)
    url = url_of(empty)
    if before != "base":
        fill(empty, before)
    schema, content = dump_schema(empty), rows(empty)
    run_alembic("upgrade", revision, url=url)
    upgraded = dump_schema(empty), rows(empty)
    run_alembic("downgrade", before, url=url)
    assert (dump_schema(empty), rows(empty)) == (schema, content)
    run_alembic("upgrade", revision, url=url)
    assert (dump_schema(empty), rows(empty)) == upgraded


@pytest.mark.parametrize("revision", quick(REVISIONS, "003", "007"))
@pytest.mark.parametrize(
    "at_head",
    [
        pytest.param(False, id="at its own revision", marks=pytest.mark.thorough),
        pytest.param(True, id="at head"),
    ],
)
def test_running_an_upgrade_twice_is_harmless(at_revision: At, revision: str, at_head: bool) -> None:
    empty = at_revision("head" if at_head else revision)
    schema = dump_schema(empty)
    fill(empty, HEAD if at_head else revision)
    runs = []
    for _ in range(2):  # the first one fills the rows that are newer than the backfill
        run_alembic("stamp", STEPS[REVISIONS.index(revision)][0], url=url_of(empty))
        # To head, because a later revision may drop what an earlier one creates.
        run_alembic("upgrade", "head" if at_head else revision, url=url_of(empty))
        runs.append((dump_schema(empty), rows(empty)))
    assert runs[0] == runs[1]
    assert runs[0][0] == schema


CREATES = re.compile(r"\bop\.((?:create|add)_(?!materialized_view)\w+)\(")


def created() -> Iterator[tuple[str, str]]:
    """Yield each revision with each kind of operation that creates objects in its upgrade."""
    for file in sorted((ROOT / "alembic" / "versions").glob("*.py")):
        upgrade = file.read_text().partition("\ndef downgrade")[0]
        for operation in sorted(set(CREATES.findall(upgrade))):
            yield file.name[:3], operation


CREATED = {" ".join(case): case for case in created()}
# The first revision of each kind of operation, and the newest revision.
FEW = {case[1]: name for name, case in reversed(CREATED.items())}.values()


@pytest.mark.parametrize(("revision", "operation"), quick(CREATED, *FEW, [*CREATED][-1]))
def test_it_verifies_its_result(
    at_revision: At, revision: str, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If all operations of one kind do nothing, the revision raises an error and leaves nothing behind."""
    previous = STEPS[REVISIONS.index(revision)][0]
    empty = at_revision(previous)
    schema = dump_schema(empty)
    monkeypatch.setattr(f"alembic.op.{operation}", lambda *_, **__: None)
    with pytest.raises(SchemaError):
        run_alembic("upgrade", revision, url=url_of(empty))
    assert dump_schema(empty) == schema
    if previous != "base":
        assert empty.execute("SELECT version_num FROM alembic_version").fetchall() == [(previous,)]


CONVERSATION = "requests with conversation data .*, 1 in all"
SUBTASK = "requests with sub-task data .*, 1 in all"
LOST = {
    "domain": ("000", "d", "rows of api_requests, 1 in all"),
    "current_message_hash": ("001", "a" * 64, CONVERSATION),
    "parent_message_hash": ("001", "a" * 64, CONVERSATION),
    "conversation_id": ("001", uuid.uuid4(), CONVERSATION),
    "branch_id": ("001", "other", CONVERSATION),
    "message_count": ("001", 3, CONVERSATION),
    "is_subtask": ("003", True, SUBTASK),
    "task_tool_invocation": ("003", Jsonb([{"name": "Task"}]), SUBTASK),
    "parent_task_request_id": ("003", uuid.UUID(int=1), SUBTASK),
    "account_id": ("005", "by hand", "requests with another account .*, 1 in all"),
}


@pytest.mark.parametrize(
    "column", quick([*LOST], "domain", "branch_id", "task_tool_invocation", "account_id")
)
def test_a_downgrade_that_would_lose_values_stops(at_revision: At, column: str) -> None:
    revision, value, lost = LOST[column]
    empty = at_revision(revision)
    insert(empty, "api_requests", **({"request_id": uuid.UUID(int=1)} | {column: value}))
    before = dump_schema(empty), rows(empty)
    with pytest.raises(SchemaError, match=f"would lose {lost}.*allow_data_loss=true"):
        run_alembic("downgrade", "-1", url=url_of(empty))
    assert (dump_schema(empty), rows(empty)) == before
    run_alembic("downgrade", "-1", url=url_of(empty), x={"allow_data_loss": ""})
    assert column not in str(
        dump_schema(empty).partition("CREATE TABLE public.api_requests")[2].partition(";")[0]
    )


@pytest.mark.parametrize(
    ("table", "revision"), [("conversation_metrics", "006"), ("streaming_chunks", "000")]
)
def test_a_downgrade_that_would_lose_rows_stops(at_revision: At, table: str, revision: str) -> None:
    empty = at_revision(revision)
    if table == "conversation_metrics":
        insert(empty, table, user_id="u")
    else:
        request = insert(empty, "api_requests")
        insert(empty, table, request_id=request, chunk_index=0, timestamp=START, data="x")
    with pytest.raises(SchemaError, match=f"would lose rows of {table}, 1 in all"):
        run_alembic("downgrade", "-1", url=url_of(empty))


def test_the_error_says_at_which_revision_the_database_is(head: Database) -> None:
    insert(head, "conversation_metrics", user_id="u")
    refused = alembic_program("downgrade", "004", url=url_of(head)).stderr
    assert refused.endswith("then rerun it with -x allow_data_loss=true; the database is at 006\n")
    again = alembic_program("downgrade", "004", url=url_of(head)).stderr
    assert again.endswith("then rerun it with -x allow_data_loss=true\n")  # nothing was changed


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_a_row_that_another_session_is_writing_is_not_lost(head: Database, isolation: str) -> None:
    head.execute(f"ALTER DATABASE {head.info.dbname} SET default_transaction_isolation = '{isolation}'")
    with psycopg.connect(url_of(head)) as other, ThreadPoolExecutor() as pool:
        other.execute("INSERT INTO conversation_metrics (user_id) VALUES ('u')")
        downgrade = pool.submit(alembic_program, "downgrade", "005", url=url_of(head))
        wait_until_a_session_waits(head)
        other.commit()
        assert "would lose rows of conversation_metrics, 1 in all" in downgrade.result().stderr
    assert head.execute("SELECT count(*) FROM conversation_metrics").fetchone() == (1,)


def test_a_linked_call_that_the_proxy_stored_is_not_lost(at_revision: At) -> None:
    """The upgrade adds a link to a value that the proxy stored; dropping it would lose both."""
    empty = at_revision("003")
    call = {"name": "Task", "input": {"prompt": "go"}}
    insert(empty, "api_requests", task_tool_invocation=[call], response_body=task_response("go"))
    with pytest.raises(SchemaError, match="would lose requests with sub-task data .*, 1 in all"):
        run_alembic("downgrade", "-1", url=url_of(empty))


def test_a_sql_script_refuses_data_loss_too(head: Database) -> None:
    insert(head, "conversation_metrics", user_id="u")
    script = alembic_program("downgrade", "006:005", "--sql", url=url_of(head)).stdout
    result = run_sql_script(head, script)
    assert result.returncode != 0
    assert "this downgrade would lose rows of conversation_metrics, 1 in all" in result.stderr
    assert head.execute("SELECT count(*) FROM conversation_metrics").fetchone() == (1,)


def test_each_revision_has_its_own_transaction(empty: Database) -> None:
    insert_broken = "CREATE FUNCTION boom() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN\
        IF tg_tag = 'CREATE INDEX' AND current_query() LIKE '%subtask%' THEN RAISE 'boom'; END IF; END $$"
    empty.execute(insert_broken)
    empty.execute("CREATE EVENT TRIGGER boom ON ddl_command_end EXECUTE FUNCTION boom()")
    with pytest.raises(SchemaError, match="boom"):
        run_alembic("upgrade", "head", url=url_of(empty))
    assert empty.execute("SELECT version_num FROM alembic_version").fetchall() == [("002",)]
    assert "is_subtask" not in dump_schema(empty)
    empty.execute("DROP EVENT TRIGGER boom")
    run_alembic("upgrade", "head", url=url_of(empty))


KEY = "api_requests_parent_task_request_id_fkey"


@pytest.mark.parametrize("x", quick({"atomic": {}, "online": {"online": "true"}}))
def test_003_names_its_foreign_key(at_revision: At, x: dict[str, str]) -> None:
    """PostgreSQL chooses another name if this one is in use, Citus always."""
    empty = at_revision("002")
    empty.execute(f"ALTER TABLE api_requests ADD CONSTRAINT {KEY} CHECK (duration_ms >= 0)")
    before = dump_schema(empty, "--exclude-table=*_journal")
    with pytest.raises(SchemaError, match=f'constraint "{KEY}" for relation "api_requests" already exists'):
        run_alembic("upgrade", "003", url=url_of(empty), x=x)
    assert dump_schema(empty, "--exclude-table=*_journal") == before
    empty.execute(f"ALTER TABLE api_requests RENAME CONSTRAINT {KEY} TO mine")
    run_alembic("upgrade", "003", url=url_of(empty), x=x)
    assert f"ADD CONSTRAINT {KEY} FOREIGN KEY (parent_task_request_id)" in dump_schema(empty)


def test_003_adds_its_key_without_reading_the_table(at_revision: At) -> None:
    empty = at_revision("002")
    insert(empty, "api_requests")
    said: list[str | None] = []
    empty.add_notice_handler(lambda notice: said.append(notice.message_primary))
    empty.execute("SET client_min_messages = debug1")
    empty.execute(revision_module("003").ADD_PARENT)
    assert said == []
    empty.execute(f"ALTER TABLE api_requests DROP CONSTRAINT {KEY}")
    empty.execute(
        f"ALTER TABLE api_requests ADD CONSTRAINT {KEY}"
        " FOREIGN KEY (parent_task_request_id) REFERENCES api_requests"
    )
    assert said == [f'validating foreign key constraint "{KEY}"']


@pytest.mark.parametrize("online", quick({"atomic": [], "online": ["-x", "online"]}))
def test_003_names_its_key_in_a_script(online: list[str]) -> None:
    script = alembic_program(*online, "upgrade", "002:003", "--sql").stdout
    assert f"CONSTRAINT {KEY} REFERENCES api_requests (request_id)" in " ".join(script.split())


class TestAccounts:
    """The backfill of 005."""

    MAPPING: ClassVar[dict[str | None, list[str]]] = {
        "claude-1": ["claude-1.msldev.io", "localhost:3000", "localhost:3001"],
        "claude-2": ["claude-prividium.msldev.io", "claude-ai-nexus.msldev.io", "claude-2.msldev.io"],
        "claude-3": ["claude-kluster.msldev.io", "claude-reviews.msldev.io", "claude-3.msldev.io"],
        "claude-4": ["claude-tanssi.msldev.io", "claude-datahaven.msldev.io", "claude-4.msldev.io"],
        "claude-5": ["claude-moonbeam.msldev.io", "claude-5.msldev.io"],
        None: ["unknown.example", "CLAUDE-1.msldev.io", "localhost"],
    }

    def accounts(self, database: Database) -> dict[str, str | None]:
        return dict(database.execute("SELECT domain, account_id FROM api_requests").fetchall())

    def test_the_built_in_mapping(self, at_revision: At) -> None:
        empty = at_revision("004")
        expected = {domain: account for account, domains in self.MAPPING.items() for domain in domains}
        for domain in expected:
            insert(empty, "api_requests", domain=domain)
        run_alembic("upgrade", "005", url=url_of(empty))
        assert self.accounts(empty) == expected

    REBUILT = (
        "CREATE INDEX own_partial ON api_requests (lower(path)) WHERE path LIKE 'a%:b''%'",
        'CREATE UNIQUE INDEX "Own; one" ON api_requests (request_id, timestamp DESC) WITH (fillfactor = 70)',
        "COMMENT ON INDEX own_partial IS 'it''s 100% :mine'",
    )
    NOT_REBUILT = (
        "CREATE INDEX own_clustered ON api_requests (domain)",
        "ALTER TABLE api_requests CLUSTER ON own_clustered",
        "CREATE UNIQUE INDEX own_identity ON api_requests (request_id)",
        "ALTER TABLE api_requests REPLICA IDENTITY USING INDEX own_identity",
        "ALTER TABLE api_requests ADD CONSTRAINT own_constraint UNIQUE (request_id, domain)",
        "CREATE UNIQUE INDEX own_target ON api_requests (request_id, path)",
        "CREATE TABLE own_child (id uuid, path varchar, FOREIGN KEY (id, path)"
        " REFERENCES api_requests (request_id, path))",
        "CREATE INDEX own_statistics ON api_requests ((domain || path))",
        "ALTER INDEX own_statistics ALTER COLUMN 1 SET STATISTICS 77",
    )

    @pytest.mark.parametrize(
        ("known", "unknown"),
        quick(
            {"all": (2000, 0), "a quarter": (2000, 5999), "fewer": (2000, 6001), "few": (999, 0)},
            "a quarter",
            "fewer",
        ),
    )
    def test_indexes_are_rebuilt_when_most_rows_change(
        self, at_revision: At, known: int, unknown: int
    ) -> None:
        """A rebuilt index has a new OID. Indexes with properties outside of their definition are kept."""
        empty = at_revision("004")
        for statement in (*self.REBUILT, *self.NOT_REBUILT):
            empty.execute(statement)
        empty.execute(
            "INSERT INTO api_requests (request_id, timestamp, domain, method, path, headers)"
            " SELECT gen_random_uuid(), now(), CASE WHEN n <= %s THEN 'claude-1.msldev.io' ELSE 'other' END,"
            " 'POST', '/', '{}' FROM generate_series(1, %s) AS n",
            [known, known + unknown],
        )
        before, identity = dump_schema(empty), self.identities(empty)
        run_alembic("upgrade", "005", url=url_of(empty))
        changed = {name for name, oid in identity.items() if self.identities(empty)[name] != oid}
        if known == 2000 and unknown < 6000:
            assert {"own_partial", "Own; one"} <= changed
            assert len(changed) > 10
            assert not {name for name in changed if name in " ".join(self.NOT_REBUILT)}
            assert "api_requests_pkey" not in changed
        else:
            assert changed == set()
        assert self.accounts(empty)["claude-1.msldev.io"] == "claude-1"
        run_alembic("downgrade", "004", url=url_of(empty))
        assert dump_schema(empty) == before

    def identities(self, database: Database) -> dict[str, int]:
        return dict(
            database.execute(
                "SELECT relname, indexrelid::bigint FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
                " WHERE indrelid = 'api_requests'::regclass"
            ).fetchall()
        )

    def test_an_existing_account_is_kept(self, at_revision: At) -> None:
        empty = at_revision("005")
        insert(empty, "api_requests", account_id="mine")
        run_alembic("stamp", "004", url=url_of(empty))
        run_alembic("upgrade", "005", url=url_of(empty))
        assert self.accounts(empty) == {"claude-1.msldev.io": "mine"}

    @pytest.mark.parametrize("by", ["option", "variable", "script"])
    def test_another_mapping_replaces_it(
        self, at_revision: At, tmp_path: Path, by: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        empty = at_revision("004")
        file = tmp_path / "accounts.toml"
        file.write_text("[accounts]\n\"it's\" = ['unknown.example', '[::1]:3000']\n")
        for domain in ("claude-1.msldev.io", "unknown.example", "[::1]:3000"):
            insert(empty, "api_requests", domain=domain)
        x = {"account_domains": str(file)}
        if by == "option":
            run_alembic("upgrade", "005", url=url_of(empty), x=x)
        elif by == "variable":
            monkeypatch.setenv("ACCOUNT_DOMAINS_FILE", str(file))
            run_alembic("upgrade", "005", url=url_of(empty))
        else:
            script = alembic_program("-x", f"account_domains={file}", "upgrade", "004:005", "--sql")
            assert run_sql_script(empty, script.stdout).returncode == 0
        assert self.accounts(empty) == {
            "claude-1.msldev.io": None,
            "unknown.example": "it's",
            "[::1]:3000": "it's",
        }
        run_alembic("downgrade", "004", url=url_of(empty), x=x)

    def test_an_empty_mapping_fills_nothing(self, at_revision: At, tmp_path: Path) -> None:
        empty = at_revision("004")
        (tmp_path / "accounts.toml").write_text("[accounts]\n")
        insert(empty, "api_requests")
        x = {"account_domains": str(tmp_path / "accounts.toml")}
        run_alembic("upgrade", "005", url=url_of(empty), x=x)
        assert self.accounts(empty) == {"claude-1.msldev.io": None}

    def test_a_bad_file_is_an_error_before_anything_is_changed(self, empty: Database, tmp_path: Path) -> None:
        before = dump_schema(empty)
        with pytest.raises(SchemaError, match="cannot read the account domains file"):
            run_alembic("upgrade", "head", url=url_of(empty), x={"account_domains": str(tmp_path / "none")})
        assert dump_schema(empty) == before
        assert empty.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)


@pytest.mark.thorough
def test_only_indexed_and_filled_columns_are_analyzed(at_revision: At) -> None:
    """ANALYZE of all columns would spend most of its time on decompressing bodies."""
    database = at_revision("001")
    database.execute("ALTER TABLE api_requests SET (autovacuum_enabled = off)")
    for _ in range(3):
        insert(database, "api_requests", conversation_id=uuid.uuid4(), model="m", body={"messages": []})
    run_alembic("upgrade", "005", url=url_of(database))
    found = database.execute("SELECT attname FROM pg_stats WHERE tablename = 'api_requests'").fetchall()
    of_002 = {"conversation_id", "timestamp", "request_id", "domain", "model", "total_tokens", "branch_id"}
    of_003_and_005 = {"parent_task_request_id", "is_subtask", "task_tool_invocation", "account_id"}
    assert {name for (name,) in found} <= of_002 | of_003_and_005
    assert {"conversation_id", "model", "is_subtask", "account_id"} <= {name for (name,) in found}
    rows = "SELECT reltuples FROM pg_class WHERE oid = 'api_requests'::regclass"
    assert database.execute(rows).fetchone() == (3,)
