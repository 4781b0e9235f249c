"""What the calls in a revision create, read from its source."""

from pathlib import Path

import pytest
from drift.revisions import assert_managed, chain

from alembic_drift.revisions.managed import managed_by

# The body of upgrade(): which objects are managed afterwards, and which are not.
CALLS: dict[str, tuple[str, str]] = {
    "op.create_table('t', sa.Column('id', sa.Integer, primary_key=True), sa.Column('a', sa.Text, index=True),"
    " sa.Index('by_a', 'a'))": (
        "table t; column t.id; column t.a; index t.ix_t_a; index t.by_a; sequence t_id_seq",
        "column t.b; column u.a; index t.a; sequence t_a_seq",
    ),
    "op.create_table('t', sa.Column('id', sa.BigInteger()), sa.PrimaryKeyConstraint('id'))": (
        "sequence t_id_seq",
        "",
    ),
    "op.create_table('t', sa.Column('id', sa.SmallInteger, primary_key=True, autoincrement=False))\n"
    "op.create_table('u', sa.Column('id', sa.Integer, sa.ForeignKey('t.id'), primary_key=True))\n"
    "op.create_table('v', sa.Column('id', sa.Integer, sa.Identity(), primary_key=True))\n"
    "op.create_table('w', sa.Column('a', sa.Integer, primary_key=True),"
    " sa.Column('b', sa.Integer, primary_key=True))\n"
    "op.create_table('x', sa.Column('id', sa.Text, primary_key=True))": (
        "column t.id; column u.id; column v.id; column w.a; column x.id",
        "sequence t_id_seq; sequence u_id_seq; sequence v_id_seq; sequence w_a_seq; sequence x_id_seq",
    ),
    "op.create_table('t', sa.Column('id', sa.Integer, sa.Sequence('numbers'), primary_key=True))": (
        "sequence numbers",
        "sequence t_id_seq",
    ),
    "op.create_table('t', sa.Column('a', sa.Enum('x', name='kind')),"
    " sa.Column('b', postgresql.ARRAY(postgresql.ENUM('x', name='kinds'))),"
    " sa.Column('c', postgresql.DOMAIN('code', sa.Text())),"
    " sa.Column('d', postgresql.ENUM(name='theirs', create_type=False)),"
    " sa.Column('e', sa.Enum('x', name='text', native_enum=False)))": (
        "type kind; type kinds; domain code",
        "type theirs; type text; domain kind",
    ),
    "postgresql.ENUM('a', name='kind').create(op.get_bind(), checkfirst=True)": ("type kind", "type a"),
    "op.add_column('t', sa.Column('a', sa.Text(), index=True))": ("column t.a; index t.ix_t_a", "table t"),
    "op.create_index('i', 't', ['a'], unique=True)\nop.create_index(op.f('j'), 't', [sa.text('lower(a)')])": (
        "index t.i; index t.j",
        "index t.a; column t.a",
    ),
    "op.create_index(index_name='i', table_name='t', columns=['a'])": ("index t.i", ""),
    "with op.batch_alter_table('t') as batch:\n    batch.add_column(sa.Column('a', sa.Text))\n"
    "    batch.add_column(sa.Column('b', sa.Text))\n    batch.create_index('i', ['a'])\n"
    "    batch.create_index(index_name='j', columns=['a'])\n    batch.drop_column('b')\n"
    "    batch.alter_column('a', new_column_name='c')": (
        "column t.c; index t.i; index t.j",
        "column t.a; column t.b",
    ),
    "op.create_view('v', 'SELECT 1')\nop.create_materialized_view('m', 'SELECT 1')\n"
    "op.replace_function('f(integer)', 'CREATE OR REPLACE FUNCTION f(a integer) RETURNS int')": (
        "view v; materialized view m; function f(x)",
        "view m; function f()",
    ),
    "op.replace_function('f()', 'CREATE FUNCTION f() RETURNS int')\nop.drop_function('f()')\n"
    "op.create_view('v', 'SELECT 1')\nop.drop_view('v')": ("", "function f(); view v"),
    "op.execute(sa.schema.CreateSequence(sa.Sequence('s')))": ("sequence s", ""),
    "op.execute(sa.text('CREATE TABLE t (a int)').bindparams())": ("table t; column t.a", ""),
    "op.get_bind().execute(sa.text('CREATE TABLE t (a int)'))": ("table t", ""),
    "bind = op.get_bind()\nsa.orm.Session(bind=bind).execute(sa.text('CREATE TABLE t (a int)'))": (
        "table t",
        "",
    ),
    "sa.create_engine('sqlite://').connect().execute(sa.text('CREATE TABLE t (a int)'))": ("", "table t"),
    # Dropped again, or renamed.
    "op.create_table('t', sa.Column('id', sa.Integer, primary_key=True),"
    " sa.Column('a', sa.Text, index=True))\nop.drop_table('t')": (
        "",
        "table t; column t.id; column t.a; index t.ix_t_a; sequence t_id_seq",
    ),
    "op.add_column('t', sa.Column('a', sa.Text))\nop.create_index('i', 't', ['a', 'b'])\n"
    "op.create_index('j', 't', [sa.text('lower(a)')])\nop.create_index('k', 't', ['b'])\n"
    "op.drop_column('t', 'a')": ("index t.k", "column t.a; index t.i; index t.j"),
    "op.create_index('i', 't', ['a'])\nop.drop_index('i')": ("", "index t.i"),
    "op.create_index('i', 't', ['a'])\nif exists:\n    op.drop_index('i', table_name='t')": ("", "index t.i"),
    "op.create_table('t', sa.Column('a', sa.Text, index=True))\nop.rename_table('t', 'u')": (
        "table u; column u.a; index u.ix_t_a",
        "table t; column t.a; index u.ix_u_a",
    ),
    "op.add_column('t', sa.Column('a', sa.Text))\nop.alter_column('t', 'a', new_column_name='b')": (
        "column t.b",
        "column t.a",
    ),
    "op.alter_column('t', 'a', nullable=False)": ("", "column t.a"),
    # Another schema.
    "op.create_table('t', sa.Column('a', sa.Text), schema='other')\nop.create_index('i', 't', ['a'],"
    " schema='other')\nop.execute('CREATE TABLE other.u (a int)')": (
        "",
        "table t; column t.a; index t.i; table u",
    ),
    # Constants.
    "for name, (table, columns) in {'i': ('t', ['a']), 'j': ('u', ['b'])}.items():\n"
    "    op.create_index(name, table, columns)": ("index t.i; index u.j", "index t.t"),
    "for number, name in enumerate(sorted(['b', 'a']), start=1):\n"
    "    op.add_column('t', sa.Column(f'{name}{number}', sa.Text))": (
        "column t.a1; column t.b2",
        "column t.a2",
    ),
    "names = [f'c{n}' for n in range(2)]\nnames.append('x' + 'y')\n"
    "op.create_table('t', *[sa.Column(n, sa.Text) for n in names if n != 'c0'])": (
        "column t.c1; column t.xy",
        "column t.c0",
    ),
    "op.create_index('%s_%s' % ('i', 't'), '{}'.format('t'), ['a'])": ("index t.i_t", ""),
    "for name in ('a', 'b'):\n    if name == 'a':\n        continue\n"
    "    op.add_column('t', sa.Column(name, sa.Text))": ("column t.b", "column t.a"),
    "first, *others = [sa.Column('a', sa.Text), sa.Column('b', sa.Text)]\nfor column in others:\n"
    "    op.add_column('t', column)": ("column t.b", "column t.a"),
    # Guards.
    "if not sa.inspect(op.get_bind()).has_table('t'):\n    op.create_table('t', sa.Column('a', sa.Text))": (
        "table t; column t.a",
        "",
    ),
    "try:\n    op.create_index('i', 't', ['a'])\nexcept sa.exc.ProgrammingError:\n    pass\nfinally:\n"
    "    op.create_index('j', 't', ['a'])": ("index t.i; index t.j", ""),
    "if context.is_offline_mode():\n    return\nop.create_index('i', 't', ['a'])": ("index t.i", ""),
    "wanted = {'i': 't'}\nif exists:\n    del wanted['i']\nfor name in wanted:\n"
    "    op.create_index(name, 't', ['a'])": (
        "index t.i",
        "",
    ),
    # Not known before the revision runs.
    "name = os.environ['NAME']\nop.create_index(name, 't', ['a'])\nop.create_index('i', name, ['a'])\n"
    "op.create_index(f'{name}_i', 't', ['a'])\nop.execute(f'CREATE INDEX {name} ON t (a)')": (
        "",
        "index t.name; index t.i; index t.{name}",
    ),
    "import textwrap\nop.execute(textwrap.dedent('CREATE TABLE t (a int)'))": ("table t; column t.a", ""),
    "name = 'i' if exists else 'j'\nop.create_index(name, 't', ['a'])": ("", "index t.i; index t.j"),
    "name = 'i'\nif exists:\n    name = 'j'\nop.create_index(name, 't', ['a'])": ("", "index t.i; index t.j"),
    "op.create_index('i', 't', ['a'], **options)": ("", "index t.i"),
    "found = []\nfound.extend(op.get_bind().execute(sa.text('SELECT 1')))\nop.create_index('i', 't', ['a'])\n"
    "if 'i' in found:\n    op.drop_index('i')": ("", "index t.i"),
    "found = {}\nfound[name] = 1\nop.create_index('i', 't', ['a'])\nif found.get('i') or 'i' in found:\n"
    "    op.drop_index('i')": ("", "index t.i"),
    "op.execute(open('create.sql').read())": ("", "table t"),
    "op.create_table('t', sa.Column('a', sa.Text), prefixes=['TEMPORARY'])": ("", "table t; column t.a"),
    "raise NotImplementedError\nop.create_index('i', 't', ['a'])": ("", "index t.i"),
    "name = 'j'\nmatch found:\n    case [name]:\n        op.create_index(name, 't', ['a'])\n"
    "    case _:\n        op.create_index('i', 't', ['a'])": ("index t.i", "index t.j"),
    "while True:\n    pass\nop.create_index('i', 't', ['a'])": ("index t.i", ""),
}


@pytest.mark.parametrize("body", CALLS)
def test_what_a_call_creates(tmp_path: Path, body: str) -> None:
    assert_managed(managed_by(chain(tmp_path, body)), *CALLS[body])


MODULES: dict[str, tuple[str, str]] = {
    "from alembic import op as o\ndef upgrade():\n    o.create_index('i', 't', ['a'])": ("index t.i", ""),
    "import alembic\ndef upgrade():\n    alembic.op.create_index('i', 't', ['a'])": ("index t.i", ""),
    "from alembic.op import create_index as make\ndef upgrade():\n    make('i', 't', ['a'])": (
        "index t.i",
        "",
    ),
    "op = print\ndef upgrade():\n    op.create_index('i', 't', ['a'])": ("", "index t.i"),
    "def upgrade():\n    op.create_index('i', 't', ['a'])\n"
    "def downgrade():\n    op.drop_index('i')\n    op.create_index('j', 't', ['a'])": (
        "index t.i",
        "index t.j",
    ),
    "def never():\n    op.create_index('i', 't', ['a'])\ndef upgrade():\n    pass": ("", "index t.i"),
    "NAMES: list[str] = ['i']\nTABLE = 't'\nPAIRS = {n: TABLE for n in NAMES}\n"
    "def upgrade():\n    for name, table in PAIRS.items():\n        op.create_index(name, table, ['a'])": (
        "index t.i",
        "",
    ),
    "def make(name, table='t', *, columns=('a',)):\n    op.create_index(name, table, list(columns))\n"
    "def columns():\n    return [sa.Column('a', sa.Text)]\n"
    "def upgrade():\n    make('i')\n    make(table='u', name='j')\n    op.create_table('v', *columns())": (
        "index t.i; index u.j; column v.a",
        "",
    ),
    "def columns():\n    yield sa.Column('a', sa.Text)\ndef upgrade():\n"
    "    op.create_table('t', *columns())": (
        "column t.a",
        "",
    ),
    "from elsewhere import names\ndef upgrade():\n    for name in names:\n"
    "        op.create_index(name, 't', ['a'])\n"
    "    op.create_index('i', 't', ['a'])": ("index t.i", "index t.name"),
    "def again(n):\n    again(n)\ndef upgrade():\n    again(1)\n    op.create_index('i', 't', ['a'])": (
        "index t.i",
        "",
    ),
    "from contextlib import contextmanager\n@contextmanager\ndef guard():\n"
    "    op.create_index('j', 't', ['a'])\n"
    "    yield\ndef upgrade():\n    with guard():\n        op.create_index('i', 't', ['a'])": (
        "index t.i",
        "index t.j",
    ),
}


@pytest.mark.parametrize("source", [*MODULES])
def test_what_a_module_creates(tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = chain(tmp_path, source)
    if "elsewhere" in source:  # Alembic imports the revision
        (tmp_path / "elsewhere.py").write_text("names = ['i']")
        monkeypatch.syspath_prepend(tmp_path)
    assert_managed(managed_by(script), *MODULES[source])
