"""The plugin's operations in an online run: those that read or write all rows of a table are refused."""

import pytest
from drift.labels import made, table
from drift.stock import Case, Stock
from marks import quick

from alembic_online import RefusedError

_ONLINE = 'options["transaction_per_migration"] = True\nimport alembic_online\n'
_REFUSED = {
    "labels": "op.set_type_labels('k', ['a'])",
    "generated": "op.set_generated('t', 'id', '1')",
    "domain check": "op.create_domain_check('ck', 'd', 'CHECK (VALUE > 0)')",
    "domain not null": "op.alter_domain('d', nullable=False)",
}


def online(stock: Stock) -> None:
    stock.prepare(
        Case(
            table("a b"),
            revisions=made("a b", "v k, n d").copy(),
            schemas="CREATE DOMAIN d AS int",
            env=_ONLINE,
        )
    )
    env = stock.scripts / "env.py"
    text = env.read_text()
    assert text.count("        with context.begin_transaction():\n") == 1
    env.write_text(
        text.replace(
            "        with context.begin_transaction():\n",
            "        alembic_online.enable(context)\n        with context.begin_transaction():\n",
        )
    )
    stock.attributes["online"] = "true"


@pytest.mark.parametrize("operation", quick(_REFUSED, *_REFUSED))
def test_an_operation_on_all_rows_is_refused_unless_the_table_is_empty(stock: Stock, operation: str) -> None:
    online(stock)
    stock.database.execute("INSERT INTO t VALUES (1, 'a', 1)")
    stock.write_revision(f"import alembic_drift.operations\n{operation}")
    with pytest.raises(RefusedError, match="all rows of t under a lock.*(later revision|NOT VALID)"):
        stock.upgrade()
    stock.database.execute("DELETE FROM t")
    stock.upgrade()


def test_a_label_is_added_and_used_immediately(stock: Stock) -> None:
    online(stock)
    stock.database.execute("INSERT INTO t VALUES (1, 'a', 1)")
    stock.write_revision(
        "import alembic_drift.operations\n"
        "op.add_type_label('k', 'c', before='b')\n"
        "op.alter_column('t', 'v', server_default='c')"
    )
    stock.upgrade()
    stock.database.execute("INSERT INTO t (id) VALUES (2)")
    assert stock.database.execute("SELECT v::text FROM t ORDER BY id").fetchall() == [("a",), ("c",)]


PLAN = """\
upgrade r1 -> r2, Manual.
  CREATE TYPE "mood" AS ENUM ('low', 'high')
      -- no table lock: nobody waits
  add column t.m; not known: it cannot be tried before earlier operations of the revision (type "mood" does not exist)
      ALTER TABLE t ADD COLUMN m mood DEFAULT 'low'
      -- ACCESS EXCLUSIVE on t: everybody waits, briefly; whether it rewrites the table is not known
  CREATE OR REPLACE VIEW "seen" AS SELECT id FROM t
      CREATE OR REPLACE VIEW "seen" AS
      SELECT id
      FROM t
      -- no table lock: nobody waits
  CREATE OR REPLACE FUNCTION f
      CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql
      AS $$ SELECT 1 $$
      -- no table lock: nobody waits
  COMMENT ON TABLE t IS 'long enough to be cut in a title, because it has many words'
      -- SHARE UPDATE EXCLUSIVE on t: nobody waits
  ALTER TABLE "t" RENAME CONSTRAINT "t_pkey" TO "t_key"
      -- ACCESS EXCLUSIVE on "t": everybody waits, briefly
  ALTER TYPE "k" RENAME VALUE 'b' TO 'z'
      -- no table lock: nobody waits
1 revision, 7 steps: 7 brief statements"""  # noqa: E501 - as it is printed


def test_a_plan_names_what_the_operations_do(stock: Stock) -> None:
    online(stock)
    stock.attributes["online"] = "plan"
    stock.database.execute("INSERT INTO t VALUES (1, 'a', 1)")
    stock.write_revision(
        """\
import alembic_drift.operations
from sqlalchemy.dialects import postgresql
op.create_type('mood', "ENUM ('low', 'high')")
op.add_column('t', sa.Column('m', postgresql.ENUM(name='mood', create_type=False), server_default='low'))
op.create_view('seen', 'SELECT id\\nFROM t')
op.replace_function('f()', 'CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql\\nAS $$ SELECT 1 $$')
op.execute("COMMENT ON TABLE t IS 'long enough to be cut in a title, because it has many words'")
op.rename_constraint('t', 't_pkey', 't_key')
op.rename_type_label('k', 'b', 'z')"""
    )
    stock.upgrade()
    assert "\n".join(stock.said) == PLAN
