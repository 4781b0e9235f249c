"""Indexes in the order of the dashboards' window functions.

What: two partial indexes and idx_requests_request_id of api_requests; drops
idx_requests_conversation_timestamp, which idx_requests_conversation_timestamp_id replaces.
Why: row_number() over a conversation, newest first, reads the index instead of sorting the table.

Revision ID: 004
Revises: 003
Create Date: 2026-11-22
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from nexus_schema.revisions import verify

revision: str = "004"
down_revision: str | None = "003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

HAS_CONVERSATION = sa.text("conversation_id IS NOT NULL")


def upgrade() -> None:
    """Build the new indexes before dropping the one they replace."""
    op.create_index(
        "idx_requests_conversation_timestamp_id",
        "api_requests",
        ["conversation_id", sa.text("timestamp DESC"), sa.text("request_id DESC")],
        postgresql_where=HAS_CONVERSATION,
        if_not_exists=True,
    )
    op.create_index(
        "idx_requests_conversation_subtask",
        "api_requests",
        ["conversation_id", "is_subtask", "timestamp", "request_id"],
        postgresql_where=HAS_CONVERSATION,
        if_not_exists=True,
    )
    op.create_index("idx_requests_request_id", "api_requests", ["request_id"], if_not_exists=True)
    op.drop_index("idx_requests_conversation_timestamp", "api_requests", if_exists=True)
    # These columns and those of 003: sampling all columns would mostly unpack JSON.
    op.execute(
        "ANALYZE api_requests (conversation_id, timestamp, request_id, parent_task_request_id, is_subtask,"
        " task_tool_invocation)"
    )
    verify(
        "api_requests",
        indexes=[
            "idx_requests_conversation_timestamp_id",
            "idx_requests_conversation_subtask",
            "idx_requests_request_id",
        ],
    )


def downgrade() -> None:
    """Recreate the index of 002, then drop those of 004."""
    op.create_index(
        "idx_requests_conversation_timestamp",
        "api_requests",
        ["conversation_id", "timestamp"],
        postgresql_where=HAS_CONVERSATION,
        if_not_exists=True,
    )
    op.drop_index("idx_requests_request_id", "api_requests", if_exists=True)
    op.drop_index("idx_requests_conversation_subtask", "api_requests", if_exists=True)
    op.drop_index("idx_requests_conversation_timestamp_id", "api_requests", if_exists=True)
