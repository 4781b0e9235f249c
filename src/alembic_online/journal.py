"""The journal: which operations of an interrupted revision are done, and which steps of the last one.

The catalog cannot tell, because a later operation may have undone an earlier one. The journal is a table in
the schema of Alembic's version table. It is dropped when the revision is stamped.
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
"""The entry with the operations of the revision, as they were read before it began."""


@dataclass
class Entry:
    """An operation of a revision in the journal.

    ``state`` holds what the next run needs: ``steps``, all its steps; ``at``, how many of them are done;
    ``backfill``, the progress of a backfill; ``created``, whether it created its table; ``made``, all tables
    that it created; ``done``, when nothing is left to do. Every entry has ``title`` and ``order``.
    ``effects`` are the objects that it creates and drops, by name. ``free`` marks an operation within
    ``depends_on_database()``.
    """

    digest: str
    number: int
    """Its occurrence number among operations with the same text."""
    state: dict[str, Any]

    @property
    def done(self) -> bool:
        """Whether the operation is finished."""
        return "done" in self.state

    @property
    def steps(self) -> list[Step] | None:
        """Its steps, if an earlier run has planned them."""
        if "steps" not in self.state:
            return None
        steps = [from_json(step) for step in self.state["steps"]]
        # These record nothing until they are done, so the steps are planned again from the server's state.
        again = self.state["at"] == 0 and isinstance(steps[0], BuildIndex | BuildParts | Validate)
        return None if again else steps

    def plan(self, steps: Iterable[Step], **state: Any) -> None:
        """Set its steps; they are written to the table with the first recorded step."""
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
        """Tables that the operations of the revision have created and not dropped since."""
        self._again: set[str] = set()
        """Names of tables to recreate, because someone dropped them after an earlier run."""
        self._order = 0

    @property
    def table(self) -> str:
        """The quoted name of the journal."""
        context = self._session.context
        if self._schema is None:  # once: a revision may set another search_path
            given = context.version_table_schema
            self._schema = str(given or self._session.scalar(catalog.CURRENT_SCHEMA))
        return self._render.quoted(f"{context.version_table}_journal", self._schema)

    def __bool__(self) -> bool:
        """Whether an earlier run has begun the revision."""
        return bool(self._states)

    def load(self, step: str) -> None:
        """Read what an earlier run has done of a revision; ``step`` is like "upgrade 003"."""
        self._step = step
        self._states, self._made, self._again = {}, {}, set()
        self.restart()
        self.exists = bool(self._session.scalar(catalog.JOURNAL, table=self.table))
        if self.exists:
            found = self._execute(
                "SELECT digest, number, CAST(state AS text) AS state FROM {} WHERE step = :step"
            )
            self._states = {(row.digest, row.number): json.loads(row.state) for row in found}
            if self._states.keys() == {_READ}:  # nothing was done: read the revision again
                self._states = {}
            self._order = max((state.get("order", 0) for state in self._states.values()), default=0)
            self._made = {key: state["made"] for key, state in self._states.items() if state.get("made")}

    def leave(self) -> None:
        """End the current revision."""
        self._step = ""
        self._states, self._made, self._again = {}, {}, set()

    @property
    def read(self) -> dict[str, Any] | None:
        """The operations read before the revision began; None if an older version of the plugin began it."""
        return self._states.get(_READ)

    @property
    def begun(self) -> list[tuple[str, int, dict[str, Any]]]:
        """The operations that earlier runs have begun, in their order."""
        found = [(*key, state) for key, state in self._states.items() if "order" in state]
        return sorted(found, key=lambda entry: int(entry[2]["order"]))

    def unfinished(self) -> list[str]:
        """Return the revisions that earlier runs have begun, like "upgrade 003"."""
        if not self.is_there():
            return []
        return [str(row.step) for row in self._execute("SELECT DISTINCT step FROM {} ORDER BY 1")]

    def clear(self) -> None:
        """Delete the entries of the revision."""
        self._execute("DELETE FROM {} WHERE step = :step")
        self._session.connection.commit()
        self._states, self._made = {}, {}

    def restart(self) -> None:
        """Start over at the first operation, after the revision was read."""
        self._seen.clear()
        self._again = set()

    def begin(self, read: dict[str, Any]) -> None:
        """Create the journal's table if it does not exist, and record the operations that were read."""
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
        """Return whether the relation with the journal's name is a journal, or None if there is none.

        Leave a transaction open only if one was open before.
        """
        connection = self._session.connection
        outer = connection.in_transaction()
        found: bool | None = self._session.scalar(catalog.JOURNAL, table=self.table)
        if not outer:
            connection.rollback()
        return found

    def require_name(self) -> None:
        """Raise :class:`OnlineError` if another relation has the journal's name."""
        if self.is_there() is False:
            raise OnlineError(
                f"nothing was changed: {self.table} already exists, and is not the journal that"
                " online runs keep under this name; rename it, then rerun"
            )

    def entry(self, text: str) -> Entry:
        """Return the entry of an operation.

        :param text: its SQL or description, which identifies it together with the occurrence number.
        """
        digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        self._seen[digest] += 1
        number = self._seen[digest]
        return Entry(digest, number, dict(self._states.get((digest, number), {})))

    def note(self, entry: Entry, **changes: Any) -> dict[str, Any]:
        """Record the progress of an operation, in the transaction of its work; returns the new state.

        The caller stores the state in the entry after the commit.
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
        """Return the tables that the open transaction has created, for :meth:`note`; remove dropped ones."""
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
        """The tables that the revision has created so far."""
        return itertools.chain.from_iterable(self._made.values())

    def reset_if_dropped(self, entry: Entry, written: Callable[[], set[str]]) -> list[str]:
        """Mark an operation as not done if someone has dropped a table that it created or changed.

        :param written: returns the tables, without schema, that the operation changes.

        Returns the dropped tables, which the operation recreates.
        """
        names = entry.state.get("made")
        made = [name for (name,) in self._session.rows(catalog.MISSING, names=names)] if names else []
        if made or (self._again and not self._again.isdisjoint(written())):
            self._again |= {str(self._session.scalar(catalog.LAST_NAME, name=name)) for name in made}
            entry.state.clear()
            self._made.pop((entry.digest, entry.number), None)
        return made

    def forget(self) -> None:
        """Delete the entries of a revision in the transaction that stamps it; all for ``alembic stamp``."""
        if not self._session.scalar(catalog.JOURNAL, table=self.table):
            return
        if self._step:
            self._execute("DELETE FROM {} WHERE step = :step")
        if not self._step or not self._execute("SELECT EXISTS (SELECT FROM {})").scalar():
            self._execute("DROP TABLE {}")
            self.exists = False

    def _execute(self, statement: str, **parameters: Any) -> Any:
        """Execute a statement; ``{}`` stands for the table."""
        table = literal(self.table).text
        given = {"step": self._step} if ":step" in statement else {}
        return self._session.connection.execute(sa.text(statement.replace("{}", table)), given | parameters)


def replaced(session: Session, begun: Iterable[tuple[str, int, dict[str, Any]]]) -> list[str]:
    """Return the tables that operations have created and someone has replaced by another table."""
    return [
        name
        for *_, state in begun
        for name, oid in state.get("oids", {}).items()
        if name in state.get("made", ()) and session.scalar(catalog.OID, table=name) not in {oid, None}
    ]
