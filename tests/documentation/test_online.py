"""docs/online.md is correct: its commands and its plan."""

from databases import Database, run_sql_script, url_of
from documentation.shell import Shell, command_lines
from pages import examples, page, section
from support import run_alembic

PAGE = page("docs/online.md")


def test_its_commands_and_its_plan(head: Database) -> None:
    run_alembic("downgrade", "006", url=url_of(head))
    shell = Shell(head)
    # The test of docs/operating.md runs the command without a limit.
    plan, without_limit, with_limit = command_lines(section("README.md", "Upgrade a live database"))
    assert [plan, without_limit] == [*command_lines(PAGE)]
    assert examples(PAGE, "text")[0] in shell.run(plan).stdout
    upgraded = shell.run(with_limit)
    assert "[alembic.online] create index idx_requests_conversation_listing" in upgraded.stderr
    [watch] = examples(PAGE, "sql")
    watched = run_sql_script(head, watch)
    assert (watched.returncode, watched.stderr) == (0, "")
