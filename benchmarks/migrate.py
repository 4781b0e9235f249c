"""What migrating a legacy database costs: atomic, online, and what the machine could do at best.

    python benchmarks/migrate.py [--requests 1000000] [--runs 3] [--growth 50000,100000] [--picture FILE]

Runs on an embedded PostgreSQL of its own and prints one table of ratios, medians of the runs; draws how long
each insert of a writer took, atomic beside online. Nothing is asserted. Stalls are measured in runs of their
own, because a writer and a reader slow down everything else.
"""

import argparse
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import psycopg
from sqlalchemy import Engine, event

from nexus_schema import upgrade_database
from nexus_schema.embedded import embedded_server

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from legacy_databases import bootstrap, scripts  # noqa: E402 - the databases that the tests know

KINDS = {"after 001": scripts(1, by_hand=False), "bootstrap": bootstrap(None)}
SCAN = """
SELECT count(*) FROM api_requests
WHERE response_body @> '{"content": [{"type": "tool_use", "name": "Task"}]}'"""
PARALLEL = "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0"

# 2 to 6 KB of JSON in two columns, five requests in a conversation, one every two seconds. Every 33rd
# response has a Task call; the conversation that begins next is its sub-task. One prompt in five is one of
# seven that come again and again, one child in ten comes too late.
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
    r % 5000, r % 700, r % 9000, CASE WHEN r % 5 = 0 AND (r - 1) / 33 * 33 >= r - 5 THEN md5('sub-task ' || r)
        ELSE md5('conversation ' || r / 5) END::uuid, md5('a' || r) || md5('b' || r),
    md5('a' || r - 1) || md5('b' || r - 1), r % 5 * 2 + 1,
    jsonb_build_object('system', request.text, 'messages', jsonb_build_array(jsonb_build_object(
        'role', 'user', 'content', CASE WHEN r % 5 = 0 AND (r - 1) / 33 * 33 >= r - 5
            THEN pg_temp.prompt((r - 1) / 33 - CASE WHEN (r - 1) / 33 % 10 = 0 THEN 1 ELSE 0 END)
            ELSE 'question ' || r END))),
    jsonb_build_object('id', 'msg_' || r, 'content', jsonb_build_array(
        jsonb_build_object('type', 'text', 'text', response.text),
        CASE WHEN r % 33 = 0 THEN jsonb_build_object('type', 'tool_use', 'id', 'toolu_' || r, 'name', 'Task',
            'input', jsonb_build_object('prompt', pg_temp.prompt(r / 33), 'description', 'part')) END))
FROM generate_series(1, %(requests)s::int) AS r
JOIN filler AS request ON request.n = r * 7 % 500 JOIN filler AS response ON response.n = r * 13 % 500
"""
BARE_UPDATE = """
UPDATE api_requests SET account_id = 'claude-' || length(domain) % 5 WHERE domain <> 'unknown.example'"""
SECONDARY = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = 'api_requests'::regclass AND NOT indisprimary"""
# Parts of the names of indexes that are there in both kinds, under these names or others.
OF_001 = (
    "idx_api_requests_",
    "_message_hash",
    "_conversation_id",
    "_branch_id",
    "_conversation_branch",
    "_message_count",
)

Latency = tuple[float, float]
"""When something was done, and how many seconds it took."""


class Databases:
    """Databases of each kind and size, made once and copied for each run."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.admin = psycopg.connect(url, autocommit=True)
        self._made: set[str] = set()

    def named(self, name: str) -> str:
        """Return the URL of a database."""
        return self.url.replace("/postgres?", f"/{name}?")

    def template(self, kind: str, requests: int) -> str:
        """Make a database of so many requests, if it is not there; return its name."""
        name = f"{kind.replace(' ', '_')}_{requests}"
        if name not in self._made:
            self._made.add(name)
            self.admin.execute(f"CREATE DATABASE {name}")
            with psycopg.connect(self.named(name), autocommit=True) as database:
                for statements in KINDS[kind]:
                    database.execute(statements)
                fill = psycopg.ClientCursor(database)
                fill.execute(
                    FILL.replace("%", "%%").replace("%%(requests)s", "%(requests)s"), {"requests": requests}
                )
                database.execute("VACUUM (ANALYZE) api_requests")
        return name

    @contextmanager
    def copy(self, kind: str, requests: int) -> Iterator[str]:
        """Yield the URL of a copy whose pages have all been read."""
        template = self.template(kind, requests)
        self.admin.execute("DROP DATABASE IF EXISTS run WITH (FORCE)")
        self.admin.execute(f"CREATE DATABASE run TEMPLATE {template} STRATEGY file_copy")
        with psycopg.connect(self.named("run"), autocommit=True) as database:
            database.execute(PARALLEL)
            database.execute("SELECT sum(length(body::text) + length(response_body::text)) FROM api_requests")
        self.admin.execute("CHECKPOINT")
        yield self.named("run")


def timed(database: psycopg.Connection[Any], *statements: str) -> float:
    """Return the seconds that statements take."""
    begun = time.perf_counter()
    for statement in statements:
        database.execute(statement)
    return time.perf_counter() - begun


def bounds(databases: Databases, kind: str, requests: int) -> dict[str, float]:
    """Return the seconds of what no migration can do without, each by itself."""
    found: dict[str, float] = {}
    with databases.copy(kind, requests) as url:
        os.environ["DATABASE_URL"] = url
        upgrade(url, online=False)
        with psycopg.connect(url, autocommit=True) as database:
            at_head = database.execute(SECONDARY).fetchall()
    for indexes in ("all indexes", "primary key alone"):
        with databases.copy(kind, requests) as url, psycopg.connect(url, autocommit=True) as database:
            found["serial scan"] = timed(database, "SET max_parallel_workers_per_gather = 0", SCAN)
            database.execute("RESET max_parallel_workers_per_gather; " + PARALLEL)
            found["parallel scan"] = timed(database, SCAN)
            here = {name for name, _ in database.execute(SECONDARY)}
            for name in here:
                database.execute(f"DROP INDEX {name}")
            database.execute(
                "ALTER TABLE api_requests ADD COLUMN IF NOT EXISTS account_id varchar(255),"
                " ADD COLUMN IF NOT EXISTS total_tokens int, ADD COLUMN IF NOT EXISTS is_subtask boolean,"
                " ADD COLUMN IF NOT EXISTS parent_task_request_id uuid,"
                " ADD COLUMN IF NOT EXISTS task_tool_invocation jsonb"
            )
            if indexes == "all indexes":
                timed(database, *(definition for _, definition in at_head))
            database.execute("CHECKPOINT")
            found[f"update, {indexes}"] = timed(database, BARE_UPDATE)
            if indexes == "primary key alone":
                database.execute("SET maintenance_work_mem = '512MB'")
                new = [(name, made) for name, made in at_head if not any(part in name for part in OF_001)]
                found["indexes"] = timed(database, *(made for name, made in new if name not in here))
                kept = timed(database, *(made for name, made in new if name in here))
                found["nine indexes"] = found["indexes"] + kept
    found["sum"] = found["parallel scan"] + found["update, primary key alone"] + found["indexes"]
    return found


def upgrade(url: str, *, online: bool) -> dict[str, float]:
    """Upgrade to head; return the seconds in all, of 003's backfill and of 005's."""
    marks: dict[str, list[float]] = {"003": [], "005": []}

    def part(statement: str) -> str | None:
        if "nexus_schema_003" in statement:
            return "003"
        fills = statement.startswith("UPDATE api_requests SET account_id") or (
            not online and "FROM api_requests, (VALUES" in statement
        )
        return "005" if fills or ("CREATE INDEX" in statement and " ON public." in statement) else None

    def before(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if (name := part(statement)) is not None and not marks[name]:
            marks[name].append(time.perf_counter())

    def after(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if (name := part(statement)) is not None:
            marks[name][1:] = [time.perf_counter()]

    event.listen(Engine, "before_cursor_execute", before)
    event.listen(Engine, "after_cursor_execute", after)
    begun = time.perf_counter()
    try:
        upgrade_database(url, online=online, raise_on_error=True)
    finally:
        event.remove(Engine, "before_cursor_execute", before)
        event.remove(Engine, "after_cursor_execute", after)
    return {"total": time.perf_counter() - begun} | {
        name: end - start for name, (start, end) in marks.items()
    }


def write(url: str, stop: Any, latencies: Any) -> None:
    """Insert a row every 20 ms."""
    insert = (
        "INSERT INTO api_requests (request_id, timestamp, domain, method, path, headers)"
        " VALUES (gen_random_uuid(), now(), 'claude-1.msldev.io', 'POST', '/', '{}')"
    )
    _every_20_ms(url, stop, latencies, lambda _: (insert, []))


def read(url: str, stop: Any, latencies: Any) -> None:
    """Read a row by its primary key every 20 ms."""
    with psycopg.connect(url) as database:
        keys = [row[0] for row in database.execute("SELECT request_id FROM api_requests LIMIT 1000")]
    select = "SELECT domain FROM api_requests WHERE request_id = %s"
    _every_20_ms(url, stop, latencies, lambda number: (select, [keys[number % len(keys)]]))


def _every_20_ms(
    url: str, stop: Any, latencies: Any, statement: Callable[[int], tuple[str, list[uuid.UUID]]]
) -> None:
    with psycopg.connect(url, autocommit=True) as database:
        found: list[Latency] = []
        number = 0
        while not stop.is_set():
            begun = time.monotonic()
            database.execute(*statement(number))
            found.append((begun, time.monotonic() - begun))
            number += 1
            time.sleep(max(0.0, 0.02 - found[-1][1]))
        latencies.put(found)


def stalls(
    databases: Databases, kind: str, requests: int, *, online: bool
) -> tuple[list[Latency], list[Latency]]:
    """Upgrade while a writer and a reader are at work; return what each of them had to wait."""
    processes = multiprocessing.get_context("spawn")
    with databases.copy(kind, requests) as url:
        stop = processes.Event()
        queues = [processes.Queue(), processes.Queue()]
        workers = [
            processes.Process(target=work, args=(url, stop, queue))
            for work, queue in zip((write, read), queues, strict=True)
        ]
        for worker in workers:
            worker.start()
        time.sleep(3)
        begun = time.monotonic()
        upgrade(url, online=online)
        time.sleep(1)
        stop.set()
        writes, reads = ([(at - begun, seconds) for at, seconds in queue.get()] for queue in queues)
        for worker in workers:
            worker.join()
    return writes, reads


def longest(latencies: list[Latency]) -> float:
    """Return the longest wait, in seconds."""
    return max(seconds for _, seconds in latencies)


def draw(file: Path, requests: int, atomic: list[Latency], online: list[Latency]) -> None:
    """Draw the latency of each insert over time."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "nexus"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4))
    for name, latencies, colour in (("atomic", atomic, "#c0392b"), ("online", online, "#2471a3")):
        axes.plot(
            [at for at, _ in latencies], [1000 * s for _, s in latencies], ".", color=colour, label=name, ms=3
        )
    axes.set_yscale("log")
    axes.set_xlabel("seconds since the upgrade began")
    axes.set_ylabel("an insert took, in ms")
    axes.set_title(f"A writer during the upgrade of {requests:,} requests, from scripts 000 and 001 to head")
    axes.legend()
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, metadata={"Date": None})


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def row(what: str, measured: float, against: str, baseline: float | None, wanted: str) -> None:
    """Print one line of the table."""
    ratio = "" if baseline is None else f"{measured / baseline:.2f}"
    shown = "" if baseline is None else f"{baseline:.2f} s"
    print(f"| {what} | {measured:.2f} s | {against} | {shown} | {ratio} | {wanted} |", flush=True)


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--growth", default="50000,100000,200000,400000")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "migration.svg")
    arguments = parser.parse_args()
    size, runs = arguments.requests, range(arguments.runs)
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as directory, embedded_server(Path(directory) / "data") as url:
        databases = Databases(url)
        # No checkpoint in the middle of one run and not of another.
        databases.admin.execute("ALTER SYSTEM SET max_wal_size = '32GB'")
        databases.admin.execute("ALTER SYSTEM SET checkpoint_timeout = '1h'")
        databases.admin.execute("SELECT pg_reload_conf()")
        server = databases.admin.info.server_version // 10_000
        print(f"PostgreSQL {server}, {os.cpu_count()} cores, {size:,} requests, medians of {len(runs)}\n")
        print("| what | measured | against | baseline | ratio | wanted |\n|---|---|---|---|---|---|")
        for kind in KINDS:
            best = medians([bounds(databases, kind, size) for _ in runs])
            for mode in ("atomic", "online"):
                found = []
                for _ in runs:
                    with databases.copy(kind, size) as copy:
                        found.append(upgrade(copy, online=mode == "online"))
                took, online = medians(found), mode == "online"
                row(
                    f"{kind}, {mode}: to head",
                    took["total"],
                    "bounds",
                    best["sum"],
                    "" if online else "< 1.5",
                )
                row(
                    f"{kind}, {mode}: 003's backfill",
                    took["003"],
                    "parallel scan",
                    best["parallel scan"],
                    "" if online else "< 3",
                )
                row(
                    f"{kind}, {mode}: 005's backfill",
                    took["005"],
                    "bare update, all indexes",
                    best["update, all indexes"],
                    "< 1.3" if online else "< 0.4",
                )
            row(f"{kind}: one serial scan", best["serial scan"], "parallel scan", best["parallel scan"], "")
            row(
                f"{kind}: bare update, key alone",
                best["update, primary key alone"],
                "all indexes",
                best["update, all indexes"],
                "",
            )
            row(f"{kind}: indexes of 002 to 005", best["nine indexes"], "", None, "")
        writes: dict[str, list[Latency]] = {}
        for kind in KINDS:
            for mode in ("atomic", "online"):
                wrote, were_read = stalls(databases, kind, size, online=mode == "online")
                writes.setdefault(mode, wrote)
                wanted = "< 0.25 s" if mode == "online" else ""
                row(f"{kind}, {mode}: longest wait of a writer", longest(wrote), "", None, wanted)
                row(f"{kind}, {mode}: longest wait of a reader", longest(were_read), "", None, wanted)
        draw(arguments.picture, size, writes["atomic"], writes["online"])
        first: dict[str, float] = {}
        for requests in map(int, filter(None, arguments.growth.split(","))):
            for mode in ("atomic", "online"):
                with databases.copy("after 001", requests) as copy:
                    took = upgrade(copy, online=mode == "online")
                for name, seconds in took.items():
                    key = f"{mode}: {name}"
                    each = 1_000_000 * seconds / requests
                    smallest = first.setdefault(key, each)
                    print(
                        f"| {requests:,} requests, {key} | {each:.1f} ms per 1,000 | the smallest"
                        f" | {smallest:.1f} | {each / smallest:.2f} | does not rise |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
