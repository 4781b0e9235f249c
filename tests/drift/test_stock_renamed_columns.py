"""A column or table renamed in the models: a line says that a drop and an addition may be a rename."""

import re

import pytest
from drift.stock import Case, Stock, params

_HINT = (
    r"dropped {0} and added {1} have the same type: if this is a rename,"
    r" use op\.alter_column\(.*new_column_name=.*\)"
)


def _renamed(made: str, columns: str, *expected: str, hints: str = "seats places", **options: object) -> Case:
    hint = [_HINT.format(*pair.split()) for pair in hints.split(",")] if hints else []
    return Case(
        f'sa.Table("t", metadata, sa.Column("id", sa.Integer), {columns})',
        revisions=[f"op.execute('''CREATE TABLE t (id int, {made})''')"],
        expected=expected,
        text=[f"# .*{line}" for line in hint],
        never=[r"Resolve manually", *([] if hints else [r"is a rename"])],
        **options,  # type: ignore[arg-type]
    )


def _table(schema: str = "", column: str = "seats int") -> Case:
    where = f"schema={schema!r}" if schema else ""
    hint = (
        "dropped table old and added table new have the same columns: if this is a rename, use"
        rf" op\.rename_table\('old', 'new'{where and ', ' + where}\)"
    )
    same = column == "seats int"
    return Case(
        f'sa.Table("new", metadata, sa.Column("seats", sa.Integer){where and ", " + where})',
        schemas=f"CREATE SCHEMA {schema}" if schema else "",
        revisions=[f'op.execute("CREATE TABLE {schema and schema + "."}old ({column})")'],
        env='options["include_schemas"] = True' if schema else "",
        expected=["table new", "table old"],
        text=[f"# {hint}"] if same else [],
        never=[] if same else ["is a rename"],
    )


_BOTH = ("column t.places", "column t.seats")
CASES = {
    "11-plain": _renamed("seats int", 'sa.Column("places", sa.Integer)', *_BOTH),
    "11-not-null": _renamed("seats int NOT NULL", 'sa.Column("places", sa.Integer, nullable=False)', *_BOTH),
    "11-with-a-default": _renamed(
        "seats int NOT NULL DEFAULT 1",
        'sa.Column("places", sa.Integer, nullable=False, server_default="1")',
        *_BOTH,
    ),
    "11-varchar": _renamed("seats varchar(9)", 'sa.Column("places", sa.String(9))', *_BOTH),
    "11-other-length": _renamed("seats varchar(9)", 'sa.Column("places", sa.String(8))', *_BOTH, hints=""),
    "11-other-type": _renamed("seats int", 'sa.Column("places", sa.Text)', *_BOTH, hints=""),
    "11-two-at-once": _renamed(
        "seats int, title text",
        'sa.Column("places", sa.Integer), sa.Column("name", sa.Text)',
        "column t.name",
        *_BOTH,
        "column t.title",
        hints="seats places,title name",
    ),
    # Either of the two may be the renamed one, so both are reported.
    "11-one-of-two": _renamed(
        "seats int",
        'sa.Column("places", sa.Integer), sa.Column("other", sa.Integer)',
        "column t.other",
        *_BOTH,
        hints="seats places,seats other",
    ),
    "11-only-dropped": _renamed(
        "seats int", 'sa.Column("x", sa.Text)', "column t.seats", "column t.x", hints=""
    ),
    # An object that is dropped with its column is not dropped again.
    "11-with-a-check": _renamed(
        "seats int CONSTRAINT c CHECK (seats > 0)",
        'sa.Column("places", sa.Integer), sa.CheckConstraint("places > 0", name="c")',
        *_BOTH,
        "constraint c on t (definition)",
    ),
    "11-with-a-unique": _renamed(
        "seats int CONSTRAINT u UNIQUE",
        'sa.Column("places", sa.Integer), sa.UniqueConstraint("places", name="u")',
        *_BOTH,
        "constraint u on t (definition)",
    ),
    "11-with-a-unique-of-another-name": _renamed(
        "seats int CONSTRAINT t_seats_key UNIQUE",
        'sa.Column("places", sa.Integer, unique=True)',
        *_BOTH,
        "constraint t_places_key on t",
        "constraint t_seats_key on t",
    ),
    "11-with-a-foreign-key": _renamed(
        "other int UNIQUE, seats int CONSTRAINT f REFERENCES t (other)",
        'sa.Column("other", sa.Integer, unique=True), sa.Column("places", sa.Integer),'
        ' sa.ForeignKeyConstraint(["places"], ["t.other"], name="f")',
        *_BOTH,
        "constraint f on t (definition)",
    ),
    "11-primary-key": Case(
        'sa.Table("t", metadata, sa.Column("places", sa.Integer, primary_key=True, autoincrement=False))',
        revisions=["op.execute('CREATE TABLE t (seats int PRIMARY KEY)')"],
        expected=[*_BOTH, "constraint t_pkey on t (definition)"],
        text=[f"# .*{_HINT.format('seats', 'places')}"],
    ),
    "17-in-a-schema": Case(
        'sa.Table("t", metadata, sa.Column("places", sa.Integer), schema="s")',
        schemas="CREATE SCHEMA s",
        revisions=["op.execute('CREATE TABLE s.t (seats int)')"],
        env='options["include_schemas"] = True',
        expected=_BOTH,
        text=[r"# .*op\.alter_column\('t', 'seats', new_column_name='places', schema='s'\)"],
    ),
    "17-table": _table(),
    "17-table-in-a-schema": _table("s"),
    "17-table-of-other-columns": _table(column="seats int, title text"),
}


@pytest.mark.parametrize("case", params(CASES))
def test_a_renamed_column(stock: Stock, case: Case) -> None:
    text = stock.round_trip(case)
    # The line is in the log, too, when the revision is written.
    for pattern in case.text:
        assert any(re.search(pattern.removeprefix("# "), line) for line in stock.said_at_revision), pattern
    for way in text.split("def downgrade"):
        dropped = re.findall(r"op\.drop_constraint\((?:op\.f\()?'(\w+)'", way)
        assert len(dropped) == len(set(dropped)), way
