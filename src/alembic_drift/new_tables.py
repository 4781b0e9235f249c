"""Completes a new table with what plain SQL adds to it; Alembic creates only its ``sa.Table``."""

from typing import Any

import sqlalchemy as sa
from alembic.operations import ops

from alembic_drift.internals import copied, final_name
from alembic_drift.kinds import indexes
from alembic_drift.kinds.columns import default
from alembic_drift.objects import Difference, Facts, Key, summary
from alembic_drift.order import Phase
from alembic_drift.resolution import Resolution


def complete(resolution: Resolution, operation: ops.CreateTableOp) -> None:
    """Complete the creation of a table with what plain SQL adds to it, and note what no operation adds."""
    name = operation.table_name
    operation.comment = resolution.models[Key("table", None, name)].get("comment")
    operation.columns = [
        _completed(resolution, Key("column", name, item.name), item) if isinstance(item, sa.Column) else item
        for item in operation.columns
    ]
    known = {final_name(index, resolution.dialect) for index in resolution.tables[name].indexes}
    for key, facts in resolution.models.items():
        if key.table != name:
            continue
        if resolution.is_unwritten(key):
            if key.kind in {"column", "constraint", "index"}:
                resolution.unresolved.append(str(Difference(key, "", None, summary(facts))))
        elif key.kind == "index" and key.name not in known:
            made = {fact: value for fact, value in facts.items() if fact != "comment"}  # which is added later
            resolution.both(
                Phase.INDEXES, indexes.create(resolution, key, made), indexes.drop(resolution, key, facts)
            )


def _completed(resolution: Resolution, key: Key, column: "sa.Column[Any]") -> "sa.Column[Any]":
    facts = resolution.models.get(key)
    if facts is None:
        return column
    if "identity" in facts and column.identity is None:
        resolution.unresolved.append(str(Difference(key, "identity", None, facts["identity"])))
    changed: Facts = {}
    if "default" in facts and column.server_default is None and not _is_numbered(resolution, key):
        changed["server_default"] = default(facts)
    if column.nullable != ("not null" not in facts):
        changed["nullable"] = "not null" not in facts
    if column.comment != facts.get("comment"):
        changed["comment"] = facts.get("comment")
    if not changed:
        return column
    completed = copied(column)
    for attribute, value in changed.items():
        setattr(completed, attribute, value)
    return completed


def _is_numbered(resolution: Resolution, column: Key) -> bool:
    """Return whether a column is a serial: its default is created with it."""
    return any(
        key.kind == "sequence" and facts["_owner"] == [column.table, column.name]
        for key, facts in resolution.models.items()
    )
