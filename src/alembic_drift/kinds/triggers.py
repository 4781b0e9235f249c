"""Triggers and constraint triggers on tables and views. key_triggers.py has those of foreign keys."""

import re
from collections.abc import Iterator

from alembic.operations import Operations
from alembic.util import CommandError

from alembic_drift.kinds.attached import (
    AlterOp,
    Attached,
    CreateOp,
    DropOp,
    Enabled,
    by_definition,
    depends,
    state,
)
from alembic_drift.render import as_one
from alembic_drift.resolution import Kind
from alembic_drift.sql import literal, quote

_QUERY = f"""\
SELECT 'trigger', heaps.relname, tgname, jsonb_build_object(
    'definition', pg_get_triggerdef(pg_trigger.oid, true), 'enabled', {state("tgenabled")},
    'comment', obj_description(pg_trigger.oid, 'pg_trigger'), '_constraint', tgconstraint <> 0,
    {depends("pg_trigger")})
FROM heaps JOIN pg_trigger ON tgrelid = heaps.oid WHERE NOT tgisinternal"""  # noqa: S608 - the names are ours


def _recreate(table: str, name: str, definition: str) -> tuple[list[str], str]:
    return (
        [f"DROP TRIGGER {quote(name)} ON {table}", definition],
        "SELECT pg_get_triggerdef(oid, true) FROM pg_trigger"  # noqa: S608 - quoted
        f" WHERE tgrelid = {literal(table)}::regclass AND tgname = {literal(name)}",
    )


# The operations.

_CREATE = re.compile(
    r"\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?P<constraint>CONSTRAINT\s+)?TRIGGER\b", re.IGNORECASE
)


@Operations.register_operation("create_trigger", "create")
class CreateTriggerOp(CreateOp):
    """Create or replace a trigger."""

    operation, word = "create_trigger", "TRIGGER"

    def statements(self) -> Iterator[str]:
        """Yield one statement that creates the trigger, or replaces an existing one if it can."""
        found = _CREATE.match(self.definition)
        if found is None:
            raise CommandError(f"the definition of trigger {self.name} does not begin with CREATE TRIGGER")
        rest = self.definition[found.end() :]
        if found["constraint"]:  # it has no OR REPLACE
            drop = f"DROP TRIGGER IF EXISTS {quote(self.name)} ON {self.table}"
            statements = [drop, f"CREATE CONSTRAINT TRIGGER{rest}"]
        else:
            statements = [f"CREATE OR REPLACE TRIGGER{rest}"]
        if self.enabled is not True:
            statements.append(self.setting())
        yield as_one(statements)

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
        """Create or replace a trigger on a table or view.

        If a constraint trigger has the name, it cannot be replaced by a trigger: the server raises an error.

        :param trigger_name: its name.
        :param table_name: the table or view that it is on.
        :param definition: the whole CREATE TRIGGER or CREATE CONSTRAINT TRIGGER, as plain SQL.
        :param enabled: whether it fires: True, False, "always", or "replica" (in replication sessions).
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(cls(trigger_name, table_name, definition, enabled=enabled, schema=schema))


@Operations.register_operation("drop_trigger", "drop")
class DropTriggerOp(DropOp):
    """Drop a trigger."""

    operation, word = "drop_trigger", "TRIGGER"

    @classmethod
    def drop(
        cls, operations: Operations, trigger_name: str, table_name: str, *, schema: str | None = None
    ) -> None:
        """Drop a trigger, if it exists."""
        operations.invoke(cls(trigger_name, table_name, schema=schema))


@Operations.register_operation("alter_trigger", "alter")
class AlterTriggerOp(AlterOp):
    """Set whether a trigger fires."""

    operation, word = "alter_trigger", "TRIGGER"

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
        """Set whether a trigger of a table fires; if it does not exist, raise an error.

        :param trigger_name: its name.
        :param table_name: the table that it is on.
        :param enabled: whether it fires: True, False, "always", or "replica" (in replication sessions).
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(cls(trigger_name, table_name, enabled=enabled, schema=schema))


TRIGGERS = Kind(
    ("trigger",),
    _QUERY,
    Attached(by_definition(CreateTriggerOp), DropTriggerOp, AlterTriggerOp).resolve,
    separate=True,
    recreate=_recreate,
)
