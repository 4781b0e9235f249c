"""The steps of an operation: data that says what happens, in which way, and who would have to wait.

A handler (see :mod:`alembic_online.operations`) yields them, and an interpreter takes them: live executes
them, script writes them down. The list of an operation is complete before its first step runs, and is kept in
the journal: a run that goes on does not ask a server that its own first half has changed.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

STRONG_LOCK_TIMEOUT = "200ms"
"""Longest wait for a lock behind which others queue up: their longest stall."""

WEAK_LOCK_TIMEOUT = "2s"
"""Longest wait for a lock that stalls nobody. Above deadlock_timeout (1 s), after which the server cancels
an autovacuum that stands in the way."""

Work: TypeAlias = tuple[str, ...] | None
"""Statements, or None: what Alembic itself does for the operation."""

AS_ALEMBIC_DOES = None
"""For new and empty tables, and where the way matters and not the statement."""


@dataclass(frozen=True)
class Index:
    """An index to be built."""

    table: str
    """Quoted."""
    schema: str | None
    name: str
    quoted: str
    """Its name without schema, as SQL writes it."""
    full: str
    """Its name with its schema."""
    unique: bool
    tail: str
    """What follows the table."""

    def create(self, *, concurrently: bool = False, only: bool = False) -> str:
        """Return the statement that builds it."""
        head = f"CREATE {'UNIQUE ' if self.unique else ''}INDEX {'CONCURRENTLY ' if concurrently else ''}"
        return f"{head}{self.quoted} ON {'ONLY ' if only else ''}{self.table} {self.tail}"

    def on(self, table: str, name: str = "") -> "Index":
        """Return the same index of another table."""
        return replace(self, table=table, name=name, quoted=name, full=name)


@dataclass(frozen=True)
class Locking:
    """Changes the catalog alone, under a strong lock that is held briefly."""

    what: str
    work: Work
    locks: tuple[str, ...] = ()
    """The tables that it locks, quoted, as far as they are known."""
    stops_reads: bool = True
    """Whether readers have to wait too."""
    limit: str = STRONG_LOCK_TIMEOUT
    """Longest wait for the lock."""
    warning: str | None = None
    """What a script says about it, which cannot ask the server."""
    uses: Index | None = None
    """The index that it needs as a step before has built it."""


@dataclass(frozen=True)
class NonBlocking:
    """Runs for as long as it takes, and lets others read and write."""

    what: str
    work: Work
    transaction: bool = True
    """Whether in a transaction; without one, doing it twice does no harm."""


@dataclass(frozen=True)
class BuildIndex:
    """Builds an index while others write. A failure would leave it invalid, at the expense of each write."""

    what: str
    index: Index


@dataclass(frozen=True)
class BuildParts:
    """Builds the index of each partition by itself, and joins them under the one of the whole table.

    Partitions come and go while others are built: which there are is asked again until none is left.
    """

    what: str
    index: Index


@dataclass(frozen=True)
class Validate:
    """Looks through all rows, whether they obey a rule that new rows obey already."""

    what: str
    table: str
    constraint: str
    """Its name, as it is."""
    undo: Locking | None = None
    """Takes the rule away where rows violate it; only where the step before has added it."""


@dataclass(frozen=True)
class Default:
    """The value of a new column for the rows that are there already."""

    table: str
    schema: str | None
    column: str
    value: str
    """As SQL."""


@dataclass(frozen=True)
class Fill:
    """Fills rows in batches."""

    what: str
    default: Default | None = None
    """None: what a backfill says."""


@dataclass(frozen=True)
class Rows:
    """Changes rows, as Alembic does it, in one transaction with those before and after it."""

    what: str
    guarded: bool = True
    """Whether it is cancelled when it takes long: others may wait for its rows."""


@dataclass(frozen=True)
class Setting:
    """Sets something for the statements that follow; every run does it."""

    what: str
    work: Work = AS_ALEMBIC_DOES


Step: TypeAlias = Locking | NonBlocking | BuildIndex | BuildParts | Validate | Fill | Rows | Setting

_KINDS: Any = {
    kind.__name__: kind for kind in (Locking, NonBlocking, BuildIndex, BuildParts, Validate, Fill, Setting)
}


def to_json(step: Step) -> dict[str, Any]:
    """Return a step as the journal holds it."""
    return {"step": type(step).__name__, **asdict(step)}


def from_json(stored: dict[str, Any]) -> Step:
    """Return a step that the journal holds."""
    values = dict(stored)
    kind = _KINDS[values.pop("step")]
    for name in ("work", "locks"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    if values.get("undo") is not None:
        values["undo"] = from_json({"step": "Locking", **values["undo"]})
    for name in ("index", "uses"):
        if values.get(name) is not None:
            values[name] = Index(**values[name])
    if values.get("default") is not None:
        values["default"] = Default(**values["default"])
    step: Step = kind(**values)
    return step
