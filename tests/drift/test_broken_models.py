"""Models that the server cannot create in part: the object is named, and the rest is compared."""

import re

import pytest
from drift.stock import Case, Stock, params

_T = 'sa.Table("t", metadata, sa.Column("a", sa.Integer))\n'
_MADE = "op.execute('CREATE TABLE t (a int)')"
# A difference that must be found nevertheless.
_ELSE = 'sa.Table("other", metadata, sa.Column("a", sa.Integer), sa.Column("b", sa.Integer))\n'
_MADE_ELSE = "op.execute('CREATE TABLE other (a int)')"


def _broken(models: str, named: str, why: str, *expected: str) -> tuple[str, str, str, list[str]]:
    return models, named, why, [*expected, "column other.b"]


BROKEN = {
    "06-index-without-columns": _broken(
        'sa.Table("t", metadata, sa.Column("a", sa.Integer), sa.Index("i"))', r"index i on t", r"syntax error"
    ),
    "06-index-of-no-function": _broken(
        'sa.Table("t", metadata, sa.Column("a", sa.Integer), sa.Index("i", sa.text("no_such(a)")))',
        r"index i on t",
        r"no_such",
    ),
    "06-default-of-no-function": _broken(
        'sa.Table("t", metadata, sa.Column("a", sa.Integer, server_default=sa.text("no_such()")))',
        r"(table t|column t\.a)\b",
        r"no_such",
    ),
    "06-check-with-a-syntax-error": _broken(
        'sa.Table("t", metadata, sa.Column("a", sa.Integer), sa.CheckConstraint("a >", name="c"))',
        r"(table t|constraint c on t)\b",
        r"syntax error",
    ),
    "06-unknown-type": _broken(
        "class Money2(sa.types.UserDefinedType):\n"
        "    cache_ok = True\n"
        '    def get_col_spec(self, **_): return "money2"\n'
        'sa.Table("t", metadata, sa.Column("a", Money2()))',
        r"(table t|column t\.a)\b",
        r"money2",
    ),
    "06-view-over-a-missing-table": _broken(
        _T + "from sqlalchemy.sql.ddl import CreateView\n"
        'CreateView(sa.select(sa.column("x")).select_from(sa.table("missing")), "v", metadata=metadata)',
        r"view v\b",
        r"missing",
    ),
    "06-foreign-key-without-a-unique": _broken(
        _T + 'sa.Table("child", metadata, sa.Column("up", sa.ForeignKey("t.a")))',
        r"(table child|constraint \S+ on child)\b",
        r"unique constraint",
    ),
    "06-statement-of-an-event": _broken(
        _T + 'sa.event.listen(metadata, "after_create", sa.DDL("CREATE TRIGGER g no_trigger"))',
        r"CREATE TRIGGER g",
        r"syntax error",
    ),
}


@pytest.mark.parametrize(("models", "named", "why", "expected"), params(BROKEN))
def test_an_object_that_cannot_be_created_is_named(
    stock: Stock, models: str, named: str, why: str, expected: list[str]
) -> None:
    """On a line of its own. check is not clean, even if nothing else differs."""
    stock.write_models(models + "\n" + _ELSE)
    for revision in (_MADE, _MADE_ELSE):
        stock.write_revision(revision)
    stock.upgrade()
    found = stock.check()
    assert set(expected) <= set(found)
    line = next(
        line for line in [*stock.said, *stock.warned] if re.search(named, line) and "other" not in line
    )
    assert re.search(why, line), line
    assert not any("only in the database" in said for said in stock.said)  # nothing would be dropped
    text = stock.autogenerate()
    assert re.search(rf"#.*{named}.*{why}", text), text
    stock.upgrade()
    assert len(stock.check()) == len(set(found) - {"column other.b"}) > 0
    stock.downgrade()


# One constraint of a table is invalid: the rest of the table is compared.
_CHECKED = """
sa.Table("t", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.BigInteger),
    sa.CheckConstraint("a >", name="c"), sa.CheckConstraint("a > 1", name="d"), sa.UniqueConstraint("a"))
"""
_MADE_CHECKED = (
    "op.execute('CREATE TABLE t (id serial PRIMARY KEY, a int CONSTRAINT c CHECK (a > 0)"
    " CONSTRAINT d CHECK (a > 1) CONSTRAINT u UNIQUE)')"
)
# A column of a table is invalid: the whole table is not compared.
_UNKNOWN = """
class Money2(sa.types.UserDefinedType):
    cache_ok = True
    def get_col_spec(self, **_): return "money2"
sa.Table("t", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", Money2()))
sa.Table("child", metadata, sa.Column("up", sa.ForeignKey("t.id")))
"""
_MADE_UNKNOWN = """
op.create_table("t", sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Integer))
op.execute("CREATE TABLE child (up int REFERENCES t)")
"""
_TWICE = """
t = sa.Table("t", metadata, sa.Column("a", sa.Integer), sa.CheckConstraint("a > 1", name="c"))
sa.CheckConstraint(t.c.a > 1, name="d")
sa.CheckConstraint(t.c.a > 1, name="d")
"""

_EVENT = """
sa.event.listen(sa.Table("t", metadata, sa.Column("a", sa.Integer)), "after_create",
    lambda table, bind, **_: bind.exec_driver_sql("SELECT 1").scalar())
"""

# Objects made by plain SQL of revisions. The plain SQL of the models fails, but nothing is dropped.
_MADE_PLAIN = """
for text in (
    "CREATE TABLE t (a int CONSTRAINT c CHECK (a > 0))",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE VIEW v AS SELECT a FROM t",
    "CREATE TRIGGER g INSTEAD OF UPDATE ON v FOR EACH ROW EXECUTE FUNCTION f()",
    "CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
    "CREATE POLICY p ON t USING (a > 0)",
    "CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING",
    "CREATE INDEX i ON t (a)",
    "CREATE SEQUENCE s",
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE t FORCE ROW LEVEL SECURITY",
    "ALTER TABLE t ALTER a SET DEFAULT 1",
):
    op.execute(text)
"""
_FAILS = [
    "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$no$$",
    "CREATE VIEW v AS SELECT no_such FROM t",
    "CREATE TRIGGER x BEFORE UPDATE ON t EXECUTE FUNCTION no()",
    "CREATE POLICY p ON t USING(no_such)",
    "CREATE RULE r AS ON DELETE TO t DO INSTEAD no_such",
    "CREATE INDEX i ON t(no_such)",
    "CREATE SEQUENCE s INCREMENT no",
    "ALTER TABLE t ADD CONSTRAINT c CHECK(no_such)",
    "CREATE VIEW w AS SELECT public.f(1)",
]
_BLOCK = "DO $$BEGIN ALTER TABLE t ENABLE TRIGGER no_such; END$$"


def _plain(*texts: str) -> str:
    return (
        f't = sa.Table("t", metadata, sa.Column("a", sa.Integer))\nfor text in {texts!r}:\n'
        '    sa.event.listen(t, "after_create", sa.DDL(text))\n'
    )


MIXED = {
    "06-plain-sql": Case(
        _plain(*_FAILS) + _ELSE,
        revisions=[_MADE_PLAIN, _MADE_ELSE],
        expected=[*(f"statement {text}" for text in sorted(_FAILS)), "column other.b"],
        never=["drift_scratch"],
        equal=False,
        manual=True,
    ),
    "06-a-block": Case(
        _plain(
            _BLOCK,
            "CREATE INDEX i ON t (a)",
            "CREATE SEQUENCE s",
            "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0), ALTER a SET DEFAULT 1,"
            " ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        )
        + _ELSE,
        revisions=[_MADE_PLAIN, _MADE_ELSE],
        expected=[f"statement {_BLOCK}", "column other.b"],
        said=[r"not compared, because DO .* may create it: .*function f\(\), .*trigger x on t"],
        equal=False,
        manual=True,
    ),
    "06-two-at-once": Case(
        'sa.Table("t", metadata, sa.Column("a", sa.Integer),'
        ' sa.Index("i"), sa.Index("j"), sa.Index("k", "a"))',
        revisions=[_MADE],
        expected=["index i on t", "index j on t", "index k on t"],
        equal=False,
        manual=True,
    ),
    # An invalid default of a domain: SQLAlchemy accepts no number.
    "06-domain-with-a-number": Case(
        'sa.Table("t", metadata, sa.Column("a", pg.DOMAIN("d", sa.Integer, default=1)))\n' + _ELSE,
        revisions=[_MADE_ELSE],
        expected=["domain d", "table t", "column other.b"],
        said=[r"domain d\b.*default"],
        never=[r"queries the database"],
        equal=False,
        manual=True,
    ),
    "06-one-check-of-a-table": Case(
        _CHECKED,
        revisions=[_MADE_CHECKED],
        expected=["constraint c on t", "column t.a (type)"],
        equal=False,
        manual=True,
    ),
    "06-one-check-of-a-new-table": Case(
        _CHECKED + _ELSE,
        revisions=[_MADE_ELSE],
        expected=["constraint c on t", "table t", "column other.b"],
        equal=False,
        manual=True,
    ),
    # Some revisions add their constraints to the models when Alembic imports them.
    "06-one-check-twice": Case(
        _TWICE + _ELSE,
        revisions=[
            "op.execute('CREATE TABLE t (a int CONSTRAINT c CHECK (a > 1) CONSTRAINT d CHECK (a > 1))')",
            _MADE_ELSE,
        ],
        expected=["column other.b"],
        equal=False,
        never=["cannot be created"],
    ),
    "06-table-of-a-serial": Case(
        _UNKNOWN,
        revisions=[_MADE_UNKNOWN],
        expected=["table t"],
        never=["sequence"],
        equal=False,
        manual=True,
    ),
    "06-reported-once-in-two-schemas": Case(
        _UNKNOWN + 'sa.Table("t", metadata, sa.Column("a", sa.Integer), schema="s")',
        schemas="CREATE SCHEMA s",
        revisions=[_MADE_UNKNOWN, "op.execute('CREATE TABLE s.t (a bigint)')"],
        expected=["table t", "column t.a (type)"],
        equal=False,
        manual=True,
    ),
    "06-event-that-queries": Case(
        _EVENT + _ELSE,
        revisions=[_MADE, _MADE_ELSE],
        expected=["column other.b"],
        never=["cannot be created"],
    ),
}


@pytest.mark.parametrize("case", params(MIXED))
def test_the_rest_is_compared(stock: Stock, case: Case) -> None:
    stock.prepare(case)
    assert sorted(case.expected) == sorted(stock.check()), stock.said
    told = "\n".join([*stock.said, *stock.warned])
    for pattern in case.said:
        assert re.search(pattern, told), told
    for pattern in case.never:
        assert not re.search(pattern, told), told
    text = stock.autogenerate()
    stock.upgrade()
    assert stock.check() == [name for name in case.expected if f"# - {name}: cannot be created" in text]
    assert "op.drop" not in text.partition("def downgrade")[0], text
    stock.downgrade()


def test_valid_models_are_clean(stock: Stock) -> None:
    """The same project without a broken object is clean, and nothing is reported."""
    stock.write_models(_T + _ELSE)
    stock.write_revision("op.execute('CREATE TABLE t (a int); CREATE TABLE other (a int, b int)')")
    stock.upgrade()
    assert stock.check() == []
    assert stock.warned == []
