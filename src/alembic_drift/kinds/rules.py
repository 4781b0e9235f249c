"""Rules on tables and views, except those that define a view."""

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
SELECT 'rule', heaps.relname, rulename, jsonb_build_object(
    'definition', rtrim(pg_get_ruledef(pg_rewrite.oid, true), ';'), 'enabled', {state("ev_enabled")},
    'comment', obj_description(pg_rewrite.oid, 'pg_rewrite'),
    {depends("pg_rewrite")})
FROM heaps JOIN pg_rewrite ON ev_class = heaps.oid WHERE rulename <> '_RETURN'"""  # noqa: S608 - ours


def _recreate(table: str, name: str, definition: str) -> tuple[list[str], str]:
    return (
        [f"DROP RULE {quote(name)} ON {table}", definition],
        "SELECT rtrim(pg_get_ruledef(oid, true), ';') FROM pg_rewrite"  # noqa: S608 - quoted
        f" WHERE ev_class = {literal(table)}::regclass AND rulename = {literal(name)}",
    )


# The operations.

_CREATE = re.compile(r"\s*CREATE\s+(?:OR\s+REPLACE\s+)?RULE\b", re.IGNORECASE)


@Operations.register_operation("create_rule", "create")
class CreateRuleOp(CreateOp):
    """Create or replace a rule."""

    operation, word = "create_rule", "RULE"

    def statements(self) -> Iterator[str]:
        """Yield one statement that creates the rule, or replaces an existing one."""
        found = _CREATE.match(self.definition)
        if found is None:
            raise CommandError(f"the definition of rule {self.name} does not begin with CREATE RULE")
        # OR REPLACE keeps a disabled rule disabled. A rule on a view cannot be disabled.
        statements = [f"CREATE OR REPLACE RULE{self.definition[found.end() :]}"]
        if self.enabled is True:
            statements.insert(0, f"DROP RULE IF EXISTS {quote(self.name)} ON {self.table}")
        else:
            statements.append(self.setting())
        yield as_one(statements)

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
        """Create or replace a rule on a table or view.

        :param rule_name: its name.
        :param table_name: the table or view that it is on.
        :param definition: the whole CREATE RULE, as plain SQL.
        :param enabled: whether it applies: True, False, "always", or "replica" (in replication sessions).
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(cls(rule_name, table_name, definition, enabled=enabled, schema=schema))


@Operations.register_operation("drop_rule", "drop")
class DropRuleOp(DropOp):
    """Drop a rule."""

    operation, word = "drop_rule", "RULE"

    @classmethod
    def drop(
        cls, operations: Operations, rule_name: str, table_name: str, *, schema: str | None = None
    ) -> None:
        """Drop a rule, if it exists."""
        operations.invoke(cls(rule_name, table_name, schema=schema))


@Operations.register_operation("alter_rule", "alter")
class AlterRuleOp(AlterOp):
    """Set whether a rule applies."""

    operation, word = "alter_rule", "RULE"

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
        """Set whether a rule of a table applies; if it does not exist, raise an error.

        :param rule_name: its name.
        :param table_name: the table that it is on.
        :param enabled: whether it applies: True, False, "always", or "replica" (in replication sessions).
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(cls(rule_name, table_name, enabled=enabled, schema=schema))


RULES = Kind(
    ("rule",),
    _QUERY,
    Attached(by_definition(CreateRuleOp), DropRuleOp, AlterRuleOp).resolve,
    separate=True,
    recreate=_recreate,
)
