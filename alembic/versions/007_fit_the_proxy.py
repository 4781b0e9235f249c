"""Indexes that fit the proxy's writes, and DEFAULT 0 for tokens that are not known yet.

What: drops four indexes, because another one has the same columns (idx_requests_request_id the primary key,
idx_streaming_chunks_request_id the unique constraint) or no query uses them (idx_requests_branch_id,
idx_requests_conversation_branch). idx_requests_conversation_listing replaces
idx_requests_conversation_detail: the same without total_tokens. input_tokens and output_tokens get DEFAULT 0
(D6); existing NULLs stay. An element of task_tool_invocation that has one of the two forms of D5 gets the
other one as well.
Why: the proxy inserts a request and later updates it with the response. With total_tokens in no index, most
of these updates are heap-only: they write no entry into any index. The new index has another name, so that
it can be built before the old one is dropped. Without the default the dashboard shows null instead of 0 for a
conversation that has no response yet.
The downgrade recreates the five indexes and drops the default. The forms stay.

Revision ID: 007
Revises: 006
Create Date: 2026-11-26
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from alembic_online import backfill
from nexus_schema.revisions import refuse_other_indexes, verify

revision: str = "007"
down_revision: str | None = "006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# What this revision drops and builds, as PostgreSQL writes it.
DEFINITIONS = {
    "idx_requests_request_id": "INDEX ON api_requests USING btree (request_id)",
    "idx_streaming_chunks_request_id": "INDEX ON streaming_chunks USING btree (request_id, chunk_index)",
    "idx_requests_branch_id": "INDEX ON api_requests USING btree (branch_id)",
    "idx_requests_conversation_branch": "INDEX ON api_requests USING btree (conversation_id, branch_id)",
    "idx_requests_conversation_detail": "INDEX ON api_requests USING btree"
    ' (conversation_id, "timestamp", request_id, domain, model, total_tokens, branch_id)'
    " WHERE conversation_id IS NOT NULL",
    "idx_requests_conversation_listing": "INDEX ON api_requests USING btree"
    ' (conversation_id, "timestamp", request_id, domain, model, branch_id)'
    " WHERE conversation_id IS NOT NULL",
}
HAS_CONVERSATION = sa.text("conversation_id IS NOT NULL")
LISTING = ["conversation_id", "timestamp", "request_id", "domain", "model", "branch_id"]
DETAIL = ["conversation_id", "timestamp", "request_id", "domain", "model", "total_tokens", "branch_id"]

# An element lacks a form if its input is an object and the prompt or the description is missing, or if it has
# a prompt or a description and no input. Existing keys keep their values, whatever these are.
ELEMENTS = """\
jsonb_array_elements(
    CASE jsonb_typeof(api_requests.task_tool_invocation)
        WHEN 'array' THEN api_requests.task_tool_invocation ELSE '[]' END
)"""
LACKS_A_FORM = """\
CASE jsonb_typeof(call -> 'input')
    WHEN 'object' THEN num_nulls(call -> 'prompt', call -> 'description') > 0
    ELSE call -> 'input' IS NULL AND num_nonnulls(call -> 'prompt', call -> 'description') > 0
END"""
SOME_LACK_A_FORM = f"""\
(api_requests.task_tool_invocation IS NOT NULL
    AND EXISTS (SELECT FROM {ELEMENTS} AS call WHERE {LACKS_A_FORM}))"""
# The right operand of || wins. As in 003, only strings are texts, and a missing text becomes "".
WITH_BOTH_FORMS = f"""\
(SELECT jsonb_agg(
    CASE WHEN {LACKS_A_FORM} THEN jsonb_build_object(
        'prompt', prompt,
        'description', description,
        'input', jsonb_build_object('prompt', prompt, 'description', description)
    ) || call ELSE call END
    ORDER BY position
) FROM {ELEMENTS} WITH ORDINALITY AS elements (call, position)
CROSS JOIN LATERAL (
    SELECT
        coalesce(call -> 'prompt', CASE jsonb_typeof(call #> '{{input,prompt}}')
            WHEN 'string' THEN call #> '{{input,prompt}}' END, '""') AS prompt,
        coalesce(call -> 'description', CASE jsonb_typeof(call #> '{{input,description}}')
            WHEN 'string' THEN call #> '{{input,description}}' END, '""') AS description
) AS texts)"""  # noqa: S608 - of constants


def columns() -> list["sa.Column[object]"]:
    """Return new column objects: each belongs to one table."""
    return [sa.Column("input_tokens", sa.Integer()), sa.Column("output_tokens", sa.Integer())]


def upgrade() -> None:
    """Drop redundant and unused indexes, set the default, fill the forms, then replace the index.

    The index of streaming_chunks comes first: a session that inserts a chunk locks that table first, and this
    transaction must lock in the same order.
    """
    refuse_other_indexes(DEFINITIONS)
    op.drop_index("idx_streaming_chunks_request_id", "streaming_chunks", if_exists=True)
    for column in columns():
        op.alter_column("api_requests", column.name, server_default=sa.text("0"))
    for name in ("idx_requests_request_id", "idx_requests_branch_id", "idx_requests_conversation_branch"):
        op.drop_index(name, "api_requests", if_exists=True)
    requests = sa.table("api_requests", sa.column("task_tool_invocation", JSONB()))
    backfill(
        sa.update(requests)
        .values(task_tool_invocation=sa.literal_column(WITH_BOTH_FORMS, JSONB()))
        .where(sa.literal_column(SOME_LACK_A_FORM, sa.Boolean())),
        what="requests given the missing form of their Task calls",
    )
    op.create_index(
        "idx_requests_conversation_listing",
        "api_requests",
        LISTING,
        postgresql_where=HAS_CONVERSATION,
        if_not_exists=True,
    )
    op.drop_index("idx_requests_conversation_detail", "api_requests", if_exists=True)
    # Includes the keys, because their indexes replace the dropped ones.
    verify(
        "api_requests",
        columns=columns(),
        indexes=["idx_requests_conversation_listing"],
        constraints=["api_requests_pkey"],
    )
    verify("streaming_chunks", constraints=["streaming_chunks_request_id_chunk_index_key"])


def downgrade() -> None:
    """Recreate each index before the one that replaced it is dropped, and drop the default."""
    refuse_other_indexes(DEFINITIONS)
    op.create_index(
        "idx_streaming_chunks_request_id",
        "streaming_chunks",
        ["request_id", "chunk_index"],
        if_not_exists=True,
    )
    for column in columns():
        op.alter_column("api_requests", column.name, server_default=None)
    op.create_index(
        "idx_requests_conversation_detail",
        "api_requests",
        DETAIL,
        postgresql_where=HAS_CONVERSATION,
        if_not_exists=True,
    )
    op.drop_index("idx_requests_conversation_listing", "api_requests", if_exists=True)
    op.create_index(
        "idx_requests_conversation_branch",
        "api_requests",
        ["conversation_id", "branch_id"],
        if_not_exists=True,
    )
    op.create_index("idx_requests_branch_id", "api_requests", ["branch_id"], if_not_exists=True)
    op.create_index("idx_requests_request_id", "api_requests", ["request_id"], if_not_exists=True)
