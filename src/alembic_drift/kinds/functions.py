"""Functions and procedures. Aggregates are only reported."""

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import Operations, ops

from alembic_drift.kinds import privileges
from alembic_drift.objects import Facts, Key
from alembic_drift.order import Phase
from alembic_drift.render import imported, run, text_of
from alembic_drift.resolution import Kind, Planned, Resolution
from alembic_drift.sql import quote

SIGNATURE = "format('%I(%s)', proname, oidvectortypes(proargtypes))"
"""SQL for the name and argument types of a row of pg_proc, which identify a function."""

_QUERY = """\
SELECT CASE prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END, NULL,
    @SIGNATURE, jsonb_build_object(
    'definition', CASE WHEN prokind <> 'a' THEN pg_get_functiondef(pg_proc.oid)
        ELSE format('%s %s %s %s %s', aggtransfn, format_type(aggtranstype, NULL), aggfinalfn, aggcombinefn,
            agginitval) END,
    'comment', obj_description(pg_proc.oid, 'pg_proc'), '_name', proname,
    '_fixed', concat_ws(' ', pg_get_function_result(pg_proc.oid), proargnames, proargmodes, pronargdefaults),
    '_search_path', (
        SELECT setting FROM unnest(proconfig) AS setting WHERE setting LIKE 'search\\_path=%'),
    '_needed_by', (SELECT coalesce(jsonb_agg(DISTINCT classid::regclass::text), '[]') FROM pg_depend
        WHERE refclassid = 'pg_proc'::regclass AND refobjid = pg_proc.oid),
    '_uses', (SELECT coalesce(jsonb_agg(DISTINCT relname), '[]') FROM pg_depend
        JOIN relations ON relations.oid = refobjid OR (relations.reltype = refobjid AND reltype <> 0)
            OR (refobjid = (SELECT typarray FROM pg_type WHERE pg_type.oid = relations.reltype)
                AND reltype <> 0)
        WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid))
FROM pg_proc LEFT JOIN pg_aggregate ON aggfnoid = pg_proc.oid
WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = :schema)
  AND ('pg_proc'::regclass, pg_proc.oid) NOT IN (TABLE extensions)
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = pg_proc.oid
      AND deptype = 'i')""".replace("@SIGNATURE", SIGNATURE)


def _resolve(resolution: Resolution, key: Key, aspects: set[str]) -> set[str]:
    if key.kind == "aggregate":
        return aspects
    database, models = resolution.sides(key)
    dropped: Planned = [DropFunctionOp(_signature(resolution, key))]
    if database is None and models is not None and (twin := _twin(key)) in resolution.database:
        _replace_kind(resolution, twin, key)
    elif models is None and _twin(key) in resolution.models:
        pass  # planned with its twin
    elif aspects == {"comment"}:
        resolution.comment(key)
    elif database is None and models is not None:
        resolution.both(_phase(resolution, models), _create(resolution, key, models), dropped)
    elif models is None and database is not None:
        resolution.both(Phase.FUNCTIONS_GO, dropped, _create(resolution, key, database))
    elif database is not None and models is not None:
        up, down = _create(resolution, key, models), _create(resolution, key, database)
        if key in to_recreate(resolution):
            up, down = _recreate(resolution, key, up), _recreate(resolution, key, down)
        elif database.get("comment") != models.get("comment"):
            up = [up[0], resolution.comment_op(key, models.get("comment"))]
            down = [down[0], resolution.comment_op(key, database.get("comment"))]
        resolution.both(_phase(resolution, models), up, down)
    return set()


def to_recreate(resolution: Resolution) -> set[Key]:
    """Return the functions with differences that CREATE OR REPLACE cannot resolve."""
    return {
        key
        for key in resolution.database.keys() & resolution.models.keys()
        if key.kind in {"function", "procedure"}
        and resolution.database[key]["_fixed"] != resolution.models[key]["_fixed"]
    }


def _twin(key: Key) -> Key:
    """Return the procedure with the signature of a function, or the reverse: only one of them can exist."""
    return key._replace(kind="function" if key.kind == "procedure" else "procedure")


def _replace_kind(resolution: Resolution, old: Key, new: Key) -> None:
    up, down = resolution.models[new], resolution.database[old]
    dropped: Planned = [DropFunctionOp(_signature(resolution, new))]
    created, before = _create(resolution, new, up), _create(resolution, old, down)
    resolution.both(_phase(resolution, up), [*dropped, *created], [*dropped, *before])


def _recreate(resolution: Resolution, key: Key, created: Planned) -> Planned:
    """Return what drops a function and creates it again, and keeps its owner and privileges."""
    replaced, *comment = created
    assert isinstance(replaced, ReplaceFunctionOp)  # noqa: S101 - it comes from _create
    replaced.keep_privileges = True
    return [DropFunctionOp(_signature(resolution, key), keep_privileges=True), replaced, *comment]


def _phase(resolution: Resolution, facts: Facts) -> Phase:
    """Return when to create a function: as late as possible, because its body may name what it reads."""
    needed = {name.removeprefix("pg_catalog.") for name in facts["_needed_by"]} - {"pg_trigger", "pg_policy"}
    if not facts["_uses"] and needed - {"pg_rewrite"}:  # by a default, a check, an index
        return Phase.TYPES
    if any(resolution.view_of(name) for name in facts["_uses"]) or not needed:
        return Phase.FUNCTIONS_OF_VIEWS
    return Phase.FUNCTIONS


def _signature(resolution: Resolution, key: Key) -> str:
    return key.name if resolution.schema is None else f"{quote(resolution.schema)}.{key.name}"


def _create(resolution: Resolution, key: Key, facts: Facts) -> Planned:
    definition, own_path = facts["definition"], False
    if resolution.schema is None and facts.get("_search_path") in {
        f"search_path={resolution.name}",
        f"search_path={quote(resolution.name)}",
    }:
        lines = definition.split("\n")
        line = next((text for text in lines if text.startswith(" SET search_path TO ")), None)
        if line is not None:
            lines.remove(line)
            definition, own_path = "\n".join(lines), True
    definition = resolution.unqualified(definition).rstrip("\n")
    replaced = ReplaceFunctionOp(_signature(resolution, key), definition, own_search_path=own_path)
    return [replaced, *resolution.comment_of(key, facts)]


FUNCTIONS = Kind(("function", "procedure", "aggregate"), _QUERY, _resolve)


# The operations.


@Operations.register_operation("replace_function", "replace")
class ReplaceFunctionOp(ops.MigrateOperation):
    """Create or replace a function or procedure."""

    def __init__(
        self,
        signature: str,
        definition: str,
        *,
        own_search_path: bool = False,
        keep_privileges: bool = False,
    ) -> None:
        self.signature, self.definition = signature, definition
        self.own_search_path, self.keep_privileges = own_search_path, keep_privileges

    @classmethod
    def replace(
        cls,
        operations: Operations,
        signature: str,
        definition: str,
        *,
        own_search_path: bool = False,
        keep_privileges: bool = False,
    ) -> None:
        """Create or replace a function or procedure.

        :param signature: its name and argument types, as in DROP FUNCTION: ``f(integer)``.
        :param definition: the whole CREATE OR REPLACE FUNCTION, as plain SQL.
        :param own_search_path: whether to set its search_path to its schema, so that the caller's does not
            matter. (``SET search_path`` in the definition would name one schema for all databases.)
        :param keep_privileges: whether to restore the owner and the privileges that
            ``op.drop_function(…, keep_privileges=True)`` saved.
        """
        operations.invoke(
            cls(signature, definition, own_search_path=own_search_path, keep_privileges=keep_privileges)
        )


@Operations.register_operation("drop_function", "drop")
class DropFunctionOp(ops.MigrateOperation):
    """Drop a function or procedure."""

    def __init__(self, signature: str, *, keep_privileges: bool = False) -> None:
        self.signature, self.keep_privileges = signature, keep_privileges

    @classmethod
    def drop(cls, operations: Operations, signature: str, *, keep_privileges: bool = False) -> None:
        """Drop a function or procedure, if it exists.

        :param signature: its name and argument types: ``f(integer)``.
        :param keep_privileges: whether to save its owner and privileges in a table, for
            ``op.replace_function(…, keep_privileges=True)`` of the same signature.
        """
        operations.invoke(cls(signature, keep_privileges=keep_privileges))


@Operations.implementation_for(ReplaceFunctionOp)
def _replace_function(operations: Operations, operation: ReplaceFunctionOp) -> None:
    run(operations, operation.definition)
    if operation.own_search_path:
        pin = f"ALTER ROUTINE {operation.signature} SET search_path = ".replace("'", "''").replace("%", "%%")
        set_path = f"DO $pin$ BEGIN EXECUTE format('{pin}%I', current_schema()); END $pin$"
        run(
            operations,
            set_path,
            summary=f"ALTER ROUTINE {operation.signature} SET search_path = (the current schema)",
        )
    if operation.keep_privileges:
        restore = privileges.restored(operations, privileges.ROUTINE, operation.signature)
        run(operations, restore, summary=f"restore the privileges of {operation.signature}")


@Operations.implementation_for(DropFunctionOp)
def _drop_function(operations: Operations, operation: DropFunctionOp) -> None:
    drop = statement = f"DROP ROUTINE IF EXISTS {operation.signature}"
    if operation.keep_privileges:
        statement = privileges.dropped(operations, privileges.ROUTINE, operation.signature, drop)
    run(operations, statement, summary=drop)


@renderers.dispatch_for(ReplaceFunctionOp)
def _render_replace_function(context: AutogenContext, operation: ReplaceFunctionOp) -> str:
    imported(context)
    path = ", own_search_path=True" if operation.own_search_path else ""
    definition, kept = text_of(operation.definition), privileges.argument(operation.keep_privileges)
    return f"op.replace_function({operation.signature!r}, {definition}{path}{kept})"


@renderers.dispatch_for(DropFunctionOp)
def _render_drop_function(context: AutogenContext, operation: DropFunctionOp) -> str:
    imported(context)
    return f"op.drop_function({operation.signature!r}{privileges.argument(operation.keep_privileges)})"
