"""What several revisions need: proof at the end of an upgrade, and a guard before a downgrade."""

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

from alembic_online import RefusedError, is_online, is_planning
from nexus_schema.errors import SchemaError
from nexus_schema.options import Options


def verify(
    relation: str,
    *,
    columns: Iterable["sa.Column[object]"] = (),
    indexes: Iterable[str] = (),
    constraints: Iterable[str] = (),
) -> None:
    """Raise :class:`SchemaError`, and so undo the revision, unless what it was to create is there.

    A table or view has to have each column with its type and nullability, each index (valid) and each
    foreign key or unique constraint (validated). ``IF NOT EXISTS`` alone also accepts something else of
    the same name. A ``--sql`` script is not verified: its statements run elsewhere, later. Nor is a revision
    that is only read through.
    """
    if op.get_context().as_sql or is_planning():
        return
    inspector = sa.inspect(op.get_bind())
    dialect = op.get_bind().dialect
    wrong: list[str] = []
    if not inspector.has_table(relation):
        raise SchemaError(f"{relation} was not created")
    found_columns = {column["name"]: column for column in inspector.get_columns(relation)}
    for column in columns:
        found = found_columns.get(column.name)
        if found is None:
            wrong.append(f"column {column.name} is missing")
        elif found["type"].compile(dialect) != column.type.compile(dialect):
            wrong.append(f"column {column.name} is {found['type'].compile(dialect)}")
        elif found["nullable"] != column.nullable:
            wrong.append(f"column {column.name} is {'nullable' if found['nullable'] else 'not nullable'}")
    found_indexes = {index["name"]: index for index in inspector.get_indexes(relation)}
    for name in indexes:
        if name not in found_indexes:
            wrong.append(f"index {name} is missing")
        elif found_indexes[name].get("dialect_options", {}).get("postgresql_invalid"):
            wrong.append(f"index {name} is invalid (alembic -x online upgrade head builds it anew)")
    validated = set(op.get_bind().scalars(_VALIDATED_CONSTRAINTS, {"relation": relation}))
    wrong += [f"constraint {name} is missing or not valid" for name in constraints if name not in validated]
    if wrong:
        raise SchemaError(f"{relation} is not what this revision makes: {', '.join(wrong)}")


def refuse_data_loss(table: str, what: str, rows: str) -> None:
    """Stop a downgrade with one line that counts what would be lost, unless -x allow_data_loss=true.

    :param table: the table whose rows or columns will go. It is locked before the count, so that no
        session adds a row between the count and the loss.
    :param what: what is counted, for the message: "rows of conversation_metrics".
    :param rows: the SQL that yields them, from FROM on. It runs in the database, also from a --sql script.
    """
    if Options.current().allow_data_loss:
        return
    if is_online():
        raise RefusedError(
            "this downgrade has to lock the table while it counts what would be lost; run it without"
            " -x online"
        )
    op.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    op.execute(
        sa.text(f"""\
DO $guard$
DECLARE lost bigint;
BEGIN
    SELECT count(*) INTO lost {rows};
    IF lost > 0 THEN
        RAISE EXCEPTION 'this downgrade would lose % {what}; back them up first, then repeat it'
            ' with -x allow_data_loss=true', lost;
    END IF;
END $guard$""")
    )


_VALIDATED_CONSTRAINTS = sa.text(
    "SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(quote_ident(:relation)) AND convalidated"
)
