"""Indexes for reading one conversation by time.

What: two partial indexes of api_requests, over the requests that belong to a conversation.
Why: idx_requests_conversation_detail alone serves the dashboards' lists, without access to the table.
004 replaces idx_requests_conversation_timestamp with a better index. If that one exists already, this
revision does not build the old one.

Revision ID: 002
Revises: 001
Create Date: 2026-11-22
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from nexus_schema.revisions import verify

revision: str = "002"
down_revision: str | None = "001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEXES = {
    "idx_requests_conversation_timestamp": ["conversation_id", "timestamp"],
    "idx_requests_conversation_detail": [
        "conversation_id",
        "timestamp",
        "request_id",
        "domain",
        "model",
        "total_tokens",
        "branch_id",
    ],
}


def upgrade() -> None:
    """Build the indexes, then update the planner's statistics of their columns."""
    wanted = dict(INDEXES)
    if not op.get_context().as_sql:
        existing = {index["name"] for index in sa.inspect(op.get_bind()).get_indexes("api_requests")}
        if "idx_requests_conversation_timestamp_id" in existing:  # of 004
            del wanted["idx_requests_conversation_timestamp"]
    for name, columns in wanted.items():
        op.create_index(
            name,
            "api_requests",
            columns,
            postgresql_where=sa.text("conversation_id IS NOT NULL"),
            if_not_exists=True,
        )
    # Sampling all columns would mostly unpack JSON.
    op.execute(f"ANALYZE api_requests ({', '.join(INDEXES['idx_requests_conversation_detail'])})")
    verify("api_requests", indexes=wanted)


def downgrade() -> None:
    """Drop the indexes."""
    for name in INDEXES:
        op.drop_index(name, "api_requests", if_exists=True)
