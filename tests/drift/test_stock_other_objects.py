"""Other objects of other projects: types in separate schemas, variants, grants, partitions."""

import pytest
from drift.stock import Case, Stock, params

_T = 'sa.Table("t", metadata, sa.Column("id", sa.Integer, primary_key=True), MORE)\n'
_MADE = "op.execute('CREATE TABLE t (id serial PRIMARY KEY MORE)')"
_ENUM = 'sa.Column("e", sa.Enum("x", "y", name="e", schema="s"))'
_IN_S = "CREATE SCHEMA s; CREATE TYPE s.e AS ENUM ('x', 'y')"
_VIEW = """
from sqlalchemy.schema import CreateView
t = sa.Table("t", metadata, sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Text))
CreateView(sa.select(t.c.a), "v", metadata=metadata)
"""
_MADE_VIEW = (
    "op.execute('CREATE TABLE t (id serial PRIMARY KEY, a integer)')\n"
    "op.execute('CREATE VIEW v AS SELECT a FROM t')"
)
_HIDES = """
def include_object(object, name, type_, reflected, compare_to):
    return not (name or "").startswith("keep")
options["include_object"] = include_object
"""
_LEAVES_OUT = """
def include_name(name, type_, parent_names):
    return type_ != "schema" or name is None
options["include_name"] = include_name
options["include_schemas"] = True
"""

CASES = {
    # A schema in which the models have a type or a sequence, but no table.
    "type-of-a-schema": Case(
        _T.replace("MORE", _ENUM), schemas=_IN_S, revisions=[_MADE.replace("MORE", ", e s.e")]
    ),
    "label-of-a-schema": Case(
        _T.replace("MORE", _ENUM.replace('"y"', '"y", "z"')),
        schemas=_IN_S,
        revisions=[_MADE.replace("MORE", ", e s.e")],
        expected=["type e (definition)"],
        equal=False,
        manual=True,
    ),
    "sequence-of-a-schema": Case(
        _T.replace(", MORE", "") + 'sa.Sequence("q", schema="s", metadata=metadata)',
        schemas="CREATE SCHEMA s",
        revisions=[_MADE.replace("MORE", "")],
        expected=["sequence q"],
    ),
    "type-of-two-metadatas": Case(
        'other = sa.MetaData()\nsa.Table("u", other, sa.Column("id", sa.Integer), '
        f"{_ENUM})\n{_T.replace('MORE', _ENUM)}",
        env='import runpy\noptions["target_metadata"] = [target_metadata, '
        'runpy.run_path(config.attributes["models"])["other"]]',
        schemas=_IN_S,
        revisions=[_MADE.replace("MORE", ", e s.e"), "op.execute('CREATE TABLE u (id integer, e s.e)')"],
    ),
    "schema-left-out": Case(
        _T.replace("MORE", 'schema="s"'),
        schemas="CREATE SCHEMA s; CREATE TABLE s.t (id serial PRIMARY KEY)",
        env=_LEAVES_OUT,
        expected=["table s.t"],
        equal=False,
        manual=True,
    ),
    "variant-of-a-new-table": Case(
        _T.replace("MORE", 'sa.Column("e", sa.String(5).with_variant(sa.Enum("k", name="e"), "postgresql"))'),
        expected=["table t", "type e"],
    ),
    "decorated-array-of-a-new-table": Case(
        "class Many(sa.types.TypeDecorator):\n    impl = sa.ARRAY(sa.Enum('k', name='e'))\n"
        "    cache_ok = True\n" + _T.replace("MORE", 'sa.Column("e", Many)'),
        expected=["table t", "type e"],
    ),
    # Objects that are dropped or recreated with another one, and what the downgrade creates.
    "view-with-grants": Case(
        _T.replace("MORE", 'sa.Column("a", sa.Integer)'),
        revisions=[_MADE_VIEW, "op.execute('CREATE SEQUENCE s')"],
        sql="GRANT SELECT ON v TO PUBLIC; GRANT USAGE ON SEQUENCE s TO PUBLIC",
        expected=["sequence s", "view v"],
        text=[
            "# view v: a downgrade creates it without its privileges: SELECT to public",
            "# sequence s: a downgrade creates it without its privileges: USAGE to public",
        ],
        manual=True,
    ),
    "view-with-options": Case(
        _VIEW,
        revisions=[_MADE_VIEW],
        sql="ALTER VIEW v SET (security_barrier)",
        expected=["column t.a (type)", "view v (storage parameters)"],
    ),
    "type-of-a-materialized-view": Case(
        'E = sa.Enum("a", "b", name="e", metadata=metadata)\n'
        + _T.replace("MORE", 'sa.Column("e", E)')
        + 'v = sa.DDL("CREATE MATERIALIZED VIEW v AS SELECT e FROM t")\n'
        + 'sa.event.listen(metadata, "after_create", v)',
        revisions=[
            'op.execute("""CREATE TYPE e AS ENUM (\'a\'); CREATE TABLE t (id serial PRIMARY KEY, e e);'
            ' CREATE MATERIALIZED VIEW v AS SELECT e FROM t""")'
        ],
        expected=["type e (definition)"],
    ),
    "defaults-of-a-view": Case(
        _VIEW
        + """
for text in ("CREATE VIEW w AS SELECT id, a FROM t", "ALTER VIEW w ALTER id SET DEFAULT 7",
        "ALTER VIEW v ALTER a SET DEFAULT 'x:y'"):
    sa.event.listen(metadata, "after_create", sa.DDL(text))
""",
        revisions=[_MADE_VIEW],
        sql="ALTER VIEW v ALTER a SET DEFAULT 5",
        expected=["column t.a (type)", "column v.a (default)", "view w"],
    ),
    "default-of-a-view-that-stays": Case(
        _VIEW
        + """sa.event.listen(metadata, "after_create", sa.DDL("ALTER VIEW v ALTER a SET DEFAULT 'x'"))""",
        revisions=[_MADE_VIEW.replace("integer", "text")],
        expected=["column v.a (default)"],
    ),
    "protected-with-its-column": Case(
        _T.replace(", MORE", ""),
        revisions=[
            "op.create_table('t', sa.Column('id', sa.Integer, primary_key=True), sa.Column('a', sa.Text))"
        ],
        sql="CREATE INDEX keep_i ON t (a); ALTER TABLE t ADD CONSTRAINT keep_u UNIQUE (a)",
        env=_HIDES,
        expected=["column t.a"],
        text=[
            "# - index keep_i on t: .*dropped together with column t.a",
            "# - constraint keep_u on t: .*column t.a",
        ],
        manual=True,
    ),
    "partitioned-dropped": Case(
        _T.replace(", MORE", ""),
        revisions=[
            _MADE.replace("MORE", ""),
            "op.execute('CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)')",
        ],
        expected=["table p"],
        text=["postgresql_partition_by='RANGE \\(id\\)'"],
    ),
    "partitions-dropped": Case(
        _T.replace(", MORE", ""),
        revisions=[
            _MADE.replace("MORE", ""),
            "op.execute('CREATE TABLE p (id int PRIMARY KEY) PARTITION BY RANGE (id)')",
        ],
        sql="CREATE TABLE p1 PARTITION OF p DEFAULT",
        expected=["table p"],
        text=["# - table p: its partitions p1 are dropped with it"],
        manual=True,
    ),
    "not-null-of-a-domain": Case(
        _T.replace(", MORE", ""),
        schemas="CREATE DOMAIN d AS integer NOT NULL",
        revisions=[
            "op.create_table('t', sa.Column('id', sa.Integer, primary_key=True))\n"
            "op.execute('ALTER TABLE t ADD COLUMN a d')"
        ],
        expected=["column t.a"],
    ),
    "character-type-of-a-collation": Case(
        'sa.event.listen(metadata, "after_create",'
        " sa.DDL(\"CREATE COLLATION c (lc_collate = 'C', lc_ctype = 'POSIX')\"))\n",
        sql="CREATE COLLATION c (lc_collate = 'C', lc_ctype = 'C')",
        expected=["collation public.c (definition)"],
        equal=False,
        manual=True,
    ),
}


@pytest.mark.parametrize("case", params(CASES))
def test_another_object(stock: Stock, case: Case) -> None:
    stock.round_trip(case)
