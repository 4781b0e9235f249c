"""The tables of the proxy, its statistics view and the function that refreshes it.

What: api_requests, streaming_chunks, the materialized view hourly_stats, refresh_hourly_stats().
Why: the proxy needs them to record a request. total_tokens, api_key_hash and first_token_ms belong here
because the proxy writes them and 002 indexes the first (D1). REFRESH ... CONCURRENTLY needs the unique index
on the view (D2). A database that was created without this chain is adopted here, before anything else
(nexus_schema.legacy). The downgrade drops everything, and is refused while there are rows.

Revision ID: 000
Revises:
Create Date: 2026-11-22
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

from nexus_schema.legacy import adopt, drop_served_indexes
from nexus_schema.revisions import refuse_data_loss, verify

revision: str = "000"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

ZONED = sa.DateTime(timezone=True)
ZERO = sa.text("0")


def api_requests_columns() -> list["sa.Column[object]"]:
    """Return new column objects: each belongs to one table."""
    return [
        sa.Column("request_id", sa.Uuid(), nullable=False, comment="Chosen by the proxy"),
        sa.Column("timestamp", ZONED, nullable=False, comment="When the request arrived"),
        sa.Column("domain", sa.String(255), nullable=False, comment="Domain the client sent the request to"),
        sa.Column("method", sa.String(10), nullable=False, comment="HTTP method"),
        sa.Column("path", sa.String(1024), nullable=False, comment="Path of the URL, with its query"),
        sa.Column("headers", JSONB(), nullable=False, comment="Request headers"),
        sa.Column("body", JSONB(), comment="Request body"),
        sa.Column("request_type", sa.String(50), comment="What the request is for"),
        sa.Column("api_key_id", sa.String(50), comment="Name of the API key"),
        sa.Column("api_key_hash", sa.String(64), comment="SHA-256 of the API key, in hexadecimal"),
        sa.Column("model", sa.String(100), comment="Model the request asks for"),
        sa.Column("ip_address", sa.String(45), comment="Address of the client"),
        sa.Column("response_status", sa.Integer(), comment="HTTP status"),
        sa.Column("response_headers", JSONB(), comment="Response headers"),
        sa.Column("response_body", JSONB(), comment="Response body"),
        sa.Column(
            "response_streaming",
            sa.Boolean(),
            server_default=sa.false(),
            comment="Whether the response was streamed",
        ),
        sa.Column("duration_ms", sa.Integer(), comment="Request to end of response, in milliseconds"),
        sa.Column("first_token_ms", sa.Integer(), comment="Request to first token, in milliseconds"),
        sa.Column("input_tokens", sa.Integer(), comment="Tokens of the request"),
        sa.Column("output_tokens", sa.Integer(), comment="Tokens of the response"),
        sa.Column(
            "total_tokens",
            sa.Integer(),
            server_default=ZERO,
            comment="Tokens of request and response together",
        ),
        sa.Column(
            "cache_creation_input_tokens",
            sa.Integer(),
            server_default=ZERO,
            comment="Request tokens written to the prompt cache",
        ),
        sa.Column(
            "cache_read_input_tokens",
            sa.Integer(),
            server_default=ZERO,
            comment="Request tokens read from the prompt cache",
        ),
        sa.Column("usage_data", JSONB(), comment="Usage as the API reported it"),
        sa.Column("tool_call_count", sa.Integer(), server_default=ZERO, comment="Tool calls in the response"),
        sa.Column("error", sa.Text(), comment="What went wrong, if anything did"),
        sa.Column("completed_at", ZONED, comment="When the response had ended"),
        sa.Column("created_at", ZONED, server_default=sa.func.now(), comment="When the row was inserted"),
    ]


def streaming_chunks_columns() -> list["sa.Column[object]"]:
    """Return new column objects: each belongs to one table."""
    return [
        # An integer primary key without a foreign key or a type of its own becomes a serial.
        sa.Column("id", sa.Integer(), primary_key=True, comment="Surrogate key"),
        sa.Column(
            "request_id", sa.Uuid(), nullable=False, comment="Request whose response this is a piece of"
        ),
        sa.Column(
            "chunk_index", sa.Integer(), nullable=False, comment="Position within the response, from 0"
        ),
        sa.Column("timestamp", ZONED, nullable=False, comment="When the piece arrived"),
        sa.Column("data", sa.Text(), nullable=False, comment="The piece as received"),
        sa.Column("token_count", sa.Integer(), server_default=ZERO, comment="Tokens in the piece"),
        sa.Column("created_at", ZONED, server_default=sa.func.now(), comment="When the row was inserted"),
    ]


def hourly_stats_columns() -> list["sa.Column[object]"]:
    """Return the columns of the view, for their comments and for the verification at the end."""
    return [
        sa.Column("hour", ZONED, comment="Start of the hour"),
        sa.Column("domain", sa.String(255), comment="Domain the requests were sent to"),
        sa.Column("model", sa.String(100), comment="Model the requests asked for"),
        sa.Column("request_count", sa.BigInteger(), comment="Requests in the hour"),
        sa.Column("total_input_tokens", sa.BigInteger(), comment="Sum of input_tokens"),
        sa.Column("total_output_tokens", sa.BigInteger(), comment="Sum of output_tokens"),
        sa.Column(
            "total_cache_creation_tokens", sa.BigInteger(), comment="Sum of cache_creation_input_tokens"
        ),
        sa.Column("total_cache_read_tokens", sa.BigInteger(), comment="Sum of cache_read_input_tokens"),
        sa.Column("avg_response_time", sa.Numeric(), comment="Average of duration_ms, in milliseconds"),
        sa.Column("total_tool_calls", sa.BigInteger(), comment="Sum of tool_call_count"),
    ]


INDEXES = {
    "idx_api_requests_domain": "domain",
    "idx_api_requests_timestamp": "timestamp",
    "idx_api_requests_model": "model",
    "idx_api_requests_request_type": "request_type",
}

VIEW = """\
CREATE MATERIALIZED VIEW IF NOT EXISTS hourly_stats AS
SELECT date_trunc('hour', timestamp) AS hour,
       domain,
       model,
       count(*) AS request_count,
       sum(input_tokens) AS total_input_tokens,
       sum(output_tokens) AS total_output_tokens,
       sum(cache_creation_input_tokens) AS total_cache_creation_tokens,
       sum(cache_read_input_tokens) AS total_cache_read_tokens,
       avg(duration_ms) AS avg_response_time,
       sum(tool_call_count) AS total_tool_calls
FROM api_requests
WHERE timestamp > now() - interval '7 days'
GROUP BY date_trunc('hour', timestamp), domain, model"""

REFRESH_FUNCTION = """\
CREATE OR REPLACE FUNCTION refresh_hourly_stats() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    REFRESH MATERIALIZED VIEW CONCURRENTLY hourly_stats;
END
$$"""

# The function uses the view of its own schema, regardless of the caller's search_path.
PIN_REFRESH_FUNCTION = """\
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION refresh_hourly_stats() SET search_path = %I', current_schema());
END $$"""


def upgrade() -> None:
    """Adopt what exists already, then create the tables, the view over them and its function."""
    adopt(VIEW)
    op.create_table(
        "api_requests",
        *api_requests_columns(),
        sa.PrimaryKeyConstraint("request_id", name="api_requests_pkey"),
        comment="Requests that went through the proxy, with their responses",
        if_not_exists=True,
    )
    for name, indexed in INDEXES.items():
        op.create_index(name, "api_requests", [indexed], if_not_exists=True)

    op.create_table(
        "streaming_chunks",
        *streaming_chunks_columns(),
        sa.PrimaryKeyConstraint("id", name="streaming_chunks_pkey"),
        sa.UniqueConstraint("request_id", "chunk_index", name="streaming_chunks_request_id_chunk_index_key"),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["api_requests.request_id"],
            name="streaming_chunks_request_id_fkey",
            ondelete="CASCADE",
        ),
        comment="Pieces of streamed responses, in the order in which they arrived",
        if_not_exists=True,
    )
    op.create_index(
        "idx_streaming_chunks_request_id",
        "streaming_chunks",
        ["request_id", "chunk_index"],
        if_not_exists=True,
    )

    op.execute(VIEW)
    op.create_index(
        "idx_hourly_stats_hour_domain", "hourly_stats", [sa.text("hour DESC"), "domain"], if_not_exists=True
    )
    op.create_index(
        "hourly_stats_hour_domain_model_key",
        "hourly_stats",
        ["hour", "domain", "model"],
        unique=True,
        if_not_exists=True,
    )
    op.execute(
        "COMMENT ON MATERIALIZED VIEW hourly_stats IS"
        " 'Requests of the last 7 days by hour, domain and model, as of the last refresh_hourly_stats()'"
    )
    for column in hourly_stats_columns():
        op.execute(f"COMMENT ON COLUMN hourly_stats.{column.name} IS '{column.comment}'")
    op.execute(REFRESH_FUNCTION)
    op.execute(PIN_REFRESH_FUNCTION)
    op.execute(
        "COMMENT ON FUNCTION refresh_hourly_stats() IS"
        " 'Brings hourly_stats up to date without blocking its readers'"
    )

    drop_served_indexes(revision)

    verify("api_requests", columns=api_requests_columns(), indexes=INDEXES, constraints=["api_requests_pkey"])
    verify(
        "streaming_chunks",
        columns=streaming_chunks_columns(),
        indexes=["idx_streaming_chunks_request_id"],
        constraints=[
            "streaming_chunks_pkey",
            "streaming_chunks_request_id_chunk_index_key",
            "streaming_chunks_request_id_fkey",
        ],
    )
    verify(
        "hourly_stats",
        columns=hourly_stats_columns(),
        indexes=["idx_hourly_stats_hour_domain", "hourly_stats_hour_domain_model_key"],
    )


def downgrade() -> None:
    """Drop everything; hourly_stats contains nothing that api_requests does not."""
    refuse_data_loss("streaming_chunks", "rows of streaming_chunks", "FROM streaming_chunks")
    refuse_data_loss("api_requests", "rows of api_requests", "FROM api_requests")
    op.execute("DROP FUNCTION IF EXISTS refresh_hourly_stats()")
    op.execute("DROP MATERIALIZED VIEW IF EXISTS hourly_stats")
    op.drop_table("streaming_chunks", if_exists=True)
    op.drop_table("api_requests", if_exists=True)
