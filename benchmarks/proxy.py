"""What the proxy writes and what dashboards read, at the schemas of two revisions."""

import statistics
import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from machine import Cost, Machine, spent
from psycopg.types.json import Jsonb
from sqlalchemy import Select, create_engine

from nexus_schema import queries
from nexus_schema.database import parse_url

IN_FLIGHT = 10
"""Requests that wait for their response."""

INSERT = """
INSERT INTO api_requests (request_id, domain, account_id, timestamp, method, path, headers, body,
    api_key_hash, model, request_type, current_message_hash, parent_message_hash, conversation_id, branch_id,
    message_count, parent_task_request_id, is_subtask, task_tool_invocation)
VALUES (%s, %s, 'claude-1', now(), 'POST', '/v1/messages', '{}', %s, repeat('0', 64), 'claude', 'inference',
    md5(%s) || md5('a'), md5(%s) || md5('b'), %s, 'main', 3, NULL, false, NULL)
ON CONFLICT (request_id) DO NOTHING"""
UPDATE = """
UPDATE api_requests SET response_status = 200, response_headers = '{}', response_body = %s,
    response_streaming = true, input_tokens = 100, output_tokens = 200, total_tokens = 300,
    first_token_ms = 40, duration_ms = 900, tool_call_count = 1, completed_at = now(),
    task_tool_invocation = %s
WHERE request_id = %s"""
CHUNK = """
INSERT INTO streaming_chunks (request_id, chunk_index, timestamp, data, token_count)
VALUES (%s, %s, now(), %s, 3) ON CONFLICT DO NOTHING"""


def ingest(machine: Machine, database: psycopg.Connection[Any], requests: int) -> Cost:
    """Write as the proxy does: inserts, later updates with the response, chunks in batches of 100."""
    text = Jsonb({"text": " ".join(uuid.uuid4().hex for _ in range(60))})
    task = Jsonb([{"id": "t", "name": "Task", "input": {"prompt": "go", "description": "part"}}])
    keys = [uuid.uuid4() for _ in range(requests)]
    before = machine.count(database)
    with psycopg.connect(database.info.dsn, autocommit=True) as proxy:
        for number in range(requests + IN_FLIGHT):
            if number < requests:
                key, conversation = keys[number], uuid.UUID(int=number // 5)
                given = [key, f"domain-{number % 10}", text, str(number), str(number - 1), conversation]
                proxy.execute(INSERT, given)
            if (answered := number - IN_FLIGHT) >= 0:
                proxy.execute(UPDATE, [text, task if answered % 10 == 0 else None, keys[answered]])
                if answered % 10 == 9:
                    chunks = [(keys[answered], index, "data: " + "x" * 80) for index in range(100)]
                    with proxy.transaction(), proxy.cursor() as cursor:
                        cursor.executemany(CHUNK, chunks)
    return spent(before, machine.count(database))


def read(url: str) -> dict[str, float]:
    """Return the milliseconds of each query of nexus_schema.queries, medians of nine."""
    engine = create_engine(parse_url(url))
    with engine.connect() as connection:
        one = "SELECT request_id, conversation_id FROM api_requests WHERE task_tool_invocation IS NOT NULL"
        request, conversation = connection.exec_driver_sql(f"{one} LIMIT 1").one()
        since = datetime(2025, 1, 1, tzinfo=UTC)
        until = since + timedelta(hours=5)
        domain = "claude-1.msldev.io"
        asked: dict[str, Select[*tuple[Any, ...]]] = {
            "conversation": queries.conversation(conversation),
            "conversations": queries.conversations(),
            "conversations of a domain": queries.conversations(domain=domain),
            "requests_of_domain": queries.requests_of_domain(domain, since=since, until=until),
            "sub_tasks": queries.sub_tasks(request),
            "task_calls": queries.task_calls(request),
            "tokens_of_account": queries.tokens_of_account(
                "claude-1", since=datetime.now(UTC) - timedelta(hours=5)
            ),
            "chunks": queries.chunks(request),
            "hourly": queries.hourly(since=since, until=until),
        }
        connection.exec_driver_sql("SELECT refresh_hourly_stats()")
        found: dict[str, float] = {}
        for name, query in asked.items():
            took = []
            for _ in range(9):
                begun = time.perf_counter()
                connection.execute(query).all()
                took.append(1000 * (time.perf_counter() - begun))
            found[name] = statistics.median(took)
    engine.dispose()
    return found
