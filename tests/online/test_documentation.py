"""The plugin's page is correct: its env.py, its backfill, its files."""

import re
from pathlib import Path

import pytest
from online.project import ENABLED, TEMPLATE, Project, env

import alembic_online

PAGE = (Path(__file__).parents[2] / "docs" / "alembic_online.md").read_text()
IN_ENV, BACKFILL = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
PACKAGE = Path(alembic_online.__file__).parent


def test_what_it_adds_to_env_py() -> None:
    written = "".join(env(TEMPLATE, ENABLED).split())
    assert all("".join(line.split()) in written for line in IN_ENV.splitlines())


@pytest.mark.parametrize("online", [True, False])
def test_its_backfill_runs(project: Project, online: bool) -> None:
    project.database.execute(
        "CREATE TABLE requests (domain text, account text);"
        "INSERT INTO requests VALUES ('a.example'), ('a.example'), ('b.example')"
    )
    project.revision(BACKFILL)
    project.upgrade(online=online)
    found = project.database.execute(
        "SELECT account, count(*) FROM requests GROUP BY 1 ORDER BY 2"
    ).fetchall()
    assert found == [(None, 1), ("one", 2)]


def test_its_files_exist() -> None:
    for name in re.findall(r"`(\w+\.py|\w+/)`", PAGE):
        assert name == "env.py" or (PACKAGE / name).exists(), name
