"""The calls of verify() and refuse_data_loss() that autogenerate adds to a revision."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import _render_column
from alembic.operations import ops
from alembic.util import sqla_compat
from sqlalchemy.dialects import postgresql

from alembic_drift.operations import CreateMaterializedViewOp, CreateViewOp
from alembic_drift.sql import as_text

# This paramstyle does not double the percent signs in names.
_DIALECT = postgresql.dialect(paramstyle="named")  # type: ignore[no-untyped-call]


@dataclass(eq=False)
class VerifyOp(ops.MigrateOperation):
    """A call of ``verify``: what a revision creates in one relation."""

    relation: str
    schema: str | None
    columns: dict[str, "sa.Column[Any]"] = field(default_factory=dict)
    indexes: list[str] = field(default_factory=list)
    constraints: list[str] = field(default_factory=list)


@dataclass(eq=False)
class RefuseDataLossOp(ops.MigrateOperation):
    """A call of ``refuse_data_loss``: the table, what is counted, and the SQL that selects it."""

    table: str
    what: str
    rows: str


def verifications(upgrade: ops.UpgradeOps) -> list[VerifyOp]:
    """Return the calls that verify at the end of an upgrade that its operations had their effect."""
    found: dict[tuple[str | None, str], VerifyOp] = {}

    def of(relation: str, schema: str | None) -> VerifyOp:
        return found.setdefault((schema, relation), VerifyOp(relation, schema))

    for operation in _each(upgrade):
        match operation:
            case ops.CreateTableOp(table_name=table, schema=schema, columns=items):
                for item in items:
                    if isinstance(item, sa.Column):
                        of(table, schema).columns[item.name] = item
                    elif isinstance(item, sa.Constraint) and not _is_empty_key(item):
                        name = sqla_compat._get_constraint_final_name(item, _DIALECT)
                        if name is not None:
                            of(table, schema).constraints.append(str(name))
                of(table, schema).constraints.sort()
            case ops.AddColumnOp(table_name=table, schema=schema, column=column):
                of(table, schema).columns[column.name] = column
            case ops.AlterColumnOp(table_name=table, schema=schema, column_name=name):
                altered = _altered(operation)
                if altered is not None:
                    of(table, schema).columns[name] = altered
            case ops.CreateIndexOp(table_name=table, schema=schema, index_name=name) if name is not None:
                of(table, schema).indexes.append(str(name))
            case ops.AddConstraintOp():
                constraint = operation.to_constraint()
                name = sqla_compat._get_constraint_final_name(constraint, _DIALECT)
                if name is not None and constraint.table is not None:
                    of(constraint.table.name, constraint.table.schema).constraints.append(str(name))
            case CreateViewOp() | CreateMaterializedViewOp():
                of(operation.name, operation.schema)
            case ops.ExecuteSQLOp(sqltext=str() as statement):
                added = _CONSTRAINT.match(statement)
                if added is not None and not statement.rstrip().endswith("NOT VALID"):
                    within, of_table, constraint_name = (_unquoted(part) for part in added.groups())
                    of(str(of_table), within).constraints.append(str(constraint_name))
    return list(found.values())


def refusals(downgrade: ops.DowngradeOps) -> list[RefuseDataLossOp]:
    """Return the calls that stop a downgrade before it drops rows, or values that are not the default."""
    found: list[RefuseDataLossOp] = []
    for operation in _each(downgrade):
        if isinstance(operation, ops.DropTableOp):
            table = _quoted(operation.table_name, operation.schema)
            found.append(RefuseDataLossOp(table, f"rows of {operation.table_name}", f"FROM {table}"))
        elif isinstance(operation, ops.DropColumnOp):
            added = operation._reverse
            column = None if added is None else added.column
            if column is not None and column.computed is not None:
                continue  # computed from columns that stay
            table = _quoted(operation.table_name, operation.schema)
            what = f"values of {operation.table_name}.{operation.column_name}"
            lost = _lost(_quoted(operation.column_name), column)
            found.append(RefuseDataLossOp(table, what, f"FROM {table} WHERE {lost}"))
    return found


def _each(container: ops.OpContainer) -> Iterator[ops.MigrateOperation]:
    for operation in container.ops:
        if isinstance(operation, ops.OpContainer):
            yield from _each(operation)
        else:
            yield operation


def _is_empty_key(item: sa.Constraint) -> bool:
    """Return whether it is the empty PrimaryKeyConstraint of a table without a primary key."""
    return isinstance(item, sa.PrimaryKeyConstraint) and not item.columns


def _altered(operation: ops.AlterColumnOp) -> "sa.Column[Any] | None":
    """Return a column as it is after the operation, or None if neither type nor nullability changes."""
    if operation.modify_type is None and operation.modify_nullable is None:
        return None
    type_ = operation.existing_type if operation.modify_type is None else operation.modify_type
    nullable = operation.modify_nullable
    if nullable is None:
        nullable = operation.existing_nullable
    if type_ is None or isinstance(type_, sa.types.NullType):
        return None
    return sa.Column(operation.column_name, type_, nullable=nullable is not False)


# A constraint that no operation of Alembic covers, as alembic_drift writes it: every name is quoted.
_NAME = r'("(?:[^"]|"")+")'
_CONSTRAINT = re.compile(rf"ALTER TABLE (?:{_NAME}\.)?{_NAME} (?:ADD|VALIDATE) CONSTRAINT {_NAME}")


def _unquoted(name: str | None) -> str | None:
    return None if name is None else name[1:-1].replace('""', '"').replace(r"\:", ":")


def _quoted(name: str, schema: str | None = None) -> str:
    """Return a name for SQL, quoted where necessary."""
    quote = _DIALECT.identifier_preparer.quote
    return quote(name) if schema is None else f"{quote(schema)}.{quote(name)}"


_CONSTANT = re.compile(r"(-?\d+(\.\d+)?|true|false|E?'([^']|'')*')(::[\w \"\[\](),.]+)?", re.IGNORECASE)
# Types whose values are compared with their own equality. Values of other types are compared as text.
_COMPARABLE = (
    *(sa.String, sa.Integer, sa.Numeric, sa.Float, sa.Boolean, sa.Uuid, postgresql.JSONB),
    *(sa.Date, sa.DateTime, sa.Time, sa.Interval),
)


def _lost(column: str, of: "sa.Column[Any] | None") -> str:
    """Return the condition that selects the rows with a value that the default does not restore."""
    default = None if of is None else _constant_default(of)
    if of is None or default is None:
        return f"{column} IS NOT NULL"
    if isinstance(of.type, _COMPARABLE):
        return f"{column} <> {default}"
    return f"CAST({column} AS text) <> CAST({default} AS text)"


def _constant_default(column: "sa.Column[Any]") -> str | None:
    """Return the SQL of a default that is the same for each row, or None."""
    given = column.server_default
    if not isinstance(given, sa.DefaultClause):
        return None
    if isinstance(given.arg, str):
        return "'" + given.arg.replace("'", "''") + "'"
    if isinstance(given.arg, sa.TextClause):
        text = given.arg.text.replace(r"\:", ":")
    else:
        text = str(given.arg.compile(dialect=_DIALECT, compile_kwargs={"literal_binds": True}))
    return text if _CONSTANT.fullmatch(text) else None


@renderers.dispatch_for(VerifyOp)
def _render_verify(context: AutogenContext, operation: VerifyOp) -> str:
    columns = [
        _render_column(sa.Column(column.name, column.type, nullable=column.nullable), context)
        for column in operation.columns.values()
    ]
    given = [repr(operation.relation)]
    if operation.schema is not None:
        given.append(f"schema={operation.schema!r}")
    given += [f"columns=[{', '.join(columns)}]"] if columns else []
    given += _names("indexes", operation.indexes)
    given += _names("constraints", operation.constraints)
    return f"verify({', '.join(given)})"


def _names(argument: str, names: Iterable[str]) -> list[str]:
    shown = list(dict.fromkeys(names))
    return [f"{argument}={shown!r}"] if shown else []


@renderers.dispatch_for(RefuseDataLossOp)
def _render_refuse(_context: AutogenContext, operation: RefuseDataLossOp) -> str:
    return f"refuse_data_loss({as_text(operation.table)!r}, {operation.what!r}, {as_text(operation.rows)!r})"
