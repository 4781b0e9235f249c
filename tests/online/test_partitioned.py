"""Partitioned tables: an index is built partition by partition."""

from itertools import count
from typing import Any

import pytest
from databases import Database, dump_schema
from marks import quick
from online.project import Fault, Project, Stop, both_ways, reset, state, versions

from alembic_online import RefusedError

SETUP = """
CREATE TABLE parts (id int, a int, parent_id int) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE "Parts 2" PARTITION OF parts FOR VALUES FROM (100) TO (200);
INSERT INTO parts SELECT n, n, n % 10 + 1 FROM generate_series(1, 199) AS n;
"""
NESTED = """
CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM (200) TO (300) PARTITION BY RANGE (id);
CREATE TABLE parts_4 PARTITION OF parts_3 FOR VALUES FROM (200) TO (250);
INSERT INTO parts VALUES (201, 1, 1);
"""
INDEXES = {
    "index": 'op.create_index("parts_a_idx", "parts", ["a"])',
    "unique": 'op.create_index("parts_key", "parts", ["id"], unique=True)',
    "partial": """
        op.create_index(
            "parts_a_idx", "parts", [sa.text("a DESC")], postgresql_where=sa.text("a > 5")
        )
    """,
}


def indexes(database: Database) -> list[Any]:
    """Return the indexes, with the table of the index that each is attached to."""
    return database.execute(
        "SELECT indrelid::regclass::text, regexp_replace(pg_get_indexdef(indexrelid), 'INDEX .* ON', ''),"
        " indisvalid, (SELECT indrelid::regclass::text FROM pg_inherits JOIN pg_index AS of"
        " ON of.indexrelid = inhparent WHERE inhrelid = pg_index.indexrelid),"
        " relname"
        " FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
        " WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic%%' ORDER BY 1, 2"
    ).fetchall()


@pytest.mark.parametrize("setup", [SETUP, SETUP + NESTED], ids=["flat", "nested"])
@pytest.mark.parametrize("upgrade", INDEXES.values(), ids=INDEXES)
@pytest.mark.thorough
def test_an_index_after_a_stop_anywhere(project: Project, upgrade: str, setup: str) -> None:
    project.revision(upgrade)
    reset(project.database)
    project.database.execute(setup)
    project.upgrade(online=False)
    wanted = indexes(project.database)
    assert all(valid for _, _, valid, *_ in wanted)
    for number in count(1 + 2 * (setup != SETUP), 4):  # at every fourth place; the two setups alternate
        reset(project.database)
        project.database.execute(setup)
        stop = Stop(number)
        try:
            project.upgrade(hooks=[stop])
        except Fault:
            assert stop.reached
            project.upgrade()
        assert indexes(project.database) == wanted, stop.reached
        if not stop.reached:
            break
    assert number > 6


@pytest.mark.parametrize("taken", ["index", "table"])
def test_the_names_of_partitions_indexes(project: Project, taken: str) -> None:
    """As PostgreSQL chooses them, also if a name is in use."""
    project.revision('op.create_index(None, "parts", ["a", sa.text("(id + 1)")])')
    long = "p" * 60
    setup = f"{SETUP}; CREATE TABLE {long} PARTITION OF parts FOR VALUES FROM (200) TO (300);"
    setup += {
        "index": "CREATE INDEX parts_1_a_expr_idx ON parts_1 (id)",
        "table": "CREATE TABLE parts_1_a_expr_idx (a int)",
    }[taken]
    found = both_ways(project, setup, indexes)
    assert found[0] == found[1]
    assert "parts_1_a_expr_idx1" in str(found)


OTHERS = {
    "column": 'op.add_column("parts", sa.Column("c", sa.Integer, server_default="1", nullable=False))',
    "volatile default": """
op.add_column("parts", sa.Column("c", sa.Uuid, server_default=sa.text("gen_random_uuid()"), nullable=False))
""",
    "check": 'op.create_check_constraint("parts_check", "parts", "a > 0")',
    "not null": 'op.alter_column("parts", "a", nullable=False)',
    "drop column": 'op.drop_column("parts", "a")',
    "drop index": 'op.drop_index("parts_parent_idx", table_name="parts")',
    "drop table": 'op.drop_table("parts")',
    "comment": 'op.alter_column("parts", "a", comment="x")',
}


@pytest.mark.parametrize("upgrade", quick(OTHERS, "column", "check", "drop index", "drop table"))
def test_other_operations(project: Project, upgrade: str) -> None:
    project.revision(upgrade)
    found = both_ways(
        project,
        f"{SETUP}; CREATE INDEX parts_parent_idx ON parts (parent_id)",
        lambda database: (state(database), dump_schema(database)),
    )
    assert found[0][0] ^ found[1][0] == set()
    assert found[0][1] == found[1][1]


FOREIGN_KEY = 'op.create_foreign_key("parts_parent_fkey", "parts", "parent", ["parent_id"], ["id"])'


def test_a_foreign_key(project: Project) -> None:
    """Before PostgreSQL 18 it cannot be added NOT VALID to all partitions at once."""
    project.revision(FOREIGN_KEY)
    project.database.execute(SETUP)
    if project.database.info.server_version < 180000:
        with pytest.raises(RefusedError, match="add it to each partition under the same name"):
            project.upgrade()
        project.database.execute(
            "ALTER TABLE parts_1 ADD CONSTRAINT parts_parent_fkey FOREIGN KEY (parent_id) REFERENCES parent"
        )
        return
    project.upgrade()
    found = dump_schema(project.database)
    reset(project.database)
    project.database.execute(SETUP)
    project.upgrade(online=False)
    assert dump_schema(project.database) == found


def test_a_unique_constraint_is_refused(project: Project) -> None:
    project.revision('op.create_unique_constraint("parts_key", "parts", ["id"])')
    project.database.execute(SETUP)
    with pytest.raises(RefusedError, match=r"op.create_index\(…, unique=True\), which rejects"):
        project.upgrade()
    assert versions(project.database) == []
