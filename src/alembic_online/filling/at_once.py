"""Run a backfill as one statement, in one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic.operations import Operations

from alembic_online import catalog
from alembic_online.filling import MAXIMUM_PASSES
from alembic_online.filling.operation import BackfillOp
from alembic_online.filling.rows import by_index, fill_left_over
from alembic_online.log import log
from alembic_online.render import counted, table_name
from alembic_online.session import literal

BULK_ROWS = 1000
"""Below so many changed rows, dropping and rebuilding indexes costs more than it saves."""

# Without indexes of constraints, indexes on which other objects depend, and indexes with properties that
# pg_get_indexdef() omits: a tablespace, CLUSTER, REPLICA IDENTITY, statistics targets, a partitioned parent.
_SECONDARY_INDEXES = sa.text("""
SELECT format('DROP INDEX %s', CAST(oid AS regclass)) AS drop,
    pg_get_indexdef(oid) AS make,
    format('COMMENT ON INDEX %s IS ', CAST(oid AS regclass))
        || quote_literal(obj_description(oid, 'pg_class')) AS comment
FROM pg_index JOIN pg_class ON oid = indexrelid
WHERE indrelid = to_regclass(:table)
    AND indisvalid AND NOT indisclustered AND NOT indisreplident AND NOT relispartition AND reltablespace = 0
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    AND NOT EXISTS (
        SELECT FROM pg_depend WHERE refobjid = indexrelid AND refclassid = CAST('pg_class' AS regclass)
            OR objid = indexrelid AND classid = CAST('pg_class' AS regclass) AND deptype = 'e'
    )
    AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = indexrelid AND attstattarget >= 0)
ORDER BY relname""")


def fill_at_once(operations: Operations, operation: BackfillOp) -> int:
    """Run a backfill as one statement; returns the number of changed rows."""
    context = operations.migration_context
    if context.as_sql:
        context.impl.execute(operation.statement)
        return 0
    connection = operations.get_bind()
    restricted = connection.execute(catalog.ROW_SECURITY).scalar_one()
    # With row security, rows that a policy hides would silently stay unchanged.
    connection.exec_driver_sql("SET LOCAL row_security = off")
    # Deferred triggers must run before the next ALTER TABLE or CREATE INDEX.
    connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
    with by_index(connection, operation), _indexes_rebuilt(connection, operation):
        changed = connection.execute(operation.statement).rowcount
    with by_index(connection, operation):
        for _ in range(MAXIMUM_PASSES):
            more = fill_left_over(connection, operation)
            if more is None:
                break
            changed += more
    connection.exec_driver_sql(f"SET LOCAL row_security = {restricted}")
    log.info("%s", operation.result(changed))
    return changed


@contextmanager
def _indexes_rebuilt(connection: sa.Connection, operation: BackfillOp) -> Iterator[None]:
    """Drop the secondary indexes of a table while many of its rows change, and rebuild them.

    Index entries for each row take about 80 % of the time of a bulk update; rebuilding the indexes takes
    little. The transaction locks the table anyway. Each index is rebuilt from its definition in the database,
    also if no revision created it. An index stays if it backs a constraint, or has properties that its
    definition does not show. All indexes stay if fewer than one row in four would change.
    """
    table, where = operation.table, operation.statement.whereclause
    if operation.over is not None or where is None:
        yield
        return
    changing = connection.scalar(sa.select(sa.func.count()).select_from(table).where(where)) or 0
    if changing < BULK_ROWS or changing * 4 < (
        connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
    ):
        yield
        return
    name = table_name(connection.dialect, table)
    indexes = connection.execute(_SECONDARY_INDEXES, {"table": name}).all()
    for index in indexes:
        connection.execute(literal(index.drop))
    yield
    for index in indexes:
        connection.execute(literal(index.make))
        if index.comment is not None:
            connection.execute(literal(index.comment))
    rebuilt = counted(len(indexes), "index", "indexes")
    log.info("%s: %s rebuilt after %s rows changed", table.name, rebuilt, changing)
