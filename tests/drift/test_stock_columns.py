"""Columns of other projects with a changed type: with and without a default, with rows, and back."""

import pytest
from drift.stock import Case, Stock, params

_ID = 'sa.Column("id", sa.Integer)'


def _t(*columns: str) -> str:
    return f'sa.Table("t", metadata, {", ".join([_ID, *columns])})\n'


def _changed(before: str, column: str, *expected: str, values: str = "", **options: object) -> Case:
    rows = f"INSERT INTO t VALUES {', '.join(f'(1, {value})' for value in values.split())}" if values else ""
    return Case(
        _t(column),
        revisions=[f"op.execute('''CREATE TABLE t (id int, v {before})''')"],
        sql=rows,
        expected=[f"column t.v ({aspect})" for aspect in expected],
        **options,  # type: ignore[arg-type]
    )


_UUID = "'00000000-0000-0000-0000-000000000001'"
_USING = [r"postgresql_using\s*=\s*['\"]"]
CASES = {
    "09-uuid-with-default": _changed(
        "varchar(36) DEFAULT gen_random_uuid()::text",
        'sa.Column("v", sa.Uuid, server_default=sa.text("gen_random_uuid()"))',
        "default",
        "type",
        values=_UUID,
        text=_USING,
    ),
    "09-uuid-of-a-primary-key": Case(
        'sa.Table("t", metadata, sa.Column("v", sa.Uuid, primary_key=True,'
        ' server_default=sa.text("gen_random_uuid()")))',
        revisions=[
            "op.execute('''CREATE TABLE t (v varchar(36) PRIMARY KEY DEFAULT gen_random_uuid()::text)''')"
        ],
        sql="INSERT INTO t DEFAULT VALUES",
        expected=["column t.v (default)", "column t.v (type)"],
    ),
    "09-text-to-integer": _changed(
        "text DEFAULT '1'",
        'sa.Column("v", sa.Integer, server_default="1")',
        "default",
        "type",
        values="'2' '3'",
        text=_USING,
    ),
    "09-text-to-integer-without": _changed(
        "text", 'sa.Column("v", sa.Integer)', "type", values="'2' '3'", text=_USING
    ),
    "09-default-dropped": _changed(
        "text DEFAULT '1'", 'sa.Column("v", sa.Integer)', "default", "type", values="'2'", text=_USING
    ),
    "09-default-added": _changed(
        "text", 'sa.Column("v", sa.Integer, server_default="7")', "default", "type", values="'2'", text=_USING
    ),
    "09-not-null-beside": _changed(
        "text DEFAULT '1'",
        'sa.Column("v", sa.Integer, server_default="1", nullable=False)',
        "default",
        "not null",
        "type",
        values="'2'",
    ),
    "09-text-to-enum": Case(
        _t('sa.Column("v", pg.ENUM("a", "b", name="k"), server_default="a")'),
        revisions=["op.execute('''CREATE TABLE t (id int, v text DEFAULT 'a')''')"],
        sql="INSERT INTO t VALUES (1, 'a'), (1, 'b')",
        expected=["column t.v (default)", "column t.v (type)", "type k"],
        text=_USING,
    ),
    "09-integer-to-boolean": _changed(
        "int DEFAULT 1",
        'sa.Column("v", sa.Boolean, server_default=sa.true())',
        "default",
        "type",
        values="0 1",
        text=_USING,
    ),
    "09-varchar-to-timestamptz": _changed(
        "varchar(40)",
        'sa.Column("v", sa.DateTime(timezone=True))',
        "type",
        values="'infinity'",
        text=_USING,
    ),
    "09-varchar-to-timestamptz-with-default": _changed(
        "varchar(40) DEFAULT '2025-01-01'",
        'sa.Column("v", sa.DateTime(timezone=True), server_default=sa.func.now())',
        "default",
        "type",
    ),
    "09-text-to-jsonb": _changed("text", 'sa.Column("v", pg.JSONB)', "type", values="'1'", text=_USING),
    # The plain cast works: no USING is written.
    "09-plain-cast": _changed(
        "int DEFAULT 1",
        'sa.Column("v", sa.BigInteger, server_default="1")',
        "default",
        "type",
        values="1 2",
        never=_USING,
    ),
    "09-plain-cast-one-way": _changed(
        "int",
        'sa.Column("v", sa.Text)',
        "type",
        values="1 2",
        text=[r"(?s)def upgrade(?!.*postgresql_using.*def downgrade).*def downgrade.*postgresql_using"],
    ),
    "09-varchar-shorter": _changed(
        "varchar(9)", 'sa.Column("v", sa.String(5))', "type", values="'a'", never=_USING
    ),
    # There is no cast: the file says so at its top, and check names the column.
    "09-no-cast": Case(
        _t('sa.Column("v", sa.ARRAY(sa.Integer))'),
        revisions=["op.execute('CREATE TABLE t (id int, v json)')"],
        expected=["column t.v (type)"],
        text=[r"#.*column t\.v.*(cast|USING)"],
        manual=True,
    ),
    "09-no-cast-with-default": Case(
        _t('sa.Column("v", sa.ARRAY(sa.Integer), server_default="{}")'),
        revisions=["op.execute('''CREATE TABLE t (id int, v json DEFAULT '{}')''')"],
        expected=["column t.v (default)", "column t.v (type)"],
        text=[r"#.*column t\.v.*(cast|USING)"],
        manual=True,
    ),
}


@pytest.mark.parametrize("case", params(CASES))
def test_a_changed_type(stock: Stock, case: Case) -> None:
    stock.round_trip(case)
