"""Which objects this project manages: those that its revisions create; all others are unmanaged.

The sources of the revisions are read, and no revision is run. Calls of ``op``, ``Column`` and SQL in strings,
also in loops over constants, give the kind, table and name of each object. If a source does not determine
these (computed names, functions of other modules, SQL files) or they are ambiguous, the object is unmanaged:
it is reported, and never dropped.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from alembic.script import ScriptDirectory

from alembic_drift.objects import Key
from alembic_drift.revisions.calls import Call, changes_of
from alembic_drift.revisions.changes import Change, Created, existing_after
from alembic_drift.revisions.expressions import TooLongError
from alembic_drift.revisions.sources import read_upgrade
from alembic_drift.revisions.statements import routine

log = logging.getLogger("alembic.drift")


class Managed:
    """The objects that the revisions created and did not drop again, in one schema."""

    def __init__(self, things: Iterable[Created] = (), schema: str | None = None) -> None:
        """Take the objects that the revisions leave.

        :param schema: the schema in which keys are looked up; None for the first schema of the search_path.
        """
        self._things = frozenset(things)
        self._keys = {
            (thing.kind, thing.table if thing.kind == "column" else None, thing.name)
            for thing in self._things
            if thing.schema == schema
        }

    def of(self, schema: str | None) -> "Managed":
        """Return what is managed in a schema; other schemas may have objects of the same names."""
        return Managed(self._things, schema)

    def __contains__(self, key: Key) -> bool:
        name = routine(key.name) if key.kind in {"function", "procedure"} else key.name
        # Only a column needs its table. Other names are unique in a schema: an index of that name on another
        # table conflicts with the one that the revisions created.
        return (key.kind, key.table if key.kind == "column" else None, name) in self._keys


def managed_by(script: ScriptDirectory, default: str | None = None) -> Managed:
    """Return what the revisions of a project create, from the first to the last, with all branches.

    If a source cannot be read, a warning says so; what it creates is unmanaged.

    :param default: the name of the first schema of the search_path, which revisions may name.
    """
    changes: list[Change] = []
    for revision in reversed(list(script.walk_revisions())):
        changes += _changes_of(Path(revision.path))
    return Managed(existing_after(changes, default))


def _changes_of(file: Path) -> list[Change]:
    changes: list[Change] = []
    tables: list[Call] = []

    def note(call: Call) -> None:
        if call.name == "Table":
            tables.append(call)
        elif call.name == "create_all" and isinstance(call.of, Call):
            for table in tables:
                if table.arg(1, "metadata") == call.of:
                    changes.extend(changes_of(Call("create", [], {}, of=table)))
        changes.extend(changes_of(call))

    try:
        read_upgrade(file.read_bytes(), note)
    except (OSError, SyntaxError, ValueError, RecursionError, TooLongError) as error:
        reason = str(error) or type(error).__name__
        log.warning("cannot read all of %s, so what it creates may count as unmanaged: %s", file, reason)
    return changes
