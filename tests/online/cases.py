"""Every operation, in a revision that changes the tables of :data:`project.BASE`."""

from typing import NamedTuple


class Case(NamedTuple):
    """The body of a revision, and its properties."""

    upgrade: str
    stalls: bool = False
    """Whether one transaction reads or writes a table under a lock that blocks others."""
    reads: bool = False
    """Whether it queries the database, which a script cannot do."""


CASES = {
    "index": Case('op.create_index("t_new_idx", "t", ["a", "id"])', stalls=True),
    "unique index": Case('op.create_index("t_new_idx", "t", ["a", "id"], unique=True)', stalls=True),
    "index, partial": Case(
        """
        op.create_index(
            "t_new_idx", "t", [sa.text("lower(b) DESC")], postgresql_where=sa.text("code LIKE 'c%:x'"),
            postgresql_include=["id"],
        )
        """,
        stalls=True,
    ),
    "index, odd names": Case('op.create_index("T new", "t", ["Odd %name"])', stalls=True),
    "index, concurrently": Case(
        'op.create_index("t_new_idx", "t", ["a"], postgresql_concurrently=True, if_not_exists=True)',
        stalls=True,
    ),
    "drop index": Case('op.drop_index("t_a_idx", table_name="t")'),
    "rename index": Case('op.rename_index("t_a_idx", "T: a 5%")'),
    "column": Case('op.add_column("t", sa.Column("c", sa.Text))'),
    "column, odd name": Case('op.add_column("t", sa.Column("C: 5%", sa.Text, server_default="5%:x"))'),
    "column, default": Case('op.add_column("t", sa.Column("c", sa.Integer, server_default="7"))'),
    "column, volatile default": Case(
        'op.add_column("t", sa.Column("c", sa.Uuid, server_default=sa.text("gen_random_uuid()")))',
        stalls=True,
    ),
    "column, volatile default, not null": Case(
        """
        op.add_column(
            "t", sa.Column("c", sa.Uuid, server_default=sa.text("gen_random_uuid()"), nullable=False)
        )
        """,
        stalls=True,
    ),
    "column, foreign key": Case(
        'op.add_column("t", sa.Column("c", sa.Integer, sa.ForeignKey("parent.id", name="t_c_fkey")))',
        stalls=True,
    ),
    "column, foreign key, default": Case(
        """
        key = sa.ForeignKey("parent.id", name="t_c_fkey", ondelete="CASCADE")
        op.add_column("t", sa.Column("c", sa.Integer, key, server_default="1"))
        """,
        stalls=True,
    ),
    "column, check": Case(
        """
        check = sa.CheckConstraint("c > 0", name="t_c_check")
        op.add_column("t", sa.Column("c", sa.Integer, check, server_default="1"))
        """,
        stalls=True,
    ),
    "column, unique": Case('op.add_column("t", sa.Column("c", sa.Integer, unique=True))', stalls=True),
    "column, index": Case('op.add_column("t", sa.Column("c", sa.Integer, index=True))', stalls=True),
    "column, not null, default": Case(
        'op.add_column("t", sa.Column("c", sa.Integer, nullable=False, server_default="0"))'
    ),
    "column, comment": Case('op.add_column("t", sa.Column("c", sa.Integer, comment="it\'s 5%"))'),
    "foreign key": Case(
        'op.create_foreign_key("t_parent_fkey", "t", "parent", ["parent_id"], ["id"])', stalls=True
    ),
    "foreign key, to itself": Case(
        """
        op.create_foreign_key(
            "t_t_fkey", "t", "t", ["a"], ["id"], onupdate="CASCADE", deferrable=True, initially="DEFERRED"
        )
        """,
        stalls=True,
    ),
    "check": Case('op.create_check_constraint("t_a_check", "t", "a > 0 AND b LIKE \'b%\'")', stalls=True),
    "unique constraint": Case('op.create_unique_constraint("t_a_key", "t", ["a", "id"])', stalls=True),
    "unique constraint, deferred": Case(
        'op.create_unique_constraint("t_a_key", "t", ["a"], deferrable=True, initially="DEFERRED")',
        stalls=True,
    ),
    "primary key": Case('op.create_primary_key("bare_pkey", "bare", ["id"])', stalls=True),
    "not null": Case('op.alter_column("t", "a", nullable=False)', stalls=True),
    "nullable": Case('op.alter_column("t", "filled", nullable=True)'),
    "server default": Case('op.alter_column("t", "a", server_default="3")'),
    "no server default": Case('op.alter_column("t", "b", server_default=None)'),
    "varchar, wider": Case('op.alter_column("t", "b", type_=sa.String(20), existing_type=sa.String(10))'),
    "varchar to text": Case('op.alter_column("t", "b", type_=sa.Text)'),
    "type, with a check": Case('op.alter_column("t", "code", type_=sa.String(9))', stalls=True),
    "column comment": Case('op.alter_column("t", "a", comment="it\'s 5%")'),
    "column, all at once": Case(
        """
        op.alter_column(
            "t", "code", type_=sa.Text, nullable=False, server_default="x", comment="more",
            existing_type=sa.String(5),
        )
        """,
        stalls=True,
    ),
    "drop column": Case('op.drop_column("child", "parent_id")'),
    "drop table": Case('op.drop_table("child")'),
    "drop foreign key": Case('op.drop_constraint("child_t_fkey", "child", type_="foreignkey")'),
    "drop check": Case('op.drop_constraint("t_code_check", "t", type_="check")'),
    "drop primary key": Case(
        """
        op.drop_constraint("child_t_fkey", "child", type_="foreignkey")
        op.drop_constraint("t_pkey", "t", type_="primary")
        """
    ),
    "table": Case(
        """
        op.create_table(
            "fresh",
            sa.Column("id", sa.Integer, sa.Identity(), primary_key=True),
            sa.Column("t_id", sa.Integer, sa.ForeignKey("t.id"), index=True),
            sa.Column("v", sa.BigInteger, sa.CheckConstraint("v > 0"), unique=True, comment="v"),
            comment="fresh",
        )
        fresh = sa.table("fresh", sa.column("id", sa.Integer), sa.column("v", sa.Integer))
        op.bulk_insert(fresh, [{"id": 8, "v": 1}, {"id": 9, "v": 2}])
        op.create_index("fresh_v_idx", "fresh", ["v"])
        """
    ),
    "table, renamed column": Case(
        """
        op.create_table("fresh", sa.Column("v", sa.Integer))
        op.bulk_insert(sa.table("fresh", sa.column("v", sa.Integer)), [{"v": 1}, {"v": 2}])
        op.alter_column("fresh", "v", new_column_name="w")
        """
    ),
    "table comment": Case('op.create_table_comment("t", "it\'s 5% :x")'),
    "no table comment": Case('op.drop_table_comment("t")'),
    "bulk insert": Case(
        """
        parent = sa.table("parent", sa.column("id", sa.Integer), sa.column("name", sa.Text))
        op.bulk_insert(parent, [{"id": 11, "name": "5% :x"}, {"id": 12, "name": None}])
        """
    ),
    "execute": Case("op.execute(\"UPDATE parent SET name = name || '%' WHERE name LIKE 'p%'\")"),
    "execute, twice": Case(
        """
        for _ in range(2):
            op.execute("INSERT INTO bare VALUES (0, 0)")
        """
    ),
    "backfill": Case(
        """
        op.add_column("t", sa.Column("c", sa.Integer))
        t = sa.table("t", *(sa.column(name, sa.Integer) for name in ("c", "id", "a")))
        op.backfill(sa.update(t).values(c=t.c.id * 2).where(t.c.c.is_(None)), what="rows of t")
        op.alter_column("t", "c", nullable=False)
        op.backfill(sa.update(t).values(a=1).where(t.c.a != 1), what="rows of t")
        """,
        stalls=True,
    ),
    "column, recreated": Case(
        """
        t = sa.table("t", sa.column("a", sa.BigInteger), sa.column("kept", sa.BigInteger))
        op.add_column("t", sa.Column("kept", sa.Integer))
        op.backfill(sa.update(t).values(kept=t.c.a).where(t.c.kept.is_(None)), what="rows kept")
        op.drop_column("t", "a")
        op.add_column("t", sa.Column("a", sa.BigInteger))
        op.backfill(sa.update(t).values(a=t.c.kept).where(t.c.a.is_(None)), what="rows brought back")
        op.drop_column("t", "kept")
        """
    ),
    "table, exchanged": Case(
        """
        op.create_table("bare_new", sa.Column("id", sa.BigInteger), sa.Column("v", sa.Integer))
        op.execute("INSERT INTO bare_new SELECT id, v FROM bare")
        op.drop_table("bare")
        op.rename_table("bare_new", "bare")
        """
    ),
    "table, recreated": Case(
        """
        op.drop_table("bare")
        op.create_table("bare", sa.Column("id", sa.BigInteger), sa.Column("v", sa.Integer))
        op.bulk_insert(sa.table("bare", sa.column("id", sa.Integer)), [{"id": 1}, {"id": 2}])
        op.alter_column("bare", "v", type_=sa.BigInteger)
        """
    ),
    "index and constraint, recreated": Case(
        """
        op.drop_index("t_a_idx", table_name="t")
        op.create_index("t_a_idx", "t", ["a", "b"])
        op.drop_constraint("t_code_check", "t", type_="check")
        op.create_check_constraint("t_code_check", "t", "code <> 'x'")
        """,
        stalls=True,
    ),
    "column, boolean with a check": Case(
        'op.add_column("t", sa.Column("c", sa.Boolean(create_constraint=True, name="t_c_boolean")))'
    ),
    "column, foreign key within": Case(
        """
        key = sa.ForeignKey("parent.id", name="not_used", ondelete="CASCADE")
        op.add_column("t", sa.Column("c", sa.Integer, key), inline_references=True)
        """,
    ),
    "collation": Case(
        """
        op.alter_column("t", "b", type_=sa.String(10, collation="C"), existing_type=sa.String(10))
        """
    ),
    "odd names": Case(
        """
        op.create_table("o%d: t", sa.Column("i%d", sa.Integer, nullable=False), sa.Column("v", sa.String(5)))
        op.bulk_insert(sa.table("o%d: t", sa.column("i%d", sa.Integer)), [{"i%d": 1}, {"i%d": 2}])
        """
    ),
    "odd names, filled": Case(
        """
        op.create_check_constraint("5% a", "t", sa.text("b <> '5%'"))
        op.create_unique_constraint("5% u", "t", ["Odd %name"])
        op.create_foreign_key("5% f", "t", "parent", ["parent_id"], ["id"])
        op.alter_column("t", "Odd %name", nullable=False, comment="5%")
        t = sa.table("t", sa.column("Odd %name", sa.Integer))
        column = t.c["Odd %name"]
        op.backfill(
            sa.update(t).values({"Odd %name": column + 100}).where(column < 100), what="5%"
        )
        op.drop_constraint("5% f", "t", type_="foreignkey")
        op.drop_constraint("5% a", "t", type_="check")
        """,
        stalls=True,
    ),
    "identity": Case(
        """
        op.alter_column("bare", "id", nullable=False, server_default=sa.Identity())
        op.alter_column("bare", "v", nullable=False)
        """,
        stalls=True,
    ),
    "rows one by one": Case(
        """
        bare = sa.table("bare", sa.column("id", sa.Integer), sa.column("v", sa.Integer))
        rows = op.get_bind().execute(sa.select(bare.c.id).where(bare.c.v % 10 != 7).order_by("id")).scalars()
        for number in rows.all():
            if number < 6:
                op.execute(sa.update(bare).where(bare.c.id == number).values(v=bare.c.v * 10 + 7))
        """,
        reads=True,
    ),
    "keys without names": Case(
        """
        op.create_foreign_key(None, "t", "parent", ["parent_id"], ["id"])
        op.create_unique_constraint(None, "t", ["a", "id"])
        op.add_column("t", sa.Column("c", sa.Integer, sa.ForeignKey("parent.id")))
        op.create_primary_key(None, "bare", ["id"])
        """,
        stalls=True,
    ),
    "batch": Case(
        """
        with op.batch_alter_table("t") as batch:
            batch.add_column(sa.Column("c", sa.Integer, server_default="1"))
            batch.create_index("t_c_idx", ["c"])
            batch.alter_column("a", nullable=False)
            batch.create_unique_constraint("t_a_key", ["a"])
            batch.create_foreign_key("t_parent_fkey", "parent", ["parent_id"], ["id"])
            batch.drop_column("filled")
        """,
        stalls=True,
    ),
}
