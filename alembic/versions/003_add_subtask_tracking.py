"""Sub-tasks: the requests that a Task call of another request started.

What: parent_task_request_id, is_subtask and task_tool_invocation of api_requests, three indexes, and a
backfill: the Task calls of every stored response, linked to the conversations that they started.
Why: a sub-task is a separate conversation, and dashboards show it under the request that started it. Each
element of task_tool_invocation has both forms that programs look for, {id, name, prompt, description} and
{id, name, input} (D5). Every call of a response is linked (D4), and no JSON makes the backfill fail (D3).
The downgrade is refused if the columns contain values that the backfill would not find again.

Revision ID: 003
Revises: 002
Create Date: 2026-11-22
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from alembic_online import backfill, until_unchanged
from nexus_schema.options import Options
from nexus_schema.revisions import refuse_data_loss, verify

revision: str = "003"
down_revision: str | None = "002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def columns() -> list["sa.Column[object]"]:
    """Return new column objects: each belongs to one table."""
    return [
        sa.Column(
            "parent_task_request_id",
            sa.Uuid(),
            sa.ForeignKey("api_requests.request_id", name="api_requests_parent_task_request_id_fkey"),
            comment="Request whose response made the Task call that started this conversation",
        ),
        sa.Column(
            "is_subtask",
            sa.Boolean(),
            server_default=sa.false(),
            comment="Whether the conversation was started by a Task call",
        ),
        sa.Column(
            "task_tool_invocation",
            JSONB(),
            comment="Task calls of the response, each with the conversation it started",
        ),
    ]


# The foreign key is inline, because PostgreSQL then knows that a new column of NULLs needs no check. It is
# SQL, because add_column leaves out the name of such a key, and other servers (Citus) then choose another
# name. squawk does not know that nothing is checked.
ADD_PARENT = """\
ALTER TABLE api_requests ADD COLUMN IF NOT EXISTS parent_task_request_id UUID
-- squawk-ignore adding-foreign-key-constraint
CONSTRAINT api_requests_parent_task_request_id_fkey REFERENCES api_requests (request_id)"""

# The backfill first computes all changes and then writes them, each row once: PostgreSQL reads in parallel
# only if nothing is updated, and stored changes can be applied in batches.

# Rule 1. The containment test is true for exactly these responses: an object with an array `content` that
# contains such an item. The functions below fail on anything else, so they must not see anything else.
TASK_CALLS = """\
SELECT request_id, domain, timestamp, (
    SELECT jsonb_agg(
        jsonb_build_object(
            'id', item -> 'id',
            'name', item -> 'name',
            'prompt', CASE jsonb_typeof(item #> '{input,prompt}')
                WHEN 'string' THEN item #> '{input,prompt}' ELSE '""' END,
            'description', CASE jsonb_typeof(item #> '{input,description}')
                WHEN 'string' THEN item #> '{input,description}' ELSE '""' END,
            'input', item -> 'input'
        )
        ORDER BY position
    )
    FROM jsonb_array_elements(response_body -> 'content') WITH ORDINALITY AS content (item, position)
    WHERE item @> '{"type": "tool_use", "name": "Task"}'
) AS invocation, CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS oldest_running
FROM api_requests
WHERE task_tool_invocation IS NULL AND """
IS_MEANT = """response_body @> '{"content": [{"type": "tool_use", "name": "Task"}]}'"""
FIND_TASK_CALLS = f"CREATE TABLE nexus_schema_003_found AS\n{TASK_CALLS}{IS_MEANT}"
# Online there is a second pass. Unpacking responses takes the time, so this pass reads only rows of
# transactions that ended after the first pass began to read; for all other rows, the row header suffices. A
# header has the lower 32 bits of a transaction ID, so an old row may look new. Then it is read once more.
FIND_NEW_TASK_CALLS = f"""\
INSERT INTO nexus_schema_003_found
{TASK_CALLS}CASE WHEN (
    (CAST(CAST(xmin AS text) AS bigint) - (SELECT max(oldest_running) FROM nexus_schema_003_found))
    & 4294967295 < 2147483648
) IS NOT FALSE THEN {IS_MEANT} END"""  # noqa: S608 - of constants

# Rules 2 to 5. Each step sorts or hashes the result of the previous one, so that no prompt is compared with
# every first message. fill() disables nested loops, which a planner with wrong row counts could still choose.
# The result has a row for each request with changed Task calls, with the value before and after. It also has
# a row for each conversation that is linked to a parent.
WORK_OUT_CHANGES = """\
CREATE TABLE nexus_schema_003_changes AS
WITH RECURSIVE
stored AS MATERIALIZED (
    SELECT request_id, domain, timestamp, task_tool_invocation FROM api_requests
    WHERE task_tool_invocation IS NOT NULL
),
invocations AS MATERIALIZED (
    SELECT request_id, domain, timestamp, task_tool_invocation AS before, task_tool_invocation AS invocation
    FROM stored
    UNION ALL  -- unless the proxy has stored them, or deleted the request, since they were found
    SELECT found.request_id, found.domain, found.timestamp, CAST(NULL AS jsonb), found.invocation
    FROM (
        SELECT DISTINCT ON (request_id) * FROM nexus_schema_003_found ORDER BY request_id, oldest_running DESC
    ) AS found
    LEFT JOIN stored USING (request_id)
    WHERE stored.request_id IS NULL
      AND EXISTS (SELECT FROM api_requests WHERE api_requests.request_id = found.request_id)
),
calls AS MATERIALIZED (  -- every Task call with a prompt, in either form; position is its place in the array
    SELECT request_id AS parent_id, domain, timestamp, position, prompt,
           call ->> 'linked_conversation_id' IS NOT NULL AS taken
    FROM invocations
    CROSS JOIN LATERAL jsonb_array_elements(
        CASE jsonb_typeof(invocation) WHEN 'array' THEN invocation ELSE '[]' END
    ) WITH ORDINALITY AS elements (call, position)
    CROSS JOIN LATERAL (
        SELECT CASE
            WHEN jsonb_typeof(call -> 'prompt') = 'string' AND call ->> 'prompt' <> '' THEN call ->> 'prompt'
            WHEN jsonb_typeof(call #> '{input,prompt}') = 'string' THEN call #>> '{input,prompt}'
        END COLLATE "C" AS prompt
    ) AS form
    WHERE call @> '{"name": "Task"}' AND prompt <> ''
),
-- The first requests of conversations, not linked yet, that any call of their domain could have started: the
-- bodies are read of no others.
candidates AS MATERIALIZED (
    SELECT request_id
    FROM (
        SELECT request_id, is_call, timestamp, max(timestamp) FILTER (WHERE is_call) OVER (
            PARTITION BY domain ORDER BY timestamp, is_call ROWS UNBOUNDED PRECEDING
        ) AS last_call
        FROM (
            SELECT domain, timestamp, parent_id AS request_id, true AS is_call FROM calls
            UNION ALL
            SELECT domain, timestamp, request_id, false
            FROM (
                SELECT DISTINCT ON (conversation_id) domain, timestamp, request_id, parent_task_request_id
                FROM api_requests
                WHERE conversation_id IS NOT NULL
                ORDER BY conversation_id, timestamp, request_id
            ) AS firsts
            WHERE parent_task_request_id IS NULL
        ) AS calls_and_firsts
    ) AS heard
    WHERE NOT is_call AND timestamp - interval '30 seconds' < last_call
),
messages AS MATERIALIZED (  -- rule 2: the first message is the user's
    SELECT request_id AS child_id, conversation_id, domain, timestamp, message -> 'content' AS content
    FROM candidates
    JOIN api_requests AS request USING (request_id)
    CROSS JOIN LATERAL (
        -- The first condition is always true, and keeps the second from being tried before the join.
        SELECT CASE WHEN candidates.request_id IS NOT NULL AND jsonb_typeof(body -> 'messages') = 'array'
            THEN body #> '{messages,0}' END AS message
    ) AS first_message
    WHERE message @> '{"role": "user"}'
),
texts AS MATERIALIZED (
    SELECT DISTINCT child_id, conversation_id, domain, timestamp, text COLLATE "C" AS text
    FROM messages
    CROSS JOIN LATERAL (
        SELECT content #>> '{}' AS text, true AS plain, true AS any_plain, 1 AS nth
        WHERE jsonb_typeof(content) = 'string'
        UNION ALL
        SELECT item ->> 'text', reminder = 0, bool_or(reminder = 0) OVER (),
               row_number() OVER (ORDER BY place)
        FROM jsonb_array_elements(CASE jsonb_typeof(content) WHEN 'array' THEN content ELSE '[]' END)
            WITH ORDINALITY AS items (item, place)
        CROSS JOIN LATERAL strpos(item ->> 'text', '<system-reminder>') AS reminder
        WHERE item @> '{"type": "text"}' AND jsonb_typeof(item -> 'text') = 'string'
    ) AS candidates
    WHERE plain OR (NOT any_plain AND nth = 1)
),
-- Rule 3. For each prompt of a domain, calls and children on one time line: a child belongs to the last call
-- before it. A child is the first of its conversation, so an earlier request is of another conversation.
timeline AS MATERIALIZED (
    SELECT *, count(*) FILTER (WHERE is_call) OVER (
        PARTITION BY domain, digest, prompt ORDER BY timestamp, is_call, request_id ROWS UNBOUNDED PRECEDING
    ) AS last_call
    FROM (
        SELECT domain, md5(prompt) AS digest, prompt, timestamp, true AS is_call, parent_id AS request_id,
               CAST(NULL AS uuid) AS conversation_id
        FROM calls
        UNION ALL
        SELECT domain, md5(text), text, timestamp, false, child_id, conversation_id FROM texts
    ) AS calls_and_children
),
pairs AS MATERIALIZED (
    SELECT request_id AS child_id, conversation_id, timestamp, digest, prompt, parent_id, called_at
    FROM (
        SELECT *, first_value(request_id) OVER same_call AS parent_id,
               first_value(timestamp) OVER same_call AS called_at
        FROM timeline
        WHERE last_call > 0
        WINDOW same_call AS (
            PARTITION BY domain, digest, prompt, last_call ORDER BY timestamp, is_call DESC, request_id
        )
    ) AS heard
    WHERE NOT is_call AND timestamp - interval '30 seconds' < called_at
),
matches AS MATERIALIZED (  -- of several parents the latest; number is the child's turn at its parent
    SELECT *, dense_rank() OVER (PARTITION BY parent_id ORDER BY timestamp, child_id) AS number
    FROM (
        SELECT *, rank() OVER (PARTITION BY child_id ORDER BY called_at DESC, parent_id DESC) AS place
        FROM pairs
    ) AS ranked
    WHERE place = 1
),
-- Rule 4, from the side of the calls: children in order of time take the first free call each if and only if
-- calls in their order take the first free child each. So no call needs more children than there are calls.
queues AS MATERIALIZED (
    SELECT parent_id, array_agg(position ORDER BY position) AS positions,
           jsonb_agg(numbers ORDER BY position) AS waiting
    FROM (
        SELECT parent_id, position, jsonb_agg(number) AS numbers
        FROM (
            SELECT parent_id, prompt, number, free_calls,
                   row_number() OVER (PARTITION BY parent_id, digest, prompt ORDER BY number) AS place
            FROM matches
            JOIN (
                SELECT parent_id, count(*) AS free_calls FROM calls WHERE NOT taken GROUP BY parent_id
            ) AS free USING (parent_id)
        ) AS waiting_children
        JOIN calls USING (parent_id, prompt)
        WHERE place <= free_calls AND NOT taken
        GROUP BY parent_id, position
    ) AS calls_with_children
    GROUP BY parent_id
),
taken_calls AS MATERIALIZED (
    SELECT parent_id, positions[turn] AS position, number
    FROM queues
    CROSS JOIN LATERAL (
        WITH RECURSIVE turns (turn, number, served) AS (
            SELECT 0, CAST(NULL AS bigint), CAST('{}' AS bigint[])
            UNION ALL
            SELECT turn + 1, next.number, served || next.number
            FROM turns
            CROSS JOIN LATERAL (
                SELECT min(waiting_number::bigint) AS number
                FROM jsonb_array_elements_text(waiting -> turn) AS waiting_number
                WHERE waiting_number::bigint = ANY (served) IS NOT TRUE
            ) AS next
            WHERE turn < cardinality(positions)
        )
        SELECT turn, number FROM turns WHERE number IS NOT NULL
    ) AS served_children
),
links AS MATERIALIZED (
    SELECT parent_id AS request_id, jsonb_object_agg(position, conversation_id) AS conversations
    FROM taken_calls
    JOIN (SELECT DISTINCT parent_id, number, conversation_id FROM matches) AS children
        USING (parent_id, number)
    GROUP BY parent_id
)
SELECT request_id, before,
    CASE WHEN conversations IS NULL THEN invocation ELSE (
        SELECT jsonb_agg(
            CASE WHEN conversations ? position::text
                THEN call || jsonb_build_object('linked_conversation_id', conversations -> position::text)
                ELSE call
            END
            ORDER BY position
        )
        FROM jsonb_array_elements(invocation) WITH ORDINALITY AS elements (call, position)
    ) END AS after,
    CAST(NULL AS uuid) AS conversation_id, CAST(NULL AS uuid) AS parent_id
FROM invocations LEFT JOIN links USING (request_id)
WHERE before IS NULL OR conversations IS NOT NULL
UNION ALL
SELECT DISTINCT CAST(NULL AS uuid), CAST(NULL AS jsonb), CAST(NULL AS jsonb), conversation_id, parent_id
FROM matches"""

REQUESTS = sa.table(
    "api_requests",
    sa.column("request_id", sa.Uuid()),
    sa.column("conversation_id", sa.Uuid()),
    sa.column("parent_task_request_id", sa.Uuid()),
    sa.column("is_subtask", sa.Boolean()),
    sa.column("task_tool_invocation", JSONB()),
)
CHANGES = sa.table(
    "nexus_schema_003_changes",
    sa.column("request_id", sa.Uuid()),
    sa.column("before", JSONB()),
    sa.column("after", JSONB()),
    sa.column("conversation_id", sa.Uuid()),
    sa.column("parent_id", sa.Uuid()),
)
# Values that the proxy has written since the changes were computed stay.
STORE_TASK_CALLS = (
    sa.update(REQUESTS)
    .values(task_tool_invocation=CHANGES.c.after)
    .where(
        REQUESTS.c.request_id == CHANGES.c.request_id,
        REQUESTS.c.task_tool_invocation.is_not_distinct_from(CHANGES.c.before),
    )
)
PARENT, OF_PARENT = REQUESTS.alias("parent"), CHANGES.alias("of_parent")
# Rule 5: every request of the conversation, unless its parent was deleted or changed meanwhile.
LINK_CONVERSATIONS = (
    sa.update(REQUESTS)
    .values(parent_task_request_id=CHANGES.c.parent_id, is_subtask=True)
    .where(
        REQUESTS.c.conversation_id == CHANGES.c.conversation_id,
        REQUESTS.c.parent_task_request_id.is_distinct_from(CHANGES.c.parent_id)
        | REQUESTS.c.is_subtask.is_not(sa.true()),
        sa.exists().where(PARENT.c.request_id == CHANGES.c.parent_id),
        ~sa.exists().where(
            PARENT.c.request_id == CHANGES.c.parent_id,
            OF_PARENT.c.request_id == CHANGES.c.parent_id,
            PARENT.c.task_tool_invocation.is_distinct_from(OF_PARENT.c.after),
        ),
    )
)

# No other session uses these tables.
INDEX_CHANGES = """\
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX ON nexus_schema_003_changes (request_id)"""
DROP_CHANGES = """\
-- squawk-ignore ban-drop-table
DROP TABLE nexus_schema_003_changes"""
DROP_FOUND = """\
-- squawk-ignore ban-drop-table
DROP TABLE nexus_schema_003_found"""

# The columns are new and have no statistics, so the plan must not depend on them.
SETTINGS = {
    "enable_nestloop": "off",
    "jit": "off",  # disabled nested loops have a huge estimated cost, which would only start the compiler
    # The planner does not count the data in TOAST, and considers the scan too short for several processes.
    "parallel_setup_cost": "0",
    "parallel_tuple_cost": "0",
    "min_parallel_table_scan_size": "0",
}

INDEXES = (
    "idx_requests_parent_task_request_id",
    "idx_requests_is_subtask",
    "idx_requests_task_tool_invocation_gin",
)


def fill() -> None:
    """Store the Task calls of the responses and link the conversations that they started."""
    for number, _ in enumerate(until_unchanged()):
        for setting, value in SETTINGS.items():
            op.execute(f"SET {setting} = {value}")
        if number == 0:
            op.execute(FIND_TASK_CALLS)
        else:
            op.execute(FIND_NEW_TASK_CALLS, execution_options={"online": "long"})
        op.execute(WORK_OUT_CHANGES)
        for setting in SETTINGS:
            op.execute(f"RESET {setting}")
        op.execute(INDEX_CHANGES, execution_options={"online": "long"})
        backfill(STORE_TASK_CALLS, over=CHANGES, what="requests given their Task calls, linked to sub-tasks")
        backfill(LINK_CONVERSATIONS, over=CHANGES, what="requests linked to the Task call that started them")
        op.execute(DROP_CHANGES)
    op.execute(DROP_FOUND)


def upgrade() -> None:
    """Add the columns, fill them, then build the indexes."""
    parent, *others = columns()
    op.execute(ADD_PARENT)
    op.alter_column("api_requests", parent.name, comment=parent.comment)
    for column in others:
        op.add_column("api_requests", column, if_not_exists=True)
    fill()
    op.create_index(
        "idx_requests_parent_task_request_id", "api_requests", ["parent_task_request_id"], if_not_exists=True
    )
    op.create_index("idx_requests_is_subtask", "api_requests", ["is_subtask"], if_not_exists=True)
    op.create_index(
        "idx_requests_task_tool_invocation_gin",
        "api_requests",
        ["task_tool_invocation"],
        postgresql_using="gin",
        postgresql_where=sa.text("task_tool_invocation IS NOT NULL"),
        if_not_exists=True,
    )
    verify(
        "api_requests",
        columns=columns(),
        indexes=INDEXES,
        constraints=["api_requests_parent_task_request_id_fkey"],
    )


def downgrade() -> None:
    """Drop the columns, unless they contain values that the upgrade would not restore.

    To find out, it empties the columns and runs the backfill again. If the check fails, the downgrade is
    rolled back, and the columns have their former values.
    """
    if not Options.current().allow_data_loss:
        op.execute("LOCK TABLE api_requests IN ACCESS EXCLUSIVE MODE")
        op.execute(
            """\
CREATE TABLE nexus_schema_003_kept AS
SELECT request_id, parent_task_request_id, is_subtask, task_tool_invocation FROM api_requests
WHERE parent_task_request_id IS NOT NULL OR is_subtask OR task_tool_invocation IS NOT NULL"""
        )
        op.execute(
            """\
UPDATE api_requests
SET parent_task_request_id = NULL, is_subtask = false, task_tool_invocation = NULL
WHERE parent_task_request_id IS NOT NULL OR is_subtask OR task_tool_invocation IS NOT NULL"""
        )
        fill()
        refuse_data_loss(
            "api_requests",
            "requests with sub-task data that the upgrade did not compute",
            """\
FROM nexus_schema_003_kept AS kept JOIN api_requests AS now USING (request_id)
WHERE (kept.parent_task_request_id, coalesce(kept.is_subtask, false), kept.task_tool_invocation)
    IS DISTINCT FROM (now.parent_task_request_id, now.is_subtask, now.task_tool_invocation)""",
        )
        op.execute("DROP TABLE nexus_schema_003_kept")
    for column in reversed(columns()):
        op.drop_column("api_requests", column.name, if_exists=True)
