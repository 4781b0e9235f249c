"""Failed operations leave nothing behind: rows violate a constraint, or dependent objects prevent a drop."""

import pytest
from marks import quick
from online.project import Project, both_ways, reset, state, versions
from sqlalchemy.exc import DBAPIError

from alembic_online.errors import OnlineError

CONSTRAINTS = {
    "check": (
        'op.create_check_constraint("x", "t", "a > 5")',
        'x of t is violated: check constraint "x" of .* is violated by some row; it was dropped again',
    ),
    "foreign key": (
        'op.create_foreign_key("x", "t", "parent", ["a"], ["id"])',
        r'x of t is violated: Key \(a\)=\(\d+\) is not present in table "parent".; it was dropped again',
    ),
    "not null": (
        'op.alter_column("t", "parent_id", nullable=False)',
        "of t is violated: .*; it was dropped again",
    ),
}


@pytest.mark.parametrize(("upgrade", "message"), CONSTRAINTS.values(), ids=CONSTRAINTS)
def test_a_constraint_that_rows_violate_is_dropped(project: Project, upgrade: str, message: str) -> None:
    """Otherwise programs could no longer write rows as before."""
    project.database.execute("UPDATE t SET parent_id = NULL WHERE id = 7")
    project.revision(upgrade)
    before = {row for row in state(project.database) if "alembic" not in str(row)}
    for _ in range(2):
        with pytest.raises(OnlineError, match=message) as error:
            project.upgrade()
        assert "\n" not in str(error.value)
        assert {row for row in state(project.database) if "alembic" not in str(row)} == before
    project.database.execute("UPDATE t SET parent_id = 1, a = 6 WHERE id = id")
    project.database.execute("INSERT INTO t (id, a, parent_id) VALUES (100, 10, 1)")
    project.upgrade()
    assert versions(project.database) == ["r1"]


def test_a_constraint_that_existed_before_is_kept(project: Project) -> None:
    project.database.execute("ALTER TABLE t ADD CONSTRAINT x CHECK (a > 5) NOT VALID")
    project.revision(CONSTRAINTS["check"][0])
    with pytest.raises(OnlineError, match="it existed before and stays NOT VALID"):
        project.upgrade()
    assert project.database.execute("SELECT FROM pg_constraint WHERE conname = 'x'").fetchall() == [()]


def test_the_comment_of_a_check_stays(project: Project) -> None:
    project.revision('op.alter_column("t", "code", type_=sa.String(9))')
    comment = "COMMENT ON CONSTRAINT t_code_check ON t IS 'it''s 5% :x'"
    found = both_ways(
        project,
        comment,
        lambda database: database.execute(
            "SELECT obj_description(oid, 'pg_constraint') FROM pg_constraint WHERE conname = 't_code_check'"
        ).fetchall(),
    )
    assert found == ([("it's 5% :x",)], [("it's 5% :x",)])


DEPENDENTS = {
    "foreign key": (
        "CREATE TABLE u (v int); CREATE UNIQUE INDEX ON t (parent_id, id);"
        "ALTER TABLE u ADD w int, ADD CONSTRAINT u_fkey FOREIGN KEY (w, v) REFERENCES t (parent_id, id)",
        "constraint u_fkey on table u",
    ),
    "generated column": (
        "ALTER TABLE t ADD g int GENERATED ALWAYS AS (parent_id + 1) STORED",
        "g of table t",
    ),
    "view": ("CREATE VIEW seen AS SELECT parent_id FROM t", "view seen"),
    "materialized view": (
        "CREATE MATERIALIZED VIEW seen AS SELECT parent_id FROM t",
        "materialized view seen",
    ),
    "trigger": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER stamp AFTER UPDATE OF parent_id ON t EXECUTE FUNCTION f()",
        "trigger stamp on table t",
    ),
    "function": ("CREATE FUNCTION f(t) RETURNS int LANGUAGE sql AS 'SELECT 1'", "function f"),
    "child": ("CREATE TABLE kid () INHERITS (t)", "table kid"),
}
OWN_FOREIGN_KEY = """
ALTER TABLE t ADD CONSTRAINT t_parent_fkey FOREIGN KEY (parent_id) REFERENCES parent;
CREATE INDEX t_parent_idx ON t (parent_id);
ALTER TABLE child DROP CONSTRAINT child_t_fkey;
"""


@pytest.mark.parametrize("upgrade", ['op.drop_column("t", "parent_id")', 'op.drop_table("t")'])
@pytest.mark.parametrize(("setup", "name"), quick(DEPENDENTS, *list(DEPENDENTS)[::3]))
def test_dependent_objects_are_found_before_anything_is_dropped(
    project: Project, setup: str, name: str, upgrade: str
) -> None:
    project.revision(upgrade)
    project.database.execute(OWN_FOREIGN_KEY + setup)
    before = {row for row in state(project.database) if "alembic" not in str(row)}
    try:
        project.upgrade(online=False)
    except DBAPIError:
        with pytest.raises(OnlineError, match=f"cannot be dropped: .*{name}.* depends? on it") as error:
            project.upgrade()
        assert "\n" not in str(error.value)
        assert {row for row in state(project.database) if "alembic" not in str(row)} == before
    else:  # PostgreSQL drops the other object, too, or there is no dependency
        wanted = state(project.database)
        reset(project.database)
        project.database.execute("DROP FUNCTION IF EXISTS f; " + OWN_FOREIGN_KEY + setup)
        project.upgrade()
        assert state(project.database) == wanted
