"""What each revision leaves in the database, compared with the tables of the reference."""

from collections.abc import Callable
from typing import Any

import pytest
from databases import Database
from support import REVISIONS

ZONED = "timestamp with time zone"

# column: type, nullable, default
COLUMNS: dict[str, dict[str, dict[str, tuple[str, bool, str | None]]]] = {
    "000": {
        "api_requests": {
            "request_id": ("uuid", False, None),
            "timestamp": (ZONED, False, None),
            "domain": ("character varying(255)", False, None),
            "method": ("character varying(10)", False, None),
            "path": ("character varying(1024)", False, None),
            "headers": ("jsonb", False, None),
            "body": ("jsonb", True, None),
            "request_type": ("character varying(50)", True, None),
            "api_key_id": ("character varying(50)", True, None),
            "api_key_hash": ("character varying(64)", True, None),
            "model": ("character varying(100)", True, None),
            "ip_address": ("character varying(45)", True, None),
            "response_status": ("integer", True, None),
            "response_headers": ("jsonb", True, None),
            "response_body": ("jsonb", True, None),
            "response_streaming": ("boolean", True, "false"),
            "duration_ms": ("integer", True, None),
            "first_token_ms": ("integer", True, None),
            "input_tokens": ("integer", True, None),
            "output_tokens": ("integer", True, None),
            "total_tokens": ("integer", True, "0"),
            "cache_creation_input_tokens": ("integer", True, "0"),
            "cache_read_input_tokens": ("integer", True, "0"),
            "usage_data": ("jsonb", True, None),
            "tool_call_count": ("integer", True, "0"),
            "error": ("text", True, None),
            "completed_at": (ZONED, True, None),
            "created_at": (ZONED, True, "now()"),
        },
        "streaming_chunks": {
            "id": ("integer", False, "nextval('streaming_chunks_id_seq'::regclass)"),
            "request_id": ("uuid", False, None),
            "chunk_index": ("integer", False, None),
            "timestamp": (ZONED, False, None),
            "data": ("text", False, None),
            "token_count": ("integer", True, "0"),
            "created_at": (ZONED, True, "now()"),
        },
        "hourly_stats": {
            "hour": (ZONED, True, None),
            "domain": ("character varying(255)", True, None),
            "model": ("character varying(100)", True, None),
            "request_count": ("bigint", True, None),
            "total_input_tokens": ("bigint", True, None),
            "total_output_tokens": ("bigint", True, None),
            "total_cache_creation_tokens": ("bigint", True, None),
            "total_cache_read_tokens": ("bigint", True, None),
            "avg_response_time": ("numeric", True, None),
            "total_tool_calls": ("bigint", True, None),
        },
    },
    "001": {
        "api_requests": {
            "current_message_hash": ("character(64)", True, None),
            "parent_message_hash": ("character(64)", True, None),
            "conversation_id": ("uuid", True, None),
            "branch_id": ("character varying(255)", True, "'main'::character varying"),
            "message_count": ("integer", True, "0"),
        }
    },
    "003": {
        "api_requests": {
            "parent_task_request_id": ("uuid", True, None),
            "is_subtask": ("boolean", True, "false"),
            "task_tool_invocation": ("jsonb", True, None),
        }
    },
    "005": {"api_requests": {"account_id": ("character varying(255)", True, None)}},
    "006": {
        "conversation_metrics": {
            "id": ("uuid", False, "gen_random_uuid()"),
            "conversation_id": ("character varying(255)", True, None),
            "user_id": ("character varying(255)", True, None),
            "record_ms": ("integer", True, None),
            "whisper_ms": ("integer", True, None),
            "translate_ms": ("integer", True, None),
            "tts_ms": ("integer", True, None),
            "detected_lang": ("character varying(10)", True, None),
            "target_lang": ("character varying(10)", True, None),
            "voice_used": ("character varying(50)", True, None),
            "created_at": ("timestamp without time zone", True, "now()"),
        }
    },
    "007": {
        "api_requests": {"input_tokens": ("integer", True, "0"), "output_tokens": ("integer", True, "0")}
    },
}

IN_CONVERSATION = " WHERE conversation_id IS NOT NULL"
INDEXES: dict[str, dict[str, str]] = {
    "000": {
        "api_requests_pkey": "api_requests USING btree (request_id)",
        "idx_api_requests_domain": "api_requests USING btree (domain)",
        "idx_api_requests_timestamp": 'api_requests USING btree ("timestamp")',
        "idx_api_requests_model": "api_requests USING btree (model)",
        "idx_api_requests_request_type": "api_requests USING btree (request_type)",
        "streaming_chunks_pkey": "streaming_chunks USING btree (id)",
        "streaming_chunks_request_id_chunk_index_key": "streaming_chunks USING btree"
        " (request_id, chunk_index)",
        "idx_streaming_chunks_request_id": "streaming_chunks USING btree (request_id, chunk_index)",
        "idx_hourly_stats_hour_domain": "hourly_stats USING btree (hour DESC, domain)",
        "hourly_stats_hour_domain_model_key": "hourly_stats USING btree (hour, domain, model)",
    },
    "001": {
        "idx_requests_current_message_hash": "api_requests USING btree (current_message_hash)",
        "idx_requests_parent_message_hash": "api_requests USING btree (parent_message_hash)",
        "idx_requests_conversation_id": "api_requests USING btree (conversation_id)",
        "idx_requests_branch_id": "api_requests USING btree (branch_id)",
        "idx_requests_conversation_branch": "api_requests USING btree (conversation_id, branch_id)",
        "idx_requests_message_count": "api_requests USING btree (message_count)",
    },
    "002": {
        "idx_requests_conversation_timestamp": 'api_requests USING btree (conversation_id, "timestamp")'
        + IN_CONVERSATION,
        "idx_requests_conversation_detail": "api_requests USING btree"
        ' (conversation_id, "timestamp", request_id, domain, model, total_tokens, branch_id)'
        + IN_CONVERSATION,
    },
    "003": {
        "idx_requests_parent_task_request_id": "api_requests USING btree (parent_task_request_id)",
        "idx_requests_is_subtask": "api_requests USING btree (is_subtask)",
        "idx_requests_task_tool_invocation_gin": "api_requests USING gin (task_tool_invocation)"
        " WHERE task_tool_invocation IS NOT NULL",
    },
    "004": {
        "idx_requests_conversation_timestamp_id": "api_requests USING btree"
        ' (conversation_id, "timestamp" DESC, request_id DESC)' + IN_CONVERSATION,
        "idx_requests_conversation_subtask": "api_requests USING btree"
        ' (conversation_id, is_subtask, "timestamp", request_id)' + IN_CONVERSATION,
        "idx_requests_request_id": "api_requests USING btree (request_id)",
    },
    "005": {
        "idx_requests_account_timestamp": 'api_requests USING btree (account_id, "timestamp" DESC)'
        " WHERE account_id IS NOT NULL"
    },
    "006": {
        "conversation_metrics_pkey": "conversation_metrics USING btree (id)",
        "idx_conversation_metrics_conversation": "conversation_metrics USING btree (conversation_id)",
    },
    "007": {
        "idx_requests_conversation_listing": "api_requests USING btree"
        ' (conversation_id, "timestamp", request_id, domain, model, branch_id)' + IN_CONVERSATION,
    },
}
DROPPED_INDEXES = {
    "004": {"idx_requests_conversation_timestamp"},
    "007": {
        "idx_requests_request_id",
        "idx_streaming_chunks_request_id",
        "idx_requests_branch_id",
        "idx_requests_conversation_branch",
        "idx_requests_conversation_detail",
    },
}
UNIQUE_INDEXES = {
    "api_requests_pkey",
    "streaming_chunks_pkey",
    "streaming_chunks_request_id_chunk_index_key",
    "hourly_stats_hour_domain_model_key",
    "conversation_metrics_pkey",
}

CONSTRAINTS: dict[str, dict[str, str]] = {
    "000": {
        "api_requests_pkey": "PRIMARY KEY (request_id)",
        "streaming_chunks_pkey": "PRIMARY KEY (id)",
        "streaming_chunks_request_id_chunk_index_key": "UNIQUE (request_id, chunk_index)",
        "streaming_chunks_request_id_fkey": "FOREIGN KEY (request_id) REFERENCES api_requests(request_id)"
        " ON DELETE CASCADE",
    },
    "003": {
        "api_requests_parent_task_request_id_fkey": "FOREIGN KEY (parent_task_request_id)"
        " REFERENCES api_requests(request_id)"
    },
    "006": {"conversation_metrics_pkey": "PRIMARY KEY (id)"},
}


def upto(revision: str) -> list[str]:
    return REVISIONS[: REVISIONS.index(revision) + 1]


@pytest.fixture(params=sorted({*COLUMNS, *INDEXES, *CONSTRAINTS}))
def revision(request: pytest.FixtureRequest) -> str:
    """Each revision in turn."""
    return str(request.param)


@pytest.fixture
def database(revision: str, at_revision: Callable[[str], Database]) -> Database:
    """A database at the revision."""
    return at_revision(revision)


def test_columns(revision: str, database: Database) -> None:
    expected: dict[str, dict[str, Any]] = {}
    for step in upto(revision):
        for table, columns in COLUMNS.get(step, {}).items():
            expected.setdefault(table, {}).update(columns)
    found: dict[str, dict[str, Any]] = {}
    for table, *column in database.execute(
        """
        SELECT relname, attname, format_type(atttypid, atttypmod), NOT attnotnull, pg_get_expr(adbin, adrelid)
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm')
          AND attnum > 0 AND NOT attisdropped AND relname <> 'alembic_version'
        ORDER BY attnum
        """
    ):
        found.setdefault(table, {})[column[0]] = tuple(column[1:])
    assert found == expected
    assert {table: list(columns) for table, columns in found.items()} == {
        table: list(columns) for table, columns in expected.items()
    }, "the columns are in another order"


def test_indexes(revision: str, database: Database) -> None:
    expected: dict[str, str] = {}
    for step in upto(revision):
        expected |= INDEXES.get(step, {})
        for dropped in DROPPED_INDEXES.get(step, ()):
            del expected[dropped]
    found = {}
    for name, definition in database.execute(
        """
        SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid, 0, true)
        FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
        WHERE relnamespace = 'public'::regnamespace AND relname <> 'alembic_version' AND indisvalid
        """
    ):
        kind = "CREATE UNIQUE INDEX" if name in UNIQUE_INDEXES else "CREATE INDEX"
        assert definition.startswith(f"{kind} {name} ON ")
        found[name] = definition.removeprefix(f"{kind} {name} ON ")
    assert found == expected


def test_constraints(revision: str, database: Database) -> None:
    expected: dict[str, str] = {}
    for step in upto(revision):
        expected |= CONSTRAINTS.get(step, {})
    found = dict(
        database.execute(
            """
            SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND convalidated
              AND conrelid <> 'alembic_version'::regclass
            """
        ).fetchall()
    )
    assert found == expected


def test_everything_has_a_comment(database: Database) -> None:
    without = database.execute(
        """
        SELECT relname, attname
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum >= 0
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm') AND relname <> 'alembic_version'
          AND coalesce(col_description(attrelid, attnum), '') = ''
        UNION ALL
        SELECT relname, NULL FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm') AND relname <> 'alembic_version'
          AND coalesce(obj_description(oid, 'pg_class'), '') = ''
        """
    ).fetchall()
    assert without == []


def test_the_refresh_function(head: Database) -> None:
    row = head.execute(
        "SELECT lanname, prorettype::regtype::text, prosrc, proconfig FROM pg_proc"
        " JOIN pg_language ON pg_language.oid = prolang"
        " WHERE pg_proc.oid = 'refresh_hourly_stats()'::regprocedure"
    ).fetchone()
    assert row is not None
    assert row[:2] == ("plpgsql", "void")
    assert "REFRESH MATERIALIZED VIEW CONCURRENTLY hourly_stats" in row[2]
    assert row[3] == ["search_path=public"]
