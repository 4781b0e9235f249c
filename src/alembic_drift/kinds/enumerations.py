"""Operations on the labels of enumerated types."""

from collections.abc import Sequence

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations import Operations, ops

from alembic_drift.kinds.exchange import EXCHANGE, REWRITTEN
from alembic_drift.render import Rewrites, imported, in_schema, run
from alembic_drift.sql import filled, literal, qualified

Labels = Sequence[str]


@Operations.register_operation("add_type_label", "add")
class AddTypeLabelOp(ops.MigrateOperation):
    """Add a label to an enumerated type."""

    def __init__(
        self,
        name: str,
        label: str,
        *,
        before: str | None = None,
        after: str | None = None,
        schema: str | None = None,
    ) -> None:
        self.name, self.label, self.before, self.after, self.schema = name, label, before, after, schema

    @classmethod
    def add(
        cls,
        operations: Operations,
        name: str,
        label: str,
        *,
        before: str | None = None,
        after: str | None = None,
        schema: str | None = None,
    ) -> None:
        """Add a label to an enumerated type, unless it exists. It can be used after the commit.

        :param name: the type.
        :param label: the new label.
        :param before: the label to insert it before.
        :param after: the label to insert it after. Without either it becomes the last one.
        :param schema: the schema of the type, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, label, before=before, after=after, schema=schema))


@Operations.register_operation("rename_type_label", "rename")
class RenameTypeLabelOp(ops.MigrateOperation):
    """Rename a label of an enumerated type."""

    def __init__(self, name: str, old: str, new: str, *, schema: str | None = None) -> None:
        self.name, self.old, self.new, self.schema = name, old, new, schema

    def reverse(self) -> "RenameTypeLabelOp":
        """Return the operation that restores the old name."""
        return RenameTypeLabelOp(self.name, self.new, self.old, schema=self.schema)

    @classmethod
    def rename(
        cls, operations: Operations, name: str, old: str, new: str, *, schema: str | None = None
    ) -> None:
        """Rename a label, in all rows and defaults, unless it has the new name.

        If neither label exists, it raises an error.

        :param name: the type.
        :param old: the label.
        :param new: its new name.
        :param schema: the schema of the type, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, old, new, schema=schema))


@Operations.register_operation("set_type_labels", "set")
class SetTypeLabelsOp(ops.MigrateOperation):
    """Replace an enumerated type by one with other labels."""

    def __init__(self, name: str, labels: Labels, *, schema: str | None = None) -> None:
        self.name, self.labels, self.schema = name, labels, schema

    @classmethod
    def set(cls, operations: Operations, name: str, labels: Labels, *, schema: str | None = None) -> None:
        """Give an enumerated type exactly these labels, in this order, unless it has them already.

        A new type replaces the old one. Tables with columns of the type are rewritten under a lock; defaults,
        checks, indexes and foreign keys are kept. New labels can be used at once. A label that a row has is
        not dropped: it raises an error with the number of rows.

        :param name: the type.
        :param labels: all its labels, in their order.
        :param schema: the schema of the type, if it is not the first of the search_path.
        """
        operations.invoke(cls(name, labels, schema=schema))


@Operations.implementation_for(AddTypeLabelOp)
def _add_type_label(operations: Operations, operation: AddTypeLabelOp) -> None:
    where = f" BEFORE {literal(operation.before)}" if operation.before is not None else ""
    where = f" AFTER {literal(operation.after)}" if operation.after is not None else where
    name = qualified(operation.name, operation.schema)
    run(operations, f"ALTER TYPE {name} ADD VALUE IF NOT EXISTS {literal(operation.label)}{where}")


@Operations.implementation_for(RenameTypeLabelOp)
def _rename_type_label(operations: Operations, operation: RenameTypeLabelOp) -> None:
    name, old, new = (
        qualified(operation.name, operation.schema),
        literal(operation.old),
        literal(operation.new),
    )
    there = f"EXISTS (SELECT FROM pg_enum WHERE enumtypid = {literal(name)}::regtype AND enumlabel ="
    run(
        operations,
        f"""\
DO $rename$ BEGIN
IF {there} {old}) THEN
    ALTER TYPE {name} RENAME VALUE {old} TO {new};
ELSIF NOT {there} {new}) THEN
    RAISE EXCEPTION 'type % has no label %', {literal(operation.name)}, {old};
END IF;
END $rename$""",
        summary=f"ALTER TYPE {name} RENAME VALUE {old} TO {new}",
    )


@Operations.implementation_for(SetTypeLabelsOp)
def _set_type_labels(operations: Operations, operation: SetTypeLabelsOp) -> None:
    values = {
        "@NAME": literal(qualified(operation.name, operation.schema)),
        "@SHORT": literal(operation.name),
        "@WANTED": f"ARRAY[{', '.join(map(literal, operation.labels))}]::text[]",
    }

    instead = (
        "to add a label, use op.add_type_label, and use it in a later revision; to drop one, add a column of"
        " a new type, keep it up to date, backfill it with op.backfill, and drop the old column in a later"
        " revision"
    )
    run(
        operations,
        filled(EXCHANGE, values),
        Rewrites(f"changing the labels of type {operation.name}", filled(REWRITTEN, values), instead),
        summary=f"change the labels of type {operation.name}",
    )


@renderers.dispatch_for(AddTypeLabelOp)
def _render_add_type_label(context: AutogenContext, operation: AddTypeLabelOp) -> str:
    imported(context)
    where = f", before={operation.before!r}" if operation.before is not None else ""
    where += f", after={operation.after!r}" if operation.after is not None else ""
    return f"op.add_type_label({operation.name!r}, {operation.label!r}{where}{in_schema(operation.schema)})"


@renderers.dispatch_for(RenameTypeLabelOp)
def _render_rename_type_label(context: AutogenContext, operation: RenameTypeLabelOp) -> str:
    imported(context)
    names = f"{operation.name!r}, {operation.old!r}, {operation.new!r}"
    return f"op.rename_type_label({names}{in_schema(operation.schema)})"


@renderers.dispatch_for(SetTypeLabelsOp)
def _render_set_type_labels(context: AutogenContext, operation: SetTypeLabelsOp) -> str:
    imported(context)
    return f"op.set_type_labels({operation.name!r}, {[*operation.labels]!r}{in_schema(operation.schema)})"
