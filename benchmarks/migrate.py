"""Measure what it costs to migrate a legacy database, and what the proxy costs before and after revision 007.

    python benchmarks/migrate.py [--requests 1000000] [--kinds bootstrap] [--runs 1] [--parts migrations]

Runs on an embedded PostgreSQL of its own, prints tables of seconds and ratios (medians of the runs) and draws
how long each insert of a writer took. Nothing is asserted. The backfill of account_id and the bare UPDATE of
it begin with the same database at revision 004, after VACUUM. Waits are measured in separate runs, because a
writer and a reader slow down everything else.
"""

import argparse
import logging
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from machine import KINDS, ROOT, Cost, Machine, spent
from proxy import ingest, read
from sqlalchemy import Engine, event
from stalls import Latency, beside, draw, longest
from support import run_alembic

from nexus_schema import upgrade_database
from nexus_schema.embedded import embedded_server

MODES = ("atomic", "online")
PARTS = ("migrations", "waits", "proxy")
ADD_COLUMN = "ALTER TABLE api_requests ADD COLUMN IF NOT EXISTS account_id varchar(255)"
BARE_UPDATE = """
UPDATE api_requests SET account_id = 'claude-' || length(domain) % 5
WHERE account_id IS NULL AND domain <> 'unknown.example'"""


def median(costs: list[Cost]) -> Cost:
    """Return the median of each figure."""
    return Cost(
        statistics.median(cost.seconds for cost in costs),
        statistics.median(cost.processor for cost in costs),
        {name: statistics.median(cost.counted[name] for cost in costs) for name in costs[0].counted},
    )


def bare_update(machine: Machine, kind: str) -> Cost:
    """Return what one UPDATE of account_id costs with all indexes of revision 004 in place."""
    with machine.copy(kind, "004") as database:
        database.execute("VACUUM")
        database.execute(ADD_COLUMN)
        before = machine.count(database)
        database.execute(BARE_UPDATE)
        return spent(before, counted(machine, database))


def counted(machine: Machine, database: psycopg.Connection[Any]) -> Cost:
    """Return the total cost so far, including the updates of this session."""
    database.execute("SELECT pg_stat_force_next_flush()")
    database.execute("SELECT 1")
    return machine.count(database)


@contextmanager
def listening(before: Callable[[psycopg.Connection[Any], str], None]) -> Iterator[None]:
    """Call a function with the connection and the statement before each statement is executed."""

    def listener(_c: object, cursor: psycopg.Cursor[Any], statement: str, *_: object) -> None:
        before(cursor.connection, statement)

    event.listen(Engine, "before_cursor_execute", listener)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", listener)


def upgrade(machine: Machine, kind: str, *, online: bool) -> Cost:
    """Return what it costs to upgrade a database to head."""
    with machine.copy(kind) as database:
        before = machine.count(database)
        upgrade_database(machine.url("run"), online=online, raise_on_error=True)
        return spent(before, counted(machine, database))


def backfill(machine: Machine, kind: str, *, online: bool) -> Cost:
    """Return what revision 005 takes to fill account_id, in the same database as the bare UPDATE."""
    marks: list[Cost] = []
    with machine.copy(kind, "004") as database:
        database.execute("VACUUM")

        # Counts on the connection of the migration, which may hold the lock of the table.
        def look(migration: psycopg.Connection[Any], statement: str) -> None:
            begins = "FROM api_requests, (VALUES" in statement or statement.startswith(
                "UPDATE api_requests SET account_id"
            )
            ends = "INDEX" in statement and "idx_requests_account_timestamp" in statement and not begins
            ends = ends or statement.startswith("ANALYZE api_requests (account_id")
            if (begins and not marks) or (ends and len(marks) == 1):
                marks.append(machine.count(migration))

        with listening(look):
            run_alembic("upgrade", "005", url=machine.url("run"), x={"online": "true"} if online else None)
        updated = spent(marks[0], counted(machine, database))
    filled = spent(marks[0], marks[1])
    # The server reports the updates of a session late. These are all, because 005 makes no others.
    for name in ("updated", "hot"):
        filled.counted[name] = updated.counted[name]
    return filled


def table(*columns: str) -> None:
    """Print the head of a table."""
    print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns), flush=True)


def row(*cells: object) -> None:
    """Print a line of a table."""
    shown = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in cells]
    print("| " + " | ".join(shown) + " |", flush=True)


def against(cost: Cost, base: Cost) -> list[str]:
    """Return each figure with its ratio to another one."""
    pairs = [(cost.seconds, base.seconds, "s"), (cost.processor, base.processor, "s")]
    pairs += [(cost.counted[name], base.counted[name], "MB") for name in ("wal", "heap", "indexes")]
    return [f"{value:.1f} {unit}, {value / (of or 1):.2f}" for value, of, unit in pairs]


def migrations(machine: Machine, kinds: list[str], runs: int) -> None:
    """Print what the upgrade and its backfill cost, against the bare UPDATE."""
    table("ratios to the bare UPDATE", "seconds", "processor", "WAL", "heap", "indexes", "heap-only")
    for kind in kinds:
        bare = median([bare_update(machine, kind) for _ in range(runs)])
        row(f"{kind}: bare UPDATE of account_id", *against(bare, bare), bare.hot)
        for mode in MODES:
            for name, work in ("account_id filled", backfill), ("to head", upgrade):
                cost = median([work(machine, kind, online=mode == "online") for _ in range(runs)])
                row(f"{kind}, {mode}: {name}", *against(cost, bare), cost.hot)


def waits(machine: Machine, kinds: list[str], picture: Path) -> None:
    """Print the longest waits of other sessions, and draw those of a writer."""
    table("longest wait, s", "insert", "update", "read")
    inserts: dict[str, list[Latency]] = {}
    for kind in kinds:
        for mode in MODES:
            with machine.copy(kind):
                url = machine.url("run")
                found = beside(
                    url, partial(upgrade_database, url, online=mode == "online", raise_on_error=True)
                )
            row(f"{kind}, {mode}", *(longest(each) for each in found.values()))
            inserts.setdefault(mode, found["insert"])
    draw(picture, f"{machine.requests:,} requests, {kinds[0]}", inserts)


def proxy(machine: Machine, requests: int) -> None:
    """Print what the proxy's writes and the reads of dashboards cost at 006 and at 007: medians of three."""
    costs: dict[str, list[Cost]] = {"006": [], "007": []}
    reads: dict[str, list[dict[str, float]]] = {"006": [], "007": []}
    for _ in range(3):
        for revision in costs:
            with machine.copy("after 001", revision) as database:
                costs[revision].append(ingest(machine, database, requests))
                database.execute("VACUUM (ANALYZE)")
                reads[revision].append(read(machine.url("run")))
    old, new = median(costs["006"]), median(costs["007"])
    rows = requests * (2 + 10)  # an INSERT and an UPDATE each, 100 chunks of every tenth
    table(f"{requests:,} requests of the proxy", "006", "007", "ratio")
    figures: list[tuple[str, float, float]] = [
        ("rows a second", rows / old.seconds, rows / new.seconds),
        ("processor time of the server, s", old.processor, new.processor),
        ("WAL, MB", old.counted["wal"], new.counted["wal"]),
        ("indexes grow by, MB", old.counted["indexes"], new.counted["indexes"]),
        ("share of heap-only updates", old.hot, new.hot),
    ]
    for name in reads["006"][0]:
        before, after = (statistics.median(run[name] for run in reads[at]) for at in costs)
        figures.append((f"{name}, ms", before, after))
    for what, before, after in figures:
        row(what, before, after, after / (before or 1))


def main() -> None:
    """Print the tables and draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200_000, help="50,000 to 1,000,000")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="legacy databases")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--ingested", type=int, default=20_000, help="requests of the proxy")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "migration.png")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as directory, embedded_server(Path(directory) / "data") as url:
        machine = Machine(url, arguments.requests)
        print(f"PostgreSQL {machine.version}, {os.cpu_count()} cores, {arguments.requests:,} requests,"
              f" {'one run' if arguments.runs == 1 else f'medians of {arguments.runs} runs'}")  # fmt: skip
        if "migrations" in arguments.parts:
            migrations(machine, arguments.kinds, arguments.runs)
        if "waits" in arguments.parts:
            waits(machine, arguments.kinds, arguments.picture)
        if "proxy" in arguments.parts:
            proxy(machine, arguments.ingested)


if __name__ == "__main__":
    main()
