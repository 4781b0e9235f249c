"""Triggers on tables and views, constraint triggers among them. Those of foreign keys are with these."""

import re
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import Operations, ops
from alembic.util import CommandError

from alembic_drift.kinds.attached import ENABLED, Attached, Enabled, depends, on_table, set_as, state
from alembic_drift.mending import Kind, Mending
from alembic_drift.objects import Facts, Key
from alembic_drift.render import imported, in_schema, run, run_as_one, text_of
from alembic_drift.sql import literal, qualified, quote

_QUERY = f"""\
SELECT 'trigger', heaps.relname, tgname, jsonb_build_object(
    'definition', pg_get_triggerdef(pg_trigger.oid, true), 'enabled', {state("tgenabled")},
    'comment', obj_description(pg_trigger.oid, 'pg_trigger'), '_constraint', tgconstraint <> 0,
    {depends("pg_trigger")})
FROM heaps JOIN pg_trigger ON tgrelid = heaps.oid WHERE NOT tgisinternal"""  # noqa: S608 - the names are ours


def _create(mending: Mending, key: Key, facts: Facts) -> "CreateTriggerOp":
    return CreateTriggerOp(
        key.name,
        str(key.table),
        facts["definition"],
        enabled=ENABLED[facts["enabled"]],
        schema=mending.schema,
    )


def _drop(mending: Mending, key: Key) -> "DropTriggerOp":
    return DropTriggerOp(key.name, str(key.table), schema=mending.schema)


def _alter(mending: Mending, key: Key, facts: Facts) -> "AlterTriggerOp":
    enabled = ENABLED[facts["enabled"]]
    return AlterTriggerOp(key.name, str(key.table), enabled=enabled, schema=mending.schema)


def _again(table: str, name: str, definition: str) -> tuple[list[str], str]:
    return (
        [f"DROP TRIGGER {quote(name)} ON {table}", definition],
        "SELECT pg_get_triggerdef(oid, true) FROM pg_trigger"  # noqa: S608 - quoted
        f" WHERE tgrelid = {literal(table)}::regclass AND tgname = {literal(name)}",
    )


TRIGGERS = Kind(("trigger",), _QUERY, Attached(_create, _drop, _alter).mend, apart=True, again=_again)


# The operations.


@Operations.register_operation("create_trigger", "create")
class CreateTriggerOp(ops.MigrateOperation):
    """Create a trigger, or replace one of the name."""

    def __init__(
        self,
        trigger_name: str,
        table_name: str,
        definition: str,
        *,
        enabled: Enabled = True,
        schema: str | None = None,
    ) -> None:
        self.trigger_name, self.table_name, self.definition = trigger_name, table_name, definition
        self.enabled, self.schema = enabled, schema

    @classmethod
    def create(
        cls,
        operations: Operations,
        trigger_name: str,
        table_name: str,
        definition: str,
        *,
        enabled: Enabled = True,
        schema: str | None = None,
    ) -> None:
        """Create a trigger on a table or view, or replace one of the name.

        A constraint trigger of the name is not replaced by another trigger: that is an error of the server.

        :param trigger_name: its name.
        :param table_name: the table or view that it is on.
        :param definition: the whole CREATE TRIGGER or CREATE CONSTRAINT TRIGGER, as plain SQL.
        :param enabled: whether it fires: as usual, never, "always", or on a "replica" alone.
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(cls(trigger_name, table_name, definition, enabled=enabled, schema=schema))


@Operations.register_operation("drop_trigger", "drop")
class DropTriggerOp(ops.MigrateOperation):
    """Drop a trigger."""

    def __init__(self, trigger_name: str, table_name: str, *, schema: str | None = None) -> None:
        self.trigger_name, self.table_name, self.schema = trigger_name, table_name, schema

    @classmethod
    def drop(
        cls, operations: Operations, trigger_name: str, table_name: str, *, schema: str | None = None
    ) -> None:
        """Drop a trigger, if it is there."""
        operations.invoke(cls(trigger_name, table_name, schema=schema))


@Operations.register_operation("alter_trigger", "alter")
class AlterTriggerOp(ops.MigrateOperation):
    """Set whether a trigger fires."""

    def __init__(
        self, trigger_name: str, table_name: str, *, enabled: Enabled, schema: str | None = None
    ) -> None:
        self.trigger_name, self.table_name = trigger_name, table_name
        self.enabled, self.schema = enabled, schema

    @classmethod
    def alter(
        cls,
        operations: Operations,
        trigger_name: str,
        table_name: str,
        *,
        enabled: Enabled,
        schema: str | None = None,
    ) -> None:
        """Set whether a trigger of a table fires; one that is not there is an error.

        :param trigger_name: its name.
        :param table_name: the table that it is on.
        :param enabled: whether it fires: as usual, never, "always", or on a "replica" alone.
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(cls(trigger_name, table_name, enabled=enabled, schema=schema))


_CREATE = re.compile(
    r"\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?P<constraint>CONSTRAINT\s+)?TRIGGER\b", re.IGNORECASE
)


@Operations.implementation_for(CreateTriggerOp)
def _create_trigger(operations: Operations, operation: CreateTriggerOp) -> None:
    found = _CREATE.match(operation.definition)
    if found is None:
        raise CommandError(f"the definition of trigger {operation.trigger_name} has no CREATE TRIGGER")
    table, name = qualified(operation.table_name, operation.schema), quote(operation.trigger_name)
    rest = operation.definition[found.end() :]
    if found["constraint"]:  # which has no OR REPLACE
        statements = [f"DROP TRIGGER IF EXISTS {name} ON {table}", f"CREATE CONSTRAINT TRIGGER{rest}"]
    else:
        statements = [f"CREATE OR REPLACE TRIGGER{rest}"]
    if operation.enabled is not True:
        statements.append(_set(operation))
    run_as_one(operations, statements)


@Operations.implementation_for(DropTriggerOp)
def _drop_trigger(operations: Operations, operation: DropTriggerOp) -> None:
    table = qualified(operation.table_name, operation.schema)
    run(operations, f"DROP TRIGGER IF EXISTS {quote(operation.trigger_name)} ON {table}")


@Operations.implementation_for(AlterTriggerOp)
def _alter_trigger(operations: Operations, operation: AlterTriggerOp) -> None:
    run(operations, _set(operation))


def _set(operation: CreateTriggerOp | AlterTriggerOp) -> str:
    name = f"TRIGGER {quote(operation.trigger_name)}"
    return on_table(operation.table_name, operation.schema, operation.enabled, name)


def _names(operation: Any) -> str:
    return f"{operation.trigger_name!r}, {operation.table_name!r}"


@renderers.dispatch_for(CreateTriggerOp)
def _render_create_trigger(context: AutogenContext, operation: CreateTriggerOp) -> str:
    imported(context)
    options = set_as(operation.enabled) + in_schema(operation.schema)
    return f"op.create_trigger({_names(operation)}, {text_of(operation.definition)}{options})"


@renderers.dispatch_for(DropTriggerOp)
def _render_drop_trigger(context: AutogenContext, operation: DropTriggerOp) -> str:
    imported(context)
    return f"op.drop_trigger({_names(operation)}{in_schema(operation.schema)})"


@renderers.dispatch_for(AlterTriggerOp)
def _render_alter_trigger(context: AutogenContext, operation: AlterTriggerOp) -> str:
    imported(context)
    options = f"enabled={operation.enabled!r}{in_schema(operation.schema)}"
    return f"op.alter_trigger({_names(operation)}, {options})"
