"""Helpers of the tests of drivers: the env.py of Alembic's own template for each, and a revision."""

import pytest
from marks import quick
from online.project import ENABLED, ENV, TEMPLATE, TESTED, env

ASYNC_TEMPLATE = TEMPLATE.parents[1] / "async" / "env.py"
ASYNC_ENABLED = dict([*ENABLED.items()][:2]) | {
    "    context.configure(connection=connection, target_metadata=target_metadata)\n": (
        "    context.configure(\n"
        "        connection=connection, target_metadata=target_metadata, transaction_per_migration=True\n"
        "    )\n"
        "    alembic_online.enable(context)\n"
    )
}
ASYNC_TESTED = dict([*TESTED.items()][:4]) | {
    "    async with connectable.connect() as connection:\n": """    for hook in given["hooks"]:
        hook(connectable.sync_engine)
    async with connectable.connect() as connection:
""",
    "def do_run_migrations(connection: Connection) -> None:\n": """def do_run_migrations(connection):
    try:
        for statement in given["before"]:
            connection.exec_driver_sql(statement)
            connection.commit()
        if given.get("begun"):
            connection.exec_driver_sql("SELECT 1")
        migrate(connection)
    finally:
        for look in given["afterwards"]:
            look(connection)

def migrate(connection):
""",
}
ASYNC_ENV = env(ASYNC_TEMPLATE, ASYNC_ENABLED, ASYNC_TESTED)

ENVIRONMENTS = {"psycopg2": ENV, "asyncpg": ASYNC_ENV}
with_each = pytest.mark.parametrize("driver", quick([*ENVIRONMENTS], "psycopg2"))

EACH_KIND = """
parent = sa.table("parent", sa.column("id", sa.Integer), sa.column("name", sa.Text))
t = sa.table("t", sa.column("Odd %name", sa.Integer))
op.execute("SET application_name = '5%: the revision''s'")
op.add_column("t", sa.Column("C: 5%", sa.Text, server_default="5%:x"))
op.create_index("T new: 5%", "t", ["Odd %name"], unique=True)
op.drop_index("t_a_idx", table_name="t")
op.bulk_insert(parent, [{"id": 11, "name": "5% :x"}, {"id": 12, "name": None}])
op.create_foreign_key("5% f", "t", "parent", ["parent_id"], ["id"])
op.add_column("t", sa.Column("u", sa.Uuid, nullable=False, server_default=sa.text("gen_random_uuid()")))
column = t.c["Odd %name"]
op.backfill(sa.update(t).values({"Odd %name": column + 100}).where(column < 100), what="5%")
named = sa.text("SELECT id FROM parent WHERE name LIKE '5%' AND name LIKE '%\\\\:x' AND id > :least")
for number in op.get_bind().execute(named, {"least": 10}).scalars().all():
    op.execute(sa.update(parent).where(parent.c.id == number).values(name=f"{number}% :x"))
"""
