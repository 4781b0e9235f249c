"""007: five indexes are dropped, one is added, tokens get DEFAULT 0; a conflict stops it first."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg
import pytest
from databases import WAITING, Database, catalog, content, url_of
from marks import quick
from migrations.fitting import BOTH, TASK, TEXTS, WAYS, migrate, store
from programs import alembic_program
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, event
from support import START, insert

from nexus_schema.errors import SchemaError

At = Callable[[str], Database]


SERVED = """
SELECT (SELECT count(*) FROM pg_index WHERE indisvalid AND indexrelid IN (
        to_regclass('idx_requests_conversation_listing'), to_regclass('idx_requests_conversation_detail'))),
    (SELECT count(*) FROM pg_index
    WHERE indrelid = 'streaming_chunks'::regclass AND indisvalid AND indkey[0] = 2)"""


@contextmanager
def seen_by_others(database: Database) -> Iterator[list[tuple[int, int]]]:
    """Record before each statement of a migration which indexes others find for listings and chunks."""
    found: list[tuple[int, int]] = []
    with closing(psycopg.connect(url_of(database), autocommit=True)) as other:

        def note(*_: object) -> None:
            found.extend(other.execute(SERVED).fetchall())

        event.listen(Engine, "before_cursor_execute", note)
        try:
            yield found
        finally:
            event.remove(Engine, "before_cursor_execute", note)


class TestIndexes:
    """Five are dropped and one is added; the addition comes first."""

    @pytest.mark.parametrize("x", quick(WAYS, "online"))
    def test_each_query_always_has_an_index(self, at_revision: At, x: dict[str, str]) -> None:
        database = at_revision("006")
        store(database, [BOTH])  # without rows, nothing is built concurrently
        insert(database, "streaming_chunks", request_id=f"{0:032x}", chunk_index=0, timestamp=START, data="x")
        for step in ("007", "006"):
            with seen_by_others(database) as found:
                migrate(database, step, x)
            assert {1, 2} >= {listings for listings, _ in found} >= ({1, 2} if x else {1})
            assert (
                {1, 2} >= {chunks for _, chunks in found} >= ({1, 2} if x else {1} if step == "006" else {2})
            )

    @pytest.mark.parametrize(("revision", "fewest", "most"), [("006", 0, 0), ("007", 240, 270)])
    def test_updates_with_a_response_are_heap_only(
        self, at_revision: At, revision: str, fewest: int, most: int
    ) -> None:
        """By the server's count, of 300; one in ten stores a Task call, which is in an index."""
        database = at_revision(revision)
        for number in range(300):
            request = insert(
                database, "api_requests", body={"text": "x" * 1000}, conversation_id=uuid.UUID(int=number)
            )
            database.execute(
                "UPDATE api_requests SET response_status = 200, response_body = %s, duration_ms = 5,"
                " input_tokens = 7, output_tokens = 8, total_tokens = 15, task_tool_invocation = %s"
                " WHERE request_id = %s",
                [Jsonb({"n": number}), None if number % 10 else Jsonb([BOTH]), request],
            )
        counts = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'api_requests'"
        updated = heap_only = 0
        for _ in range(200):  # a session reports its updates after a while
            [(updated, heap_only)] = database.execute(counts)
            if updated == 300:
                break
            time.sleep(0.05)
        assert updated == 300
        assert fewest <= heap_only <= most

    def test_a_writer_of_chunks_causes_no_deadlock(self, at_revision: At) -> None:
        """A program that inserts chunks locks their table and then requests a lock on api_requests."""
        database = at_revision("006")
        store(database, [BOTH])
        with psycopg.connect(url_of(database)) as other, ThreadPoolExecutor() as pool:
            other.execute("LOCK TABLE streaming_chunks IN ROW EXCLUSIVE MODE")
            upgrade = pool.submit(migrate, database)
            with closing(psycopg.connect(url_of(database), autocommit=True)) as watching:
                while not upgrade.done() and watching.execute(WAITING).fetchone() == (0,):
                    time.sleep(0.05)
            other.execute("SET lock_timeout = '2s'")
            insert(
                other, "streaming_chunks", request_id=f"{0:032x}", chunk_index=0, timestamp=START, data="x"
            )
            other.commit()
            upgrade.result()


NAMES = {
    "idx_requests_request_id": "api_requests",
    "idx_streaming_chunks_request_id": "streaming_chunks",
    "idx_requests_branch_id": "api_requests",
    "idx_requests_conversation_branch": "api_requests",
    "idx_requests_conversation_detail": "api_requests",
    "idx_requests_conversation_listing": "api_requests",
}
CONFLICTS = {
    "on another column": (
        "CREATE INDEX {name} ON {table} (created_at)",
        'is "INDEX ON {table} USING btree (c',
    ),
    "on another table": (
        "CREATE TABLE own (request_id uuid); CREATE INDEX {name} ON own (request_id)",
        'is "INDEX ON own USING btree (request_id)", not "INDEX ON {table} USING btree (',
    ),
    "of a constraint": (
        "ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE (request_id, created_at)",
        "belongs to a constraint",
    ),
    "a table": ("CREATE TABLE {name} (i int)", '"{name}" is a table, not an index'),
}


# Half of the combinations of a name and a conflict; the ways alternate.
TURNS = {
    f"{name}, {other}, {way}": (name, other, WAYS[way])
    for number, name in enumerate(NAMES)
    for place, (other, way) in enumerate(zip(CONFLICTS, [*WAYS, *WAYS, *WAYS], strict=False))
    if (number + place) % 2 == 0
}


class TestConflicts:
    """A known name with another definition stops it with one line, before any change."""

    @pytest.mark.parametrize(("name", "other", "x"), quick(TURNS, *[*TURNS][:4]))
    def test_up(self, at_revision: At, name: str, other: str, x: dict[str, str]) -> None:
        self.refused(at_revision("006"), "007", name, other, x)

    @pytest.mark.parametrize(("name", "other", "x"), quick(TURNS))
    def test_down(self, at_revision: At, name: str, other: str, x: dict[str, str]) -> None:
        self.refused(at_revision("007"), "006", name, other, x)

    def refused(self, database: Database, to: str, name: str, other: str, x: dict[str, str]) -> None:
        statement, said = (text.format(name=name, table=NAMES[name]) for text in CONFLICTS[other])
        store(database, [TASK | TEXTS])
        database.execute(f"DROP INDEX IF EXISTS {name}")
        database.execute(statement)
        before = catalog(database), content(database)
        with pytest.raises(SchemaError) as found:
            migrate(database, to, x)
        line = str(found.value)
        assert line.startswith("nothing was changed: ")
        assert line.endswith("; rename or drop it, then rerun")
        assert f'"{name}" ' in line
        assert said in line
        assert "\n" not in line
        assert (catalog(database), content(database)) == before
        kind = "TABLE" if other == "a table" else "INDEX"
        database.execute(f"ALTER {kind} {name} RENAME TO mine")
        migrate(database, to, x)

    def test_a_plan_reports_it(self, at_revision: At) -> None:
        database = at_revision("006")
        database.execute(
            "DROP INDEX idx_requests_branch_id; CREATE INDEX idx_requests_branch_id ON api_requests (path)"
        )
        done = alembic_program("-x", "online=plan", "upgrade", "head", url=url_of(database))
        assert done.returncode == 1
        assert '  refused: nothing was changed: index "idx_requests_branch_id" is "INDEX ON ' in done.stdout

    @pytest.mark.parametrize("x", quick(WAYS, "online"))
    def test_a_missing_or_invalid_index_is_no_conflict(self, at_revision: At, x: dict[str, str]) -> None:
        database, new = at_revision("006"), catalog(at_revision("007"))
        database.execute(
            "DROP INDEX idx_requests_branch_id, idx_requests_conversation_detail;"
            " CREATE INDEX idx_requests_conversation_listing ON api_requests"
            " (conversation_id, timestamp, request_id, domain, model, branch_id)"
            " WHERE conversation_id IS NOT NULL"
        )
        invalid = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{}'::regclass"
        database.execute(invalid.format("idx_requests_request_id"))
        if x:
            database.execute(invalid.format("idx_requests_conversation_listing"))
        migrate(database, x=x)
        assert catalog(database) == new
