"""The metrics of the voice translation service.

What: table conversation_metrics with one index.
Why: the service used to create the table itself at start-up, in the same database as the proxy.
The downgrade drops the table, and is refused while it has rows.

Revision ID: 006
Revises: 005
Create Date: 2026-11-22
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from nexus_schema.revisions import refuse_data_loss, verify

revision: str = "006"
down_revision: str | None = "005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def columns() -> list["sa.Column[object]"]:
    """Return new column objects: each belongs to one table."""
    return [
        sa.Column(
            "id",
            sa.Uuid(),
            nullable=False,
            server_default=sa.func.gen_random_uuid(),
            comment="Surrogate key",
        ),
        sa.Column(
            "conversation_id",
            sa.String(255),
            comment="Conversation of the translation service; not a conversation of api_requests",
        ),
        sa.Column("user_id", sa.String(255), comment="User who spoke"),
        sa.Column("record_ms", sa.Integer(), comment="Recording, in milliseconds"),
        sa.Column("whisper_ms", sa.Integer(), comment="Speech recognition, in milliseconds"),
        sa.Column("translate_ms", sa.Integer(), comment="Translation, in milliseconds"),
        sa.Column("tts_ms", sa.Integer(), comment="Speech synthesis, in milliseconds"),
        sa.Column("detected_lang", sa.String(10), comment="Language that was recognised"),
        sa.Column("target_lang", sa.String(10), comment="Language translated into"),
        sa.Column("voice_used", sa.String(50), comment="Voice of the speech synthesis"),
        sa.Column(
            "created_at",
            sa.DateTime(),
            server_default=sa.func.now(),
            comment="When the row was inserted, in the server's time zone",
        ),
    ]


def upgrade() -> None:
    """Create the table and its index."""
    op.create_table(
        "conversation_metrics",
        *columns(),
        sa.PrimaryKeyConstraint("id", name="conversation_metrics_pkey"),
        comment="Durations and settings of the translated messages of the voice translation service",
        if_not_exists=True,
    )
    op.create_index(
        "idx_conversation_metrics_conversation",
        "conversation_metrics",
        ["conversation_id"],
        if_not_exists=True,
    )
    verify(
        "conversation_metrics",
        columns=columns(),
        indexes=["idx_conversation_metrics_conversation"],
        constraints=["conversation_metrics_pkey"],
    )


def downgrade() -> None:
    """Drop the table."""
    refuse_data_loss("conversation_metrics", "rows of conversation_metrics", "FROM conversation_metrics")
    op.drop_table("conversation_metrics", if_exists=True)
