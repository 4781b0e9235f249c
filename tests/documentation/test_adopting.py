"""docs/adopting.md is correct: its commands, its log, and the SQL that proves that nothing was lost."""

import re
from collections.abc import Iterator

import pytest
from databases import Database, url_of
from documentation.shell import Shell, command_lines
from legacy_databases import KINDS, build
from pages import examples, page, section
from psycopg import connect

PAGE = page("docs/adopting.md")


@pytest.fixture
def copy_dropped(empty: Database) -> Iterator[None]:
    """The page creates a database named "copy"."""
    empty.execute("DROP DATABASE IF EXISTS copy WITH (FORCE)")
    yield
    empty.execute("DROP DATABASE IF EXISTS copy WITH (FORCE)")


@pytest.mark.usefixtures("copy_dropped")
def test_its_rehearsal(empty: Database) -> None:
    if empty.info.server_version < 170000:
        pytest.skip("pg_restore 18 sets transaction_timeout, which older servers do not have")
    build(empty, KINDS["bootstrap"])
    log, result = examples(PAGE, "text")
    shell, said = Shell(empty), {}
    for command in command_lines(section("docs/adopting.md", "Rehearse on a copy")):
        ran = shell.run(command.replace(" production ", f" {empty.info.dbname} "))
        assert ran.returncode == 0, ran.stderr
        said[command] = ran
    assert log in said["alembic upgrade head"].stderr
    compare, check = [*said][-2:]
    assert result.split() == said[compare].stdout.split()
    assert "\nNo new upgrade operations detected.\n" in "\n" + said[check].stdout

    def changed() -> dict[str, int]:
        rows = re.findall(r"^ ([\w.]+) +\|.*\| +(\d+)$", shell.run(compare).stdout, re.MULTILINE)
        return {name: int(number) for name, number in rows}

    assert set(changed().values()) == {0}
    with connect(url_of(empty).replace(empty.info.dbname, "copy"), autocommit=True) as copy:
        copy.execute(
            "UPDATE api_requests SET is_subtask = false, account_id = NULL WHERE account_id LIKE '2%'"
        )
        copy.execute(
            """UPDATE api_requests SET task_tool_invocation = '{"n": 0}' WHERE account_id LIKE '3%'"""
        )
        copy.execute("UPDATE api_requests SET duration_ms = NULL WHERE account_id LIKE '1%'")
        copy.execute("DELETE FROM streaming_chunks WHERE chunk_index = 1")
    assert changed() == {
        "api_requests": 1,
        "api_requests.account_id": 1,
        "api_requests.is_subtask": 1,
        "api_requests.parent_task_request_id": 0,
        "api_requests.task_tool_invocation": 1,
        "streaming_chunks": 1,
    }
