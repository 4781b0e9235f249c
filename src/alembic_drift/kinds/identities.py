"""Identities: how to change them, and how to replace a default by an identity or the reverse."""

from collections.abc import Iterator, Sequence

from alembic.operations import Operations, ops

from alembic_drift.kinds import settings
from alembic_drift.kinds.rows import ALL_ROWS, ALL_ROWS_DECLARED, ROWS_AS_BEFORE
from alembic_drift.kinds.sequences import owned_by
from alembic_drift.objects import Facts, Key
from alembic_drift.order import Phase
from alembic_drift.resolution import Planned, Resolution, execute
from alembic_drift.simple import SimpleOp, named
from alembic_drift.sql import literal, qualified, quote

BEFORE_COLUMNS, AFTER_COLUMNS = 9_000, 20_000


def resolve(resolution: Resolution, key: Key) -> None:
    """Plan to change an identity, or to replace a default by an identity, or the reverse."""
    models = resolution.models[key]
    # An identity needs NOT NULL: it is added after NOT NULL and dropped before it.
    number = BEFORE_COLUMNS if "_identity" not in models else AFTER_COLUMNS
    up, down = _change(resolution, key, resolution.models), _change(resolution, key, resolution.database)
    resolution.both(Phase.TABLES, up, down, number=number)


def _change(resolution: Resolution, key: Key, to: dict[Key, Facts]) -> Planned:
    table, column, facts = str(key.table), key.name, to[key]
    other = (resolution.database if to is resolution.models else resolution.models)[key]
    if "_identity" not in facts:
        return _serial(resolution, key, to)
    generated, options, sequence = facts["_identity"]
    if "_identity" in other:
        alter = f"ALTER TABLE {resolution.qualified(table)} ALTER COLUMN {quote(column)}"
        changes = " ".join(f"SET {option}" for option in options)
        return [execute(f"{alter} SET GENERATED {generated} {changes}")]
    if sequence != f"{table}_{column}_seq":
        options = [f"SEQUENCE NAME {resolution.qualified(sequence)}", *options]
    return [
        AddIdentityOp(table, column, generated=generated, options=" ".join(options), schema=resolution.schema)
    ]


def _serial(resolution: Resolution, key: Key, to: dict[Key, Facts]) -> Planned:
    """Return what replaces an identity by a default, with the sequence that the column owns."""
    owned = next(
        (
            (other, facts)
            for other, facts in to.items()
            if other.kind == "sequence" and facts["_owner"] == [key.table, key.name]
        ),
        None,
    )
    made: list[ops.MigrateOperation] = [
        DropIdentityOp(
            str(key.table),
            key.name,
            default=to[key].get("default"),
            sequence=owned and owned[0].name,
            options=owned and owned[1]["_options"],
            schema=resolution.schema,
        )
    ]
    if owned is not None:
        made += settings.of_new(resolution, "sequence", owned[0].name, owned[1])
        made += resolution.comment_of(*owned)
    return made


# The operations.


# Default privileges may have been granted on the new sequence: revoke them. The owner keeps its own.
_PRIVILEGES = """\
IF privileges IS NOT NULL AND new.seqrelid IS NOT NULL THEN
FOR step IN SELECT DISTINCT grantee FROM pg_class, aclexplode(relacl)
    WHERE oid = new.seqrelid AND grantee <> relowner
LOOP
    EXECUTE format('REVOKE ALL ON SEQUENCE %s FROM %s', new.seqrelid::regclass,
        CASE step.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(step.grantee)) END);
END LOOP;
FOR step IN SELECT lists.* FROM pg_class, aclexplode(privileges) AS lists
    WHERE oid = new.seqrelid AND lists.grantee <> relowner
LOOP
    EXECUTE format('GRANT %s ON SEQUENCE %s TO %s%s', step.privilege_type, new.seqrelid::regclass,
        CASE step.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(step.grantee)) END,
        CASE WHEN step.is_grantable THEN ' WITH GRANT OPTION' END);
END LOOP;
END IF;"""


class _IdentityOp(SimpleOp):
    table: str
    column: str
    schema: str | None

    def block(self, unless: str, change: Sequence[str]) -> str:
        """Return a DO block that makes the change, unless it is made already.

        Numbers continue after the last one that the old sequence gave or that is in a row.

        :param unless: the operator between attidentity and '' in the condition to do nothing.
        :param change: statements; the variable ``old`` is the previous sequence of the column.
        """
        table, column = qualified(self.table, self.schema), quote(self.column)
        of_column = f"pg_get_serial_sequence({literal(table)}, {literal(self.column)})"
        lines = [
            "DO $identity$ DECLARE old text; given bigint; last bigint; new pg_sequence;"
            f" privileges aclitem[]; step record; {ALL_ROWS_DECLARED}; BEGIN",
            f"IF (SELECT attidentity {unless} '' FROM pg_attribute"  # noqa: S608 - the names are quoted
            f" WHERE attrelid = {literal(table)}::regclass AND attname = {literal(self.column)}) THEN RETURN;"
            " END IF;",
            f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;",
            f"old := {of_column};",
            "IF old IS NOT NULL THEN",
            "EXECUTE format('SELECT last_value FROM %s WHERE is_called', old) INTO given;",
            "SELECT coalesce(relacl, acldefault('s', relowner)) INTO privileges FROM pg_class"
            " WHERE oid = old::regclass;",
            "END IF;",
            *change,
            f"SELECT * INTO new FROM pg_sequence WHERE seqrelid = {of_column}::regclass;",  # noqa: S608
            _PRIVILEGES,
            ALL_ROWS,
            "IF new.seqincrement > 0 THEN",
            f"SELECT greatest(max(numbered.{column}), given) INTO last FROM {table} AS numbered;",  # noqa: S608
            "IF last >= new.seqmin THEN PERFORM setval(new.seqrelid, last); END IF;",
            "ELSIF new.seqincrement < 0 THEN",
            f"SELECT least(min(numbered.{column}), given) INTO last FROM {table} AS numbered;",  # noqa: S608
            "IF last <= new.seqmax THEN PERFORM setval(new.seqrelid, last); END IF;",
            f"END IF; {ROWS_AS_BEFORE} END $identity$",
        ]
        return "\n".join(lines)


@Operations.register_operation("add_identity", "add")
class AddIdentityOp(_IdentityOp):
    """Replace the default of a column by an identity."""

    operation = "add_identity"

    def __init__(
        self,
        table: str,
        column: str,
        *,
        generated: str = "BY DEFAULT",
        options: str = "",
        schema: str | None = None,
    ) -> None:
        self.table, self.column, self.schema = table, column, schema
        self.generated, self.options = generated, options

    @classmethod
    def add(
        cls,
        operations: Operations,
        table: str,
        column: str,
        *,
        generated: str = "BY DEFAULT",
        options: str = "",
        schema: str | None = None,
    ) -> None:
        """Add an identity to a column, unless it has one; drop its default and the sequence that it owns.

        Numbers continue after the greatest one in a row or given before. The column has to be NOT NULL.

        :param table: the table.
        :param column: its column.
        :param generated: "BY DEFAULT" or "ALWAYS".
        :param options: options of the sequence, as SQL: "INCREMENT BY 1 START WITH 1".
        :param schema: the table's schema, if it is not the first of the search_path.
        """
        operations.invoke(cls(table, column, generated=generated, options=options, schema=schema))

    def statements(self) -> Iterator[str]:
        """Yield one block."""
        alter = f"ALTER TABLE {qualified(self.table, self.schema)} ALTER COLUMN {quote(self.column)}"
        options = f" ({self.options})" if self.options else ""
        yield self.block(
            "<>",
            [
                f"{alter} DROP DEFAULT;",
                "IF old IS NOT NULL THEN EXECUTE format('DROP SEQUENCE %s', old); END IF;",
                f"{alter} ADD GENERATED {self.generated} AS IDENTITY{options};",
            ],
        )

    def arguments(self) -> Iterator[str]:
        """Yield the arguments."""
        yield from (repr(self.table), repr(self.column), f"generated={self.generated!r}")
        yield from named(options=self.options or None, schema=self.schema)


@Operations.register_operation("drop_identity", "drop")
class DropIdentityOp(_IdentityOp):
    """Drop the identity of a column, and set a default."""

    operation = "drop_identity"

    def __init__(
        self,
        table: str,
        column: str,
        *,
        default: str | None = None,
        sequence: str | None = None,
        options: str | None = None,
        schema: str | None = None,
    ) -> None:
        self.table, self.column, self.schema = table, column, schema
        self.default, self.sequence, self.options = default, sequence, options

    @classmethod
    def drop(
        cls,
        operations: Operations,
        table: str,
        column: str,
        *,
        default: str | None = None,
        sequence: str | None = None,
        options: str | None = None,
        schema: str | None = None,
    ) -> None:
        """Drop the identity of a column, if it has one, and set a default like that of a serial column.

        Numbers continue after the greatest one in a row or given before.

        :param table: the table.
        :param column: its column.
        :param default: its new default, as SQL: "nextval('t_id_seq'::regclass)".
        :param sequence: a sequence to create, owned by the column.
        :param options: options of the sequence, as SQL: "AS integer INCREMENT BY 1".
        :param schema: the table's schema, and the sequence's, if it is not the first of the search_path.
        """
        operations.invoke(
            cls(table, column, default=default, sequence=sequence, options=options, schema=schema)
        )

    def statements(self) -> Iterator[str]:
        """Yield one block."""
        table, column = qualified(self.table, self.schema), quote(self.column)
        change = [f"ALTER TABLE {table} ALTER COLUMN {column} DROP IDENTITY;"]
        if self.sequence is not None:
            sequence = qualified(self.sequence, self.schema)
            change.append(f"CREATE SEQUENCE {sequence} {self.options or ''};")
            change += owned_by(sequence, table, column)
        if self.default is not None:
            change.append(f"ALTER TABLE {table} ALTER COLUMN {column} SET DEFAULT {self.default};")
        yield self.block("=", change)

    def arguments(self) -> Iterator[str]:
        """Yield the arguments."""
        yield from (repr(self.table), repr(self.column))
        yield from named(
            default=self.default, sequence=self.sequence, options=self.options, schema=self.schema
        )
