"""include_object and include_name: called as Alembic calls them, for all objects that it asks about."""

import re
from typing import Any

import pytest
from drift.stock import Case, Stock, params

# A table t. The database or the models have an additional object `x` of each kind.
_T = ['sa.Column("id", sa.Integer)', 'sa.Column("a", sa.Integer)']
_P = 'sa.Table("p", metadata, sa.Column("id", sa.Integer, unique=True))\n'
_MADE = "CREATE TABLE p (id int CONSTRAINT p_id_key UNIQUE); CREATE TABLE t (id int, a int);"
_KINDS = {
    "column": ("ALTER TABLE t ADD x int", 'sa.Column("x", sa.Integer)'),
    "index": ("CREATE INDEX x ON t (a)", 'sa.Index("x", "a")'),
    "unique_constraint": ("ALTER TABLE t ADD CONSTRAINT x UNIQUE (a)", 'sa.UniqueConstraint("a", name="x")'),
    "foreign_key_constraint": (
        "ALTER TABLE t ADD CONSTRAINT x FOREIGN KEY (a) REFERENCES p (id)",
        'sa.ForeignKeyConstraint(["a"], ["p.id"], name="x")',
    ),
    "check_constraint": (
        "ALTER TABLE t ADD CONSTRAINT x CHECK (a > 0)",
        'sa.CheckConstraint("a > 0", name="x")',
    ),
    "table": ("CREATE TABLE x (id int)", ""),
}
_DIFFERENT = {
    "column": ("ALTER TABLE t ADD x text", _KINDS["column"][1]),
    "index": ("CREATE UNIQUE INDEX x ON t (a)", _KINDS["index"][1]),
    "unique_constraint": ("ALTER TABLE t ADD CONSTRAINT x UNIQUE (a, id)", _KINDS["unique_constraint"][1]),
    "foreign_key_constraint": (
        "ALTER TABLE t ADD CONSTRAINT x FOREIGN KEY (a) REFERENCES p (id) ON DELETE CASCADE",
        _KINDS["foreign_key_constraint"][1],
    ),
    "check_constraint": ("ALTER TABLE t ADD CONSTRAINT x CHECK (a > 1)", _KINDS["check_constraint"][1]),
    "table": ("CREATE TABLE x (id int, b int)", 'sa.Table("x", metadata, sa.Column("id", sa.BigInteger))'),
}
_INCLUDE = {
    "include_object": """
def include_object(object, name, type_, reflected, compare_to):
    return not (name == "x" and type_ == {kind!r})
options["include_object"] = include_object
""",
    "include_name": """
def include_name(name, type_, parent_names):
    return not (name == "x" and type_ == {kind!r})
options["include_name"] = include_name
""",
}


def _models(*items: str, table: str = "") -> str:
    return f'{_P}sa.Table("t", metadata, {", ".join([*_T, *items])})\n{table}'


def _cases() -> dict[str, Case]:
    cases = {}
    for kind, (made, modelled) in _KINDS.items():
        item = modelled if kind != "table" else ""
        table = 'sa.Table("x", metadata, sa.Column("id", sa.Integer))' if kind == "table" else ""
        base = f"op.execute('''{_MADE}''')"
        other, said = _DIFFERENT[kind]
        with_other = _models(said) if kind != "table" else _models(table=said)
        with_it = _models(*[item] if item else [], table=table)
        for include, code in _INCLUDE.items():
            env, short = code.format(kind=kind), f"03-{include}-{kind}"
            in_database = [base, f"op.execute('{made}')"]
            cases[f"{short}-database"] = Case(_models(), revisions=in_database, env=env)
            if include == "include_object":
                cases[f"{short}-models"] = Case(with_it, revisions=[base], env=env)
                cases[f"{short}-both"] = Case(with_other, revisions=[base, f"op.execute('{other}')"], env=env)
    return cases


CASES = _cases() | {
    # A protected column also protects the objects that depend on it: its index, its constraint.
    "03-column-with-its-index": Case(
        _models(),
        revisions=[f"op.execute('''{_MADE}''')", "op.execute('ALTER TABLE t ADD x int DEFAULT 1')"],
        sql="CREATE INDEX of_x ON t (x)",
        env=_INCLUDE["include_object"].format(kind="column"),
    ),
    # Another column is still compared.
    "03-the-other-is-compared": Case(
        _models(),
        revisions=[
            f"op.execute('''{_MADE}''')",
            "op.execute('ALTER TABLE t ADD x int')",
            "op.add_column('t', sa.Column('y', sa.Integer))",
        ],
        env=_INCLUDE["include_object"].format(kind="column"),
        expected=["column t.y"],
        equal=False,
        never=[r"'x'"],
    ),
    "03-protected-by-info": Case(
        _models('sa.Index("x", "a", info={"skip": True})'),
        revisions=[f"op.execute('''{_MADE}''')"],
        env='options["include_object"] = lambda object, *asked: not object.info.get("skip")',
    ),
    "03-a-schema-by-name": Case(
        _models(),
        revisions=[
            f"op.execute('''{_MADE}''')",
            "op.execute('CREATE SCHEMA s')\nop.execute('CREATE TABLE s.x (id int)')",
        ],
        env='options["include_schemas"] = True\n'
        'options["include_name"] = lambda name, type_, parents: type_ != "schema" or name is None',
    ),
}


@pytest.mark.parametrize("case", params(CASES))
def test_a_filtered_object_is_no_difference(stock: Stock, case: Case) -> None:
    stock.round_trip(case)


# Records all calls, in a project with a difference of each kind on each side.
_RECORDING = """
import sqlalchemy as sa
asked = config.attributes["asked"]
def of(item):
    table = getattr(item, "table", None)
    return None if item is None else (type(item).__name__, item.name, None if table is None else table.name)
def include_object(object, name, type_, reflected, compare_to):
    asked.append(("object", of(object), name, type_, reflected, of(compare_to)))
    return True
def include_name(name, type_, parent_names):
    asked.append(("name", name, type_, tuple(sorted(parent_names.items()))))
    return True
options.update(include_object=include_object, include_name=include_name)
options["autogenerate_plugins"] = PLUGINS
"""


def _asked(stock: Stock, *plugins: str) -> set[Any]:
    asked: list[Any] = []
    stock.env = _RECORDING.replace("PLUGINS", repr(["alembic.autogenerate.*", *plugins]))
    stock.attributes = {"asked": asked}
    stock.check()
    # The filters may also be called for an object without a difference, where Alembic calls none.
    return {question for question in asked if "p_id_key" not in question}


@pytest.mark.parametrize(
    "side", params({f"03-recorded-{side}": side for side in ("database", "models", "both")})
)
def test_the_filters_get_the_calls_that_alembic_makes(stock: Stock, side: str) -> None:
    """Exactly the calls of Alembic with its extension for check constraints."""
    kinds = {
        kind: pair for kind, pair in (_DIFFERENT if side == "both" else _KINDS).items() if kind != "table"
    }
    own = {kind: [re.sub(r"\bx\b", f"x_{kind[:3]}", text) for text in pair] for kind, pair in kinds.items()}
    in_models = [] if side == "database" else [pair[1] for pair in own.values()]
    table = "" if side == "database" else 'sa.Table("x", metadata, sa.Column("id", sa.BigInteger))'
    stock.write_models(_models(*in_models, table=table))
    stock.write_revision(f"op.execute('''{_MADE}''')")
    if side != "models":
        stock.write_revision("\n".join(f"op.execute('{pair[0]}')" for pair in own.values()))
        stock.write_revision("op.execute('CREATE TABLE x (id int)')")
    stock.upgrade()
    stocks = _asked(stock, "alembic.ext.checkconstraint_byname")
    ours = _asked(stock, "alembic_drift")
    kinds_asked = {item[3] for item in stocks if item[0] == "object"}
    if side == "both":  # Alembic considers two checks of the same name equal
        item = ("CheckConstraint", "x_che", "t")
        stocks.add(("object", item, "x_che", "check_constraint", False, item))
    assert kinds_asked | {"check_constraint"} == {*_KINDS}
    assert ours - stocks == set()
    assert stocks - ours == set()
