"""Where -x online=plan stops, and how it reports what would stop the run."""

import re
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import pytest
from alembic import command
from marks import quick
from online.planned import plan_of
from online.project import Project, state

from alembic_online.errors import OnlineError

FIRST = 'op.create_index("t_first_idx", "t", ["a"])'
REFUSED = """
op.rename_table("t", "u")
op.add_column("t", sa.Column("c", sa.Integer, sa.Identity()))
op.create_index("t_a_idx", "t", ["b"])
op.create_index("t_new_idx", "t", ["b"])
op.create_index("t_a_idx", "t", ["b", "a"])
op.execute("CLUSTER t USING t_pkey")
with op.get_bind().begin_nested():
    op.create_index("t_other_idx", "t", ["b"])
"""


def test_it_lists_all_refused_operations_with_their_alternatives(project: Project) -> None:
    project.revision(REFUSED)
    project.revision('op.rename_table("t", "u")')
    printed = plan_of(project)
    *lines, last = printed.lines
    for line, wanted in zip(
        lines,
        [
            r"upgrade  -> r1",
            r"refused: renaming t is refused online, because .*; add the new one, .*put online = False",
            r"refused: adding the column t\.c is refused .*; add it nullable",
            r"refused: index t_a_idx already exists as .*",
            r"create index t_new_idx",
            r"create index t_a_idx; depends on earlier operations .*; on the current database: index t_a_idx",
            r"refused: op\.execute of CLUSTER .*; leave it out",
            r"refused: CreateIndex within begin_nested\(\) is refused .*; move it out",
            r"upgrade r1 -> r2",
            r"refused: renaming t is refused .*; depends on earlier revisions",
        ],
        strict=True,
    ):
        assert re.fullmatch(wanted + ".*", line)
    assert last == "2 revisions, 2 steps: 2 index builds; 6 refused"
    assert printed.error == f"the plan contains refused operations: {last}"


def test_what_would_stop_the_run_is_refused(project: Project) -> None:
    project.revision('op.create_index("t_a_idx", "t", ["b"])')
    assert "  refused: index t_a_idx already exists as " in plan_of(project).text
    assert "1 refused" in plan_of(project).error


def test_a_name_that_the_journal_needs(project: Project) -> None:
    project.database.execute("CREATE TABLE alembic_version_journal (note text)")
    project.revision(FIRST)
    printed = plan_of(project)
    assert printed.text == ""
    assert "alembic_version_journal already exists, and is not the journal" in printed.error


def test_the_command_exits_with_status_1_after_a_refusal(project: Project) -> None:
    config = project.config(online=True, options=["online=plan"])
    config.cmd_opts = Namespace(x=["online=plan"], cmd=(command.upgrade, [], []))
    project.revision(FIRST)
    command.upgrade(config, "head")
    project.revision('op.rename_table("t", "u")')
    with pytest.raises(SystemExit) as ended:
        command.upgrade(config, "head")
    assert ended.value.code == 1


READS = {
    "what it has written": (
        'op.create_table("k", sa.Column("id", sa.Integer))\nsa.inspect(op.get_bind()).get_columns("k")',
        "it could be read only to this point: NoSuchTableError: k",
        "",
    ),
    "and writes": (
        'op.get_bind().exec_driver_sql("INSERT INTO bare VALUES (0)")',
        "it could be read only to this point: cannot execute INSERT in a read-only transaction",
        "",
    ),
    "what is not there": (
        'sa.inspect(op.get_bind()).get_columns("k")',
        "refused: NoSuchTableError: k",
        "refused",
    ),
    "a copy of an empty table": (
        'with op.batch_alter_table("empty", recreate="always") as batch:\n    batch.drop_column("v")\n',
        "it could be read only to this point: op.batch_alter_table copies empty",
        "",
    ),
    "a copy of rows": (
        'with op.batch_alter_table("bare", recreate="always") as batch:\n    batch.drop_column("v")\n',
        "refused: op.batch_alter_table with recreate=\"always\" of bare is refused online",
        "refused",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("upgrade", "line", "error"), quick(READS, "what it has written", "a copy of rows"))
def test_a_revision_that_reads_the_database(project: Project, upgrade: str, line: str, error: str) -> None:
    project.database.execute("CREATE TABLE empty (id int, v int)")
    project.revision(upgrade)
    project.revision("op.add_column('bare', sa.Column('w', sa.Integer))")
    before = state(project.database)
    printed = plan_of(project)
    assert state(project.database) == before
    assert f"\n  {line}" in printed.text
    assert "  add column bare.w; depends on earlier revisions" in printed.text
    assert error in printed.error
    assert bool(error) == bool(printed.error)


OTHERS: dict[str, tuple[Callable[..., Any], dict[str, Any], str]] = {
    "stamp": (command.stamp, {}, "for alembic upgrade and alembic downgrade"),
    "stamp, purged": (lambda config, to: command.stamp(config, to, purge=True), {}, "for alembic upgrade"),
    "current": (lambda config, _: command.current(config), {}, "for alembic upgrade and alembic downgrade"),
    "check": (lambda config, _: command.check(config), {}, "for alembic upgrade and alembic downgrade"),
    "script": (lambda config, to: command.upgrade(config, to, sql=True), {}, "takes no --sql"),
    "one transaction for all": (
        command.upgrade, {"configure": {"transaction_per_migration": False}}, "needs context.configure",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("run", "attributes", "message"), quick(OTHERS, "stamp", "script"))
def test_commands_without_a_plan(
    project: Project, run: Callable[..., Any], attributes: dict[str, Any], message: str
) -> None:
    project.revision("pass")
    before = state(project.database)
    config = project.config(online=True, options=["online=Plan"], **attributes)
    with pytest.raises(OnlineError, match=message) as error:
        run(config, "head")
    assert "\n" not in str(error.value)
    assert state(project.database) == before
