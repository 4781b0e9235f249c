"""Policies, and the row security of a table, without which policies have no effect."""

from collections.abc import Sequence

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import Operations, ops

from alembic_drift.kinds.attached import Attached, DropOp, depends
from alembic_drift.objects import Facts, Key
from alembic_drift.order import Phase
from alembic_drift.render import as_one, imported, in_schema, run, text_of
from alembic_drift.resolution import Kind, Resolution
from alembic_drift.sql import literal, qualified, quote

_ROLES = """\
(SELECT jsonb_agg(name ORDER BY name) FROM unnest(polroles) AS role CROSS JOIN LATERAL
    (SELECT CASE role WHEN 0 THEN 'public' ELSE pg_get_userbyid(role) END AS name) AS named)"""
_COMMAND = """\
CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
    ELSE 'ALL' END"""
_DEFINITION = f"""\
concat_ws(' ', CASE WHEN polpermissive THEN 'AS PERMISSIVE' ELSE 'AS RESTRICTIVE' END, 'FOR ' || {_COMMAND},
    'TO ' || (SELECT string_agg(quote_ident(name), ', ' ORDER BY name)
        FROM jsonb_array_elements_text({_ROLES}) AS name),
    'USING (' || pg_get_expr(polqual, polrelid, true) || ')',
    'WITH CHECK (' || pg_get_expr(polwithcheck, polrelid, true) || ')')"""  # noqa: S608 - the names are ours
"""SQL for the text after CREATE POLICY … ON …, from a row of pg_policy."""

_QUERY = f"""\
SELECT 'policy', heaps.relname, polname, jsonb_build_object(
    'definition', {_DEFINITION}, 'comment', obj_description(pg_policy.oid, 'pg_policy'),
    '_permissive', polpermissive, '_command', {_COMMAND}, '_roles', {_ROLES},
    '_using', pg_get_expr(polqual, polrelid, true), '_check', pg_get_expr(polwithcheck, polrelid, true),
    {depends("pg_policy")})
FROM heaps JOIN pg_policy ON polrelid = heaps.oid"""  # noqa: S608 - the names are ours


def _create(resolution: Resolution, key: Key, facts: Facts) -> "CreatePolicyOp":
    return CreatePolicyOp(
        key.name,
        str(key.table),
        using=facts.get("_using"),
        with_check=facts.get("_check"),
        command=facts["_command"],
        roles=facts["_roles"],
        permissive=facts["_permissive"],
        schema=resolution.schema,
    )


def _recreate(table: str, name: str, definition: str) -> tuple[list[str], str]:
    on = f"{quote(name)} ON {table}"
    return (
        [f"DROP POLICY {on}", f"CREATE POLICY {on} {definition}"],
        f"SELECT {_DEFINITION} FROM pg_policy"  # noqa: S608 - quoted
        f" WHERE polrelid = {literal(table)}::regclass AND polname = {literal(name)}",
    )


ROW_SECURITY = "row security"
"""The aspect of a table: "enabled", "forced", both, or none."""


def resolve_row_security(resolution: Resolution, key: Key) -> None:
    """Plan to enable row security only while its policies exist: without a policy, it hides all rows."""
    database, models = resolution.sides(key)
    said = [(facts or {}).get(ROW_SECURITY, "") for facts in (database, models)]
    if said[0] == said[1]:
        return
    down, up = (
        SetRowSecurityOp(
            key.name, enabled="enabled" in aspect, forced="forced" in aspect, schema=resolution.schema
        )
        for aspect in said
    )
    phase = Phase.SECURITY if "enabled" in said[1] else Phase.SECURITY_GOES
    # A table that does not exist yet, or any more, has nothing to set.
    resolution.both(phase, [up] if models is not None else [], [down] if database is not None else [])


# The operations.


@Operations.register_operation("create_policy", "create")
class CreatePolicyOp(ops.MigrateOperation):
    """Create or replace a policy."""

    def __init__(
        self,
        policy_name: str,
        table_name: str,
        *,
        using: str | None = None,
        with_check: str | None = None,
        command: str = "ALL",
        roles: Sequence[str] = ("public",),
        permissive: bool = True,
        schema: str | None = None,
    ) -> None:
        self.policy_name, self.table_name, self.schema = policy_name, table_name, schema
        self.using, self.with_check, self.command = using, with_check, command
        self.roles, self.permissive = roles, permissive

    @classmethod
    def create(
        cls,
        operations: Operations,
        policy_name: str,
        table_name: str,
        *,
        using: str | None = None,
        with_check: str | None = None,
        command: str = "ALL",
        roles: Sequence[str] = ("public",),
        permissive: bool = True,
        schema: str | None = None,
    ) -> None:
        """Create or replace a policy of a table.

        :param policy_name: its name.
        :param table_name: its table.
        :param using: an expression, as plain SQL: which rows can be seen and changed.
        :param with_check: an expression: which new rows can be written; without it, ``using`` decides.
        :param command: SELECT, INSERT, UPDATE, DELETE, or ALL.
        :param roles: names of the roles to which it applies; ``public`` for all.
        :param permissive: True: one permissive policy has to allow a row; False: this one must, too.
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(
            cls(
                policy_name,
                table_name,
                using=using,
                with_check=with_check,
                command=command,
                roles=roles,
                permissive=permissive,
                schema=schema,
            )
        )


@Operations.register_operation("drop_policy", "drop")
class DropPolicyOp(DropOp):
    """Drop a policy."""

    operation, word = "drop_policy", "POLICY"

    @classmethod
    def drop(
        cls, operations: Operations, policy_name: str, table_name: str, *, schema: str | None = None
    ) -> None:
        """Drop a policy of a table, if it exists."""
        operations.invoke(cls(policy_name, table_name, schema=schema))


@Operations.register_operation("set_row_security", "set_row_security")
class SetRowSecurityOp(ops.MigrateOperation):
    """Set whether the policies of a table apply."""

    def __init__(
        self, table_name: str, *, enabled: bool, forced: bool = False, schema: str | None = None
    ) -> None:
        self.table_name, self.enabled, self.forced, self.schema = table_name, enabled, forced, schema

    @classmethod
    def set_row_security(
        cls,
        operations: Operations,
        table_name: str,
        *,
        enabled: bool,
        forced: bool = False,
        schema: str | None = None,
    ) -> None:
        """Set whether the policies of a table apply. If enabled without a policy, no row is visible.

        :param table_name: the table.
        :param enabled: whether they apply.
        :param forced: whether they apply to the owner of the table as well.
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(cls(table_name, enabled=enabled, forced=forced, schema=schema))


@Operations.implementation_for(CreatePolicyOp)
def _create_policy(operations: Operations, operation: CreatePolicyOp) -> None:
    on = f"{quote(operation.policy_name)} ON {qualified(operation.table_name, operation.schema)}"
    roles = ", ".join("PUBLIC" if role == "public" else quote(role) for role in operation.roles)
    definition = (
        f"AS {'PERMISSIVE' if operation.permissive else 'RESTRICTIVE'} FOR {operation.command} TO {roles}"
    )
    definition += "" if operation.using is None else f" USING ({operation.using})"
    definition += "" if operation.with_check is None else f" WITH CHECK ({operation.with_check})"
    both = [f"DROP POLICY IF EXISTS {on}", f"CREATE POLICY {on} {definition}"]
    run(operations, as_one(both), summary=";\n".join(both))


@Operations.implementation_for(SetRowSecurityOp)
def _set_row_security(operations: Operations, operation: SetRowSecurityOp) -> None:
    enabled, forced = "ENABLE" if operation.enabled else "DISABLE", "" if operation.forced else "NO "
    table = qualified(operation.table_name, operation.schema)
    run(operations, f"ALTER TABLE {table} {enabled} ROW LEVEL SECURITY, {forced}FORCE ROW LEVEL SECURITY")


@renderers.dispatch_for(CreatePolicyOp)
def _render_create_policy(context: AutogenContext, operation: CreatePolicyOp) -> str:
    imported(context)
    options = "" if operation.using is None else f", using={text_of(operation.using)}"
    options += "" if operation.with_check is None else f", with_check={text_of(operation.with_check)}"
    options += "" if operation.command == "ALL" else f", command={operation.command!r}"
    options += "" if [*operation.roles] == ["public"] else f", roles={[*operation.roles]!r}"
    options += "" if operation.permissive else ", permissive=False"
    options += in_schema(operation.schema)
    return f"op.create_policy({operation.policy_name!r}, {operation.table_name!r}{options})"


@renderers.dispatch_for(SetRowSecurityOp)
def _render_set_row_security(context: AutogenContext, operation: SetRowSecurityOp) -> str:
    imported(context)
    options = f"enabled={operation.enabled!r}" + (", forced=True" if operation.forced else "")
    return f"op.set_row_security({operation.table_name!r}, {options}{in_schema(operation.schema)})"


POLICIES = Kind(
    ("policy",), _QUERY, Attached(_create, DropPolicyOp).resolve, separate=True, recreate=_recreate
)
