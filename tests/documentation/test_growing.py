"""docs/growing.md is correct: its SQL and its commands."""

import re
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from databases import Database, run_sql_script
from documentation.shell import Shell, command_lines
from pages import examples, section
from support import HEAD, insert

PAGE = "docs/growing.md"


def test_its_measurements_run(head: Database) -> None:
    for statements in examples(section(PAGE, "Measure your own database"), "sql"):
        result = run_sql_script(head, statements)
        assert (result.returncode, result.stderr) == (0, "")


def test_old_requests_are_deleted(head: Database) -> None:
    now, old = datetime.now(UTC), datetime.now(UTC) - timedelta(days=91)
    new = insert(head, "api_requests", timestamp=now)
    parent = insert(head, "api_requests", timestamp=old)
    insert(head, "api_requests", timestamp=old + timedelta(seconds=1), parent_task_request_id=parent)
    kept = insert(head, "api_requests", timestamp=old)
    sub_task = insert(head, "api_requests", timestamp=now, parent_task_request_id=kept)
    for request in (new, parent, kept):
        insert(head, "streaming_chunks", request_id=request, chunk_index=0, timestamp=old, data="x")
    head.execute(
        "INSERT INTO api_requests (request_id, timestamp, domain, method, path, headers)"
        " SELECT gen_random_uuid(), now() - interval '1 year', 'd', 'POST', '/', '{}'"
        " FROM generate_series(1, 1500)"
    )
    shell = Shell(head)
    [delete] = command_lines(section(PAGE, "Delete old requests"))
    without_age = shell.run(delete.replace("-v older_than='90 days'", ""))
    assert (without_age.returncode, without_age.stdout) == (3, "")
    assert "set the age: -v older_than='90 days'" in without_age.stderr
    for number in (1502, 0):
        deleted = shell.run(delete)
        assert (deleted.returncode, deleted.stderr.count("\n")) == (0, 1)
        assert f"INFO:  {number} requests deleted" in deleted.stderr
        found = {row[0] for row in head.execute("SELECT request_id FROM api_requests")}
        assert found == {new, kept, sub_task}
    assert head.execute("SELECT count(*) FROM streaming_chunks").fetchone() == (2,)


def test_its_script_for_partitions(head: Database) -> None:
    [script] = examples(section(PAGE, "Partition by time"), "sql")
    failed = 0
    for part in script.split("\n\n"):
        statement, _, error = part.partition("\n-- ERROR:  ")
        if error:
            failed += 1
            with pytest.raises(psycopg.Error, match=re.escape(error.strip())):
                head.execute(statement)
        else:
            head.execute(statement)
    assert failed == 3


def test_a_schema_for_a_tenant(empty: Database) -> None:
    text = section(PAGE, "A schema for each tenant")
    [create] = examples(text, "sql")
    empty.execute(create)
    [upgrade] = command_lines(text)
    assert Shell(empty).run(upgrade).returncode == 0
    [options] = re.findall(r"`\?options=(.*?)`", text)
    url = f"postgresql:///{empty.info.dbname}?host={empty.info.host}&port={empty.info.port}&options={options}"
    with psycopg.connect(url, user=empty.info.user, password=empty.info.password) as tenant:
        assert tenant.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]
