"""op.backfill: it fills every row during concurrent changes, and resumes where it was interrupted."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from databases import Database
from marks import quick
from online.backfills import Updates
from online.project import Project, Stop, state, versions
from sqlalchemy import Engine, event
from sqlalchemy.exc import CompileError, DBAPIError

from alembic_online.errors import OnlineError, RefusedError
from alembic_online.filling import batches

BIG = """
CREATE TABLE big (a int NOT NULL, b text NOT NULL, id int PRIMARY KEY, v int, c int,
    pad text DEFAULT repeat('x', 200));
INSERT INTO big (a, b, id, v) SELECT n % 7, 'it''s ' || n, n, 0 FROM generate_series(1, 5000) AS n;
CREATE UNIQUE INDEX big_a_b_idx ON big (a, b);
CREATE INDEX "Own: 5%" ON big (v) WHERE v > 0;
CREATE TABLE small (a int, c int, pad char(3000) DEFAULT 'x');
ALTER TABLE small ALTER pad SET STORAGE PLAIN;
INSERT INTO small SELECT n, n * 10 FROM generate_series(0, 6) AS n;
CREATE INDEX big_a_idx ON big (a);
ANALYZE big, small;
"""
TABLES = """
names = ("a", "id", "v", "c")
big = sa.table("big", *(sa.column(name, sa.Integer) for name in names))
small = sa.table("small", sa.column("a", sa.Integer), sa.column("c", sa.Integer))
"""
FILL = 'op.backfill(sa.update(big).values(c=big.c.id * 10).where(big.c.c.is_(None)), what="rows")'
WAYS = {
    "pages": FILL,
    "key": FILL,
    "composite key": FILL,
    "over another table": """
op.backfill(
    sa.update(big).values(c=small.c.c).where(big.c.a == small.c.a, big.c.c.is_(None)),
    what="rows",
    over=small,
)""",
}
# As on a server that stores the rows elsewhere: a function with exactly this type takes precedence.
NO_PAGES = "CREATE FUNCTION pg_relation_size(oid) RETURNS bigint LANGUAGE sql AS 'SELECT CAST(0 AS bigint)';"
KEYS = {
    "key": NO_PAGES,
    "composite key": NO_PAGES
    + "ALTER TABLE big DROP CONSTRAINT big_pkey, ADD CONSTRAINT big_pkey PRIMARY KEY (a, b);",
}
ways = pytest.mark.parametrize("way", WAYS)
quick_ways = pytest.mark.parametrize("way", quick([*WAYS], "pages", "key"))


@pytest.fixture
def big(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    project.database.execute(BIG)
    monkeypatch.setattr(batches, "FIRST_STEP", 8)  # many batches
    monkeypatch.setattr(batches, "LARGEST_STEP", 300)
    monkeypatch.setattr(batches, "PAUSE", 0)
    return project


def fill(big: Project, way: str) -> str:
    """Prepare the table; returns the code that fills its rows."""
    big.database.execute(KEYS.get(way, "SELECT 1"))
    return TABLES + WAYS[way]


def missing(database: Database) -> int:
    row = database.execute("SELECT count(*) FROM big WHERE c IS NULL").fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def repeated(url: str, statement: str) -> Iterator[list[int]]:
    """Run a statement repeatedly during the with block; yields a list with the number of runs."""
    done, count = threading.Event(), [0]

    def work() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while not done.is_set():
                connection.execute(statement)
                count[0] += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield count
    finally:
        done.set()
        thread.join()


@quick_ways
def test_concurrent_updates(big: Project, way: str) -> None:
    big.revision(fill(big, way))
    move = "UPDATE big SET v = v + 1 WHERE id = (SELECT (random() * 5000)::int)"
    updates = Updates()
    with repeated(big.url, move) as moves:
        big.upgrade(hooks=[updates])
    assert moves[0] > 0
    assert len(updates.statements) > 3
    assert missing(big.database) == 0
    wrong = "c <> id * 10" if way != "over another table" else "c <> a * 10"
    assert big.database.execute(f"SELECT count(*) FROM big WHERE {wrong}").fetchone() == (0,)
    assert updates.rows == 5000
    assert versions(big.database) == ["r1"]


@quick_ways
def test_concurrent_inserts(big: Project, way: str) -> None:
    """It ends, and the rows that existed at its beginning are filled."""
    big.revision(fill(big, way))
    stream = "INSERT INTO big (id, a, b) SELECT max(id) + 1, 0, 'it''s ' || max(id) + 1 FROM big"
    with repeated(big.url, stream) as inserts:
        big.upgrade()
    assert inserts[0] > 0
    assert big.database.execute("SELECT count(*) FROM big WHERE c IS NULL AND id <= 5000").fetchone() == (0,)


@quick_ways
def test_it_resumes_where_it_was_interrupted(big: Project, way: str) -> None:
    big.revision(fill(big, way))
    last = 3 if way != "over another table" else 2
    stop = Stop(last, kill=big.database, matching="UPDATE big")
    with pytest.raises(DBAPIError, match="terminating connection"):
        big.upgrade(hooks=[stop])
    left = missing(big.database)
    assert 0 < left < 5000
    row = big.database.execute(
        "SELECT state -> 'backfill' FROM alembic_version_journal WHERE digest <> ''"
    ).fetchone()
    assert row is not None
    position = row[0]["position"]
    assert row[0]["changed"] == 5000 - left
    updates = Updates()
    big.upgrade(hooks=[updates])
    assert missing(big.database) == 0
    assert updates.rows == left
    start = f"'({position},0)'::tid" if isinstance(position, int) else repr(position[-1]).replace('"', "")
    assert start.replace("it's", "it''s") in updates.statements[0]
    assert big.database.execute("SELECT to_regclass('alembic_version_journal')").fetchone() == (None,)


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("way", quick(["pages", "key", "over another table"]))
@pytest.mark.parametrize(
    ("found", "again"),
    [
        ("big.c.c.is_(None)", "big.c.id > 0"),
        ("big.c.c.is_(None)", "sa.or_(big.c.c.is_(None), big.c.id == 4000)"),
        ("big.c.id * 10", "sa.case((big.c.id < 4990, big.c.id * 10))"),
    ],
    ids=["all", "one of the last", "given no value"],
)
def test_a_where_that_finds_filled_rows_again(
    big: Project, way: str, found: str, again: str, online: bool
) -> None:
    upgrade = fill(big, way).replace(found, again)
    if way == "over another table" and "case" in again:
        upgrade = fill(big, way).replace("c=small.c.c", "c=sa.case((big.c.id < 4990, small.c.c))")
    big.revision(upgrade)
    with pytest.raises(OnlineError, match="its WHERE must match only rows that lack the values") as error:
        big.upgrade(online=online)
    assert "\n" not in str(error.value)
    assert versions(big.database) == []


TRIGGER = """
CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN {}; END $$;
CREATE TRIGGER swallow BEFORE UPDATE ON big FOR EACH ROW EXECUTE FUNCTION swallow()"""
SWALLOWED = {
    "trigger": (TRIGGER.format("NULL"), "1000 rows or more of big"),
    "trigger, some rows": (TRIGGER.format("CASE WHEN new.id <= 4997 THEN new END"), "3 rows of big"),
    "trigger, one row": (TRIGGER.format("CASE WHEN new.id <> 4997 THEN new END"), "1 row of big"),
    "rule": ("CREATE RULE swallow AS ON UPDATE TO big DO INSTEAD NOTHING", "1000 rows or more of big"),
    "rule, some rows": (
        "CREATE RULE swallow AS ON UPDATE TO big WHERE old.id < 5 DO INSTEAD NOTHING",
        "4 rows of big",
    ),
    "rule, another table": (
        "CREATE RULE swallow AS ON UPDATE TO big DO INSTEAD UPDATE bare SET v = new.c WHERE id = old.id",
        "1000 rows or more of big",
    ),
}


# Each with all ways; online and in one transaction alternate.
SWALLOWING = {
    f"{name}, {way}, {'online' if online else 'atomic'}": (*case, way, online)
    for first, (name, case) in enumerate(SWALLOWED.items())
    for number, way in enumerate(["pages", "key", "over another table"], start=first)
    for online in ([True, False] if "some rows" in name and way == "pages" else [number % 2 == 0])
}


@pytest.mark.parametrize(
    ("swallow", "rows", "way", "online"),
    quick(SWALLOWING, *[name for name in SWALLOWING if "some rows, pages" in name]),
)
def test_swallowed_updates(big: Project, swallow: str, rows: str, way: str, online: bool) -> None:
    if rows.startswith("1000"):
        big.database.execute("DELETE FROM big WHERE id > 1200")
    big.database.execute(swallow)
    big.revision(fill(big, way))
    for _ in range(2):
        with pytest.raises(OnlineError, match=rf"^{rows} cannot be filled \(rows\)") as error:
            big.upgrade(online=online)
        assert "check big for a BEFORE UPDATE trigger that returns NULL, a DO INSTEAD" in str(error.value)
        assert "\n" not in str(error.value)
        assert versions(big.database) == []
    big.database.execute("DROP FUNCTION IF EXISTS swallow CASCADE; DROP RULE IF EXISTS swallow ON big")
    big.upgrade(online=online)
    assert missing(big.database) == 0


class Inserts:
    """Another session inserts a row without its value, right after each of the first statements."""

    def __init__(self, url: str, times: int) -> None:
        self.left = times
        self._url = url

    def __call__(self, engine: Engine) -> None:
        event.listen(engine, "after_cursor_execute", self._after)

    def _after(self, _connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE big") and self.left:
            self.left -= 1
            with psycopg.connect(self._url) as other, other.transaction(), other.transaction():
                other.execute("INSERT INTO big (id, a, b) VALUES (%s, 0, %s)", [9000 + self.left, self.left])


@pytest.mark.parametrize("online", [True, False])
def test_rows_inserted_after_the_last_pass_are_no_error(big: Project, online: bool) -> None:
    big.database.execute("UPDATE big SET c = 1 WHERE id > 50")  # too few rows remain to rebuild indexes
    big.revision(TABLES + WAYS["pages"])
    inserts = Inserts(big.url, 30)
    big.upgrade(online=online, hooks=[inserts])
    assert inserts.left < 30
    assert versions(big.database) == ["r1"]


@pytest.mark.parametrize("online", [True, False])
def test_swallowed_updates_in_a_partition(big: Project, online: bool) -> None:
    """Rows of two partitions can have the same ctid."""
    big.database.execute(
        "ALTER TABLE big RENAME TO old; CREATE TABLE big (LIKE old) PARTITION BY RANGE (id);"
        "CREATE TABLE big_1 PARTITION OF big FOR VALUES FROM (0) TO (100);"
        "CREATE TABLE big_2 PARTITION OF big FOR VALUES FROM (100) TO (9000);"
        "INSERT INTO big SELECT * FROM old;" + TRIGGER.format("CASE WHEN new.id > 10 THEN new END")
    )
    big.revision(TABLES + WAYS["pages"])
    with pytest.raises(OnlineError, match=r"^10 rows of big cannot be filled"):
        big.upgrade(online=online)


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize(
    ("upgrade", "message"),
    [
        ('op.backfill(sa.update(big).values(c=1), what="rows")', "needs a WHERE"),
        (
            'b = big.alias("b")\nop.backfill(sa.update(b).values(c=1).where(b.c.c.is_(None)), what="rows")',
            "by its own name, not by an alias",
        ),
    ],
    ids=["no WHERE", "alias"],
)
def test_an_invalid_backfill(big: Project, upgrade: str, message: str, online: bool) -> None:
    big.revision(TABLES + upgrade)
    with pytest.raises(OnlineError, match=rf"a backfill .*{message}.*\(rows\)") as error:
        big.upgrade(online=online)
    assert "\n" not in str(error.value)
    assert missing(big.database) == 5000


@pytest.mark.parametrize("online", [True, False])
def test_a_script_needs_the_types_of_columns(big: Project, online: bool) -> None:
    big.revision(
        'big = sa.table("big", sa.column("c"))\n'
        'op.backfill(sa.update(big).values(c=1).where(big.c.c.is_(None)), what="rows")'
    )
    with pytest.raises(CompileError, match="No literal value renderer"):
        big.script(online=online)


def test_the_former_argument_key_has_no_effect(big: Project) -> None:
    big.revision(TABLES + FILL.replace(', what="rows"', ', what="rows", key=["misspelt"]'))
    with pytest.warns(DeprecationWarning, match="key= of op.backfill has no effect: leave it out"):
        big.upgrade()
    assert missing(big.database) == 0


@pytest.mark.parametrize(
    ("kind", "value"),
    quick(
        {
            "char": ("char(4)", "lpad(id::text, 4, '0')"),
            "bit": ("bit(13)", "id::bit(13)"),
            "text": ("text", "id || '%%s %% it''s'"),
            "timestamptz": ("timestamptz", "to_timestamp(id * 0.001)"),
        }
    ),
)
def test_a_key_whose_type_has_a_length(big: Project, kind: str, value: str) -> None:
    big.database.execute(f"ALTER TABLE big ADD cc {kind}; UPDATE big SET cc = {value};".replace("%%", "%"))
    big.database.execute(f"{NO_PAGES} ALTER TABLE big DROP CONSTRAINT big_pkey, ADD PRIMARY KEY (cc)")
    big.revision(TABLES + FILL)
    updates = Updates()
    big.upgrade(hooks=[updates])
    assert missing(big.database) == 0
    assert len(updates.statements) > 3


@pytest.mark.parametrize("script", [True, False])
def test_children_by_inheritance(big: Project, script: bool) -> None:
    big.database.execute(
        "CREATE TABLE kid () INHERITS (big); CREATE TABLE grandkid () INHERITS (kid);"
        "INSERT INTO grandkid SELECT * FROM big; DELETE FROM ONLY big"
    )
    big.database.execute("VACUUM FULL big")
    big.revision(TABLES + WAYS["pages"])
    if script:
        result = big.run_script()
        assert result.returncode == 0, result.stderr
    else:
        big.upgrade()
    assert missing(big.database) == 0


def test_a_foreign_key_that_the_values_violate(big: Project) -> None:
    big.database.execute("ALTER TABLE big ADD FOREIGN KEY (c) REFERENCES parent")
    big.revision(TABLES + WAYS["pages"])
    updates = Updates()
    started = time.monotonic()
    with pytest.raises(DBAPIError, match="violates foreign key"):
        big.upgrade(hooks=[updates])
    assert time.monotonic() - started < 10


def oids(database: Database) -> dict[str, int]:
    return dict(
        database.execute(
            "SELECT indexrelid::regclass::text, indexrelid::int FROM pg_index"
            " WHERE indrelid = 'big'::regclass"
        ).fetchall()
    )


@ways
def test_in_one_transaction_it_is_one_statement(big: Project, way: str) -> None:
    big.revision(fill(big, way))
    indexes = {row for row in state(big.database) if row[0] == "index" and "alembic" not in row[1]}
    before, updates = oids(big.database), Updates()
    big.upgrade(online=False, hooks=[updates])
    assert len(updates.statements) == 1
    assert missing(big.database) == 0
    assert {row for row in state(big.database) if row[0] == "index" and "alembic" not in row[1]} == indexes
    after = oids(big.database)
    rebuilt = {name for name in before if before[name] != after[name]}
    assert rebuilt == (set() if way == "over another table" else set(before) - {"big_pkey"})


def test_few_rows_do_not_rebuild_indexes(big: Project) -> None:
    big.database.execute("UPDATE big SET c = 1 WHERE id > 999")
    big.revision(TABLES + WAYS["pages"])
    before = oids(big.database)
    big.upgrade(online=False)
    assert oids(big.database) == before


@ways
@pytest.mark.parametrize("online", [True, False])
def test_an_empty_table(big: Project, way: str, online: bool) -> None:
    big.database.execute("TRUNCATE big")
    big.revision(fill(big, way))
    big.upgrade(online=online)
    assert versions(big.database) == ["r1"]


@pytest.mark.parametrize("way", quick(["pages", "key"]))
@pytest.mark.parametrize("how", ["online", "at once", "script"])
def test_a_partitioned_table(big: Project, way: str, how: str) -> None:
    big.database.execute(
        "ALTER TABLE big RENAME TO old; CREATE TABLE big (LIKE old) PARTITION BY RANGE (id);"
        "CREATE TABLE big_1 PARTITION OF big FOR VALUES FROM (0) TO (100);"
        "CREATE TABLE big_2 PARTITION OF big FOR VALUES FROM (100) TO (9000) PARTITION BY RANGE (id);"
        "CREATE TABLE big_3 PARTITION OF big_2 FOR VALUES FROM (100) TO (9000);"
        "INSERT INTO big SELECT * FROM old; CREATE INDEX ON big (a, b); DROP TABLE old;"
        "ALTER TABLE big ADD PRIMARY KEY (id)"
    )
    big.revision(fill(big, way))
    if how == "script":
        result = big.run_script()
        if way == "key":
            assert "ERROR:  this server shows no pages of big; alembic -x online" in result.stderr
            return
        assert result.returncode == 0, result.stderr
    else:
        big.upgrade(online=how == "online")
    assert missing(big.database) == 0


def test_another_schema(big: Project) -> None:
    big.database.execute(
        'DROP SCHEMA IF EXISTS "Other" CASCADE; CREATE SCHEMA "Other"; ALTER TABLE big SET SCHEMA "Other"'
    )
    big.revision(TABLES.replace("for name in names)", 'for name in names), schema="Other"') + WAYS["pages"])
    big.upgrade()
    assert big.database.execute('SELECT count(*) FROM "Other".big WHERE c IS NULL').fetchone() == (0,)
    big.database.execute('DROP SCHEMA "Other" CASCADE')


def test_the_number_of_rows(big: Project) -> None:
    big.revision(
        TABLES + "found = " + WAYS["pages"] + '\nop.execute(f"UPDATE bare SET v = {found} WHERE id = 1")'
    )
    big.upgrade()
    assert big.database.execute("SELECT v FROM bare WHERE id = 1").fetchone() == (5000,)


def test_until_unchanged_repeats_its_body(big: Project) -> None:
    big.revision(
        TABLES
        + "for _ in plugin.until_unchanged():\n    "
        + WAYS["pages"]
        + '\n    op.execute("UPDATE bare SET v = v + 1000 WHERE id = 1")'
    )
    big.upgrade()
    assert big.database.execute("SELECT v FROM bare WHERE id = 1").fetchone() == (2001,)
    big.database.execute(f"DROP TABLE big, small; {BIG}; UPDATE bare SET v = 1 WHERE id = 1")
    big.database.execute("DROP TABLE alembic_version")
    big.upgrade(online=False)
    assert big.database.execute("SELECT v FROM bare WHERE id = 1").fetchone() == (1001,)


@pytest.mark.parametrize("online", [True, False])
def test_the_typed_function_is_the_operation(big: Project, online: bool) -> None:
    import alembic_online.filling  # no submodule hides a name of the package

    assert alembic_online.filling.MAXIMUM_PASSES > 1
    way = WAYS["over another table"].replace("op.backfill", "plugin.backfill")
    big.revision(f"{TABLES}found = {way.strip()}\nop.execute(f'UPDATE bare SET v = {{found}} WHERE id = 1')")
    big.upgrade(online=online)
    assert missing(big.database) == 0
    assert big.database.execute("SELECT v FROM bare WHERE id = 1").fetchone() == (5000,)


POLICY = """
DO $$ BEGIN CREATE ROLE online_owner; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
GRANT CREATE, USAGE ON SCHEMA public TO online_owner;
ALTER TABLE big OWNER TO online_owner;
ALTER TABLE small OWNER TO online_owner;
ALTER TABLE big ENABLE ROW LEVEL SECURITY;
ALTER TABLE big FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON big USING (id {})"""


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize("hidden", ["> 7", "< 0"], ids=["some rows", "all rows"])
@pytest.mark.parametrize("way", quick(["pages", "key", "over another table"]))
def test_rows_that_a_policy_hides(big: Project, way: str, hidden: str, online: bool) -> None:
    big.database.execute(POLICY.format(hidden))
    big.revision(fill(big, way))
    before = ["SET ROLE online_owner"]
    with pytest.raises(DBAPIError, match='would be affected by row-level security policy for table "big"'):
        big.upgrade(online=online, before=before)
    assert versions(big.database) == []
    big.database.execute("ALTER TABLE big NO FORCE ROW LEVEL SECURITY")
    big.upgrade(online=online, before=before)
    assert missing(big.database) == 0
    shown: list[Any] = []
    # The setting is restored, and operations that read no rows are not affected.
    big.database.execute("ALTER TABLE big FORCE ROW LEVEL SECURITY")
    big.revision(
        'op.add_column("big", sa.Column("d", sa.Integer))\nop.create_index("big_d_idx", "big", ["d"])'
    )
    show = "SHOW row_security"
    big.upgrade(
        online=online,
        before=before,
        afterwards=[lambda connection: shown.append(connection.exec_driver_sql(show).scalar())],
    )
    assert shown == ["on"]
    assert versions(big.database) == ["r2"]


# The foreign server is this server itself.
FOREIGN = """
DROP EXTENSION IF EXISTS postgres_fdw CASCADE;
CREATE EXTENSION postgres_fdw;
CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS ({});
CREATE USER MAPPING FOR CURRENT_USER SERVER here OPTIONS ({});
ALTER TABLE big RENAME TO far;
"""
ALONE = """
CREATE FOREIGN TABLE big (a int, b text, id int, v int, c int) SERVER here OPTIONS (table_name 'far')"""
CHILD = """
CREATE TABLE big (a int NOT NULL, b text NOT NULL, id int, v int, c int{});
INSERT INTO big SELECT a, b, id + 10000, v FROM far WHERE id <= 100;
CREATE FOREIGN TABLE far_part () INHERITS (big) SERVER here OPTIONS (table_name 'far')"""


@pytest.fixture
def far(big: Project) -> Project:
    """A project with a table, far, that a foreign server can offer as big."""
    found = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'postgres_fdw')"
    if big.database.execute(found).fetchone() != (True,):
        pytest.skip("the server has no postgres_fdw; TEST_DATABASE_URL can name a server that has it")
    info = big.database.info
    place = {"host": info.host, "port": info.port, "dbname": info.dbname}
    login = {"user": info.user, "password": info.password}
    options = [", ".join(f"{k} '{v}'" for k, v in given.items() if v) for given in (place, login)]
    big.database.execute(FOREIGN.format(*options))
    return big


@pytest.mark.parametrize("setup", [ALONE, CHILD.format("")], ids=["alone", "as a part"])
def test_a_foreign_table_without_a_key_is_refused(far: Project, setup: str) -> None:
    far.database.execute(setup)
    far.revision('op.add_column("t", sa.Column("c", sa.Integer))\n' + TABLES + WAYS["pages"])
    with pytest.raises(
        RefusedError, match="was not started: a backfill over big is refused online.*no primary"
    ):
        far.upgrade()
    path = far.path / "versions" / "r1.py"
    path.write_text(path.read_text() + "\nonline = False")
    far.upgrade()
    assert missing(far.database) == 0


def test_a_table_with_foreign_children_is_filled_by_its_primary_key(far: Project) -> None:
    far.database.execute(CHILD.format(", PRIMARY KEY (b, id)"))
    far.revision(TABLES + WAYS["pages"])
    updates = Updates()
    far.upgrade(hooks=[updates])
    assert missing(far.database) == 0
    assert updates.rows == 5100
    assert "ctid" not in updates.statements[0]


def test_a_foreign_table_is_refused_for_any_wrapper(big: Project) -> None:
    """The refusal does not read the table, which this wrapper could not do."""
    big.database.execute(
        "DROP FOREIGN DATA WRAPPER IF EXISTS nothing CASCADE; CREATE FOREIGN DATA WRAPPER nothing;"
        "CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing; DROP TABLE big;"
        "CREATE FOREIGN TABLE big (a int, id int, v int, c int) SERVER nowhere"
    )
    big.revision('op.add_column("t", sa.Column("c", sa.Integer))\n' + TABLES + WAYS["pages"])
    with pytest.raises(
        RefusedError, match="was not started: a backfill over big is refused online.*no primary"
    ):
        big.upgrade()
    big.database.execute("DROP FOREIGN DATA WRAPPER nothing CASCADE")
