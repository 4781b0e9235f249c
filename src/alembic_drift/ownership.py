"""Whose an object of the database is: what the revisions made, and what is the operator's own."""

import logging
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from alembic import op
from alembic.config import Config
from alembic.operations import BatchOperations, Operations, ops
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql

from alembic_drift import operations as own_operations
from alembic_drift.errors import DriftError
from alembic_drift.objects import Key

log = logging.getLogger("alembic.drift")

# Before a statement of a revision that makes again what is the operator's own; so it stays.
OWN = "/* the operator's own */ "

_NAME = r'(?:(?:"(?:[^"]|"")+"|\w+)\.)?("(?:[^"]|"")+"|\w+)'
_COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_CREATED = re.compile(
    rf"(?:\A|;)\s*CREATE\s+(?:OR\s+REPLACE\s+)?(?:UNIQUE\s+|UNLOGGED\s+)?(TABLE|INDEX|MATERIALIZED\s+VIEW|VIEW"
    rf"|FUNCTION|PROCEDURE|SEQUENCE|TYPE|DOMAIN)\s+(?:CONCURRENTLY\s+)?(?:IF\s+NOT\s+EXISTS\s+)?{_NAME}",
    re.IGNORECASE,
)
_ALTERED = re.compile(
    rf"(?:\A|;)\s*ALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?{_NAME}\s+(?:RENAME\s+TO\s+{_NAME}"
    rf"|ADD\s+(?:COLUMN\s+)?(?:IF\s+NOT\s+EXISTS\s+)?(?!CONSTRAINT\b){_NAME})",
    re.IGNORECASE,
)


def _plain(name: str) -> str:
    """Return a name of an SQL statement as the catalogs have it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def _count(arguments: str) -> int:
    """Return how many arguments a function has, by the text after its opening parenthesis.

    Types are written in several ways; by the number, another function of the name is known to be the
    operator's.
    """
    depth, count, seen = 1, 0, False
    for character in arguments:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            break
        seen = seen or not character.isspace()
        count += character == "," and depth == 1
    return count + seen


def element(type_: "sa.types.TypeEngine[Any]") -> "sa.types.TypeEngine[Any]":
    """Return the type of an array's elements, or the type."""
    return type_.item_type if isinstance(type_, sa.ARRAY) else type_


class Made:
    """What the revisions made and did not drop again."""

    def __init__(self) -> None:
        self._made: set[tuple[str, str | None, str]] = set()
        # Made by SQL, so their columns are not known one by one.
        self._whole: set[str] = set()

    def __contains__(self, key: Key) -> bool:
        name = key.name
        if key.kind in {"function", "procedure"}:
            called, _, arguments = name.partition("(")
            name = f"{_plain(called)}/{_count(arguments)}"
        if key.kind == "column" and key.table in self._whole:
            return True
        return (key.kind, key.table if key.kind == "column" else None, name) in self._made

    def read(self, operation: ops.MigrateOperation) -> None:
        """Take in what an operation makes, drops or renames."""
        match operation:
            case ops.CreateTableOp():
                self._add("table", operation.table_name)
                for item in operation.columns:
                    if isinstance(item, sa.Column):
                        self._column(operation.table_name, item)
            case ops.DropTableOp():
                self._made -= {made for made in self._made if operation.table_name in made[1:]}
            case ops.RenameTableOp():
                self._rename(operation.table_name, operation.new_table_name)
            case ops.AddColumnOp():
                self._column(operation.table_name, operation.column)
            case ops.DropColumnOp():
                self._made.discard(("column", operation.table_name, operation.column_name))
            case ops.AlterColumnOp() if operation.modify_name is not None:
                self._made.discard(("column", operation.table_name, operation.column_name))
                self._add("column", operation.modify_name, operation.table_name)
            case ops.CreateIndexOp():
                self._add("index", str(operation.index_name))
            case ops.DropIndexOp():
                self._made.discard(("index", None, str(operation.index_name)))
            case own_operations.CreateViewOp():
                self._add("view", operation.name)
            case own_operations.CreateMaterializedViewOp():
                self._add("materialized view", operation.name)
            case own_operations.ReplaceFunctionOp():
                self._statement(operation.definition)
            case ops.ExecuteSQLOp():
                self._statement(str(operation.sqltext))

    def _add(self, kind: str, name: str, table: str | None = None) -> None:
        self._made.add((kind, table, name))

    def _column(self, table: str, column: "sa.Column[Any]") -> None:
        self._add("column", column.name, table)
        if column.index:  # the name that SQLAlchemy gives it without a convention
            self._add("index", f"ix_{table}_{column.name}")
        type_ = element(column.type)
        if isinstance(type_, sa.Enum | postgresql.DOMAIN) and type_.name:
            self._add("domain" if isinstance(type_, postgresql.DOMAIN) else "type", type_.name)

    def _rename(self, old: str, new: str) -> None:
        self._made = {
            (kind, new if table == old else table, new if kind == "table" and name == old else name)
            for kind, table, name in self._made
        }
        self._whole = {new if table == old else table for table in self._whole}

    def _statement(self, text: str) -> None:
        if text.startswith(OWN):
            return
        text = _COMMENTS.sub(" ", text)
        for found in _CREATED.finditer(text):
            kind, name = " ".join(found[1].lower().split()), _plain(found[2])
            if kind in {"function", "procedure"}:
                name += f"/{_count(text[found.end() :].partition('(')[2])}"
            self._add(kind, name)
            if kind == "table":
                self._whole.add(name)
        for table, renamed, added in _ALTERED.findall(text):
            if renamed:
                self._rename(_plain(table), _plain(renamed))
            else:
                self._add("column", _plain(added), _plain(table))


def made_by(script: ScriptDirectory, context: MigrationContext) -> Made:
    """Return what the revisions of a project make, by reading them through without doing anything.

    A revision that cannot be read to its end, because it asks the database, is taken as far as it goes.
    """
    made = Made()
    unread: list[str] = []
    opts = {**context.opts, "as_sql": True, "output_buffer": StringIO(), "transaction_per_migration": False}
    with _reading(context, opts, made):
        for revision in reversed(list(script.walk_revisions())):
            try:
                revision.module.upgrade()
            except Exception:  # noqa: BLE001 - a revision may do anything
                unread.append(revision.revision)
    if unread:
        log.warning(
            "not all that these revisions make is known, because they ask the database: %s", ", ".join(unread)
        )
    return made


@contextmanager
def _reading(online: MigrationContext, opts: dict[str, Any], made: Made) -> Iterator[None]:
    """Let ``op`` of the revisions note operations instead of carrying them out, and then be what it was."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what revisions log belongs to a run of theirs
    context = MigrationContext(online.dialect, None, opts, environment_context=online.environment_context)

    def invoke(operation: ops.MigrateOperation) -> Any:
        made.read(operation)
        return operation.to_table(context) if isinstance(operation, ops.CreateTableOp) else 0

    @contextmanager
    def batch_alter_table(table_name: str, schema: str | None = None, **_: Any) -> Iterator[Any]:
        batch = BatchOperations(context, impl=SimpleNamespace(table_name=table_name, schema=schema))  # type: ignore[arg-type]
        vars(batch)["invoke"] = invoke
        yield batch

    reader = Operations(context)
    vars(reader).update(invoke=invoke, batch_alter_table=batch_alter_table)
    before = vars(op).get("_proxy")
    reader._install_proxy()
    try:
        yield
    finally:
        logging.disable(disabled)
        reader._remove_proxy()
        if before is not None:
            before._install_proxy()


class Allowed:
    """The operator's own objects that are expected: patterns like ``index audit_*`` or ``column t.note``."""

    def __init__(self, config: Config | None, given: object) -> None:
        patterns = given
        place = "own_objects of context.configure()"
        if patterns is None:
            file = None if config is None else _pyproject(config)
            place = "own_objects of [tool.alembic_drift] in pyproject.toml"
            patterns = [] if file is None else _read(file).get("own_objects", [])
        if not isinstance(patterns, list | tuple) or not all(isinstance(item, str) for item in patterns):
            raise DriftError(f'{place} has to be a list of patterns: ["index audit_*", "column orders.note"]')
        self._patterns = patterns

    def __contains__(self, key: Key) -> bool:
        return any(fnmatchcase(f"{key.kind} {_path(key)}", pattern) for pattern in self._patterns)


def _path(key: Key) -> str:
    return f"{key.table}.{key.name}" if key.kind != "index" and key.table else key.name


def _pyproject(config: Config) -> Path | None:
    named = config.toml_file_name or (
        Path(config.config_file_name).resolve().parent / "pyproject.toml" if config.config_file_name else None
    )
    return Path(named) if named is not None and Path(named).is_file() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("alembic_drift", {})
        if not isinstance(found, dict):
            raise DriftError(f"alembic_drift in {file.name} has to be a table: [tool.alembic_drift]")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DriftError(f"{file.name} is not TOML: {error}") from error
    unknown = set(found) - {"own_objects"}
    if unknown:
        raise DriftError(
            f"[tool.alembic_drift] of {file.name} knows own_objects, not {', '.join(sorted(unknown))}"
        )
    return dict(found)
