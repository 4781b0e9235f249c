"""Rounds of a backfill: most updates are heap-only, by the server's own counters and sizes."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from databases import Database
from marks import quick
from online.backfills import Updates
from online.project import Project, Stop, wait_for
from sqlalchemy.exc import DBAPIError

from alembic_online.filling import rounds

BIG = """
CREATE TABLE big (id int PRIMARY KEY, a int, c int, pad text DEFAULT repeat('x', {width})) {options};
ALTER TABLE big ALTER pad SET STORAGE PLAIN;
INSERT INTO big (id, a) SELECT n, n % 7 FROM generate_series(1, {rows}) AS n;
CREATE INDEX big_a_idx ON big (a);
CREATE INDEX big_pad_idx ON big (md5(pad), id) WHERE a IS NOT NULL;
CREATE TABLE small (a int PRIMARY KEY, c int);
INSERT INTO small SELECT n, n * 10 FROM generate_series(0, 6) AS n;
VACUUM ANALYZE big, small"""
TABLES = """
big = sa.table("big", *(sa.column(name, sa.Integer) for name in ("id", "a", "c")))
small = sa.table("small", sa.column("a", sa.Integer), sa.column("c", sa.Integer))
"""
FILL = 'op.backfill(sa.update(big).values(c=big.c.id).where(big.c.c.is_(None)), what="rows")'
OVER = """
op.backfill(
    sa.update(big).values(c=small.c.c).where(big.c.a == small.c.a, big.c.c.is_(None)), what="rows", over=small
)"""
PARTITIONED = """
ALTER TABLE big RENAME TO old;
CREATE TABLE big (LIKE old) PARTITION BY RANGE (id);
CREATE TABLE big_1 PARTITION OF big FOR VALUES FROM (0) TO (800);
CREATE TABLE big_2 PARTITION OF big FOR VALUES FROM (800) TO (9000) PARTITION BY RANGE (id);
CREATE TABLE big_3 PARTITION OF big_2 FOR VALUES FROM (800) TO (9000);
INSERT INTO big SELECT * FROM old; DROP TABLE old; CREATE INDEX ON big (a)"""
COUNTERS = """
SELECT sum(pg_stat_get_tuples_updated(oid))::int, sum(pg_stat_get_tuples_hot_updated(oid))::int,
    sum(pg_relation_size(oid))::int, sum(pg_indexes_size(oid))::int,
    sum(pg_stat_get_tuples_updated(oid)) >= %s
FROM pg_class WHERE relname ~ '^big(_[0-9])?$' AND relkind = 'r'"""


def make(
    project: Project, *, rows: int = 2000, width: int = 160, options: str = "", fill: str = FILL
) -> None:
    for statement in BIG.format(rows=rows, width=width, options=options).split(";"):
        project.database.execute(statement)
    project.revision(TABLES + fill)


def counters(database: Database, updated: int) -> Any:
    """Return updates, heap-only updates, and the sizes of heap and indexes, once enough are counted."""
    wait_for(database, f"SELECT found FROM ({COUNTERS}) AS counted (u, h, s, i, found)", updated)
    row = database.execute(COUNTERS, [updated]).fetchone()
    assert row is not None
    return row[:4]


def in_rounds(updates: Updates) -> list[bool]:
    """Return for each statement that changed rows whether it took a few rows of each page."""
    return ["array_agg" in statement for statement in updates.changing]


def missing(database: Database) -> Any:
    row = database.execute("SELECT count(*) FROM big WHERE c IS NULL").fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize(
    ("rows", "width", "least", "fill"),
    quick(
        {
            "forty on a page": (2000, 160, 0.8, FILL),
            "seven on a page": (700, 1040, 0.8, FILL),
            "two on a page": (200, 3900, 0.5, FILL),
            "two hundred on a page": (4000, 4, 0.5, FILL),
            "over another table": (2000, 160, 0.8, OVER),
        },
        "forty on a page",
    ),
)
def test_most_updates_are_heap_only(project: Project, rows: int, width: int, least: float, fill: str) -> None:
    make(project, rows=rows, width=width, fill=fill)
    _, _, heap, indexes = counters(project.database, 0)
    updates = Updates()
    project.upgrade(hooks=[updates])
    updated, hot, heap_after, indexes_after = counters(project.database, rows)
    assert (updated, updates.rows, missing(project.database)) == (rows, rows, 0)
    assert hot >= least * updated
    assert heap_after - heap <= 1.3 * (1 - least) * heap + 8192
    assert indexes_after - indexes <= 0.5 * indexes


@pytest.mark.thorough
@pytest.mark.parametrize(("width", "options", "stay"), [(5000, "", 0), (500, "WITH (fillfactor = 10)", 200)])
def test_one_row_on_a_page_takes_one_round(project: Project, width: int, options: str, stay: int) -> None:
    """A row larger than half a page always moves, and one with enough room never does."""
    make(project, rows=200, width=width, options=options)
    updates = Updates()
    project.upgrade(hooks=[updates])
    assert counters(project.database, 200)[:2] == (200, stay)
    assert missing(project.database) == 0
    assert not any(in_rounds(updates))


def test_a_partitioned_table(project: Project) -> None:
    make(project)
    project.database.execute(PARTITIONED)
    project.upgrade()
    updated, hot, _, _ = counters(project.database, 2000)
    assert (updated, missing(project.database)) == (2000, 0)
    assert hot >= 0.7 * updated


INDEXES = {
    "key": "CREATE INDEX ON big (a, c)",
    "INCLUDE": "CREATE INDEX ON big (a) INCLUDE (c)",
    "expression": "CREATE INDEX ON big ((c + 1))",
    "predicate": "CREATE INDEX ON big (a) WHERE c > 5",
    "constraint": "ALTER TABLE big ADD UNIQUE (c)",
    "brin": "CREATE INDEX ON big USING brin (c)",
}


@pytest.mark.parametrize("index", quick(INDEXES, "predicate"))
def test_an_index_on_an_updated_column(project: Project, index: str) -> None:
    """Rounds would only be slower. BRIN indexes do not matter from PostgreSQL 16 on."""
    make(project)
    project.database.execute(index)
    updates = Updates()
    project.upgrade(hooks=[updates])
    summarizing = "brin" in index and project.database.info.server_version >= 160000
    assert any(in_rounds(updates)) == summarizing
    assert missing(project.database) == 0


@pytest.fixture
def ranges_of_ten_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "RANGE", 10)


@pytest.fixture
def snapshot(project: Project) -> Iterator[None]:
    """A dump that is running."""
    with psycopg.connect(project.url) as other:
        other.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1")
        yield


@pytest.mark.usefixtures("ranges_of_ten_pages", "snapshot")
def test_a_snapshot_elsewhere_stops_the_rounds(project: Project) -> None:
    """Two rounds are tried on every other range, in case it is gone. All other updates are plain."""
    make(project)
    updates = Updates()
    project.upgrade(hooks=[updates])
    assert missing(project.database) == 0
    assert counters(project.database, 2000)[1] < 100
    tried = in_rounds(updates)
    assert tried[:4] == [True, True, False, False]
    assert sum(tried) <= len(tried) // 2 + 1


@pytest.mark.thorough
def test_a_trigger_that_sets_an_indexed_column_stops_the_rounds(project: Project) -> None:
    make(project)
    project.database.execute(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN new.a := old.a + 1; RETURN new; END $$;"
        "CREATE TRIGGER touch BEFORE UPDATE ON big FOR EACH ROW EXECUTE FUNCTION touch()"
    )
    updates = Updates()
    project.upgrade(hooks=[updates])
    assert in_rounds(updates) == [True, True, False]
    assert missing(project.database) == 0


JOURNAL = "SELECT state -> 'backfill' FROM alembic_version_journal WHERE digest <> ''"


def test_the_journal_says_which_round_of_which_range_is_done(project: Project) -> None:
    make(project)
    with pytest.raises(DBAPIError, match="terminating connection"):
        project.upgrade(hooks=[Stop(4, kill=project.database, matching="UPDATE big")])
    row = project.database.execute(JOURNAL).fetchone()
    assert row is not None
    pages = project.database.execute("SELECT pg_relation_size('big') / 8192").fetchone()
    first, last, rounds = row[0]["range"]
    assert (first, row[0]["round"], row[0]["position"]) == (0, 4, 0)
    assert pages is not None
    assert last < pages[0]  # the rows of the first rounds moved to later pages
    assert row[0]["changed"] == 2000 - missing(project.database)
    left, updates = missing(project.database), Updates()
    project.upgrade(hooks=[updates])
    assert updates.rows == left
    assert in_rounds(updates) == [True] * (rounds - 4) + [False]
    assert missing(project.database) == 0


@pytest.mark.thorough
def test_an_index_that_is_built_between_two_runs_ends_the_rounds(project: Project) -> None:
    make(project)
    with pytest.raises(DBAPIError, match="terminating connection"):
        project.upgrade(hooks=[Stop(3, kill=project.database, matching="UPDATE big")])
    left, updates = missing(project.database), Updates()
    assert 0 < left < 2000
    project.database.execute("CREATE INDEX ON big (c)")
    project.upgrade(hooks=[updates])
    assert (updates.rows, missing(project.database)) == (left, 0)
    assert not any(in_rounds(updates))


@pytest.mark.parametrize("index", ["", "CREATE INDEX ON big (c)"], ids=["rounds", "plain ranges"])
def test_a_part_without_rows_to_fill_says_nothing_about_the_next_batch(project: Project, index: str) -> None:
    """Others would wait for a batch that has grown over nothing: only the second half has some."""
    make(project, rows=40000)
    for statement in ("UPDATE big SET c = 0 WHERE id <= 20000", "CLUSTER big USING big_pkey", index):
        project.database.execute(statement or "SELECT")
    updates = Updates()
    project.upgrade(hooks=[updates])
    assert (updates.rows, missing(project.database)) == (20000, 0)
    pages, rows_of_a_page = 64, 45  # the first batch
    assert updates.first <= pages * rows_of_a_page


OVER_ROWS = """
other = sa.table("other", sa.column("a", sa.Integer))
op.backfill(
    sa.update(big).values(c=big.c.id).where(big.c.id == other.c.a, big.c.c.is_(None)), what="rows", over=other
)"""


@pytest.mark.thorough
@pytest.mark.parametrize(("order", "least"), [("id", 0.8), ("id % 50, id", 0.0)])
def test_over_another_table_of_many_pages(project: Project, order: str, least: float) -> None:
    """Rounds go over the rows of one batch; a small one whose rows are on different pages takes none."""
    make(project, rows=1500, fill=OVER_ROWS)
    project.database.execute(
        f"CREATE TABLE other AS SELECT id AS a, repeat('x', 400) AS pad FROM big ORDER BY {order}"
    )
    updates = Updates()
    project.upgrade(hooks=[updates])
    updated, hot, _, _ = counters(project.database, 1500)
    assert (updated, updates.rows, missing(project.database)) == (1500, 1500, 0)
    assert hot >= least * updated
    assert in_rounds(updates)[0] == (least > 0)


@pytest.mark.thorough
@pytest.mark.usefixtures("ranges_of_ten_pages")
def test_killed_at_every_round(project: Project) -> None:
    """Each run completes one more round. Together they change each row once, mostly heap-only."""
    make(project, rows=300)
    runs = 0
    for runs in range(1, 100):  # noqa: B007 - used below
        try:
            project.upgrade(hooks=[Stop(2, kill=project.database, matching="UPDATE big")])
        except DBAPIError as error:
            assert "terminating connection" in str(error)  # noqa: PT017 - the last run has no error
            continue
        break
    assert missing(project.database) == 0
    updated, hot, _, _ = counters(project.database, 300)
    assert updated == 300
    assert hot >= 0.75 * updated
    assert runs > 8
