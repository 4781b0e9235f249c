"""The triggers that enforce a foreign key: whether they fire. Only a superuser may change that."""

from collections.abc import Mapping

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import Operations, ops

from alembic_drift.kinds.attached import ENABLED, WORDS, Enabled, state
from alembic_drift.objects import Difference, Facts, Key
from alembic_drift.order import Phase
from alembic_drift.render import imported, in_schema, run
from alembic_drift.resolution import Planned, Resolution
from alembic_drift.sql import literal, qualified

TRIGGERS = "triggers"
"""The aspect of a foreign key: whether its triggers fire."""

_ENABLED = "enabled"

# Their names contain an OID, so they are identified by their functions.
FACTS = f"""\
'{TRIGGERS}', CASE contype WHEN 'f' THEN coalesce((
        SELECT string_agg(format('%s %s', proname, {state("tgenabled")}), ', ' ORDER BY proname)
        FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
        WHERE tgconstraint = pg_constraint.oid AND tgenabled <> 'O'), '{_ENABLED}') END,
    '_triggers', (SELECT jsonb_object_agg(proname, {state("tgenabled")})
        FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
        WHERE contype = 'f' AND tgconstraint = pg_constraint.oid AND tgenabled <> 'O'),
    '_may_set_triggers', current_setting('is_superuser')::boolean"""  # noqa: S608 - the names are ours


def resolve(resolution: Resolution, key: Key) -> bool:
    """Plan to make the triggers fire as the models say; return whether the role may do that."""
    database, models = resolution.sides(key)
    if database is None or models is None or database.get(TRIGGERS) == models.get(TRIGGERS):
        return True
    up, down = [_operation(resolution, key, models)], [_operation(resolution, key, database)]
    if database["_may_set_triggers"]:
        resolution.both(Phase.REST, up, down)
    return bool(database["_may_set_triggers"])


def set_on_new(resolution: Resolution, key: Key, facts: Facts) -> Planned:
    """Return what sets whether the triggers of a foreign key that was just added fire."""
    if facts.get(TRIGGERS, _ENABLED) == _ENABLED:
        return []
    if not facts["_may_set_triggers"]:
        line = str(Difference(key, TRIGGERS, _ENABLED, facts[TRIGGERS]))
        if facts is resolution.models.get(key) and line not in resolution.unresolved:
            resolution.unresolved.append(line)
        return []
    return [_operation(resolution, key, facts)]


def _operation(resolution: Resolution, key: Key, facts: Facts) -> "AlterConstraintTriggersOp":
    enabled = {function: ENABLED[said] for function, said in (facts.get("_triggers") or {}).items()}
    return AlterConstraintTriggersOp(key.name, str(key.table), enabled=enabled, schema=resolution.schema)


# The operation.


@Operations.register_operation("alter_constraint_triggers", "alter")
class AlterConstraintTriggersOp(ops.MigrateOperation):
    """Set whether the triggers of a foreign key fire."""

    def __init__(
        self,
        constraint_name: str,
        table_name: str,
        *,
        enabled: Mapping[str, Enabled],
        schema: str | None = None,
    ) -> None:
        self.constraint_name, self.table_name = constraint_name, table_name
        self.enabled, self.schema = enabled, schema

    @classmethod
    def alter(
        cls,
        operations: Operations,
        constraint_name: str,
        table_name: str,
        *,
        enabled: Mapping[str, Enabled],
        schema: str | None = None,
    ) -> None:
        """Set whether the triggers of a foreign key fire; if it does not exist, raise an error.

        Only a superuser may do that.

        :param constraint_name: the name of the foreign key.
        :param table_name: its table.
        :param enabled: whether a trigger fires, by its function (``RI_FKey_check_ins``): True, False,
            "always", or "replica" (in replication sessions). Those that are not named fire normally.
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(cls(constraint_name, table_name, enabled=enabled, schema=schema))


@Operations.implementation_for(AlterConstraintTriggersOp)
def _alter_constraint_triggers(operations: Operations, operation: AlterConstraintTriggersOp) -> None:
    table = literal(qualified(operation.table_name, operation.schema))
    cases = "".join(
        f" WHEN {literal(function)} THEN {literal(WORDS[enabled])}"
        for function, enabled in operation.enabled.items()
    )
    how = f"CASE proname{cases} ELSE 'ENABLE' END" if cases else "'ENABLE'"
    name = literal(operation.constraint_name)
    run(
        operations,
        f"""\
DO $alter$ DECLARE of_key oid; statement text; BEGIN
SELECT oid INTO of_key FROM pg_constraint
WHERE conrelid = {table}::regclass AND conname = {name} AND contype = 'f';
IF of_key IS NULL THEN
    RAISE EXCEPTION 'table % has no foreign key %', {literal(operation.table_name)}, {name};
END IF;
FOR statement IN
    SELECT format('ALTER TABLE %s %s TRIGGER %I', tgrelid::regclass, {how}, tgname)
    FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid WHERE tgconstraint = of_key ORDER BY proname
LOOP
    EXECUTE statement;
END LOOP;
END $alter$""",  # noqa: S608 - the names are quoted
        summary=f"change which triggers of {operation.constraint_name} on {operation.table_name} fire",
    )


@renderers.dispatch_for(AlterConstraintTriggersOp)
def _render_alter_constraint_triggers(context: AutogenContext, operation: AlterConstraintTriggersOp) -> str:
    imported(context)
    names = f"{operation.constraint_name!r}, {operation.table_name!r}"
    options = f"enabled={dict(operation.enabled)!r}{in_schema(operation.schema)}"
    return f"op.alter_constraint_triggers({names}, {options})"
