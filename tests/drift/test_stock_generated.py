"""Generated columns: a changed expression, and a change from or to a plain column."""

from typing import Any

import pytest
from drift.stock import Case, Stock, params
from marks import quick
from sqlalchemy.exc import DBAPIError

_COLUMN = "column t.c"


def _computed(expression: str, options: str = "", type_: str = "sa.Integer") -> str:
    return f'sa.Column("c", {type_}, sa.Computed("{expression}", persisted=True){options})'


def _case(made: str, column: str, *more: str, **options: Any) -> Case:
    """Return a change of the column c in a table with the columns a and b."""
    base = ['sa.Column("a", sa.Integer)', 'sa.Column("b", sa.Integer)']
    return Case(
        **{
            "models": f'sa.Table("t", metadata, {", ".join([*base, column, *more])})',
            "revisions": [f'op.execute("""CREATE TABLE t (a int, b int, {made})""")'],
            "sql": "INSERT INTO t (a, b) VALUES (1, 2), (3, NULL)",
            "expected": [f"{_COLUMN} (generated)"],
            "again": True,
            **options,
        }
    )


_STORED = "c int GENERATED ALWAYS AS (a * 2) STORED"
_INDEXES = "; CREATE INDEX i ON t (c); CREATE INDEX j ON t (a) WHERE c > 0; COMMENT ON INDEX j IS 'j'"
_ALL = _STORED + " NOT NULL UNIQUE CONSTRAINT ck CHECK (c > 0)"
_ALL_MORE = (
    'sa.UniqueConstraint("c", name="t_c_key")',
    'sa.CheckConstraint("c > 0", name="ck")',
    'sa.Index("i", "c")',
    'sa.Index("j", "a", postgresql_where=sa.text("c > 0"))',
)


def _indexed(made: str, more: str) -> list[str]:
    return [f'op.execute("""CREATE TABLE t (a int, b int, {made}){more}""")']


_VIEW = (
    "\nfrom sqlalchemy.sql.ddl import CreateView\n"
    'CreateView(sa.select(metadata.tables["t"].c.c), "w", metadata=metadata)\n'
)
EXPRESSIONS = {
    "19-expression": _case(
        _STORED, _computed("a + 5"), text=[r"op\.set_generated\('t', 'c', '\(a \+ 5\)'\)"]
    ),
    "19-expression-of-another-column": _case(_STORED, _computed("coalesce(b, 5)")),
    "19-expression-with-all": _case(
        "",
        _computed("a + 5", ", nullable=False, comment='c'"),
        *_ALL_MORE,
        revisions=_indexed(_ALL, _INDEXES + "; COMMENT ON COLUMN t.c IS 'c'"),
        expected=[f"{_COLUMN} (generated)", "index j on t (comment)"],
    ),
    "19-expression-text": _case(
        "c text GENERATED ALWAYS AS (a::text || '%x') STORED",
        _computed("a::text || 'it''s 50%:y'", type_="sa.Text"),
    ),
    "19-expression-and-type": _case(
        _STORED,
        _computed("a::bigint + 5", type_="sa.BigInteger"),
        expected=[f"{_COLUMN} (generated)", f"{_COLUMN} (type)"],
    ),
    "19-expression-of-a-new-column": _case(
        _STORED,
        'sa.Column("n", sa.Integer)',
        _computed("n + 5"),
        expected=[f"{_COLUMN} (generated)", "column t.n"],
    ),
    "19-expression-without-the-old-column": _case(
        "",
        _computed("b + 5"),
        revisions=[
            f'op.execute("""CREATE TABLE t (a int, b int, {_STORED.replace("a *", "z *")}, z int)""")'
        ],
        expected=[f"{_COLUMN} (generated)", "column t.z"],
    ),
    "19-expression-with-a-view": _case(
        "",
        "",
        models=f'sa.Table("t", metadata, sa.Column("a", sa.Integer), {_computed("a + 5")})' + _VIEW,
        revisions=[f'op.execute("""CREATE TABLE t (a int, {_STORED}); CREATE VIEW w AS SELECT c FROM t""")'],
        sql="INSERT INTO t VALUES (1)",
    ),
    "19-expression-and-not-null": _case(
        _STORED,
        _computed("a + 5", ", nullable=False"),
        expected=[f"{_COLUMN} (generated)", f"{_COLUMN} (not null)"],
    ),
    "19-expression-in-a-schema": _case(
        "",
        "",
        models=f'sa.Table("T 1", metadata, sa.Column("a", sa.Integer), {_computed("a + 5")}, schema="s")',
        schemas="CREATE SCHEMA s",
        revisions=[f"""op.execute('CREATE TABLE s."T 1" (a int, {_STORED})')"""],
        sql='INSERT INTO s."T 1" VALUES (1)',
        expected=["column T 1.c (generated)"],
        env='options["include_schemas"] = True',
    ),
}
PLAIN = {
    "19-becomes-plain": _case(
        _STORED, 'sa.Column("c", sa.Integer)', text=[r"op\.set_generated\('t', 'c', None\)"]
    ),
    "19-becomes-plain-with-default": _case(
        _STORED,
        'sa.Column("c", sa.Integer, server_default="4")',
        expected=[f"{_COLUMN} (generated)", f"{_COLUMN} (default)"],
    ),
    "19-becomes-plain-with-all": _case(
        "",
        'sa.Column("c", sa.Integer, nullable=False, comment="c")',
        *_ALL_MORE,
        revisions=_indexed(_ALL, _INDEXES + "; COMMENT ON COLUMN t.c IS 'c'"),
        expected=[f"{_COLUMN} (generated)", "index j on t (comment)"],
    ),
    "19-becomes-generated": _case(
        "c int",
        _computed("a * 2"),
        sql="INSERT INTO t VALUES (1, 2, 2), (3, NULL, 6)",
        text=[r"op\.set_generated\('t', 'c', '\(a \* 2\)'\)"],
    ),
    "19-becomes-generated-with-default": _case(
        "c int DEFAULT 4",
        _computed("a * 2"),
        sql="INSERT INTO t VALUES (1, 2, 2)",
        expected=[f"{_COLUMN} (generated)", f"{_COLUMN} (default)"],
    ),
    "19-becomes-generated-with-all": _case(
        "",
        _computed("a * 2", ", nullable=False, comment='c'"),
        *_ALL_MORE,
        revisions=_indexed(
            "c int NOT NULL UNIQUE CONSTRAINT ck CHECK (c > 0)",
            _INDEXES + "; COMMENT ON COLUMN t.c IS 'c'; ALTER TABLE t ALTER c SET STATISTICS 50;"
            " GRANT SELECT (c), INSERT (c) ON t TO pg_monitor",
        ),
        sql="INSERT INTO t VALUES (1, 2, 2), (3, NULL, 6); ALTER TABLE t ALTER c SET STATISTICS -1",
        expected=[f"{_COLUMN} (generated)", "index j on t (comment)"],
        equal=False,
    ),
    # The objects of all partitions are recreated, too, and the compression is kept.
    "19-becomes-generated-partitioned": _case(
        "",
        "",
        models='sa.Table("t", metadata, sa.Column("a", sa.Integer), sa.Column("c", sa.Text,'
        ' sa.Computed("a::text", persisted=True)), sa.UniqueConstraint("a", "c", name="once"),'
        ' sa.Index("j", "c"), postgresql_partition_by="LIST (a)")\n'
        'sa.event.listen(metadata, "after_create", sa.DDL("ALTER TABLE t ALTER c SET COMPRESSION pglz"))',
        revisions=[
            "op.execute('CREATE TABLE t (a int, c text COMPRESSION pglz) PARTITION BY LIST (a);"
            " CREATE TABLE t1 PARTITION OF t DEFAULT; CREATE INDEX j1 ON t1 (c);"
            " CREATE INDEX own ON t1 (c DESC); COMMENT ON COLUMN t1.c IS $$c$$;"
            " ALTER TABLE t1 ADD CONSTRAINT once1 UNIQUE (a, c), ALTER c SET STATISTICS 5,"
            " ALTER c SET NOT NULL; GRANT SELECT (c) ON t1 TO pg_monitor;"
            " CREATE INDEX j ON t (c); ALTER TABLE t ADD CONSTRAINT once UNIQUE (a, c)')"
        ],
        sql="INSERT INTO t VALUES (1, '1')",
        equal=False,
    ),
    "19-becomes-generated-referred": _case(
        "",
        "",
        models=f'sa.Table("t", metadata, sa.Column("a", sa.Integer), {_computed("a * 2", ", unique=True")})\n'
        'sa.Table("u", metadata, sa.Column("c", sa.Integer, sa.ForeignKey("t.c", name="f")))',
        revisions=[
            "op.execute('CREATE TABLE t (a int, c int UNIQUE);"
            " CREATE TABLE u (c int CONSTRAINT f REFERENCES t (c))')"
        ],
        sql="INSERT INTO t VALUES (1, 2); INSERT INTO u VALUES (2)",
    ),
}


@pytest.mark.parametrize("case", params(EXPRESSIONS | PLAIN))
def test_a_generated_column(stock: Stock, case: Case) -> None:
    stock.round_trip(case)


@pytest.mark.parametrize("persisted", quick(["True", "False"]))
def test_a_value_that_would_be_lost_is_counted(stock: Stock, persisted: str) -> None:
    if persisted == "False" and stock.database.info.server_version < 180_000:
        pytest.skip("virtual columns need PostgreSQL 18")
    column = f'sa.Column("c", sa.Integer, sa.Computed("a * 2", persisted={persisted}))'
    stock.prepare(_case("c int", column, sql="INSERT INTO t VALUES (1, 2, 2), (3, NULL, 7), (3, 3, NULL)"))
    stock.autogenerate()
    with pytest.raises(DBAPIError, match=r"column c of t: 1 row has a value that differs from \(a \* 2\)"):
        stock.upgrade()
    stock.database.execute("UPDATE t SET c = NULL")
    stock.upgrade()
    assert stock.check() == []
    assert stock.database.execute("SELECT c FROM t ORDER BY a, b").fetchall() == [(2,), (6,), (6,)]
    stock.downgrade()
    assert stock.database.execute("SELECT c FROM t ORDER BY a, b").fetchall() == [(2,), (6,), (6,)]


VIRTUAL = {
    "19-virtual-expression": _case(
        "c int GENERATED ALWAYS AS (a * 2) VIRTUAL", _computed("a + 5").replace("True", "False")
    ),
    "19-virtual-to-stored": _case("c int GENERATED ALWAYS AS (a * 2) VIRTUAL", _computed("a * 2")),
    "19-virtual-to-plain": _case("c int GENERATED ALWAYS AS (a * 2) VIRTUAL", 'sa.Column("c", sa.Integer)'),
    "19-stored-to-virtual": _case(_STORED, _computed("a * 2").replace("True", "False")),
}


@pytest.mark.parametrize("case", params(VIRTUAL))
def test_a_virtual_column(stock: Stock, case: Case) -> None:
    if stock.database.info.server_version < 180_000:
        pytest.skip("virtual columns need PostgreSQL 18")
    stock.round_trip(case)
