"""Functions, triggers and views that the models declare as plain SQL, in any schema."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from drift.round_trip import Project, assert_round_trip
from drift.stock import Case, Stock
from drift.test_documentation import DECLARED
from marks import quick
from programs import ROOT
from sqlalchemy import DDL, event

_PLAIN = (
    "CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    "CREATE TRIGGER x BEFORE UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION app.touch()",
    "CREATE VIEW app.v AS SELECT a, app.theirs(a) AS b FROM app.t",
)
_THEIRS = "CREATE FUNCTION app.theirs(int) RETURNS int LANGUAGE sql AS 'SELECT 1'"


def _case(schema: str | None, *, table: str = "app.t", existing: bool = False) -> Case:
    """Return a table with these declarations. The view calls a function that is in no model."""
    in_schema = schema or "public"

    def named(text: str) -> str:
        return text.replace("app.", f"{in_schema}.")

    made = [
        named(text) for text in ("CREATE TABLE app.t (a int)", *(text.format("app.t") for text in _PLAIN))
    ]
    return Case(
        f"""
        t = sa.Table("t", metadata, sa.Column("a", sa.Integer), schema={schema!r})
        for text in {[named(text.format(table)) for text in _PLAIN]!r}:
            sa.event.listen(t, "after_create", sa.DDL(text))
        """,
        schemas=(f"CREATE SCHEMA {schema};" if schema else "") + named(_THEIRS),
        revisions=["\n".join(f"op.execute('''{text}''')" for text in made)] if existing else [],
        env='options["include_schemas"] = True' if schema else "",
        expected=[] if existing else ["function touch()", "table t", "trigger x on t", "view v"],
    )


_FUNCTION = "CREATE FUNCTION app.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'"
_TRIGGER = "CREATE TRIGGER {} BEFORE UPDATE ON app.t FOR EACH ROW EXECUTE FUNCTION app.f()"

_VIEWS = ["CREATE VIEW v AS SELECT 1 AS a", "CREATE VIEW w AS SELECT a FROM v"]


def _blocks(guarded: str, *, existing: bool = True, **options: Any) -> Case:
    """Return a table with triggers from DO blocks: one unconditional, one that depends on the database."""
    blocks = [
        # Other objects of the database depend on these.
        "DROP FUNCTION IF EXISTS app.f(); DROP VIEW IF EXISTS nothing, v",
        *_VIEWS,
        _FUNCTION,
        f"DO $$BEGIN {_TRIGGER.format('b')}; EXECUTE 'COMMENT ON TABLE app.t IS ''app.t'' '; END$$",
        guarded,
    ]
    made = [*_VIEWS, _FUNCTION, "CREATE TABLE app.t (a int)", *map(_TRIGGER.format, ("b", "tt"))]
    made += ["COMMENT ON TABLE app.t IS 'app.t'", "ALTER TABLE app.t ENABLE ROW LEVEL SECURITY"]
    return Case(
        f"""
        t = sa.Table("t", metadata, sa.Column("a", sa.Integer), schema="app", comment="app.t")
        for text in {blocks!r}:
            sa.event.listen(t, "after_create", sa.DDL(text.replace("%", "%%")))
        """,
        schemas="CREATE SCHEMA app",
        revisions=["\n".join(f"op.execute({text!r})" for text in made)] if existing else [],
        env='options["include_schemas"] = True',
        **options,
    )


_GUARDED = f"""DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'tt') THEN
{_TRIGGER.format("tt")}; ALTER TABLE app.t ENABLE ROW LEVEL SECURITY; END IF; END$$"""

_EARLY = "CREATE VIEW v AS SELECT t.up AS a FROM late AS t"
_IN_TIME = "CREATE VIEW w AS SELECT t.a FROM t JOIN late ON late.up = t.a"

CASES = {
    "blocks": _blocks(
        _GUARDED,
        existing=False,
        expected=["function f()", "table t", "trigger b on t", "trigger tt on t", "view v", "view w"],
    ),
    # The guard finds the trigger in the database, so the result of its block is unknown.
    "blocks-and-existing": _blocks(
        _GUARDED, said=[r"not compared, because DO .*: table t, trigger tt on t \(a plain"]
    ),
    "blocks-by-computed-names": _blocks(
        "DO $$BEGIN EXECUTE (SELECT format('SELECT %L', count(*)) FROM pg_class); END$$",
        said=[r"because DO .*: table t, trigger tt on t \("],
    ),
    # Correct in the database, but in the wrong order in the models.
    "before-its-table": Case(
        f"""
        t = sa.Table("t", metadata, sa.Column("a", sa.Integer))
        late = sa.Table("late", metadata, sa.Column("up", sa.Integer))
        sa.event.listen(t, "before_create", sa.DDL({_EARLY!r}))
        sa.event.listen(late, "after_create", sa.DDL({_IN_TIME!r}))
        """,
        revisions=[f"op.execute('CREATE TABLE t (a int); CREATE TABLE late (up int); {_EARLY}; {_IN_TIME}')"],
        expected=["view v (query)"],
        said=[r"statement CREATE VIEW v .*: it runs before table late is created"],
        equal=False,
        manual=True,
    ),
    "in-a-schema": _case("app"),
    "in-a-schema-and-existing": _case("app", existing=True),
    "table-as-sqlalchemy-writes-it": _case("app", table="%(fullname)s"),
    "with-the-default-schema": _case(None),
    "with-the-default-schema-and-existing": _case(None, existing=True),
    "of-the-page": Case(
        DECLARED,
        expected=["function set_updated_at()", "table orders", "trigger orders_updated_at on orders"],
    ),
}


@pytest.mark.parametrize("case", quick(CASES, "in-a-schema", "of-the-page", "blocks-and-existing"))
def test_plain_sql_of_the_models(stock: Stock, case: Case) -> None:
    stock.round_trip(case)


# Plain SQL adds these to a new table. Operations write them, except for objects outside of any sa.Table.
_ADDED = """
t = sa.Table("t", metadata, sa.Column("v", sa.Text), sa.Column("n", sa.Integer), sa.Index("of_model", "v"))
for text in (
    "CREATE INDEX ii ON t (lower(v)) WHERE v <> 'x'",
    "COMMENT ON INDEX ii IS 'ic'",
    "ALTER TABLE t ALTER v SET DEFAULT 'q', ALTER n SET NOT NULL",
    "COMMENT ON TABLE t IS 'tc'",
    "COMMENT ON COLUMN t.v IS 'cc'",
    "ALTER TABLE t ADD CONSTRAINT c CHECK (v <> '') NOT VALID",
):
    sa.event.listen(t, "after_create", sa.DDL(text))
"""
_UNKNOWN = """
for text in (
    "ALTER TABLE t ADD COLUMN extra int",
    "CREATE INDEX ie ON t (extra)",
    "CREATE TABLE side (id serial PRIMARY KEY)",
    "CREATE TRIGGER g BEFORE UPDATE ON side EXECUTE FUNCTION tsvector_update_trigger(a, b, c)",
):
    sa.event.listen(t, "after_create", sa.DDL(text))
"""


def test_what_plain_sql_adds_to_a_new_table(stock: Stock) -> None:
    stock.round_trip(Case(_ADDED, expected=["table t"]))
    stock.upgrade()
    assert stock.check() == []
    assert stock.warned == []  # not of the NOT VALID check, which SQLAlchemy cannot reflect


def test_plain_sql_outside_of_the_table(stock: Stock) -> None:
    """The revision that creates the table reports it for manual work. So do the next one, and check."""
    stock.write_models(_ADDED + _UNKNOWN)
    left = ["column t.extra", "index ie on t", "table side", "trigger g on side"]
    for found in ["table side", "table t", "trigger g on side"], left:
        text = stock.autogenerate()
        assert sorted(stock.found) == found
        for name in left:
            assert f"# - {name}: only in the models" in text, text
        stock.upgrade()
        assert stock.check() == left
    stock.downgrade("base")


@pytest.mark.thorough
def test_the_example_of_the_page(project: Project, copy: Any) -> None:
    [declared] = re.findall(
        r"```py\n(for statement in .*?)```", (ROOT / "docs/autogenerate.md").read_text(), re.DOTALL
    )
    model = SimpleNamespace(__table__=copy.conversation_metrics)
    exec(declared, {"ConversationMetric": model, "DDL": DDL, "event": event})
    assert_round_trip(project, [], "policy everything on conversation_metrics", "table conversation_metrics")
