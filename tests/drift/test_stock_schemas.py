"""Schemas with names that SQL must quote: a fresh database is clean, and a change makes a round trip."""

import re
from dataclasses import replace

import pytest
from drift.round_trip import schema_of
from drift.stock import Case, Stock, params

_TABLES = """
sa.Table("t", metadata, sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("k", sa.Enum("a", "b", name="k", SCHEMA), server_default="a"),
    sa.Column("a", sa.Integer, sa.CheckConstraint("a > 0", name="positive")),
    sa.Column("up", sa.ForeignKey("PREFIXt.id")), sa.Column("u", sa.Text, unique=True, index=True), SCHEMA)
"""
# They read their own schema, for any search_path of the caller. DDL needs a doubled %.
_CODE = """
def code(statement):
    sa.event.listen(metadata, "after_create", sa.DDL(statement.replace("%", "%%")))
code('CREATE FUNCTION f() RETURNS bigint'
    ' LANGUAGE plpgsql SET search_path TO PATH AS $$ BEGIN'
    ' RETURN (SELECT count(*) FROM t); END $$')
code('CREATE VIEW v AS SELECT id, a FROM t')
"""
SCHEMAS = {
    "select": "select",
    "umlaut": "Weiß",
    "dollar": "a$b",
    "apostrophe": "it's",
    "odd": 'An "odd" one',
    "plain": "plain",
}


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _first(name: str, more: str = "", **options: object) -> Case:
    """A project with tables in the first schema of the search_path."""
    quoted = _quote(name)
    path = f"ALTER DATABASE %I SET search_path TO {quoted}".replace("'", "''")
    tables = _TABLES.replace("PREFIX", "").replace(", SCHEMA", "")
    code = _CODE.replace("", "").replace("PATH", quoted.replace("'", "\\'"))
    return Case(
        tables + code + more,
        schemas=f"CREATE SCHEMA {quoted}; SET search_path TO {quoted};"
        f"DO $$ BEGIN EXECUTE format('{path}', current_database()); END $$",
        **options,  # type: ignore[arg-type]
    )


def _named(name: str, **options: object) -> Case:
    """A project with models that name the schema of their tables."""
    quoted = _quote(name)
    tables = _TABLES.replace("PREFIXt.id", f"{name}.t.id".replace('"', '\\"')).replace(
        "SCHEMA", f"schema={name!r}"
    )
    return Case(
        tables,
        schemas=f"CREATE SCHEMA {quoted}",
        env='options["include_schemas"] = True',
        **options,  # type: ignore[arg-type]
    )


_ALL = ["function f()", "table t", "type k", "view v"]
FRESH = {f"13-first-{name}": _first(schema, expected=_ALL) for name, schema in SCHEMAS.items()} | {
    f"13-named-{name}": _named(schema, expected=["table t", "type k"])
    for name, schema in SCHEMAS.items()
    if name not in {"dollar", "apostrophe"}  # Alembic itself cannot reflect a serial in a schema "it's"
}


# CREATE FUNCTION checks the body of an SQL function, which reads the table.
FRESH["13-sql-function"] = Case(
    FRESH["13-first-plain"].models
    + "code('CREATE FUNCTION h() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM t $$')\n",
    schemas=FRESH["13-first-plain"].schemas,
    expected=sorted([*_ALL, "function h()"]),
)

# Expressions of a table, and the body of a function, name objects of its schema.
FRESH["13-names-in-a-table"] = Case(
    r"""
    function = 'CREATE FUNCTION "X y".f() RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT 1 $$'
    sa.event.listen(metadata, "before_create", sa.DDL(function))
    sa.Sequence("s", schema="X y", metadata=metadata)
    e, s = sa.Enum("a", "b", name="e", schema="X y"), 'nextval(\'"X y".s\')'
    sa.Table("t", metadata,
        sa.Column("e", e, server_default=sa.text("'a'::\"X y\".e")),
        sa.Column("f", sa.Integer, server_default=sa.text('"X y".f()')),
        sa.Column("n", sa.BigInteger, server_default=sa.text(s)),
        sa.Column("r", sa.Text, server_default=sa.text('(\'"X y"."s"\'::regclass)::text')),
        sa.CheckConstraint("e <> 'b'::\"X y\".e", name="c"),
        sa.CheckConstraint("r <> ' \"X y\".e'", name="d"),
        sa.Index("i", "f", postgresql_where=sa.text("e = CAST('a' AS \"X y\".e)")), schema="X y")
    function = 'CREATE FUNCTION "X y".g() RETURNS bigint LANGUAGE sql AS $$ SELECT count(*) FROM "X y"."t" $$'
    sa.event.listen(metadata, "after_create", sa.DDL(function))
    """,
    schemas='CREATE SCHEMA "X y"',
    env='options["include_schemas"] = True',
    expected=["function f()", "function g()", "sequence s", "table t", "type e"],
)

_ACROSS = """
t = sa.Table("t", metadata, sa.Column("a", sa.{}), schema="X y")
for text in (
    'CREATE VIEW "X y".v AS SELECT a FROM "X y".t',
    'CREATE VIEW a AS SELECT a FROM "X y".v',
    'CREATE VIEW "X y".w AS SELECT a FROM public.a',
    'CREATE VIEW v AS SELECT w.a, t.a AS b FROM "X y".w, "X y".t',
    'CREATE VIEW other AS SELECT a FROM "X y".t',
):
    sa.event.listen(metadata, "after_create", sa.DDL(text))
"""
# Views of each schema read views of the other one.
FRESH["13-views-across"] = Case(
    _ACROSS.format("BigInteger"),
    schemas='CREATE SCHEMA "X y"',
    env='options["include_schemas"] = True',
    expected=["table t", "view a", "view other", "view v", "view v", "view w"],
)


@pytest.mark.parametrize("case", params(FRESH))
def test_a_fresh_database(stock: Stock, case: Case) -> None:
    """The first revision creates all, or ``create_all`` does; check is clean after either."""
    stock.round_trip(case)


CHANGED = {
    f"13-changed-{name}": _first(
        schema,
        'sa.Table("new", metadata, sa.Column("up", sa.ForeignKey("t.id"), index=True))',
        expected=["table new"],
    )
    for name, schema in SCHEMAS.items()
}


def test_views_across_schemas(stock: Stock) -> None:
    """A changed column is read by views of another schema, and by views of those."""
    made = [*re.findall("'(CREATE.*)'", _ACROSS)]
    revision = [f"op.execute({text!r})" for text in ('CREATE TABLE "X y".t (a int)', *made)]
    fresh = FRESH["13-views-across"]
    stock.round_trip(replace(fresh, revisions=["\n".join(revision)], expected=["column t.a (type)"]))


@pytest.mark.parametrize("case", params(CHANGED))
def test_a_change_in_a_schema(stock: Stock, case: Case) -> None:
    """``create_all`` creates the schema, which changes later."""
    wanted = stock.prepare(case)
    assert wanted
    stock.write_models(case.models.partition('sa.Table("new"')[0])
    stock.create_all()
    assert stock.check() == []
    stock.write_models(case.models)
    assert stock.check() == [*case.expected]
    before = schema_of(stock.database)
    stock.autogenerate()
    stock.upgrade()
    assert stock.check() == []
    stock.downgrade()
    assert schema_of(stock.database) == before
