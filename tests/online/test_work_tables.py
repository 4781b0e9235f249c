"""Work tables of a revision: recreated if an operator has dropped them, and kept otherwise."""

import logging

import pytest
from marks import quick
from online.project import FIX, Project, reset, state, versions
from sqlalchemy.exc import DBAPIError

from alembic_online.errors import OnlineError

FAILS = 'op.execute("SELECT 1 / count(*) FROM parent WHERE id = 99")\n'
T = 't = sa.table("t", sa.column("id", sa.Integer), sa.column("filled", sa.Integer))\n'
WORK = T + 'work = sa.table("work", sa.column("id", sa.Integer), sa.column("v", sa.Integer))\n'
FILL = """
op.backfill(
    sa.update(t).values(filled=work.c.v).where(t.c.id == work.c.id, t.c.filled != work.c.v),
    what="rows filled", over=work,
)
"""
MADE = {
    "by a statement": """
op.execute("CREATE UNLOGGED TABLE work AS SELECT id, a * 10 AS v FROM t")
op.execute("CREATE INDEX work_idx ON public.work (id)", execution_options={"online": "long"})
""",
    "by several statements": """
op.execute("CREATE TABLE work (id int, v int); CREATE TABLE other (id int)")
op.execute("INSERT INTO work SELECT id, a * 10 FROM t")
op.create_index("work_idx", "work", ["id"])
""",
    "by an operation": """
op.create_table("work", sa.Column("id", sa.Integer), sa.Column("v", sa.Integer))
op.bulk_insert(work, [{"id": n, "v": n * 10} for n in range(1, 51)])
op.create_unique_constraint("work_key", "work", ["id"])
""",
    "by a function": """
op.execute("SELECT make_work()")
""",
}
SETUP = """
CREATE FUNCTION make_work() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    CREATE TABLE work AS SELECT id, a * 10 AS v FROM t; END $$"""
ONCE = 'op.execute("UPDATE bare SET v = bare.v + 1 FROM work WHERE bare.id = work.id")\n'


@pytest.mark.parametrize("place", quick(["before the backfill", "after the backfill", "in the second pass"]))
@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_dropped_work_tables_are_recreated(
    project: Project, caplog: pytest.LogCaptureFixture, made: str, place: str
) -> None:
    parts = [made, ONCE, FILL]
    if place == "in the second pass":
        drops = 'op.execute("DROP TABLE IF EXISTS other, work")\n'
        upgrade = WORK + made + FILL + drops + made + ONCE + FAILS + FILL + drops
    else:
        parts.insert(2 if place == "before the backfill" else 3, FAILS)
        upgrade = WORK + "".join(parts)
    project.revision(upgrade)
    project.database.execute(f"{SETUP}; {FIX}")
    project.upgrade(online=False)
    wanted = state(project.database)
    reset(project.database)
    project.database.execute(SETUP)
    with pytest.raises(DBAPIError, match="division by zero"):
        project.upgrade()
    assert "r1 is not finished; keep these tables for the next run: " in caplog.text
    assert "public.work" in caplog.text
    tables = "work, other" if "other" in made else "work"
    project.database.execute(f"DROP TABLE {tables}; {FIX}; UPDATE t SET filled = -1 WHERE id = 7")
    project.upgrade()
    found = state(project.database)
    assert (found - wanted, wanted - found) == (set(), set())


def test_existing_work_tables_are_kept(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "alembic.online")
    project.revision(WORK + MADE["by a statement"] + FAILS + FILL)
    with pytest.raises(DBAPIError, match="division by zero"):
        project.upgrade()
    project.database.execute(f"{FIX}; UPDATE work SET v = 7")
    project.upgrade()
    assert project.database.execute("SELECT DISTINCT filled FROM t").fetchall() == [(7,)]
    assert "recreating" not in caplog.text


@pytest.mark.parametrize("online", [True, False])
@pytest.mark.parametrize(
    "upgrade",
    [
        WORK + FILL,
        WORK + FILL.replace(", over=work", ""),
        'x = sa.table("x", sa.column("a", sa.Integer))\n'
        'op.backfill(sa.update(x).values(a=1).where(x.c.a == 0), what="rows")',
    ],
    ids=["over", "joined", "filled"],
)
def test_a_backfill_needs_its_tables(project: Project, upgrade: str, online: bool) -> None:
    project.database.execute("TRUNCATE t CASCADE")
    project.revision(upgrade)
    with pytest.raises((OnlineError, DBAPIError), match='needs table (work|x) |relation "(work|x)" does not'):
        project.upgrade(online=online)
    assert versions(project.database) == []
