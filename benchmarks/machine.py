"""The server of a benchmark, its databases of each kind, and what work on them costs."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from legacy_databases import bootstrap, scripts  # noqa: E402 - the databases of the tests
from support import run_alembic  # noqa: E402

KINDS = {"after 001": scripts(1, by_hand=False), "bootstrap": bootstrap(None)}

# 2 to 6 KB of JSON in two columns, ordered by time, a request every two seconds, five in a conversation.
# Every 18th response has a Task call; the next conversation to begin is its sub-task. One prompt in five is
# one of seven repeated prompts, and one child in ten comes too late.
FILL = """
CREATE TEMP TABLE filler AS
SELECT n, string_agg(md5(n::text || i::text), ' ') AS text
FROM generate_series(0, 499) AS n, generate_series(1, 30 + n * 60 / 500) AS i GROUP BY n;
CREATE INDEX ON filler (n);
CREATE FUNCTION pg_temp.prompt(call int) RETURNS text LANGUAGE sql AS $$
    SELECT CASE WHEN call % 5 = 0 THEN 'common task ' || call % 7 ELSE 'task ' || call END
        || repeat(' and look at every file of it', 8) $$;
INSERT INTO api_requests (request_id, timestamp, domain, method, path, headers, model, request_type,
    response_status, input_tokens, output_tokens, duration_ms, conversation_id, current_message_hash,
    parent_message_hash, message_count, body, response_body)
SELECT md5('request ' || r)::uuid, timestamptz '2025-01-01' + r * interval '2 seconds',
    (ARRAY['claude-1.msldev.io', 'claude-2.msldev.io', 'claude-3.msldev.io', 'localhost:3000',
        'claude-4.msldev.io', 'claude-5.msldev.io', 'claude-kluster.msldev.io', 'claude-tanssi.msldev.io',
        'claude-moonbeam.msldev.io', 'unknown.example'])[1 + r / 50 % 10],
    'POST', '/v1/messages', '{"content-type": "application/json"}', 'claude-' || r % 3, 'inference', 200,
    r % 5000, r % 700, r % 9000, md5('conversation ' || first)::uuid, md5('a' || r) || md5('b' || r),
    md5('a' || r - 1) || md5('b' || r - 1), r % 5 * 2 + 1,
    jsonb_build_object('system', request.text, 'messages', jsonb_build_array(jsonb_build_object(
        'role', 'user', 'content', CASE WHEN call * 18 >= first - 5
            THEN pg_temp.prompt(call - CASE WHEN call % 10 = 0 THEN 1 ELSE 0 END)
            ELSE 'question ' || r END))),
    jsonb_build_object('id', 'msg_' || r, 'content', jsonb_build_array(
        jsonb_build_object('type', 'text', 'text', response.text),
        CASE WHEN r % 18 = 0 THEN jsonb_build_object('type', 'tool_use', 'id', 'toolu_' || r, 'name', 'Task',
            'input', jsonb_build_object('prompt', pg_temp.prompt(r / 18), 'description', 'part')) END))
FROM generate_series(1, {requests}) AS r
CROSS JOIN LATERAL (SELECT r / 5 * 5 AS first, (r / 5 * 5 - 1) / 18 AS call) AS conversation
JOIN filler AS request ON request.n = r * 7 % 500 JOIN filler AS response ON response.n = r * 13 % 500
ORDER BY r
"""
COUNTERS = """
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0') / 1e6 AS wal,
    heap / 1e6 AS heap, indexes / 1e6 AS indexes, updated, hot
FROM (SELECT sum(pg_relation_size(oid)) AS heap, sum(pg_indexes_size(oid)) AS indexes,
    sum(pg_stat_get_tuples_updated(oid)) AS updated, sum(pg_stat_get_tuples_hot_updated(oid)) AS hot
    FROM pg_class WHERE oid IN ('api_requests'::regclass, 'streaming_chunks'::regclass)) AS sums"""


@dataclass
class Cost:
    """The cost of work; sizes in MB."""

    seconds: float = 0.0
    processor: float = 0.0
    """Processor time of the server's processes, in seconds."""
    counted: dict[str, float] = field(default_factory=dict)
    """Growth of ``wal``, ``heap`` and ``indexes``; ``updated`` rows, ``hot`` of them heap-only."""

    @property
    def hot(self) -> float:
        """The share of heap-only updates."""
        return self.counted["hot"] / max(1.0, self.counted["updated"])


class Machine:
    """A server, and databases of each kind, created once and copied for each run."""

    def __init__(self, url: str, requests: int) -> None:
        self.requests = requests
        self._url = url
        self._admin = psycopg.connect(url, autocommit=True)
        self._made: set[str] = set()
        # No checkpoint and no autovacuum, which would disturb one run but not another.
        for setting in ("max_wal_size = '64GB'", "checkpoint_timeout = '1h'", "autovacuum = off"):
            self._admin.execute(f"ALTER SYSTEM SET {setting}")
        self._admin.execute("SELECT pg_reload_conf()")
        self.version = self._admin.info.server_version // 10_000
        data = str(self._admin.execute("SHOW data_directory").fetchall()[0][0])
        self._postmaster = Path(data, "postmaster.pid").read_text().split()[0]

    def url(self, name: str) -> str:
        """Return the URL of a database."""
        return self._url.replace("/postgres?", f"/{name}?")

    def template(self, kind: str, revision: str = "") -> str:
        """Create a database of a kind at a revision, unless it exists; return its name."""
        name = f"{kind.replace(' ', '_')}_{revision}"
        if name in self._made:
            return name
        self._made.add(name)
        if revision:
            self._copy(self.template(kind), name)
            run_alembic("upgrade", revision, url=self.url(name))
        else:
            self._admin.execute(f"CREATE DATABASE {name}")
        with psycopg.connect(self.url(name), autocommit=True) as database:
            if not revision:
                for statements in KINDS[kind]:
                    database.execute(statements)
                database.execute(FILL.replace("{requests}", str(self.requests)))
            database.execute("ANALYZE" if revision else "VACUUM (ANALYZE)")
        return name

    def _copy(self, template: str, name: str) -> None:
        self._admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")

    @contextmanager
    def copy(self, kind: str, revision: str = "") -> Iterator[psycopg.Connection[Any]]:
        """Yield a connection to a copy of a database; all its pages have been read."""
        self._copy(self.template(kind, revision), "run")
        with psycopg.connect(self.url("run"), autocommit=True) as database:
            database.execute("SELECT sum(length(body::text) + length(response_body::text)) FROM api_requests")
            self._admin.execute("CHECKPOINT")
            yield database

    def count(self, database: psycopg.Connection[Any]) -> Cost:
        """Return the total cost so far; see :func:`spent`."""
        with database.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(COUNTERS).fetchone() or {}
        return Cost(
            time.perf_counter(), self._processor(), {name: float(value) for name, value in found.items()}
        )

    def _processor(self) -> float:
        """Return the processor time of the server's processes in seconds, including ended processes."""
        while True:  # otherwise, a process that ends between two reads would not be counted
            found = self._ticks()
            ticks = sum(found.values())
            if self._ticks().keys() == found.keys():
                return ticks / os.sysconf("SC_CLK_TCK")

    def _ticks(self) -> dict[str, int]:
        """Return the processor time of each process; that of ended processes counts for the postmaster."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
            except OSError:  # it has ended meanwhile
                continue
            if stat.parent.name == self._postmaster:
                found[stat.parent.name] = sum(map(int, fields[11:15]))
            elif fields[1] == self._postmaster:
                found[stat.parent.name] = sum(map(int, fields[11:13]))
        return found


def spent(before: Cost, after: Cost) -> Cost:
    """Return the cost between two counts."""
    return Cost(
        after.seconds - before.seconds,
        after.processor - before.processor,
        {name: after.counted[name] - before.counted[name] for name in after.counted},
    )
