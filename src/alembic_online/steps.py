"""The steps of an operation, as data: what to do, how, and who has to wait for it.

A handler (see :mod:`alembic_online.operations`) yields the steps. An interpreter takes them: live executes
them, script writes them to a script, plan prints them. All steps of an operation are planned before the first
one runs, and are kept in the journal. So a resumed run does not plan them from a half-changed database.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

STRONG_LOCK_TIMEOUT = "200ms"
"""The lock timeout for a strong lock. Other sessions queue behind it, so it is also their longest stall."""

WEAK_LOCK_TIMEOUT = "2s"
"""The lock timeout for a lock that blocks nobody. It is longer than deadlock_timeout (1 s), after which the
server cancels an autovacuum that is in the way."""

Work: TypeAlias = tuple[str, ...] | None
"""Statements; or None: execute the operation as Alembic itself does."""

AS_ALEMBIC_DOES = None
"""For new and empty tables, and for operations with an unchanged statement."""


@dataclass(frozen=True)
class Index:
    """An index to build."""

    table: str
    """Quoted."""
    schema: str | None
    name: str
    quoted: str
    """Its quoted name without schema."""
    full: str
    """Its quoted name with schema."""
    unique: bool
    tail: str
    """The part of the statement after the table."""

    def create(self, *, concurrently: bool = False, only: bool = False) -> str:
        """Return the statement that builds it."""
        head = f"CREATE {'UNIQUE ' if self.unique else ''}INDEX {'CONCURRENTLY ' if concurrently else ''}"
        return f"{head}{self.quoted} ON {'ONLY ' if only else ''}{self.table} {self.tail}"

    def on(self, table: str, name: str = "") -> "Index":
        """Return the same index on another table."""
        return replace(self, table=table, name=name, quoted=name, full=name)


@dataclass(frozen=True)
class Locking:
    """Changes only the catalog, under a strong lock that is held briefly."""

    what: str
    work: Work
    locks: tuple[str, ...] = ()
    """The quoted names of the tables that it locks, as far as known."""
    stops_reads: bool = True
    """Whether readers wait too."""
    limit: str = STRONG_LOCK_TIMEOUT
    """The lock timeout."""
    warning: str | None = None
    """A comment for a script, which cannot ask the server."""
    uses: Index | None = None
    """The index that it needs, which an earlier step has built."""


@dataclass(frozen=True)
class NonBlocking:
    """Runs as long as it takes, and does not block reads and writes."""

    what: str
    work: Work
    transaction: bool = True
    """Whether it runs in a transaction; without one, it must be safe to run twice."""


@dataclass(frozen=True)
class BuildIndex:
    """Builds an index while others write. A failed build leaves an invalid index, which slows down writes."""

    what: str
    index: Index


@dataclass(frozen=True)
class BuildParts:
    """Builds an index on each partition, and attaches them to the index of the partitioned table.

    Partitions may be added or dropped during a build. So they are listed again until none lacks an index.
    """

    what: str
    index: Index


@dataclass(frozen=True)
class Validate:
    """Validates existing rows against a constraint that new rows already satisfy."""

    what: str
    table: str
    constraint: str
    """Its name, unquoted."""
    undo: Locking | None = None
    """Drops the constraint again if rows violate it; None if the step before has not added it."""


@dataclass(frozen=True)
class Default:
    """The value of a new column for existing rows."""

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
    """The default to fill in; None: run the statement of ``op.backfill``."""


@dataclass(frozen=True)
class Rows:
    """Changes rows as Alembic does, in one transaction with adjacent steps of this kind."""

    what: str
    guarded: bool = True
    """Whether it has a time limit, because others may wait for its rows."""


@dataclass(frozen=True)
class Setting:
    """Changes a setting for later statements; every run repeats it."""

    what: str
    work: Work = AS_ALEMBIC_DOES


Step: TypeAlias = Locking | NonBlocking | BuildIndex | BuildParts | Validate | Fill | Rows | Setting

_KINDS: Any = {
    kind.__name__: kind for kind in (Locking, NonBlocking, BuildIndex, BuildParts, Validate, Fill, Setting)
}


def to_json(step: Step) -> dict[str, Any]:
    """Return a step in the form of the journal."""
    return {"step": type(step).__name__, **asdict(step)}


def from_json(stored: dict[str, Any]) -> Step:
    """Return the step for its form in the journal."""
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
