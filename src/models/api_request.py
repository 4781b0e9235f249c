"""api_requests: every request that went through the proxy."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import CHAR, DateTime, ForeignKey, Index, String, Text, func, literal_column, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from .base import Base, Json
from .streaming_chunk import StreamingChunk

_HAS_CONVERSATION = text("conversation_id IS NOT NULL")


class ApiRequest(Base):
    """One request to the Claude API and its response.

    The proxy inserts the request first and fills the response columns when the response has ended, so
    everything from ``response_status`` on may be NULL. The columns stand in the order in which the
    revisions added them, so that a table created from the models equals a migrated one.
    """

    __tablename__ = "api_requests"
    _in_repr = ("request_id", "domain", "timestamp")
    __table_args__ = (
        Index("idx_api_requests_domain", "domain"),
        Index("idx_api_requests_timestamp", "timestamp"),
        Index("idx_api_requests_model", "model"),
        Index("idx_api_requests_request_type", "request_type"),
        Index("idx_requests_current_message_hash", "current_message_hash"),
        Index("idx_requests_parent_message_hash", "parent_message_hash"),
        Index("idx_requests_conversation_id", "conversation_id"),
        Index("idx_requests_message_count", "message_count"),
        # Pages and lists of conversations. Without total_tokens: no index has a column that every response
        # updates, so that most of these updates are heap-only.
        Index(
            "idx_requests_conversation_listing",
            "conversation_id",
            "timestamp",
            "request_id",
            "domain",
            "model",
            "branch_id",
            postgresql_where=_HAS_CONVERSATION,
        ),
        Index("idx_requests_parent_task_request_id", "parent_task_request_id"),
        Index("idx_requests_is_subtask", "is_subtask"),
        Index(
            "idx_requests_task_tool_invocation_gin",
            "task_tool_invocation",
            postgresql_using="gin",
            postgresql_where=text("task_tool_invocation IS NOT NULL"),
        ),
        # The order of the dashboards' window functions over a conversation, newest first.
        Index(
            "idx_requests_conversation_timestamp_id",
            "conversation_id",
            literal_column("timestamp").desc(),
            literal_column("request_id").desc(),
            postgresql_where=_HAS_CONVERSATION,
        ),
        Index(
            "idx_requests_conversation_subtask",
            "conversation_id",
            "is_subtask",
            "timestamp",
            "request_id",
            postgresql_where=_HAS_CONVERSATION,
        ),
        # Tokens of one account in the last hours.
        Index(
            "idx_requests_account_timestamp",
            "account_id",
            literal_column("timestamp").desc(),
            postgresql_where=text("account_id IS NOT NULL"),
        ),
        {"comment": "Requests that went through the proxy, with their responses"},
    )

    # 000
    request_id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="Chosen by the proxy")
    timestamp: Mapped[datetime] = mapped_column(DateTime(timezone=True), comment="When the request arrived")
    domain: Mapped[str] = mapped_column(String(255), comment="Domain the client sent the request to")
    method: Mapped[str] = mapped_column(String(10), comment="HTTP method")
    path: Mapped[str] = mapped_column(String(1024), comment="Path of the URL, with its query")
    headers: Mapped[dict[str, Any]] = mapped_column(Json, comment="Request headers")
    body: Mapped[Any | None] = mapped_column(Json, comment="Request body")
    request_type: Mapped[str | None] = mapped_column(String(50), comment="What the request is for")
    api_key_id: Mapped[str | None] = mapped_column(String(50), comment="Name of the API key")
    api_key_hash: Mapped[str | None] = mapped_column(
        String(64), comment="SHA-256 of the API key, in hexadecimal"
    )
    model: Mapped[str | None] = mapped_column(String(100), comment="Model the request asks for")
    ip_address: Mapped[str | None] = mapped_column(String(45), comment="Address of the client")
    response_status: Mapped[int | None] = mapped_column(comment="HTTP status")
    response_headers: Mapped[dict[str, Any] | None] = mapped_column(Json, comment="Response headers")
    response_body: Mapped[Any | None] = mapped_column(Json, comment="Response body")
    response_streaming: Mapped[bool | None] = mapped_column(
        server_default=text("false"), comment="Whether the response was streamed"
    )
    duration_ms: Mapped[int | None] = mapped_column(comment="Request to end of response, in milliseconds")
    first_token_ms: Mapped[int | None] = mapped_column(comment="Request to first token, in milliseconds")
    input_tokens: Mapped[int | None] = mapped_column(
        server_default=text("0"), comment="Tokens of the request"
    )
    output_tokens: Mapped[int | None] = mapped_column(
        server_default=text("0"), comment="Tokens of the response"
    )
    total_tokens: Mapped[int | None] = mapped_column(
        server_default=text("0"), comment="Tokens of request and response together"
    )
    cache_creation_input_tokens: Mapped[int | None] = mapped_column(
        server_default=text("0"), comment="Request tokens written to the prompt cache"
    )
    cache_read_input_tokens: Mapped[int | None] = mapped_column(
        server_default=text("0"), comment="Request tokens read from the prompt cache"
    )
    usage_data: Mapped[Any | None] = mapped_column(Json, comment="Usage as the API reported it")
    tool_call_count: Mapped[int | None] = mapped_column(
        server_default=text("0"), comment="Tool calls in the response"
    )
    error: Mapped[str | None] = mapped_column(Text, comment="What went wrong, if anything did")
    completed_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), comment="When the response had ended"
    )
    created_at: Mapped[datetime | None] = mapped_column(
        DateTime(timezone=True), server_default=func.now(), comment="When the row was inserted"
    )
    # 001
    current_message_hash: Mapped[str | None] = mapped_column(
        CHAR(64), comment="Hash of the messages up to and including the last"
    )
    parent_message_hash: Mapped[str | None] = mapped_column(
        CHAR(64), comment="Hash of the messages before the last exchange"
    )
    conversation_id: Mapped[uuid.UUID | None] = mapped_column(comment="Conversation the request belongs to")
    branch_id: Mapped[str | None] = mapped_column(
        String(255), server_default="main", comment="Branch within the conversation"
    )
    message_count: Mapped[int | None] = mapped_column(
        server_default=text("0"), comment="Messages in the request"
    )
    # 003
    parent_task_request_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("api_requests.request_id"),
        comment="Request whose response made the Task call that started this conversation",
    )
    is_subtask: Mapped[bool | None] = mapped_column(
        server_default=text("false"), comment="Whether the conversation was started by a Task call"
    )
    task_tool_invocation: Mapped[Any | None] = mapped_column(
        Json, comment="Task calls of the response, each with the conversation it started"
    )
    # 005
    account_id: Mapped[str | None] = mapped_column(String(255), comment="Account that pays for the request")

    # The database deletes the chunks of a deleted request; they are not loaded for it.
    chunks: Mapped[list[StreamingChunk]] = relationship(
        back_populates="request",
        cascade="all, delete-orphan",
        passive_deletes=True,
        order_by=StreamingChunk.chunk_index,
    )
    parent_task: Mapped[ApiRequest | None] = relationship(
        back_populates="sub_tasks", remote_side=[request_id]
    )
    # The database refuses to delete a request that has sub-tasks; their links are never silently cleared.
    sub_tasks: Mapped[list[ApiRequest]] = relationship(
        back_populates="parent_task", passive_deletes="all", order_by=timestamp
    )
