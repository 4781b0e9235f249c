"""Settings of tables, views, indexes and sequences: how to plan them, and an operation for each.

They are storage parameters, logged or unlogged, the tablespace and the access method.
"""

import re
from collections.abc import Iterator, Mapping

from alembic.operations import Operations, ops

from alembic_drift.objects import Facts, Key
from alembic_drift.order import Phase
from alembic_drift.resolution import Planned, Resolution
from alembic_drift.simple import RelationOp, Value, set_and_reset
from alembic_drift.sql import quote

AFTER_COLUMNS = 30_000
"""Orders operations in Phase.TABLES: these run after the changes of columns."""

_ASPECTS = {"storage parameters", "persistence", "tablespace", "access method"}
_ACCESS_METHOD_SINCE = 15
"""The version of PostgreSQL that can change the access method of a table."""
_UNLOGGED_SEQUENCES_SINCE = 15
"""The version of PostgreSQL that makes a sequence unlogged with its table."""


def values_of(fact: str | None) -> dict[str, Value]:
    """Return the options in a fact: ``fillfactor=70, toast.autovacuum_enabled=off``."""
    options = (option.partition("=") for option in (fact or "").split(", ") if option)
    return {name: int(value) if re.fullmatch(r"-?[1-9]\d*|0", value) else value for name, _, value in options}


def changed(old: str | None, new: str | None) -> dict[str, Value]:
    """Return the options to set, and those to reset (None), to turn one fact into another."""
    before, after = values_of(old), values_of(new)
    differing = {name: value for name, value in after.items() if before.get(name) != value}
    return {**differing, **dict.fromkeys(name for name in before if name not in after)}


def resolve(resolution: Resolution, key: Key, aspects: set[str], *, kind: str | None = None) -> set[str]:
    """Plan the settings in which an object of both sides differs; return the other aspects.

    :param kind: its kind for ALTER, if that is not the kind of its key: a constraint is an index.
    """
    database, models = resolution.database[key], resolution.models[key]
    done = _ASPECTS & aspects
    if resolution.version < _ACCESS_METHOD_SINCE:
        done -= {"access method"}
    up, down = (
        [*_alter(resolution, kind or key.kind, key.name, done, old, new)]
        for old, new in ((database, models), (models, database))
    )
    if key.kind == "table":
        # A logged table cannot reference an unlogged one: referenced tables are logged first, unlogged last.
        names = [*resolution.tables]
        place = names.index(key.name) if key.name in names else 0
        place = place if _is_logged(models) else -place
        resolution.both(Phase.TABLES, up, down, number=AFTER_COLUMNS + place)
    else:
        resolution.both(Phase.REST, up, down)
    return aspects - done


def of_new(resolution: Resolution, kind: str, name: str, facts: Facts) -> Planned:
    """Return what gives an object that was just created its settings."""
    has: set[str] = {aspect for aspect in ("storage parameters", "tablespace") if aspect in facts}
    if facts.get("access method", "heap") != "heap":
        if resolution.version < _ACCESS_METHOD_SINCE:
            resolution.unresolved.append(f"{kind} {name}: access method: {facts['access method']}")
        else:
            has.add("access method")
    if facts.get("persistence") == "unlogged":
        has.add("persistence")
    return [*_alter(resolution, kind, name, has, {}, facts)]


def _alter(
    resolution: Resolution, kind: str, name: str, aspects: set[str], old: Facts, new: Facts
) -> Iterator[ops.MigrateOperation]:
    schema = resolution.schema
    if "access method" in aspects:
        yield SetAccessMethodOp(name, new["access method"], kind=kind, schema=schema)
    if "tablespace" in aspects:
        yield SetTablespaceOp(name, new["_tablespace"], kind=kind, schema=schema)
    if "storage parameters" in aspects:
        options = changed(old.get("storage parameters"), new.get("storage parameters"))
        yield SetStorageParametersOp(name, options, kind=kind, schema=schema)
    if "persistence" in aspects:
        yield SetLoggedOp(name, logged=_is_logged(new), kind=kind, schema=schema)
        if kind == "table":
            yield from _correct_sequences(resolution, name, new)


def _is_logged(facts: Facts) -> bool:
    return bool(facts.get("persistence") != "unlogged")


def _correct_sequences(resolution: Resolution, table: str, facts: Facts) -> Planned:
    """Return what corrects the sequences of a table that are to differ from it: they change with it."""
    if resolution.version < _UNLOGGED_SEQUENCES_SINCE:
        return []
    of_models = resolution.models.get(Key("table", None, table)) is facts
    catalog = resolution.models if of_models else resolution.database
    return [
        SetLoggedOp(key.name, logged=_is_logged(sequence), kind="sequence", schema=resolution.schema)
        for key, sequence in catalog.items()
        if key.kind == "sequence"
        and sequence["_owner"][0] == table
        and _is_logged(sequence) != _is_logged(facts)
    ]


def change_with_table(resolution: Resolution, sequence: Key) -> bool:
    """Return whether the table of a sequence becomes logged or unlogged, and the sequence with it."""
    table = Key("table", None, str(resolution.models[sequence]["_owner"][0]))
    return any(difference.aspect == "persistence" for difference in resolution.of(table))


def complete(made: ops.CreateTableOp | ops.DropTableOp, facts: Facts) -> None:
    """Make the upgrade or the downgrade create a table with its settings.

    The model may set them in an event, and Alembic does not reflect all of them.
    """
    options = made.kw if isinstance(made, ops.CreateTableOp) else made.table_kw
    if not _is_logged(facts) and "UNLOGGED" not in (made.prefixes or ()):
        made.prefixes = [*(made.prefixes or ()), "UNLOGGED"]
    parameters = values_of(facts.get("storage parameters"))
    given = {name: str(value) for name, value in (options.get("postgresql_with") or {}).items()}
    if {name: str(value) for name, value in parameters.items()} != given:
        options["postgresql_with"] = parameters
    if "tablespace" in facts:
        options["postgresql_tablespace"] = facts["tablespace"]
    if facts.get("access method", "heap") != "heap":
        options["postgresql_using"] = facts["access method"]


# The operations.


@Operations.register_operation("set_storage_parameters", "set")
class SetStorageParametersOp(RelationOp):
    """Set and reset storage parameters."""

    operation = "set_storage_parameters"

    def __init__(
        self,
        name: str,
        parameters: Mapping[str, Value],
        *,
        kind: str = "table",
        schema: str | None = None,
    ) -> None:
        super().__init__(name, kind=kind, schema=schema)
        self.parameters = dict(parameters)

    @classmethod
    def set(
        cls,
        operations: Operations,
        name: str,
        parameters: Mapping[str, Value],
        *,
        kind: str = "table",
        schema: str | None = None,
    ) -> None:
        """Set and reset storage parameters; those that are not named stay unchanged.

        Existing rows and index entries stay where they are: a fillfactor applies to what is written later,
        and to what VACUUM FULL or REINDEX rewrites.

        :param name: the table, view, materialized view or index.
        :param parameters: values by name, also of the TOAST table: ``{"fillfactor": 70,
            "toast.autovacuum_enabled": False}``; None resets one.
        :param kind: "table", "view", "materialized view" or "index".
        :param schema: its schema, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, parameters, kind=kind, schema=schema))

    def actions(self) -> Iterator[str]:
        """Yield SET and RESET."""
        return set_and_reset(self.parameters)

    def values(self) -> Iterator[str]:
        """Yield the parameters."""
        yield repr(self.parameters)


@Operations.register_operation("set_logged", "set")
class SetLoggedOp(RelationOp):
    """Make a table or sequence logged or unlogged."""

    operation = "set_logged"

    def __init__(
        self, name: str, *, logged: bool = True, kind: str = "table", schema: str | None = None
    ) -> None:
        super().__init__(name, kind=kind, schema=schema)
        self.logged = logged

    @classmethod
    def set(
        cls,
        operations: Operations,
        name: str,
        *,
        logged: bool = True,
        kind: str = "table",
        schema: str | None = None,
    ) -> None:
        """Make a table with the sequences of its columns, or a sequence, logged or unlogged.

        PostgreSQL rewrites the table under a lock that blocks reads and writes. After a crash of the server
        an unlogged table is empty.

        :param name: the table or sequence.
        :param logged: whether it is to be logged.
        :param kind: "table" or "sequence".
        :param schema: its schema, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, logged=logged, kind=kind, schema=schema))

    def actions(self) -> Iterator[str]:
        """Yield SET LOGGED or UNLOGGED."""
        yield "SET LOGGED" if self.logged else "SET UNLOGGED"

    def values(self) -> Iterator[str]:
        """Yield whether it is to be logged."""
        yield f"logged={self.logged!r}"


@Operations.register_operation("set_tablespace", "set")
class SetTablespaceOp(RelationOp):
    """Move a table, materialized view or index to another tablespace."""

    operation = "set_tablespace"
    sets = "TABLESPACE"

    def __init__(self, name: str, value: str, *, kind: str = "table", schema: str | None = None) -> None:
        super().__init__(name, kind=kind, schema=schema)
        self.value = value

    @classmethod
    def set(
        cls,
        operations: Operations,
        name: str,
        tablespace: str,
        *,
        kind: str = "table",
        schema: str | None = None,
    ) -> None:
        """Move a table, materialized view or index to a tablespace; indexes of a table stay where they are.

        PostgreSQL copies it under a lock that blocks reads and writes.

        :param name: the table, materialized view or index.
        :param tablespace: the tablespace; the default one of a database is usually ``pg_default``.
        :param kind: "table", "materialized view" or "index".
        :param schema: its schema, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, tablespace, kind=kind, schema=schema))

    def actions(self) -> Iterator[str]:
        """Yield the SET."""
        yield f"SET {self.sets} {quote(self.value)}"

    def values(self) -> Iterator[str]:
        """Yield what it is set to."""
        yield repr(self.value)


@Operations.register_operation("set_access_method", "set_method")
class SetAccessMethodOp(SetTablespaceOp):
    """Change the access method of a table or materialized view."""

    operation = "set_access_method"
    sets = "ACCESS METHOD"

    @classmethod
    def set_method(
        cls,
        operations: Operations,
        name: str,
        access_method: str,
        *,
        kind: str = "table",
        schema: str | None = None,
    ) -> None:
        """Change the access method of a table or materialized view; needs PostgreSQL 15.

        PostgreSQL rewrites it under a lock that blocks reads and writes.

        :param name: the table or materialized view.
        :param access_method: the access method; the default of PostgreSQL is ``heap``.
        :param kind: "table" or "materialized view".
        :param schema: its schema, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, access_method, kind=kind, schema=schema))
