"""A failed revision runs again: each operation is done once, even if the catalog does not show it."""

import logging
from typing import Any

import pytest
from marks import quick
from online.project import FIX, Fault, Project, Stop, both_ways, reset, state, versions
from sqlalchemy import MetaData
from sqlalchemy.exc import DBAPIError

from alembic_online.errors import OnlineError, first_line

FAILS = '\nop.execute("SELECT 1 / count(*) FROM parent WHERE id = 99")'

# After these operations, the catalog does not show which of them were done.
REVISIONS = {
    "a column recreated": """
t = sa.table("t", sa.column("a", sa.BigInteger), sa.column("kept", sa.BigInteger))
op.add_column("t", sa.Column("kept", sa.Integer))
op.backfill(sa.update(t).values(kept=t.c.a).where(t.c.kept.is_(None)), what="rows kept")
op.drop_column("t", "a")
op.add_column("t", sa.Column("a", sa.BigInteger))
op.backfill(sa.update(t).values(a=t.c.kept).where(t.c.a.is_(None)), what="rows brought back")
op.drop_column("t", "kept")
""",
    "a column of another type": """
op.drop_column("t", "a")
op.add_column("t", sa.Column("a", sa.Text))
t = sa.table("t", sa.column("a", sa.Text), sa.column("b", sa.Text))
op.backfill(sa.update(t).values(a=t.c.b).where(t.c.a.is_(None)), what="rows filled")
""",
    "a table exchanged": """
op.create_table("bare_new", sa.Column("id", sa.BigInteger), sa.Column("v", sa.Integer))
op.execute("INSERT INTO bare_new SELECT id, v FROM bare")
op.drop_table("bare")
op.rename_table("bare_new", "bare")
""",
    "a table recreated": """
op.drop_table("bare")
op.create_table("bare", sa.Column("id", sa.BigInteger), sa.Column("v", sa.Integer))
op.bulk_insert(sa.table("bare", sa.column("id")), [{"id": 1}, {"id": 2}])
""",
    "an identity": """
op.alter_column("bare", "id", nullable=False)
op.alter_column("bare", "id", server_default=sa.Identity())
""",
    "a setting and a statement": 'op.execute("SET jit = off; INSERT INTO bare VALUES (0, 0)")',
    "a temporary table": """
op.execute("CREATE TEMP TABLE passing AS SELECT 5 AS id")
op.add_column("t", sa.Column("c", sa.Integer))
op.execute("SELECT 1 / count(*) FROM parent WHERE id = 99")
op.execute("UPDATE t SET c = passing.id FROM passing")
op.execute("DROP TABLE passing")
""",
}
of_each = pytest.mark.parametrize("upgrade", quick(REVISIONS, *[*REVISIONS][::2]))


def failed(project: Project, upgrade: str) -> Any:
    """Return the expected final state of the revision, after a first run that failed."""
    project.revision(upgrade + FAILS)
    project.database.execute(FIX)
    project.upgrade(online=False)
    wanted = state(project.database)
    reset(project.database)
    with pytest.raises(DBAPIError, match="division by zero"):
        project.upgrade()
    assert versions(project.database) == []
    project.database.execute(FIX)
    return wanted


@of_each
@pytest.mark.parametrize("online", quick({"online": True, "default": False}))
def test_the_next_run_finishes_it(
    project: Project, caplog: pytest.LogCaptureFixture, upgrade: str, online: bool
) -> None:
    """Online in both cases: in one transaction, finished operations would be repeated."""
    caplog.set_level(logging.INFO, "alembic.online")
    wanted = failed(project, upgrade)
    project.upgrade(online=online)
    found = state(project.database)
    assert (found - wanted, wanted - found) == (set(), set())
    assert ("r1 was begun online and is finished online" in caplog.text) is not online


def test_the_following_revision_is_not_finished_online(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alembic.online")
    failed(project, REVISIONS["a table recreated"])
    project.revision('op.rename_table("t", "u")')  # refused online
    project.upgrade(online=False)
    assert versions(project.database) == ["r2"]
    assert "r2 was" not in caplog.text


def test_online_false_skips_finished_operations(project: Project) -> None:
    """An operation after a read of the revision's own changes is refused in the middle of the revision."""
    upgrade = """
op.create_table("fresh", sa.Column("id", sa.Integer))
op.execute("INSERT INTO fresh VALUES (1)")
op.add_column("t", sa.Column("c", sa.Integer))
assert op.get_bind().execute(sa.text("SELECT count(*) FROM fresh")).scalar() == 1
op.rename_table("parent", "parents")
"""
    project.revision(upgrade, top="online = False")
    project.upgrade()
    wanted = state(project.database)
    reset(project.database)
    path = project.path / "versions" / "r1.py"
    text = path.read_text()
    path.write_text(text.replace("online = False", ""))
    with pytest.raises(OnlineError, match="stopped here.*put online = False at the top"):
        project.upgrade()
    path.write_text(text)
    for online in (False, True):
        stop = Stop(1, matching="ALTER TABLE parent")
        with pytest.raises(Fault):  # the one transaction may fail, too
            project.upgrade(online=online, hooks=[stop])
    project.upgrade(online=False)
    assert state(project.database) == wanted


def test_a_stamp_deletes_the_journal(project: Project) -> None:
    from alembic import command

    failed(project, REVISIONS["a table recreated"])
    command.stamp(project.config(online=False), "head")
    assert project.database.execute("SELECT to_regclass('alembic_version_journal')").fetchone() == (None,)


OTHERS = {
    "a table": "CREATE TABLE alembic_version_journal (step text, digest text); INSERT INTO"
    " alembic_version_journal VALUES ('upgrade r1', 'mine')",
    "one more column": "CREATE TABLE alembic_version_journal (step text, digest text, number int,"
    " state jsonb, mine text); INSERT INTO alembic_version_journal VALUES ('upgrade r1', '', 1, '{}', '')",
    "without columns": "CREATE TABLE alembic_version_journal ()",
    "a view": "CREATE VIEW alembic_version_journal AS SELECT ''::text AS step, ''::text AS digest, 1 AS"
    " number, '{}'::jsonb AS state",
}


@pytest.mark.parametrize("how", ["upgrade", "stamp"])
@pytest.mark.parametrize("online", [True, False], ids=["online", "default"])
@pytest.mark.parametrize("other", quick(OTHERS))
def test_another_object_with_the_journals_name_is_kept(
    project: Project, other: str, online: bool, how: str
) -> None:
    from alembic import command

    project.revision('op.add_column("t", sa.Column("c", sa.Integer))')
    project.database.execute(other)
    before = state(project.database)
    if not online:
        getattr(command, how)(project.config(online=False), "head")
        assert versions(project.database) == ["r1"]
        after = state(project.database)
        assert {row for row in before if "alembic_version_journal" in str(row)} <= after
        return
    with pytest.raises(OnlineError, match="alembic_version_journal already exists.* rename it, then rerun"):
        getattr(command, how)(project.config(online=True), "head")
    assert state(project.database) == before
    kind = "VIEW" if "VIEW" in other else "TABLE"
    project.database.execute(f"ALTER {kind} alembic_version_journal RENAME TO mine")
    project.upgrade()
    assert versions(project.database) == ["r1"]


ERRORS = {
    "drop table": 'op.drop_table("misspelt")',
    "drop column": 'op.drop_column("t", "misspelt")',
    "drop index": 'op.drop_index("misspelt", table_name="t")',
    "drop constraint": 'op.drop_constraint("misspelt", "t", type_="check")',
    "rename table": 'op.rename_table("misspelt", "u")',
    "alter column": 'op.alter_column("t", "misspelt", server_default="1")',
    "create table": 'op.create_table("bare", sa.Column("id", sa.Integer))',
    "add column": 'op.add_column("t", sa.Column("a", sa.Integer, server_default="1"))',
    "add column, volatile": """
op.add_column("t", sa.Column("a", sa.Uuid, server_default=sa.text("gen_random_uuid()")))
""",
}


@pytest.mark.parametrize("upgrade", ERRORS.values(), ids=ERRORS)
def test_an_error_in_one_transaction_is_an_error_online(project: Project, upgrade: str) -> None:
    """Also in a second run: only the objects of begun operations may already exist or be dropped."""
    project.revision(upgrade)
    with pytest.raises(DBAPIError) as wanted:
        project.upgrade(online=False)
    before = {row for row in state(project.database) if "alembic" not in str(row)}
    for _ in range(2):
        with pytest.raises(DBAPIError) as found:
            project.upgrade()
        assert first_line(found.value) == first_line(wanted.value)
        assert {row for row in state(project.database) if "alembic" not in str(row)} == before


LENIENT = {
    "drop table": 'op.drop_table("misspelt", if_exists=True)',
    "drop column": 'op.drop_column("t", "misspelt", if_exists=True)',
    "drop index": 'op.drop_index("misspelt", table_name="t", if_exists=True)',
    "drop constraint": 'op.drop_constraint("misspelt", "t", type_="check", if_exists=True)',
    "create table": """
op.create_table("bare", sa.Column("id", sa.Integer, comment="new"), comment="bare", if_not_exists=True)
""",
    "create index": 'op.create_index("t_a_idx", "t", ["b"], if_not_exists=True)',
    "add column": """
op.add_column(
    "t", sa.Column("b", sa.Integer, nullable=False, server_default="1", index=True, comment="b"),
    if_not_exists=True,
)
""",
}


@pytest.mark.parametrize("upgrade", LENIENT.values(), ids=LENIENT)
def test_if_exists_means_the_same(project: Project, upgrade: str) -> None:
    project.revision(upgrade)
    project.upgrade(online=False)
    wanted = state(project.database)
    reset(project.database)
    project.upgrade()
    assert state(project.database) == wanted


CONSTRAINTS = {
    "check": 'op.create_check_constraint("x", "t", "a > 0")',
    "foreign key": """
op.create_foreign_key("x", "t", "parent", ["parent_id"], ["id"], ondelete="CASCADE", deferrable=True)
""",
    "unique": 'op.create_unique_constraint("x", "t", ["a", "id"])',
}


@pytest.mark.parametrize("upgrade", CONSTRAINTS.values(), ids=CONSTRAINTS)
def test_an_identical_constraint_that_already_exists_is_kept(project: Project, upgrade: str) -> None:
    project.revision(upgrade)
    project.upgrade(online=False)
    wanted = state(project.database)
    project.database.execute("DROP TABLE alembic_version")
    project.upgrade()
    assert state(project.database) == wanted


CONVENTION = MetaData(
    naming_convention={"ck": "ck_%(table_name)s_%(constraint_name)s", "ix": "ix_%(column_0_label)s"}
)


def test_names_of_a_convention_and_names_that_are_too_long(project: Project) -> None:
    long = "a_column_whose_name_is_so_long_that_its_index_has_to_have_another"
    project.revision(
        f"""
        op.create_check_constraint("a", "t", "a > 0")
        op.add_column("t", sa.Column("{long[:60]}", sa.Integer, index=True))
        """
    )
    project.revision('op.drop_constraint("a", "t", type_="check")')
    found = both_ways(project, configure={"target_metadata": CONVENTION})
    assert found[0] == found[1]
