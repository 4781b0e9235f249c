"""Sequences, except those of identities, which belong to their column."""

from collections.abc import Iterator

from alembic.operations import Operations, ops

from alembic_drift.kinds import settings
from alembic_drift.kinds.indexes import rename
from alembic_drift.kinds.rows import ALL_ROWS, ALL_ROWS_DECLARED, ROWS_AS_BEFORE
from alembic_drift.objects import NAME, Facts, Key
from alembic_drift.order import Phase
from alembic_drift.resolution import Kind, Planned, Resolution, execute
from alembic_drift.simple import SimpleOp, named
from alembic_drift.sql import literal, qualified, quote

_QUERY = """\
SELECT 'sequence', NULL, relname, jsonb_build_object('type', type, 'numbers', numbers, 'comment', comment,
    'persistence', CASE relpersistence WHEN 'u' THEN 'unlogged' END,
    'owned by', owner::regclass || '.' || quote_ident(attname),
    '_granted', (SELECT string_agg(DISTINCT concat(privilege_type, ' to ',
            CASE grantee WHEN 0 THEN 'public' ELSE grantee::regrole::text END), ', ')
        FROM aclexplode(relacl) WHERE grantee <> relowner),
    '_options', format('AS %s %s', type, array_to_string(options, ' ')),
    '_owner', jsonb_build_array((SELECT relname FROM pg_class WHERE oid = owner), attname))
FROM sequences LEFT JOIN pg_attribute ON attrelid = owner AND attnum = owner_column
WHERE deptype IS DISTINCT FROM 'i'"""


def _resolve(resolution: Resolution, key: Key, aspects: set[str]) -> set[str]:
    if _owner_has_identity(resolution, key):
        return set()  # the identity creates or drops it
    database, models = resolution.sides(key)
    if database is None or models is None:
        _create_or_drop(resolution, key)
        return set()
    if NAME in aspects:
        rename(resolution, "SEQUENCE", database[NAME], models[NAME])
    name = resolution.qualified(key.name)
    if {"type", "numbers"} & aspects:
        up, down = (execute(f"ALTER SEQUENCE {name} {facts['_options']}") for facts in (models, database))
        resolution.both(Phase.REST, [up], [down])
    if "owned by" in aspects:
        resolution.both(Phase.REST, [owned(resolution, key, models)], [owned(resolution, key, database)])
    resolution.comment(key)
    if "persistence" in aspects and not settings.change_with_table(resolution, key):
        settings.resolve(resolution, key, {"persistence"})
    return set()


def _create_or_drop(resolution: Resolution, key: Key) -> None:
    database, models = resolution.sides(key)
    facts = models or database or {}
    name = resolution.qualified(key.name)
    made = create(resolution, key, facts)
    dropped: Planned = [execute(f"DROP SEQUENCE IF EXISTS {name}")]
    numbering: Planned = []
    if facts["_owner"][0] is not None:
        numbering = [AttachSequenceOp(key.name, *facts["_owner"], go_on=True, schema=resolution.schema)]
    if models is not None:
        resolution.both(Phase.TYPES, made, dropped)
        resolution.both(Phase.REST, numbering, [])
    else:
        resolution.both(Phase.FUNCTIONS_GO, dropped, [*made, *numbering])


def create(resolution: Resolution, key: Key, facts: Facts) -> Planned:
    """Return what creates a sequence."""
    if "_granted" in facts and facts is resolution.database.get(key):
        resolution.hints.append(f"{key}: a downgrade creates it without its privileges: {facts['_granted']}")
    created = execute(f"CREATE SEQUENCE IF NOT EXISTS {resolution.qualified(key.name)} {facts['_options']}")
    return [
        created,
        *settings.of_new(resolution, key.kind, key.name, facts),
        *resolution.comment_of(key, facts),
    ]


def owned(resolution: Resolution, key: Key, facts: Facts) -> ops.MigrateOperation:
    """Return what sets the owner of a sequence: its column, or none."""
    if facts["_owner"][0] is None:
        return execute(f"ALTER SEQUENCE {resolution.qualified(key.name)} OWNED BY NONE")
    return AttachSequenceOp(key.name, *facts["_owner"], schema=resolution.schema)


def _owner_has_identity(resolution: Resolution, key: Key) -> bool:
    """Return whether the column of a sequence gets or loses an identity."""
    database, models = resolution.sides(key)
    table, column = (models or database or {})["_owner"]
    return any(found.aspect == "identity" for found in resolution.of(Key("column", table, str(column))))


SEQUENCES = Kind(("sequence",), _QUERY, _resolve)


# The operation.


def owned_by(sequence: str, table: str, column: str) -> Iterator[str]:
    """Yield PL/pgSQL that gives a sequence the owner of a table, and then makes the column own it.

    All arguments are names as written in SQL.
    """
    alter = f"ALTER SEQUENCE {sequence}"
    of = "SELECT relowner FROM pg_class WHERE oid = {}::regclass"
    of_table, of_sequence = of.format(literal(table)), of.format(literal(sequence))
    yield f"IF ({of_table}) <> ({of_sequence}) THEN"
    yield f"{alter} OWNED BY NONE;"
    yield f"EXECUTE {literal(f'{alter} OWNER TO ')} || ({of_table})::regrole;"
    yield "END IF;"
    yield f"{alter} OWNED BY {table}.{column};"


@Operations.register_operation("attach_sequence", "attach")
class AttachSequenceOp(SimpleOp):
    """Make a column own a sequence, which is then dropped with the column."""

    operation = "attach_sequence"

    def __init__(
        self, name: str, table: str, column: str, *, go_on: bool = False, schema: str | None = None
    ) -> None:
        self.name, self.table, self.column = name, table, column
        self.go_on, self.schema = go_on, schema

    @classmethod
    def attach(
        cls,
        operations: Operations,
        name: str,
        table: str,
        column: str,
        *,
        go_on: bool = False,
        schema: str | None = None,
    ) -> None:
        """Make a column own a sequence: it gets the owner of the table, and is dropped with the column.

        :param name: the sequence.
        :param table: the table.
        :param column: its column.
        :param go_on: whether the sequence continues after the greatest value in the column.
        :param schema: the schema of both, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, table, column, go_on=go_on, schema=schema))

    def statements(self) -> Iterator[str]:
        """Yield one block."""
        name, table = qualified(self.name, self.schema), qualified(self.table, self.schema)
        column = quote(self.column)
        lines = [f"DO $attach$ DECLARE {ALL_ROWS_DECLARED}; BEGIN", *owned_by(name, table, column)]
        if self.go_on:
            number = f"coalesce(max(numbered.{column}), 0) + 1"
            lines += [
                ALL_ROWS,
                f"PERFORM setval({literal(name)}, {number}, false) FROM {table} AS numbered;",
                ROWS_AS_BEFORE,
            ]
        yield "\n".join([*lines, "END $attach$"])

    def arguments(self) -> Iterator[str]:
        """Yield the arguments."""
        yield from (repr(self.name), repr(self.table), repr(self.column))
        yield from named(go_on=self.go_on or None, schema=self.schema)
