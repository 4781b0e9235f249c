"""A hook that records the UPDATE statements of a backfill."""

from typing import Any

from sqlalchemy import Engine, event


class Updates:
    """The UPDATE statements of a run on the table big, those that changed rows, and the number of rows."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.changing: list[str] = []
        self.rows = self.first = 0

    def __call__(self, engine: Engine) -> None:
        event.listen(engine, "after_cursor_execute", self._after)

    def _after(self, _connection: Any, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith("UPDATE big"):
            self.statements.append(statement)
            self.rows += cursor.rowcount
            self.first = self.first or cursor.rowcount
            self.changing += [statement] * (cursor.rowcount > 0)
