"""Legacy databases, as the manual scripts, the proxy and the translation service created them."""

import uuid
from datetime import timedelta
from typing import Any

from databases import Database
from support import START, insert

# The scripts and the proxy create the same table.
STREAMING_CHUNKS = """
CREATE TABLE streaming_chunks (
    id SERIAL PRIMARY KEY,
    request_id UUID NOT NULL REFERENCES api_requests(request_id) ON DELETE CASCADE,
    chunk_index INTEGER NOT NULL,
    timestamp TIMESTAMPTZ NOT NULL,
    data TEXT NOT NULL,
    token_count INTEGER DEFAULT 0,
    created_at TIMESTAMPTZ DEFAULT NOW(),
    UNIQUE (request_id, chunk_index)
);
"""
# The scripts, reduced to what each of them leaves in the database.
SCRIPT_000 = """
CREATE TABLE api_requests (
    request_id UUID PRIMARY KEY,
    timestamp TIMESTAMPTZ NOT NULL,
    domain VARCHAR(255) NOT NULL,
    method VARCHAR(10) NOT NULL,
    path VARCHAR(1024) NOT NULL,
    headers JSONB NOT NULL,
    body JSONB,
    request_type VARCHAR(50),
    api_key_id VARCHAR(50),
    model VARCHAR(100),
    ip_address VARCHAR(45),
    response_status INTEGER,
    response_headers JSONB,
    response_body JSONB,
    response_streaming BOOLEAN DEFAULT FALSE,
    duration_ms INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    cache_creation_input_tokens INTEGER DEFAULT 0,
    cache_read_input_tokens INTEGER DEFAULT 0,
    usage_data JSONB,
    tool_call_count INTEGER DEFAULT 0,
    error TEXT,
    completed_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ DEFAULT NOW()
);
"""
SCRIPT_000 += STREAMING_CHUNKS
SCRIPT_000_REST = """
CREATE INDEX IF NOT EXISTS idx_api_requests_domain ON api_requests(domain);
CREATE INDEX IF NOT EXISTS idx_api_requests_timestamp ON api_requests(timestamp);
CREATE INDEX IF NOT EXISTS idx_api_requests_model ON api_requests(model);
CREATE INDEX IF NOT EXISTS idx_api_requests_request_type ON api_requests(request_type);
CREATE INDEX IF NOT EXISTS idx_streaming_chunks_request_id ON streaming_chunks(request_id, chunk_index);
CREATE MATERIALIZED VIEW IF NOT EXISTS hourly_stats AS
SELECT
    DATE_TRUNC('hour', timestamp) AS hour,
    domain,
    model,
    COUNT(*) AS request_count,
    SUM(input_tokens) AS total_input_tokens,
    SUM(output_tokens) AS total_output_tokens,
    SUM(cache_creation_input_tokens) AS total_cache_creation_tokens,
    SUM(cache_read_input_tokens) AS total_cache_read_tokens,
    AVG(duration_ms) AS avg_response_time,
    SUM(tool_call_count) AS total_tool_calls
FROM api_requests
WHERE timestamp > NOW() - INTERVAL '7 days'
GROUP BY hour, domain, model;
CREATE INDEX IF NOT EXISTS idx_hourly_stats_hour_domain ON hourly_stats(hour DESC, domain);
CREATE OR REPLACE FUNCTION refresh_hourly_stats() RETURNS void AS $$
BEGIN
    REFRESH MATERIALIZED VIEW CONCURRENTLY hourly_stats;
END;
$$ LANGUAGE plpgsql;
"""
SCRIPT_001 = """
ALTER TABLE api_requests
    ADD COLUMN IF NOT EXISTS current_message_hash CHAR(64),
    ADD COLUMN IF NOT EXISTS parent_message_hash CHAR(64),
    ADD COLUMN IF NOT EXISTS conversation_id UUID,
    ADD COLUMN IF NOT EXISTS branch_id VARCHAR(255) DEFAULT 'main',
    ADD COLUMN IF NOT EXISTS message_count INTEGER DEFAULT 0;
CREATE INDEX IF NOT EXISTS idx_requests_current_message_hash ON api_requests(current_message_hash);
CREATE INDEX IF NOT EXISTS idx_requests_parent_message_hash ON api_requests(parent_message_hash);
CREATE INDEX IF NOT EXISTS idx_requests_conversation_id ON api_requests(conversation_id);
CREATE INDEX IF NOT EXISTS idx_requests_branch_id ON api_requests(branch_id);
CREATE INDEX IF NOT EXISTS idx_requests_conversation_branch ON api_requests(conversation_id, branch_id);
CREATE INDEX IF NOT EXISTS idx_requests_message_count ON api_requests(message_count);
"""
BY_HAND = "ALTER TABLE api_requests ADD COLUMN total_tokens INTEGER"
SCRIPT_002 = """
CREATE INDEX IF NOT EXISTS idx_requests_conversation_timestamp
    ON api_requests(conversation_id, timestamp) WHERE conversation_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_requests_conversation_detail
    ON api_requests(conversation_id, timestamp, request_id, domain, model, total_tokens, branch_id)
    WHERE conversation_id IS NOT NULL;
"""
SCRIPT_003 = """
ALTER TABLE api_requests
    ADD COLUMN IF NOT EXISTS parent_task_request_id UUID REFERENCES api_requests(request_id),
    ADD COLUMN IF NOT EXISTS is_subtask BOOLEAN DEFAULT false,
    ADD COLUMN IF NOT EXISTS task_tool_invocation JSONB;
CREATE INDEX IF NOT EXISTS idx_requests_parent_task_request_id ON api_requests(parent_task_request_id);
CREATE INDEX IF NOT EXISTS idx_requests_is_subtask ON api_requests(is_subtask);
CREATE INDEX IF NOT EXISTS idx_requests_task_tool_invocation_gin
    ON api_requests USING gin (task_tool_invocation) WHERE task_tool_invocation IS NOT NULL;
"""
SCRIPT_004 = """
CREATE INDEX IF NOT EXISTS idx_requests_conversation_timestamp_id
    ON api_requests(conversation_id, timestamp DESC, request_id DESC) WHERE conversation_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_requests_conversation_subtask
    ON api_requests(conversation_id, is_subtask, timestamp, request_id) WHERE conversation_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS idx_requests_request_id ON api_requests(request_id);
DROP INDEX IF EXISTS idx_requests_conversation_timestamp;
"""
SCRIPT_005 = """
ALTER TABLE api_requests ADD COLUMN IF NOT EXISTS account_id VARCHAR(255);
CREATE INDEX IF NOT EXISTS idx_requests_account_timestamp
    ON api_requests(account_id, timestamp DESC) WHERE account_id IS NOT NULL;
"""
BOOTSTRAP = """
CREATE TABLE api_requests (
    request_id UUID PRIMARY KEY,
    timestamp TIMESTAMPTZ NOT NULL,
    domain VARCHAR(255) NOT NULL,
    account_id VARCHAR(255),
    method VARCHAR(10) NOT NULL,
    path VARCHAR(255) NOT NULL,
    headers JSONB,
    body JSONB,
    api_key_hash VARCHAR(50),
    model VARCHAR(100),
    request_type VARCHAR(50),
    response_status INTEGER,
    response_headers JSONB,
    response_body JSONB,
    response_streaming BOOLEAN DEFAULT FALSE,
    duration_ms INTEGER,
    first_token_ms INTEGER,
    error TEXT,
    input_tokens INTEGER DEFAULT 0,
    output_tokens INTEGER DEFAULT 0,
    total_tokens INTEGER DEFAULT 0,
    cache_creation_input_tokens INTEGER DEFAULT 0,
    cache_read_input_tokens INTEGER DEFAULT 0,
    usage_data JSONB,
    tool_call_count INTEGER DEFAULT 0,
    created_at TIMESTAMPTZ DEFAULT NOW(),
    current_message_hash CHAR(64),
    parent_message_hash CHAR(64),
    conversation_id UUID,
    branch_id VARCHAR(255) DEFAULT 'main',
    message_count INTEGER DEFAULT 0,
    parent_task_request_id UUID REFERENCES api_requests(request_id),
    is_subtask BOOLEAN DEFAULT FALSE,
    task_tool_invocation JSONB
);
"""
BOOTSTRAP += STREAMING_CHUNKS
BOOTSTRAP += """
CREATE INDEX idx_requests_domain ON api_requests(domain);
CREATE INDEX idx_requests_timestamp ON api_requests(timestamp);
CREATE INDEX idx_requests_model ON api_requests(model);
CREATE INDEX idx_requests_request_type ON api_requests(request_type);
CREATE INDEX idx_requests_current_hash ON api_requests(current_message_hash);
CREATE INDEX idx_requests_parent_hash ON api_requests(parent_message_hash);
CREATE INDEX idx_requests_conversation_id ON api_requests(conversation_id);
CREATE INDEX idx_requests_branch_id ON api_requests(branch_id);
CREATE INDEX idx_requests_conversation_branch ON api_requests(conversation_id, branch_id);
CREATE INDEX idx_requests_message_count ON api_requests(message_count);
CREATE INDEX idx_requests_account_id ON api_requests(account_id);
CREATE INDEX idx_chunks_request_id ON streaming_chunks(request_id);
CREATE INDEX idx_requests_conversation_timestamp_id
    ON api_requests(conversation_id, timestamp DESC, request_id DESC) WHERE conversation_id IS NOT NULL;
CREATE INDEX idx_requests_conversation_subtask
    ON api_requests(conversation_id, is_subtask, timestamp, request_id) WHERE conversation_id IS NOT NULL;
CREATE INDEX idx_requests_request_id ON api_requests(request_id);
"""
# The proxy's bootstrap for some days in June 2025.
EARLY_BOOTSTRAP = BOOTSTRAP.replace(
    "CREATE INDEX idx_requests_timestamp ON api_requests(timestamp);",
    "CREATE INDEX idx_api_requests_timestamp ON api_requests(timestamp DESC);"
    " CREATE INDEX idx_api_requests_domain_timestamp ON api_requests(domain, timestamp DESC);",
)
# Additions of the bootstrap since July 2025.
LATER_PROXY = """
ALTER TABLE api_requests ADD system_hash VARCHAR(64),
    ADD parent_request_id UUID REFERENCES api_requests(request_id),
    ADD CONSTRAINT parent_request_is_another CHECK (parent_request_id <> request_id);
CREATE INDEX idx_api_requests_system_hash ON api_requests(system_hash);
CREATE INDEX idx_api_requests_parent_request_id ON api_requests(parent_request_id);
COMMENT ON COLUMN api_requests.system_hash IS 'hash of the system prompt';
CREATE TYPE analysis_status AS ENUM ('pending', 'done');
CREATE FUNCTION note_analysis_time() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at = NOW();
    RETURN NEW;
END $$;
CREATE TABLE conversation_analyses (
    id BIGSERIAL PRIMARY KEY,
    conversation_id UUID NOT NULL,
    branch_id VARCHAR(255) NOT NULL DEFAULT 'main',
    status analysis_status NOT NULL DEFAULT 'pending',
    analysis_data JSONB,
    updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    UNIQUE (conversation_id, branch_id)
);
CREATE INDEX idx_conversation_analyses_status ON conversation_analyses(status) WHERE status = 'pending';
CREATE TRIGGER note_analysis_time BEFORE UPDATE ON conversation_analyses
    FOR EACH ROW EXECUTE FUNCTION note_analysis_time();
CREATE TABLE analysis_audit_log (
    id SERIAL PRIMARY KEY,
    event_type VARCHAR(50) NOT NULL,
    conversation_id UUID NOT NULL,
    metadata JSONB DEFAULT '{}',
    timestamp TIMESTAMPTZ NOT NULL DEFAULT NOW()
);
CREATE INDEX idx_audit_timestamp ON analysis_audit_log(timestamp);
"""
# Parts of the names of the proxy's objects that the chain does not know. It leaves these objects unchanged.
PROXY_ONLY = ("idx_api_requests_domain_timestamp", "system_hash", "parent_request_i", "analys", "audit")
TRANSLATION_SERVICE = """
CREATE TABLE IF NOT EXISTS conversation_metrics (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    conversation_id VARCHAR(255),
    user_id VARCHAR(255),
    record_ms INTEGER,
    whisper_ms INTEGER,
    translate_ms INTEGER,
    tts_ms INTEGER,
    detected_lang VARCHAR(10),
    target_lang VARCHAR(10),
    voice_used VARCHAR(50),
    created_at TIMESTAMP DEFAULT NOW()
);
CREATE INDEX IF NOT EXISTS idx_conversation_metrics_conversation ON conversation_metrics(conversation_id);
"""
# Scripts 001 to 005 as an operator could run them. Without total_tokens, 002 fails and leaves nothing.
LATER_SCRIPTS = [SCRIPT_001, SCRIPT_002, SCRIPT_003, SCRIPT_004, SCRIPT_005]


def scripts(last: int, *, by_hand: bool) -> list[str]:
    """Return what the scripts 000 to ``last`` leave, with or without total_tokens added before 002."""
    ran = [SCRIPT_000 + SCRIPT_000_REST]
    for number, script in enumerate(LATER_SCRIPTS[:last], start=1):
        if number == 2 and not by_hand:
            continue
        ran += [BY_HAND, script] if number == 2 else [script]
    return ran


def bootstrap(then: int | None) -> list[str]:
    """Return the proxy's bootstrap, and what the scripts 000 to ``then`` add to it."""
    if then is None:
        return [BOOTSTRAP]
    return [BOOTSTRAP, SCRIPT_000_REST, *LATER_SCRIPTS[:then]]


# Every kind in section 2 of the reference, by name.
KINDS: dict[str, list[str]] = {
    **{f"scripts to 00{n}": scripts(n, by_hand=False) for n in range(6)},
    **{f"scripts to 00{n}, total_tokens added manually": scripts(n, by_hand=True) for n in range(2, 6)},
    "bootstrap": bootstrap(None),
    "early bootstrap": [EARLY_BOOTSTRAP],
    "early bootstrap, then scripts to 005": [EARLY_BOOTSTRAP, *bootstrap(5)[1:]],
    "later bootstrap": [BOOTSTRAP + LATER_PROXY],
    **{f"bootstrap, then scripts to 00{n}": bootstrap(n) for n in range(6)},
}
KINDS |= {
    "translation service": [TRANSLATION_SERVICE],
    **{
        f"{name}, beside the translation service": [*made, TRANSLATION_SERVICE]
        for name, made in KINDS.items()
    },
}

# The translation service does not affect the other kinds: one combination with it represents all.
DIFFERENT = [
    kind for kind in KINDS if "beside" not in kind or kind == "bootstrap, beside the translation service"
]

UNMANAGED = """
ALTER TABLE api_requests ADD COLUMN team text NOT NULL DEFAULT 'ours';
COMMENT ON COLUMN api_requests.team IS 'kept';
CREATE INDEX my_index ON api_requests (team, domain);
ALTER TABLE streaming_chunks ADD CONSTRAINT my_check CHECK (chunk_index >= 0);
CREATE TABLE invoices (id int PRIMARY KEY, request_id uuid REFERENCES api_requests);
CREATE VIEW my_view AS SELECT team, count(*) FROM api_requests GROUP BY team;
INSERT INTO invoices VALUES (1);
"""


def proxy_only(found: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Return the entries of a catalog that only the proxy created and that the chain leaves unchanged."""
    return {key: text for key, text in found.items() if any(name in key[1] for name in PROXY_ONLY)}


def build(database: Database, made: list[str]) -> None:
    """Create a legacy database and fill it with rows that use every column."""
    for statements in made:
        database.execute(statements)
    fill(database)


def fill(database: Database) -> None:
    """Insert rows with a value in every column, and rows with NULL where the column allows it."""
    tables = {
        row[0] for row in database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    }
    if "api_requests" in tables:
        rows = database.execute(
            "SELECT column_name, data_type, character_maximum_length, is_nullable"
            " FROM information_schema.columns"
            " WHERE table_name = 'api_requests' AND table_schema = 'public'"
        ).fetchall()
        for number in range(1, 5):
            values: dict[str, Any] = {}
            for name, kind, width, nullable in rows:
                if number == 4 and nullable == "YES":
                    continue
                values[name] = value(name, kind, width, number)
            insert(database, "api_requests", **values)
            insert(
                database,
                "streaming_chunks",
                request_id=values["request_id"],
                chunk_index=number,
                timestamp=START,
                data="x" * 3000,
                token_count=number,
            )
        headers = next(row for row in rows if row[0] == "headers")
        if headers[3] == "YES":
            insert(database, "api_requests", request_id=uuid.UUID(int=9), headers=None)
    if "conversation_analyses" in tables:
        insert(database, "conversation_analyses", conversation_id=uuid.UUID(int=1), analysis_data={"n": 1.50})
        insert(database, "analysis_audit_log", event_type="begun", conversation_id=uuid.UUID(int=1))
    if "conversation_metrics" in tables:
        insert(database, "conversation_metrics", conversation_id="c", user_id="ü", record_ms=1, tts_ms=2)


def value(name: str, kind: str, width: int | None, number: int) -> Any:
    """Return a value for a column that leaves nothing to do for the backfills."""
    if name == "parent_request_id":
        return uuid.UUID(int=number - 1) if number > 1 else None
    if name in {"request_id", "parent_task_request_id"}:
        return uuid.UUID(int=number if name == "request_id" else 1)
    return {
        "uuid": uuid.UUID(int=1000 + number),
        "integer": number * 7,
        "boolean": True,
        "jsonb": {"n": number, "text": "ключ", "list": [1.50, None, {}]},
        "timestamp with time zone": START + timedelta(microseconds=number),
        "text": f"{name} {number} " + "é" * 10,
        "character varying": (f"{number}{name}" * 300)[: width or 5],
        "character": str(number) * (width or 1),
    }[kind]
