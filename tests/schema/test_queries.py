"""The queries of nexus_schema.queries: correct rows in order, by the index that they name."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from databases import Database, url_of
from sqlalchemy import Connection, Select, create_engine

from nexus_schema import queries
from nexus_schema.database import parse_url

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=100)
"""The time of the first request; the others follow every fifteen seconds."""

FILL = """
INSERT INTO api_requests (request_id, timestamp, domain, method, path, headers, model, conversation_id,
    account_id, input_tokens, output_tokens, total_tokens, parent_task_request_id, task_tool_invocation)
SELECT lpad(to_hex(n), 32, '0')::uuid, %(start)s::timestamptz + n * interval '15 s', 'd' || n %% 400, 'POST',
    '/', jsonb_build_object('n', repeat('x', 1500)), 'm' || n %% 2,
    CASE WHEN n %% 10 > 0 THEN lpad(to_hex(100000 + n %% 300), 32, '0')::uuid END,
    'a' || n %% 20, n, 1, n + 1,
    CASE WHEN n %% 100 = 1 THEN lpad(to_hex(n - 1), 32, '0')::uuid END,
    CASE WHEN n %% 100 = 0 THEN jsonb_build_array(jsonb_build_object('name', 'Task', 'id', 'first',
            'linked_conversation_id', lpad(to_hex(100000 + (n + 1) %% 300), 32, '0')),
        jsonb_build_object('name', 'Task', 'id', 'second')) END
FROM generate_series(0, 19999) AS n;
INSERT INTO streaming_chunks (request_id, chunk_index, timestamp, data)
SELECT lpad(to_hex(n / 5), 32, '0')::uuid, 4 - n %% 5, %(start)s, 'x' FROM generate_series(0, 19999) AS n;
SELECT refresh_hourly_stats();
"""


@pytest.fixture(scope="module")
def connection(clones: Callable[[str], AbstractContextManager[Database]]) -> Iterator[Connection]:
    with clones("head") as database:
        for statement in FILL.split(";\n")[:-1]:
            database.execute(statement, {"start": HOUR})
        database.execute("VACUUM ANALYZE")
        engine = create_engine(parse_url(url_of(database)))
        with engine.connect() as opened:
            yield opened
        engine.dispose()


HOURLY = "idx_hourly_stats_hour_domain"


def at(number: int) -> datetime:
    return HOUR + timedelta(seconds=15 * number)


def indexes(connection: Connection, query: Select[*tuple[Any, ...]]) -> set[str]:
    """Return the indexes that the plan of a query uses."""
    compiled = query.compile(connection)
    plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {compiled}", dict(compiled.params)).scalar_one()

    def names(node: dict[str, Any]) -> Iterator[str]:
        if "Index Name" in node:
            yield node["Index Name"]
        for inner in node.get("Plans", []):
            yield from names(inner)

    return set(names(plan[0]["Plan"]))


CONVERSATION = uuid.UUID(int=100007)


def test_conversation(connection: Connection) -> None:
    query = queries.conversation(CONVERSATION)
    found = [row.request_id.int for row in connection.execute(query)]
    assert found == [n for n in range(19999, -1, -1) if n % 300 == 7 and n % 10 > 0]
    [used] = indexes(connection, query.limit(20))  # of equal cost
    assert used in {"idx_requests_conversation_timestamp_id", "idx_requests_conversation_listing"}


@pytest.mark.parametrize("domain", [None, "d7"])
def test_conversations(connection: Connection, domain: str | None) -> None:
    query = queries.conversations(domain=domain)
    rows = connection.execute(query).all()
    expected: dict[int, list[int]] = {}
    for n in range(20000):
        if n % 10 > 0 and domain in {None, f"d{n % 400}"}:
            expected.setdefault(100000 + n % 300, []).append(n)
    in_order = sorted(expected.items(), key=lambda item: -item[1][-1])
    assert [(row.conversation_id.int, *row[1:]) for row in rows] == [
        (key, len(ns), sum(ns) + len(ns), at(ns[0]), at(ns[-1])) for key, ns in in_order
    ]
    assert indexes(connection, query) == ({"idx_api_requests_domain"} if domain else set())


def test_requests_of_domain(connection: Connection) -> None:
    query = queries.requests_of_domain("d3", since=at(1000), until=at(15003))
    found = [row.request_id.int for row in connection.execute(query)]
    assert found == [n for n in range(15002, 999, -1) if n % 400 == 3]
    assert indexes(connection, query) == {"idx_api_requests_domain"}
    without_end = queries.requests_of_domain("d3", since=at(1000))
    assert len(connection.execute(without_end).all()) == len([n for n in range(1000, 20000) if n % 400 == 3])


def test_sub_tasks_and_the_call_that_each_answers(connection: Connection) -> None:
    query = queries.sub_tasks(uuid.UUID(int=300))
    [child] = connection.execute(query).all()
    assert child.request_id.int == 301
    assert indexes(connection, query) == {"idx_requests_parent_task_request_id"}
    calls = queries.task_calls(uuid.UUID(int=300))
    assert [(call["id"], conversation) for call, conversation in connection.execute(calls)] == [
        ("first", child.conversation_id),
        ("second", None),
    ]
    assert indexes(connection, calls) == {"api_requests_pkey"}
    assert connection.execute(queries.task_calls(uuid.UUID(int=301))).all() == []


def test_tokens_of_account(connection: Connection) -> None:
    query = queries.tokens_of_account("a4", since=at(12000))
    used = [n for n in range(12000, 20000) if n % 20 == 4]
    assert tuple(connection.execute(query).one()) == (len(used), sum(used), len(used))
    assert indexes(connection, query) == {"idx_requests_account_timestamp"}
    assert tuple(connection.execute(queries.tokens_of_account("nobody", since=at(0))).one()) == (0, 0, 0)


def test_chunks(connection: Connection) -> None:
    query = queries.chunks(uuid.UUID(int=9))
    assert [row.chunk_index for row in connection.execute(query)] == [0, 1, 2, 3, 4]
    assert indexes(connection, query) == {"streaming_chunks_request_id_chunk_index_key"}


@pytest.mark.parametrize("domain", [None, "d7"])
def test_hourly(connection: Connection, domain: str | None) -> None:
    since, until = HOUR + timedelta(hours=30), HOUR + timedelta(hours=33)
    query = queries.hourly(since=since, until=until, domain=domain)
    rows = connection.execute(query).all()
    assert {row.hour for row in rows} == {
        since + timedelta(hours=n) for n in range(3 if domain is None else 2)
    }
    assert [row[:3] for row in rows] == sorted(
        (row[:3] for row in rows), key=lambda row: (-row[0].timestamp(), row[1])
    )
    assert sum(row.request_count for row in rows) == (720 if domain is None else 2)
    assert len(indexes(connection, query) & {HOURLY, "hourly_stats_hour_domain_model_key"}) == 1
