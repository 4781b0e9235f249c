"""hourly_stats and its refresh: correct sums, and readers are not blocked."""

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from databases import Database, url_of
from support import insert

HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)


def fill(database: Database) -> None:
    counted = {
        "domain": "a",
        "model": "m",
        "input_tokens": 1,
        "output_tokens": 10,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": 1000,
        "duration_ms": 5,
        "tool_call_count": 2,
    }
    insert(database, "api_requests", timestamp=HOUR, **counted)
    insert(database, "api_requests", timestamp=HOUR + timedelta(minutes=59), **(counted | {"duration_ms": 8}))
    insert(database, "api_requests", timestamp=HOUR + timedelta(hours=1), **counted)
    insert(database, "api_requests", timestamp=HOUR, **(counted | {"model": None}))
    insert(database, "api_requests", timestamp=HOUR, **(counted | {"domain": "b"}))
    insert(database, "api_requests", timestamp=HOUR - timedelta(days=7), **counted)


def test_it_sums_the_last_seven_days_by_hour_domain_and_model(head: Database) -> None:
    fill(head)
    head.execute("SELECT refresh_hourly_stats()")
    rows = head.execute("SELECT * FROM hourly_stats ORDER BY hour, domain, model").fetchall()
    one = (1, 1, 10, 100, 1000, Decimal(5), 2)
    assert [(*row[:8], round(row[8], 1), row[9]) for row in rows] == [
        (HOUR, "a", "m", 2, 2, 20, 200, 2000, Decimal("6.5"), 4),
        (HOUR, "a", None, *one),
        (HOUR, "b", "m", *one),
        (HOUR + timedelta(hours=1), "a", "m", *one),
    ]
    head.execute("SELECT refresh_hourly_stats()")
    assert head.execute("SELECT * FROM hourly_stats ORDER BY hour, domain, model").fetchall() == rows


def test_it_refreshes_while_the_view_is_read(head: Database) -> None:
    with psycopg.connect(url_of(head)) as reader:
        assert reader.execute("SELECT count(*) FROM hourly_stats").fetchone() == (0,)  # holds its lock
        fill(head)
        head.execute("SET lock_timeout = '1s'")
        head.execute("SELECT refresh_hourly_stats()")
        assert reader.execute("SELECT count(*) FROM hourly_stats").fetchone() == (4,)


def test_a_plain_refresh_would_wait_for_the_reader(head: Database) -> None:
    """The test above would fail without CONCURRENTLY."""
    with psycopg.connect(url_of(head)) as reader:
        reader.execute("SELECT count(*) FROM hourly_stats")
        head.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            head.execute("REFRESH MATERIALIZED VIEW hourly_stats")


def test_it_works_with_any_search_path_of_the_caller(head: Database) -> None:
    schema = f"s{uuid.uuid4().hex}"
    head.execute(f"CREATE SCHEMA {schema}")
    head.execute(f"SET search_path = {schema}")
    head.execute("SELECT public.refresh_hourly_stats()")
