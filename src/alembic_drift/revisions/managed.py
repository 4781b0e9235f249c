"""Whose an object of the database is: what the revisions make is managed, all else the operator's own.

It is read from the sources of the revisions: kind, table and name of what a call of ``op``, a ``Column`` or
an SQL statement in a string makes, loops over constants included. No revision is run. What cannot be told
(names that are computed from what is not in the source, functions of other modules, files of SQL) and what is
ambiguous is not managed: it is reported, and never dropped.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

from alembic.script import ScriptDirectory

from alembic_drift.objects import Key
from alembic_drift.revisions.calls import Call, changes_of
from alembic_drift.revisions.changes import Change, Thing, existing_after
from alembic_drift.revisions.expressions import TooLongError
from alembic_drift.revisions.sources import read_upgrade
from alembic_drift.revisions.statements import routine

log = logging.getLogger("alembic.drift")


class Managed:
    """What the revisions made and did not drop again, in one schema."""

    def __init__(self, things: Iterable[Thing] = (), schema: str | None = None) -> None:
        """Take what is there.

        :param schema: the schema in which keys are looked up; None for the first of the search_path.
        """
        self._things = frozenset(things)
        self._keys = {
            (thing.kind, thing.table if thing.kind == "column" else None, thing.name)
            for thing in self._things
            if thing.schema == schema
        }

    def of(self, schema: str | None) -> "Managed":
        """Return what is managed in a schema: an object of the same name elsewhere is another one."""
        return Managed(self._things, schema)

    def __contains__(self, key: Key) -> bool:
        name = routine(key.name) if key.kind in {"function", "procedure"} else key.name
        # But for a column, the name is the only one in the schema: an index of it on another table is in the
        # way of the one that the revisions made.
        return (key.kind, key.table if key.kind == "column" else None, name) in self._keys


def managed_by(script: ScriptDirectory, default: str | None = None) -> Managed:
    """Return what the revisions of a project make, from the first to the last, all branches included.

    A source that cannot be read is told by a warning, and what it makes is not managed.

    :param default: the name of the first schema of the search_path, which a revision may name as well.
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
        log.warning("what %s makes is not known to its end, because it cannot be read: %s", file, reason)
    return changes
