"""A revision that looks at the database and is interrupted: the result of one transaction, or an error."""

from contextlib import suppress
from itertools import count

import pytest
from marks import quick
from online.project import Fault, Project, Stop, reset, state, versions

from alembic_online.errors import OnlineError

HAS = 'sa.inspect(op.get_bind()).has_table("u")'
COLUMNS = '[column["name"] for column in sa.inspect(op.get_bind()).get_columns("t")]'
U = 'sa.table("u", sa.column("id", sa.Integer), sa.column("v", sa.Uuid))'
REVISIONS = {
    "a guard around a table": f"""
if not {HAS}:
    op.create_table("u", sa.Column("id", sa.Integer), sa.Column("v", sa.Integer))
    op.create_index("u_idx", "u", ["v"])
    op.bulk_insert(sa.table("u", sa.column("id")), [{{"id": 1}}, {{"id": 2}}])
""",
    "a guard around a column": f"""
if "c" not in {COLUMNS}:
    op.add_column("t", sa.Column("c", sa.Integer))
    op.execute("UPDATE t SET c = id")
    op.alter_column("t", "c", nullable=False)
""",
    "a guard that does something else": f"""
if "c" in {COLUMNS}:
    op.drop_column("t", "c")
else:
    op.add_column("t", sa.Column("c", sa.Integer))
op.create_index("t_new_idx", "t", ["a"])
""",
    "a guard for each": f"""
if not {HAS}:
    op.create_table("u", sa.Column("id", sa.Integer))
if "c" not in {COLUMNS}:
    op.add_column("t", sa.Column("c", sa.Integer))
op.create_index("t_new_idx", "t", ["a"])
""",
    "a guard that was asked before": f"""
there = "c" in {COLUMNS}
op.add_column("t", sa.Column("c", sa.Integer), if_not_exists=True)
if not there:
    op.execute("UPDATE t SET c = id")
op.create_index("t_new_idx", "t", ["a"])
""",
    "a loop over rows": f"""
op.create_table("u", sa.Column("id", sa.Integer), sa.Column("v", sa.Uuid))
u = {U}
for row in op.get_bind().execute(sa.text("SELECT id FROM t WHERE id < 4")).all():
    op.execute(u.insert().values(id=row.id))
op.create_index("u_idx", "u", ["id"])
""",
    "a loop over rows, as text": """
op.create_table("u", sa.Column("id", sa.Integer))
for row in op.get_bind().execute(sa.text("SELECT id FROM t WHERE id < 4")).all():
    op.execute(f"INSERT INTO u VALUES ({row.id})")
op.create_index("u_idx", "u", ["id"])
""",
    "a loop over what is left": """
bare = sa.table("bare", sa.column("id", sa.Integer), sa.column("v", sa.Integer))
for number in op.get_bind().execute(sa.select(bare.c.id).where(bare.c.v.between(1, 4))).scalars().all():
    op.execute(sa.update(bare).where(bare.c.id == number).values(v=-number))
    op.execute("ANALYZE bare")
""",
    "chance": f"""
import uuid
u = {U}
op.create_table("u", sa.Column("id", sa.Integer), sa.Column("v", sa.Uuid))
op.bulk_insert(u, [{{"id": n, "v": uuid.uuid4()}} for n in range(3)])
op.execute(u.insert().values(id=4, v=uuid.uuid4()))
op.add_column("t", sa.Column("c", sa.Integer))
op.execute(u.insert().values(id=5, v=uuid.uuid4()))
op.create_index("u_idx", "u", ["id"])
""",
    "what it has just written": """
op.create_table("u", sa.Column("id", sa.Integer))
op.execute("INSERT INTO u SELECT id FROM t")
for (number,) in op.get_bind().execute(sa.text("SELECT id FROM u WHERE id < 4 ORDER BY id")).all():
    op.execute(f"UPDATE bare SET v = v + {number} WHERE id = {number}")
    op.execute("ANALYZE bare")
op.create_index("u_idx", "u", ["id"])
""",
    "a session": """
from sqlalchemy.orm import Session
bare = sa.Table("bare", sa.MetaData(), sa.Column("id", sa.Integer), sa.Column("v", sa.Integer))
op.add_column("t", sa.Column("c", sa.Integer))
session = Session(bind=op.get_bind())
top = session.execute(sa.select(sa.func.max(bare.c.id))).scalar()
op.execute(sa.update(bare).where(bare.c.id == top).values(v=-1))
session.close()
op.create_index("t_new_idx", "t", ["a"])
""",
    "two tables of one type": """
kind = sa.Enum("x", "y", name="st")
op.create_table("u", sa.Column("id", sa.Integer), sa.Column("kind", kind))
op.create_table("w", sa.Column("id", sa.Integer), sa.Column("kind", kind))
op.create_index("u_idx", "u", ["id"])
""",
    "rows and more rows": """
op.execute("INSERT INTO bare VALUES (-1, 1)")
op.execute("INSERT INTO bare VALUES (-2, 1)")
op.create_index("t_new_idx", "t", ["a"])
op.execute("UPDATE bare SET v = v + 1 WHERE id < 0")
op.execute("DELETE FROM bare WHERE id = 5")
op.add_column("t", sa.Column("c", sa.Integer))
op.execute("UPDATE bare SET v = v + 1 WHERE id < 0")
""",
}
# Those that may end with an error: they see what they have made themselves.
LOOK = {
    "a guard around a table",
    "a guard around a column",
    "a guard that does something else",
    "a guard that was asked before",
    "a loop over what is left",
}


def ends(project: Project, upgrade: str, *, kill: bool) -> list[str | None]:
    """Interrupt it before each of its changes, and run it again; return the errors, or None."""
    project.revision(upgrade)
    project.upgrade(online=False)
    wanted, found = state(project.database), list[str | None]()
    for number in count(1):
        reset(project.database)
        stop = Stop(number, kill=project.database if kill else None)
        with suppress(Exception):
            project.upgrade(hooks=[stop])
        if not stop.reached:
            break
        said = None
        try:
            project.upgrade()
        except OnlineError as error:
            said = str(error)
        after = state(project.database)
        assert said is not None or (after - wanted, wanted - after) == (set(), set()), stop.reached
        assert versions(project.database) == ([] if said else ["r1"])
        found.append(said)
    return found


@pytest.mark.parametrize("kill", quick({"stopped": False, "killed": True}))
@pytest.mark.parametrize(
    "name", quick([*REVISIONS], "a guard around a table", "chance", "two tables of one type")
)
def test_it_is_right_or_an_error(project: Project, name: str, kill: bool) -> None:
    found = ends(project, REVISIONS[name], kill=kill)
    assert None in found
    errors = {error for error in found if error is not None}
    assert bool(errors) == (name in LOOK)
    assert not [error for error in errors if "\n" in error or "restart" not in error]


def test_the_error_lists_what_is_left(project: Project) -> None:
    project.revision(REVISIONS["a guard around a table"])
    with pytest.raises(Fault):
        project.upgrade(hooks=[Stop(2, matching="COMMIT")])
    with pytest.raises(
        OnlineError, match="r1 is not stamped.*did not ask for.*CREATE INDEX u_idx.*insert into u"
    ):
        project.upgrade()
