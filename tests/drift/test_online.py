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
