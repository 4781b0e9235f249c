"""Adoption of databases that existed before the chain: what differs, and how each difference is resolved.

The first part is data: what revisions 000 to 006 create, and the other names and definitions that the same
objects have in databases created by the manually run scripts, by the proxy's first start or by the
translation service. The second part compares a database with this data. ``adopt`` runs at the start of 000,
in its transaction. It renames, widens, fills, tightens and adds until the database is what the revisions
expect, or stops before any change with one line that names what it does not recognise. Objects that are not
named here are unmanaged, and stay as they are.

The data is frozen like a revision: later revisions add their own objects themselves. Only the names of their
indexes are here, so that an upgrade to head stops before its first revision if one of these names is taken.
"""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic import op
from alembic.util import CommandError
from psycopg.errors import CheckViolation, NotNullViolation
from sqlalchemy.exc import DBAPIError

from alembic_online import (
    backfill,
    depends_on_database,
    is_online,
    is_planning,
    note_in_plan,
    rename_index,
)
from alembic_online.errors import first_line
from alembic_online.filling import MAXIMUM_PASSES
from alembic_online.render import counted
from nexus_schema.errors import SchemaError, database_error, user_message
from nexus_schema.revisions import INDEX_DEFINITION, INDEX_OF_CONSTRAINT, KINDS
from nexus_schema.views import (
    columns_read_by,
    found_statements,
    rendered_statements,
    rendered_without_change,
)

log = logging.getLogger(__name__)


class Column(NamedTuple):
    """A column as PostgreSQL describes it."""

    type: str
    nullable: bool = True
    default: str | None = None


ZONED = "timestamp with time zone"

# By the revision that creates them.
COLUMNS: dict[str, dict[str, dict[str, Column]]] = {
    "000": {
        "api_requests": {
            "request_id": Column("uuid", nullable=False),
            "timestamp": Column(ZONED, nullable=False),
            "domain": Column("character varying(255)", nullable=False),
            "method": Column("character varying(10)", nullable=False),
            "path": Column("character varying(1024)", nullable=False),
            "headers": Column("jsonb", nullable=False),
            "body": Column("jsonb"),
            "request_type": Column("character varying(50)"),
            "api_key_id": Column("character varying(50)"),
            "api_key_hash": Column("character varying(64)"),
            "model": Column("character varying(100)"),
            "ip_address": Column("character varying(45)"),
            "response_status": Column("integer"),
            "response_headers": Column("jsonb"),
            "response_body": Column("jsonb"),
            "response_streaming": Column("boolean", default="false"),
            "duration_ms": Column("integer"),
            "first_token_ms": Column("integer"),
            "input_tokens": Column("integer"),
            "output_tokens": Column("integer"),
            "total_tokens": Column("integer", default="0"),
            "cache_creation_input_tokens": Column("integer", default="0"),
            "cache_read_input_tokens": Column("integer", default="0"),
            "usage_data": Column("jsonb"),
            "tool_call_count": Column("integer", default="0"),
            "error": Column("text"),
            "completed_at": Column(ZONED),
            "created_at": Column(ZONED, default="now()"),
        },
        "streaming_chunks": {
            "id": Column("integer", nullable=False, default="nextval('streaming_chunks_id_seq'::regclass)"),
            "request_id": Column("uuid", nullable=False),
            "chunk_index": Column("integer", nullable=False),
            "timestamp": Column(ZONED, nullable=False),
            "data": Column("text", nullable=False),
            "token_count": Column("integer", default="0"),
            "created_at": Column(ZONED, default="now()"),
        },
    },
    "001": {
        "api_requests": {
            "current_message_hash": Column("character(64)"),
            "parent_message_hash": Column("character(64)"),
            "conversation_id": Column("uuid"),
            "branch_id": Column("character varying(255)", default="'main'::character varying"),
            "message_count": Column("integer", default="0"),
        }
    },
    "003": {
        "api_requests": {
            "parent_task_request_id": Column("uuid"),
            "is_subtask": Column("boolean", default="false"),
            "task_tool_invocation": Column("jsonb"),
        }
    },
    "005": {"api_requests": {"account_id": Column("character varying(255)")}},
    "006": {
        "conversation_metrics": {
            "id": Column("uuid", nullable=False, default="gen_random_uuid()"),
            "conversation_id": Column("character varying(255)"),
            "user_id": Column("character varying(255)"),
            "record_ms": Column("integer"),
            "whisper_ms": Column("integer"),
            "translate_ms": Column("integer"),
            "tts_ms": Column("integer"),
            "detected_lang": Column("character varying(10)"),
            "target_lang": Column("character varying(10)"),
            "voice_used": Column("character varying(50)"),
            "created_at": Column("timestamp without time zone", default="now()"),
        }
    },
}
# 001, 003 and 005 add their columns themselves; these two create whole tables.
TABLES_ARE_MADE_BY = ("000", "006")

VIEW = "hourly_stats"
VIEW_COLUMNS = {
    "hour": ZONED,
    "domain": "character varying(255)",
    "model": "character varying(100)",
    "request_count": "bigint",
    "total_input_tokens": "bigint",
    "total_output_tokens": "bigint",
    "total_cache_creation_tokens": "bigint",
    "total_cache_read_tokens": "bigint",
    "avg_response_time": "numeric",
    "total_tool_calls": "bigint",
}
SEQUENCE = "streaming_chunks_id_seq"

CONSTRAINTS: dict[str, dict[str, str]] = {  # in the order in which they can be added
    "api_requests": {
        "api_requests_pkey": "PRIMARY KEY (request_id)",
        "api_requests_parent_task_request_id_fkey": "FOREIGN KEY (parent_task_request_id)"
        " REFERENCES api_requests(request_id)",
    },
    "streaming_chunks": {
        "streaming_chunks_pkey": "PRIMARY KEY (id)",
        "streaming_chunks_request_id_chunk_index_key": "UNIQUE (request_id, chunk_index)",
        "streaming_chunks_request_id_fkey": "FOREIGN KEY (request_id)"
        " REFERENCES api_requests(request_id) ON DELETE CASCADE",
    },
    "conversation_metrics": {"conversation_metrics_pkey": "PRIMARY KEY (id)"},
}

REVISIONS = ("000", "001", "002", "003", "004", "005", "006")

IN_CONVERSATION = " WHERE conversation_id IS NOT NULL"
INDEXES = {
    "idx_api_requests_domain": "INDEX ON api_requests USING btree (domain)",
    "idx_api_requests_timestamp": 'INDEX ON api_requests USING btree ("timestamp")',
    "idx_api_requests_model": "INDEX ON api_requests USING btree (model)",
    "idx_api_requests_request_type": "INDEX ON api_requests USING btree (request_type)",
    "idx_streaming_chunks_request_id": "INDEX ON streaming_chunks USING btree (request_id, chunk_index)",
    "idx_hourly_stats_hour_domain": "INDEX ON hourly_stats USING btree (hour DESC, domain)",
    "hourly_stats_hour_domain_model_key": "UNIQUE INDEX ON hourly_stats USING btree (hour, domain, model)",
    "idx_requests_current_message_hash": "INDEX ON api_requests USING btree (current_message_hash)",
    "idx_requests_parent_message_hash": "INDEX ON api_requests USING btree (parent_message_hash)",
    "idx_requests_conversation_id": "INDEX ON api_requests USING btree (conversation_id)",
    "idx_requests_branch_id": "INDEX ON api_requests USING btree (branch_id)",
    "idx_requests_conversation_branch": "INDEX ON api_requests USING btree (conversation_id, branch_id)",
    "idx_requests_message_count": "INDEX ON api_requests USING btree (message_count)",
    "idx_requests_conversation_timestamp": "INDEX ON api_requests USING btree"
    ' (conversation_id, "timestamp")' + IN_CONVERSATION,
    "idx_requests_conversation_detail": "INDEX ON api_requests USING btree"
    ' (conversation_id, "timestamp", request_id, domain, model, total_tokens, branch_id)' + IN_CONVERSATION,
    "idx_requests_parent_task_request_id": "INDEX ON api_requests USING btree (parent_task_request_id)",
    "idx_requests_is_subtask": "INDEX ON api_requests USING btree (is_subtask)",
    "idx_requests_task_tool_invocation_gin": "INDEX ON api_requests USING gin (task_tool_invocation)"
    " WHERE task_tool_invocation IS NOT NULL",
    "idx_requests_conversation_timestamp_id": "INDEX ON api_requests USING btree"
    ' (conversation_id, "timestamp" DESC, request_id DESC)' + IN_CONVERSATION,
    "idx_requests_conversation_subtask": "INDEX ON api_requests USING btree"
    ' (conversation_id, is_subtask, "timestamp", request_id)' + IN_CONVERSATION,
    "idx_requests_request_id": "INDEX ON api_requests USING btree (request_id)",
    "idx_requests_account_timestamp": 'INDEX ON api_requests USING btree (account_id, "timestamp" DESC)'
    " WHERE account_id IS NOT NULL",
    "idx_conversation_metrics_conversation": "INDEX ON conversation_metrics USING btree (conversation_id)",
}
DROPPED_AGAIN = "idx_requests_conversation_timestamp"  # created by 002, replaced by 004

# What legacy databases have in another form.

# Index names of the proxy's bootstrap. The index is renamed, or dropped if both exist.
RENAMED_INDEXES = {
    "idx_requests_domain": "idx_api_requests_domain",
    "idx_requests_timestamp": "idx_api_requests_timestamp",
    "idx_requests_model": "idx_api_requests_model",
    "idx_requests_request_type": "idx_api_requests_request_type",
    "idx_requests_current_hash": "idx_requests_current_message_hash",
    "idx_requests_parent_hash": "idx_requests_parent_message_hash",
    # Left by an adoption that was interrupted while it replaced an index.
    "nexus_schema_000_timestamp": "idx_api_requests_timestamp",
}
# The early bootstrap of June 2025 gave this name to another index. A plain index replaces it; unless there is
# one already, it is built under the second name.
REPLACED_INDEXES = {
    "idx_api_requests_timestamp": (
        'INDEX ON api_requests USING btree ("timestamp" DESC)',
        "nexus_schema_000_timestamp",
        ["timestamp"],
    ),
}
# Bootstrap indexes, each with the index of head that serves its queries: dropped as soon as that exists.
SERVED_INDEXES = {
    "idx_chunks_request_id": (
        "INDEX ON streaming_chunks USING btree (request_id)",
        "idx_streaming_chunks_request_id",
    ),
    "idx_requests_account_id": (
        "INDEX ON api_requests USING btree (account_id)",
        "idx_requests_account_timestamp",
    ),
}
# The revisions that build the indexes of head.
SERVED_SINCE = {"idx_streaming_chunks_request_id": "000", "idx_requests_account_timestamp": "005"}
# Indexes of later revisions. They exist if a database at head has lost its alembic_version.
LATER_INDEXES = {
    "idx_requests_conversation_listing": "INDEX ON api_requests USING btree"
    ' (conversation_id, "timestamp", request_id, domain, model, branch_id)' + IN_CONVERSATION,
}
KNOWN_INDEXES = {*INDEXES, *RENAMED_INDEXES, *SERVED_INDEXES, *LATER_INDEXES}
# Defaults of the bootstrap that are kept, so that a running proxy never writes NULL (D6); 007 sets them.
KEPT_DEFAULTS = {("api_requests", "input_tokens", "0"), ("api_requests", "output_tokens", "0")}
# Columns that are nullable in the bootstrap: NULL becomes this value before the column is set NOT NULL.
FILLED_COLUMNS = {("api_requests", "headers"): "'{}'"}
# Bodies of refresh_hourly_stats() that the chain replaces: that of the scripts, and its own.
REFRESH_BODIES = {"begin refresh materialized view concurrently hourly_stats; end"}
# A varchar is widened, however narrow it is (the bootstrap has path varchar(255), api_key_hash varchar(50)):
# this changes only the catalog. Any other difference of type cannot be resolved without a loss or a rewrite.
WIDENED_TYPE = re.compile(r"character varying\((\d+)\)")

# Two forms older than the early bootstrap are refused. The first has this id and this foreign key in
# streaming_chunks.
OLD_CHUNKS = ("bigint", "FOREIGN KEY (request_id) REFERENCES api_requests(request_id)")
# The second has this table instead of api_requests. A table of this name may also be unmanaged. It belongs to
# the proxy if streaming_chunks exists too, or if it has the columns that are NOT NULL in every known form of
# api_requests.
OLD_TABLE = "requests"
OLD_TABLE_COLUMNS = {"request_id", "timestamp", "domain", "method", "path"}

TABLES = tuple(CONSTRAINTS)

_RELATIONS = sa.text("""\
SELECT relname AS name, reltype, relkind::text AS kind,
       relforcerowsecurity AND relrowsecurity AS row_security, relpersistence = 'u' AS unlogged,
       relispartition AS partition, relispopulated AS populated,
       relacl <> acldefault('r', relowner) OR EXISTS (
           SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attacl IS NOT NULL) AS granted,
       EXISTS (SELECT FROM unnest(reloptions) AS option WHERE NOT starts_with(option, 'pg_')) AS options,
       pg_get_userbyid(relowner) AS owner, pg_has_role(relowner, 'USAGE') AS owned
FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
  AND relname = ANY (:names)""")
_COLUMNS = sa.text("""\
SELECT relname AS table, attname AS name, format_type(atttypid, atttypmod) AS type, attnotnull AS not_null,
       pg_get_expr(adbin, adrelid) AS default, attidentity <> '' OR attgenerated <> '' AS generated,
       attcollation <> typcollation AS collated,
       EXISTS (SELECT FROM pg_constraint WHERE conrelid = attrelid AND contype = 'n' AND NOT convalidated
               AND conkey = ARRAY[attnum]) AS not_null_unproved
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid JOIN pg_type ON pg_type.oid = atttypid
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
  AND relname = ANY (:tables) AND attnum > 0 AND NOT attisdropped
ORDER BY attnum""")
_CONSTRAINTS = sa.text("""\
SELECT relname AS table, conname AS name, contype::text AS kind, convalidated AS valid,
       regexp_replace(pg_get_constraintdef(pg_constraint.oid), ' NOT VALID$', '') AS definition
FROM pg_constraint JOIN pg_class ON pg_class.oid = conrelid
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
  AND relname = ANY (:tables) AND contype <> 'n'""")
_INDEXES = sa.text(f"""\
SELECT index.relname AS name, indexed.relname AS table, indisvalid AS valid,
       {INDEX_OF_CONSTRAINT} AS constraint, {INDEX_DEFINITION} AS definition
FROM pg_index
JOIN pg_class AS index ON index.oid = indexrelid
JOIN pg_class AS indexed ON indexed.oid = indrelid
WHERE index.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
ORDER BY indexrelid DESC""")  # noqa: S608 - of constants
_SEQUENCE_OWNED = sa.text("""\
SELECT count(*) > 0 FROM pg_depend JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
WHERE classid = 'pg_class'::regclass AND objid = to_regclass(:sequence) AND deptype = 'a'
  AND refobjid = to_regclass('streaming_chunks') AND attname = 'id'""")
# Objects that prevent a change of a column's type: views, triggers, policies, generated columns and
# publications that name the column.
_DEPENDENTS = sa.text("""\
SELECT DISTINCT relname AS table, attname AS column, pg_describe_object(classid, objid, objsubid) AS dependent
FROM pg_depend JOIN pg_class ON pg_class.oid = refobjid
JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
  AND relname = ANY (:tables) AND refclassid = 'pg_class'::regclass
  AND classid IN ('pg_rewrite'::regclass, 'pg_trigger'::regclass, 'pg_policy'::regclass,
                  'pg_attrdef'::regclass, 'pg_publication_rel'::regclass)
  AND NOT EXISTS (SELECT FROM pg_attrdef WHERE classid = 'pg_attrdef'::regclass AND pg_attrdef.oid = objid
                  AND adrelid = refobjid AND adnum = refobjsubid)""")
# Columns of a table's row type: while they exist, PostgreSQL refuses some changes of the table.
_ROW_TYPES = sa.text("""\
SELECT relname AS table, format('column %I of %s', attname, attrelid::regclass) AS dependent
FROM pg_class JOIN pg_type ON pg_type.oid = reltype
JOIN pg_attribute ON atttypid IN (pg_type.oid, typarray) AND NOT attisdropped
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
  AND relname = ANY (:tables)""")
_TYPES = sa.text("""\
SELECT typname FROM pg_type WHERE typrelid = 0 AND typname = ANY (:tables)
  AND typnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())""")
_SEQUENCE = sa.text("""\
SELECT seqtypid = 'integer'::regtype AND seqincrement = 1 AND seqmin = 1 AND seqmax = 2147483647
    AND NOT seqcycle
FROM pg_sequence WHERE seqrelid = to_regclass(:sequence)""")
_BYPASSES_ROW_SECURITY = sa.text("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
_MAY_CREATE = sa.text("SELECT has_schema_privilege(current_schema()::text, 'CREATE')")
_FUNCTION = sa.text("""\
SELECT prokind = 'f' AND prorettype = 'void'::regtype AND NOT prosecdef AND lanname = 'plpgsql' AS ours,
       lower(trim(regexp_replace(prosrc, '[[:space:]]+', ' ', 'g'))) AS body,
       pg_get_userbyid(proowner) AS owner, pg_has_role(proowner, 'USAGE') AS owned
FROM pg_proc JOIN pg_language ON pg_language.oid = prolang
WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
  AND proname = 'refresh_hourly_stats' AND pronargs = 0""")


def adopt(view_statement: str) -> None:
    """Change existing tables to what the revisions expect; do nothing in an empty database.

    :param view_statement: the CREATE MATERIALIZED VIEW of 000.

    Raises :class:`SchemaError`, before any change, if a known name has another definition. A --sql script
    cannot inspect its database, so it stops in any database that has one of our tables.
    """
    if op.get_context().as_sql:
        op.execute(_SCRIPT_GUARD)
        log.warning("a script cannot inspect its database: run it only where the tables do not exist yet")
        return
    connection = op.get_bind()
    database = _Database(connection)
    conflicts = database.conflicts()
    if is_planning():  # a role with read access only may print a plan
        of_any_role = database.conflicts(any_role=True)
        of_role = [text for text in conflicts if text not in of_any_role]
        if of_role and note_in_plan(f"this role cannot run it: {'; '.join(of_role)}"):
            conflicts = of_any_role
    _stop_at(conflicts)
    tables = [table for table in TABLES if table in database.relations]
    online = is_online()
    if tables and not online:
        # Locked before the comparison, so that nothing changes between comparing and changing, and no row is
        # inserted between filling a column and setting it NOT NULL.
        connection.execute(sa.text(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE"))
        # Fires deferred triggers now: ALTER TABLE fails while trigger events are pending.
        connection.execute(sa.text("SET CONSTRAINTS ALL IMMEDIATE"))
        database = _Database(connection)
        _stop_at(database.conflicts())
    plan = _Plan(database, connection, view_statement)
    _stop_at(plan.conflicts)
    if is_planning():
        _note(plan, found=bool(tables))
        return
    if tables:
        log.info("found %s, created without this chain", database.summary())
        log.info("missing, and added by the revisions: %s", ", ".join(database.missing()) or "nothing")
    with depends_on_database():
        for change in plan.changes:
            # Online, each operation has its own line.
            log.log(logging.DEBUG if online else logging.INFO, "%s", _run(change, online=online))
    for name in database.invalid_unmanaged():
        log.warning("unmanaged %s", name)


def _note(plan: "_Plan", *, found: bool) -> None:
    """Print the differences to resolve in a plan, each with its operations.

    :param found: whether one of our tables exists.
    """
    database = plan.database
    if found:
        note_in_plan(f"found {database.summary()}, created without this chain")
        note_in_plan(f"missing, and added by the revisions: {', '.join(database.missing()) or 'nothing'}")
    for reason in plan.unknown:
        note_in_plan(reason)
    for change in plan.changes:
        if note_in_plan(f"adoption: {change.what}"):
            change.make()
    for name in database.invalid_unmanaged():
        note_in_plan(f"unmanaged {name}")


def _stop_at(conflicts: Sequence[str]) -> None:
    if conflicts:
        raise SchemaError(
            f"nothing was changed: the upgrade cannot adopt this database: {'; '.join(conflicts)}"
        )


def _run(change: "_Change", *, online: bool) -> str:
    """Make a change, and return its line of the log."""
    try:
        changed = change.make()
    except DBAPIError as error:
        if online:
            raise
        raise SchemaError(f'nothing was changed: "{change.what}" failed: {user_message(error)}') from error
    if changed is None:
        return change.what
    return f"{change.what} in {counted(changed, 'row', 'rows')}"


def drop_served_indexes(revision: str | None = None) -> None:
    """Drop each legacy index that is redundant, because a valid index of the chain serves its queries.

    :param revision: the calling revision; in a plan, the indexes that it builds do not exist yet.
    """
    if op.get_context().as_sql:
        return
    planning = is_planning()
    database = _Database(op.get_bind())
    for name, (definition, serving) in SERVED_INDEXES.items():
        found, served_by = database.indexes.get(name), database.indexes.get(serving)
        serves = (served_by and served_by.valid) or (planning and SERVED_SINCE[serving] == revision)
        if found and found.definition == definition and serves:
            if planning and not note_in_plan(f"index {name} dropped: {serving} serves its queries"):
                continue
            if not planning:
                log.info("index %s dropped: %s serves its queries", name, serving)
            with depends_on_database():
                op.drop_index(name, found.table)


def report(connection: sa.Connection) -> None:
    """Log which of our tables a database without a revision has."""
    database = _Database(connection)
    if database.has_tables():
        log.warning(
            "no revision is recorded, but there is %s: which scripts created it is not known;"
            " alembic upgrade head compares it with the chain and adopts it",
            database.summary(),
        )


class _Change(NamedTuple):
    what: str
    make: Callable[[], int | None]
    """Makes the change; returns the number of changed rows, if it changes rows."""


class _Database:
    """What the catalog contains of the schema, read once."""

    def __init__(self, connection: sa.Connection) -> None:
        names = [*TABLES, VIEW, SEQUENCE, OLD_TABLE, *KNOWN_INDEXES]
        names += [constraint for constraints in CONSTRAINTS.values() for constraint in constraints]
        tables = [*TABLES, VIEW]
        self.relations = {row.name: row for row in connection.execute(_RELATIONS, {"names": names})}
        self.columns: dict[str, dict[str, Any]] = {}
        for row in connection.execute(_COLUMNS, {"tables": [*tables, OLD_TABLE]}):
            self.columns.setdefault(row.table, {})[row.name] = row
        self.constraints = {
            (row.table, row.name): row for row in connection.execute(_CONSTRAINTS, {"tables": tables})
        }
        self.indexes = {row.name: row for row in connection.execute(_INDEXES)}
        self.sequence_owned = connection.execute(_SEQUENCE_OWNED, {"sequence": SEQUENCE}).scalar_one()
        self.dependents: dict[tuple[str, str], list[str]] = {}
        for row in connection.execute(_DEPENDENTS, {"tables": tables}):
            self.dependents.setdefault((row.table, row.column), []).append(row.dependent)
        self.row_types = {
            row.table: row.dependent for row in connection.execute(_ROW_TYPES, {"tables": tables})
        }
        self.types = list(connection.scalars(_TYPES, {"tables": tables}))
        self.sequence_is_serial = connection.execute(_SEQUENCE, {"sequence": SEQUENCE}).scalar()
        self.bypasses_row_security = connection.execute(_BYPASSES_ROW_SECURITY).scalar_one()
        self.may_create = connection.execute(_MAY_CREATE).scalar_one()
        self.function = connection.execute(_FUNCTION).one_or_none()

    def has_tables(self) -> bool:
        """Return whether one of our tables exists, or another object of its name."""
        return any(name in self.relations for name in TABLES)

    def summary(self) -> str:
        """Describe our tables in one line: how many of their columns and indexes exist."""
        parts = []
        for table in TABLES:
            if table in self.relations:
                known = _known_columns(table)
                present = sum(name in self.columns.get(table, {}) for name in known)
                indexes = sum(
                    row.table == table and row.name in KNOWN_INDEXES for row in self.indexes.values()
                )
                known_indexes = counted(indexes, "known index", "known indexes")
                parts.append(f"{table} ({present} of {len(known)} columns, {known_indexes})")
        return ", ".join([*parts, *([VIEW] if VIEW in self.relations else [])])

    def conflicts(self, *, any_role: bool = False) -> list[str]:
        """Return which of our names belong to other objects, or to objects of another role.

        :param any_role: leave out what another role could do.
        """
        expected = dict.fromkeys(TABLES, "r") | {VIEW: "m", SEQUENCE: "S"}
        expected |= dict.fromkeys(KNOWN_INDEXES, "i")
        expected |= {name: "i" for table in CONSTRAINTS.values() for name in table}
        found = [f'"{name}" is a type, so no table of this name can be created' for name in self.types]
        for name, row in self.relations.items():
            if name not in expected:
                continue
            if row.kind != expected[name]:
                found.append(f'"{name}" is {KINDS[row.kind]}, not {KINDS[expected[name]]}')
            elif row.unlogged or row.partition:
                found.append(f'"{name}" is unlogged or a partition')
            elif any_role:
                continue
            elif not row.owned and row.kind in "rmS":
                found.append(f'"{name}" is owned by role "{row.owner}": connect as that role')
            elif row.row_security and not self.bypasses_row_security:
                found.append(f'"{name}" has FORCE ROW LEVEL SECURITY: connect as a role with BYPASSRLS')
        if SEQUENCE in self.relations and "streaming_chunks" not in self.relations:
            found.append(f'sequence "{SEQUENCE}" exists without its table')
        older = self._older_form()
        if older is not None:
            found.append(older)
        elif "streaming_chunks" in self.relations and "api_requests" not in self.relations:
            found.append('"streaming_chunks" exists without "api_requests"; drop it if it is empty')
        if not self.may_create and not any_role:
            found.append("missing privilege: CREATE on the schema")
        return found

    def _older_form(self) -> str | None:
        """Return what to do with the tables of a proxy older than the early bootstrap, or None."""
        chunks, old = self.columns.get("streaming_chunks", {}), self.relations.get(OLD_TABLE)
        if old is not None and old.kind == "r" and "api_requests" not in self.relations:
            moved = [OLD_TABLE, "streaming_chunks"] if chunks else [OLD_TABLE]
            if chunks or self.columns.get(OLD_TABLE, {}).keys() >= OLD_TABLE_COLUMNS:
                return (
                    f'"{OLD_TABLE}" is the table of a proxy older than June 2025: run CREATE SCHEMA old; '
                    + "; ".join(f"ALTER TABLE {name} SET SCHEMA old" for name in moved)
                    + "; then upgrade, and copy the rows that you need from there"
                )
        key = self.constraints.get(("streaming_chunks", "streaming_chunks_request_id_fkey"))
        if key is None or "id" not in chunks or (chunks["id"].type, key.definition) != OLD_CHUNKS:
            return None
        return (
            '"streaming_chunks" is that of a proxy older than June 2025 (id is bigint, no ON DELETE CASCADE):'
            " run ALTER TABLE streaming_chunks ALTER id TYPE integer, DROP CONSTRAINT"
            f" streaming_chunks_request_id_fkey; ALTER SEQUENCE {SEQUENCE} AS integer; then upgrade, which"
            " adds the constraint"
        )

    def missing(self) -> list[str]:
        """Return what the revisions will add: tables, indexes, columns of later revisions, the view."""
        found = [name for name in (*TABLES, VIEW) if name not in self.relations]
        found += [
            f"{table}.{name}"
            for table in TABLES
            if table in self.relations
            for name in _known_columns(table)
            if name not in self.columns.get(table, {})
        ]
        renamed = {RENAMED_INDEXES[name] for name in self.indexes if name in RENAMED_INDEXES}
        return found + [
            name
            for name in INDEXES
            if name not in self.indexes and name not in renamed and name != DROPPED_AGAIN
        ]

    def invalid_unmanaged(self) -> Iterator[str]:
        """Name the unmanaged indexes that are invalid, and constraints that are not validated."""
        for row in self.indexes.values():
            if row.table in {*TABLES, VIEW} and not row.valid and row.name not in KNOWN_INDEXES:
                yield f"index {row.name} of {row.table} is invalid; rebuild it with REINDEX INDEX"
        for (table, name), row in self.constraints.items():
            if not row.valid and name not in CONSTRAINTS.get(table, {}):
                yield f"constraint {name} of {table} is not validated; run VALIDATE CONSTRAINT"


@dataclass
class _Plan:
    """The changes that a database needs, in order, or the reasons why it cannot be adopted."""

    database: _Database
    connection: sa.Connection
    view_statement: str
    conflicts: list[str] = field(default_factory=list)
    changes: list[_Change] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """What a plan cannot find out."""

    def __post_init__(self) -> None:
        tables = [table for table in TABLES if table in self.database.relations]
        self._indexes()
        for table in tables:
            self._columns(table)
        for table in tables:
            self._constraints(table)
        self._view()
        self._function()

    def _change(self, what: str, make: Callable[..., int | None], *arguments: Any, **options: Any) -> None:
        self.changes.append(_Change(what, partial(make, *arguments, **options)))

    def _conflict(self, text: str) -> None:
        self.conflicts.append(text)

    def _indexes(self) -> None:
        of_constraints = {name: table for table, names in CONSTRAINTS.items() for name in names}
        wanted: dict[str, None] = {}
        for name, row in self.database.indexes.items():
            if name in of_constraints and (of_constraints[name], name) not in self.database.constraints:
                self._conflict(f'index "{name}" does not belong to the constraint of this name')
            elif name in of_constraints and self.database.relations[name].options:
                self._conflict(f'index "{name}" has storage parameters; ALTER INDEX {name} RESET them')
            of_chain = RENAMED_INDEXES.get(name, name)
            legacy = (INDEXES | LATER_INDEXES).get(of_chain) or SERVED_INDEXES.get(name, (None,))[0]
            if legacy is None:
                continue
            if (row.definition != legacy and not _is_replaced(row)) or row.constraint:
                self._conflict(f'index "{name}" is "{row.definition}", not "{legacy}"')
            elif of_chain in INDEXES:
                wanted[of_chain] = None
            elif not row.valid:
                self._drop_index(row, "it is invalid")
        for name in wanted:
            self._index(name)

    def _index(self, wanted: str) -> None:
        """Keep one index, under the wanted name; a valid one of another name is not rebuilt."""
        there = self.database.indexes.get(wanted)
        names = [wanted, *(old for old, new in RENAMED_INDEXES.items() if new == wanted)]
        found = [self.database.indexes[name] for name in names if name in self.database.indexes]
        same = [row for row in found if row.valid and row.definition == INDEXES[wanted]]
        kept = same[0].name if same else None
        for row in found:
            if row.name not in {wanted, kept}:
                self._drop_index(row, f"it duplicates {wanted}" if row in same else "it is invalid")
        if there is not None and kept is None:
            if not (there.valid and _is_replaced(there)):
                self._drop_index(there, "it is invalid")  # 000 builds it
                return
            kept, columns = REPLACED_INDEXES[wanted][1:]
            self._change(f"index {kept} built", op.create_index, kept, there.table, [*columns])
        if kept is None or kept == wanted:
            return
        if there is None:
            self._change(f"index {kept} renamed to {wanted}", rename_index, kept, wanted)
            return
        # In one transaction: a program that starts meanwhile and runs CREATE INDEX IF NOT EXISTS finds the
        # name taken. LOCK TABLE comes first, because it tells an online run for which table to wait.
        self._change(
            f"index {wanted} replaced by {kept}: it was {there.definition if there.valid else 'invalid'}",
            op.execute,
            f"LOCK TABLE {there.table} IN ACCESS EXCLUSIVE MODE; DROP INDEX {wanted};"
            f" ALTER INDEX {kept} RENAME TO {wanted}",
        )

    def _drop_index(self, row: Any, why: str) -> None:
        self._change(f"index {row.name} dropped: {why}", op.drop_index, row.name, row.table)

    def _columns(self, table: str) -> None:
        found_columns = self.database.columns.get(table, {})
        for revision, tables in COLUMNS.items():
            for name, wanted in tables.get(table, {}).items():
                found = found_columns.get(name)
                if found is not None:
                    self._column(table, name, found, wanted)
                elif not wanted.nullable:
                    self._conflict(f'"{table}" has no column "{name}", and no value for it is known')
                elif wanted.default and table in self.database.row_types:
                    self._conflict(self._refusal(table, name, self.database.row_types[table]))
                elif revision in TABLES_ARE_MADE_BY:
                    default = None if wanted.default is None else sa.text(wanted.default)
                    column: sa.Column[Any] = sa.Column(name, _Type(wanted.type), server_default=default)
                    self._change(f"{table}.{name} added", op.add_column, table, column)

    def _column(self, table: str, name: str, found: Any, wanted: Column) -> None:
        alter = partial(op.alter_column, table, name)
        if found.generated or found.collated:
            self._conflict(f'"{table}.{name}" is generated or has a non-default collation')
            return
        if found.type != wanted.type:
            if not _wider(found.type, wanted.type):
                self._conflict(f'"{table}.{name}" is {found.type}, not {wanted.type}')
                return
            dependents = sorted(self.database.dependents.get((table, name), []))
            if table in self.database.row_types:
                dependents.append(self.database.row_types[table])
            if dependents:
                self._conflict(self._refusal(table, name, ", ".join(dependents)))
                return
            self._change(
                f"{table}.{name}: {found.type} widened to {wanted.type}", alter, type_=_Type(wanted.type)
            )
        if found.default != wanted.default and (table, name, found.default) not in KEPT_DEFAULTS:
            if SEQUENCE in str(wanted.default):
                self._conflict(f'"{table}.{name}" has the default {found.default}, not {wanted.default}')
            elif wanted.default is None:
                self._change(f"{table}.{name}: default {found.default} dropped", alter, server_default=None)
            else:
                self._change(
                    f"{table}.{name}: default {wanted.default} set",
                    alter,
                    server_default=sa.text(wanted.default),
                )
        elif SEQUENCE in str(wanted.default) and not self.database.sequence_is_serial:
            self._conflict(
                f'sequence "{SEQUENCE}" is not that of a serial column (integer, increment 1, no cycle)'
            )
        elif SEQUENCE in str(wanted.default) and not self.database.sequence_owned:
            self._change(
                f"sequence {SEQUENCE} owned by its column",
                op.execute,
                f"ALTER SEQUENCE {SEQUENCE} OWNED BY {table}.{name}",
            )
        if wanted.nullable and found.not_null:
            self._change(f"{table}.{name}: NOT NULL dropped", alter, nullable=True)
        elif not wanted.nullable and (not found.not_null or found.not_null_unproved):
            if found.not_null_unproved:  # SET NOT NULL would consider it validated
                self._change(f"{table}.{name}: unvalidated NOT NULL dropped", alter, nullable=True)
            if (table, name) in FILLED_COLUMNS:
                value = FILLED_COLUMNS[table, name]
                self._change(f"{table}.{name}: NULL becomes {value}", _fill, table, name, value)
            self._change(f"{table}.{name}: NOT NULL set", _tighten, table, name)

    def _refusal(self, table: str, name: str, dependents: str) -> str:
        return (
            f'PostgreSQL cannot change or add "{table}.{name}" because of: {dependents};'
            " drop that, upgrade, and create it again"
        )

    def _constraints(self, table: str) -> None:
        here = {name: row for (of, name), row in self.database.constraints.items() if of == table}
        for name, wanted in CONSTRAINTS[table].items():
            found = here.get(name)
            if found is not None:
                if found.definition != wanted:
                    self._conflict(f'constraint "{name}" is "{found.definition}", not "{wanted}"')
                elif not found.valid:
                    self._change(
                        f"constraint {name} validated",
                        op.execute,
                        f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}",
                    )
                continue
            other_key = next((row.name for row in here.values() if row.kind == "p"), None)
            if wanted.startswith("PRIMARY KEY") and other_key is not None:
                self._conflict(
                    f'"{table}" has the primary key "{other_key}" instead of "{name}": rename it, if it is'
                    f" the same, with ALTER TABLE {table} RENAME CONSTRAINT {other_key} TO {name}"
                )
            elif name != "api_requests_parent_task_request_id_fkey" or (
                "parent_task_request_id" in self.database.columns.get(table, {})  # else 003 adds both
            ):
                self._change(f"constraint {name} added", _add_constraint, table, name, wanted)

    def _view(self) -> None:
        view = self.database.relations.get(VIEW)
        if view is None:
            return
        types = {name: row.type for name, row in self.database.columns.get(VIEW, {}).items()}
        statement = self.view_statement.replace("IF NOT EXISTS ", "")
        if types != VIEW_COLUMNS:
            self._conflict(f'"{VIEW}" has other columns; drop it, and the upgrade recreates it')
        elif not self._is_our_view(statement):
            own = [row.name for row in self.database.indexes.values() if row.table == VIEW]
            if {table for table, _ in columns_read_by(self.connection, VIEW)} != {"api_requests"}:
                self._conflict(f'"{VIEW}" is a view of other tables')
            elif view.granted or not set(own) <= INDEXES.keys():
                self._conflict(
                    f'"{VIEW}" is defined by another query and has other indexes or grants; drop it, and the'
                    " upgrade recreates it"
                )
            else:
                self._change(
                    f"{VIEW} dropped: it is defined by another query; 000 recreates it",
                    op.execute,
                    f"DROP MATERIALIZED VIEW {VIEW}",
                )
        elif not view.populated:
            self._change(f"{VIEW} populated", op.execute, f"REFRESH MATERIALIZED VIEW {VIEW}")

    def _is_our_view(self, statement: str) -> bool:
        """Return whether the view has the query of 000, comparing how the server displays both."""
        found = found_statements(self.connection, VIEW)[:1]
        if not is_planning():
            return rendered_statements(self.connection, VIEW, [statement]) == found
        try:
            return rendered_without_change(op.get_context(), VIEW, statement) == found
        except DBAPIError as error:
            reason = first_line(error)
            self.unknown.append(f"not known: whether {VIEW} has another query: the test failed ({reason})")
            return True

    def _function(self) -> None:
        function = self.database.function
        if function is None:
            return
        body = re.sub(r"\b\w+\.hourly_stats", "hourly_stats", function.body).removesuffix(";").strip()
        if not function.ours or body not in REFRESH_BODIES:
            self._conflict("function refresh_hourly_stats() has another definition; rename or drop it")
        elif not function.owned:
            text = f'function refresh_hourly_stats() is owned by role "{function.owner}"'
            if not is_planning() or not note_in_plan(f"this role cannot run it: {text}"):
                self._conflict(text)


def _is_replaced(index: Any) -> bool:
    return index.name in REPLACED_INDEXES and index.definition == REPLACED_INDEXES[index.name][0]


def _known_columns(table: str) -> Sequence[str]:
    return [name for tables in COLUMNS.values() for name in tables.get(table, {})]


def _wider(found: str, wanted: str) -> bool:
    narrow, wide = WIDENED_TYPE.fullmatch(found), WIDENED_TYPE.fullmatch(wanted)
    return bool(narrow and wide and int(narrow[1]) < int(wide[1]))


class _Type(sa.types.UserDefinedType[Any]):
    """A type under the name that PostgreSQL gives it."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: object) -> str:
        return self.name


def _fill(table: str, column: str, value: str) -> int:
    """Set a column to a value, given as SQL, where it is NULL; return the number of rows."""
    filled = sa.table(table, sa.column(column))
    return backfill(
        sa.update(filled).values({column: sa.literal_column(value)}).where(filled.c[column].is_(None)),
        what=f"rows of {table} given their {column}",
    )


def _tighten(table: str, column: str) -> None:
    """Set a column NOT NULL. Online, NULLs may be inserted after the column was filled; fill them too."""
    for _ in range(MAXIMUM_PASSES):
        try:
            op.alter_column(table, column, nullable=False)
        except CommandError as error:
            of_rows = isinstance(database_error(error), NotNullViolation | CheckViolation)
            if not of_rows or (table, column) not in FILLED_COLUMNS:
                raise
            _fill(table, column, FILLED_COLUMNS[table, column])
        else:
            return
    op.alter_column(table, column, nullable=False)


def _add_constraint(table: str, name: str, definition: str) -> None:
    """Add a constraint of :data:`CONSTRAINTS`, which is spelled as PostgreSQL displays it."""
    found = _CONSTRAINT.fullmatch(definition)
    assert found is not None  # noqa: S101 - the definitions are ours
    columns = found["columns"].split(", ")
    if found["kind"] == "PRIMARY KEY":
        op.create_primary_key(name, table, columns)
    elif found["kind"] == "UNIQUE":
        op.create_unique_constraint(name, table, columns)
    else:
        cascade = "CASCADE" if found["cascade"] else None
        op.create_foreign_key(name, table, found["table"], columns, [found["referred"]], ondelete=cascade)


_CONSTRAINT = re.compile(
    r"(?P<kind>PRIMARY KEY|UNIQUE|FOREIGN KEY) \((?P<columns>[^)]*)\)"
    r"( REFERENCES (?P<table>\w+)\((?P<referred>\w+)\)(?P<cascade> ON DELETE CASCADE)?)?"
)


_SCRIPT_GUARD = f"""\
DO $$ BEGIN
    IF num_nonnulls({", ".join(f"to_regclass('{name}')" for name in (*TABLES, VIEW))}) > 0 THEN
        RAISE EXCEPTION 'this script is for a database without these tables; upgrade this one with:'
            ' alembic upgrade head';
    END IF;
END $$"""
