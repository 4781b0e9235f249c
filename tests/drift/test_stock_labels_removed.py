"""Labels of an enumerated type: dropped or reordered, with all objects that use the type."""

import pytest
from drift.labels import CHANGED, CHECK, INDEX, ROWS, case, k_type, made, table
from drift.stock import Case, Stock, params

_REFERRING = """
sa.Table("u", metadata, sa.Column("v", {0}, unique=True))
sa.Table("t", metadata, sa.Column("id", sa.Integer), sa.Column("v", {0}, sa.ForeignKey("u.v", name="f")))
"""
REMOVED = {
    "17-removed": case("a b c", "a b", text=[r"op\.set_type_labels\('k', \['a', 'b'\]\)"]),
    "17-removed-first": case("c a b", "a b"),
    "17-removed-several": case("x a y z b w", "a b"),
    "17-removed-array": case(
        "a b c",
        "a b",
        models=table("a b", ", server_default='{a}'", array=True),
        revisions=made("a b c", "v k[] DEFAULT '{a}'"),
        sql="INSERT INTO t (v) VALUES ('{a,b}'), ('{}'), (NULL), ('{{a},{NULL}}')",
    ),
    "17-removed-default": case(
        "a b c",
        "a b",
        models=table("a b", ", server_default='b'"),
        revisions=made("a b c", "v k DEFAULT 'b'"),
    ),
    "17-removed-with-its-default": case(
        "a b c",
        "a b",
        revisions=made("a b c", "v k DEFAULT 'c'"),
        expected=[CHANGED, "column t.v (default)"],
    ),
    "17-removed-with-another-default": case(
        "a b c",
        "a b",
        models=table("a b", ", server_default='b'"),
        revisions=made("a b c", "v k DEFAULT 'c'"),
        expected=[CHANGED, "column t.v (default)"],
    ),
    "17-removed-not-null": case(
        "a b c",
        "a b",
        models=table("a b", ", server_default='a', nullable=False"),
        revisions=made("a b c", "v k NOT NULL DEFAULT 'a'"),
        sql="INSERT INTO t (v) VALUES ('a'), ('b')",
    ),
    "17-removed-index": case(
        "a b c",
        "a b",
        models=table("a b", "", INDEX.format('"v"')),
        revisions=made("a b c", more="CREATE INDEX i ON t (v)"),
    ),
    "17-removed-partial-index": case(
        "a b c",
        "a b",
        models=table("a b", "", INDEX.format('"id", postgresql_where=sa.text("v = \'a\'")')),
        revisions=made(
            "a b c",
            more="CREATE INDEX i ON t (id) WHERE v = 'a'; COMMENT ON INDEX i IS 'a'",
        ).copy(),
        expected=[CHANGED, "index i on t (comment)"],
        sql="",
    ),
    "17-removed-expression-index": case(
        "a b c",
        "a b",
        models=table("a b", "", INDEX.format("sa.text(\"coalesce(v, 'b')\")")),
        revisions=made("a b c", more="CREATE INDEX i ON t (coalesce(v, 'b'))"),
    ),
    "17-removed-check": case(
        "a b c",
        "a b",
        models=table("a b", "", CHECK.format("v <> 'a' OR id > 0")),
        revisions=made("a b c", more="ALTER TABLE t ADD CONSTRAINT ck CHECK (v <> 'a' OR id > 0)"),
        sql="INSERT INTO t VALUES (1, 'a'), (0, 'b'); COMMENT ON CONSTRAINT ck ON t IS 'a'",
        expected=[CHANGED, "constraint ck on t (comment)"],
    ),
    "17-removed-with-its-check": case(
        "a b c",
        "a b",
        revisions=made("a b c", more="ALTER TABLE t ADD CONSTRAINT ck CHECK (v <> 'c')"),
        expected=[CHANGED, "constraint ck on t"],
    ),
    "17-removed-with-its-index": case(
        "a b c",
        "a b",
        models=table("a b", "", INDEX.format('"id", postgresql_where=sa.text("v = \'a\'")')),
        revisions=made("a b c", more="CREATE INDEX i ON t (id) WHERE v = 'c'"),
        expected=[CHANGED, "index i on t (definition)"],
    ),
    "17-removed-two-columns": case(
        "a b c",
        "a b",
        models=table("a b", "", f'sa.Column("w", {k_type("a b")})', CHECK.format("v <> w")),
        revisions=made("a b c", "v k, w k CONSTRAINT ck CHECK (v <> w)"),
    ),
    "17-removed-foreign-key": case(
        "a b c",
        "a b",
        models=_REFERRING.format(k_type("a b")),
        revisions=made(
            "a b c",
            more="CREATE TABLE u (v k UNIQUE);"
            " ALTER TABLE t ADD CONSTRAINT f FOREIGN KEY (v) REFERENCES u (v)",
        ),
        sql="INSERT INTO u VALUES ('a'), ('b'); " + ROWS,
    ),
    "17-removed-cast-in-a-default": case(
        "a b c",
        "a b",
        models=table("a b", "", 'sa.Column("w", sa.Text, server_default=sa.text("(\'a\'::k)::text"))'),
        revisions=made("a b c", "v k, w text DEFAULT ('a'::k)::text"),
    ),
    # The indexes of its partitions have other names; one partition has an additional check and index.
    "17-removed-partitioned": case(
        "a b c",
        "a b",
        models='sa.Table("t", metadata, sa.Column("id", sa.Integer), sa.Column("v", '
        + k_type("a b")
        + """, server_default="a"), sa.CheckConstraint("v <> 'b' OR id > 0", name="ck"),
        sa.Index("i", "id", postgresql_where=sa.text("v = 'a'")), sa.Index("j", "v"),
        sa.UniqueConstraint("id", "v", name="once"), postgresql_partition_by="LIST (id)")
        """,
        revisions=[
            "op.execute(\"\"\"CREATE TYPE k AS ENUM ('a', 'b', 'c');"
            " CREATE TABLE t (id int, v k DEFAULT 'a') PARTITION BY LIST (id);"
            " CREATE TABLE t1 PARTITION OF t FOR VALUES IN (1, 3) PARTITION BY LIST (id);"
            " CREATE TABLE t2 PARTITION OF t DEFAULT; CREATE TABLE t3 PARTITION OF t1 DEFAULT;"
            " ALTER TABLE t2 ADD CONSTRAINT ck CHECK (v <> 'b' OR id > 0);"
            " ALTER TABLE t ADD CONSTRAINT ck CHECK (v <> 'b' OR id > 0);"
            " CREATE INDEX own ON t2 ((v = 'b')); ALTER INDEX own ALTER COLUMN 1 SET STATISTICS 9;"
            " CREATE INDEX i2 ON t2 (id) WITH (fillfactor=70) WHERE v = 'a'; COMMENT ON INDEX i2 IS 'two';"
            " CREATE INDEX i3 ON t3 (id) WHERE v = 'a';"
            " CREATE INDEX i1 ON t1 (id) WHERE v = 'a';"
            " CREATE INDEX i ON t (id) WHERE v = 'a'; CREATE INDEX j2 ON t2 (v); CREATE INDEX j ON t (v);"
            " ALTER TABLE t2 ADD CONSTRAINT once2 UNIQUE (id, v);"
            ' ALTER TABLE t ADD CONSTRAINT once UNIQUE (id, v)""")'
        ],
        sql="INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        equal=False,
    ),
    "17-removed-type-with-settings": case(
        "a b c",
        "a b",
        sql=ROWS
        + "; COMMENT ON TYPE k IS 'kinds'; REVOKE ALL ON TYPE k FROM PUBLIC; GRANT USAGE ON TYPE k TO"
        " pg_monitor WITH GRANT OPTION",
        expected=[CHANGED, "type k (comment)"],
        equal=False,
    ),
    "17-removed-with-a-view": case(
        "a b c",
        "a b",
        models=table("a b")
        + "from sqlalchemy.sql.ddl import CreateView\n"
        + 'CreateView(sa.select(metadata.tables["t"].c.v), "w", metadata=metadata)\n',
        revisions=made("a b c", more="CREATE VIEW w AS SELECT v FROM t"),
    ),
    "17-removed-with-a-view-of-a-value": case(
        "a b c",
        "a b",
        models=table("a b")
        + "from sqlalchemy.sql.ddl import CreateView\n"
        + "CreateView(sa.select(sa.literal_column(\"'a'::k\").label('x')), \"w\", metadata=metadata)\n",
        revisions=made("a b c", more="CREATE VIEW w AS SELECT 'a'::k AS x"),
    ),
    "17-reordered": case("a b c", "c a b", text=[r"op\.set_type_labels\('k', \['c', 'a', 'b'\]\)"]),
    "17-odd-type-name": Case(
        'sa.Table("t", metadata, sa.Column("A b", sa.Enum("x y", name="Odd Kind")))',
        revisions=[
            'op.execute(\'CREATE TYPE "Odd Kind" AS ENUM ($$x y$$, $$z$$);'
            ' CREATE TABLE t ("A b" "Odd Kind")\'.replace("$$", "\'"))'
        ],
        expected=["type Odd Kind (definition)"],
        sql="INSERT INTO t VALUES ('x y')",
        again=True,
    ),
}


@pytest.mark.parametrize("change", params(REMOVED))
def test_a_label_is_dropped(stock: Stock, change: Case) -> None:
    stock.round_trip(change)
