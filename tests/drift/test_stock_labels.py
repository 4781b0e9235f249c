"""Labels of an enumerated type: added, renamed, or added while others are dropped."""

import pytest
from drift.labels import CHANGED, CHECK, INDEX, ROWS, case, k_type, made, table
from drift.stock import Case, Stock, params
from marks import quick
from sqlalchemy.exc import DBAPIError

ADDED = {
    "17-added-last": case("a b", "a b c", text=[r"op\.add_type_label\('k', 'c', after='b'\)"]),
    "17-added-first": case("a b", "c a b", text=[r"op\.add_type_label\('k', 'c', before='a'\)"]),
    "17-added-between": case("a b", "a c b"),
    "17-added-everywhere": case("a b", "x y a z b n m"),
    "17-added-odd": case("a b", r"a b it's 50%:x \\"),
    "17-added-array": case(
        "a b", "a c b", models=table("a c b", array=True), revisions=made("a b", "v k[]"), sql=""
    ),
    # A transaction cannot use a label that it adds to a type, except in a type that it has created.
    "17-added-and-default": case(
        "a b",
        "a b c",
        models=table("a b c", ", server_default='c'"),
        expected=[CHANGED, "column t.v (default)"],
        text=[r"op\.set_type_labels\('k', \['a', 'b', 'c'\]\)"],
    ),
    "17-added-and-new-column": case(
        "a b",
        "a b c",
        models=table("a b c", "", f'sa.Column("w", {k_type("a b c")}, server_default="c", nullable=False)'),
        expected=[CHANGED, "column t.w"],
    ),
    "17-added-and-new-table": case(
        "a b",
        "a b c",
        models=table("a b c")
        + f'sa.Table("u", metadata, sa.Column("w", {k_type("a b c")}, server_default="c"))',
        expected=[CHANGED, "table u"],
    ),
    "17-added-and-array-default": case(
        "a b",
        "a b c",
        models=table("a b c", ", server_default='{b,c}'", array=True),
        revisions=made("a b", "v k[]"),
        sql="",
        expected=[CHANGED, "column t.v (default)"],
    ),
    "17-added-and-check": case(
        "a b",
        "a b c",
        models=table("a b c", "", CHECK.format("v <> 'c'")),
        expected=[CHANGED, "constraint ck on t"],
    ),
    "17-added-and-index": case(
        "a b",
        "a b c",
        models=table("a b c", "", INDEX.format('"id", postgresql_where=sa.text("v = \'c\'")')),
        expected=[CHANGED, "index i on t"],
    ),
    # A part of a literal is no use of a label, and neither is a comment.
    "17-added-and-not-used": case(
        "a b",
        "a b c",
        models=table("a b c", "", CHECK.format("id::text <> 'abc'")).replace('"ck"', '"ck", comment="\'c\'"'),
        expected=[CHANGED, "constraint ck on t"],
        text=[r"op\.add_type_label\('k', 'c', after='b'\)"],
    ),
    "17-added-in-a-schema": case(
        "a",
        "a b",
        models='sa.Table("t", metadata, sa.Column("v", sa.Enum("a", "b", name="k", schema="s")), schema="s")',
        schemas="CREATE SCHEMA s",
        revisions=["op.execute('''CREATE TYPE s.k AS ENUM ('a'); CREATE TABLE s.t (v s.k)''')"],
        sql="INSERT INTO s.t VALUES ('a')",
        env='options["include_schemas"] = True',
    ),
    "17-added-to-a-type-without-labels": case(
        "", "a b", revisions=["op.execute('CREATE TYPE k AS ENUM (); CREATE TABLE t (id int, v k)')"], sql=""
    ),
    "17-added-with-a-view": case(
        "a b",
        "a b c",
        models=table("a b c")
        + "from sqlalchemy.sql.ddl import CreateView\n"
        + 'CreateView(sa.select(metadata.tables["t"].c.v), "w", metadata=metadata)\n',
        revisions=made("a b", more="CREATE VIEW w AS SELECT v FROM t"),
    ),
}
_HINT = (
    r"dropped label '{0}' and added label '{1}' of type k: if this is a rename,"
    r" use op\.rename_type_label\('k', '{0}', '{1}'\)"
)
BOTH = {
    "17-both": case(
        "a b c",
        "a b d",
        text=["# .*" + _HINT.format("c", "d")],
        never=[r"\['a', 'b', 'd', 'c'\]", r"\['a', 'b', 'c', 'd'\]"],
    ),
    # The column blocks an exchange of the type: the upgrade drops it before, the downgrade adds it after.
    "17-both-and-generated-column-dropped": case(
        "x y z",
        "n y x",
        revisions=made("x y z", "v k, g boolean GENERATED ALWAYS AS (v = 'y') STORED"),
        sql="INSERT INTO t (v) VALUES ('x'), ('y')",
        expected=[CHANGED, "column t.g"],
    ),
    "17-both-and-default": case(
        "a b c",
        "a b d",
        models=table("a b d", ", server_default='d'"),
        revisions=made("a b c", "v k DEFAULT 'c'"),
        expected=[CHANGED, "column t.v (default)"],
        text=["# .*" + _HINT.format("c", "d")],
    ),
    "17-both-two": case(
        "x a y b",
        "X a Y b",
        text=["# .*" + _HINT.format("x", "X"), "# .*" + _HINT.format("y", "Y")],
        never=[r"'x' and added label 'Y'"],
    ),
    "17-both-elsewhere": case("a b x", "y a b", never=["is a rename"]),
    "17-both-and-reordered": case("a b c", "d b a"),
}


@pytest.mark.parametrize("change", params(ADDED | BOTH))
def test_labels(stock: Stock, change: Case) -> None:
    stock.round_trip(change)
    for pattern in change.text:
        if "is a rename" in pattern:  # also in the log when the revision is written
            assert any("if this is a rename" in line for line in stock.said_at_revision)


def test_a_label_in_use_is_not_dropped(stock: Stock) -> None:
    models = table("a", "", f'sa.Column("w", pg.ARRAY({k_type("a")}))')
    stock.prepare(Case(models, revisions=made("a b", "v k, w k[]"), sql=ROWS))
    stock.autogenerate()
    with pytest.raises(DBAPIError, match="cannot drop label b of type k: 1 row of t has it in column v"):
        stock.upgrade()
    stock.database.execute("UPDATE t SET v = 'a', w = '{a,b}'")
    with pytest.raises(DBAPIError, match="cannot drop label b of type k: 3 rows of t have it in column w"):
        stock.upgrade()
    stock.database.execute("UPDATE t SET w = NULL")
    stock.upgrade()
    assert stock.check() == []
    stock.downgrade()
    stock.upgrade()


_RENAMED = """
import alembic_drift.operations
op.rename_type_label('k', 'c', 'd')
op.rename_type_label('k', 'c', 'd')
"""


@pytest.mark.parametrize("driver", quick(["psycopg", "psycopg2"]))
def test_a_renamed_label_keeps_its_rows(stock: Stock, driver: str) -> None:
    stock.prepare(
        Case(
            table("a d b"),
            revisions=made("a c b", "v k DEFAULT 'c'"),
            sql="INSERT INTO t DEFAULT VALUES; ALTER TABLE t ALTER v DROP DEFAULT",
        )
    )
    stock.driver = driver
    stock.write_revision(_RENAMED)
    stock.upgrade()
    assert stock.check() == []
    assert stock.database.execute("SELECT v::text FROM t").fetchall() == [("d",)]
    stock.write_revision("op.rename_type_label('k', 'x', 'y')")
    with pytest.raises(DBAPIError, match="type k has no label x"):
        stock.upgrade()


def test_a_revision_can_move_rows_to_another_label(stock: Stock) -> None:
    """Between two exchanges of the type: the first adds a label, the second drops one."""
    stock.prepare(Case(table("a d"), revisions=made("a c"), sql="INSERT INTO t (v) VALUES ('c')"))
    text = stock.autogenerate()
    [file] = [path for path in (stock.scripts / "versions").glob("*.py") if path.read_text() == text]
    last = "    op.set_type_labels('k', ['a', 'd'])\n"
    up, down = text.split("def downgrade")
    assert up.count(last) == 1
    both = last.replace("'d'", "'d', 'c'")
    up = up.replace(last, f"{both}    op.execute(\"UPDATE t SET v = 'd' WHERE v = 'c'\")\n{last}")
    file.write_text(f"{up}def downgrade{down}")
    stock.upgrade()
    assert stock.check() == []
