"""The reads that the indexes serve, as ``select()`` statements to execute, limit or extend.

Each docstring names the index and the order of the rows. Times are timezone-aware.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Select, column, func, select, true
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import InstrumentedAttribute

from nexus_schema.models import ApiRequest, StreamingChunk, hourly_stats


def _total(tokens: InstrumentedAttribute[int | None]) -> ColumnElement[int]:
    return func.coalesce(func.sum(tokens), 0).cast(BigInteger)


def conversation(conversation_id: UUID) -> Select[ApiRequest]:
    """Return the requests of a conversation, newest first: idx_requests_conversation_timestamp_id.

    idx_requests_conversation_listing, scanned backward, serves as well.
    """
    return (
        select(ApiRequest)
        .where(ApiRequest.conversation_id == conversation_id)
        .order_by(ApiRequest.timestamp.desc(), ApiRequest.request_id.desc())
    )


def conversations(*, domain: str | None = None) -> Select[UUID | None, int, int, datetime, datetime]:
    """Return a row for each conversation, the one with the newest request first.

    Columns: conversation_id, requests (their number), tokens (sum of total_tokens), first and last
    (timestamps of its requests). No index contains total_tokens, because it would make every update of a
    response slower. idx_api_requests_domain finds the requests of one domain; for all domains, the table is
    scanned.

    :param domain: count only the requests of this domain; None: of all domains.
    """
    last = func.max(ApiRequest.timestamp).label("last")
    found = (
        select(
            ApiRequest.conversation_id,
            func.count().label("requests"),
            _total(ApiRequest.total_tokens).label("tokens"),
            func.min(ApiRequest.timestamp).label("first"),
            last,
        )
        .where(ApiRequest.conversation_id.is_not(None))
        .group_by(ApiRequest.conversation_id)
        .order_by(last.desc(), ApiRequest.conversation_id)
    )
    return found if domain is None else found.where(ApiRequest.domain == domain)


def requests_of_domain(domain: str, *, since: datetime, until: datetime | None = None) -> Select[ApiRequest]:
    """Return the requests of a domain since a time, newest first: idx_api_requests_domain.

    :param until: the end of the time range, which is not included; None: no end.
    """
    found = select(ApiRequest).where(ApiRequest.domain == domain, ApiRequest.timestamp >= since)
    if until is not None:
        found = found.where(ApiRequest.timestamp < until)
    return found.order_by(ApiRequest.timestamp.desc())


def sub_tasks(request_id: UUID) -> Select[ApiRequest]:
    """Return the requests of a request's sub-tasks, oldest first: idx_requests_parent_task_request_id."""
    return (
        select(ApiRequest)
        .where(ApiRequest.parent_task_request_id == request_id)
        .order_by(ApiRequest.timestamp, ApiRequest.request_id)
    )


def task_calls(request_id: UUID) -> Select[dict[str, Any], UUID | None]:
    """Return the Task calls of a request in their order: api_requests_pkey.

    Columns: call (the element of task_tool_invocation: id, name, prompt, description, input), and
    conversation_id (the conversation of the sub-task that answers the call, or NULL).
    """
    calls = (
        func.jsonb_array_elements(ApiRequest.task_tool_invocation)
        .table_valued(column("call", JSONB), with_ordinality="place", name="calls")
        .render_derived()
    )
    linked = calls.c.call["linked_conversation_id"].astext.cast(ApiRequest.conversation_id.type)
    return (
        select(calls.c.call, linked.label("conversation_id"))
        .join_from(ApiRequest, calls, true())
        .where(ApiRequest.request_id == request_id)
        .order_by(calls.c.place)
    )


def tokens_of_account(account_id: str, *, since: datetime) -> Select[int, int, int]:
    """Return one row, what an account used since a time: idx_requests_account_timestamp.

    Columns: requests (their number), input_tokens and output_tokens (sums).
    """
    return select(
        func.count().label("requests"),
        _total(ApiRequest.input_tokens).label("input_tokens"),
        _total(ApiRequest.output_tokens).label("output_tokens"),
    ).where(ApiRequest.account_id == account_id, ApiRequest.timestamp >= since)


def chunks(request_id: UUID) -> Select[StreamingChunk]:
    """Return the chunks of a request in order: streaming_chunks_request_id_chunk_index_key."""
    return (
        select(StreamingChunk)
        .where(StreamingChunk.request_id == request_id)
        .order_by(StreamingChunk.chunk_index)
    )


def hourly(*, since: datetime, until: datetime, domain: str | None = None) -> Select[*tuple[Any, ...]]:
    """Return the rows of hourly_stats in a time range, newest first, then by domain.

    Both indexes of the view begin with hour and domain; idx_hourly_stats_hour_domain has them in this order.

    :param until: the end of the time range, which is not included.
    :param domain: only the rows of this domain; None: of all domains.
    """
    hour = hourly_stats.c.hour
    found = select(hourly_stats).where(hour >= since, hour < until)
    if domain is not None:
        found = found.where(hourly_stats.c.domain == domain)
    return found.order_by(hour.desc(), hourly_stats.c.domain)
