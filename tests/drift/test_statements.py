"""What the SQL of a revision creates, read from its source."""

from pathlib import Path

import pytest
from drift.revisions import assert_managed, chain

from alembic_drift.revisions.managed import managed_by

STATEMENTS: dict[str, tuple[str, str]] = {
    'CREATE TABLE a (b int, "C D" text, e serial, PRIMARY KEY (b), CONSTRAINT f CHECK (b > 0), CHECK (g(b, 1)'
    " > 2), EXCLUDE USING gist (h WITH =), exclude int, LIKE other, i numeric(9, 2) DEFAULT 3);"
    " CREATE UNLOGGED TABLE c (d int)": (
        "table a; column a.b; column a.C D; column a.e; sequence a_e_seq; column a.exclude; column a.i;"
        " column c.d",
        "column a.primary; column a.constraint; column a.f; column a.g; column a.h; column a.like;"
        " column a.other; column a.2; sequence a_b_seq",
    ),
    "-- a comment\n/* another; /* nested */ CREATE TABLE no (a int); */ CREATE UNIQUE INDEX i ON a (b)": (
        "index a.i",
        "table no",
    ),
    "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON ONLY public.a USING btree (lower(b))": (
        "index a.i",
        "",
    ),
    "CREATE INDEX ON a (b)": ("", "index a.on; index a.a"),
    'CREATE TABLE "A ""b" (x int)': ('table A "b; column A "b.x', 'table a "b'),
    "CREATE TABLE IF NOT EXISTS Upper (X int)": ("table upper; column upper.x", "table Upper"),
    "CREATE TABLE t AS SELECT 1 AS a": ("table t", "column t.a"),
    "CREATE TABLE t (a, b) AS SELECT 1, 2": ("column t.a; column t.b", ""),
    "CREATE TEMP TABLE t (a int)": ("", "table t; column t.a"),
    "CREATE TABLE old (x int); CREATE INDEX i ON old (x); ALTER TABLE old RENAME TO renamed": (
        "table renamed; column renamed.x; index renamed.i",
        "table old; column old.x",
    ),
    "ALTER TABLE IF EXISTS a ADD COLUMN IF NOT EXISTS b int, ADD c numeric(3, 1), ADD CONSTRAINT d"
    " CHECK (true), ADD UNIQUE (e), ADD f bigserial, ALTER g TYPE text": (
        "column a.b; column a.c; column a.f; sequence a_f_seq",
        "column a.constraint; column a.d; column a.unique; column a.e; column a.g; column a.1",
    ),
    "ALTER TABLE a ADD b int, ADD c int; ALTER TABLE a RENAME COLUMN b TO d; ALTER TABLE a RENAME c TO e;"
    " ALTER TABLE a RENAME CONSTRAINT d TO f": (
        "column a.d; column a.e",
        "column a.b; column a.c; column a.f",
    ),
    "ALTER TABLE a ADD b int, ADD c int; ALTER TABLE a DROP COLUMN IF EXISTS b, DROP CONSTRAINT c": (
        "column a.c",
        "column a.b",
    ),
    "CREATE INDEX i ON a (b); ALTER INDEX i RENAME TO j": ("index a.j", "index a.i"),
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'CREATE TABLE no (a int)'": (
        "function f()",
        "function f(a integer); table no",
    ),
    "CREATE FUNCTION f(a numeric(9, 2) DEFAULT abs(-1), b text) RETURNS int": (
        "function f(a numeric, b text)",
        "function f(a integer)",
    ),
    "CREATE FUNCTION f() RETURNS void AS $body$ BEGIN; CREATE TABLE no (a int); $$;$$ END $body$;"
    " CREATE TABLE t (a int)": ("function f(); table t", "table no"),
    "DO $$ BEGIN CREATE TABLE no (a int); END $$": ("", "table no"),
    "SELECT '; CREATE TABLE no (a int)', E'\\'; CREATE TABLE no (a int)'": ("", "table no"),
    "CREATE PROCEDURE p(); CREATE SEQUENCE s; CREATE TYPE e AS ENUM ('a'); CREATE DOMAIN d AS int;"
    " CREATE VIEW v AS SELECT 1; CREATE MATERIALIZED VIEW IF NOT EXISTS m AS SELECT 1; CREATE STATISTICS x"
    " ON a, b FROM t": (
        "procedure p(); sequence s; type e; domain d; view v; materialized view m; statistics t.x",
        "table v; view m",
    ),
    "CREATE TABLE a (b serial); CREATE INDEX i ON a (b); CREATE VIEW v AS SELECT 1; DROP VIEW IF EXISTS v;"
    " DROP TABLE IF EXISTS x, a CASCADE": ("", "table a; column a.b; sequence a_b_seq; index a.i; view v"),
    "CREATE FUNCTION f(a int) RETURNS int; CREATE FUNCTION f() RETURNS int; DROP FUNCTION f(integer)": (
        "function f()",
        "function f(a integer)",
    ),
    "CREATE FUNCTION f(a int) RETURNS int; ALTER FUNCTION f(int) RENAME TO g; CREATE FUNCTION h() RETURNS"
    " int; DROP FUNCTION h": ("function g(b integer)", "function f(a integer); function h()"),
    "CREATE TABLE a (b int); ALTER TABLE a SET SCHEMA other": ("", "table a; column a.b"),
    "CREATE TABLE other.a (b int); CREATE INDEX i ON other.a (b); CREATE TABLE t (c int);"
    " DROP TABLE other.t": (
        "table t; column t.c",
        "table a; column a.b; index a.i",
    ),
    "/* the operator's own */ CREATE INDEX theirs ON a (b); CREATE INDEX ours ON a (b)": (
        "index a.ours",
        "index a.theirs",
    ),
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_what_a_statement_creates(tmp_path: Path, statement: str) -> None:
    assert_managed(
        managed_by(chain(tmp_path, f"op.execute({statement!r})"), "public"), *STATEMENTS[statement]
    )
