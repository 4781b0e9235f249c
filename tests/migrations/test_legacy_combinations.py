"""Databases that nobody listed: known objects left out, added and renamed at random.

Each either ends exactly as a new database, the operator's own objects untouched, or stops with one line and
is as it was.
"""

from typing import Any

import psycopg
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from legacy_databases import KINDS, build
from support import Database, catalog, dump_schema, run_alembic, url_of

from nexus_schema import legacy
from nexus_schema.errors import SchemaError

COLUMNS = {
    (table, name): column
    for tables in legacy.COLUMNS.values()
    for table, columns in tables.items()
    for name, column in columns.items()
}
LEGACY_INDEXES = {old: legacy.INDEXES[wanted] for old, wanted in legacy.RENAMED_INDEXES.items()}
LEGACY_INDEXES |= {old: definition for old, (definition, _) in legacy.SERVED_INDEXES.items()}
INDEXES = legacy.INDEXES | LEGACY_INDEXES
CONSTRAINTS = [(table, name) for table, names in legacy.CONSTRAINTS.items() for name in names]

indexes = st.sampled_from(sorted(INDEXES))
columns = st.sampled_from(sorted(COLUMNS))
constraints = st.sampled_from(CONSTRAINTS)
tables = st.sampled_from(legacy.TABLES)


def create_index(name: str) -> str:
    return INDEXES[name].replace("INDEX ON", f"INDEX {name} ON")


# One mutation each; those that make no sense in a given database fail there and are skipped.
mutations = st.one_of(
    indexes.map(lambda name: f"DROP INDEX {name}"),
    indexes.map(lambda name: f"ALTER INDEX {name} RENAME TO mine_{name}"),
    indexes.map(lambda name: f"CREATE {create_index(name)}"),
    indexes.map(lambda name: f"CREATE INDEX {name} ON api_requests (response_status)"),
    indexes.map(lambda name: f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{name}'::regclass"),
    st.tuples(indexes, indexes).map(lambda two: f"ALTER INDEX {two[0]} RENAME TO {two[1]}"),
    columns.map(lambda at: f'ALTER TABLE {at[0]} DROP COLUMN "{at[1]}" CASCADE'),
    columns.map(lambda at: f'ALTER TABLE {at[0]} RENAME COLUMN "{at[1]}" TO mine_{at[1]}'),
    columns.map(lambda at: f'ALTER TABLE {at[0]} ADD COLUMN "{at[1]}" {COLUMNS[at].type}'),
    columns.map(lambda at: f'ALTER TABLE {at[0]} ADD COLUMN "{at[1]}" point'),
    columns.map(lambda at: f'ALTER TABLE {at[0]} ALTER COLUMN "{at[1]}" DROP NOT NULL'),
    columns.map(lambda at: f'ALTER TABLE {at[0]} ALTER COLUMN "{at[1]}" SET NOT NULL'),
    columns.map(lambda at: f'ALTER TABLE {at[0]} ALTER COLUMN "{at[1]}" DROP DEFAULT'),
    columns.map(lambda at: f'ALTER TABLE {at[0]} ALTER COLUMN "{at[1]}" SET DEFAULT NULL'),
    columns.map(lambda at: f'UPDATE {at[0]} SET "{at[1]}" = NULL'),
    st.tuples(columns, st.sampled_from(["varchar(3000)", "varchar(240)", "text", "bigint", "jsonb"])).map(
        lambda drawn: f'ALTER TABLE {drawn[0][0]} ALTER COLUMN "{drawn[0][1]}" TYPE {drawn[1]}'
    ),
    constraints.map(lambda at: f"ALTER TABLE {at[0]} DROP CONSTRAINT {at[1]} CASCADE"),
    constraints.map(lambda at: f"ALTER TABLE {at[0]} RENAME CONSTRAINT {at[1]} TO mine_{at[1]}"),
    constraints.map(
        lambda at: (
            f"ALTER TABLE {at[0]} DROP CONSTRAINT {at[1]};"
            f" ALTER TABLE {at[0]} ADD CONSTRAINT {at[1]} {legacy.CONSTRAINTS[at[0]][at[1]]} NOT VALID"
        )
    ),
    constraints.map(lambda at: f"CREATE INDEX {at[1]} ON {at[0]} ((1))"),
    tables.map(lambda table: f"DROP TABLE {table} CASCADE"),
    tables.map(lambda table: f"ALTER TABLE {table} RENAME TO mine_{table}"),
    tables.map(lambda table: f"CREATE VIEW {table} AS SELECT 1 AS id"),
    tables.map(lambda table: f"CREATE TABLE mine_{table}_log (LIKE {table})"),
    tables.map(lambda table: f"ALTER TABLE {table} ADD COLUMN mine int DEFAULT 5"),
    tables.map(lambda table: f"INSERT INTO {table} SELECT * FROM {table}"),
    columns.map(lambda at: f'CREATE VIEW mine_view AS SELECT "{at[1]}" AS x FROM {at[0]}'),
    columns.map(lambda at: f'CREATE INDEX mine_index ON {at[0]} ("{at[1]}")'),
    st.sampled_from(
        [
            "DROP MATERIALIZED VIEW hourly_stats",
            "ALTER MATERIALIZED VIEW hourly_stats RENAME TO mine_stats",
            "CREATE MATERIALIZED VIEW hourly_stats AS SELECT 1 AS hour",
            "CREATE VIEW mine_stats_view AS SELECT hour FROM hourly_stats",
            "GRANT SELECT ON hourly_stats TO PUBLIC",
            "DROP FUNCTION refresh_hourly_stats()",
            "ALTER FUNCTION refresh_hourly_stats() SECURITY DEFINER",
            "CREATE FUNCTION refresh_hourly_stats(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
            "CREATE SEQUENCE streaming_chunks_id_seq",
            "ALTER SEQUENCE streaming_chunks_id_seq RENAME TO mine_seq",
            "ALTER SEQUENCE streaming_chunks_id_seq OWNED BY NONE",
        ]
    ),
)


def is_own(kind: str, name: str, new: dict[tuple[str, str], str]) -> bool:
    """Return whether an object is of the operator's own: no part of a new database, and of no legacy name."""
    return (kind, name) not in new and name not in INDEXES


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(kind=st.sampled_from(sorted(KINDS)), changes=st.lists(mutations, min_size=1, max_size=5))
def test_it_converges_exactly_or_stops_and_changes_nothing(
    empty: Database, head: Database, kind: str, changes: list[str]
) -> None:
    new = catalog(head)
    empty.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    build(empty, KINDS[kind])
    for change in changes:
        try:
            empty.execute(change)
        except psycopg.Error:
            event("a mutation was skipped")
    before, dump = catalog(empty), dump_schema(empty)
    rows = row_counts(empty)
    stopped: SchemaError | None = None
    try:
        run_alembic("upgrade", "head", url=url_of(empty))
    except SchemaError as error:
        stopped = error
    if stopped is not None:
        event("stopped")
        assert "\n" not in str(stopped)
        assert dump_schema(empty) == dump
        assert empty.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,)
        return
    event("converged")
    own = {key: text for key, text in before.items() if is_own(*key, new)}
    assert catalog(empty) == new | own
    assert row_counts(empty).items() >= rows.items()
    run_alembic("check", url=url_of(empty))


def row_counts(database: Database) -> dict[str, Any]:
    names = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    counts = {}
    for (name,) in names:
        if name != "alembic_version":
            counts[name] = database.execute(f'SELECT count(*) FROM "{name}"').fetchone()
    return counts
