"""Write a backfill to a script."""

from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext

from alembic_online.filling import MAXIMUM_PASSES
from alembic_online.filling.operation import BackfillOp
from alembic_online.filling.rows import BY_INDEX
from alembic_online.render import quoted, table_name


def write_batches(context: MigrationContext, operation: BackfillOp) -> None:
    """Write a backfill to a script: a loop over ranges of pages that commits after each."""
    walked = operation.walked
    name = table_name(context.dialect, walked)
    tid: sa.ColumnClause[Any] = sa.literal_column(quoted(context.dialect, walked.name) + ".ctid")
    statement = operation.statement.where(
        tid >= sa.literal_column("first_tid"), tid < sa.literal_column("end_tid")
    )
    compiled = statement.compile(dialect=context.dialect, compile_kwargs={"literal_binds": True})
    regclass = name.replace("'", "''")
    settings = BY_INDEX if operation.over is not None else {}
    for setting, value in settings.items():
        context.impl.static_output(f"SET {setting} = {value};")
    script = f"""\
-- {operation.what}: in batches, until a pass changes nothing
DO $backfill$
DECLARE
    pages bigint;
    elsewhere boolean;
    first_page bigint;
    first_tid tid;
    end_tid tid;
    changed bigint;
    changed_in_pass bigint;
BEGIN
    FOR pass IN 1..{MAXIMUM_PASSES} LOOP
        changed_in_pass := 0;
        WITH RECURSIVE parts (part) AS (
            SELECT '{regclass}'::regclass::oid
            UNION SELECT inhrelid FROM pg_inherits JOIN parts ON inhparent = part
        )
        SELECT max(pg_relation_size(part)) / current_setting('block_size')::int, bool_or(relkind = 'f')
        INTO pages, elsewhere FROM parts JOIN pg_class ON oid = part;
        IF elsewhere OR (pages = 0 AND EXISTS (SELECT FROM {name})) THEN
            RAISE EXCEPTION
                'this server shows no pages of %; alembic -x online upgrade uses its primary key instead',
                '{regclass}';
        END IF;
        first_page := 0;
        WHILE first_page < pages LOOP
            first_tid := format('(%s,0)', first_page)::tid;
            first_page := first_page + 500;
            end_tid := format('(%s,0)', first_page)::tid;
            {compiled!s};
            GET DIAGNOSTICS changed = ROW_COUNT;
            changed_in_pass := changed_in_pass + changed;
            COMMIT;
        END LOOP;
        EXIT WHEN changed_in_pass = 0;
    END LOOP;
END $backfill$;
"""  # noqa: S608 - the statement is compiled, the names are quoted
    context.impl.static_output(script)
    for setting in settings:
        context.impl.static_output(f"RESET {setting};")
