"""The plan of a project and the steps of a run, in a form that can be compared."""

import re
from collections.abc import Callable
from io import StringIO
from typing import Any, NamedTuple, Protocol

import psycopg
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from databases import Database
from sqlalchemy import Engine, event


class HasConfig(Protocol):
    """A project: the small one of the tests, or another."""

    def config(self, *, online: bool, **attributes: Any) -> Config: ...


class Printed(NamedTuple):
    """The output of a plan, and its final error."""

    text: str
    error: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines without those of statements and locks."""
        return [line.strip() for line in self.text.splitlines() if not line.startswith("      ")]


def plan_of(
    project: HasConfig, target: str = "heads", *, run: Callable[..., Any] = command.upgrade, **attributes: Any
) -> Printed:
    """Return what ``alembic -x online=plan upgrade heads`` prints."""
    output = StringIO()
    config = project.config(online=True, **{"options": ["online=plan"]} | attributes)
    config.stdout = output
    try:
        run(config, target)
    except CommandError as error:
        return Printed(output.getvalue(), str(error))
    return Printed(output.getvalue())


class Step(NamedTuple):
    """Statements that are executed together, without spaces, and who waits for them: None if not known."""

    statements: str
    who: str | None


_WHO = re.compile(r"\b(nobody|writers|everybody) waits?\b")
_ROWS = re.compile(r"INSERT|UPDATE|DELETE|SET|RESET")


def steps(printed: Printed) -> list[Step]:
    """Return the steps of a plan, without those for rows and settings."""
    found: list[Step] = []
    statements: list[str] = []
    title = ""
    for line in printed.text.splitlines():
        if line.startswith("      -- "):
            text = " ".join(statements) or title
            who = _WHO.search(line)
            if not _ROWS.match(text):
                found.append(Step(_flat(text), None if who is None else who[1]))
            statements = []
        elif line.startswith("      "):
            statements.append(line.strip())
        else:
            title = line.strip().partition("; not known: ")[0]
    return found


def _flat(text: str) -> str:
    return re.sub(r"\s+", "", text).lower().replace("%%", "%")


# Locks of the tables, and of those of their indexes that the transaction has not created.
_HELD = """
SELECT DISTINCT mode FROM pg_locks LEFT JOIN pg_index ON indexrelid = relation
WHERE pid = pg_backend_pid() AND granted AND (relation = ANY (%(tables)s) OR (indrelid IN (
    SELECT unnest(%(tables)s::oid[])
    UNION SELECT inhrelid FROM pg_inherits WHERE inhparent = ANY (%(tables)s))
  AND pg_index.xmin IS DISTINCT FROM pg_current_xact_id_if_assigned()::xid))"""
_READS_ONLY = {"ShareLock", "ShareRowExclusiveLock", "ExclusiveLock"}
_PLUGINS_OWN = re.compile(
    r"SELECT|CREATE TEMP|LOCK .* IN SHARE UPDATE|SAVEPOINT|RELEASE|ROLLBACK|SHOW|WITH"
    r"|.*(alembic_version|alembic_online_probe|VIEW probe_|pg_temp)",
    re.DOTALL,
)


class Watched:
    """A hook that records what a run executes, and who would wait for the tables that existed before."""

    def __init__(self, database: Database) -> None:
        self.steps: list[Step] = []
        tables = database.execute(
            "SELECT oid FROM pg_class"
            " WHERE relkind IN ('r', 'p', 'm', 'v') AND relnamespace = 'public'::regnamespace"
        )
        self._tables = [row[0] for row in tables]
        self._inside: list[str] | None = None

    def __call__(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self.before)

    def before(self, _connection: Any, cursor: Any, statement: str, *_: object) -> None:
        statement = statement.strip()
        if statement.startswith("BEGIN"):
            self._inside = []
        elif statement in {"COMMIT", "ROLLBACK"}:
            if self._inside:
                self.steps.append(Step(_flat("".join(self._inside)), self._who(cursor.connection)))
            self._inside = None
        elif _PLUGINS_OWN.match(statement) or _ROWS.match(statement):
            pass
        elif self._inside is not None:
            self._inside.append(statement)
        else:
            self.steps.append(Step(_flat(statement), None))

    def _who(self, connection: psycopg.Connection[Any]) -> str:
        modes = {row[0] for row in connection.execute(_HELD, {"tables": self._tables})}
        if "AccessExclusiveLock" in modes:
            return "everybody"
        return "writers" if modes & _READS_ONLY else "nobody"


def agree(planned: list[Step], ran: list[Step]) -> None:
    """Assert that a plan has the statements that a run executes, and says who waits."""
    assert [step.statements for step in planned] == [step.statements for step in ran], (planned, ran)
    for step, seen in zip(planned, ran, strict=True):
        assert None in {seen.who, step.who} or seen.who == step.who, step.statements
