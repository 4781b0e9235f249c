"""conversation_metrics: the durations and settings of each translated message."""

import uuid
from datetime import datetime

from sqlalchemy import DateTime, Index, String, func
from sqlalchemy.orm import Mapped, mapped_column

from .base import Base


class ConversationMetric(Base):
    """A translated message; the translation service inserts a row for each."""

    __tablename__ = "conversation_metrics"
    _in_repr = ("id", "conversation_id", "created_at")
    __table_args__ = (
        Index("idx_conversation_metrics_conversation", "conversation_id"),
        {"comment": "Durations and settings of the translated messages of the voice translation service"},
    )

    id: Mapped[uuid.UUID] = mapped_column(
        primary_key=True, server_default=func.gen_random_uuid(), comment="Surrogate key"
    )
    conversation_id: Mapped[str | None] = mapped_column(
        String(255), comment="Conversation of the translation service; not a conversation of api_requests"
    )
    user_id: Mapped[str | None] = mapped_column(String(255), comment="User who spoke")
    record_ms: Mapped[int | None] = mapped_column(comment="Recording, in milliseconds")
    whisper_ms: Mapped[int | None] = mapped_column(comment="Speech recognition, in milliseconds")
    translate_ms: Mapped[int | None] = mapped_column(comment="Translation, in milliseconds")
    tts_ms: Mapped[int | None] = mapped_column(comment="Speech synthesis, in milliseconds")
    detected_lang: Mapped[str | None] = mapped_column(String(10), comment="Language that was recognised")
    target_lang: Mapped[str | None] = mapped_column(String(10), comment="Language translated into")
    voice_used: Mapped[str | None] = mapped_column(String(50), comment="Voice of the speech synthesis")
    created_at: Mapped[datetime | None] = mapped_column(
        DateTime(), server_default=func.now(), comment="When the row was inserted, in the server's time zone"
    )
