"""What several revisions need: proof at the end of an upgrade, and a guard before a downgrade."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op

from nexus_schema.errors import SchemaError
from nexus_schema.options import Options

log = logging.getLogger(__name__)

BULK_ROWS = 1000
"""Below so many rows, taking indexes away costs more than it saves."""


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
    the same name. A ``--sql`` script is not verified: its statements run elsewhere, later.
    """
    if op.get_context().as_sql:
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
            wrong.append(f"index {name} is invalid")
    validated = set(op.get_bind().scalars(_VALIDATED_CONSTRAINTS, {"relation": relation}))
    wrong += [f"constraint {name} is missing or not valid" for name in constraints if name not in validated]
    if wrong:
        raise SchemaError(f"{relation} is not what this revision makes: {', '.join(wrong)}")


def backfill(what: str, statement: str | sa.Executable) -> None:
    """Run a statement that fills rows, and log how many.

    :param what: what was filled, for the log: "responses with Task calls stored".
    """
    if op.get_context().as_sql:
        op.execute(statement)
        return
    # Deferred triggers of the operator's own have to run before the next ALTER TABLE or CREATE INDEX.
    op.execute("SET CONSTRAINTS ALL IMMEDIATE")
    result = op.get_bind().execute(sa.text(statement) if isinstance(statement, str) else statement)
    log.info("%s %s", result.rowcount, what)


@contextmanager
def indexes_rebuilt(table: sa.TableClause, *, where: "sa.ColumnElement[bool]") -> Iterator[None]:
    """Take the secondary indexes of a table away while many of its rows change, and build them again.

    An entry in each index for each row costs eight tenths of a bulk update; building the indexes anew costs
    next to nothing. The transaction holds the table anyway. Each index comes back from its own definition,
    the operator's own as well; one that backs a constraint or carries what a definition does not hold
    stays. Nothing happens when fewer than one row in four would change.

    :param table: the table.
    :param where: which rows will change.
    """
    if op.get_context().as_sql:
        yield
        return
    bind = op.get_bind()
    counts = sa.select(sa.func.count().filter(where), sa.func.count()).select_from(table)
    changing, rows = bind.execute(counts).one()
    if changing < BULK_ROWS or changing * 4 < rows:
        yield
        return
    indexes = bind.execute(_SECONDARY_INDEXES, {"table": table.name}).all()
    for index in indexes:
        bind.exec_driver_sql(index.drop)
    yield
    for index in indexes:
        bind.exec_driver_sql(index.make)
        if index.comment is not None:
            bind.exec_driver_sql(index.comment)
    log.info("%s: %s indexes built again, after %s rows had changed", table.name, len(indexes), changing)


def refuse_data_loss(table: str, what: str, rows: str) -> None:
    """Stop a downgrade with one line that counts what would be lost, unless -x allow_data_loss=true.

    :param table: the table whose rows or columns will go. It is locked before the count, so that no
        session adds a row between the count and the loss.
    :param what: what is counted, for the message: "rows of conversation_metrics".
    :param rows: the SQL that yields them, from FROM on. It runs in the database, also from a --sql script.
    """
    if Options.current().allow_data_loss:
        return
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


# Not among them: what backs a constraint, what something else depends on, and what pg_get_indexdef() leaves
# out: a tablespace, the marks of CLUSTER and REPLICA IDENTITY, statistics targets, a partitioned parent.
_SECONDARY_INDEXES = sa.text("""
SELECT format('DROP INDEX %s', CAST(oid AS regclass)) AS drop,
    replace(pg_get_indexdef(oid), '%', '%%') AS make,
    format('COMMENT ON INDEX %s IS ', CAST(oid AS regclass))
        || replace(quote_literal(obj_description(oid, 'pg_class')), '%', '%%') AS comment
FROM pg_index JOIN pg_class ON oid = indexrelid
WHERE indrelid = to_regclass(quote_ident(:table))
    AND indisvalid AND NOT indisclustered AND NOT indisreplident AND NOT relispartition AND reltablespace = 0
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    AND NOT EXISTS (
        SELECT FROM pg_depend WHERE refobjid = indexrelid AND refclassid = CAST('pg_class' AS regclass)
            OR objid = indexrelid AND classid = CAST('pg_class' AS regclass) AND deptype = 'e'
    )
    AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = indexrelid AND attstattarget >= 0)
ORDER BY relname""")

_VALIDATED_CONSTRAINTS = sa.text(
    "SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(quote_ident(:relation)) AND convalidated"
)
