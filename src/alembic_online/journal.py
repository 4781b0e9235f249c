"""The journal: which operations of an interrupted revision are done, and which steps of the last one.

The catalog cannot tell: a later operation may have undone what an earlier one did. It is a table beside
Alembic's version table, and is gone when the revision is stamped.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from alembic_online import catalog
from alembic_online.errors import OnlineError
from alembic_online.render import Renderer
from alembic_online.session import Session, literal
from alembic_online.steps import BuildIndex, BuildParts, Step, Validate, from_json, to_json

_READ = ("", 0)
"""The entry that has what was read of the revision before it began."""


@dataclass
class Entry:
    """An operation of a revision in the journal.

    ``state`` is what the next run needs: ``steps``, all that it takes; ``at``, how many of them are done;
    ``backfill``, how far a backfill came; ``created``, whether it made its table; ``made``, all tables that
    it made; or ``done``, when nothing of it is left. ``title`` and ``order`` are for all; ``effects`` are
    what it makes and drops by name; ``free`` has one that depends on the database.
    """

    digest: str
    number: int
    """Which of the operations that say the same."""
    state: dict[str, Any]

    @property
    def done(self) -> bool:
        """Whether nothing of it is left to do."""
        return "done" in self.state

    @property
    def steps(self) -> list[Step] | None:
        """The steps that it takes, if an earlier run has found them."""
        if "steps" not in self.state:
            return None
        steps = [from_json(step) for step in self.state["steps"]]
        # Of these nothing is noted before they are done; what they left, the server can tell.
        again = self.state["at"] == 0 and isinstance(steps[0], BuildIndex | BuildParts | Validate)
        return None if again else steps

    def plan(self, steps: Iterable[Step], **state: Any) -> None:
        """Hold the steps that it takes; they are written with the first that is noted."""
        self.state |= {"steps": [to_json(step) for step in steps], "at": 0, **state}


class Journal:
    """The journal of one run."""

    def __init__(self, session: Session, render: Renderer) -> None:
        self.exists = False
        self._session = session
        self._render = render
        self._step = ""
        self._schema: str | None = None
        self._states: dict[tuple[str, int], dict[str, Any]] = {}
        self._seen: Counter[str] = Counter()
        self._made: dict[tuple[str, int], list[str]] = {}
        """Tables that the operations of the revision have made, unless later ones have dropped them."""
        self._again: set[str] = set()
        """Names of tables that are made again, because somebody has dropped them since an earlier run."""
        self._order = 0

    @property
    def table(self) -> str:
        """Its name, quoted."""
        context = self._session.context
        if self._schema is None:  # once: a revision may set another search_path
            given = context.version_table_schema
            self._schema = str(given or self._session.scalar(catalog.CURRENT_SCHEMA))
        return self._render.quoted(f"{context.version_table}_journal", self._schema)

    def __bool__(self) -> bool:
        """Whether an earlier run has begun the revision."""
        return bool(self._states)

    def load(self, step: str) -> None:
        """Read what an earlier run has done of a revision; ``step`` is "upgrade 003"."""
        self._step = step
        self._states, self._made, self._again = {}, {}, set()
        self.restart()
        self.exists = bool(self._session.scalar(catalog.JOURNAL, table=self.table))
        if self.exists:
            found = self._execute(
                "SELECT digest, number, CAST(state AS text) AS state FROM {} WHERE step = :step"
            )
            self._states = {(row.digest, row.number): json.loads(row.state) for row in found}
            if self._states.keys() == {_READ}:  # nothing was done: it is read again
                self._states = {}
            self._order = max((state.get("order", 0) for state in self._states.values()), default=0)
            self._made = {key: state["made"] for key, state in self._states.items() if state.get("made")}

    def leave(self) -> None:
        """Have no revision."""
        self._step = ""
        self._states, self._made, self._again = {}, {}, set()

    @property
    def read(self) -> dict[str, Any] | None:
        """What was read of the revision before it began; None of a run of an older version."""
        return self._states.get(_READ)

    @property
    def begun(self) -> list[tuple[str, int, dict[str, Any]]]:
        """The operations that earlier runs have begun, in their order."""
        found = [(*key, state) for key, state in self._states.items() if "order" in state]
        return sorted(found, key=lambda entry: int(entry[2]["order"]))

    def unfinished(self) -> list[str]:
        """Return what earlier runs have begun, as "upgrade 003"."""
        if not self.is_there():
            return []
        return [str(row.step) for row in self._execute("SELECT DISTINCT step FROM {} ORDER BY 1")]

    def clear(self) -> None:
        """Forget what was done of the revision."""
        self._execute("DELETE FROM {} WHERE step = :step")
        self._session.connection.commit()
        self._states, self._made = {}, {}

    def restart(self) -> None:
        """Start the revision over, after it was read through."""
        self._seen.clear()
        self._again = set()

    def begin(self, read: dict[str, Any]) -> None:
        """Make the journal's table unless it is there, and write down what was read of the revision."""
        if not self.exists:
            self._execute(
                "CREATE TABLE IF NOT EXISTS {}"
                " (step text, digest text, number int, state jsonb, PRIMARY KEY (step, digest, number))"
            )
            self.exists = True
        if _READ not in self._states:
            self.note(Entry(*_READ, read))
            self._states[_READ] = read

    def is_there(self) -> bool | None:
        """Return whether what has the journal's name is one, or None where nothing has it.

        A transaction is open after as before.
        """
        connection = self._session.connection
        outer = connection.in_transaction()
        found: bool | None = self._session.scalar(catalog.JOURNAL, table=self.table)
        if not outer:
            connection.rollback()
        return found

    def require_name(self) -> None:
        """Raise :class:`OnlineError` if the journal's name belongs to something else."""
        if self.is_there() is False:
            raise OnlineError(
                f"nothing was changed: {self.table} already exists, and is not the journal that"
                " online runs keep under this name; rename it, then rerun"
            )

    def entry(self, text: str) -> Entry:
        """Return the entry of an operation.

        :param text: what it does. Operations are told apart by it, and by how often it came before.
        """
        digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        self._seen[digest] += 1
        number = self._seen[digest]
        return Entry(digest, number, dict(self._states.get((digest, number), {})))

    def note(self, entry: Entry, **changes: Any) -> dict[str, Any]:
        """Write down how far an operation is, in the transaction of that work; returns its new state.

        The caller keeps it when the transaction is committed.
        """
        state = {name: value for name, value in (entry.state | changes).items() if value is not None}
        if entry.digest and "order" not in state:
            self._order += 1
            state["order"] = self._order
        self._execute(
            "INSERT INTO {} VALUES (:step, :digest, :number, CAST(:state AS jsonb))"
            " ON CONFLICT (step, digest, number) DO UPDATE SET state = excluded.state",
            digest=entry.digest,
            number=entry.number,
            state=json.dumps(state),
        )
        return state

    def look_for_tables(self, entry: Entry) -> dict[str, Any]:
        """Return the tables that the open transaction has made, for the note; forget those it has dropped."""
        made = [name for (name,) in self._session.rows(catalog.MADE_IN_TRANSACTION)]
        missing = {name for (name,) in self._session.rows(catalog.MISSING, names=[*self.made])}
        for (digest, number), names in [*self._made.items()]:
            if left := [name for name in names if name not in missing]:
                self._made[digest, number] = left
            else:
                del self._made[digest, number]
            if left != names:
                self._execute(
                    "UPDATE {} SET state = state || CAST(:state AS jsonb)"
                    " WHERE step = :step AND digest = :digest AND number = :number",
                    digest=digest,
                    number=number,
                    state=json.dumps({"made": left}),
                )
        if made:
            self._made[entry.digest, entry.number] = made
        oids = {name: self._session.scalar(catalog.OID, table=name) for name in made}
        return {"made": made, "oids": oids} if made else {}

    @property
    def made(self) -> Iterable[str]:
        """The tables that the revision has made so far."""
        return itertools.chain.from_iterable(self._made.values())

    def believe(self, entry: Entry, written: Callable[[], set[str]]) -> list[str]:
        """Have an operation done again whose table somebody has dropped since, and what was done to that.

        :param written: returns the tables, without schema, that the operation changes.

        Returns the tables that are made again by it.
        """
        names = entry.state.get("made")
        made = [name for (name,) in self._session.rows(catalog.MISSING, names=names)] if names else []
        if made or (self._again and not self._again.isdisjoint(written())):
            self._again |= {str(self._session.scalar(catalog.LAST_NAME, name=name)) for name in made}
            entry.state.clear()
            self._made.pop((entry.digest, entry.number), None)
        return made

    def forget(self) -> None:
        """Forget the operations of a revision in the transaction that stamps it; all, for a stamp by hand."""
        if not self._session.scalar(catalog.JOURNAL, table=self.table):
            return
        if self._step:
            self._execute("DELETE FROM {} WHERE step = :step")
        if not self._step or not self._execute("SELECT EXISTS (SELECT FROM {})").scalar():
            self._execute("DROP TABLE {}")
            self.exists = False

    def _execute(self, statement: str, **parameters: Any) -> Any:
        """Execute a statement in which ``{}`` stands for the table."""
        table = literal(self.table).text
        given = {"step": self._step} if ":step" in statement else {}
        return self._session.connection.execute(sa.text(statement.replace("{}", table)), given | parameters)


def replaced(session: Session, begun: Iterable[tuple[str, int, dict[str, Any]]]) -> list[str]:
    """Return the tables that operations have made, in whose place there is another one now."""
    return [
        name
        for *_, state in begun
        for name, oid in state.get("oids", {}).items()
        if name in state.get("made", ()) and session.scalar(catalog.OID, table=name) not in {oid, None}
    ]
