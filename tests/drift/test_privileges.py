"""Owner and privileges of a view or function that is dropped and recreated are kept.

The round trip compares the output of pg_dump before the upgrade and after the downgrade. Both recreate the
object. The roles exist on every server.
"""

import pytest
from drift.stock import Case, Stock
from drift.test_online import online
from marks import quick
from sqlalchemy.exc import DBAPIError

_GRANTED = """\
ALTER VIEW {0} OWNER TO pg_signal_backend; GRANT SELECT ON {0} TO pg_monitor WITH GRANT OPTION;
GRANT SELECT (a) ON {0} TO PUBLIC; GRANT UPDATE ON {0} TO PUBLIC; REVOKE SELECT ON {0} FROM PUBLIC"""
_OVERLOADED = "CREATE FUNCTION f(text) RETURNS int LANGUAGE sql AS 'SELECT 3'"
_FUNCTION = "CREATE FUNCTION f(n int) RETURNS {} LANGUAGE sql AS 'SELECT 1'"


def _view(
    granted: str = _GRANTED, *, materialized: str = "", schema: str = "", columns: str = "t.c.a"
) -> Case:
    """Return a view of a column with a changed type."""
    where = f", schema={schema!r}" if schema else ""
    inside = f"{schema}." if schema else ""
    return Case(
        f"""
        from sqlalchemy.schema import CreateView
        columns = [sa.Column("id", sa.Integer, primary_key=True), sa.Column("a", sa.Text)]
        t = sa.Table("t", metadata, *columns{where})
        CreateView(sa.select({columns}), "v", metadata=metadata{where}, materialized={bool(materialized)})
        """,
        schemas=f"CREATE SCHEMA {schema}" if schema else "",
        revisions=[
            f'op.execute("CREATE TABLE {inside}t (id serial PRIMARY KEY, a integer)")\n'
            f'op.execute("CREATE {materialized} VIEW {inside}v AS SELECT a, id FROM {inside}t")'
        ],
        sql=granted.format(f"{inside}v").replace("VIEW", f"{materialized} VIEW"),
        env='options["include_schemas"] = True' if schema else "",
        expected=[
            "column t.a (type)",
            *(["view v (query)"] if columns == "t.c.a" else []),
        ],
        text=["keep_privileges=True"],
        equal=False,
        again=True,
    )


def _function(granted: str) -> Case:
    return Case(
        f"""
        sa.event.listen(metadata, "after_create", sa.DDL({_OVERLOADED!r}))
        sa.event.listen(metadata, "after_create", sa.DDL({_FUNCTION.format("text")!r}))
        """,
        revisions=[f"op.execute({_OVERLOADED!r})\nop.execute({_FUNCTION.format('int')!r})"],
        sql=granted,
        expected=["function f(integer) (definition)"],
        text=["keep_privileges=True"],
        equal=False,
    )


CASES = {
    "view": _view(),
    "view-same-columns": _view(columns="t.c.a, t.c.id"),
    "view-owner-alone": _view("ALTER VIEW {0} OWNER TO pg_signal_backend"),
    "view-of-another-owner-that-is-granted": _view(
        "ALTER VIEW {0} OWNER TO pg_monitor; GRANT SELECT ON {0} TO CURRENT_USER"
    ),
    "view-of-an-owner-with-less": _view(
        "ALTER VIEW {0} OWNER TO pg_signal_backend; REVOKE INSERT, DELETE ON {0} FROM pg_signal_backend"
    ),
    "view-default-privileges": _view("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_monitor"),
    "view-of-a-schema": _view(schema="s"),
    "materialized-view": _view(materialized="MATERIALIZED", columns="t.c.a, t.c.id"),
    "function": _function(
        "GRANT EXECUTE ON FUNCTION f(int) TO pg_monitor; ALTER FUNCTION f(int) OWNER TO pg_signal_backend"
    ),
    "function-revoked-from-public": _function("REVOKE EXECUTE ON FUNCTION f(int) FROM PUBLIC"),
}


@pytest.mark.parametrize("case", quick(CASES, "view", "function-revoked-from-public"))
def test_a_recreated_object_keeps_its_privileges(stock: Stock, case: Case) -> None:
    stock.round_trip(case)
    assert stock.database.execute("SELECT to_regclass('alembic_version_privileges')").fetchone() == (None,)


def test_an_interrupted_online_run_keeps_them(stock: Stock) -> None:
    """The next run restores what the interrupted run has saved."""
    online(stock)
    stock.database.execute("CREATE VIEW v AS SELECT id FROM t; GRANT SELECT ON v TO pg_monitor")
    before = _privileges(stock)
    stock.write_revision(
        """
        import alembic_drift.operations
        op.drop_view("v", keep_privileges=True)
        op.execute("CREATE TABLE w (LIKE missing)")
        op.create_view("v", "SELECT id, n FROM t", keep_privileges=True)
        """
    )
    with pytest.raises(DBAPIError):
        stock.upgrade()
    assert _privileges(stock) == []
    stock.database.execute("CREATE TABLE missing ()")
    stock.upgrade()
    assert _privileges(stock) == before


def _privileges(stock: Stock) -> list[tuple[str, ...]]:
    return stock.database.execute("SELECT relacl::text FROM pg_class WHERE relname = 'v'").fetchall()


def test_a_signature_that_is_not_found_is_an_error(stock: Stock) -> None:
    stock.write_models("")
    stock.write_revision(f"op.execute({_FUNCTION.format('int')!r})")
    stock.upgrade()
    stock.write_revision(
        "import alembic_drift.operations\nop.drop_function('f(n int4)', keep_privileges=True)"
    )
    with pytest.raises(DBAPIError, match="the privileges of .* cannot be kept|syntax error"):
        stock.upgrade()
    assert stock.database.execute("SELECT f(1)").fetchone() == (1,)
