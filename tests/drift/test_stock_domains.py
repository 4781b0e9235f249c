"""Domains: default, NOT NULL and checks are altered. Another base type is only reported."""

from typing import Any

import pytest
from drift.stock import Case, Stock, params
from sqlalchemy.exc import DBAPIError


def _case(old: str, new: str, **options: Any) -> Case:
    """Return a change of the domain d, from the SQL of CREATE DOMAIN to the arguments in the models."""
    return Case(
        **{
            "models": f'sa.Table("t", metadata, sa.Column("v", pg.DOMAIN("d", {new})))',
            "revisions": [f'op.execute("""CREATE DOMAIN d AS {old}; CREATE TABLE t (v d)""")'],
            "sql": "INSERT INTO t VALUES (7)",
            "expected": ["domain d (definition)"],
            "again": True,
            **options,
        }
    )


_SQL = 'op.execute("""{}""")'
_OTHERS = ("domain m", "domain n", "domain x", "domain y", "type z")
_CHECKED = 'sa.Integer, check="VALUE > 0", constraint_name="ck"'
CASES = {
    "18-check-added": _case("int", _CHECKED, text=[r"op\.create_domain_check\('ck', 'd', "]),
    "18-check-dropped": _case("int CONSTRAINT ck CHECK (VALUE > 0)", "sa.Integer"),
    "18-check-changed": _case("int CONSTRAINT ck CHECK (VALUE > 5)", _CHECKED),
    "18-check-unnamed": _case("int CHECK (VALUE > 5)", 'sa.Integer, check="VALUE > 0"'),
    "18-check-renamed": _case("int CONSTRAINT other CHECK (VALUE > 0)", _CHECKED),
    "18-check-not-valid": _case(
        "int",
        _CHECKED,
        sql="ALTER DOMAIN d ADD CONSTRAINT ck CHECK (VALUE > 0) NOT VALID; INSERT INTO t VALUES (7)",
    ),
    "18-check-with-comment": _case(
        "int CONSTRAINT ck CHECK (VALUE > 5)",
        _CHECKED,
        sql="COMMENT ON CONSTRAINT ck ON DOMAIN d IS 'it''s'; INSERT INTO t VALUES (7)",
    ),
    "18-checks-several": _case(
        "int CONSTRAINT ck CHECK (VALUE > 0) CONSTRAINT other CHECK (VALUE <> 3) NOT NULL DEFAULT 8",
        _CHECKED,
    ),
    "18-check-odd": _case(
        "text CONSTRAINT \"A ck\" CHECK (VALUE <> '50%x')",
        "sa.Text, check=\"VALUE <> 'it''s 50%:x'\", constraint_name=\"A ck\"",
        sql="INSERT INTO t VALUES ('x')",
    ),
    "18-over-others": Case(
        """
        E = pg.ENUM("a", name="z")
        inner = pg.DOMAIN("y", E, default="a")
        outer = pg.DOMAIN("x", inner)
        sa.Table("t", metadata, sa.Column("u", E), sa.Column("v", inner), sa.Column("w", outer))
        """,
        revisions=[
            _SQL.format(
                "CREATE DOMAIN n AS int; CREATE DOMAIN m AS n CHECK (VALUE > 1); CREATE TABLE t (n n, m m)"
            )
        ],
        expected=["column t.m", "column t.n", "column t.u", "column t.v", "column t.w", *_OTHERS],
    ),
    "18-default-added": _case(
        "int", 'sa.Integer, default="3"', text=[r"op\.alter_domain\('d', server_default="]
    ),
    "18-default-changed": _case("int DEFAULT 4", 'sa.Integer, default="3"'),
    "18-default-dropped": _case("int DEFAULT 4", "sa.Integer"),
    "18-default-text": _case(
        "text", "sa.Text, default=sa.text(\"'it''s 50%:x'\")", sql="INSERT INTO t VALUES ('x')"
    ),
    "18-not-null-added": _case("int", "sa.Integer, not_null=True", text=["nullable=False"]),
    "18-not-null-dropped": _case("int NOT NULL", "sa.Integer"),
    "18-all": _case(
        "int NOT NULL DEFAULT 9", 'sa.Integer, default="3", check="VALUE > 0", constraint_name="ck"'
    ),
    "18-default-and-new-column": _case(
        "int",
        "",
        models='d = pg.DOMAIN("d", sa.Integer, default="3", not_null=True)\n'
        'sa.Table("t", metadata, sa.Column("v", d), sa.Column("w", d))',
        expected=["domain d (definition)", "column t.w"],
    ),
    "18-schema": _case(
        "",
        "",
        models='sa.Table("t", metadata, sa.Column("v",'
        ' pg.DOMAIN("d", sa.Integer, schema="s", check="VALUE > 0",'
        ' constraint_name="ck", default="3")), schema="s")',
        schemas="CREATE SCHEMA s",
        revisions=['op.execute("CREATE DOMAIN s.d AS int; CREATE TABLE s.t (v s.d)")'],
        sql="INSERT INTO s.t VALUES (7)",
        env='options["include_schemas"] = True',
    ),
    "18-comment": _case(
        "int",
        _CHECKED,
        sql="COMMENT ON DOMAIN d IS 'x'",
        expected=["domain d (definition)", "domain d (comment)"],
    ),
    "18-base-type": _case(
        "int DEFAULT 3",
        'sa.BigInteger, default="3"',
        manual=True,
        text=[r"# - domain d: definition: the database has integer DEFAULT 3, the models have bigint"],
    ),
    "18-collation": _case(
        "text",
        'sa.Text, collation="C"',
        manual=True,
        text=["# - domain d: "],
        sql="INSERT INTO t VALUES ('x')",
    ),
}


@pytest.mark.parametrize("case", params(CASES))
def test_a_domain(stock: Stock, case: Case) -> None:
    stock.round_trip(case)


def test_a_check_that_rows_violate_changes_nothing(stock: Stock) -> None:
    stock.prepare(_case("int DEFAULT 4", _CHECKED, sql="INSERT INTO t VALUES (-7)"))
    stock.autogenerate()
    with pytest.raises(DBAPIError, match='column "v" of table "t" contains values that violate'):
        stock.upgrade()
    assert stock.database.execute("SELECT typdefault FROM pg_type WHERE typname = 'd'").fetchone() == ("4",)
