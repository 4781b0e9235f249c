"""Functions that revisions share: verification at the end of an upgrade, checks before any change."""

import re
from collections.abc import Iterable, Mapping

import sqlalchemy as sa
from alembic import op

from alembic_online import RefusedError, is_online, is_planning
from nexus_schema.errors import SchemaError
from nexus_schema.options import Options


def verify(
    relation: str,
    *,
    schema: str | None = None,
    columns: Iterable["sa.Column[object]"] = (),
    indexes: Iterable[str] = (),
    constraints: Iterable[str] = (),
) -> None:
    """Raise :class:`SchemaError`, and so roll the revision back, unless everything it creates exists.

    A table or view must have each column with its type and nullability, each index (valid) and each foreign
    key or unique constraint (validated). ``IF NOT EXISTS`` alone also accepts another object of the same
    name. Nothing is verified in a ``--sql`` script, which runs elsewhere and later, and in a plan.
    """
    if op.get_context().as_sql or is_planning():
        return
    inspector = sa.inspect(op.get_bind())
    dialect = op.get_bind().dialect
    wrong: list[str] = []
    if not inspector.has_table(relation, schema):
        raise SchemaError(f"{relation} was not created")
    found_columns = {column["name"]: column for column in inspector.get_columns(relation, schema)}
    for column in columns:
        found = found_columns.get(column.name)
        if found is None:
            wrong.append(f"column {column.name} is missing")
        elif _differ(found["type"], column.type, dialect):
            wrong.append(f"column {column.name} is {found['type'].compile(dialect)}")
        elif found["nullable"] != column.nullable:
            wrong.append(f"column {column.name} is {'nullable' if found['nullable'] else 'not nullable'}")
    found_indexes = {index["name"]: index for index in inspector.get_indexes(relation, schema)}
    for name in indexes:
        if name not in found_indexes:
            wrong.append(f"index {name} is missing")
        elif found_indexes[name].get("dialect_options", {}).get("postgresql_invalid"):
            wrong.append(f"index {name} is invalid (alembic -x online upgrade head rebuilds it)")
    validated = set(op.get_bind().scalars(_VALIDATED_CONSTRAINTS, {"relation": relation, "schema": schema}))
    wrong += [f"constraint {name} is missing or not valid" for name in constraints if name not in validated]
    if wrong:
        raise SchemaError(f"{relation} is not what this revision creates: {', '.join(wrong)}")


def _differ(
    found: "sa.types.TypeEngine[object]", wanted: "sa.types.TypeEngine[object]", dialect: sa.Dialect
) -> bool:
    # A type that SQLAlchemy does not know, such as jsonpath, is a NullType here and cannot be compared.
    return not isinstance(found, sa.types.NullType) and _spelled(found, dialect) != _spelled(wanted, dialect)


def _spelled(type_: "sa.types.TypeEngine[object]", dialect: sa.Dialect) -> str:
    """Return a type under PostgreSQL's name: PostgreSQL does not keep the alias that created it."""
    text = type_.compile(dialect)
    for written, called in _ALIASES.items():
        text = re.sub(rf"^{written}(?=$|\[)", called, text)
    return text.upper() if text.startswith("INTERVAL") else re.sub(r"(\[\])+$", "[]", text)


_ALIASES = {
    r"FLOAT(\((2[5-9]|[3-5]\d)\))?": "DOUBLE PRECISION",
    r"FLOAT\(\d+\)": "REAL",
    r"(?:DECIMAL|NUMERIC)\((\d+)\)": r"NUMERIC(\1, 0)",
    r"DECIMAL(.*)": r"NUMERIC\1",
    r"(CHAR|BIT)": r"\1(1)",
}


KINDS = {
    "r": "a table", "v": "a view", "m": "a materialized view", "i": "an index", "S": "a sequence",
    "f": "a foreign table", "p": "a partitioned table", "I": "a partitioned index", "c": "a composite type",
}  # fmt: skip

# The definition of an index without its name, and without the options pg_… that some servers add.
INDEX_DEFINITION = r"""regexp_replace(regexp_replace(pg_get_indexdef(pg_index.indexrelid, 0, true),
    '^CREATE (UNIQUE )?INDEX .*? ON ', '\1INDEX ON '), ' \S+ \((pg_\w+=[^,)]*(, )?)+\)', '', 'g')"""
INDEX_OF_CONSTRAINT = (
    "EXISTS (SELECT FROM pg_constraint WHERE conindid = pg_index.indexrelid AND contype IN ('p', 'u', 'x'))"
)

_INDEXES = sa.text(f"""\
SELECT relname AS name, relkind::text AS kind, {INDEX_OF_CONSTRAINT} AS constraint,
    {INDEX_DEFINITION} AS definition
FROM pg_class LEFT JOIN pg_index ON pg_index.indexrelid = pg_class.oid
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
    AND relname = ANY (:names)
ORDER BY relname""")  # noqa: S608 - of constants


def refuse_other_indexes(definitions: Mapping[str, str]) -> None:
    """Raise :class:`SchemaError` if an index of a known name has another definition; it may be missing.

    Call it at the start of a revision that drops or builds these indexes: IF EXISTS and IF NOT EXISTS check
    only the name. A ``--sql`` script cannot check.

    :param definitions: by name, as PostgreSQL writes them: "INDEX ON api_requests USING btree (domain)".
    """
    if op.get_context().as_sql:
        return
    wrong: list[str] = []
    for found in op.get_bind().execute(_INDEXES, {"names": list(definitions)}):
        if found.kind != "i":
            wrong.append(f'"{found.name}" is {KINDS[found.kind]}, not {KINDS["i"]}')
        elif found.constraint:
            wrong.append(f'index "{found.name}" belongs to a constraint')
        elif found.definition != definitions[found.name]:
            wrong.append(f'index "{found.name}" is "{found.definition}", not "{definitions[found.name]}"')
    if wrong:
        raise SchemaError(f"nothing was changed: {'; '.join(wrong)}; rename or drop it, then rerun")


def refuse_data_loss(table: str, what: str, rows: str) -> None:
    """Stop a downgrade with one line that counts what would be lost, unless -x allow_data_loss=true.

    :param table: the table that loses rows or columns, as written in SQL. It is locked before the count, so
        that no session adds a row between the count and the loss.
    :param what: what is counted, for the message: "rows of conversation_metrics".
    :param rows: the SQL that selects them, from FROM on. It runs in the database, in a --sql script as well.
    """
    if Options.current().allow_data_loss:
        return
    if is_online():
        raise RefusedError(
            f"this downgrade has to lock {table} while it counts what would be lost; run it without"
            " -x online, or add -x allow_data_loss=true"
        )
    shown = what.replace("'", "''").replace("%", "%%").replace(":", r"\:")
    op.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    op.execute(
        sa.text(f"""\
DO $guard$
DECLARE lost bigint;
BEGIN
    SELECT count(*) INTO lost {rows};
    IF lost > 0 THEN
        RAISE EXCEPTION 'this downgrade would lose {shown}, % in all; back them up first, then rerun it'
            ' with -x allow_data_loss=true', lost;
    END IF;
END $guard$""")
    )


_VALIDATED_CONSTRAINTS = sa.text(
    "SELECT conname FROM pg_constraint WHERE convalidated"
    " AND conrelid = to_regclass(concat(quote_ident(:schema) || '.', quote_ident(:relation)))"
)
