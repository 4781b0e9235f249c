"""Changes of the models, and what autogenerate adds around its operations for them."""

from typing import NamedTuple


class Case(NamedTuple):
    """A change of the models, and what autogenerate adds to the revision for it."""

    code: str
    """Code that changes ``metrics``, the table conversation_metrics, or adds objects to the models."""
    verify: str = ""
    refuse: str = ""
    kept: str = ""
    """SQL for data that does not prevent a downgrade."""
    lost: str = ""
    """SQL for data that the downgrade refuses to lose."""
    said: str = ""


ROW = "INSERT INTO conversation_metrics (user_id) VALUES ('a'), ('b')"

CASES = {
    "table": Case(
        """
        sa.Table(
            "order",
            Base.metadata,
            sa.Column("id", sa.Uuid, primary_key=True),
            sa.Column("name", sa.String(50), nullable=False, index=True),
            sa.Column("metric", sa.ForeignKey(metrics.c.id)),
            sa.UniqueConstraint("name"),
        )
        """,
        """
        verify(
            "order",
            columns=[
                sa.Column("id", sa.Uuid(), nullable=False),
                sa.Column("name", sa.String(length=50), nullable=False),
                sa.Column("metric", sa.Uuid(), nullable=True),
            ],
            indexes=["order_name_idx"],
            constraints=["order_metric_fkey", "order_name_key", "order_pkey"],
        )
        """,
        """
        refuse_data_loss('"order"', "rows of order", 'FROM "order"')
        """,
        lost="INSERT INTO \"order\" VALUES (gen_random_uuid(), 'x'), (gen_random_uuid(), 'y')",
        said="rows of order, 2 in all",
    ),
    "column": Case(
        'metrics.append_column(sa.Column("region", sa.String(20)))',
        """
        verify("conversation_metrics", columns=[sa.Column("region", sa.String(length=20), nullable=True)])
        """,
        """
        refuse_data_loss(
            "conversation_metrics",
            "values of conversation_metrics.region",
            "FROM conversation_metrics WHERE region IS NOT NULL",
        )
        """,
        kept=ROW,
        lost="UPDATE conversation_metrics SET region = 'r' WHERE user_id = 'a'",
        said="values of conversation_metrics.region, 1 in all",
    ),
    "columns with defaults": Case(
        """
        metrics.append_column(sa.Column("js", sa.JSON, nullable=False, server_default="{}"))
        metrics.append_column(
            sa.Column("weight", sa.Float, nullable=False, server_default=sa.text("0.5"))
        )
        metrics.append_column(sa.Column("twice", sa.Integer, sa.Computed("record_ms * 2")))
        """,
        """
        verify(
            "conversation_metrics",
            columns=[
                sa.Column("js", sa.JSON(), nullable=False),
                sa.Column("weight", sa.Float(), nullable=False),
                sa.Column("twice", sa.Integer(), nullable=True),
            ],
        )
        """,
        """
        refuse_data_loss(
            "conversation_metrics",
            "values of conversation_metrics.weight",
            "FROM conversation_metrics WHERE weight <> 0.5",
        )
        refuse_data_loss(
            "conversation_metrics",
            "values of conversation_metrics.js",
            "FROM conversation_metrics WHERE CAST(js AS text) <> CAST('{}' AS text)",
        )
        """,
        kept=f"{ROW}; UPDATE conversation_metrics SET record_ms = 1",
        lost="""UPDATE conversation_metrics SET js = '{"a": 1}'""",
        said="values of conversation_metrics.js, 2 in all",
    ),
    "column with default now()": Case(
        'metrics.append_column(sa.Column("seen", sa.DateTime, server_default=sa.func.now()))',
        """
        verify("conversation_metrics", columns=[sa.Column("seen", sa.DateTime(), nullable=True)])
        """,
        """
        refuse_data_loss(
            "conversation_metrics",
            "values of conversation_metrics.seen",
            "FROM conversation_metrics WHERE seen IS NOT NULL",
        )
        """,
        lost=ROW,
        said="values of conversation_metrics.seen, 2 in all",
    ),
    "column altered": Case(
        """
        metrics.c.user_id.type = sa.String(300)
        metrics.c.tts_ms.nullable = False
        metrics.c.voice_used.comment = "Voice"
        """,
        """
        verify(
            "conversation_metrics",
            columns=[
                sa.Column("user_id", sa.String(length=300), nullable=True),
                sa.Column("tts_ms", sa.INTEGER(), nullable=False),
            ],
        )
        """,
        kept="INSERT INTO conversation_metrics (user_id, tts_ms) VALUES ('a', 1)",
    ),
    "index": Case(
        'sa.Index("idx_user", metrics.c.user_id)',
        """
        verify("conversation_metrics", indexes=["idx_user"])
        """,
        kept=ROW,
    ),
    "constraints": Case(
        """
        metrics.append_constraint(sa.UniqueConstraint("user_id"))
        metrics.append_constraint(sa.UniqueConstraint("tts_ms", postgresql_include=["id"], name="u"))
        metrics.append_constraint(sa.CheckConstraint("record_ms > 0", name="positive"))
        metrics.append_constraint(sa.ForeignKeyConstraint(["voice_used"], [metrics.c.user_id]))
        """,
        """
        verify(
            "conversation_metrics",
            indexes=["u"],
            constraints=[
                "conversation_metrics_user_id_key",
                "u",
                "conversation_metrics_positive_check",
                "conversation_metrics_voice_used_fkey",
            ],
        )
        """,
        kept=ROW,
    ),
    "column dropped": Case(
        "# drop created_at",
        kept=ROW,
    ),
    "views": Case(
        """
        from sqlalchemy.sql.ddl import CreateView

        users = sa.select(metrics.c.user_id)
        view = CreateView(users, "busy", metadata=Base.metadata, materialized=True)
        sa.Index("idx_busy", view.table.c.user_id)
        CreateView(users, "plain", metadata=Base.metadata)
        """,
        """
        verify("busy", indexes=["idx_busy"])
        verify("plain")
        """,
        kept=ROW,
    ),
    "names": Case(
        """
        metrics.append_column(sa.Column("5% R:n's", sa.String(20), server_default="it's :x"))
        """,
        """
        verify("conversation_metrics", columns=[sa.Column("5% R:n's", sa.String(length=20), nullable=True)])
        """,
        r"""
        refuse_data_loss(
            "conversation_metrics",
            "values of conversation_metrics.5% R:n's",
            "FROM conversation_metrics WHERE \"5% R:n's\" <> 'it''s \\:x'",
        )
        """,
        kept=ROW,
        lost="""UPDATE conversation_metrics SET "5% R:n's" = 'y'""",
        said="values of conversation_metrics.5% R:n's, 2 in all",
    ),
    "another schema": Case(
        """
        sa.Table("t", Base.metadata, sa.Column("metric", sa.ForeignKey(metrics.c.id)), schema="Other")
        """,
        """
        verify(
            "t",
            schema="Other",
            columns=[sa.Column("metric", sa.Uuid(), nullable=True)],
            constraints=["t_metric_fkey"],
        )
        """,
        """
        refuse_data_loss('"Other".t', "rows of t", 'FROM "Other".t')
        """,
        lost='INSERT INTO "Other".t VALUES (NULL)',
        said="rows of t, 1 in all",
    ),
}
