"""Triggers, rules, policies and row security of other projects: added, dropped and recreated."""

import re

import pytest
from drift.stock import Case, Stock, params

from alembic_drift.sql import as_text

_F = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"
_G = _F.replace("f()", "g()")
_T = "CREATE TABLE t (a int, b varchar(9), c text)"
_COLUMNS = 'sa.Column("a", sa.Integer), sa.Column("b", sa.String(9)), sa.Column("c", sa.Text)'
_TABLE = f'sa.Table("t", metadata, {_COLUMNS})\n'


def _code(*statements: str) -> str:
    return "".join(
        f'sa.event.listen(metadata, "after_create", sa.DDL({statement.replace("%", "%%")!r}))\n'
        for statement in statements
    )


def _op(*statements: str) -> str:
    return "\n".join(f"op.execute({as_text(statement)!r})" for statement in statements)


def _changed(
    before: list[str], after: list[str], *expected: str, base: tuple[str, ...] = (_F,), **options: object
) -> Case:
    """A table t, and its objects in the database and in the models."""
    return Case(
        _TABLE + _code(*base, *after),
        revisions=[_op(_T, *base, *before)],
        expected=expected,
        again=True,
        **options,  # type: ignore[arg-type]
    )


_ROW = "BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()"
_X = f"CREATE TRIGGER x {_ROW}"
_CONSTRAINT = (
    "CREATE CONSTRAINT TRIGGER x AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
    " EXECUTE FUNCTION f()"
)
_TABLES = (
    "CREATE TRIGGER x AFTER UPDATE ON t REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT"
    " EXECUTE FUNCTION f()"
)
_ODD = (
    'CREATE TRIGGER "My ""odd"" one: 5%" BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f(\'%:x\', \'\\\')'
)
_IN = "CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW WHEN (NEW.b IN ('k', 'l')) EXECUTE FUNCTION f()"
_OFF = "ALTER TABLE t DISABLE TRIGGER x"
_ON, _OF = "trigger x on t", "trigger x on t (definition)"

TRIGGERS = {
    "17-trigger-added": _changed([], [_X], _ON, text=[r"op\.create_trigger\(", r"op\.drop_trigger\("]),
    "17-trigger-dropped": _changed([_X], [], _ON),
    "17-trigger-changes": _changed([_X], [_X.replace("UPDATE", "UPDATE OF a")], _OF),
    "17-trigger-disabled-added": _changed([], [_X, _OFF], _ON, text=["enabled=False"]),
    "17-trigger-disabled-dropped": _changed([_X, _OFF], [], _ON),
    "17-trigger-disabled-changes": _changed(
        [_X, _OFF], [_X.replace("UPDATE", "INSERT")], _OF, "trigger x on t (enabled)"
    ),
    "17-trigger-always": _changed(
        [_X, _OFF],
        [_X, "ALTER TABLE t ENABLE ALWAYS TRIGGER x"],
        "trigger x on t (enabled)",
        text=[r"op\.alter_trigger\('x', 't', enabled='always'\)"],
    ),
    "17-trigger-odd": _changed([], [_ODD], 'trigger My "odd" one: 5% on t'),
    "17-trigger-comment": _changed(
        [_X, "COMMENT ON TRIGGER x ON t IS 'one'"],
        [_X.replace("UPDATE", "INSERT"), "COMMENT ON TRIGGER x ON t IS 'two'"],
        _OF,
        "trigger x on t (comment)",
    ),
    "17-trigger-in": _changed([], [_IN], _ON, equal=False),
    "17-trigger-transition-tables": _changed([], [_TABLES], _ON),
    "17-trigger-without-transition-tables": _changed([_TABLES], [_X], _OF),
    "17-constraint-trigger-added": _changed([], [_CONSTRAINT], _ON),
    "17-constraint-trigger-changes": _changed(
        [_CONSTRAINT], [_CONSTRAINT.replace("DEFERRED", "IMMEDIATE")], _OF
    ),
    "17-constraint-trigger-from-other": _changed([_X], [_CONSTRAINT], _OF),
    "17-constraint-trigger-to-other": _changed([_CONSTRAINT], [_X], _OF),
    "17-trigger-of-another-function": Case(
        _TABLE + _code(_G, _X.replace("f()", "g()")),
        revisions=[_op(_T), f'op.replace_function("f()", {_F!r})\n{_op(_X)}'],
        expected=["function f()", "function g()", _OF],
        again=True,
    ),
    # The column that it reads changes: the trigger is dropped before, and created after.
    "17-trigger-of-a-column-that-changes": Case(
        _TABLE.replace("String(9)", "String(20)") + _code(_F, _X.replace("UPDATE", "UPDATE OF b")),
        revisions=[_op(_T, _F, _X.replace("UPDATE", "UPDATE OF b"), "COMMENT ON TRIGGER x ON t IS NULL")],
        expected=["column t.b (type)"],
        again=True,
    ),
    "17-trigger-of-a-column-that-is-dropped": Case(
        _TABLE.replace(', sa.Column("c", sa.Text)', "") + _code(_F, _X.replace("UPDATE", "UPDATE OF b")),
        revisions=[_op(_T, _F, _X.replace("UPDATE", "UPDATE OF c"))],
        expected=["column t.c", _OF],
        again=True,
    ),
}

_RULE = "CREATE RULE x AS ON DELETE TO t DO ALSO (UPDATE t SET c = '5%:x'; NOTIFY gone)"
_RULE_OFF = "ALTER TABLE t DISABLE RULE x"
RULES = {
    "17-rule-added": _changed([], [_RULE], "rule x on t", text=[r"op\.create_rule\("]),
    "17-rule-dropped": _changed([_RULE, "COMMENT ON RULE x ON t IS 'it''s'"], [], "rule x on t"),
    "17-rule-disabled-added": _changed([], [_RULE, _RULE_OFF], "rule x on t"),
    "17-rule-disabled-changes": _changed(
        [_RULE, _RULE_OFF],
        [_RULE.replace("ALSO", "INSTEAD")],
        "rule x on t (definition)",
        "rule x on t (enabled)",
    ),
    "17-rule-enabled": _changed(
        [_RULE], [_RULE, "ALTER TABLE t ENABLE REPLICA RULE x"], "rule x on t (enabled)"
    ),
    "17-rule-of-a-column-that-changes": Case(
        _TABLE.replace("sa.Text", "sa.String(90)") + _code(_RULE),
        revisions=[_op(_T, _RULE)],
        expected=["column t.c (type)", "rule x on t (definition)"],
    ),
}

_P = "CREATE POLICY x ON t USING (b = current_user)"
_RS = "ALTER TABLE t ENABLE ROW LEVEL SECURITY"
_FRS = "ALTER TABLE t FORCE ROW LEVEL SECURITY"
_ONE = "policy x on t"
_ON_T = "table t (row security)"
POLICIES = {
    "17-policy-added": _changed(
        [], [_P, _RS], _ONE, _ON_T, text=[r"(?s)op\.create_policy\(.*op\.set_row_security\(.*def downgrade"]
    ),
    "17-policy-dropped": _changed(
        [_P, _RS, _FRS],
        [],
        _ONE,
        _ON_T,
        text=[r"(?s)op\.set_row_security\('t', enabled=False\).*op\.drop_policy\(.*def downgrade"],
    ),
    "17-policy-changes": _changed(
        [_P, "COMMENT ON POLICY x ON t IS 'it''s'"],
        ["CREATE POLICY x ON t AS RESTRICTIVE FOR INSERT TO pg_monitor WITH CHECK (c <> '5%:x')"],
        "policy x on t (comment)",
        "policy x on t (definition)",
    ),
    "17-policy-in": _changed([], ["CREATE POLICY x ON t USING (b IN ('k', 'l'))"], _ONE, equal=False),
    "17-policy-odd": _changed(
        [], ['CREATE POLICY "My ""odd"" one: 5%" ON t USING (true)'], 'policy My "odd" one: 5% on t'
    ),
    "17-policy-of-a-function": Case(
        _TABLE
        + _code(
            "CREATE FUNCTION h(int) RETURNS boolean LANGUAGE sql AS 'SELECT $1 > 0'",
            _P + " WITH CHECK (h(a))",
        ),
        revisions=[_op(_T)],
        expected=["function h(integer)", _ONE],
        again=True,
    ),
    "17-policy-of-a-function-that-changes": Case(
        _TABLE
        + _code(
            "CREATE FUNCTION h(int) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
            "CREATE POLICY x ON t USING (h(a) > 0)",
        ),
        revisions=[
            _op(
                _T,
                "CREATE FUNCTION h(int) RETURNS int LANGUAGE sql AS 'SELECT 1'",
                "CREATE POLICY x ON t USING (h(a) > 0)",
            )
        ],
        expected=["function h(integer) (definition)"],
    ),
    "17-policy-of-a-column-that-changes": Case(
        _TABLE.replace("String(9)", "String(20)") + _code("CREATE POLICY x ON t USING (b > 'a')", _RS),
        revisions=[_op(_T, "CREATE POLICY x ON t USING (b > 'a')", _RS)],
        expected=["column t.b (type)"],
        again=True,
    ),
    "17-row-security-forced": _changed([_RS], [_RS, _FRS], _ON_T),
    "17-row-security-off": _changed([_RS, _FRS], [_FRS], _ON_T),
}

_ALL = [
    _X,
    _OFF,
    _RULE,
    _RULE_OFF,
    _P,
    _RS,
    _FRS,
    *(f"COMMENT ON {kind} x ON t IS 'it''s'" for kind in ("TRIGGER", "RULE", "POLICY")),
]


def _in_schema(statement: str) -> str:
    return re.sub(r"\b(ON|TO|TABLE|UPDATE) t\b", r'\1 s."Odd t"', statement)


_KEY = "ALTER TABLE t ADD UNIQUE (a), ADD CONSTRAINT up FOREIGN KEY (a) REFERENCES t (a)"
_KEYED = _TABLE.replace(
    "sa.Text)", 'sa.Text), sa.UniqueConstraint("a"), sa.ForeignKeyConstraint(["a"], ["t.a"], name="up")'
)
_VIEW = "CREATE VIEW v AS SELECT a, b FROM t"
_OF_VIEW = "CREATE TRIGGER x INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION f()"
_RULE_OF_VIEW = "CREATE RULE y AS ON UPDATE TO v DO INSTEAD NOTHING"
_WHOLE = ["policy x on t", "rule x on t", "table t", "trigger x on t"]
WHOLES = {
    "17-new-table": Case(_TABLE + _code(_F, *_ALL), revisions=[_op(_F)], expected=_WHOLE, again=True),
    "17-new-table-and-function": Case(
        _TABLE + _code(_F, *_ALL), expected=["function f()", *_WHOLE], again=True
    ),
    "17-dropped-table": Case(_code(_F), revisions=[_op(_T, _F, *_ALL)], expected=_WHOLE, again=True),
    "17-dropped-table-and-function": Case(
        "", revisions=[_op(_T, _F, *_ALL)], expected=["function f()", *_WHOLE], again=True
    ),
    "17-new-view": _changed([], [_VIEW, _OF_VIEW, _RULE_OF_VIEW], "rule y on v", "trigger x on v", "view v"),
    "17-dropped-view": _changed(
        [_VIEW, _OF_VIEW, _RULE_OF_VIEW], [], "rule y on v", "trigger x on v", "view v"
    ),
    "17-view-recreated": Case(
        _TABLE.replace("String(9)", "String(20)") + _code(_F, _VIEW, _OF_VIEW, _RULE_OF_VIEW),
        revisions=[_op(_T, _F, _VIEW, _OF_VIEW, _RULE_OF_VIEW)],
        expected=["column t.b (type)"],
        again=True,
    ),
    "17-key-disabled": Case(
        _KEYED,
        revisions=[_op(_T, _KEY)],
        sql="ALTER TABLE t DISABLE TRIGGER ALL",
        expected=["constraint up on t (triggers)"],
        text=[r"op\.alter_constraint_triggers\('up', 't', enabled=\{\}\)"],
        again=True,
    ),
    "17-key-disabled-added": Case(
        _KEYED + _code("ALTER TABLE t DISABLE TRIGGER ALL"),
        revisions=[_op(_T, "ALTER TABLE t ADD UNIQUE (a)")],
        expected=["constraint up on t"],
        again=True,
    ),
    "17-key-disabled-dropped-with-its-table": Case(
        "",
        revisions=[_op(_T, _KEY)],
        sql="ALTER TABLE t DISABLE TRIGGER ALL",
        expected=["table t"],
    ),
    "17-key-disabled-not-a-superuser": Case(
        _KEYED,
        revisions=[_op(_T, _KEY)],
        sql="ALTER TABLE t DISABLE TRIGGER ALL; GRANT USAGE ON SCHEMA public TO pg_monitor;"
        " GRANT SELECT ON ALL TABLES IN SCHEMA public TO pg_monitor;"
        " DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO pg_monitor', current_database());"
        " EXECUTE format('ALTER DATABASE %I SET role = pg_monitor', current_database()); END $$",
        expected=["constraint up on t (triggers)"],
        text=["# - constraint up on t: triggers: "],
        manual=True,
    ),
    "17-in-a-schema": Case(
        f'sa.Table("Odd t", metadata, {_COLUMNS}, schema="s")\n' + _code(_F),
        revisions=[_op(_T.replace("TABLE t", 'TABLE s."Odd t"'), _F, *map(_in_schema, _ALL))],
        schemas="CREATE SCHEMA s",
        env='options["include_schemas"] = True',
        expected=[
            re.sub(r"\bt$", "Odd t", name) + (" (row security)" if name == "table t" else "")
            for name in _WHOLE
        ],
        again=True,
    ),
}
CASES = TRIGGERS | RULES | POLICIES | WHOLES


@pytest.mark.parametrize("case", params(CASES))
def test_objects_of_a_table(stock: Stock, case: Case) -> None:
    stock.round_trip(case)
