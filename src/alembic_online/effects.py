"""What operations create and drop, by name.

A resumed run uses it to check that the results of finished operations still exist.
"""

from collections.abc import Iterable

from alembic.operations import ops

from alembic_online import sql
from alembic_online.internals import final_name
from alembic_online.operations.rename_index import RenameIndexOp
from alembic_online.render import Renderer
from alembic_online.tokens import readers

Effect = list[str]
"""Action ("make", "drop", "rename" or "forget"), kind, table, name; for a renamed table also its new name."""

ExpectedObject = tuple[str, str, str]
"""Kind, table and name of an object that must exist."""


def effects(render: Renderer, operation: ops.MigrateOperation) -> list[Effect]:
    """Return what an operation creates and drops, as far as that can be checked."""
    schema = getattr(operation, "schema", None)
    table = render.quoted(str(getattr(operation, "table_name", "") or ""), schema)
    match operation:
        case ops.AddColumnOp():
            return [["make", "column", table, operation.column.name]]
        case ops.DropColumnOp():
            return [["drop", "column", table, operation.column_name]]
        case ops.AlterColumnOp() if operation.modify_name is not None:
            return [["drop", "column", table, operation.column_name]]
        case ops.DropTableOp():
            return [["drop", "table", table, ""]]
        case ops.RenameTableOp():
            return [["rename", "table", table, "", render.quoted(operation.new_table_name, schema)]]
        case ops.CreateIndexOp():
            name = final_name(operation.to_index(render.context), render.dialect)
            return [["make", "index", table, str(name)]]
        case ops.DropIndexOp():
            name = final_name(operation.to_index(render.context), render.dialect)
            return [["drop", "index", table, str(name)]]
        case RenameIndexOp():
            return [["forget", "", "", operation.old_name]]
        case ops.AddConstraintOp():
            constraint = operation.to_constraint(render.context)
            name = final_name(constraint, render.dialect)
            owner = render.quoted(constraint.table.name, constraint.table.schema)
            return [] if name is None else [["make", "constraint", owner, name]]
        case ops.DropConstraintOp():
            return [["drop", "constraint", table, str(operation.constraint_name)]]
        case ops.ExecuteSQLOp() if isinstance(operation.sqltext, str):
            if any(reader.has(word) for reader in readers(operation.sqltext) for word in ("DROP", "RENAME")):
                return [["forget", "", "", name] for name in sql.names(operation.sqltext)]
    return []


def expected_objects(all_effects: Iterable[Effect]) -> set[ExpectedObject]:
    """Return the objects that must exist after operations, which are given in their order."""
    found: set[ExpectedObject] = set()
    for what, kind, table, name, *new in all_effects:
        if what == "make":
            found.add((kind, table, name))
        elif what == "forget":
            found = {made for made in found if made[2] != name}
        elif kind == "table":
            moved = {(made[0], new[0], made[2]) for made in found if made[1] == table} if new else set()
            found = {made for made in found if made[1] != table} | moved
        elif kind == "column":  # with the indexes and constraints that may depend on it
            found = {made for made in found if made[1] != table or (made[0] == "column" and made[2] != name)}
        else:
            found = {made for made in found if made[2] != name}
    return found
