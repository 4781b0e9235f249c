"""Drivers other than psycopg 3: each kind of step, errors of the server, interrupted runs."""

import re
from typing import Any

import psycopg
import pytest
from marks import quick
from online.cases import CASES, Case
from online.drivers import EACH_KIND, with_each
from online.project import Fault, Project, Stop, reset, state, terminate, versions
from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError

from alembic_online.errors import OnlineError

OF_STEPS = (
    r"BEGIN$",  # a separate transaction
    r"LOCK TABLE t IN",
    r"CREATE UNIQUE INDEX CONCURRENTLY",
    r"DROP INDEX CONCURRENTLY",
    r".* NOT VALID",
    r"ALTER TABLE t VALIDATE CONSTRAINT",
    r"UPDATE t .*'\(0,0\)'::tid",
)


class Statements:
    """The statements of a run."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __call__(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self._before)

    def _before(self, _connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        self.found.append(" ".join(statement.split()))


@with_each
def test_each_kind_of_step(driven: Project) -> None:
    driven.revision(EACH_KIND)
    statements = Statements()
    driven.upgrade(hooks=[statements])
    for begins in OF_STEPS:
        assert any(re.match(begins, statement) for statement in statements.found), begins
    found = state(driven.database)
    assert "11% :x" in str(found)
    reset(driven.database)
    driven.upgrade(online=False)
    wanted = state(driven.database)
    assert (found - wanted, wanted - found) == (set(), set())


@with_each
def test_an_operation_leaves_the_transaction_once(driven: Project) -> None:
    """Each time, the session's settings are read, changed and restored: several round trips."""
    column = 'op.add_column("t", sa.Column("u", sa.Uuid, server_default=sa.text("gen_random_uuid()")))'
    driven.revision(f'{column}\nop.create_index("t_new_idx", "t", ["a"])')
    statements = Statements()
    driven.upgrade(hooks=[statements])
    assert sum("current_setting('application_name'" in each for each in statements.found) == 2


@with_each
@pytest.mark.thorough
def test_a_query_on_both_sides_of_a_change(driven: Project) -> None:
    """A driver that keeps prepared statements must notice the change."""
    count = "columns.append(len(op.get_bind().execute(sa.text('SELECT * FROM t WHERE id = 1')).one()))"
    change = 'op.add_column("t", sa.Column("c", sa.Integer, server_default="1"))'
    say = "op.execute(\"COMMENT ON TABLE t IS '%s'\" % columns)"
    driven.revision(f"columns = []\n{count}\n{change}\n{count}\n{say}")
    driven.upgrade()
    comment = "SELECT obj_description('t'::regclass, 'pg_class')"
    assert driven.database.execute(comment).fetchone() == ("[7, 8]",)


@pytest.mark.thorough
@with_each
@pytest.mark.parametrize("case", list(CASES.values())[::8], ids=list(CASES)[::8])
def test_each_operation(driven: Project, case: Case) -> None:
    driven.revision(case.upgrade)
    driven.upgrade()
    found = state(driven.database)
    reset(driven.database)
    driven.upgrade(online=False)
    assert found == state(driven.database)


VIOLATED = {
    "unique": (
        'op.create_index("x", "t", ["a"], unique=True)',
        "index x was not built, because rows are not unique: Key (a)=(7) is duplicated. Remove the"
        " duplicates, then rerun",
    ),
    "foreign key": (
        'op.create_foreign_key("x", "t", "parent", ["a"], ["id"])',
        'x of t is violated: Key (a)=(77) is not present in table "parent".; it was dropped again. Fix the'
        " rows, then rerun",
    ),
    "check": (
        'op.create_check_constraint("x", "t", "a < 70")',
        'x of t is violated: check constraint "x" of relation "t" is violated by some row; it was dropped'
        " again. Fix the rows, then rerun",
    ),
}


@with_each
@pytest.mark.parametrize(("upgrade", "message"), quick(VIOLATED, "unique", "foreign key"))
def test_errors_of_the_server_about_rows(driven: Project, upgrade: str, message: str) -> None:
    driven.database.execute("UPDATE t SET a = CASE WHEN id = 9 THEN 77 WHEN id < 9 THEN 7 END")
    driven.revision(upgrade)
    before = {row for row in state(driven.database) if "alembic" not in str(row)}
    with pytest.raises(OnlineError) as error:
        driven.upgrade()
    assert str(error.value) == message
    assert {row for row in state(driven.database) if "alembic" not in str(row)} == before
    driven.database.execute("UPDATE t SET a = CASE WHEN id < 9 THEN id END")
    driven.upgrade()
    assert versions(driven.database) == ["r1"]


BIG = """
CREATE TABLE big (id int PRIMARY KEY, c int, pad text DEFAULT repeat('x', 200));
INSERT INTO big (id) SELECT generate_series(1, 5000)"""
FILL = """
big = sa.table("big", sa.column("id", sa.Integer), sa.column("c", sa.Integer))
op.backfill(sa.update(big).values(c=big.c.id % 10).where(big.c.c.is_(None)), what="rows")
"""
LEFT = "SELECT count(*) FROM big WHERE c IS DISTINCT FROM id % 10"


@with_each
@pytest.mark.parametrize("killed", quick({"process": True, "exception": False}))
def test_a_backfill_resumes_where_it_was_interrupted(driven: Project, killed: bool) -> None:
    driven.database.execute(BIG)
    driven.revision(FILL)
    matching = "UPDATE big" if killed else "COMMIT"
    stop = Stop(2, kill=driven.database if killed else None, matching=matching)
    with pytest.raises(DBAPIError if killed else Fault):
        driven.upgrade(hooks=[stop])
    (left,) = driven.database.execute(LEFT).fetchone() or (0,)
    assert 0 < left < 5000
    statements = Statements()
    driven.upgrade(hooks=[statements])
    assert driven.database.execute(LEFT).fetchone() == (0,)
    first = next(statement for statement in statements.found if statement.startswith("UPDATE big"))
    assert "'(0,0)'::tid" not in first
    assert versions(driven.database) == ["r1"]


@with_each
@pytest.mark.thorough
def test_a_backfill_in_one_transaction(driven: Project) -> None:
    """It drops the indexes and rebuilds them."""
    driven.database.execute(BIG + """; CREATE INDEX "Own: 5%" ON big (id) WHERE pad LIKE '%:x'""")
    driven.database.execute("""COMMENT ON INDEX "Own: 5%" IS '5% :x'""")
    before = state(driven.database)
    driven.revision(FILL)
    driven.upgrade(online=False)
    assert driven.database.execute(LEFT).fetchone() == (0,)
    assert {row for row in before if row[0] == "index"} <= state(driven.database)
    comment = """SELECT obj_description('"Own: 5%"'::regclass, 'pg_class')"""
    assert driven.database.execute(comment).fetchone() == ("5% :x",)


@pytest.mark.thorough
@with_each
def test_a_build_with_a_terminated_process(driven: Project) -> None:
    driven.revision('op.create_index("t_new_idx", "t", ["a"])')
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('t_new_idx')"
    with psycopg.connect(driven.url) as writer:
        writer.execute("UPDATE t SET a = a WHERE id = 1")
        run = driven.in_thread()
        terminate(driven.database, driven.waits("%INDEX CONCURRENTLY%"))
        with pytest.raises((DBAPIError, OnlineError)):
            run.end()
    assert driven.database.execute(valid).fetchone() == (False,)
    driven.upgrade()
    assert driven.database.execute(valid).fetchone() == (True,)


@pytest.mark.thorough
@with_each
def test_a_run_with_a_process_terminated_before_every_third_statement(driven: Project) -> None:
    """Each run ends three statements later than the previous one, and begins with the state that it left."""
    driven.revision(EACH_KIND)
    driven.upgrade(online=False)
    wanted = state(driven.database)
    reset(driven.database)
    number = 1
    while (stop := Stop(number, kill=driven.database)) is not None:
        try:
            driven.upgrade(hooks=[stop])
        except DBAPIError:
            assert stop.reached
            number += 3
            continue
        break
    assert number > 10
    found = state(driven.database)
    assert (found - wanted, wanted - found) == (set(), set())
