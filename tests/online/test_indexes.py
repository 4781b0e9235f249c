"""Indexes: left by an interrupted build, different from the requested ones, or impossible to build."""

from typing import Any

import psycopg
import pytest
from databases import Database
from marks import quick
from online.project import Project, state
from psycopg.errors import UniqueViolation
from sqlalchemy.exc import DBAPIError

from alembic_online.errors import OnlineError
from alembic_online.operations.rename_index import RenameIndexOp

UNIQUE = 'op.create_index("t_a_key", "t", ["a"], unique=True)'
CONSTRAINT = 'op.create_unique_constraint("t_a_key", "t", ["a"])'

either = pytest.mark.parametrize("upgrade", [UNIQUE, CONSTRAINT], ids=["index", "constraint"])


def indexes(database: Database) -> list[Any]:
    return database.execute(
        "SELECT indexrelid::regclass::text, indisvalid, indisunique FROM pg_index"
        " WHERE indrelid = 't'::regclass ORDER BY 1"
    ).fetchall()


BEFORE = [("t_a_idx", True, False), ("t_pkey", True, True)]
AFTER = [BEFORE[0], ("t_a_key", True, True), BEFORE[1]]


@either
def test_an_invalid_index_is_rebuilt(project: Project, upgrade: str) -> None:
    project.database.execute("UPDATE t SET a = 7 WHERE id = 8")
    with pytest.raises(UniqueViolation):
        project.database.execute("CREATE UNIQUE INDEX CONCURRENTLY t_a_key ON t (a)")
    assert ("t_a_key", False, True) in indexes(project.database)
    project.database.execute("UPDATE t SET a = 8 WHERE id = 8")
    project.revision(upgrade)
    project.upgrade()
    assert indexes(project.database) == AFTER


@either
def test_duplicates_are_reported_and_nothing_is_left(project: Project, upgrade: str) -> None:
    project.database.execute("UPDATE t SET a = 7 WHERE id = 8")
    project.revision(upgrade)
    with pytest.raises(OnlineError, match=r"index t_a_key was not built.*\(a\)=\(7\) is duplicated") as error:
        project.upgrade()
    assert "\n" not in str(error.value)
    assert indexes(project.database) == BEFORE
    project.database.execute("UPDATE t SET a = 8 WHERE id = 8")
    project.upgrade()
    assert indexes(project.database) == AFTER


@pytest.mark.parametrize(
    "other",
    quick(
        [
            "CREATE INDEX t_a_key ON bare (v)",
            "CREATE UNIQUE INDEX t_a_key ON child (id)",
            "CREATE INDEX t_a_key ON t (a)",
            "CREATE UNIQUE INDEX t_a_key ON t (id)",
            "CREATE UNIQUE INDEX t_a_key ON t (a) WHERE a > 5",
            "CREATE UNIQUE INDEX t_a_key ON t (a DESC)",
        ],
        *("CREATE INDEX t_a_key ON bare (v)", "CREATE UNIQUE INDEX t_a_key ON t (id)"),
    ),
)
@either
def test_another_index_with_the_name(project: Project, upgrade: str, other: str) -> None:
    project.database.execute(other)
    project.revision(upgrade)
    found = {row for row in state(project.database) if row[0] == "index"}
    with pytest.raises(OnlineError, match="index t_a_key already exists as .*; rename or drop it") as error:
        project.upgrade()
    assert "\n" not in str(error.value)
    assert {
        row for row in state(project.database) if "alembic" not in str(row) and row[0] == "index"
    } == found


@pytest.mark.parametrize(
    ("other", "upgrade"),
    [
        ("CHECK (a > 5)", 'op.create_check_constraint("x", "t", "a > 0")'),
        ("FOREIGN KEY (a) REFERENCES t", 'op.create_foreign_key("x", "t", "parent", ["parent_id"], ["id"])'),
        (
            "FOREIGN KEY (parent_id) REFERENCES t",
            'op.create_foreign_key("x", "t", "parent", ["parent_id"], ["id"])',
        ),
        ("UNIQUE (b)", 'op.create_unique_constraint("x", "t", ["a"])'),
        ("CHECK (a > 0)", 'op.create_unique_constraint("x", "t", ["a"])'),
    ],
)
def test_another_constraint_with_the_name(project: Project, other: str, upgrade: str) -> None:
    project.database.execute(
        f"ALTER TABLE t ADD CONSTRAINT x {other} NOT VALID"
        if "UNI" not in other
        else f"ALTER TABLE t ADD CONSTRAINT x {other}"
    )
    project.revision(upgrade)
    with pytest.raises(OnlineError, match="constraint x of t already exists as .*; rename or drop it"):
        project.upgrade()


@pytest.mark.parametrize("upgrade", [UNIQUE, CONSTRAINT, 'op.drop_index("t_a_idx", table_name="t")'])
def test_the_server_process_is_terminated_during_it(project: Project, upgrade: str) -> None:
    """While it waits for a writer: the index is left invalid, and the next run repairs it."""
    project.revision(upgrade)
    with psycopg.connect(project.url) as writer:
        writer.execute("UPDATE t SET a = a WHERE id = 1")
        run = project.in_thread()
        pid = project.waits("%INDEX CONCURRENTLY%")
        writer.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        with pytest.raises((DBAPIError, OnlineError)):
            run.end()
        assert [name for name, valid, _ in indexes(project.database) if not valid]
    project.upgrade()
    assert [name for name, valid, _ in indexes(project.database) if not valid] == []
    assert len(indexes(project.database)) == (3 if "key" in upgrade else 1)


def test_an_identical_index_that_already_exists_is_kept(project: Project) -> None:
    project.database.execute("CREATE UNIQUE INDEX t_a_key ON t (a)")
    before = project.database.execute("SELECT 't_a_key'::regclass::oid").fetchone()
    project.revision(CONSTRAINT)
    project.upgrade()
    assert (
        project.database.execute("SELECT conindid FROM pg_constraint WHERE conname = 't_a_key'").fetchone()
        == before
    )


@pytest.mark.parametrize("online", [True, False])
def test_renaming_a_missing_index(project: Project, online: bool) -> None:
    project.revision('op.rename_index("misspelt", "x", schema="public", if_exists=True)')
    project.upgrade(online=online)
    project.revision('op.rename_index("misspelt", "x")')
    with pytest.raises(DBAPIError, match='relation "misspelt" does not exist'):
        project.upgrade(online=online)


def test_renaming_an_index_blocks_nobody(project: Project) -> None:
    project.revision('plugin.rename_index("t_a_idx", "t_renamed_idx")')
    with psycopg.connect(project.url) as other:
        other.execute("SELECT FROM t WHERE a = 1")
        other.execute("UPDATE t SET a = a WHERE id = 1")
        project.upgrade(lock_wait=5.0)
    assert (
        RenameIndexOp("a", "b", schema="s").reverse().__dict__ == RenameIndexOp("b", "a", schema="s").__dict__
    )
