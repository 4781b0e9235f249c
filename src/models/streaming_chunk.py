"""streaming_chunks: the pieces of a streamed response."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import DateTime, ForeignKey, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from .base import Base

if TYPE_CHECKING:
    from .api_request import ApiRequest


class StreamingChunk(Base):
    """A piece of a streamed response. The proxy inserts pieces in batches, ON CONFLICT DO NOTHING."""

    __tablename__ = "streaming_chunks"
    _in_repr = ("id", "request_id", "chunk_index", "timestamp")
    __table_args__ = (
        UniqueConstraint("request_id", "chunk_index"),
        {"comment": "Pieces of streamed responses, in the order in which they arrived"},
    )

    id: Mapped[int] = mapped_column(primary_key=True, comment="Surrogate key")
    request_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("api_requests.request_id", ondelete="CASCADE"),
        comment="Request whose response this is a piece of",
    )
    chunk_index: Mapped[int] = mapped_column(comment="Position within the response, from 0")
    timestamp: Mapped[datetime] = mapped_column(DateTime(timezone=True), comment="When the piece arrived")
    data: Mapped[str] = mapped_column(Text, comment="The piece as received")
    token_count: Mapped[int | None] = mapped_column(server_default=text("0"), comment="Tokens in the piece")
    created_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), comment="When the row was inserted"
    )

    request: Mapped[ApiRequest] = relationship(back_populates="chunks")
