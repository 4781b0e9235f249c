"""hourly_stats: requests of the last seven days by hour, domain and model, and how to refresh them."""

from sqlalchemy import DDL, Index, event, func, literal_column, select
from sqlalchemy.sql.ddl import CreateView

from .api_request import ApiRequest
from .base import Base

_hour = func.date_trunc(literal_column("'hour'"), ApiRequest.timestamp)

_view = CreateView(
    select(
        _hour.label("hour"),
        ApiRequest.domain,
        ApiRequest.model,
        func.count().label("request_count"),
        func.sum(ApiRequest.input_tokens).label("total_input_tokens"),
        func.sum(ApiRequest.output_tokens).label("total_output_tokens"),
        func.sum(ApiRequest.cache_creation_input_tokens).label("total_cache_creation_tokens"),
        func.sum(ApiRequest.cache_read_input_tokens).label("total_cache_read_tokens"),
        func.avg(ApiRequest.duration_ms).label("avg_response_time"),
        func.sum(ApiRequest.tool_call_count).label("total_tool_calls"),
    )
    .where(ApiRequest.timestamp > func.now() - literal_column("interval '7 days'"))
    .group_by(_hour, ApiRequest.domain, ApiRequest.model),
    "hourly_stats",
    metadata=Base.metadata,
    materialized=True,
)

hourly_stats = _view.table
"""The view as a ``Table``: ``select(hourly_stats.c.hour, hourly_stats.c.request_count)``."""

_COMMENTS = {
    "hour": "Start of the hour",
    "domain": "Domain the requests were sent to",
    "model": "Model the requests asked for",
    "request_count": "Requests in the hour",
    "total_input_tokens": "Sum of input_tokens",
    "total_output_tokens": "Sum of output_tokens",
    "total_cache_creation_tokens": "Sum of cache_creation_input_tokens",
    "total_cache_read_tokens": "Sum of cache_read_input_tokens",
    "avg_response_time": "Average of duration_ms, in milliseconds",
    "total_tool_calls": "Sum of tool_call_count",
}
for _name, _comment in _COMMENTS.items():
    hourly_stats.c[_name].comment = _comment

Index("idx_hourly_stats_hour_domain", hourly_stats.c.hour.desc(), hourly_stats.c.domain)
# REFRESH ... CONCURRENTLY needs a unique index over all rows of the view.
Index(
    "hourly_stats_hour_domain_model_key",
    hourly_stats.c.hour,
    hourly_stats.c.domain,
    hourly_stats.c.model,
    unique=True,
)

# After the view and its indexes: comments, and the function that refreshes it. The function uses the view of
# its own schema, regardless of the caller's search_path. (DDL formats its text: %% is one percent sign.)
_AFTER_CREATE = (
    "COMMENT ON MATERIALIZED VIEW hourly_stats IS"
    " 'Requests of the last 7 days by hour, domain and model, as of the last refresh_hourly_stats()'",
    """\
CREATE OR REPLACE FUNCTION refresh_hourly_stats() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    REFRESH MATERIALIZED VIEW CONCURRENTLY hourly_stats;
END
$$""",
    """\
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION refresh_hourly_stats() SET search_path = %%I', current_schema());
END $$""",
    "COMMENT ON FUNCTION refresh_hourly_stats() IS"
    " 'Brings hourly_stats up to date without blocking its readers'",
)
for _statement in _AFTER_CREATE:
    event.listen(hourly_stats, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]
event.listen(hourly_stats, "before_drop", DDL("DROP FUNCTION IF EXISTS refresh_hourly_stats()"))  # type: ignore[no-untyped-call]
