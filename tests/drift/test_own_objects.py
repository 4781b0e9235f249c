"""own_objects: a pattern is the name that the output shows. A pattern without a match is reported."""

import json
import re
from typing import NamedTuple

import pytest
from drift.stock import Case, Stock, params

from alembic_drift.errors import DriftError

_MODELS = """
sa.Table("api_requests", metadata, sa.Column("id", sa.Integer))
sa.Table("orders", metadata, sa.Column("id", sa.Integer))
"""
_MADE = "op.execute('CREATE TABLE api_requests (id int); CREATE TABLE orders (id int)')"


class Own(NamedTuple):
    """An object that an operator creates, and its name in the output."""

    sql: str
    shown: str
    also: tuple[str, ...] = ()


_FUNCTION = "CREATE FUNCTION {} RETURNS {} LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$"
UNMANAGED = {
    "check": Own(
        "ALTER TABLE api_requests ADD CONSTRAINT chk_x CHECK (id > 0)", "constraint chk_x on api_requests"
    ),
    "unique": Own("ALTER TABLE orders ADD CONSTRAINT u UNIQUE (id)", "constraint u on orders"),
    "column": Own("ALTER TABLE orders ADD note text", "column orders.note"),
    "index": Own("CREATE INDEX i ON orders (id)", "index i on orders"),
    "table": Own("CREATE TABLE own (id int)", "table own"),
    "view": Own("CREATE VIEW v AS SELECT 1 AS one", "view v"),
    "materialized-view": Own("CREATE MATERIALIZED VIEW v AS SELECT 1 AS one", "materialized view v"),
    "function": Own(_FUNCTION.format("f()", "int"), "function f()"),
    "function-with-arguments": Own(_FUNCTION.format("f(a int, b text)", "int"), "function f(integer, text)"),
    "procedure": Own("CREATE PROCEDURE f() LANGUAGE plpgsql AS $$ BEGIN END $$", "procedure f()"),
    "sequence": Own("CREATE SEQUENCE s", "sequence s"),
    "type": Own("CREATE TYPE k AS ENUM ('a')", "type k"),
    "domain": Own("CREATE DOMAIN d AS int", "domain d"),
    "trigger": Own(
        _FUNCTION.format("f()", "trigger")
        + "; CREATE TRIGGER g BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION f()",
        "trigger g on orders",
        ("function f()",),
    ),
    "rule": Own("CREATE RULE r AS ON DELETE TO orders DO INSTEAD NOTHING", "rule r on orders"),
    "policy": Own("CREATE POLICY p ON orders", "policy p on orders"),
    "statistics": Own(
        "ALTER TABLE orders ADD b int; CREATE STATISTICS s ON id, b FROM orders",
        "statistics s on orders",
        ("column orders.b",),
    ),
    "quoted": Own('CREATE INDEX "An ""odd"" [one]" ON orders (id)', 'index An "odd" [one] on orders'),
}


def _prepare(stock: Stock, sql: str, patterns: object, *, by: str = "configure") -> None:
    env = f"options['own_objects'] = {patterns!r}" if by == "configure" else ""
    if by == "pyproject":
        (stock.folder / "pyproject.toml").write_text(
            f"[tool.alembic_drift]\nown_objects = {json.dumps(patterns)}\n"
        )
    stock.prepare(Case(_MODELS, revisions=[_MADE], sql=sql, env=env))


def _shows(stock: Stock, shown: str) -> list[str]:
    """Return the lines of the output that show an object."""
    return [line for line in stock.said if re.search(rf"(^|: ){re.escape(shown)}(:|$)", line)]


_WAYS = {f"12-{name}": (own, "configure") for name, own in UNMANAGED.items()} | {
    f"12-{name}-pyproject": (UNMANAGED[name], "pyproject") for name in ("check", "column")
}


@pytest.mark.parametrize(("own", "by"), params(_WAYS))
def test_the_pattern_is_what_the_line_shows(stock: Stock, own: Own, by: str) -> None:
    _prepare(stock, own.sql, [own.shown, *own.also], by=by)
    assert stock.check() == []
    assert not _shows(stock, own.shown), stock.said
    stock.env = ""
    (stock.folder / "pyproject.toml").unlink(missing_ok=True)
    stock.check()
    assert _shows(stock, own.shown), stock.said


PATTERNS = {
    "12-star": (
        "CREATE INDEX audit_1 ON orders (id); CREATE INDEX audit_2 ON orders (id)",
        "index audit_* on *",
    ),
    "12-star-of-a-table": (
        "CREATE INDEX a ON orders (id); CREATE INDEX b ON orders (id)",
        "index * on orders",
    ),
    "12-columns": ("ALTER TABLE orders ADD a int; ALTER TABLE orders ADD b int", "column orders.*"),
    "12-every-function": (
        _FUNCTION.format("f(a int)", "int") + ";" + _FUNCTION.format("g()", "int"),
        "function *",
    ),
    "12-star-checks": (
        "ALTER TABLE orders ADD CONSTRAINT chk_a CHECK (id > 0);"
        "ALTER TABLE api_requests ADD CONSTRAINT chk_b CHECK (id > 0)",
        "constraint chk_*",
    ),
}


@pytest.mark.parametrize(("sql", "pattern"), params(PATTERNS))
def test_a_pattern_with_a_star(stock: Stock, sql: str, pattern: str) -> None:
    _prepare(stock, sql, [pattern])
    assert stock.check() == []
    assert stock.said == ["No new upgrade operations detected."]
    assert stock.warned == []


UNKNOWN = {
    "12-unknown-kind": (["indx audit_*"], r"indx.*(index|kind)"),
    "12-no-kind": (["audit_*"], r"audit_\*"),
    "12-kind-alone": (["index"], r"index"),
    "12-not-a-list": ("index audit_*", r"must be a list"),
    "12-not-texts": ([1], r"must be a list"),
}


_UNKNOWN_WAYS = {name: (*given, "configure") for name, given in UNKNOWN.items()} | {
    "12-unknown-kind-pyproject": (*UNKNOWN["12-unknown-kind"], "pyproject")
}


@pytest.mark.parametrize(("patterns", "said", "by"), params(_UNKNOWN_WAYS))
def test_an_unknown_pattern_is_one_line(stock: Stock, patterns: object, said: str, by: str) -> None:
    _prepare(stock, "", patterns, by=by)
    with pytest.raises(DriftError, match=said) as raised:
        stock.check()
    assert "\n" not in str(raised.value)
    assert "own_objects" in str(raised.value)


NOTHING = {
    "12-matches-nothing": (["index gone"], "index gone"),
    "12-matches-nothing-beside": (["index i on orders", "column orders.gone"], "column orders.gone"),
    "12-old-form": (["index i on orders", "constraint orders.chk_x"], "constraint orders.chk_x"),
}


@pytest.mark.parametrize(("patterns", "unused"), params(NOTHING))
def test_a_pattern_that_matches_nothing_is_reported(stock: Stock, patterns: list[str], unused: str) -> None:
    """On one line that quotes it. check stays clean."""
    _prepare(stock, "CREATE INDEX i ON orders (id)" if len(patterns) > 1 else "", patterns)
    assert stock.check() == []
    lines = [line for line in [*stock.said, *stock.warned] if "own_objects" in line]
    assert len(lines) == 1, stock.said
    assert unused in lines[0]
    assert "index i on orders" not in lines[0]
