"""Completes a new table with what plain SQL adds to it; Alembic creates only its ``sa.Table``."""

from typing import Any

import sqlalchemy as sa
from alembic.operations import ops

from alembic_drift.internals import copied, final_name
from alembic_drift.kinds import indexes
from alembic_drift.kinds.columns import default
from alembic_drift.mending import Mending
from alembic_drift.objects import Difference, Facts, Key, summary
from alembic_drift.order import Phase


def complete(mending: Mending, operation: ops.CreateTableOp) -> None:
    """Complete the creation of a table with what plain SQL adds to it, and note what no operation adds."""
    name = operation.table_name
    operation.comment = mending.models[Key("table", None, name)].get("comment")
    operation.columns = [
        _completed(mending, Key("column", name, item.name), item) if isinstance(item, sa.Column) else item
        for item in operation.columns
    ]
    known = {final_name(index, mending.dialect) for index in mending.tables[name].indexes}
    for key, facts in mending.models.items():
        if key.table != name:
            continue
        if mending.is_unwritten(key):
            if key.kind in {"column", "constraint", "index"}:
                mending.by_hand.append(str(Difference(key, "", None, summary(facts))))
        elif key.kind == "index" and key.name not in known:
            made = {fact: value for fact, value in facts.items() if fact != "comment"}  # which is added later
            mending.both(Phase.INDEXES, indexes.create(mending, key, made), indexes.drop(mending, key, facts))


def _completed(mending: Mending, key: Key, column: "sa.Column[Any]") -> "sa.Column[Any]":
    facts = mending.models.get(key)
    if facts is None:
        return column
    if "identity" in facts and column.identity is None:
        mending.by_hand.append(str(Difference(key, "identity", None, facts["identity"])))
    changed: Facts = {}
    if "default" in facts and column.server_default is None and not _is_numbered(mending, key):
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


def _is_numbered(mending: Mending, column: Key) -> bool:
    """Return whether a column is a serial: its default is created with it."""
    return any(
        key.kind == "sequence" and facts["_owner"] == [column.table, column.name]
        for key, facts in mending.models.items()
    )
