"""What is no difference and causes no warning, and how differences are described."""

import pytest
from drift.stock import Case, Stock, params


def _t(*items: str) -> str:
    return f'sa.Table("t", metadata, {", ".join([_COLUMNS, *items])})\n'


_COLUMNS = 'sa.Column("a", sa.Integer), sa.Column("b", sa.Text)'
_MADE = "op.execute('CREATE TABLE t (a int, b text)')"


def _index(sql: str, items: str) -> Case:
    return Case(_t(items), revisions=[_MADE, f"op.execute('''{sql}''')"])


# Alembic says that it cannot compare these indexes; the plugin compares them.
INDEXES = {
    "14-expression": _index("CREATE INDEX i ON t (lower(b))", 'sa.Index("i", sa.text("lower(b)"))'),
    "14-operator-class": _index(
        "CREATE INDEX i ON t (b text_pattern_ops)",
        'sa.Index("i", "b", postgresql_ops={"b": "text_pattern_ops"})',
    ),
    "14-expression-operator-class": _index(
        "CREATE INDEX i ON t (lower(b) text_pattern_ops)",
        'sa.Index("i", sa.text("lower(b) text_pattern_ops"))',
    ),
    "14-expression-unique": _index(
        "CREATE UNIQUE INDEX i ON t (lower(b), a)", 'sa.Index("i", sa.text("lower(b)"), "a", unique=True)'
    ),
    "14-expression-cast": _index("CREATE INDEX i ON t ((a::text))", 'sa.Index("i", sa.text("(a::text)"))'),
    "14-expression-sorted": _index(
        "CREATE INDEX i ON t (lower(b) DESC NULLS LAST)", 'sa.Index("i", sa.text("lower(b) DESC NULLS LAST"))'
    ),
    "14-predicate": _index(
        "CREATE INDEX i ON t (a) WHERE b IS NULL", 'sa.Index("i", "a", postgresql_where=sa.text("b IS NULL"))'
    ),
    "14-gin": _index(
        "CREATE INDEX i ON t USING gin (to_tsvector('english', b))",
        'sa.Index("i", sa.text("to_tsvector(\'english\', b)"), postgresql_using="gin")',
    ),
}


@pytest.mark.parametrize("case", params(INDEXES))
def test_no_warning(stock: Stock, case: Case) -> None:
    stock.prepare(case)
    assert stock.check() == []
    assert stock.warned == []
    assert stock.said == ["No new upgrade operations detected."]


def test_no_warning_with_a_difference(stock: Stock) -> None:
    """A changed expression of an index is a difference; no warning says that it was assumed to be equal."""
    stock.prepare(
        Case(
            _t('sa.Index("i", sa.text("lower(b)"))'),
            revisions=[_MADE, "op.execute('CREATE INDEX i ON t (upper(b))')"],
        )
    )
    assert stock.check() == ["index i on t (definition)"]
    assert stock.warned == []


def test_other_warnings_of_alembic_are_kept(stock: Stock) -> None:
    """The plugin suppresses two warnings while it compares, and none of env.py or of others."""
    stock.prepare(
        Case(
            _t(),
            revisions=[_MADE],
            env="import logging; logging.getLogger('alembic.autogenerate.compare').warning('of another')",
        )
    )
    assert stock.check() == []
    assert stock.warned == ["of another"]


_TRIGGER = """
op.execute('''CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()''')
"""
_MODELLED = (
    _t() + 'sa.event.listen(metadata, "after_create", sa.DDL("""CREATE FUNCTION f() RETURNS trigger'
    " LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;"
    'CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()"""))\n'
)


def _trigger(sql: str, *said: str) -> Case:
    expected = [said[0]] if said else []
    return Case(_MODELLED, revisions=[_MADE, _TRIGGER], sql=sql, expected=expected, said=said[1:])


CASES = {
    "14-cluster": Case(
        _t('sa.Index("i", "a")'),
        revisions=[_MADE, "op.create_index('i', 't', ['a'])"],
        sql="CLUSTER t USING i",
    ),
    "14-cluster-primary-key": Case(
        'sa.Table("t", metadata, sa.Column("a", sa.Integer, primary_key=True, autoincrement=False))',
        revisions=["op.execute('CREATE TABLE t (a int PRIMARY KEY)')"],
        sql="CLUSTER t USING t_pkey",
    ),
    "14-cluster-beside": Case(
        _t('sa.Index("i", "a", unique=True)'),
        revisions=[_MADE, "op.create_index('i', 't', ['a'])"],
        sql="CLUSTER t USING i",
        expected=["index i on t (definition)"],
        equal=False,
    ),
    "14-trigger": _trigger("SELECT 1"),
    "14-trigger-disabled": _trigger(
        "ALTER TABLE t DISABLE TRIGGER g",
        "trigger g on t (enabled)",
        r"trigger g on t.*database has disabled.*models have enabled",
    ),
    "14-trigger-always": _trigger(
        "ALTER TABLE t ENABLE ALWAYS TRIGGER g",
        "trigger g on t (enabled)",
        r"trigger g on t.*database has .*always",
    ),
    "14-trigger-replica": _trigger(
        "ALTER TABLE t ENABLE REPLICA TRIGGER g",
        "trigger g on t (enabled)",
        r"trigger g on t.*database has .*replica",
    ),
}


@pytest.mark.parametrize("case", params(CASES))
def test_what_is_reported(stock: Stock, case: Case) -> None:
    stock.round_trip(case)
