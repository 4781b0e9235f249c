"""How the backfill of 003 grows, against comparing every prompt with every first message.

python benchmarks/backfill_subtasks.py

Runs on an embedded PostgreSQL of its own and prints a table of ratios; nothing is asserted. One request in
ten makes a Task call and one in ten begins the sub-task of one, as in the proxy's own databases the great
majority are neither.
"""

import os
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config

from nexus_schema.embedded import embedded_server

ROOT = Path(__file__).resolve().parents[1]
COMPARED_SIZES = (5_000, 10_000, 20_000)
ALONE_SIZES = (50_000, 100_000, 200_000)

FILL = """
INSERT INTO api_requests (request_id, timestamp, domain, method, path, headers, conversation_id, body,
    response_body)
SELECT gen_random_uuid(), timestamptz '2025-01-01' + n * interval '2 seconds', 'domain ' || n / 10 %% 5,
    'POST', '/v1/messages', '{}', gen_random_uuid(),
    jsonb_build_object('filler', repeat('x', 500), 'messages', jsonb_build_array(jsonb_build_object(
        'role', 'user', 'content',
        CASE n %% 10 WHEN 2 THEN 'prompt ' || n / 10 ELSE 'question ' || n END))),
    CASE n %% 10 WHEN 1 THEN jsonb_build_object('content', jsonb_build_array(jsonb_build_object(
        'type', 'tool_use', 'name', 'Task',
        'input', jsonb_build_object('prompt', 'prompt ' || n / 10)))) END
FROM generate_series(0, %(size)s::int - 1) AS n"""

# The baseline, in one query that changes nothing: each call with each first message.
EVERY_PAIR = """
SELECT count(*)
FROM api_requests AS parent
CROSS JOIN LATERAL jsonb_array_elements(parent.response_body -> 'content') AS call
JOIN api_requests AS child ON child.body #>> '{messages,0,content}' = call #>> '{input,prompt}'
    AND child.domain = parent.domain AND child.timestamp > parent.timestamp
    AND child.timestamp < parent.timestamp + interval '30 seconds'
WHERE parent.response_body IS NOT NULL"""


def upgrade(url: str, revision: str) -> None:
    """Bring the database at url to a revision, up or down."""
    os.environ["DATABASE_URL"] = url
    config = Config(ROOT / "alembic.ini")
    config.cmd_opts = Namespace(x=["allow_data_loss=true"])
    run = command.upgrade if revision == "003" else command.downgrade
    run(config, revision)


def measure(
    connection: psycopg.Connection[Any], url: str, size: int, *, compared: bool
) -> tuple[float, float]:
    """Return the seconds of the upgrade to 003 and of the baseline (0 when it is not measured)."""
    connection.execute("TRUNCATE api_requests CASCADE")
    connection.execute(FILL, {"size": size})
    connection.execute("ANALYZE api_requests")
    baseline = 0.0
    if compared:
        with connection.transaction():
            connection.execute("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
            connection.execute("SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off")
            start = time.perf_counter()
            found = connection.execute(EVERY_PAIR).fetchone()
            baseline = time.perf_counter() - start
    start = time.perf_counter()
    upgrade(url, "003")
    seconds = time.perf_counter() - start
    linked = connection.execute("SELECT count(*) FROM api_requests WHERE is_subtask").fetchone()
    if compared and linked != found:
        raise RuntimeError(f"the two ways disagree: {found} and {linked}")
    upgrade(url, "002")
    return seconds, baseline


def main() -> None:
    """Print the table."""
    print(f"{'requests':>9} {'upgrade to 003':>15} {'every pair':>11} {'ratio':>8} {'growth':>7}")
    with tempfile.TemporaryDirectory() as directory, embedded_server(Path(directory) / "data") as url:
        os.environ["DATABASE_URL"] = url
        command.upgrade(Config(ROOT / "alembic.ini"), "002")
        with psycopg.connect(url, autocommit=True) as connection:
            first: float | None = None
            for size in (*COMPARED_SIZES, *ALONE_SIZES):
                compared = size in COMPARED_SIZES
                seconds, baseline = measure(connection, url, size, compared=compared)
                first = first or seconds
                other = f"{baseline:10.2f}s {baseline / seconds:7.1f}x" if compared else f"{'-':>11} {'-':>8}"
                print(f"{size:>9,} {seconds:14.2f}s {other} {seconds / first:6.1f}x", flush=True)


if __name__ == "__main__":
    main()
