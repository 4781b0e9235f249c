"""An interrupted revision that queries the database: the result of one transaction, or an error."""

import logging
import textwrap
from contextlib import suppress
from itertools import count

import pytest
from alembic import command
from marks import quick
from online.project import FIX, REVISION, Fault, Project, Stop, reset, state, versions
from sqlalchemy.exc import DBAPIError

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
    "a guard evaluated before": f"""
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
    "random values": f"""
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
    "rows that depend on rows": """
op.create_table("u", sa.Column("id", sa.Integer))
op.execute("INSERT INTO u SELECT generate_series(1, 10)")
n = op.get_bind().scalar(sa.text("SELECT count(*) FROM u"))
if n:
    op.execute(f"INSERT INTO u VALUES (100 + {n})")
op.create_index("u_idx" if n == 10 else "u_other_idx", "u", ["id"])
op.create_index("t_new_idx", "t", ["a"])
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
# Those that may end with an error, because they query what they have created.
LOOK = {
    "a guard around a table",
    "a guard around a column",
    "a guard that does something else",
    "a guard evaluated before",
    "a loop over what is left",
    "rows that depend on rows",
}


def ends(project: Project, upgrade: str, *, kill: bool) -> list[str | None]:
    """Interrupt it before every third of its changes, and run it again; return the errors, or None.

    With ``kill``, its process is terminated instead.
    """
    project.revision(upgrade)
    project.upgrade(online=False)
    wanted, found = state(project.database), list[str | None]()
    for number in count(2 if kill else 1, 3):
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


@pytest.mark.parametrize("name", quick([*REVISIONS], "a guard around a table"))
def test_the_result_is_correct_or_an_error(project: Project, name: str) -> None:
    found = ends(project, REVISIONS[name], kill=False)
    assert None in found
    errors = {error for error in found if error is not None}
    assert bool(errors) == (name in LOOK)
    assert not [error for error in errors if "\n" in error or "restart" not in error]


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["a guard around a column"])
def test_a_terminated_process(project: Project, name: str) -> None:
    assert None in ends(project, REVISIONS[name], kill=True)


def test_the_error_lists_what_remains(project: Project) -> None:
    project.revision(REVISIONS["a guard around a table"])
    with pytest.raises(Fault):
        project.upgrade(hooks=[Stop(2, matching="COMMIT")])
    with pytest.raises(
        OnlineError, match="r1 is not stamped.*skipped operations.*CREATE INDEX u_idx.*insert into u"
    ):
        project.upgrade()


INTERRUPTED = """
op.add_column("t", sa.Column("c", sa.Integer))
op.execute("INSERT INTO bare VALUES (-1, 0)")
op.create_index("t_new_idx", "t", ["a"])
op.create_check_constraint("t_c_check", "t", "c > 0")
op.execute("SELECT 1 / count(*) FROM parent WHERE id = 99")
"""
FAILS = 'op.execute("SELECT 1 / count(*) FROM parent WHERE id = 99")'


def interrupted(project: Project, upgrade: str = INTERRUPTED) -> None:
    project.revision(upgrade)
    with pytest.raises(DBAPIError, match="division by zero"):
        project.upgrade()
    project.database.execute(FIX)


GONE = {
    "column": ("ALTER TABLE t DROP c", "column c of t, constraint t_c_check of t"),
    "index": ("DROP INDEX t_new_idx", "index t_new_idx of t"),
    "constraint": ("ALTER TABLE t DROP CONSTRAINT t_c_check", "constraint t_c_check of t"),
}


@pytest.mark.parametrize(("change", "what"), quick(GONE))
def test_missing_objects_are_named(project: Project, change: str, what: str) -> None:
    interrupted(project)
    project.database.execute(change)
    for _ in range(2):
        with pytest.raises(
            OnlineError, match=f"objects that it created no longer exist: {what}; restore them"
        ) as error:
            project.upgrade()
        assert "-x online=restart" in str(error.value)
        assert versions(project.database) == []


@pytest.mark.thorough
def test_an_object_dropped_by_a_later_operation_is_not_missing(project: Project) -> None:
    interrupted(
        project,
        """
        op.add_column("t", sa.Column("c", sa.Integer, index=True))
        op.create_index("x_idx", "t", ["c"])
        op.rename_index("x_idx", "y_idx")
        op.create_table("u", sa.Column("id", sa.Integer))
        op.add_column("u", sa.Column("c", sa.Integer))
        op.rename_table("u", "w")
        op.create_unique_constraint("w_key", "w", ["c"])
        op.drop_constraint("w_key", "w")
        op.drop_column("t", "c")
        op.add_column("t", sa.Column("d", sa.Integer))
        op.execute("ALTER TABLE t RENAME COLUMN d TO e")
        """
        + "op.execute('SELECT 1 / count(*) FROM parent WHERE id = 99')",
    )
    project.upgrade()
    assert versions(project.database) == ["r1"]


def test_it_can_be_restarted(project: Project) -> None:
    interrupted(project)
    undone = "ALTER TABLE t DROP c; DROP INDEX t_new_idx"
    project.database.execute(undone)
    with pytest.raises(
        OnlineError, match="these statements would run twice: INSERT INTO bare VALUES .-1, 0.; undo"
    ):
        project.upgrade(options=["online=restart"])
    project.database.execute("DELETE FROM bare WHERE id = -1")
    project.upgrade(options=["online=restart-with-rows"])
    found = state(project.database)
    reset(project.database)
    project.database.execute(FIX)
    project.upgrade(online=False)
    assert state(project.database) == found


@pytest.mark.thorough
def test_nothing_to_restart(project: Project) -> None:
    project.revision('op.add_column("t", sa.Column("c", sa.Integer))')
    project.upgrade(options=["online=restart"])
    assert versions(project.database) == ["r1"]


def test_a_run_of_an_older_version(project: Project) -> None:
    project.database.execute(
        "CREATE TABLE alembic_version_journal (step text, digest text, number int, state jsonb,"
        " PRIMARY KEY (step, digest, number));"
        "INSERT INTO alembic_version_journal VALUES ('upgrade r1', md5('x'), 1, '{\"column\": true}')"
    )
    project.revision('op.add_column("t", sa.Column("c", sa.Integer))')
    before = state(project.database)
    for online in (True, False):
        with pytest.raises(
            OnlineError, match="r1 was begun by an older version of alembic_online: finish it"
        ):
            project.upgrade(online=online)
    assert state(project.database) - before == set()
    project.upgrade(options=["online=restart"])
    assert versions(project.database) == ["r1"]


def test_its_output_is_printed_once(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    project.revision('print("once")\nop.add_column("t", sa.Column("c", sa.Integer))')
    project.upgrade()
    assert capsys.readouterr().out == "once\n"


def test_writes_through_get_bind_are_reported(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "alembic.online")
    interrupted(
        project,
        """
        op.get_bind().execute(sa.text("UPDATE bare SET v = v + 1"))
        op.add_column("t", sa.Column("c", sa.Integer))
        op.execute("SELECT 1 / count(*) FROM parent WHERE id = 99")
        """,
    )
    said = "r1 writes through op.get_bind(); an earlier run may already have done this: UPDATE bare SET"
    assert said not in caplog.text
    project.upgrade()
    assert said in caplog.text


@pytest.mark.thorough
def test_branches_and_a_merge(project: Project) -> None:
    """Each branch has its journal; a merge has nothing to do."""
    texts = {"a": 'op.add_column("t", sa.Column("a1", sa.Integer))', "b": REVISIONS["rows and more rows"]}
    for name, text in texts.items():
        body = textwrap.indent(textwrap.dedent(text).strip(), "    ")
        (project.path / "versions" / f"{name}.py").write_text(
            REVISION.format(revision=name, previous=None, top="", upgrade=body)
        )
    (project.path / "versions" / "m.py").write_text(
        REVISION.format(revision="m", previous=("a", "b"), top="", upgrade="    pass")
    )
    command.upgrade(project.config(online=False), "heads")
    wanted = state(project.database)
    for number in count(1, 6):
        reset(project.database)
        stop = Stop(number)
        with suppress(Fault):
            command.upgrade(project.config(online=True, hooks=[stop]), "heads")
        if not stop.reached:
            break
        command.upgrade(project.config(online=True), "heads")
        assert state(project.database) == wanted
    assert number > 5


MANY = {
    "indexes of a table": """
columns = [sa.Column(name, sa.Integer) for name in "abcdef"]
op.create_table("u", *columns, *[sa.Index(f"u_{name}", name) for name in "abcdef"])
""",
    "keys of a column": """
keys = [sa.ForeignKey(f"{name}.id", name=f"t_c_{name}") for name in ("parent", "child", "t")]
op.add_column("t", sa.Column("c", sa.Integer, *keys))
""",
}


@pytest.mark.parametrize("upgrade", quick(MANY))
def test_the_order_of_sets_makes_no_difference(project: Project, upgrade: str) -> None:
    """SQLAlchemy stores indexes and keys in sets, in a different order each time."""
    interrupted(project, upgrade + "op.execute('SELECT 1 / count(*) FROM parent WHERE id = 99')")
    project.database.execute("DELETE FROM parent WHERE id = 99")
    for _ in range(4):
        with pytest.raises(DBAPIError, match="division by zero"):
            project.upgrade()


def test_a_table_that_was_replaced(project: Project) -> None:
    interrupted(
        project,
        """
        op.create_table("u", sa.Column("id", sa.Integer))
        op.execute("INSERT INTO u VALUES (1)")
        op.execute("SELECT 1 / count(*) FROM parent WHERE id = 99")
        """,
    )
    project.database.execute("DROP TABLE u; CREATE TABLE u (id int)")
    with pytest.raises(OnlineError, match="exist: table public.u .replaced by another table.; restore"):
        project.upgrade()


EDITED = {
    "another value": ("(90002, 0)", "(900003, 0)"),  # of another length, which invalidates the compiled file
    "one more": ("(90002, 0)')", "(90002, 0)')\nop.execute('INSERT INTO bare VALUES (90003, 0)')"),
    "one less": ("op.execute('INSERT INTO bare VALUES (90002, 0)')", "pass"),
}


@pytest.mark.parametrize(("old", "new"), quick(EDITED))
def test_statements_edited_after_an_interruption(project: Project, old: str, new: str) -> None:
    interrupted(
        project,
        """
        op.execute('INSERT INTO bare VALUES (90001, 0)')
        op.execute('INSERT INTO bare VALUES (90002, 0)')
        op.execute('SELECT 1 / count(*) FROM parent WHERE id = 99')
        """,
    )
    path = project.path / "versions" / "r1.py"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new.replace("\n", "\n    ")))
    with pytest.raises(OnlineError, match="now the statements differ, so it is unknown which rows are done"):
        project.upgrade()


DOWN = "raise NotImplementedError"


def test_the_other_direction_after_an_interrupted_run(project: Project) -> None:
    """Neither direction loses the work of the other: the interrupted one must be finished first."""
    project.revision('op.create_table("w", sa.Column("id", sa.Integer))')
    project.revision(
        'op.execute("INSERT INTO w VALUES (1)")\nop.execute("SELECT 1 / count(*) FROM parent WHERE id = 99")'
    )
    path = project.path / "versions" / "r1.py"
    path.write_text(
        path.read_text().replace(DOWN, 'op.drop_table("w")\n    op.execute("SELECT 1 / count(*) FROM bare")')
    )
    with pytest.raises(DBAPIError, match="division"):
        project.upgrade()
    for online in (True, False):
        with pytest.raises(
            OnlineError, match="upgrade of r2 was interrupted; finish it first: alembic -x online upgrade"
        ):
            command.downgrade(project.config(online=online), "base")
    project.database.execute(FIX)
    project.upgrade()
    (project.path / "versions" / "r2.py").unlink()
    command.stamp(project.config(online=False), "r1", purge=True)
    rows = "DELETE FROM bare; CREATE TABLE kept AS SELECT 1 AS id"
    project.database.execute(rows)
    with pytest.raises(DBAPIError, match="division"):
        command.downgrade(project.config(online=True), "base")
    for online in (True, False):
        with pytest.raises(OnlineError, match="downgrade of r1 was interrupted.*alembic -x online downgrade"):
            project.upgrade(online=online)
    project.database.execute("INSERT INTO bare VALUES (1, 1)")
    command.downgrade(project.config(online=True), "base")
    assert versions(project.database) == []
