"""Changes by others between the steps of an operation, during a run or before the next one."""

from typing import Any

import psycopg
import pytest
from marks import quick
from online.project import Fault, Project, Stop, both_ways, versions
from sqlalchemy import Engine, event

from alembic_online.errors import OnlineError

UNIQUE = 'op.create_unique_constraint("x", "t", ["a"])'
INDEX = 'op.create_index("x", "t", ["a"], unique=True)'
CHECK = 'op.create_check_constraint("x", "t", "a > 0")'
KEY = 'op.create_foreign_key("x", "t", "parent", ["parent_id"], ["id"])'
NOT_NULL = 'op.alter_column("t", "a", nullable=False)'
COLUMN = """
op.add_column("t", sa.Column("c", sa.Integer, sa.CheckConstraint("c > 0", name="x"), server_default="1"))
"""
ALL = """
check = sa.CheckConstraint("c > 0", name="x")
op.add_column("t", sa.Column("c", sa.Integer, check, server_default="1", index=True, nullable=False))
"""
BUILD = "CREATE UNIQUE INDEX CONCURRENTLY"
# The step before which a run was interrupted, and a change before the next run.
CHANGES = {
    "another index": (INDEX, BUILD, "CREATE INDEX x ON t (id)"),
    "an index of another table": (INDEX, BUILD, "CREATE UNIQUE INDEX x ON parent (id)"),
    "another index for a constraint": (UNIQUE, BUILD, "CREATE UNIQUE INDEX x ON t (id)"),
    "the index of a constraint dropped": (UNIQUE, "COMMIT", "DROP INDEX x"),
    "the index of a constraint replaced": (
        UNIQUE,
        "COMMIT",
        "DROP INDEX x; CREATE UNIQUE INDEX x ON t (id)",
    ),
    "a check replaced": (
        CHECK,
        ".*VALIDATE",
        "ALTER TABLE t DROP CONSTRAINT x, ADD CONSTRAINT x CHECK (a > -9) NOT VALID",
    ),
    "a check dropped": (ALL, ".*VALIDATE", "ALTER TABLE t DROP CONSTRAINT x"),
    "a foreign key replaced": (
        KEY,
        ".*VALIDATE",
        "CREATE TABLE others (id int PRIMARY KEY); INSERT INTO others SELECT id FROM parent;"
        "ALTER TABLE t DROP CONSTRAINT x,"
        " ADD CONSTRAINT x FOREIGN KEY (parent_id) REFERENCES others NOT VALID",
    ),
    "the column dropped": (COLUMN, ".*VALIDATE", "ALTER TABLE t DROP c"),
    "a view on what is dropped": (
        'op.drop_column("child", "parent_id")',
        "DROP INDEX",
        "CREATE VIEW seen AS SELECT parent_id FROM child",
    ),
}


@pytest.mark.parametrize(("upgrade", "before", "change"), quick(CHANGES, "another index", "a check replaced"))
def test_an_error_says_what_was_changed(project: Project, upgrade: str, before: str, change: str) -> None:
    """Each further run reports the same error, and stamps nothing."""
    project.revision(upgrade)
    stop = Stop(1, matching=before)
    with pytest.raises(Fault):
        project.upgrade(hooks=[stop])
    project.database.execute(change)
    for _ in range(2):
        with pytest.raises(
            OnlineError, match="an earlier run was interrupted|already exists|cannot be"
        ) as error:
            project.upgrade()
        assert "\n" not in str(error.value)
        assert versions(project.database) == []


def test_half_an_operation_is_finished_online(project: Project) -> None:
    project.revision(COLUMN)
    with pytest.raises(Fault):
        project.upgrade(hooks=[Stop(1, matching=".*VALIDATE")])
    path = project.path / "versions" / "r1.py"
    text = path.read_text()
    path.write_text(text + "\nonline = False\n")
    with pytest.raises(OnlineError, match="interrupted in add column t.c; finish the operation online"):
        project.upgrade()
    path.write_text(text)
    project.upgrade()
    assert versions(project.database) == ["r1"]


LONG = "long_" * 12 + "{}"
PARTS = f"""
CREATE TABLE m (id int, day int, v text) PARTITION BY RANGE (day);
CREATE TABLE m_1 PARTITION OF m FOR VALUES FROM (0) TO (100);
CREATE TABLE m_2 PARTITION OF m FOR VALUES FROM (100) TO (200) PARTITION BY LIST (id);
CREATE TABLE m_2_a PARTITION OF m_2 FOR VALUES IN (1, 2, 3);
CREATE TABLE m_2_b PARTITION OF m_2 DEFAULT;
CREATE TABLE m_3 PARTITION OF m FOR VALUES FROM (200) TO (300);
CREATE TABLE {LONG.format("a")} PARTITION OF m FOR VALUES FROM (300) TO (400);
CREATE TABLE {LONG.format("b")} PARTITION OF m FOR VALUES FROM (400) TO (500);
INSERT INTO m SELECT n, n * 3, 'v' || n FROM generate_series(60, 166) AS n;
INSERT INTO m SELECT n, n, 'v' || n FROM generate_series(1, 99) AS n;
"""
WHOLE = "SELECT bool_and(indisvalid) FROM pg_index WHERE indrelid::regclass::text LIKE 'm%'"
LACKING = """
SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p') AND oid IN (
    SELECT relid FROM pg_partition_tree('m')) AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = oid)"""
UPGRADES = {
    "index": 'op.create_index("whole", "m", ["v"])',
    "unique": 'op.create_index("whole", "m", ["v", "day", "id"], unique=True)',
    "expression": 'op.create_index("whole", "m", [sa.text("lower(v)")], postgresql_include=["id"])',
    "with its column": 'op.add_column("m", sa.Column("x", sa.Integer, index=True))',
}


@pytest.mark.parametrize("upgrade", quick(UPGRADES, "index", "with its column"))
def test_partitions_get_the_names_of_one_transaction(project: Project, upgrade: str) -> None:
    project.revision(upgrade)
    found, wanted = both_ways(project, PARTS)
    assert (found - wanted, wanted - found) == (set(), set())


class Meanwhile:
    """Another session executes a change right before the first statement that begins with a text."""

    def __init__(self, url: str, change: str, before: str) -> None:
        self.done = False
        self._url, self._change, self._before_statement = url, change, before

    def __call__(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self._before)

    def _before(self, _connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        if not self.done and statement.startswith(self._before_statement):
            self.done = True
            with psycopg.connect(self._url, autocommit=True) as other:
                other.execute(self._change)


PARTITIONS = {
    "one more": "CREATE TABLE m_2_c PARTITION OF m_2 FOR VALUES IN (9999)",
    "one detached": "ALTER TABLE m DETACH PARTITION m_3",
    "one dropped": "DROP TABLE m_3",
    "a name taken": "CREATE TABLE m_2_v_idx (i int)",
    "rows in an empty one": "INSERT INTO m SELECT 1, 150, 'z' || n FROM generate_series(1, 100) AS n",
}


@pytest.mark.parametrize("stopped", quick({"in one run": False, "in two runs": True}))
@pytest.mark.parametrize("change", quick(PARTITIONS, "one more"))
def test_concurrent_changes_of_partitions(project: Project, change: str, stopped: bool) -> None:
    project.database.execute(PARTS)
    project.revision(UPGRADES["index"])
    before = "CREATE INDEX CONCURRENTLY m_1"
    if stopped:
        with pytest.raises(Fault):
            project.upgrade(hooks=[Stop(1, matching=before)])
        project.database.execute(change)
        project.upgrade()
    else:
        meanwhile = Meanwhile(project.url, change, before)
        project.upgrade(hooks=[meanwhile])
        assert meanwhile.done
    assert project.database.execute(WHOLE).fetchone() == (True,)
    lacking = {name for (name,) in project.database.execute(LACKING)}
    assert lacking == set()
