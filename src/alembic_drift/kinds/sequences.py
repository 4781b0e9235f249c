"""Sequences, but those of identities, which are a part of their column."""

from alembic.operations import ops

from alembic_drift.kinds import settings
from alembic_drift.kinds.indexes import rename
from alembic_drift.mending import Kind, Mending, Planned, execute
from alembic_drift.objects import NAME, Facts, Key
from alembic_drift.order import Phase
from alembic_drift.sql import literal, quote

_QUERY = """\
SELECT 'sequence', NULL, relname, jsonb_build_object('type', type, 'numbers', numbers, 'comment', comment,
    'persistence', CASE relpersistence WHEN 'u' THEN 'unlogged' END,
    'owned by', owner::regclass || '.' || quote_ident(attname),
    '_options', format('AS %s %s', type, array_to_string(options, ' ')),
    '_owner', jsonb_build_array((SELECT relname FROM pg_class WHERE oid = owner), attname))
FROM sequences LEFT JOIN pg_attribute ON attrelid = owner AND attnum = owner_column
WHERE deptype IS DISTINCT FROM 'i'"""


def _mend(mending: Mending, key: Key, aspects: set[str]) -> set[str]:
    if _owner_has_identity(mending, key):
        return set()  # which brings it or takes it away
    database, models = mending.sides(key)
    if database is None or models is None:
        _come_or_go(mending, key)
        return set()
    if NAME in aspects:
        rename(mending, "SEQUENCE", database[NAME], models[NAME])
    name = mending.qualified(key.name)
    if {"type", "numbers"} & aspects:
        up, down = (execute(f"ALTER SEQUENCE {name} {facts['_options']}") for facts in (models, database))
        mending.both(Phase.REST, [up], [down])
    if "owned by" in aspects:
        mending.both(Phase.REST, [owned(mending, name, models)], [owned(mending, name, database)])
    mending.comment(key)
    if "persistence" in aspects and not settings.change_with_table(mending, key):
        settings.mend(mending, key, {"persistence"})
    return set()


def _come_or_go(mending: Mending, key: Key) -> None:
    database, models = mending.sides(key)
    facts = models or database or {}
    name = mending.qualified(key.name)
    made = create(mending, key, facts)
    dropped: Planned = [execute(f"DROP SEQUENCE IF EXISTS {name}")]
    numbering: Planned = []
    if facts["_owner"][0] is not None:
        table, column = facts["_owner"]
        numbering = [owned(mending, name, facts), go_on(mending, table, column, sequence=literal(name))]
    if models is not None:
        mending.both(Phase.TYPES, made, dropped)
        mending.both(Phase.REST, numbering, [])
    else:
        mending.both(Phase.FUNCTIONS_GO, dropped, [*made, *numbering])


def create(mending: Mending, key: Key, facts: Facts) -> Planned:
    """Return what creates a sequence."""
    created = execute(f"CREATE SEQUENCE IF NOT EXISTS {mending.qualified(key.name)} {facts['_options']}")
    return [created, *settings.of_new(mending, key.kind, key.name, facts), *mending.comment_of(key, facts)]


def owned(mending: Mending, name: str, facts: Facts) -> ops.ExecuteSQLOp:
    """Return what gives a sequence to its column."""
    table, column = facts["_owner"]
    owner = "NONE" if table is None else f"{mending.qualified(table)}.{quote(column)}"
    return execute(f"ALTER SEQUENCE {name} OWNED BY {owner}")


def go_on(mending: Mending, table: str, column: str, *, sequence: str | None = None) -> ops.ExecuteSQLOp:
    """Return what lets the sequence of a column, or its identity's, go on after the values that there are."""
    name = mending.qualified(table)
    sequence = sequence or f"pg_get_serial_sequence({literal(name)}, {literal(column)})"
    return execute(f"SELECT setval({sequence}, coalesce(max({quote(column)}), 0) + 1, false) FROM {name}")  # noqa: S608


def _owner_has_identity(mending: Mending, key: Key) -> bool:
    """Return whether the column of a sequence gets an identity instead, or had one."""
    database, models = mending.sides(key)
    table, column = (models or database or {})["_owner"]
    return any(found.aspect == "identity" for found in mending.of(Key("column", table, str(column))))


SEQUENCES = Kind(("sequence",), _QUERY, _mend)
