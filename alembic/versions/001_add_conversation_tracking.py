"""The conversation of each request, and its place in the conversation.

What: five columns of api_requests (message hashes, conversation, branch, message count), six indexes.
Why: dashboards show conversations, which the proxy recognises by hashing the messages of a request.
The downgrade is refused while a request has a value other than the default in one of these columns.

Revision ID: 001
Revises: 000
Create Date: 2026-11-22
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from nexus_schema.revisions import refuse_data_loss, verify

revision: str = "001"
down_revision: str | None = "000"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def columns() -> list["sa.Column[object]"]:
    """Return new column objects: each belongs to one table."""
    return [
        sa.Column(
            "current_message_hash", sa.CHAR(64), comment="Hash of the messages up to and including the last"
        ),
        sa.Column(
            "parent_message_hash", sa.CHAR(64), comment="Hash of the messages before the last exchange"
        ),
        sa.Column("conversation_id", sa.Uuid(), comment="Conversation the request belongs to"),
        sa.Column(
            "branch_id", sa.String(255), server_default="main", comment="Branch within the conversation"
        ),
        sa.Column(
            "message_count", sa.Integer(), server_default=sa.text("0"), comment="Messages in the request"
        ),
    ]


INDEXES = {
    "idx_requests_current_message_hash": ["current_message_hash"],
    "idx_requests_parent_message_hash": ["parent_message_hash"],
    "idx_requests_conversation_id": ["conversation_id"],
    "idx_requests_branch_id": ["branch_id"],
    "idx_requests_conversation_branch": ["conversation_id", "branch_id"],
    "idx_requests_message_count": ["message_count"],
}


def upgrade() -> None:
    """Add the columns, then the indexes on them."""
    for column in columns():
        op.add_column("api_requests", column, if_not_exists=True)
    for name, indexed in INDEXES.items():
        op.create_index(name, "api_requests", indexed, if_not_exists=True)
    verify("api_requests", columns=columns(), indexes=INDEXES)


def downgrade() -> None:
    """Drop the columns; their indexes go with them."""
    refuse_data_loss(
        "api_requests",
        "requests with conversation data (message hashes, conversation_id, branch_id, message_count)",
        "FROM api_requests WHERE num_nonnulls(current_message_hash, parent_message_hash, conversation_id) > 0"
        " OR branch_id <> 'main' OR message_count <> 0",
    )
    for column in reversed(columns()):
        op.drop_column("api_requests", column.name, if_exists=True)
