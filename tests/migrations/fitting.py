"""Helpers of the tests of revision 007."""

from typing import Any

from databases import Database, url_of
from psycopg.types.json import Jsonb
from support import START, insert, run_alembic

WAYS: dict[str, dict[str, str]] = {"atomic": {}, "online": {"online": "true"}}

TASK = {"id": "t", "name": "Task"}
TEXTS = {"prompt": "go", "description": "there"}
BOTH = TASK | TEXTS | {"input": TEXTS}


def migrate(database: Database, revision: str = "007", x: dict[str, str] | None = None) -> None:
    """Upgrade or downgrade a database to a revision."""
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    assert row is not None
    run_alembic("upgrade" if row[0] < revision else "downgrade", revision, url=url_of(database), x=x)


def store(database: Database, *values: Any) -> None:
    """Insert a request for each value, as its Task calls. ``stored`` reads them in the same order."""
    for number, value in enumerate(values):
        insert(
            database,
            "api_requests",
            request_id=f"{number:032x}",
            task_tool_invocation=Jsonb(value),
            created_at=START,
        )


def stored(database: Database) -> list[Any]:
    """Return the Task calls of all requests."""
    rows = database.execute("SELECT task_tool_invocation FROM api_requests ORDER BY request_id").fetchall()
    return [value for (value,) in rows]
