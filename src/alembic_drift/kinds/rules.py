"""Rules on tables and views, but those that make a view."""

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
SELECT 'rule', heaps.relname, rulename, jsonb_build_object(
    'definition', rtrim(pg_get_ruledef(pg_rewrite.oid, true), ';'), 'enabled', {state("ev_enabled")},
    'comment', obj_description(pg_rewrite.oid, 'pg_rewrite'),
    {depends("pg_rewrite")})
FROM heaps JOIN pg_rewrite ON ev_class = heaps.oid WHERE rulename <> '_RETURN'"""  # noqa: S608 - ours


def _create(mending: Mending, key: Key, facts: Facts) -> "CreateRuleOp":
    return CreateRuleOp(
        key.name,
        str(key.table),
        facts["definition"],
        enabled=ENABLED[facts["enabled"]],
        schema=mending.schema,
    )


def _drop(mending: Mending, key: Key) -> "DropRuleOp":
    return DropRuleOp(key.name, str(key.table), schema=mending.schema)


def _alter(mending: Mending, key: Key, facts: Facts) -> "AlterRuleOp":
    enabled = ENABLED[facts["enabled"]]
    return AlterRuleOp(key.name, str(key.table), enabled=enabled, schema=mending.schema)


def _again(table: str, name: str, definition: str) -> tuple[list[str], str]:
    return (
        [f"DROP RULE {quote(name)} ON {table}", definition],
        "SELECT rtrim(pg_get_ruledef(oid, true), ';') FROM pg_rewrite"  # noqa: S608 - quoted
        f" WHERE ev_class = {literal(table)}::regclass AND rulename = {literal(name)}",
    )


RULES = Kind(("rule",), _QUERY, Attached(_create, _drop, _alter).mend, apart=True, again=_again)


# The operations.


@Operations.register_operation("create_rule", "create")
class CreateRuleOp(ops.MigrateOperation):
    """Create a rule, or replace one of the name."""

    def __init__(
        self,
        rule_name: str,
        table_name: str,
        definition: str,
        *,
        enabled: Enabled = True,
        schema: str | None = None,
    ) -> None:
        self.rule_name, self.table_name, self.definition = rule_name, table_name, definition
        self.enabled, self.schema = enabled, schema

    @classmethod
    def create(
        cls,
        operations: Operations,
        rule_name: str,
        table_name: str,
        definition: str,
        *,
        enabled: Enabled = True,
        schema: str | None = None,
    ) -> None:
        """Create a rule on a table or view, or replace one of the name.

        :param rule_name: its name.
        :param table_name: the table or view that it is on.
        :param definition: the whole CREATE RULE, as plain SQL.
        :param enabled: whether it is applied: as usual, never, "always", or on a "replica" alone.
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(cls(rule_name, table_name, definition, enabled=enabled, schema=schema))


@Operations.register_operation("drop_rule", "drop")
class DropRuleOp(ops.MigrateOperation):
    """Drop a rule."""

    def __init__(self, rule_name: str, table_name: str, *, schema: str | None = None) -> None:
        self.rule_name, self.table_name, self.schema = rule_name, table_name, schema

    @classmethod
    def drop(
        cls, operations: Operations, rule_name: str, table_name: str, *, schema: str | None = None
    ) -> None:
        """Drop a rule, if it is there."""
        operations.invoke(cls(rule_name, table_name, schema=schema))


@Operations.register_operation("alter_rule", "alter")
class AlterRuleOp(ops.MigrateOperation):
    """Set whether a rule is applied."""

    def __init__(
        self, rule_name: str, table_name: str, *, enabled: Enabled, schema: str | None = None
    ) -> None:
        self.rule_name, self.table_name = rule_name, table_name
        self.enabled, self.schema = enabled, schema

    @classmethod
    def alter(
        cls,
        operations: Operations,
        rule_name: str,
        table_name: str,
        *,
        enabled: Enabled,
        schema: str | None = None,
    ) -> None:
        """Set whether a rule of a table is applied; one that is not there is an error.

        :param rule_name: its name.
        :param table_name: the table that it is on.
        :param enabled: whether it is applied: as usual, never, "always", or on a "replica" alone.
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(cls(rule_name, table_name, enabled=enabled, schema=schema))


_CREATE = re.compile(r"\s*CREATE\s+(?:OR\s+REPLACE\s+)?RULE\b", re.IGNORECASE)


@Operations.implementation_for(CreateRuleOp)
def _create_rule(operations: Operations, operation: CreateRuleOp) -> None:
    found = _CREATE.match(operation.definition)
    if found is None:
        raise CommandError(f"the definition of rule {operation.rule_name} has no CREATE RULE")
    # OR REPLACE leaves a rule disabled that was; on a view none can be.
    table, name = qualified(operation.table_name, operation.schema), operation.rule_name
    statements = [f"CREATE OR REPLACE RULE{operation.definition[found.end() :]}"]
    if operation.enabled is True:
        statements.insert(0, f"DROP RULE IF EXISTS {quote(name)} ON {table}")
    else:
        statements.append(_set(operation))
    run_as_one(operations, statements)


@Operations.implementation_for(DropRuleOp)
def _drop_rule(operations: Operations, operation: DropRuleOp) -> None:
    table = qualified(operation.table_name, operation.schema)
    run(operations, f"DROP RULE IF EXISTS {quote(operation.rule_name)} ON {table}")


@Operations.implementation_for(AlterRuleOp)
def _alter_rule(operations: Operations, operation: AlterRuleOp) -> None:
    run(operations, _set(operation))


def _set(operation: CreateRuleOp | AlterRuleOp) -> str:
    name = f"RULE {quote(operation.rule_name)}"
    return on_table(operation.table_name, operation.schema, operation.enabled, name)


def _names(operation: Any) -> str:
    return f"{operation.rule_name!r}, {operation.table_name!r}"


@renderers.dispatch_for(CreateRuleOp)
def _render_create_rule(context: AutogenContext, operation: CreateRuleOp) -> str:
    imported(context)
    options = set_as(operation.enabled) + in_schema(operation.schema)
    return f"op.create_rule({_names(operation)}, {text_of(operation.definition)}{options})"


@renderers.dispatch_for(DropRuleOp)
def _render_drop_rule(context: AutogenContext, operation: DropRuleOp) -> str:
    imported(context)
    return f"op.drop_rule({_names(operation)}{in_schema(operation.schema)})"


@renderers.dispatch_for(AlterRuleOp)
def _render_alter_rule(context: AutogenContext, operation: AlterRuleOp) -> str:
    imported(context)
    options = f"enabled={operation.enabled!r}{in_schema(operation.schema)}"
    return f"op.alter_rule({_names(operation)}, {options})"
