"""How long other sessions wait while a migration runs: two writers and a reader, every 20 ms."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import psycopg

Latency = tuple[float, float]
"""The time of an operation, and its duration in seconds."""


def write(url: str, stop: Any, latencies: Any) -> None:
    """Insert a row every 20 ms."""
    insert = (
        "INSERT INTO api_requests (request_id, timestamp, domain, method, path, headers)"
        " VALUES (gen_random_uuid(), now(), 'claude-1.msldev.io', 'POST', '/', '{}')"
    )
    _every_20_ms(url, stop, latencies, insert, [])


def change(url: str, stop: Any, latencies: Any) -> None:
    """Update a row by its primary key every 20 ms."""
    _every_20_ms(
        url, stop, latencies, "UPDATE api_requests SET duration_ms = 1 WHERE request_id = %s", _keys(url)
    )


def read(url: str, stop: Any, latencies: Any) -> None:
    """Read a row by its primary key every 20 ms."""
    _every_20_ms(url, stop, latencies, "SELECT domain FROM api_requests WHERE request_id = %s", _keys(url))


def _keys(url: str) -> list[Any]:
    with psycopg.connect(url) as database:
        return [row[0] for row in database.execute("SELECT request_id FROM api_requests LIMIT 100000")][::100]


def _every_20_ms(url: str, stop: Any, latencies: Any, statement: str, keys: list[Any]) -> None:
    with psycopg.connect(url, autocommit=True) as database:
        found: list[Latency] = []
        while not stop.is_set():
            begun = time.monotonic()
            database.execute(statement, keys[len(found) % len(keys) :][:1] if keys else None)
            found.append((begun, time.monotonic() - begun))
            time.sleep(max(0.0, 0.02 - found[-1][1]))
        latencies.put(found)


def beside(url: str, work: Callable[[], object]) -> dict[str, list[Latency]]:
    """Do something while other sessions work; return how long each of their statements took."""
    processes = multiprocessing.get_context("spawn")
    stop, others = processes.Event(), {"insert": write, "update": change, "read": read}
    queues = {name: processes.Queue() for name in others}
    workers = [
        processes.Process(target=other, args=(url, stop, queues[name])) for name, other in others.items()
    ]
    for worker in workers:
        worker.start()
    time.sleep(3)
    begun = time.monotonic()
    work()
    time.sleep(1)
    stop.set()
    waits = {name: [(at - begun, seconds) for at, seconds in queue.get()] for name, queue in queues.items()}
    for worker in workers:
        worker.join()
    return waits


def longest(latencies: list[Latency]) -> float:
    """Return the longest wait, in seconds."""
    return max(seconds for _, seconds in latencies)


def draw(file: Path, what: str, waits: dict[str, list[Latency]]) -> None:
    """Draw the latency of each insert over time, for each way to migrate."""
    mpl.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4))
    for (name, latencies), colour in zip(waits.items(), ("#c0392b", "#2471a3"), strict=True):
        at, took = zip(*latencies, strict=True)
        axes.plot(at, [1000 * seconds for seconds in took], ".", color=colour, label=name, ms=3)
    axes.set_yscale("log")
    axes.set_xlabel("seconds since the upgrade began")
    axes.set_ylabel("duration of an insert, ms")
    axes.set_title(f"A writer during the upgrade to head: {what}")
    axes.legend()
    file.parent.mkdir(exist_ok=True)
    figure.savefig(file, dpi=80, metadata={"Software": None})
