"""What triggers, rules and policies have in common: they are on a table or view, and depend on others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from alembic.operations import ops

from alembic_drift.kinds import functions
from alembic_drift.mending import Mending, Planned
from alembic_drift.objects import Facts, Key
from alembic_drift.order import Phase
from alembic_drift.sql import qualified

Enabled = bool | Literal["always", "replica"]
"""Whether a trigger or rule fires: in sessions as usual, never, always, in those of replication alone."""

ENABLED: dict[str, Enabled] = {
    "enabled": True,
    "disabled": False,
    "enabled always": "always",
    "enabled on replicas": "replica",
}
"""What the fact ``enabled`` says, as operations have it."""

WORDS: dict[Enabled, str] = {
    True: "ENABLE",
    False: "DISABLE",
    "always": "ENABLE ALWAYS",
    "replica": "ENABLE REPLICA",
}
"""How ALTER TABLE says it."""


def state(column: str) -> str:
    """Return the SQL for the fact ``enabled``, of a column of pg_trigger or pg_rewrite."""
    return (
        f"CASE {column} WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'enabled always'"
        " ELSE 'enabled on replicas' END"
    )


def on_table(table: str, schema: str | None, enabled: Enabled, name: str) -> str:
    """Return the statement that sets whether a trigger or rule fires.

    :param name: "TRIGGER" or "RULE", and the name as SQL writes it.
    """
    return f"ALTER TABLE {qualified(table, schema)} {WORDS[enabled]} {name}"


def set_as(enabled: Enabled) -> str:
    """Return the argument that says whether a trigger or rule fires, if it is not as usual."""
    return "" if enabled is True else f", enabled={enabled!r}"


def depends(catalog: str) -> str:
    """Return the SQL for the facts that say what a row of a catalog depends on."""
    of = f"classid = '{catalog}'::regclass AND objid = {catalog}.oid"
    return f"""\
'_reads', (SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_array(read.relname, attname)), '[]')
    FROM pg_depend JOIN pg_class AS read ON read.oid = refobjid
    LEFT JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid AND attnum > 0
    WHERE {of} AND refclassid = 'pg_class'::regclass),
'_calls', (SELECT coalesce(jsonb_agg(DISTINCT {functions.SIGNATURE}), '[]')
    FROM pg_depend JOIN pg_proc ON pg_proc.oid = refobjid
    WHERE {of} AND refclassid = 'pg_proc'::regclass)"""  # noqa: S608 - the names are ours


_KINDS = ("trigger", "rule", "policy")


def to_remake(mending: Mending) -> set[Key]:
    """Return those of both sides that have to go before a change, and come after it.

    They read a column that changes, call a function that is dropped, are on a view that is made again. A
    trigger cannot be replaced by a constraint trigger either. Those of the operator's own are noted.
    """
    changed = mending.changed_columns()
    gone = {view.name for view in mending.rebuilt}
    routines = {key.name for key in functions.to_create_again(mending)}
    for key, aspect, _, models in mending.differences:
        if key.kind == "table" and aspect == "" and models is None:
            gone.add(key.name)
    remade: set[Key] = set()
    for key, facts in mending.database.items():
        if key.kind not in _KINDS or key.table in mending.clashing:
            continue
        is_on_changed = any(read[0] in gone or tuple(read) in changed for read in facts["_reads"])
        must_go = key.table in gone or is_on_changed or not routines.isdisjoint(facts["_calls"])
        if key in mending.own:
            if must_go and key.table not in gone:
                mending.by_hand.append(f"{key}: no model has it, and it reads what changes; drop it before")
        elif key in mending.models:
            other = mending.models[key].get("_constraint") != facts.get("_constraint")
            if must_go or other:
                remade.add(key)
    return remade


@dataclass(frozen=True)
class Attached:
    """How one kind is made and dropped."""

    create: Callable[[Mending, Key, Facts], ops.MigrateOperation]
    """Makes one, or replaces one of the name."""
    drop: Callable[[Mending, Key], ops.MigrateOperation]
    alter: Callable[[Mending, Key, Facts], ops.MigrateOperation] | None = None
    """Sets whether it fires."""

    def mend(self, mending: Mending, key: Key, aspects: set[str]) -> set[str]:
        """Plan what mends its aspects; what it is on and what it depends on is there then."""
        database, models = mending.sides(key)
        dropped: Planned = [self.drop(mending, key)]
        if database is None or models is None or key in mending.remade:
            if database is not None:
                mending.both(Phase.TRIGGERS_GO, dropped, self._made(mending, key, database))
            if models is not None:
                mending.both(Phase.TRIGGERS, self._made(mending, key, models), dropped)
        elif "definition" in aspects:
            commented = "comment" in database or "comment" in models
            up, down = (
                [
                    self.create(mending, key, facts),
                    *([mending.comment_op(key, facts.get("comment"))] if commented else []),
                ]
                for facts in (models, database)
            )
            mending.both(Phase.TRIGGERS, up, down)
        else:
            if "enabled" in aspects and self.alter is not None:
                up, down = [self.alter(mending, key, models)], [self.alter(mending, key, database)]
                mending.both(Phase.TRIGGERS, up, down)
            mending.comment(key)
        return set()

    def _made(self, mending: Mending, key: Key, facts: Facts) -> Planned:
        return [self.create(mending, key, facts), *mending.comment_of(key, facts)]
