"""Parents of tables: INHERIT and NO INHERIT."""

import re
from collections.abc import Iterator
from typing import ClassVar

from alembic.operations import Operations

from alembic_drift.objects import Facts, Key
from alembic_drift.order import Phase
from alembic_drift.resolution import Resolution
from alembic_drift.simple import SimpleOp, named
from alembic_drift.sql import literal, qualified

_NAME = r'(?:"(?:[^"]|"")*"|[^",.]+)'
_PARENT = re.compile(rf"(?:({_NAME})\.)?({_NAME})(?:, |$)")


def resolve(resolution: Resolution, key: Key) -> None:
    """Plan to remove parents before columns are dropped, and to add parents after columns exist."""
    before, after = ([*_parents(facts)] for facts in (resolution.database[key], resolution.models[key]))
    stay = 0  # parents are ordered: new ones come last
    while before[stay : stay + 1] == after[stay : stay + 1] != []:
        stay += 1

    def inherit(parent: tuple[str | None, str]) -> InheritOp:
        return InheritOp(key.name, parent[1], parent_schema=parent[0], schema=resolution.schema)

    gone, come = ([inherit(parent) for parent in parents[stay:]] for parents in (before, after))
    resolution.both(Phase.CONSTRAINTS_GO, [parent.reverse() for parent in gone], gone)
    resolution.both(Phase.CONSTRAINTS, come, [parent.reverse() for parent in come])


def _parents(facts: Facts) -> Iterator[tuple[str | None, str]]:
    """Yield schema and name of the parents in the fact ``inherits``."""
    for schema, name in _PARENT.findall(facts.get("inherits", "")):
        yield _unquoted(schema) or None, _unquoted(name)


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


class _ParentOp(SimpleOp):
    action: ClassVar[str]
    unless: ClassVar[str]

    def __init__(
        self, table: str, parent: str, *, parent_schema: str | None = None, schema: str | None = None
    ) -> None:
        self.table, self.parent, self.parent_schema, self.schema = table, parent, parent_schema, schema

    def statements(self) -> Iterator[str]:
        """Yield a block that makes the change, unless it is made already."""
        table, parent = qualified(self.table, self.schema), qualified(self.parent, self.parent_schema)
        yield (
            f"DO $inherit$ BEGIN IF {self.unless} (SELECT FROM pg_inherits"
            f" WHERE inhrelid = {literal(table)}::regclass AND inhparent = {literal(parent)}::regclass)"
            f" THEN ALTER TABLE {table} {self.action} {parent}; END IF; END $inherit$"
        )

    def arguments(self) -> Iterator[str]:
        """Yield the arguments."""
        yield from (repr(self.table), repr(self.parent))
        yield from named(parent_schema=self.parent_schema, schema=self.schema)


@Operations.register_operation("inherit", "inherit")
class InheritOp(_ParentOp):
    """Make a table a child of another one."""

    operation, action, unless = "inherit", "INHERIT", "NOT EXISTS"

    @classmethod
    def inherit(
        cls,
        operations: Operations,
        table: str,
        parent: str,
        *,
        parent_schema: str | None = None,
        schema: str | None = None,
    ) -> None:
        """Make a table a child of another one, unless it is one. It needs the parent's columns and checks.

        :param table: the child.
        :param parent: its parent.
        :param parent_schema: the schema of the parent, if it is not the first of the search_path.
        :param schema: the schema of the child, if it is not the first of the search_path.
        """
        operations.invoke(cls(table, parent, parent_schema=parent_schema, schema=schema))

    def reverse(self) -> "NoInheritOp":
        """Return the operation that removes the parent."""
        return NoInheritOp(self.table, self.parent, parent_schema=self.parent_schema, schema=self.schema)


@Operations.register_operation("no_inherit", "no_inherit")
class NoInheritOp(_ParentOp):
    """Remove a parent of a table."""

    operation, action, unless = "no_inherit", "NO INHERIT", "EXISTS"

    @classmethod
    def no_inherit(
        cls,
        operations: Operations,
        table: str,
        parent: str,
        *,
        parent_schema: str | None = None,
        schema: str | None = None,
    ) -> None:
        """Remove a parent of a table, if it is one. The table keeps its columns and checks.

        :param table: the child.
        :param parent: its parent.
        :param parent_schema: the schema of the parent, if it is not the first of the search_path.
        :param schema: the schema of the child, if it is not the first of the search_path.
        """
        operations.invoke(cls(table, parent, parent_schema=parent_schema, schema=schema))
