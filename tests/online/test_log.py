"""The log of a run: a line for each operation."""

import logging
import re

import pytest
from online.project import Project

UPGRADE = """
op.create_index("t_new_idx", "t", ["a"])
op.create_index("t_new_idx", "t", ["a"], if_not_exists=True)
op.add_column("t", sa.Column("c", sa.Integer, sa.ForeignKey("parent.id", name="t_c_fkey"), index=True))
op.create_table("k", sa.Column("id", sa.Integer))
op.alter_column("t", "a", nullable=False)
op.execute("UPDATE bare SET v = v + 1")
t = sa.table("t", sa.column("c", sa.Integer))
op.backfill(sa.update(t).values(c=1).where(t.c.c.is_(None)), what="rows given their c")
op.drop_index("t_a_idx", "t")
op.execute("COMMENT ON TABLE t IS 'many'")
op.execute("-- why\\nANALYZE t")
"""


def test_each_operation_is_one_line_with_its_seconds(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    project.revision(UPGRADE)
    project.upgrade()
    lines = [record.getMessage() for record in caplog.records if record.name == "alembic.online"]
    assert [re.sub(r"\d+\.\d s$", "N s", line) for line in lines] == [
        "create index t_new_idx concurrently: N s",
        "add column t.c: N s",
        "create table k: N s",
        "set not null t.a: N s",
        "UPDATE bare SET v = v + 1: N s",
        "rows given their c (50 rows): N s",
        "drop index t_a_idx concurrently: N s",
        "ANALYZE t: N s",
    ]
    alembic = [
        record.getMessage()
        for record in caplog.records
        if record.name.startswith("alembic.") and record.name != "alembic.online"
    ]
    assert alembic == [
        "Context impl PostgresqlImpl.",
        "Will assume transactional DDL.",
        "Running upgrade  -> r1",
    ]


def test_existing_objects_are_logged_at_debug(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "alembic.online")
    project.revision('op.create_index("t_a_idx", "t", ["a"], if_not_exists=True)')
    project.upgrade()
    levels = {record.getMessage(): record.levelno for record in caplog.records}
    assert levels["index t_a_idx already exists"] == logging.DEBUG
