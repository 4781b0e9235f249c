"""op.execute and op.bulk_insert: executed once, and in the mode that fits the statement."""

import re

import pytest
from online.project import Project, reset, state, versions

from alembic_online import live
from alembic_online.errors import OnlineError


def count(project: Project) -> object:
    return project.database.execute("SELECT count(*) FROM bare WHERE id < 1").fetchone()


ONCE = """
op.execute("INSERT INTO bare VALUES (0, 0)")
op.execute(sa.text("INSERT INTO bare VALUES (0, :v)").bindparams(v=1))
op.execute("INSERT INTO bare VALUES (-1, 0)", execution_options={"online": "long"})
op.bulk_insert(sa.table("bare", sa.column("id")), [{"id": 0}, {"id": -1}])
"""


def test_finished_operations_are_not_repeated_after_an_error(project: Project) -> None:
    project.database.execute("UPDATE t SET a = NULL WHERE id = 3")
    project.revision(ONCE + 'op.alter_column("t", "a", nullable=False)')
    for _ in range(2):
        with pytest.raises(OnlineError, match="null values|is violated"):
            project.upgrade()
        assert count(project) == (5,)
        assert versions(project.database) == []
    project.database.execute("UPDATE t SET a = 3 WHERE id = 3")
    project.upgrade()
    assert count(project) == (5,)
    assert versions(project.database) == ["r1"]
    assert project.database.execute("SELECT to_regclass('alembic_version_journal')").fetchone() == (None,)


def test_two_revisions_with_the_same_statement(project: Project) -> None:
    project.revision('op.execute("INSERT INTO bare VALUES (0, 0)")')
    project.revision('op.execute("INSERT INTO bare VALUES (0, 0)")')
    project.upgrade()
    assert count(project) == (2,)


def test_a_statement_that_takes_long_is_cancelled(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "GUARD_SECONDS", 1)
    project.revision('op.execute("SELECT pg_sleep(6)")')
    with pytest.raises(OnlineError, match="ran 1 s under its lock and was cancelled.*op.backfill") as error:
        project.upgrade()
    assert """execution_options={"online": "long"}""" in str(error.value)
    assert "\n" not in str(error.value)
    assert versions(project.database) == []


def test_a_statement_that_may_take_long(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "GUARD_SECONDS", 1)
    project.revision('op.execute("SELECT pg_sleep(1.5)", execution_options={"online": "long"})')
    project.upgrade()
    assert versions(project.database) == ["r1"]


def test_an_unknown_mode(project: Project) -> None:
    project.revision('op.execute("SELECT 1", execution_options={"online": "quick"})')
    with pytest.raises(OnlineError, match="'quick'} is unknown; use"):
        project.upgrade()


def test_a_script_waits_for_the_tables_of_a_statement_with_a_weak_lock(project: Project) -> None:
    project.revision('op.execute("ALTER TABLE t ALTER COLUMN a SET DEFAULT 7")')
    script = re.sub(r"\n+", "\n", project.script())
    assert (
        "LOCK TABLE t IN SHARE UPDATE EXCLUSIVE MODE;\nSET LOCAL lock_timeout = '200ms';\nALTER TABLE t"
        in script
    )


STATEMENTS = {
    "setting": (
        "DROP SCHEMA IF EXISTS other CASCADE; CREATE SCHEMA other",
        """
        op.execute("SET search_path = other, public")
        op.create_table("there", sa.Column("id", sa.Integer))
        op.execute("RESET search_path")
        op.create_table("here", sa.Column("id", sa.Integer))
        """,
    ),
    "vacuum": ("", 'op.execute("VACUUM (ANALYZE) t")'),
    "index": ("", 'op.execute("-- why\\nCREATE INDEX CONCURRENTLY t_by_hand_idx ON t (a)")'),
    "reindex": ("", 'op.execute("REINDEX INDEX CONCURRENTLY t_a_idx")'),
    "materialized view": (
        "",
        """
        op.execute("CREATE MATERIALIZED VIEW sums AS SELECT a, count(*) FROM t GROUP BY a")
        op.create_index("sums_idx", "sums", ["a"], unique=True)
        op.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY sums")
        """,
    ),
    "validate": (
        "ALTER TABLE t ADD CONSTRAINT by_hand CHECK (a > 0) NOT VALID",
        'op.execute("ALTER TABLE t VALIDATE CONSTRAINT by_hand")',
    ),
    "enum": (
        "CREATE TYPE mood AS ENUM ('ok')",
        """
        op.execute("ALTER TYPE mood ADD VALUE IF NOT EXISTS 'fine'")
        op.add_column("t", sa.Column("c", postgresql.ENUM(name="mood", create_type=False)))
        op.execute("UPDATE t SET c = 'fine' WHERE id = 1")
        """,
    ),
    "function": (
        "",
        """
        op.execute("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 5 % 3 $$")
        op.execute("DO $$ BEGIN PERFORM 1; END $$")
        """,
    ),
    "own block": (
        "",
        """
        with op.get_context().autocommit_block():
            op.execute("CREATE INDEX CONCURRENTLY t_by_hand_idx ON t (a)")
            op.create_index("t_too_idx", "t", ["a"])
        """,
    ),
}


@pytest.mark.parametrize(("setup", "upgrade"), STATEMENTS.values(), ids=STATEMENTS)
def test_each_kind_of_statement(project: Project, setup: str, upgrade: str) -> None:
    project.database.execute(setup or "SELECT 1")
    project.revision(upgrade)
    project.upgrade()
    assert versions(project.database) == ["r1"]
    found = state(project.database)
    reset(project.database)
    project.database.execute("DROP SCHEMA IF EXISTS other CASCADE")
    project.database.execute(setup or "SELECT 1")
    result = project.run_script()
    assert result.returncode == 0, result.stderr
    assert state(project.database) == found
    project.database.execute("DROP SCHEMA IF EXISTS other CASCADE")
