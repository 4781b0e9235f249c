"""Operations that cannot run without blocking are refused before their revision starts."""

from typing import Any

import pytest
from alembic.util import CommandError
from databases import Database
from marks import quick
from online.project import Project, reset, state, versions

from alembic_online import RefusedError
from alembic_online.errors import OnlineError

REFUSED = {
    "rename table": ('op.rename_table("t", "u")', "renaming t is refused", "op.backfill"),
    "rename column": (
        'op.alter_column("t", "a", new_column_name="z")',
        r"renaming t\.a is refused.*use the old name",
        "op.backfill",
    ),
    "exclusion constraint": (
        'op.create_exclude_constraint("stamped_excl", "stamped", ("span", "&&"), using="gist")',
        "an exclusion constraint on stamped is refused",
        "on a new table",
    ),
    "identity": (
        'op.add_column("t", sa.Column("c", sa.Integer, sa.Identity()))',
        r"adding the column t\.c is refused",
        "nullable with a default or a trigger",
    ),
    "generated column": (
        'op.add_column("t", sa.Column("c", sa.Integer, sa.Computed("a + 1", persisted=True)))',
        r"adding the column t\.c is refused",
        "nullable with a default or a trigger",
    ),
    "serial primary key": (
        'op.add_column("bare", sa.Column("c", sa.Integer, primary_key=True))',
        r"adding the column bare\.c is refused",
        "nullable with a default or a trigger",
    ),
    "int to bigint": (
        'op.alter_column("t", "a", type_=sa.BigInteger)',
        r"changing the type of t\.a is refused.*rewrites the table",
        "a column of the new type",
    ),
    "timestamptz": (
        'op.alter_column("stamped", "at", type_=sa.DateTime(timezone=True), existing_type=sa.DateTime)',
        r"changing the type of stamped\.at is refused",
        "a column of the new type",
    ),
    "column of a partial index": (
        'op.alter_column("stamped", "kind", type_=sa.Text)',
        r"changing the type of stamped\.kind is refused.*rewrites an index",
        "a column of the new type",
    ),
    "unnamed check": (
        'op.create_check_constraint(None, "t", "a > 0")',
        "an unnamed CheckConstraint on t is refused",
        "give it a name",
    ),
    "column with an unnamed check": (
        'op.add_column("t", sa.Column("c", sa.Integer, sa.CheckConstraint("c > 0"), server_default="1"))',
        "an unnamed CheckConstraint on t is refused",
        "give it a name",
    ),
}
SAVEPOINTS = {
    "savepoint": (
        'with op.get_bind().begin_nested():\n    op.add_column("t", sa.Column("c", sa.Integer))',
        r"AddColumn within begin_nested\(\) is refused",
        "move it out of the with statement",
    ),
    "savepoint, statement": (
        'with op.get_bind().begin_nested():\n    op.execute("UPDATE t SET a = 5")',
        r"ExecuteSQL within begin_nested\(\) is refused",
        "move it out of the with statement",
    ),
    "savepoint, as SQL": (
        'op.execute("SAVEPOINT x")\nop.execute("UPDATE t SET a = 5")\nop.execute("RELEASE x")',
        "op.execute of SAVEPOINT x is refused",
        "leave it out",
    ),
}
COPIES = {
    "table copied": (
        'with op.batch_alter_table("t", recreate="always") as batch:\n    batch.drop_column("filled")'
    ),
    "table copied, column at a position": (
        'with op.batch_alter_table("t", recreate="always") as batch:\n'
        '    batch.add_column(sa.Column("c", sa.Integer), insert_after="a")\n'
        '    batch.create_index("t_c_idx", ["c"])'
    ),
    "table copied, nothing else": (
        'with op.batch_alter_table("t", recreate="always", partial_reordering=[("b", "a")]):\n    pass'
    ),
}
REFUSED |= {
    name: (upgrade, 'batch_alter_table with recreate="always" of t is refused', "omit recreate")
    for name, upgrade in COPIES.items()
}
STATEMENTS = {
    "ALTER TABLE t ADD CONSTRAINT u UNIQUE (a)": ("builds an index", "op.create_unique_constraint"),
    'alter table only public."t" add unique (a, id)': ("builds an index", "op.create_unique_constraint"),
    "ALTER TABLE bare ADD PRIMARY KEY (id)": ("builds an index", "op.create_primary_key"),
    "ALTER TABLE stamped ADD EXCLUDE USING gist (span WITH &&)": ("builds an index", "on a new table"),
    "ALTER TABLE t ADD CHECK (a > 0)": ("reads every row", "op.create_check_constraint"),
    "ALTER TABLE t ADD c int, ADD CONSTRAINT f FOREIGN KEY (parent_id) REFERENCES parent (id)": (
        "reads every row",
        "op.create_foreign_key",
    ),
    "ALTER TABLE t ALTER a SET NOT NULL": ("reads every row", "op.alter_column"),
    "/* SET */ ALTER TABLE t ALTER COLUMN a TYPE bigint": ("rewrites the table", "op.alter_column"),
    "ALTER TABLE stamped ALTER kind SET DATA TYPE text": ("rewrites an index", "op.alter_column"),
    "ALTER TABLE t ADD c uuid DEFAULT gen_random_uuid()": ("rewrites the table", "op.add_column"),
    "ALTER TABLE t ADD COLUMN c serial": ("rewrites the table", "op.add_column"),
    "ALTER TABLE t ADD COLUMN c int UNIQUE": ("builds an index", "op.add_column"),
    "ALTER TABLE t ADD COLUMN c int DEFAULT 5 CHECK (c > 0)": ("reads every row", "op.add_column"),
    "ALTER TABLE t SET UNLOGGED": ("rewrites the table", "while nobody uses"),
    "ALTER TABLE t SET LOGGED": ("rewrites the table", "while nobody uses"),
    "ALTER TABLE t SET ACCESS METHOD heap": ("rewrites the table", "while nobody uses"),
    "ALTER TABLE t SET TABLESPACE pg_default": ("rewrites the table", "while nobody uses"),
    "-- why\nCREATE UNIQUE INDEX IF NOT EXISTS x ON t (a)": ("builds an index", "op.create_index"),
    "CREATE INDEX ON t (a)": ("builds an index", "op.create_index"),
    "COMMENT ON TABLE t IS 'a;b'; CREATE INDEX x ON t (a)": ("builds an index", "op.create_index"),
    "CLUSTER t USING t_pkey": ("rewrites the table", "leave it out"),
    "REINDEX (VERBOSE) TABLE t": ("builds indexes", "CONCURRENTLY"),
    "REINDEX INDEX t_a_idx": ("builds indexes", "CONCURRENTLY"),
}
REFUSED |= {
    statement: (
        f"op.execute({statement!r})",
        f"op.execute of .* is refused online, because .*{what}",
        instead,
    )
    for statement, (what, instead) in STATEMENTS.items()
}
# Operations of another plugin are refused because of the SQL that they execute.
REFUSED |= {
    operation: (
        f"import alembic_drift.operations\nop.{operation}",
        "op.execute of ALTER TABLE .* is refused online, because it rewrites the table",
        "while nobody uses",
    )
    for operation in (
        'set_logged("t", logged=False)',
        'set_access_method("t", "heap")',
        'set_tablespace("t", "pg_default")',
    )
}
# The copy replaces a table that a foreign key references.
COPIED = "ALTER TABLE child DROP CONSTRAINT child_t_fkey;"
STAMPED = (
    COPIED
    + """
CREATE TABLE stamped (at timestamp, kind varchar(5), span int4range);
CREATE INDEX stamped_kind_idx ON stamped (at) WHERE kind = 'a';
INSERT INTO stamped VALUES ('2025-06-01', 'a', '[1,2]')"""
)
LOCAL = 'op.execute("SET LOCAL jit = off")'
FIRST = 'op.create_index("t_first_idx", "t", ["a"])\n'

NAMES = ("upgrade", "what", "instead")
few = pytest.mark.parametrize(NAMES, quick(dict([*REFUSED.items()][::2]), *list(REFUSED)[::8]))
of_each_and_savepoints = pytest.mark.parametrize(
    NAMES, quick(REFUSED | SAVEPOINTS, *list(REFUSED | SAVEPOINTS)[::4])
)
few_and_savepoints = pytest.mark.parametrize(
    NAMES, quick(REFUSED | SAVEPOINTS, *list(REFUSED | SAVEPOINTS)[::8])
)


@of_each_and_savepoints
def test_its_revision_does_nothing(project: Project, upgrade: str, what: str, instead: str) -> None:
    project.database.execute(STAMPED)
    project.revision("pass")
    project.revision(FIRST + upgrade)
    before = state(project.database)
    with pytest.raises(RefusedError, match=what) as refused:
        project.upgrade()
    assert state(project.database) == before - {("version",)} | after_the_first(project.database)
    message = str(refused.value)
    assert message.startswith("revision r2 was not started: ")
    assert instead in message
    assert "put online = False at the top" in message
    assert "\n" not in message


def after_the_first(database: Database) -> set[tuple[str, ...]]:
    """Return what a revision that does nothing adds to the state: Alembic's own table."""
    return {row for row in state(database) if "alembic_version" in str(row) or row[0] == "version"}


@few_and_savepoints
def test_online_false_runs_it_in_one_transaction(
    project: Project, upgrade: str, what: str, instead: str
) -> None:
    del what, instead
    project.database.execute(STAMPED)
    project.revision(FIRST + upgrade, top="online = False")
    project.upgrade()
    found = state(project.database)
    reset(project.database)
    project.database.execute(STAMPED)
    project.upgrade(online=False)
    assert found == state(project.database)
    assert versions(project.database) == ["r1"]


@pytest.mark.parametrize("script", [True, False])
def test_set_local(project: Project, script: bool) -> None:
    project.revision(FIRST + LOCAL)
    with pytest.raises(RefusedError, match="was not started: SET LOCAL has no effect.*use SET, and RESET"):
        project.script() if script else project.upgrade()
    assert versions(project.database) == []


def test_a_column_at_a_position_needs_a_copy(project: Project) -> None:
    project.revision(
        FIRST
        + 'with op.batch_alter_table("t") as batch:\n'
        + '    batch.add_column(sa.Column("c", sa.Integer), insert_after="a")'
    )
    for online in (True, False):
        with pytest.raises(CommandError, match="specify insert_before or insert_after.*recreate='always'"):
            project.upgrade(online=online)
    assert ("index", "t_first_idx") not in {row[:2] for row in state(project.database)}


@pytest.mark.parametrize("kind", ["unnamed check", "column with an unnamed check", "rename table"])
def test_a_script_refuses_it_too(project: Project, kind: str) -> None:
    project.revision(REFUSED[kind][0])
    with pytest.raises(RefusedError, match=REFUSED[kind][1]):
        project.script()


def test_a_script_notes_what_it_cannot_query(project: Project) -> None:
    project.revision(
        """
        op.add_column("t", sa.Column("c", sa.Uuid, server_default=sa.text("gen_random_uuid()")))
        op.alter_column("t", "a", type_=sa.BigInteger)
        """
    )
    script = project.script()
    assert "-- A script cannot ask the server whether the default of t.c makes it rewrite the table" in script
    assert "-- A script cannot ask the server whether the type of t.a makes it rewrite the table" in script


def test_online_false_is_rolled_back_after_an_error(project: Project) -> None:
    project.revision(FIRST + 'op.rename_table("t", "u")\nraise ValueError("stop")', top="online = False")
    before = {row for row in state(project.database) if row[0] != "version"}
    with pytest.raises(ValueError, match="stop"):
        project.upgrade()
    assert before == {row for row in state(project.database) if row[0] != "version"} - after_the_first(
        project.database
    )


@few
def test_an_empty_table_is_not_refused(project: Project, upgrade: str, what: str, instead: str) -> None:
    del what, instead
    empty = f"{STAMPED}; TRUNCATE t, bare, stamped CASCADE"
    project.database.execute(empty)
    project.revision(FIRST + upgrade)
    project.upgrade()
    found = state(project.database)
    reset(project.database)
    project.database.execute(empty)
    project.upgrade(online=False)
    assert found == state(project.database)


def test_a_table_of_the_same_revision_is_not_refused(project: Project) -> None:
    project.revision(
        """
        op.create_table("fresh", sa.Column("id", sa.Integer), sa.Column("v", sa.Integer))
        op.bulk_insert(sa.table("fresh", sa.column("id")), [{"id": 1}])
        op.create_foreign_key(None, "fresh", "t", ["v"], ["id"])
        op.alter_column("fresh", "v", type_=sa.BigInteger)
        op.alter_column("fresh", "v", new_column_name="w")
        op.rename_table("fresh", "older")
        """
    )
    project.upgrade()
    found = state(project.database)
    reset(project.database)
    project.upgrade(online=False)
    assert found == state(project.database)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"configure": {"transaction_per_migration": False}}, "needs context.configure"),
        ({"begun": True}, "commit before configure"),
    ],
    ids=["one transaction for all", "a transaction has begun"],
)
def test_an_unsuitable_configuration(project: Project, attributes: dict[str, Any], message: str) -> None:
    project.revision(FIRST)
    before = state(project.database)
    with pytest.raises(OnlineError, match=message):
        project.upgrade(**attributes)
    assert state(project.database) == before


@pytest.mark.parametrize(
    "attributes", [{}, {"configure": {"transaction_per_migration": False}}, {"begun": True}]
)
def test_without_online_alembic_is_unchanged(project: Project, attributes: dict[str, object]) -> None:
    """Each revision is one transaction: an error in its middle leaves nothing of it."""
    project.revision(FIRST + 'op.rename_table("t", "u")\nop.execute("SELECT 1 / 0")')
    before = state(project.database)
    with pytest.raises(Exception, match="division by zero"):
        project.upgrade(online=False, **attributes)
    assert state(project.database) - after_the_first(project.database) == before - {("version",)}


@pytest.mark.parametrize("statement", ["VACUUM FULL t", "VACUUM (ANALYZE, FULL) t"])
def test_vacuum_full(project: Project, statement: str) -> None:
    """In a transaction, PostgreSQL itself refuses it."""
    project.revision(f"op.execute({statement!r})")
    with pytest.raises(RefusedError, match="rewrites the table .*VACUUM without FULL"):
        project.upgrade()


ALLOWED = (
    "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID",
    "ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (parent_id) REFERENCES parent NOT VALID",
    "CREATE UNIQUE INDEX CONCURRENTLY t_u ON t (a)",
    "ALTER TABLE t ADD CONSTRAINT t_u UNIQUE USING INDEX t_u",
    "ALTER TABLE t VALIDATE CONSTRAINT c",
    "ALTER TABLE t ADD d int DEFAULT 5, ADD COLUMN e text, ADD f int REFERENCES parent",
    "ALTER TABLE t ALTER b TYPE varchar(20), ALTER b DROP DEFAULT, ALTER id SET NOT NULL",
    "ALTER TABLE t ADD CONSTRAINT n CHECK (a IS NOT NULL) NOT VALID",
    "ALTER TABLE t VALIDATE CONSTRAINT n",
    "ALTER TABLE t ALTER COLUMN a SET NOT NULL",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $x$ SELECT 1; -- CREATE INDEX y ON t (a)\n $x$",
    "COMMENT ON TABLE t IS 'do not; CLUSTER t; it''s full'",
    """COMMENT ON COLUMN t.a IS E'\\'; CLUSTER t'""",
    "CREATE TABLE w AS SELECT * FROM t",
    "CREATE INDEX ON w (a)",
    "ALTER TABLE w ADD PRIMARY KEY (id)",
    "REINDEX TABLE CONCURRENTLY t",
)


def test_statements_that_read_and_write_no_rows_are_not_refused(project: Project) -> None:
    project.revision("\n".join(f"op.execute({statement!r})" for statement in ALLOWED))
    project.upgrade()
    assert versions(project.database) == ["r1"]
    found = state(project.database)
    reset(project.database)
    result = project.run_script()
    assert result.returncode == 0, result.stderr
    assert state(project.database) == found


def test_the_author_can_override_a_refusal(project: Project) -> None:
    project.revision('op.execute("CREATE INDEX x ON t (a)", execution_options={"online": "brief"})')
    project.upgrade()
    assert versions(project.database) == ["r1"]


def test_a_commit_within_a_string(project: Project) -> None:
    project.revision('op.execute("UPDATE t SET a = 5; COMMIT; UPDATE t SET a = 6")')
    with pytest.raises(RefusedError, match="op.execute of UPDATE t .* COMMIT; .* is refused online"):
        project.upgrade()
    project.revision('op.execute("CREATE FUNCTION one() RETURNS int BEGIN ATOMIC SELECT 1; END")')
    (project.path / "versions" / "r1.py").unlink()
    (project.path / "versions" / "r2.py").write_text(
        (project.path / "versions" / "r2.py").read_text().replace("'r1'", "None")
    )
    project.upgrade()
    assert versions(project.database) == ["r2"]
