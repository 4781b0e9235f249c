"""A statement that did not get its lock is retried, and nothing of the first attempt affects it."""

import pytest
from databases import dump_schema
from marks import quick
from online.project import Blocker, Project, reset, state, versions

# The revision, the statement before which others take a lock, and that lock.
RETRIED = {
    "table, foreign key of a column": (
        """
        op.create_table(
            "k",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("t_id", sa.Integer, sa.ForeignKey("t.id", name="k_fk")),
        )
        """,
        "CREATE TABLE k",
        "UPDATE t SET a = a WHERE id = 1",
    ),
    "table, with everything": (
        """
        v = sa.Column("v", sa.Integer, sa.CheckConstraint("v > 0", name="k_v"), unique=True, index=True)
        op.create_table(
            "k",
            sa.Column("id", sa.Integer, sa.Identity()),
            sa.Column("t_id", sa.Integer, nullable=False),
            sa.Column("twice", sa.Integer, sa.Computed("v * 2", persisted=True)),
            sa.Column("kind", sa.Enum("one", "two", name="st")),
            sa.Column("flag", sa.Boolean(create_constraint=True, name="k_flag"), comment="5%"),
            sa.Column("span", postgresql.INT4RANGE),
            v,
            sa.PrimaryKeyConstraint("id", name="k_pk"),
            sa.ForeignKeyConstraint(["t_id"], ["t.id"], name="k_fk", ondelete="CASCADE", deferrable=True),
            sa.UniqueConstraint("t_id", "v", name="k_uq", postgresql_include=["id"]),
            sa.UniqueConstraint(v, "id", name="k_uq_too"),
            sa.CheckConstraint("v < 100", name="k_ck"),
            sa.CheckConstraint(v < 200, name="k_ck_too"),
            postgresql.ExcludeConstraint(("span", "&&"), using="gist", name="k_ex", where=sa.text("v > 5")),
            sa.Index("k_ix", "v", "t_id", unique=True, postgresql_where=sa.text("v > 1")),
            sa.Index("k_ix_column", v),
            sa.Index("k_ix_expression", sa.func.abs(v), sa.text("t_id DESC"), postgresql_include=["id"]),
            comment="k",
        )
        """,
        "CREATE TABLE k",
        "UPDATE t SET a = a WHERE id = 1",
    ),
    "table, enum": (
        """
        op.create_table(
            "k",
            sa.Column("kind", sa.Enum("one", "two", name="st")),
            sa.Column("t_id", sa.Integer, sa.ForeignKey("t.id", name="k_fk")),
        )
        """,
        "CREATE TABLE k",
        "UPDATE t SET a = a WHERE id = 1",
    ),
    "column of an empty table": (
        """
        key = sa.ForeignKey("t.id", name="hollow_fk")
        op.add_column("hollow", sa.Column("t_id", sa.Integer, key, index=True, unique=True))
        """,
        "ALTER TABLE hollow ADD CONSTRAINT",
        "UPDATE t SET a = a WHERE id = 1",
    ),
    "column of a table with rows": (
        """
        key = sa.ForeignKey("t.id", name="bare_fk")
        op.add_column("bare", sa.Column("t_id", sa.Integer, key, index=True, server_default="1"))
        """,
        "ALTER TABLE bare ADD CONSTRAINT",
        "UPDATE t SET a = a WHERE id = 1",
    ),
    "column, key within": (
        """
        key = sa.ForeignKey("t.id")
        op.add_column("bare", sa.Column("t_id", sa.Integer, key), inline_references=True)
        """,
        "ALTER TABLE bare ADD COLUMN",
        "UPDATE t SET a = a WHERE id = 1",
    ),
}
SETUP = "CREATE TABLE hollow (id int)"


@pytest.mark.parametrize(("upgrade", "before", "locks"), quick(RETRIED, *[*RETRIED][::2]))
def test_the_second_attempt_has_the_same_result(
    project: Project, upgrade: str, before: str, locks: str
) -> None:
    project.database.execute(SETUP)
    project.revision(upgrade)
    project.upgrade(online=False)
    wanted, dumped = state(project.database), dump_schema(project.database)
    reset(project.database)
    project.database.execute(SETUP)
    blocker = Blocker(project.database, locks, before=before)
    project.upgrade(hooks=[blocker])
    assert blocker.times == 1
    found = state(project.database)
    assert (found - wanted, wanted - found) == (set(), set())
    assert dump_schema(project.database) == dumped


def test_objects_that_a_revision_uses_more_than_once(project: Project) -> None:
    """They are created when the file is imported, and a first pass reads the revision before it runs."""
    top = """
COLUMNS = [
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("t_id", sa.Integer, sa.ForeignKey("t.id", name="k_fk")),
    sa.CheckConstraint("id > 0", name="k_ck"),
    sa.Index("k_ix", "t_id"),
]
COLUMN = sa.Column("parent_id", sa.Integer, sa.ForeignKey("parent.id", name="bare_fk"))
"""
    project.revision('op.create_table("k", *COLUMNS)\nop.add_column("bare", COLUMN)', top=top)
    project.upgrade(online=False)
    wanted = state(project.database)
    reset(project.database)
    project.upgrade()
    assert state(project.database) == wanted
    assert versions(project.database) == ["r1"]
