"""Changes of a copy of the models: a generated revision applies them, and its downgrade reverts them."""

import enum
import sys
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from drift.round_trip import Project, assert_round_trip, few_together, together
from marks import quick
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Table,
    UniqueConstraint,
    event,
    text,
)
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.sql.ddl import CreateView

# For tables that refer to each other without use_alter.
pytestmark = pytest.mark.filterwarnings("ignore:Cannot correctly sort tables")

Copy = Any  # the tables by name, the metadata as .metadata
Change = Callable[[Copy], object]


def column(table: str, *arguments: Any, **options: Any) -> Change:
    return lambda copy: getattr(copy, table).append_column(Column(*arguments, **options))


def without_column(table: str, name: str) -> Change:
    def change(copy: Copy) -> None:
        of = getattr(copy, table)
        for index in [index for index in of.indexes if name in index.columns]:
            of.indexes.discard(index)
        for constraint in [c for c in of.constraints if name in c.columns]:
            of.constraints.discard(constraint)
        of._columns.remove(of.c[name])

    return change


def attribute(table: str, name: str, **values: Any) -> Change:
    def change(copy: Copy) -> None:
        for key, value in values.items():
            setattr(getattr(copy, table).c[name], key, value)

    return change


def default(table: str, name: str, value: Any) -> Change:
    def change(copy: Copy) -> None:
        of = getattr(copy, table).c[name]
        of.server_default = None if value is None else sa.DefaultClause(value)

    return change


def without_index(table: str, name: str) -> Change:
    def change(copy: Copy) -> None:
        of = getattr(copy, table)
        [index] = [index for index in of.indexes if index.name == name]
        of.indexes.discard(index)

    return change


def index(table: str, name: str, *columns: Any, **options: Any) -> Change:
    """Add an index to a table, replacing one of the same name."""

    def change(copy: Copy) -> None:
        of = getattr(copy, table)
        of.indexes = {index for index in of.indexes if index.name != name}
        if columns:
            Index(name, *(of.c[c] if c in of.c else text(c) for c in columns), _table=of, **options)

    return change


def constraint(table: str, *made: Any) -> Change:
    return lambda copy: [getattr(copy, table).append_constraint(one) for one in made]


def without_constraint(table: str, kind: type[Any]) -> Change:
    def change(copy: Copy) -> None:
        of = getattr(copy, table)
        [gone] = [constraint for constraint in of.constraints if isinstance(constraint, kind)]
        of.constraints.discard(gone)

    return change


def table(name: str, *items: Any, **options: Any) -> Change:
    return lambda copy: Table(name, copy.metadata, *items, **options)


def without_table(name: str) -> Change:
    return lambda copy: copy.metadata.remove(getattr(copy, name))


def after_create(table: str, *statements: str) -> Change:
    def change(copy: Copy) -> None:
        for statement in statements:
            ddl = sa.DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]
            event.listen((vars(copy) | dict(copy.metadata.tables))[table], "after_create", ddl)

    return change


def view(
    query: str, *indexed: str, name: str = "hourly_stats", materialized: bool = True, **comments: str
) -> Change:
    def change(copy: Copy) -> None:
        if name in copy.metadata.tables:
            copy.metadata.remove(copy.metadata.tables[name])
        columns, _, rest = query.partition(" FROM ")
        labelled = [part.split(" AS ") for part in columns.split(", ")]
        select: Any = sa.select(
            *(sa.literal_column(what).label(label) for what, label in labelled)
        ).select_from(text(rest.replace(":", r"\:")))
        made = CreateView(select, name, metadata=copy.metadata, materialized=materialized).table
        for column_name, comment in comments.items():
            made.c[column_name].comment = comment
        for number, column_name in enumerate(indexed):
            Index(f"{name}_{number}", made.c[column_name])

    return change


def both(*changes: Change) -> Change:
    return lambda copy: [change(copy) for change in changes]


def referring(*, use_alter: bool) -> Change:
    """Add two tables that refer to each other, one of them also to itself."""

    def key(to: str, name: str, *, alter: bool = False) -> sa.ForeignKey:
        return sa.ForeignKey(to, name=name, use_alter=alter)

    def change(copy: Copy) -> None:
        Table(
            "ahead",
            copy.metadata,
            id_column(),
            Column("behind_id", sa.Integer, key("behind.id", "to_behind", alter=use_alter)),
            Column("parent_id", sa.Integer, sa.ForeignKey("ahead.id")),
        )
        Table(
            "behind",
            copy.metadata,
            id_column(),
            Column("ahead_id", sa.Integer, key("ahead.id", "to_ahead"), index=True),
        )

    return change


class Colour(enum.Enum):
    red = 1
    green = 2


def id_column(**options: Any) -> "Column[int]":
    return Column("id", sa.Integer, primary_key=True, **options)


REQUESTS, CHUNKS, METRICS = "api_requests", "streaming_chunks", "conversation_metrics"


def changes() -> list[tuple[str, Change]]:
    """Return the object and the change of each case. A column belongs to one table: use a change once."""
    return [
        # Tables
        (
            "table tags",
            table(
                "tags",
                id_column(),
                Column("name", sa.String(50), unique=True, comment="it's 50% :name"),
                comment="Tags",
            ),
        ),
        (
            "table big",
            table("big", Column("id", sa.BigInteger, sa.Identity(always=True, start=100), primary_key=True)),
        ),
        ("table coloured", table("coloured", id_column(), Column("colour", sa.Enum(Colour, name="colour")))),
        ("table Odd Name", table("Odd Name", id_column(), Column("A b", sa.Text, index=True))),
        (
            "table child",
            table(
                "child",
                id_column(),
                Column(
                    "request_id",
                    sa.Uuid,
                    sa.ForeignKey("api_requests.request_id", ondelete="SET NULL"),
                    index=True,
                ),
                CheckConstraint("id > 0", name="positive"),
            ),
        ),
        (
            "table spans",
            table(
                "spans",
                id_column(),
                Column("during", pg.TSTZRANGE),
                pg.ExcludeConstraint(("during", "&&"), name="spans_apart"),
            ),
        ),
        (
            "table doubled",
            table("doubled", id_column(), Column("twice", sa.Integer, sa.Computed("id * 2", persisted=True))),
        ),
        (
            "table quick",
            table("quick", id_column(), prefixes=["UNLOGGED"], postgresql_with={"fillfactor": 70}),
        ),
        (
            "table parts",
            table("parts", Column("day", sa.Date, primary_key=True), postgresql_partition_by="RANGE (day)"),
        ),
        (
            "table checked",
            table("checked", id_column(), Column("n", sa.Integer, CheckConstraint("n > 3", name="npos"))),
        ),
        ("table ahead", referring(use_alter=True)),
        ("table ahead", referring(use_alter=False)),
        (
            "domain posint",
            table("counted", id_column(), Column("n", pg.DOMAIN("posint", sa.Integer, check="VALUE > 0"))),
        ),
        (
            "type shade",
            table("shaded", id_column(), Column("shades", pg.ARRAY(sa.Enum(Colour, name="shade")))),
        ),
        ("table conversation_metrics", without_table(METRICS)),
        ("table streaming_chunks", without_table(CHUNKS)),
        (
            "table conversation_metrics",
            lambda copy: setattr(copy.conversation_metrics, "comment", "another: 50% :x \\"),
        ),
        ("table conversation_metrics", lambda copy: setattr(copy.conversation_metrics, "comment", None)),
        # Columns
        ("column conversation_metrics.note", column(METRICS, "note", sa.Text, comment="it's")),
        (
            "column conversation_metrics.note",
            column(METRICS, "note", sa.String(9, collation="C"), nullable=False, server_default="x"),
        ),
        (
            "column api_requests.extra",
            column(REQUESTS, "extra", pg.JSONB, server_default=text(r"""'{"a": "%\:b"}'""")),
        ),
        ("column api_requests.labels", column(REQUESTS, "labels", pg.ARRAY(sa.Text), index=True)),
        ("column conversation_metrics.colour", column(METRICS, "colour", sa.Enum(Colour, name="colour"))),
        (
            "column conversation_metrics.twice",
            column(METRICS, "twice", sa.Integer, sa.Computed("tts_ms * 2", persisted=True)),
        ),
        ("column conversation_metrics.number", column(METRICS, "number", sa.BigInteger, sa.Identity())),
        (
            "column conversation_metrics.request_id",
            column(
                METRICS,
                "request_id",
                sa.Uuid,
                sa.ForeignKey("api_requests.request_id", name="to_request"),
                unique=True,
            ),
        ),
        (
            "column conversation_metrics.amount",
            column(METRICS, "amount", sa.Numeric(12, 2), CheckConstraint("amount >= 0", name="not_negative")),
        ),
        ("column conversation_metrics.voice_used", without_column(METRICS, "voice_used")),
        ("column api_requests.account_id", without_column(REQUESTS, "account_id")),
        ("column api_requests.task_tool_invocation", without_column(REQUESTS, "task_tool_invocation")),
        ("column conversation_metrics.user_id", attribute(METRICS, "user_id", type=sa.String(300))),
        ("column conversation_metrics.user_id", attribute(METRICS, "user_id", type=sa.Text())),
        (
            "column conversation_metrics.user_id",
            attribute(METRICS, "user_id", type=sa.String(255, collation="C")),
        ),
        ("column conversation_metrics.record_ms", attribute(METRICS, "record_ms", type=sa.BigInteger())),
        (
            "column conversation_metrics.created_at",
            attribute(METRICS, "created_at", type=sa.DateTime(timezone=True)),
        ),
        ("column api_requests.domain", attribute(REQUESTS, "domain", type=sa.String(300))),
        ("column streaming_chunks.id", attribute(CHUNKS, "id", type=sa.BigInteger())),
        ("column conversation_metrics.user_id", attribute(METRICS, "user_id", nullable=False)),
        ("column api_requests.headers", attribute(REQUESTS, "headers", nullable=True)),
        ("column conversation_metrics.user_id", attribute(METRICS, "user_id", comment="another: 50% :x \\")),
        ("column conversation_metrics.user_id", attribute(METRICS, "user_id", comment=None)),
        ("column conversation_metrics.user_id", default(METRICS, "user_id", text("CURRENT_USER"))),
        ("column api_requests.branch_id", default(REQUESTS, "branch_id", "it's :50% \\")),
        ("column api_requests.branch_id", default(REQUESTS, "branch_id", None)),
        ("column conversation_metrics.id", default(METRICS, "id", text("gen_random_uuid()::text::uuid"))),
        (
            "column conversation_metrics.tts_ms",
            both(
                attribute(METRICS, "tts_ms", nullable=False),
                lambda copy: sa.Identity(start=7, increment=3)._set_parent(
                    copy.conversation_metrics.c.tts_ms
                ),
            ),
        ),
        # Indexes
        ("index by_user on conversation_metrics", index(METRICS, "by_user", "user_id")),
        (
            "index by_user on conversation_metrics",
            index(
                METRICS,
                "by_user",
                "lower(user_id) DESC NULLS LAST",
                postgresql_include=["tts_ms"],
                postgresql_where=text("user_id <> '50%:x'"),
            ),
        ),
        (
            "index by_user on conversation_metrics",
            index(
                METRICS,
                "by_user",
                "user_id",
                postgresql_ops={"user_id": "varchar_pattern_ops"},
                postgresql_with={"fillfactor": 70},
            ),
        ),
        (
            "index by_user on conversation_metrics",
            index(
                METRICS, "by_user", "user_id", postgresql_using="brin", postgresql_with={"pages_per_range": 4}
            ),
        ),
        (
            "index idx_requests_message_count on api_requests",
            without_index(REQUESTS, "idx_requests_message_count"),
        ),
        (
            "index idx_requests_task_tool_invocation_gin on api_requests",
            index(
                REQUESTS,
                "idx_requests_task_tool_invocation_gin",
                "task_tool_invocation",
                postgresql_using="gin",
            ),
        ),
        (
            "index idx_requests_conversation_listing on api_requests",
            index(
                REQUESTS,
                "idx_requests_conversation_listing",
                "conversation_id",
                "timestamp",
                postgresql_include=["domain", "model"],
            ),
        ),
        (
            "index idx_hourly_stats_hour_domain on hourly_stats",
            index("hourly_stats", "idx_hourly_stats_hour_domain", "domain"),
        ),
        # Constraints
        (
            "constraint conversation_metrics_user_id_created_at_key on conversation_metrics",
            constraint(METRICS, UniqueConstraint("user_id", "created_at")),
        ),
        (
            "constraint once on conversation_metrics",
            constraint(
                METRICS,
                UniqueConstraint("user_id", name="once", deferrable=True, initially="DEFERRED"),
            ),
        ),
        (
            "constraint conversation_metrics_quick_check on conversation_metrics",
            constraint(METRICS, CheckConstraint("tts_ms < 10 OR user_id = '50%:x'", name="quick")),
        ),
        (
            "constraint apart on conversation_metrics",
            constraint(METRICS, pg.ExcludeConstraint(("user_id", "="), name="apart", using="btree")),
        ),
        (
            "constraint to_itself on conversation_metrics",
            both(
                constraint(METRICS, UniqueConstraint("id", "user_id", name="pair")),
                constraint(
                    METRICS,
                    ForeignKeyConstraint(
                        ["id", "user_id"],
                        ["conversation_metrics.id", "conversation_metrics.user_id"],
                        name="to_itself",
                        onupdate="CASCADE",
                        match="FULL",
                    ),
                ),
            ),
        ),
        (
            "constraint streaming_chunks_request_id_chunk_index_key on streaming_chunks",
            without_constraint(CHUNKS, UniqueConstraint),
        ),
        (
            "constraint streaming_chunks_request_id_fkey on streaming_chunks",
            lambda copy: [
                vars(c).update(ondelete="RESTRICT", deferrable=True)
                for c in copy.streaming_chunks.foreign_key_constraints
            ],
        ),
        (
            "constraint including on streaming_chunks",
            constraint(
                CHUNKS,
                UniqueConstraint(
                    "chunk_index", "request_id", name="including", postgresql_include=["token_count"]
                ),
            ),
        ),
        (
            "constraint spans on conversation_metrics",
            constraint(
                METRICS, pg.ExcludeConstraint((text("int4range(tts_ms, tts_ms + 1)"), "&&"), name="spans")
            ),
        ),
        ("domain positive", after_create(METRICS, "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)")),
        # Settings
        (
            "column conversation_metrics.voice_used",
            after_create(METRICS, "ALTER TABLE conversation_metrics ALTER voice_used SET STORAGE MAIN"),
        ),
        (
            "column conversation_metrics.user_id",
            both(
                attribute(METRICS, "user_id", type=sa.Text()),
                after_create(
                    METRICS,
                    "ALTER TABLE conversation_metrics ALTER user_id SET STORAGE MAIN,"
                    " ALTER user_id SET STATISTICS 9, ALTER user_id SET (n_distinct = -0.5)",
                ),
            ),
        ),
        (
            "column conversation_metrics.note",
            both(
                column(METRICS, "note", sa.Text),
                after_create(METRICS, "ALTER TABLE conversation_metrics ALTER note SET STORAGE EXTERNAL"),
            ),
        ),
        (
            "table conversation_metrics",
            after_create(METRICS, "ALTER TABLE conversation_metrics SET (fillfactor = 70), SET UNLOGGED"),
        ),
        (
            "table set_up",
            both(
                table("set_up", id_column(), Column("note", sa.Text, index=True)),
                after_create(
                    "set_up",
                    "ALTER TABLE set_up SET (fillfactor = 70, toast.autovacuum_enabled = off), SET UNLOGGED,"
                    " ALTER note SET STORAGE EXTERNAL, ALTER note SET STATISTICS 9",
                ),
            ),
        ),
        (
            "materialized view hourly_stats",
            after_create("hourly_stats", "ALTER MATERIALIZED VIEW hourly_stats SET (fillfactor = 70)"),
        ),
        (
            "column streaming_chunks.id",
            lambda copy: sa.Identity(always=True, start=5)._set_parent(copy.streaming_chunks.c.id),
        ),
        (
            "column streaming_chunks.id",
            both(
                attribute(CHUNKS, "id", type=sa.BigInteger()),
                lambda copy: sa.Identity()._set_parent(copy.streaming_chunks.c.id),
            ),
        ),
        # Views and functions
        (
            "function of_domains()",
            both(
                view("domain AS domain FROM api_requests", name="all_domains", materialized=False),
                after_create(
                    "all_domains",
                    "CREATE FUNCTION of_domains() RETURNS SETOF all_domains LANGUAGE sql"
                    " AS 'TABLE all_domains'",
                ),
            ),
        ),
        (
            "view domains",
            view(
                "domain AS domain, count(*) AS requests FROM api_requests GROUP BY domain",
                name="domains",
                materialized=False,
            ),
        ),
        (
            "materialized view domains",
            view(
                "domain AS domain, count(*) AS requests FROM api_requests GROUP BY domain",
                "domain",
                "requests",
                name="domains",
                domain="it's 50% :x",
            ),
        ),
        ("materialized view hourly_stats", lambda copy: copy.metadata.remove(copy.hourly_stats)),
        (
            "materialized view hourly_stats",
            view(
                "domain AS domain, count(*) AS requests FROM api_requests"
                " WHERE path <> '50%:x' GROUP BY domain",
                "domain",
                domain="Domain",
            ),
        ),
        (
            "function now_utc()",
            after_create(
                METRICS,
                "CREATE FUNCTION now_utc() RETURNS timestamp LANGUAGE sql STABLE AS"
                " $$ SELECT now() AT TIME ZONE 'UTC' WHERE '%:x' <> '' $$",
            ),
        ),
        (
            "function slow(integer)",
            after_create(
                METRICS,
                "CREATE FUNCTION slow(threshold integer DEFAULT 9)"
                " RETURNS SETOF conversation_metrics LANGUAGE sql AS"
                " 'SELECT * FROM conversation_metrics WHERE tts_ms > threshold'",
            ),
        ),
        (
            "function refresh_hourly_stats()",
            after_create(
                "hourly_stats",
                "CREATE OR REPLACE FUNCTION"
                " refresh_hourly_stats() RETURNS void LANGUAGE plpgsql AS $$ BEGIN"
                " REFRESH MATERIALIZED VIEW hourly_stats; END $$",
            ),
        ),
        ("procedure tidy()", after_create(METRICS, "CREATE PROCEDURE tidy() LANGUAGE sql AS 'SELECT 1'")),
        (
            "sequence tickets",
            lambda copy: sa.Sequence("tickets", start=1000, increment=5, metadata=copy.metadata),
        ),
        (
            "index by_user on conversation_metrics",
            both(
                index(METRICS, "by_user", "user_id"),
                after_create(METRICS, "COMMENT ON INDEX by_user IS 'by user'"),
            ),
        ),
        (
            "column api_requests.model",
            both(
                attribute(REQUESTS, "model", type=sa.Text()),
                view("domain AS domain, model AS model FROM api_requests", "domain"),
            ),
        ),
        (
            "column conversation_metrics.tts_ms",
            lambda copy: sa.Computed("record_ms * 2", persisted=True)._set_parent(
                copy.conversation_metrics.c.tts_ms
            ),
        ),
        # Triggers, policies, rules
        (
            "trigger touched on conversation_metrics",
            after_create(
                METRICS,
                "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
                "CREATE TRIGGER touched BEFORE UPDATE ON conversation_metrics FOR EACH ROW"
                " EXECUTE FUNCTION touch()",
            ),
        ),
        (
            "table conversation_metrics",
            after_create(METRICS, "ALTER TABLE conversation_metrics ENABLE ROW LEVEL SECURITY"),
        ),
        (
            "policy mine on conversation_metrics",
            after_create(
                METRICS, "CREATE POLICY mine ON conversation_metrics USING (user_id = current_user)"
            ),
        ),
        (
            "trigger heard on heard_domains",
            both(
                view("domain AS domain FROM api_requests", name="heard_domains", materialized=False),
                after_create(
                    "heard_domains",
                    "CREATE FUNCTION hear() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
                    "CREATE TRIGGER heard INSTEAD OF INSERT ON heard_domains FOR EACH ROW"
                    " EXECUTE FUNCTION hear()",
                ),
            ),
        ),
        (
            "trigger later on kept",
            both(
                table("kept", id_column()),
                after_create(
                    "kept",
                    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
                    "CREATE CONSTRAINT TRIGGER later AFTER UPDATE OF id ON kept DEFERRABLE INITIALLY DEFERRED"
                    " FOR EACH ROW EXECUTE FUNCTION wait()",
                    "ALTER TABLE kept ENABLE ALWAYS TRIGGER later",
                    "CREATE RULE nothing AS ON DELETE TO kept DO INSTEAD NOTHING",
                    "CREATE FUNCTION mine(integer) RETURNS boolean LANGUAGE sql AS"
                    " 'SELECT EXISTS (SELECT FROM kept WHERE id = $1)'",
                    "CREATE POLICY mine ON kept USING (mine(id))",
                    "ALTER TABLE kept ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
                ),
            ),
        ),
    ]


MANUAL: list[tuple[str, Change]] = [
    (
        "statistics together on conversation_metrics",
        after_create(METRICS, "CREATE STATISTICS together ON user_id, voice_used FROM conversation_metrics"),
    ),
]


def drops_others(change: Change) -> bool:
    """Return whether a change drops other objects, too."""
    return change.__qualname__.startswith("without_")


def groups() -> dict[str, list[tuple[str, Change]]]:
    """Return groups of changes to make together: the largest possible ones, then small ones."""

    def cases(*, dropping: bool) -> list[tuple[str, Change]]:
        return [case for case in changes() if drops_others(case[1]) == dropping]

    def of_requests(case: tuple[str, Change]) -> bool:
        return case[0].startswith("table ") or REQUESTS in case[0]

    found = [
        *together(cases(dropping=False)),
        [case for case in cases(dropping=True) if of_requests(case)],
        [case for case in cases(dropping=True) if not of_requests(case)],
        *few_together(cases(dropping=False)),
    ]
    return {f"{number}-{len(group)} changes": group for number, group in enumerate(found)}


GROUPS = groups()
ALL_TOGETHER = len(together(case for case in changes() if not drops_others(case[1]))) + 2


@pytest.mark.parametrize("group", quick(GROUPS, *[*GROUPS][:ALL_TOGETHER:3]))
def test_changes_of_the_models_are_applied_and_reverted(
    project: Project, copy: Copy, group: list[tuple[str, Change]]
) -> None:
    for _, change in group:
        change(copy)
    assert_round_trip(project, [], *(named for named, _ in group))


def test_differences_without_an_operation_are_reported(project: Project, copy: Copy) -> None:
    for _, change in MANUAL:
        change(copy)
    lines = project.check()
    text = project.autogenerate()
    for named, _ in MANUAL:
        [line] = [line for line in lines if line.startswith(f"{named}:")]
        assert f"# - {line}" in text
    project.run("upgrade", "head")
    assert [line for line in project.check() if line not in lines] == []


def test_the_copy_replaces_the_models(project: Project, copy: Copy) -> None:
    assert sys.modules["nexus_schema.models"].Base.metadata is copy.metadata
    assert project.check() == []


class Int4(sa.types.UserDefinedType[int]):
    """An alias of integer."""

    def get_col_spec(self, **_: Any) -> str:
        return "INT4"


def test_an_alias_of_a_type_is_no_difference(project: Project, copy: Copy) -> None:
    copy.conversation_metrics.c.tts_ms.type = Int4()
    assert project.check() == []
    copy.conversation_metrics.c.tts_ms.comment = "another"
    assert "INT4" not in project.autogenerate()


def test_unmanaged_objects_that_a_drop_would_remove_are_noted(project: Project, copy: Copy) -> None:
    project.database.execute(
        "CREATE INDEX mine ON api_requests (lower(account_id)); CREATE INDEX safe ON api_requests (model);"
        " ALTER TABLE conversation_metrics ADD note text"
    )
    without_column(REQUESTS, "account_id")(copy)
    without_table(METRICS)(copy)
    text = project.autogenerate()
    assert {line for line in text.splitlines() if line.startswith("# - ")} == {
        "# - index mine on api_requests: unmanaged; dropped together with column api_requests.account_id",
        "# - column conversation_metrics.note: unmanaged; dropped together with table conversation_metrics",
    }
