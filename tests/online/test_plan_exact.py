"""A plan is exact: it has the statements that the run executes, and says correctly who would wait."""

import re

import pytest
from marks import quick
from online.cases import CASES
from online.planned import Watched, agree, plan_of, steps
from online.project import Project, Stop, state

# Later operations depend on earlier ones, which a plan does not execute.
DEPENDENT = {
    "index renamed, then asked for": """
op.rename_index("t_a_idx", "t_other_idx")
op.create_index("t_other_idx", "t", ["a"], if_not_exists=True)
op.create_index("t_a_idx", "t", ["a"], if_not_exists=True)
""",
    "index built, then asked for": """
op.create_index("t_b_idx", "t", ["b"])
op.create_index("t_b_idx", "t", ["b"], if_not_exists=True)
""",
    "index exchanged by a statement": """
op.create_index("t_new_idx", "t", ["b"])
op.execute(
    "LOCK TABLE t IN ACCESS EXCLUSIVE MODE; DROP INDEX t_a_idx; ALTER INDEX t_new_idx RENAME TO t_a_idx"
)
op.create_index("t_a_idx", "t", ["b"], if_not_exists=True)
""",
    "referring table dropped first": """
op.drop_table("child")
op.drop_table("parent")
""",
    "foreign key dropped, then its column": """
op.drop_constraint("child_parent_fkey", "child", type_="foreignkey")
op.drop_index("child_parent_idx", "child")
op.drop_column("child", "parent_id")
""",
    "foreign key dropped, then what it refers to": """
op.drop_constraint("child_parent_fkey", "child", type_="foreignkey")
op.drop_table("parent")
""",
    "table dropped and created": """
op.drop_table("bare")
op.create_table("bare", sa.Column("id", sa.Integer), sa.Column("v", sa.Integer))
op.create_index("bare_v_idx", "bare", ["v"])
""",
    "empty table filled first": """
op.execute("DELETE FROM child")
op.execute("INSERT INTO child (id) VALUES (99)")
op.create_index("child_id_idx", "child", ["id"])
""",
    "table of a query": """
op.execute("CREATE TABLE copied AS SELECT * FROM t")
op.create_index("copied_a_idx", "copied", ["a"])
""",
    "view dropped, and made of a query": """
op.execute("DROP MATERIALIZED VIEW seen")
op.execute("CREATE MATERIALIZED VIEW seen AS SELECT a FROM source")
op.create_index("seen_a_idx", "seen", ["a"], if_not_exists=True)
""",
    "view over an empty table": """
op.execute("CREATE MATERIALIZED VIEW none AS SELECT id FROM empty")
op.create_index("none_id_idx", "none", ["id"])
""",
    "partitioned": """
op.create_index("parts_a_idx", "parts", ["a"])
op.rename_index("parts_a_idx", "parts_b_idx")
op.drop_index("parts_b_idx", "parts")
op.execute("CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20)")
op.execute("ALTER TABLE parts DETACH PARTITION parts_1")
op.execute("ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES FROM (0) TO (10)")
op.execute("DROP TABLE parts_1")
op.execute("DROP TABLE child")
""",
    "trigger and policy": """
op.execute("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
op.execute("CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()")
op.execute("CREATE POLICY p ON t USING (true)")
op.execute("DROP TRIGGER x ON t")
op.execute("ALTER TABLE t SET (fillfactor = 90)")
op.execute("ALTER TABLE t ALTER a SET STATISTICS 50")
op.execute("ALTER TABLE t DISABLE TRIGGER USER")
op.execute("CREATE TABLE part (id int REFERENCES t)")
op.execute("ALTER TABLE t ADD CONSTRAINT n FOREIGN KEY (parent_id) REFERENCES parent NOT VALID")
op.execute("TRUNCATE child")
op.execute("REFRESH MATERIALIZED VIEW seen")
op.execute("CREATE OR REPLACE VIEW v AS SELECT a FROM source WHERE a > 0")
op.execute("COMMENT ON TABLE t IS 'x'")
op.execute("GRANT SELECT ON t TO PUBLIC")
""",
}
MORE = """
CREATE TABLE empty (id int);
CREATE TABLE source (a int);
INSERT INTO source VALUES (1);
CREATE MATERIALIZED VIEW seen AS SELECT a FROM source;
CREATE INDEX seen_a_idx ON seen (a);
CREATE TABLE parts (id int, a int) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
INSERT INTO parts VALUES (1, 1);
CREATE VIEW v AS SELECT a FROM source;
"""
FEW = ["column, all at once", "table"]
ALL = {name: CASES[name].upgrade for name in [*FEW, *[*CASES][1::4]]} | DEPENDENT


@pytest.mark.parametrize("upgrade", quick(ALL, *FEW))
def test_it_agrees_with_the_run(project: Project, upgrade: str) -> None:
    project.database.execute(MORE)
    project.revision(upgrade)
    before = state(project.database)
    printed = plan_of(project)
    assert printed.error == ""
    assert state(project.database) == before
    assert "known" not in re.sub("not known: whether (copied|seen) will have rows", "", printed.text)
    assert "depends" not in printed.text
    watched = Watched(project.database)
    project.upgrade(hooks=[watched])
    agree(steps(printed), watched.steps)


INTERRUPTED = """
op.add_column("t", sa.Column("c", sa.Integer, sa.CheckConstraint("c > 0", name="t_c_check"), index=True))
op.rename_index("t_a_idx", "t_other_idx")
op.create_index("t_a_idx", "t", ["a"])
op.alter_column("t", "a", nullable=False)
"""


@pytest.mark.parametrize("number", quick({str(number): number for number in range(3, 13, 2)}, "5"))
def test_it_shows_the_rest_of_an_interrupted_run(project: Project, number: int) -> None:
    project.revision(INTERRUPTED)
    whole = steps(plan_of(project))
    stop = Stop(number, kill=project.database)
    with pytest.raises(Exception):  # noqa: B017 - any error of a lost connection
        project.upgrade(hooks=[stop])
    before = state(project.database)
    printed = plan_of(project)
    assert state(project.database) == before
    assert printed.error == ""
    left, done = steps(printed), printed.text.count("  already done: ")
    watched = Watched(project.database)
    project.upgrade(hooks=[watched])
    assert left == whole[len(whole) - len(left) :]
    agree(left, watched.steps)
    assert bool(done) == (len(left) < len(whole))
