"""-x online=plan: what it prints, that it changes nothing, and what it cannot know."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from alembic import command
from databases import Database, as_role, url_of
from online.planned import Printed, plan_of
from online.project import REVISION, Project, state
from psycopg import sql

UPGRADE = """
op.create_index("t_new_idx", "t", ["a"])
op.create_index("t_a_idx", "t", ["a"], if_not_exists=True)
op.create_foreign_key("t_parent_fkey", "t", "parent", ["parent_id"], ["id"])
op.add_column("t", sa.Column("c", sa.Integer))
t = sa.table("t", sa.column("c", sa.Integer))
op.backfill(sa.update(t).values(c=1).where(t.c.c.is_(None)), what="rows given their c")
op.create_table("k", sa.Column("id", sa.Integer))
op.bulk_insert(sa.table("k", sa.column("id")), [{"id": 1}])
op.execute("SET jit = off")
op.execute("UPDATE bare SET v = v + 1")
op.execute("DO 'BEGIN END'")
op.execute("REFRESH MATERIALIZED VIEW seen")
"""
PLAN = """\
upgrade  -> r1
  create index t_new_idx
      CREATE INDEX CONCURRENTLY t_new_idx ON t (a)
      -- SHARE UPDATE EXCLUSIVE on t: nobody waits; runs as long as it takes
  nothing to do: CREATE INDEX IF NOT EXISTS t_a_idx ON t (a)
  add constraint t_parent_fkey
      ALTER TABLE t ADD CONSTRAINT t_parent_fkey FOREIGN KEY(parent_id) REFERENCES parent (id) NOT VALID
      -- SHARE ROW EXCLUSIVE on t, parent: writers wait, briefly
  validate t_parent_fkey
      ALTER TABLE t VALIDATE CONSTRAINT t_parent_fkey
      -- SHARE UPDATE EXCLUSIVE on t: nobody waits; runs as long as it takes
  add column t.c
      ALTER TABLE t ADD COLUMN c INTEGER
      -- ACCESS EXCLUSIVE on t: everybody waits, briefly
  rows given their c
      UPDATE t SET c=1 WHERE t.c IS NULL
      -- ROW EXCLUSIVE on t, in batches: nobody waits, except briefly for a row of a batch; runs as long as it takes
  create table k
      CREATE TABLE k (
          id INTEGER
      )
      -- no table lock: nobody waits
  insert into k
      INSERT INTO k -- 1 row
      -- nobody waits: the table is new
  SET jit = off
      -- no table lock: nobody waits
  UPDATE bare SET v = v + 1
      -- ROW EXCLUSIVE on bare: nobody waits
  DO 'BEGIN END'
      -- its locks are not known
  REFRESH MATERIALIZED VIEW seen
      -- ACCESS EXCLUSIVE on seen: everybody waits, as long as it takes
1 revision, 11 steps: 4 brief statements, 1 long statement, 1 index build, 2 changes of rows, 1 validation, 1 backfill, 1 setting
"""  # noqa: E501 - as it is printed
SEEN = "CREATE MATERIALIZED VIEW seen AS SELECT a FROM t;"
# Everything that a transaction has written, even with the same value.
EVERYTHING = " UNION ALL ".join(
    f"SELECT '{name}', md5(string_agg(concat(xmin, ' ', {key}), ',' ORDER BY {key})) FROM {name}"
    for name, key in {
        "pg_class": "oid", "pg_attribute": "format('%s.%s', attrelid, attnum)", "pg_constraint": "oid",
        "pg_index": "indexrelid", "pg_type": "oid", "pg_proc": "oid", "pg_namespace": "oid",
        "pg_depend": "format('%s %s %s', objid, refobjid, refobjsubid)", "pg_attrdef": "oid",
        "pg_description": "format('%s.%s', objoid, objsubid)", "pg_trigger": "oid", "t": "id",
    }.items()
)  # fmt: skip


@pytest.fixture
def reader(shared: Database) -> Iterator[str]:
    """A role that can only read."""
    name = "nexus_reader_" + shared.info.dbname
    role, database = sql.Identifier(name), sql.Identifier(shared.info.dbname)
    shared.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'hunter2-s3cret'").format(role))
    shared.execute(sql.SQL("REVOKE TEMP ON DATABASE {} FROM PUBLIC").format(database))
    yield name
    shared.execute(sql.SQL("GRANT TEMP ON DATABASE {} TO PUBLIC").format(database))
    shared.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(role))


def as_reader(project: Project, reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the runs of a project connect as the role that can only read."""
    for grant in ("USAGE ON SCHEMA", "SELECT ON ALL TABLES IN SCHEMA"):
        statement = sql.SQL("GRANT {} public TO {}").format(sql.SQL(grant), sql.Identifier(reader))
        project.database.execute(statement)
    monkeypatch.setattr(Project, "url", property(lambda self: as_role(self.database, reader)))


def test_it_prints_each_step_its_lock_and_who_waits(project: Project) -> None:
    project.database.execute(SEEN)
    project.revision(UPGRADE)
    assert plan_of(project) == Printed(PLAN)


def test_it_changes_nothing(project: Project, reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also during another migration: it does not take the lock of migrations."""
    project.database.execute(SEEN)
    project.revision(UPGRADE + 'op.alter_column("t", "b", type_=sa.String(20))')
    project.revision(
        'op.add_column("t", sa.Column("d", sa.Uuid, server_default=sa.text("gen_random_uuid()")))'
    )
    project.revision('op.execute("ALTER TABLE t ADD COLUMN e int")', top="online = False")

    def everything() -> Any:
        return dict(project.database.execute(EVERYTHING).fetchall()), state(project.database)

    before = everything()
    with psycopg.connect(url_of(project.database), autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(hashtextextended('alembic_online public', 0))")
        plan = plan_of(project)
        assert everything() == before
        as_reader(project, reader, monkeypatch)
        before = everything()
        of_reader = plan_of(project)
        assert everything() == before
    assert plan.error == of_reader.error == ""
    assert len(of_reader.text.splitlines()) == len(plan.text.splitlines())


def test_a_missing_privilege_makes_a_step_unknown(
    project: Project, reader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.revision(
        """
        op.alter_column("t", "b", type_=sa.String(20))
        op.create_index("t_a_idx", "t", ["a"])
        op.create_index("t_new_idx", "t", ["a"])
        """
    )
    assert "known" not in plan_of(project).text
    as_reader(project, reader, monkeypatch)
    printed = plan_of(project)
    reason = "not known: it cannot be tried on an empty copy (permission denied to create temporary tables"
    assert [line.partition(" in database")[0] for line in printed.lines[1:-1]] == [
        f"alter column t.b: type VARCHAR(20); {reason}",
        f"create index t_a_idx; {reason}",
        "create index t_new_idx",
    ]
    assert "everybody waits, briefly; whether it rewrites the table is not known" in printed.text


def test_later_revisions_are_planned_as_in_a_script(project: Project) -> None:
    project.revision('op.create_table("k", sa.Column("id", sa.Integer))')
    project.revision(
        """
        op.create_index("k_id_idx", "k", ["id"])
        op.create_index("t_a_idx", "t", ["a"], if_not_exists=True)
        op.alter_column("t", "b", type_=sa.Text)
        op.execute("TRUNCATE t")
        """
    )
    printed = plan_of(project)
    assert printed.error == ""
    first, second = printed.text.split("upgrade r1 -> r2\n")
    assert "depends" not in first
    assert (
        second
        == """\
  create index k_id_idx; depends on earlier revisions
      CREATE INDEX k_id_idx ON k (id)
      -- nobody waits: the table is new
  create index t_a_idx; depends on earlier revisions
      CREATE INDEX CONCURRENTLY t_a_idx ON t (a)
      -- SHARE UPDATE EXCLUSIVE on t: nobody waits; runs as long as it takes
  alter column t.b: type TEXT; depends on earlier revisions
      ALTER TABLE t ALTER COLUMN b TYPE TEXT
      -- ACCESS EXCLUSIVE on t: everybody waits, briefly; whether it rewrites the table is not known
  TRUNCATE t; depends on earlier revisions
      -- ACCESS EXCLUSIVE on t: everybody waits, briefly
2 revisions, 5 steps: 4 brief statements, 1 index build
"""
    )


def test_a_revision_in_one_transaction(project: Project) -> None:
    project.revision(
        """
        assert not plugin.is_online()
        op.create_index("t_new_idx", "t", ["a"])
        op.rename_table("t", "u")
        bare = sa.table("bare", sa.column("v"))
        op.backfill(sa.update(bare).values(v=sa.null()).where(bare.c.v > 1), what="rows emptied")
        op.execute("UPDATE bare SET v = 1")
        """,
        top="online = False",
    )
    before = state(project.database)
    assert plan_of(project) == Printed("""\
upgrade  -> r1
  online = False: it runs in one transaction and holds its locks until the end
  CREATE INDEX t_new_idx ON t (a)
      -- SHARE on t: writers wait, as long as it takes
  ALTER TABLE t RENAME TO u
      -- ACCESS EXCLUSIVE on t: everybody waits, as long as it takes
  rows emptied
      UPDATE bare SET v=NULL WHERE bare.v > 1
      -- ROW EXCLUSIVE on bare: nobody waits; runs as long as it takes
  UPDATE bare SET v = 1
      -- ROW EXCLUSIVE on bare: nobody waits; runs as long as it takes
1 revision, 4 steps: 4 operations in one transaction
""")
    assert state(project.database) == before


def other_branch(project: Project, upgrade: str) -> None:
    """Add a revision without a previous one."""
    (project.path / "versions" / "x1.py").write_text(
        REVISION.format(revision="x1", previous=None, top="", upgrade=f"    {upgrade}")
    )


@pytest.mark.thorough
def test_branches_and_a_downgrade(project: Project) -> None:
    project.revision('op.add_column("t", sa.Column("c", sa.Integer))')
    other_branch(project, 'op.add_column("bare", sa.Column("c", sa.Integer))')
    found = {line for line in plan_of(project).lines if line.startswith("upgrade")}
    assert found == {"upgrade  -> r1", "upgrade  -> x1"}
    command.upgrade(project.config(online=True), "r1")
    assert [line for line in plan_of(project).lines if line.startswith(("upgrade", "add"))] == [
        "upgrade  -> x1",
        "add column bare.c",
    ]
    command.upgrade(project.config(online=True), "heads")
    assert plan_of(project).text == "nothing to do: the database is at r1, x1\n0 revisions, 0 steps\n"
    path = project.path / "versions" / "r1.py"
    path.write_text(path.read_text().replace("raise NotImplementedError", 'op.drop_column("t", "c")'))
    printed = plan_of(project, "r1@base", run=command.downgrade)
    assert printed.lines[:2] == ["downgrade r1 ->", "drop column t.c"]
    assert printed.error == ""


@pytest.mark.thorough
def test_the_session_is_restored(project: Project) -> None:
    project.revision(UPGRADE.replace("seen", "t_a_idx"))
    found: list[Any] = []
    query = "SELECT name, setting FROM pg_settings ORDER BY name"
    plan_of(project, afterwards=[lambda connection: found.append(connection.exec_driver_sql(query).all())])
    command.current(
        project.config(
            online=False,
            afterwards=[lambda connection: found.append(connection.exec_driver_sql(query).all())],
        )
    )
    assert found[0] == found[1]
