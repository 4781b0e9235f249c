"""Functions, triggers and views that the models declare as plain SQL, in whichever schema it names."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
from drift.circle import Project, go_round
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


def _case(schema: str | None, *, table: str = "app.t", there: bool = False) -> Case:
    """Return a table with what is declared beside it; the view calls a function that no model has."""
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
        revisions=["\n".join(f"op.execute('''{text}''')" for text in made)] if there else [],
        env='options["include_schemas"] = True' if schema else "",
        expected=[] if there else ["function touch()", "table t", "trigger x on t", "view v"],
    )


CASES = {
    "in-a-schema": _case("app"),
    "in-a-schema-and-there": _case("app", there=True),
    "table-as-sqlalchemy-writes-it": _case("app", table="%(fullname)s"),
    "with-the-default-schema": _case(None),
    "with-the-default-schema-and-there": _case(None, there=True),
    "of-the-page": Case(
        DECLARED,
        expected=["function set_updated_at()", "table orders", "trigger orders_updated_at on orders"],
    ),
}


@pytest.mark.parametrize("case", quick(CASES, "in-a-schema", "of-the-page"))
def test_plain_sql_of_the_models(stock: Stock, case: Case) -> None:
    stock.circle(case)


@pytest.mark.thorough
def test_what_the_readme_declares(project: Project, copy: Any) -> None:
    [declared] = re.findall(r"```py\n(for statement in .*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    model = SimpleNamespace(__table__=copy.conversation_metrics)
    exec(declared, {"ConversationMetric": model, "DDL": DDL, "event": event})
    go_round(project, [], "policy everything on conversation_metrics", "table conversation_metrics")
