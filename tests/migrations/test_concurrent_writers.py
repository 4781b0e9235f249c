"""The online chain with concurrent writes: nothing is lost or overwritten, and new rows are filled."""

import itertools
import random
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from databases import Database, url_of
from legacy_databases import BOOTSTRAP
from psycopg.types.json import Jsonb
from sqlalchemy import Engine, event
from support import START, at, insert, task_response, user_message

from nexus_schema import Outcome, upgrade_database

ROWS = 400


class Writers:
    """Programs that insert, update and delete, each in a thread and with a separate connection."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []
        self.inserted: list[uuid.UUID] = []
        self.pairs: list[tuple[uuid.UUID, uuid.UUID]] = []
        self.updated: dict[uuid.UUID, str] = {}
        self.deleted: set[uuid.UUID] = set()

    def run(self, work: Callable[[psycopg.Connection[Any], int], None]) -> None:
        def loop() -> None:
            try:
                with psycopg.connect(self._url, autocommit=True) as connection:
                    for number in itertools.count():
                        if self._stop.is_set():
                            return
                        work(connection, number)
                        time.sleep(0.002)
            except BaseException as error:  # noqa: BLE001 - shown by the test
                self.errors.append(error)

        thread = threading.Thread(target=loop)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def insert(self, connection: psycopg.Connection[Any], number: int) -> None:
        request = insert(connection, "api_requests", timestamp=at(100_000 + number), headers={"n": number})
        insert(connection, "streaming_chunks", request_id=request, chunk_index=0, timestamp=START, data="x")
        self.inserted.append(request)

    def spawn(self, connection: psycopg.Connection[Any], number: int) -> None:
        moment, prompt = 200_000 + 60 * number, f"late {number}"
        parent = insert(connection, "api_requests", timestamp=at(moment), conversation_id=uuid.uuid4())
        connection.execute(  # as the proxy does: the response arrives later
            "UPDATE api_requests SET response_body = %s WHERE request_id = %s",
            [Jsonb(task_response(prompt)), parent],
        )
        child = insert(
            connection,
            "api_requests",
            timestamp=at(moment + 5),
            body=user_message(prompt),
            conversation_id=uuid.uuid4(),
        )
        self.pairs.append((parent, child))

    def update(self, connection: psycopg.Connection[Any], number: int) -> None:
        request = uuid.UUID(int=random.randrange(ROWS // 2))
        connection.execute(
            "UPDATE api_requests SET error = %s, account_id = %s WHERE request_id = %s",
            [f"error {number}", f"by hand {number}", request],
        )
        self.updated[request] = str(number)

    def delete(self, connection: psycopg.Connection[Any], _number: int) -> None:
        request = uuid.UUID(int=random.randrange(ROWS // 2, ROWS))
        with suppress(psycopg.errors.ForeignKeyViolation):  # linked meanwhile, as a parent
            connection.execute("DELETE FROM api_requests WHERE request_id = %s", [request])
            self.deleted.add(request)


def fill(database: Database) -> None:
    """Insert requests of the proxy's bootstrap: every tenth calls a Task, the next one is its sub-task."""
    database.execute(BOOTSTRAP)
    for number in range(ROWS):
        insert(
            database,
            "api_requests",
            request_id=uuid.UUID(int=number),
            timestamp=at(number * 10),
            headers=None if number % 7 == 0 else {"n": number},
            body=user_message(f"prompt {number - 1}" if number % 10 == 1 else "hello"),
            response_body=task_response(f"prompt {number}") if number % 10 == 0 else {"content": []},
            conversation_id=uuid.UUID(int=10_000 + number),
        )


@pytest.mark.thorough
def test_nothing_is_lost_or_overwritten_and_new_rows_are_filled(empty: Database) -> None:
    fill(empty)
    writers = Writers(url_of(empty))
    filled_before: dict[str, int] = {}

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        """Record what was committed when the last pass of each backfill began."""
        if "SET account_id" in statement and ">= '(0,0)'" in statement:
            filled_before["account"] = len(writers.inserted)
        if statement.startswith(
            ("CREATE TABLE nexus_schema_003_found", "INSERT INTO nexus_schema_003_found")
        ):
            filled_before["subtask"] = len(writers.pairs)

    event.listen(Engine, "before_cursor_execute", note)
    for work in (writers.insert, writers.spawn, writers.update, writers.delete):
        writers.run(work)
    try:
        while not all((writers.inserted, writers.pairs, writers.updated, writers.deleted)):
            time.sleep(0.01)
        result = upgrade_database(url_of(empty), online=True)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
        writers.stop()
    assert (result.outcome, result.error, writers.errors) == (Outcome.UPGRADED, None, [])
    assert min(filled_before.values()) > 10, "too few rows were written during the upgrade"

    rows = {
        row[0]: row[1:]
        for row in empty.execute(
            "SELECT request_id, account_id, headers, error, parent_task_request_id, task_tool_invocation"
            " FROM api_requests"
        )
    }
    late = {request for pair in writers.pairs for request in pair}
    expected = {uuid.UUID(int=n) for n in range(ROWS)} - writers.deleted | set(writers.inserted) | late
    assert rows.keys() == expected
    for request, turn in writers.updated.items():
        assert rows[request][0] == f"by hand {turn}"
        assert rows[request][2] == f"error {turn}"
    for request in writers.inserted[: filled_before["account"]]:
        assert rows[request][0] == "claude-1"
    assert {rows[uuid.UUID(int=n)][0] for n in range(ROWS) if uuid.UUID(int=n) in rows} - {"claude-1"} <= {
        f"by hand {turn}" for turn in writers.updated.values()
    }
    assert all(row[1] is not None for row in rows.values())
    for parent, child in writers.pairs[: filled_before["subtask"]]:
        assert rows[child][3] == parent
        assert rows[parent][4][0]["linked_conversation_id"]
    for number in range(0, ROWS, 10):
        parent, child = uuid.UUID(int=number), uuid.UUID(int=number + 1)
        if parent in rows and child in rows:
            assert rows[child][3] == parent, number
    chunks = empty.execute("SELECT count(*) FROM streaming_chunks").fetchone()
    assert chunks == (len(writers.inserted),)
