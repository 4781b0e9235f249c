"""Types of other projects: the checks that they add, and enumerated types and domains of new columns."""

import pytest
from drift.stock import Case, Stock, params

_MADE = "op.execute('CREATE TABLE t (id int)')"
_ID = 'sa.Column("id", sa.Integer)'
_KIND = 'sa.Enum("a", "b", name="kind_ck", native_enum=False, create_constraint=True)'
_UNNAMED = 'sa.Enum("a", "b", native_enum=False, create_constraint=True)'
# As PostgreSQL prints it; reading this text again does not change it.
_STORED = "kind varchar(1) CONSTRAINT kind_ck CHECK (kind::text = ANY (ARRAY['a'::text, 'x'::text]))"
_YES = 'sa.Boolean(name="yes_ck", create_constraint=True)'


def _t(*columns: str) -> str:
    return f'sa.Table("t", metadata, {", ".join([_ID, *columns])})\n'


CHECKS = {
    "07-new-column": Case(
        _t(f'sa.Column("kind", {_KIND})'),
        revisions=[_MADE],
        expected=["column t.kind", "constraint kind_ck on t"],
    ),
    "07-new-column-unnamed": Case(
        _t(f'sa.Column("kind", {_UNNAMED})'),
        revisions=[_MADE],
        expected=["column t.kind", "constraint t_kind_check on t"],
    ),
    "07-new-column-boolean": Case(
        _t(f'sa.Column("yes", {_YES})'),
        revisions=[_MADE],
        expected=["column t.yes"],
    ),
    "07-new-table": Case(_t(f'sa.Column("kind", {_KIND})'), expected=["table t"]),
    "07-new-table-unnamed": Case(_t(f'sa.Column("kind", {_UNNAMED})'), expected=["table t"]),
    "07-new-table-beside-a-check": Case(
        _t(f'sa.Column("kind", {_KIND})', 'sa.Column("n", sa.Integer, sa.CheckConstraint("n > 0"))'),
        expected=["table t"],
    ),
    "07-new-table-unnamed-beside-a-check": Case(
        _t(f'sa.Column("kind", {_UNNAMED})', 'sa.CheckConstraint("id > 0")'), expected=["table t"]
    ),
    "07-changed-type": Case(
        _t(f'sa.Column("kind", {_KIND.replace("native", "length=20, native")})'),
        revisions=["op.execute('CREATE TABLE t (id int, kind varchar(10))')"],
        expected=["column t.kind (type)", "constraint kind_ck on t"],
    ),
    "07-changed-values": Case(
        _t(f'sa.Column("kind", {_KIND})'),
        revisions=[f"op.execute('''CREATE TABLE t (id int, {_STORED})''')"],
        expected=["constraint kind_ck on t (definition)"],
    ),
    "07-changed-values-and-type": Case(
        _t(f'sa.Column("kind", {_KIND.replace(chr(34) + "b", chr(34) + "long", 1)})'),
        revisions=[f"op.execute('''CREATE TABLE t (id int, {_STORED})''')"],
        expected=["column t.kind (type)", "constraint kind_ck on t (definition)"],
    ),
    "07-check-dropped": Case(
        _t('sa.Column("kind", sa.Enum("a", "b", native_enum=False))'),
        revisions=[f"op.execute('''CREATE TABLE t (id int, {_STORED})''')"],
        expected=["constraint kind_ck on t"],
    ),
    "07-column-dropped": Case(
        _t(),
        revisions=[f'op.execute("""CREATE TABLE t (id int, {_STORED})""")'],
        expected=["column t.kind", "constraint kind_ck on t"],
    ),
}


_ENUM = 'sa.Enum("a", "b", name="k")'
_PG_ENUM = 'pg.ENUM("a", "b", name="k")'
GENERATED = {
    "10-new-table": Case(_t(f'sa.Column("v", {_ENUM})'), expected=["table t", "type k"], again=True),
    "10-new-column": Case(
        _t(f'sa.Column("v", {_ENUM})'), revisions=[_MADE], expected=["column t.v", "type k"], again=True
    ),
    "10-two-tables": Case(
        f"kind = {_ENUM}\n"
        'sa.Table("t", metadata, sa.Column("v", kind))\nsa.Table("u", metadata, sa.Column("v", kind))',
        expected=["table t", "table u", "type k"],
        again=True,
    ),
    "10-two-tables-of-two-objects": Case(
        "\n".join(f'sa.Table("{name}", metadata, sa.Column("v", {_PG_ENUM}))' for name in "tu"),
        expected=["table t", "table u", "type k"],
        again=True,
    ),
    "10-table-and-column": Case(
        _t(f'sa.Column("v", {_ENUM})') + f'sa.Table("u", metadata, sa.Column("v", {_ENUM}))',
        revisions=[_MADE],
        expected=["column t.v", "table u", "type k"],
        again=True,
    ),
    "10-two-columns": Case(
        _t(f'sa.Column("v", {_ENUM})', f'sa.Column("w", {_ENUM})'),
        revisions=[_MADE],
        expected=["column t.v", "column t.w", "type k"],
        again=True,
    ),
    "10-array-in-new-column": Case(
        _t(f'sa.Column("v", sa.ARRAY({_ENUM}))'),
        revisions=[_MADE],
        expected=["column t.v", "type k"],
        again=True,
    ),
    "10-array-in-new-table": Case(
        _t(f'sa.Column("v", pg.ARRAY({_ENUM}))'), expected=["table t", "type k"], again=True
    ),
    "10-type-already-exists": Case(
        _t(f'sa.Column("v", {_ENUM})'),
        revisions=["op.execute('''CREATE TYPE k AS ENUM ('a', 'b')''')"],
        expected=["table t"],
        again=True,
    ),
    "10-domain": Case(
        _t('sa.Column("v", pg.DOMAIN("d", sa.Integer, check="VALUE > 0"))'),
        expected=["domain d", "table t"],
        again=True,
    ),
    "10-domain-in-new-column": Case(
        _t('sa.Column("v", pg.DOMAIN("d", sa.Integer, check="VALUE > 0"))'),
        revisions=[_MADE],
        expected=["column t.v", "domain d"],
        again=True,
    ),
    "10-in-a-schema": Case(
        'sa.Table("t", metadata, sa.Column("v", sa.Enum("a", name="k", schema="s")), schema="s")',
        schemas="CREATE SCHEMA s",
        expected=["table t", "type k"],
        env='options["include_schemas"] = True',
        again=True,
    ),
}


@pytest.mark.parametrize("case", params(CHECKS | GENERATED))
def test_a_type(stock: Stock, case: Case) -> None:
    stock.round_trip(case)
