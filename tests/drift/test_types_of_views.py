"""Enumerated types and domains of columns that a view returns, too."""

import pytest
from drift.stock import Case, Stock, params

_ENUM = 'sa.Enum("a", "b", name="mood")'
_DOMAIN = 'pg.DOMAIN("positive", sa.Integer)'
_VIEW = 'CreateView(sa.select(t.c.kind), "kinds", metadata=metadata)'


def _models(kind: str, *more: str) -> str:
    table = f't = sa.Table("t", metadata, sa.Column("id", sa.Integer), sa.Column("kind", {kind}))'
    return "\n".join(["from sqlalchemy.schema import CreateView", table, *more])


def _made(*statements: str) -> list[str]:
    return ["\n".join(f"op.execute({statement!r})" for statement in statements)]


_TYPE = "CREATE TYPE mood AS ENUM ('a', 'b')"
CASES = {
    "20-enum": Case(
        _models(_ENUM, _VIEW),
        revisions=_made("CREATE TABLE t (id int)"),
        expected=["column t.kind", "type mood", "view kinds"],
    ),
    "20-view-of-an-enum": Case(
        _models(_ENUM, _VIEW),
        revisions=_made(_TYPE, "CREATE TABLE t (id int, kind mood)"),
        expected=["view kinds"],
    ),
    "20-domain": Case(
        _models(_DOMAIN, _VIEW),
        revisions=_made("CREATE TABLE t (id int)"),
        expected=["column t.kind", "domain positive", "view kinds"],
    ),
    "20-view-of-a-domain": Case(
        _models(_DOMAIN, _VIEW),
        revisions=_made("CREATE DOMAIN positive AS int", "CREATE TABLE t (id int, kind positive)"),
        expected=["view kinds"],
    ),
}


@pytest.mark.parametrize("case", params(CASES))
def test_a_view_of_a_type(stock: Stock, case: Case) -> None:
    stock.round_trip(case)
