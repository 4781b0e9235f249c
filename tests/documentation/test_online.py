"""docs/online.md is true: its commands and its plan."""

from collections.abc import Callable

from databases import Database, run_sql_script
from documentation.shell import Shell, command_lines
from pages import examples, page

PAGE = page("docs/online.md")


def test_its_commands_and_its_plan(at_revision: Callable[[str], Database]) -> None:
    database = at_revision("006")
    shell = Shell(database)
    plan, upgrade = command_lines(PAGE)
    assert examples(PAGE, "text")[0] in shell.run(plan).stdout
    upgraded = shell.run(upgrade)
    assert "[alembic.online] create index idx_requests_conversation_listing" in upgraded.stderr
    [watch] = examples(PAGE, "sql")
    watched = run_sql_script(database, watch)
    assert (watched.returncode, watched.stderr) == (0, "")
