"""Keys, unique, check and exclusion constraints. NOT NULL belongs to its column."""

import re
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.ddl.postgresql import CreateExcludeConstraintOp
from alembic.operations import Operations, ops
from sqlalchemy import CheckConstraint, ColumnClause, column, literal_column, text
from sqlalchemy.sql.elements import conv

from alembic_drift.internals import constraints_of, final_name, is_type_bound
from alembic_drift.kinds import key_triggers, settings
from alembic_drift.objects import NAME, Facts, Key
from alembic_drift.order import Phase
from alembic_drift.render import imported, in_schema, run
from alembic_drift.resolution import Kind, Planned, Resolution, execute
from alembic_drift.sql import as_text, literal, qualified, quote

# Inherited constraints are left out: they are created and dropped with those of the parent.
_QUERY = f"""\
SELECT 'constraint', heaps.relname, conname, jsonb_build_object(
    'definition', pg_get_constraintdef(pg_constraint.oid),
    {key_triggers.FACTS},
    'index', nullif(concat_ws(', ', CASE WHEN NOT indisvalid THEN 'invalid' END,
        CASE WHEN indisreplident THEN 'replica identity' END), ''),
    'storage parameters', array_to_string(indexes.parameters, ', '), 'tablespace', indexes.tablespace,
    '_tablespace', coalesce(indexes.tablespace, (TABLE home)),
    'comment', obj_description(pg_constraint.oid, 'pg_constraint'),
    '_type', contype,
    '_columns', (SELECT jsonb_agg(attname ORDER BY place)
        FROM unnest(conkey) WITH ORDINALITY AS keys (key, place)
        JOIN pg_attribute ON attrelid = conrelid AND attnum = key),
    '_include', (SELECT jsonb_agg(attname ORDER BY place)
        FROM unnest(indkey::int2[]) WITH ORDINALITY AS keys (key, place)
        JOIN pg_attribute ON attrelid = conrelid AND attnum = key WHERE place > indnkeyatts),
    '_nulls_equal', nulls_equal, '_deferrable', condeferrable, '_deferred', condeferred,
    '_validated', convalidated, '_no_inherit', connoinherit,
    '_enforced', coalesce((to_jsonb(pg_constraint) ->> 'conenforced')::boolean, true),
    '_expression', pg_get_expr(conbin, conrelid), '_method', amname, '_where', pg_get_expr(indpred, indrelid),
    '_elements', (SELECT jsonb_agg(jsonb_build_array(pg_get_indexdef(conindid, place::int, false),
            (SELECT oprname FROM pg_operator WHERE oid = operator)) ORDER BY place)
        FROM unnest(conexclop) WITH ORDINALITY AS keys (operator, place)),
    '_referred', referred.relname, '_referred_schema', referred_schema.nspname,
    '_referred_columns', (SELECT jsonb_agg(attname ORDER BY place)
        FROM unnest(confkey) WITH ORDINALITY AS keys (key, place)
        JOIN pg_attribute ON attrelid = confrelid AND attnum = key),
    '_match', confmatchtype, '_on_update', confupdtype, '_on_delete', confdeltype,
    '_set_columns', (SELECT jsonb_agg(attname) FROM jsonb_array_elements(
        nullif(to_jsonb(pg_constraint) -> 'confdelsetcols', 'null')) AS set
        JOIN pg_attribute ON attrelid = conrelid AND attnum = set::int))
FROM heaps JOIN pg_constraint ON conrelid = heaps.oid
LEFT JOIN indexes ON of_constraint = pg_constraint.oid
LEFT JOIN pg_class AS referred ON referred.oid = confrelid
LEFT JOIN pg_namespace AS referred_schema ON referred_schema.oid = referred.relnamespace
WHERE contype IN ('p', 'u', 'f', 'c', 'x') AND conparentid = 0 AND (contype <> 'c' OR conislocal)"""  # noqa: S608 - the names are ours

_WORDS = {"p": "primary", "u": "unique", "f": "foreignkey", "c": "check", "x": None}
_PHASES = {"f": Phase.CONSTRAINTS, "c": Phase.CONSTRAINTS}
_ACTIONS = {"r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


def _resolve(resolution: Resolution, key: Key, aspects: set[str]) -> set[str]:
    database, models = resolution.sides(key)
    if database is None or models is None or "definition" in aspects:
        exchange(resolution, key)
        return set()
    if NAME in aspects:
        table = str(key.table)
        resolution.renames.append(
            (
                lambda a, b: RenameConstraintOp(table, a, b, schema=resolution.schema),
                database[NAME],
                models[NAME],
            )
        )
    resolution.comment(key)
    resolved = {"comment", NAME}
    if key_triggers.resolve(resolution, key):
        resolved.add(key_triggers.TRIGGERS)
    return settings.resolve(resolution, key, aspects, kind="index") - resolved


def exchange(resolution: Resolution, key: Key) -> None:
    """Plan to drop the constraint of the database, if it exists, and to add that of the models."""
    database, models = resolution.sides(key)
    if database is not None:
        gone = Phase.KEYS_GO if database["_type"] == "f" else Phase.CONSTRAINTS_GO
        resolution.both(gone, drop(resolution, key, database), add(resolution, key, database))
    if models is not None:
        phase = _PHASES.get(models["_type"], Phase.KEYED)
        resolution.both(phase, add(resolution, key, models), drop(resolution, key, models))


def drop(resolution: Resolution, key: Key, facts: Facts) -> list[ops.DropConstraintOp]:
    """Return what drops a constraint."""
    name, kind = facts.get(NAME, key.name), _WORDS[facts["_type"]]
    return [ops.DropConstraintOp(conv(name), str(key.table), type_=kind, schema=resolution.schema)]


def add(resolution: Resolution, key: Key, facts: Facts) -> Planned:
    """Return what adds a constraint: an operation of Alembic if it can express all of it, else SQL."""
    name = facts.get(NAME, key.name)
    operation = _operation(resolution, str(key.table), name, facts)
    if operation is not None:
        added: Planned = [operation]
    else:
        table, quoted = resolution.qualified(str(key.table)), quote(name)
        definition = facts["definition"]
        [dropped] = drop(resolution, key, facts)
        dropped.if_exists = True
        added = [dropped]
        if "_include" in facts:  # an index first: an online run builds it concurrently
            index, definition = _index(resolution, str(key.table), name, facts)
            added.append(index)
        added.append(execute(f"ALTER TABLE {table} ADD CONSTRAINT {quoted} {definition}"))
    return [
        *added,
        *settings.of_new(resolution, "index", name, facts),
        *key_triggers.set_on_new(resolution, key, facts),
        *resolution.comment_of(key, facts),
    ]


def _operation(resolution: Resolution, table: str, name: str, facts: Facts) -> Any:
    if not facts["_enforced"] or " WITHOUT OVERLAPS" in facts["definition"]:
        return None
    options: dict[str, Any] = {}
    if facts["_deferrable"]:
        options["deferrable"] = True
    if facts["_deferred"]:
        options["initially"] = "DEFERRED"
    match facts["_type"]:
        case "p" | "u" if "_include" not in facts:  # Alembic's operation cannot include columns
            if facts["_nulls_equal"]:
                options["postgresql_nulls_not_distinct"] = True
            make = ops.CreatePrimaryKeyOp if facts["_type"] == "p" else ops.CreateUniqueConstraintOp
            return make(conv(name), table, facts["_columns"], schema=resolution.schema, **options)
        case "f" if " PERIOD " not in facts["definition"]:
            return _foreign_key(resolution, table, name, facts, options)
        case "c" if not facts["_no_inherit"]:
            if not facts["_validated"]:
                options["postgresql_not_valid"] = True
            expression = text(as_text(facts["_expression"]))
            if facts is resolution.models.get(Key("constraint", table, name)):
                written = _models_expression(resolution, table, name, facts.get("_columns", []))
                expression = expression if written is None else written
            return ops.CreateCheckConstraintOp(
                conv(name), table, expression, schema=resolution.schema, **options
            )
        case "x":
            return _exclusion(resolution, table, name, facts, options)
    return None


def _models_expression(resolution: Resolution, table: str, name: str, columns: list[str]) -> Any:
    """Return the expression of a check as the models write it.

    If the server executes the text that it writes, it may write another one. A check without a name is found
    only if it belongs to the type of a column.
    """
    for check in constraints_of(resolution.tables[table]):
        if isinstance(check, CheckConstraint):
            called = final_name(check, resolution.dialect)
            of_type = called is None and is_type_bound(check) and check.columns.keys() == columns
            if called == name or of_type:
                return check.sqltext
    return None


def _index(resolution: Resolution, table: str, name: str, facts: Facts) -> tuple[ops.CreateIndexOp, str]:
    """Return the index of a key that includes columns, and the definition of the key that uses the index."""
    options: dict[str, Any] = {"postgresql_include": facts["_include"]}
    if facts["_nulls_equal"]:
        options["postgresql_nulls_not_distinct"] = True
    index = ops.CreateIndexOp(
        name, table, facts["_columns"], schema=resolution.schema, unique=True, **options
    )
    definition = f"{'PRIMARY KEY' if facts['_type'] == 'p' else 'UNIQUE'} USING INDEX {quote(name)}"
    definition += " DEFERRABLE" if facts["_deferrable"] else ""
    return index, definition + (" INITIALLY DEFERRED" if facts["_deferred"] else "")


def _foreign_key(
    resolution: Resolution, table: str, name: str, facts: Facts, options: dict[str, Any]
) -> ops.CreateForeignKeyOp:
    if facts["_on_update"] in _ACTIONS:
        options["onupdate"] = _ACTIONS[facts["_on_update"]]
    if facts["_on_delete"] in _ACTIONS:
        columns = ", ".join(map(quote, facts.get("_set_columns", ())))
        options["ondelete"] = _ACTIONS[facts["_on_delete"]] + (f" ({columns})" if columns else "")
    if facts["_match"] == "f":
        options["match"] = "FULL"
    if not facts["_validated"]:
        options["postgresql_not_valid"] = True
    referred = resolution.in_operations(facts["_referred_schema"])
    return ops.CreateForeignKeyOp(
        conv(name),
        table,
        facts["_referred"],
        facts["_columns"],
        facts["_referred_columns"],
        **({"source_schema": resolution.schema} if resolution.schema else {}),
        **({"referent_schema": referred} if referred else {}),
        **options,
    )


def _exclusion(
    resolution: Resolution, table: str, name: str, facts: Facts, options: dict[str, Any]
) -> CreateExcludeConstraintOp | None:
    """Return the operation, or None if it cannot express the constraint: it has no operator classes."""
    elements = ", ".join(f"{expression} WITH {operator}" for expression, operator in facts["_elements"])
    where = f" WHERE ({facts['_where']})" if "_where" in facts else ""
    where += " DEFERRABLE" if options else ""
    where += " INITIALLY DEFERRED" if facts["_deferred"] else ""
    if facts["definition"] != f"EXCLUDE USING {facts['_method']} ({elements}){where}":
        return None
    return CreateExcludeConstraintOp(
        conv(name),
        table,
        [(_element(expression), operator) for expression, operator in facts["_elements"]],
        where=text(as_text(facts["_where"])) if "_where" in facts else None,  # type: ignore[arg-type]
        schema=resolution.schema,
        using=facts["_method"],
        **options,
    )


def _element(expression: str) -> ColumnClause[Any]:
    """Return a column or expression of an exclusion; Alembic's operation takes no ``text()``."""
    if re.fullmatch(r'"(?:[^"]|"")+"', expression):
        return column(expression[1:-1].replace('""', '"'))
    return column(expression) if re.fullmatch(r"[a-z_][a-z0-9_]*", expression) else literal_column(expression)


CONSTRAINTS = Kind(("constraint",), _QUERY, _resolve)


# The operations.


@Operations.register_operation("rename_constraint", "rename")
class RenameConstraintOp(ops.MigrateOperation):
    """Rename a constraint, and its index if it has one."""

    def __init__(self, table_name: str, old: str, new: str, *, schema: str | None = None) -> None:
        self.table_name, self.old, self.new, self.schema = table_name, old, new, schema

    @classmethod
    def rename(
        cls, operations: Operations, table_name: str, old: str, new: str, *, schema: str | None = None
    ) -> None:
        """Rename a constraint, unless it has the new name; if neither name exists, raise an error.

        :param table_name: its table.
        :param old: its name.
        :param new: its new name.
        :param schema: the schema of the table, if it is not the first of the search_path.
        """
        operations.invoke(cls(table_name, old, new, schema=schema))


@Operations.implementation_for(RenameConstraintOp)
def _rename_constraint(operations: Operations, operation: RenameConstraintOp) -> None:
    table, old, new = qualified(operation.table_name, operation.schema), operation.old, operation.new
    there = f"EXISTS (SELECT FROM pg_constraint WHERE conrelid = {literal(table)}::regclass AND conname ="
    run(
        operations,
        f"""\
DO $rename$ BEGIN
IF {there} {literal(old)}) THEN
    ALTER TABLE {table} RENAME CONSTRAINT {quote(old)} TO {quote(new)};
ELSIF NOT {there} {literal(new)}) THEN
    RAISE EXCEPTION 'table % has no constraint %', {literal(operation.table_name)}, {literal(old)};
END IF;
END $rename$""",
        summary=f"ALTER TABLE {table} RENAME CONSTRAINT {quote(old)} TO {quote(new)}",
    )


@renderers.dispatch_for(RenameConstraintOp)
def _render_rename_constraint(context: AutogenContext, operation: RenameConstraintOp) -> str:
    imported(context)
    names = f"{operation.table_name!r}, {operation.old!r}, {operation.new!r}"
    return f"op.rename_constraint({names}{in_schema(operation.schema)})"
