"""Shared by triggers, rules and policies: they belong to a table or view, and depend on other objects."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from alembic.operations import ops

from alembic_drift.kinds import functions
from alembic_drift.objects import Facts, Key
from alembic_drift.order import Phase
from alembic_drift.render import text_of
from alembic_drift.resolution import Planned, Resolution
from alembic_drift.simple import SimpleOp, named
from alembic_drift.sql import qualified, quote

Enabled = bool | Literal["always", "replica"]
"""Whether a trigger or rule fires: normally, never, always, or only in replication sessions."""

ENABLED: dict[str, Enabled] = {
    "enabled": True,
    "disabled": False,
    "enabled always": "always",
    "enabled on replicas": "replica",
}
"""The argument of an operation, by the value of the fact ``enabled``."""

WORDS: dict[Enabled, str] = {
    True: "ENABLE",
    False: "DISABLE",
    "always": "ENABLE ALWAYS",
    "replica": "ENABLE REPLICA",
}
"""The words of ALTER TABLE, by the argument of an operation."""


def state(column: str) -> str:
    """Return SQL for the fact ``enabled``, from a column of pg_trigger or pg_rewrite."""
    return (
        f"CASE {column} WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'enabled always'"
        " ELSE 'enabled on replicas' END"
    )


def depends(catalog: str) -> str:
    """Return SQL for the facts ``_reads`` and ``_calls``: what a row of a catalog depends on."""
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


def to_recreate(resolution: Resolution) -> set[Key]:
    """Return the triggers, rules and policies to drop before a change and to create after it.

    They read a column that changes, call a function that is recreated, or are on a view that is rebuilt. A
    trigger that becomes a constraint trigger is one of them. Unmanaged ones are only noted.
    """
    changed = resolution.changed_columns()
    gone = {view.name for view in resolution.rebuilt}
    routines = {key.name for key in functions.to_recreate(resolution)}
    for key, aspect, _, models in resolution.differences:
        if key.kind == "table" and aspect == "" and models is None:
            gone.add(key.name)
    recreated: set[Key] = set()
    for key, facts in resolution.database.items():
        if key.kind not in _KINDS or key.table in resolution.clashing:
            continue
        is_on_changed = any(read[0] in gone or tuple(read) in changed for read in facts["_reads"])
        must_go = key.table in gone or is_on_changed or not routines.isdisjoint(facts["_calls"])
        if key in resolution.unmanaged:
            if must_go and key.table not in gone:
                resolution.unresolved.append(f"{key}: unmanaged, and depends on what changes; drop it first")
        elif key in resolution.models:
            other = resolution.models[key].get("_constraint") != facts.get("_constraint")
            if must_go or other:
                recreated.add(key)
    return recreated


@dataclass(frozen=True)
class Attached:
    """How to create, alter and drop one kind."""

    create: Callable[[Resolution, Key, Facts], ops.MigrateOperation]
    """Creates one, or replaces an existing one."""
    drop: "type[DropOp]"
    alter: "type[AlterOp] | None" = None
    """Sets whether it fires."""

    def resolve(self, resolution: Resolution, key: Key, aspects: set[str]) -> set[str]:
        """Plan what resolves its differences, when its table and its dependencies exist."""
        database, models = resolution.sides(key)
        dropped: Planned = [self.drop(key.name, str(key.table), schema=resolution.schema)]
        if database is None or models is None or key in resolution.recreated:
            if database is not None:
                resolution.both(Phase.TRIGGERS_GO, dropped, self._made(resolution, key, database))
            if models is not None:
                resolution.both(Phase.TRIGGERS, self._made(resolution, key, models), dropped)
        elif "definition" in aspects:
            commented = "comment" in database or "comment" in models
            up, down = (
                [
                    self.create(resolution, key, facts),
                    *([resolution.comment_op(key, facts.get("comment"))] if commented else []),
                ]
                for facts in (models, database)
            )
            resolution.both(Phase.TRIGGERS, up, down)
        else:
            if "enabled" in aspects and self.alter is not None:
                name, table, schema = key.name, str(key.table), resolution.schema
                set_up, set_down = (
                    self.alter(name, table, enabled=ENABLED[facts["enabled"]], schema=schema)
                    for facts in (models, database)
                )
                resolution.both(Phase.TRIGGERS, [set_up], [set_down])
            resolution.comment(key)
        return set()

    def _made(self, resolution: Resolution, key: Key, facts: Facts) -> Planned:
        return [self.create(resolution, key, facts), *resolution.comment_of(key, facts)]


# Their operations.


class AttachedOp(SimpleOp):
    """An operation on a trigger, rule or policy."""

    word: ClassVar[str]

    def __init__(self, name: str, table_name: str, *, schema: str | None = None) -> None:
        self.name, self.table_name, self.schema = name, table_name, schema

    @property
    def table(self) -> str:
        """The table, as written in SQL."""
        return qualified(self.table_name, self.schema)

    def options(self) -> Iterator[str]:
        """Yield the arguments between the names and the schema."""
        return iter(())

    def arguments(self) -> Iterator[str]:
        """Yield the arguments."""
        yield from (repr(self.name), repr(self.table_name))
        yield from self.options()
        yield from named(schema=self.schema)


class DropOp(AttachedOp):
    """Drop a trigger, rule or policy, if it exists."""

    def statements(self) -> Iterator[str]:
        """Yield the DROP."""
        yield f"DROP {self.word} IF EXISTS {quote(self.name)} ON {self.table}"


class AlterOp(AttachedOp):
    """Set whether a trigger or rule fires."""

    def __init__(self, name: str, table_name: str, *, enabled: Enabled, schema: str | None = None) -> None:
        super().__init__(name, table_name, schema=schema)
        self.enabled = enabled

    def setting(self) -> str:
        """Return the statement that sets it."""
        return f"ALTER TABLE {self.table} {WORDS[self.enabled]} {self.word} {quote(self.name)}"

    def statements(self) -> Iterator[str]:
        """Yield the statement that sets it."""
        yield self.setting()

    def options(self) -> Iterator[str]:
        """Yield whether it fires."""
        yield f"enabled={self.enabled!r}"


class CreateOp(AlterOp):
    """Create or replace a trigger or rule."""

    def __init__(
        self,
        name: str,
        table_name: str,
        definition: str,
        *,
        enabled: Enabled = True,
        schema: str | None = None,
    ) -> None:
        super().__init__(name, table_name, enabled=enabled, schema=schema)
        self.definition = definition

    def options(self) -> Iterator[str]:
        """Yield the definition, and ``enabled`` unless it is True."""
        yield text_of(self.definition)
        if self.enabled is not True:
            yield from super().options()


def by_definition(operation: type[CreateOp]) -> Callable[[Resolution, Key, Facts], CreateOp]:
    """Return a function that creates a trigger or rule from the server's definition of it."""

    def create(resolution: Resolution, key: Key, facts: Facts) -> CreateOp:
        enabled = ENABLED[facts["enabled"]]
        return operation(
            key.name, str(key.table), facts["definition"], enabled=enabled, schema=resolution.schema
        )

    return create
