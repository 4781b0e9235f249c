"""Domains: their default, NOT NULL and checks are altered. Another base type is only reported."""

from collections.abc import Mapping
from typing import Any, Literal

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import Operations, ops

from alembic_drift.kinds.types import TYPE_DEFINITION, USED_BY, create_or_drop
from alembic_drift.objects import Key
from alembic_drift.order import Phase
from alembic_drift.render import Rewrites, imported, in_schema, run
from alembic_drift.resolution import Kind, Planned, Resolution, execute
from alembic_drift.sql import literal, qualified, quote

_QUERY = """\
SELECT 'domain', NULL, typname, jsonb_build_object(
    'definition', @DEFINITION,
    '_base', concat_ws(' ', format_type(typbasetype, typtypmod), typcollation::regcollation),
    '_default', typdefault, '_not_null', typnotnull,
    '_checks', (SELECT jsonb_object_agg(conname, jsonb_build_array(pg_get_constraintdef(oid),
            obj_description(oid, 'pg_constraint')) ORDER BY conname)
        FROM pg_constraint WHERE contypid = pg_type.oid AND contype = 'c'),
    '_used_by', @USED_BY,
    '_depth', (WITH RECURSIVE under (oid, depth) AS (
            SELECT pg_type.typbasetype, 1
            UNION ALL SELECT CASE typtype WHEN 'd' THEN type.typbasetype ELSE typelem END, depth + 1
            FROM under JOIN pg_type AS type USING (oid) WHERE typtype = 'd' OR typelem <> 0)
        SELECT max(depth) FROM under),
    'comment', obj_description(pg_type.oid, 'pg_type'))
FROM pg_type
WHERE typnamespace = (SELECT oid FROM pg_namespace WHERE nspname = :schema) AND typtype = 'd'
  AND ('pg_type'::regclass, oid) NOT IN (TABLE extensions)"""
_QUERY = _QUERY.replace("@DEFINITION", TYPE_DEFINITION).replace("@USED_BY", USED_BY)


def _resolve(resolution: Resolution, key: Key, aspects: set[str]) -> set[str]:
    database, models = resolution.sides(key)
    if database is None or models is None:
        return create_or_drop(resolution, key)
    resolution.comment(key)
    if "definition" not in aspects:
        return set()
    if database["_base"] != models["_base"]:
        return {"definition"}
    if database.get("_default") != models.get("_default"):
        up, down = (
            _alter(resolution, key, server_default=side.get("_default")) for side in (models, database)
        )
        resolution.both(Phase.TYPES, up, down)
    there, wanted = ({**side.get("_checks", {})} for side in (database, models))
    for old_name, new_name in _renamed(there, wanted):
        up, down = (
            _rename(resolution, key, *names) for names in ((old_name, new_name), (new_name, old_name))
        )
        resolution.both(Phase.NAMES, up, down)
        there[new_name] = there.pop(old_name)
    for name in sorted({*there, *wanted}):
        old, new = there.get(name), wanted.get(name)
        if old is None or new is None or old[0] != new[0]:
            _replace(resolution, key, name, old, new)
    if database["_not_null"] != models["_not_null"]:
        up, down = (_alter(resolution, key, nullable=not side["_not_null"]) for side in (models, database))
        resolution.both(Phase.CONSTRAINTS, up, down)
    return set()


def _rename(resolution: Resolution, key: Key, old: str, new: str) -> Planned:
    name = resolution.qualified(key.name)
    there = f"contypid = {literal(name)}::regtype AND conname = {literal(old)}"
    alter = f"ALTER DOMAIN {name} RENAME CONSTRAINT {quote(old)} TO {quote(new)}"
    exists = f"EXISTS (SELECT FROM pg_constraint WHERE {there})"
    return [execute(f"DO $rename$ BEGIN IF {exists} THEN {alter}; END IF; END $rename$")]


def _renamed(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the checks that differ only in their names: pairs of the old and the new name."""
    free = [name for name in wanted if name not in there]
    pairs = []
    for old in [name for name in there if name not in wanted]:
        new = next((name for name in free if wanted[name] == there[old]), None)
        if new is not None:
            free.remove(new)
            pairs.append((old, new))
    return pairs


def _alter(resolution: Resolution, key: Key, **options: Any) -> Planned:
    return [AlterDomainOp(key.name, schema=resolution.schema, **options)]


def _replace(resolution: Resolution, key: Key, name: str, old: Any, new: Any) -> None:
    drop: Planned = [DropDomainCheckOp(name, key.name, schema=resolution.schema)]

    def create(check: Any) -> Planned:
        definition, comment = check
        made: Planned = [CreateDomainCheckOp(name, key.name, definition, schema=resolution.schema)]
        if comment is not None:
            on = f"CONSTRAINT {quote(name)} ON DOMAIN {resolution.qualified(key.name)}"
            made.append(execute(f"COMMENT ON {on} IS {literal(comment)}"))
        return made

    if old is not None:
        resolution.both(Phase.CONSTRAINTS_GO, drop, create(old))
    if new is not None:
        resolution.both(Phase.CONSTRAINTS, create(new), drop)


DOMAINS = Kind(("domain",), _QUERY, _resolve)


# The operations.


@Operations.register_operation("alter_domain", "alter")
class AlterDomainOp(ops.MigrateOperation):
    """Change the default of a domain, or whether it allows NULL."""

    def __init__(
        self,
        name: str,
        *,
        nullable: bool | None = None,
        server_default: str | Literal[False] | None = False,
        schema: str | None = None,
    ) -> None:
        self.name, self.nullable, self.server_default, self.schema = name, nullable, server_default, schema

    @classmethod
    def alter(
        cls,
        operations: Operations,
        name: str,
        *,
        nullable: bool | None = None,
        server_default: str | Literal[False] | None = False,
        schema: str | None = None,
    ) -> None:
        """Change a domain.

        :param name: its name.
        :param nullable: whether it allows NULL; None leaves it unchanged.
        :param server_default: its default as SQL, None for no default; False leaves it unchanged.
        :param schema: its schema, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, nullable=nullable, server_default=server_default, schema=schema))


@Operations.register_operation("create_domain_check", "create")
class CreateDomainCheckOp(ops.MigrateOperation):
    """Add a check to a domain."""

    def __init__(self, name: str, domain_name: str, definition: str, *, schema: str | None = None) -> None:
        self.name, self.domain_name, self.definition, self.schema = name, domain_name, definition, schema

    @classmethod
    def create(
        cls,
        operations: Operations,
        name: str,
        domain_name: str,
        definition: str,
        *,
        schema: str | None = None,
    ) -> None:
        """Add a check to a domain, or replace the check of that name.

        :param name: the name of the check.
        :param domain_name: the domain.
        :param definition: the text after the name: ``CHECK (VALUE > 0)``; with NOT VALID no row is checked.
        :param schema: the schema of the domain, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, domain_name, definition, schema=schema))


@Operations.register_operation("drop_domain_check", "drop")
class DropDomainCheckOp(ops.MigrateOperation):
    """Drop a check of a domain."""

    def __init__(self, name: str, domain_name: str, *, schema: str | None = None) -> None:
        self.name, self.domain_name, self.schema = name, domain_name, schema

    @classmethod
    def drop(cls, operations: Operations, name: str, domain_name: str, *, schema: str | None = None) -> None:
        """Drop a check of a domain, if it exists.

        :param name: the name of the check.
        :param domain_name: the domain.
        :param schema: the schema of the domain, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, domain_name, schema=schema))


def _reads(name: str, what: str, instead: str, unless: str) -> Rewrites:
    """Return the tables that PostgreSQL scans for values that a domain no longer allows."""
    tables = f"""\
SELECT DISTINCT attrelid::regclass::text FROM pg_type JOIN pg_attribute ON atttypid IN (pg_type.oid, typarray)
JOIN pg_class ON pg_class.oid = attrelid AND relkind IN ('r', 'p') AND NOT relispartition
WHERE pg_type.oid = to_regtype({literal(name)}) AND NOT attisdropped AND NOT {unless}"""  # noqa: S608 - quoted
    return Rewrites(what, tables, instead)


@Operations.implementation_for(AlterDomainOp)
def _alter_domain(operations: Operations, operation: AlterDomainOp) -> None:
    name = qualified(operation.name, operation.schema)
    if operation.server_default is not False:
        default = operation.server_default
        run(
            operations,
            f"ALTER DOMAIN {name} " + ("DROP DEFAULT" if default is None else f"SET DEFAULT {default}"),
        )
    if operation.nullable is not None:
        instead = "add CHECK (VALUE IS NOT NULL) NOT VALID with op.create_domain_check"
        reads = _reads(name, f"NOT NULL of domain {operation.name}", instead, "typnotnull")
        change = f"ALTER DOMAIN {name} {'DROP' if operation.nullable else 'SET'} NOT NULL"
        run(operations, change, None if operation.nullable else reads)


@Operations.implementation_for(CreateDomainCheckOp)
def _create_domain_check(operations: Operations, operation: CreateDomainCheckOp) -> None:
    name, check = qualified(operation.domain_name, operation.schema), quote(operation.name)
    same = (
        f"EXISTS (SELECT FROM pg_constraint WHERE contypid = to_regtype({literal(name)})"
        f" AND conname = {literal(operation.name)} AND pg_get_constraintdef(pg_constraint.oid) ="
        f" {literal(operation.definition)})"
    )
    instead = "add NOT VALID: new values are still checked"
    reads = _reads(name, f"check {operation.name} of domain {operation.domain_name}", instead, same)
    run(
        operations,
        f"""\
DO $check$ BEGIN
IF NOT {same} THEN
    ALTER DOMAIN {name} DROP CONSTRAINT IF EXISTS {check};
    ALTER DOMAIN {name} ADD CONSTRAINT {check} {operation.definition};
END IF;
END $check$""",
        None if operation.definition.upper().endswith("NOT VALID") else reads,
        summary=f"ALTER DOMAIN {name} ADD CONSTRAINT {check} {operation.definition}",
    )


@Operations.implementation_for(DropDomainCheckOp)
def _drop_domain_check(operations: Operations, operation: DropDomainCheckOp) -> None:
    name = qualified(operation.domain_name, operation.schema)
    run(operations, f"ALTER DOMAIN {name} DROP CONSTRAINT IF EXISTS {quote(operation.name)}")


@renderers.dispatch_for(AlterDomainOp)
def _render_alter_domain(context: AutogenContext, operation: AlterDomainOp) -> str:
    imported(context)
    changes = "" if operation.nullable is None else f", nullable={operation.nullable}"
    if operation.server_default is not False:
        changes += f", server_default={operation.server_default!r}"
    return f"op.alter_domain({operation.name!r}{changes}{in_schema(operation.schema)})"


@renderers.dispatch_for(CreateDomainCheckOp)
def _render_create_domain_check(context: AutogenContext, operation: CreateDomainCheckOp) -> str:
    imported(context)
    of = f"{operation.name!r}, {operation.domain_name!r}, {operation.definition!r}"
    return f"op.create_domain_check({of}{in_schema(operation.schema)})"


@renderers.dispatch_for(DropDomainCheckOp)
def _render_drop_domain_check(context: AutogenContext, operation: DropDomainCheckOp) -> str:
    imported(context)
    return f"op.drop_domain_check({operation.name!r}, {operation.domain_name!r}{in_schema(operation.schema)})"
