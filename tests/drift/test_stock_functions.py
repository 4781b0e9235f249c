"""Functions with a change that CREATE OR REPLACE cannot make."""

import pytest
from drift.stock import Case, Stock
from marks import quick

_VIEW = "CREATE VIEW v AS SELECT f(1) AS n"
_POLICY = "CREATE POLICY p ON t USING (f(id) > 0)"
_TABLE = 'sa.Table("t", metadata, sa.Column("id", sa.Integer, autoincrement=False, primary_key=True))'


def _case(before: str, after: str, *expected: str, beside: tuple[str, ...] = ()) -> Case:
    """Return a function f that differs in the models, and its callers."""
    made = ["CREATE TABLE t (id int PRIMARY KEY)"] if beside else []
    return Case(
        f"""
        {_TABLE if beside else ""}
        for text in {[_created(after), *beside]!r}:
            sa.event.listen(metadata, "after_create", sa.DDL(text))
        """,
        revisions=["\n".join(f"op.execute({text!r})" for text in [*made, _created(before), *beside])],
        expected=expected or ["function f(integer) (definition)"],
    )


def _created(text: str) -> str:
    return text if text.startswith("CREATE") else f"CREATE FUNCTION f{text} LANGUAGE sql AS 'SELECT 1'"


_INT = "(a int) RETURNS int"
_TWO = "CREATE FUNCTION f(a int, OUT b int, OUT {} int) LANGUAGE sql AS 'SELECT 1, 2'"
CASES = {
    "renamed-argument": _case(_INT, "(b int) RETURNS int"),
    "named-argument": _case("(int) RETURNS int", _INT),
    "fewer-defaults": _case("(a int DEFAULT 1) RETURNS int", _INT),
    "other-columns": _case(_TWO.format("c"), _TWO.format("d")),
    "with-what-calls-it": _case(
        _INT,
        "(a int) RETURNS bigint",
        beside=(_VIEW, _POLICY),
    ),
    "becomes-a-procedure": _case(
        _INT,
        "CREATE PROCEDURE f(a int) LANGUAGE sql AS 'SELECT 1'",
        *("function f(integer)", "procedure f(integer)"),
    ),
    "variadic": _case(
        "(VARIADIC a int[]) RETURNS int",
        "(VARIADIC b int[]) RETURNS int",
        "function f(integer[]) (definition)",
    ),
}


@pytest.mark.parametrize("case", quick(CASES, "renamed-argument", "with-what-calls-it"))
def test_a_function_is_recreated(stock: Stock, case: Case) -> None:
    stock.round_trip(case)
