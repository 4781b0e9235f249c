"""Settings of tables, columns, indexes, views and sequences of other projects; identities and serials."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from databases import Database
from drift.stock import Case, Stock, params

_ID = 'sa.Column("id", sa.Integer)'
_KEY = 'sa.Column("id", sa.Integer, primary_key=True)'
_NOTE = 'sa.Column("note", sa.Text)'
_IN_SCHEMA = 'options["include_schemas"] = True'


def _t(*items: str, name: str = "t") -> str:
    return f'sa.Table("{name}", metadata, {", ".join(items)})\n'


def _after(*statements: str, table: str = "t") -> str:
    """Return code of models that executes statements after a table is created."""
    return "".join(
        f'sa.event.listen(metadata.tables["{table}"], "after_create", sa.DDL({statement!r}))\n'
        for statement in statements
    )


def _made(sql: str) -> str:
    return f"op.execute('''{sql}''')"


_PLAIN = _made("CREATE TABLE t (id int, note text)")
_PLAIN_MODEL = _t(_ID, _NOTE)

PARAMETERS = {
    "16-parameters": Case(
        _t(_ID, _NOTE, 'postgresql_with={"autovacuum_vacuum_cost_limit": 9, "fillfactor": 70}'),
        revisions=[
            _made(
                "CREATE TABLE t (id int, note text) WITH (autovacuum_vacuum_cost_limit = 9,"
                " parallel_workers = 2, toast.autovacuum_enabled = off)"
            )
        ],
        expected=["table t (storage parameters)"],
        text=[
            r"set_storage_parameters\('t', \{'fillfactor': 70, 'parallel_workers': None,"
            r" 'toast.autovacuum_enabled': None\}\)",
            r"set_storage_parameters\('t', \{'parallel_workers': 2, 'toast.autovacuum_enabled': 'off',"
            r" 'fillfactor': None\}\)",
        ],
        again=True,
    ),
    "16-parameters-in-a-schema": Case(
        f'sa.Table("Odd t", metadata, {_ID}, schema="s", postgresql_with={{"fillfactor": 70}})',
        schemas="CREATE SCHEMA s",
        revisions=[_made('CREATE TABLE s."Odd t" (id int)')],
        env=_IN_SCHEMA,
        expected=["table Odd t (storage parameters)"],
    ),
    "16-parameters-of-index": Case(
        _PLAIN_MODEL + 'sa.Index("by_id", metadata.tables["t"].c.id, postgresql_with={"fillfactor": 70})',
        revisions=[_PLAIN, _made("CREATE INDEX by_id ON t (id) WITH (deduplicate_items = off)")],
        expected=["index by_id on t (storage parameters)"],
        text=[r"'by_id', \{'fillfactor': 70, 'deduplicate_items': None\}, kind='index'"],
        never=["drop_index"],
        again=True,
    ),
    "16-parameters-and-name-of-index": Case(
        _PLAIN_MODEL + 'sa.Index("by_id", metadata.tables["t"].c.id, postgresql_with={"fillfactor": 70})',
        revisions=[_PLAIN, _made("CREATE INDEX old_name ON t (id)")],
        expected=["index by_id on t (name)", "index by_id on t (storage parameters)"],
        never=["drop_index"],
    ),
    "16-parameters-of-key": Case(
        _t(_KEY, 'sa.Column("n", sa.Integer)', 'sa.UniqueConstraint("n", name="once")'),
        revisions=[
            _made(
                "CREATE TABLE t (id serial PRIMARY KEY, n int CONSTRAINT once UNIQUE WITH (fillfactor = 60))"
            )
        ],
        expected=["constraint once on t (storage parameters)"],
        text=["'once', {'fillfactor': None}, kind='index'"],
    ),
    "16-parameters-of-view": Case(
        _PLAIN_MODEL + _after("CREATE VIEW v AS SELECT id FROM t"),
        revisions=[_PLAIN, _made("CREATE VIEW v WITH (security_barrier = true) AS SELECT id FROM t")],
        expected=["view v (storage parameters)"],
    ),
    "16-parameters-of-view-that-is-dropped": Case(
        _PLAIN_MODEL,
        revisions=[_PLAIN, _made("CREATE VIEW v WITH (security_barrier = true) AS SELECT id FROM t")],
        expected=["view v"],
    ),
    "16-parameters-of-view-recreated": Case(
        _PLAIN_MODEL
        + _after("CREATE MATERIALIZED VIEW v WITH (fillfactor = 50) AS SELECT id, note FROM t")
        + _after("ALTER MATERIALIZED VIEW v ALTER note SET STORAGE EXTERNAL"),
        revisions=[
            _PLAIN,
            _made(
                "CREATE MATERIALIZED VIEW v WITH (fillfactor = 60) AS SELECT note, id FROM t;"
                " ALTER MATERIALIZED VIEW v ALTER id SET STATISTICS 7"
            ),
        ],
        expected=[
            *("column v.id (statistics target)", "column v.note (storage)"),
            *("materialized view v (query)", "materialized view v (storage parameters)"),
        ],
    ),
    "16-own-index-keeps-parameters": Case(
        _PLAIN_MODEL + _after("CREATE MATERIALIZED VIEW v AS SELECT id, note FROM t"),
        revisions=[_PLAIN, _made("CREATE MATERIALIZED VIEW v AS SELECT id FROM t")],
        sql="CREATE INDEX own ON v (id) WITH (fillfactor = 50)",
        expected=["materialized view v (query)"],
        equal=False,
    ),
}

_TWO = (
    "CREATE {0} TABLE a (id serial PRIMARY KEY);"
    " CREATE {0} TABLE b (id serial PRIMARY KEY, a int REFERENCES a)"
)
_TWO_MODELS = _t(_KEY, "prefixes=PREFIXES", name="a") + _t(
    _KEY, 'sa.Column("a", sa.Integer, sa.ForeignKey("a.id"))', "prefixes=PREFIXES", name="b"
)
_PERSISTENCE = [
    f"{name} (persistence)" for name in ("sequence a_id_seq", "sequence b_id_seq", "table a", "table b")
]
LOGGED = {
    "16-logged": Case(
        _TWO_MODELS.replace("PREFIXES", "[]"),
        revisions=[_made(_TWO.format("UNLOGGED"))],
        expected=_PERSISTENCE,
        again=True,
    ),
    "16-unlogged": Case(
        _TWO_MODELS.replace("PREFIXES", '["UNLOGGED"]'),
        revisions=[_made(_TWO.format(""))],
        expected=_PERSISTENCE,
    ),
    "16-logged-sequence-of-unlogged-table": Case(
        _t(_KEY),
        revisions=[
            _made("CREATE UNLOGGED TABLE t (id serial PRIMARY KEY); ALTER SEQUENCE t_id_seq SET LOGGED")
        ],
        expected=["table t (persistence)"],
    ),
    "16-unlogged-sequence": Case(
        'sa.Sequence("s", metadata=metadata)',
        revisions=[_made("CREATE UNLOGGED SEQUENCE s")],
        expected=["sequence s (persistence)"],
        again=True,
    ),
    "16-unlogged-sequence-dropped": Case(
        "", revisions=[_made("CREATE UNLOGGED SEQUENCE s")], expected=["sequence s"]
    ),
}

COLUMNS = {
    "16-column": Case(
        _PLAIN_MODEL
        + _after(
            "ALTER TABLE t ALTER note SET STORAGE EXTERNAL, ALTER note SET COMPRESSION pglz",
            "ALTER TABLE t ALTER id SET STATISTICS 5, ALTER id SET (n_distinct = -0.5)",
        ),
        revisions=[
            _PLAIN,
            _made(
                "ALTER TABLE t ALTER note SET STORAGE MAIN, ALTER note SET STATISTICS 9,"
                " ALTER id SET (n_distinct_inherited = 4)"
            ),
        ],
        expected=[
            *("column t.id (attribute options)", "column t.id (statistics target)"),
            *("column t.note (compression)", "column t.note (statistics target)", "column t.note (storage)"),
        ],
        text=[
            r"alter_column_storage\('t', 'note', storage='external', compression='pglz'\)",
            r"alter_column_storage\('t', 'note', storage='main', compression='default'\)",
            r"'id', target=5, options=\{'n_distinct': '-0.5', 'n_distinct_inherited': None\}",
        ],
        again=True,
    ),
    "16-column-and-type": Case(
        _t(_ID, 'sa.Column("note", sa.LargeBinary)')
        + _after("ALTER TABLE t ALTER note SET STORAGE MAIN, ALTER note SET COMPRESSION pglz"),
        revisions=[_PLAIN, _made("ALTER TABLE t ALTER note SET STORAGE MAIN, ALTER note SET STATISTICS 9")],
        expected=[f"column t.note ({aspect})" for aspect in ("compression", "statistics target", "type")],
    ),
    "16-column-kept-with-type": Case(
        _t(_ID, 'sa.Column("note", sa.String(9))') + _after("ALTER TABLE t ALTER note SET STORAGE MAIN"),
        revisions=[_PLAIN, _made("ALTER TABLE t ALTER note SET STORAGE MAIN")],
        expected=["column t.note (type)"],
    ),
    "16-new-column": Case(
        _PLAIN_MODEL + _after("ALTER TABLE t ALTER note SET STORAGE MAIN, ALTER note SET (n_distinct = 5)"),
        revisions=[_made("CREATE TABLE t (id int)")],
        expected=["column t.note"],
    ),
    "16-column-dropped": Case(
        _t(_ID),
        revisions=[_PLAIN, _made("ALTER TABLE t ALTER note SET STORAGE MAIN, ALTER note SET STATISTICS 5")],
        expected=["column t.note"],
    ),
    "16-expression-of-index": Case(
        _PLAIN_MODEL
        + 'sa.Index("by_note", sa.text("id"), sa.text("lower(note)"), _table=metadata.tables["t"])\n'
        + _after("ALTER INDEX by_note ALTER COLUMN 2 SET STATISTICS 300"),
        revisions=[_PLAIN, _made("CREATE INDEX by_note ON t (id, lower(note))")],
        expected=["index by_note on t (statistics target)"],
        text=[r"alter_column_statistics\('by_note', 2, target=300\)", "'by_note', 2, target=-1"],
        never=["drop_index"],
        again=True,
    ),
    "16-expression-of-index-dropped": Case(
        _PLAIN_MODEL,
        revisions=[
            _PLAIN,
            _made(
                "CREATE INDEX by_note ON t (lower(note)); ALTER INDEX by_note ALTER COLUMN 1 SET STATISTICS 3"
            ),
        ],
        expected=["index by_note on t"],
    ),
}

_SETTINGS = (
    "ALTER TABLE t SET (autovacuum_enabled = off, fillfactor = 70, toast.autovacuum_enabled = off)",
    "ALTER TABLE t SET UNLOGGED, ALTER note SET STORAGE MAIN, ALTER id SET STATISTICS 7",
)
_PILE = (
    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_am WHERE amname = 'pile') THEN"
    " CREATE ACCESS METHOD pile TYPE TABLE HANDLER heap_tableam_handler; END IF; END $$"
)
TABLES = {
    "16-new-table": Case(
        _t(_KEY, _NOTE) + _after(*_SETTINGS),
        expected=["table t"],
        text=[r"prefixes=\['UNLOGGED'\]", "'toast.autovacuum_enabled': 'off'"],
    ),
    # Properties of checks that SQLAlchemy cannot reflect.
    "16-table-dropped-with-odd-checks": Case(
        "",
        revisions=[
            _made(
                "CREATE TABLE t (a int CONSTRAINT c CHECK (a > 0) NO INHERIT CONSTRAINT d CHECK (a < 9));"
                " ALTER TABLE t ADD CONSTRAINT e CHECK (a > 1) NOT VALID"
            )
        ],
        expected=["table t"],
        never=["dialect_options"],
    ),
    "16-table-dropped": Case(
        "",
        revisions=[_made("; ".join(["CREATE TABLE t (id serial PRIMARY KEY, note text)", *_SETTINGS]))],
        expected=["table t"],
    ),
    "16-inherit": Case(
        _t(_ID, name="p") + _t(_ID, _NOTE, 'postgresql_inherits="p"'),
        revisions=[_made("CREATE TABLE p (id int); CREATE TABLE t (id int, note text)")],
        expected=["table t (inherits)"],
        text=[r"op.inherit\('t', 'p'\)", r"op.no_inherit\('t', 'p'\)"],
        equal=False,
        again=True,
    ),
    "16-no-inherit": Case(
        _t(_ID, name="p") + _t(_ID, _NOTE),
        revisions=[
            _made("CREATE TABLE p (id int); CREATE TABLE t (id int, note text); ALTER TABLE t INHERIT p")
        ],
        expected=["table t (inherits)"],
    ),
    "16-inherit-new-column-of-odd-parent": Case(
        'sa.Table("Odd, p", metadata, sa.Column("n", sa.Integer), schema="s")\n'
        + _t(_ID, 'sa.Column("n", sa.Integer)')
        + _after('ALTER TABLE t INHERIT s."Odd, p"'),
        schemas="CREATE SCHEMA s",
        env=_IN_SCHEMA,
        revisions=[_made('CREATE TABLE t (id int); CREATE TABLE s."Odd, p" (n int)')],
        expected=["column t.n", "table t (inherits)"],
        text=[r"op.inherit\('t', 'Odd, p', parent_schema='s'\)"],
    ),
    "16-inherit-in-another-order": Case(
        _t(_ID, name="p")
        + _t(_ID, name="q")
        + _t(_ID)
        + _after("ALTER TABLE t INHERIT q; ALTER TABLE t INHERIT p"),
        revisions=[
            _made(
                "CREATE TABLE p (id int); CREATE TABLE q (id int); CREATE TABLE t (id int);"
                " ALTER TABLE t INHERIT p; ALTER TABLE t INHERIT q"
            )
        ],
        expected=["table t (inherits)"],
    ),
    "16-access-method": Case(
        _t(_ID, 'postgresql_using="pile"')
        + _after("CREATE MATERIALIZED VIEW v USING pile AS SELECT 1 AS one"),
        schemas=_PILE,
        revisions=[_made("CREATE TABLE t (id int); CREATE MATERIALIZED VIEW v AS SELECT 1 AS one")],
        expected=["materialized view v (access method)", "table t (access method)"],
        text=[r"op.set_access_method\('v', 'heap', kind='materialized view'\)"],
        again=True,
    ),
    "16-access-method-dropped": Case(
        "",
        schemas=_PILE,
        revisions=[
            _made("CREATE TABLE t (id int) USING pile; CREATE MATERIALIZED VIEW v USING pile AS SELECT 1")
        ],
        expected=["materialized view v", "table t"],
    ),
    "16-access-method-new": Case(
        _t(_ID) + _after("ALTER TABLE t SET ACCESS METHOD pile"), schemas=_PILE, expected=["table t"]
    ),
}

_SERIAL = _made("CREATE TABLE t (id serial PRIMARY KEY, note text)")
_ROWS = "INSERT INTO t (note) SELECT 'x' FROM generate_series(1, 5)"


def _numbered(column: str) -> str:
    return _t(column, _NOTE)


IDENTITIES = {
    "16-serial-to-identity": Case(
        _numbered('sa.Column("id", sa.Integer, sa.Identity(always=True), primary_key=True)'),
        revisions=[_SERIAL],
        sql=f"{_ROWS}; COMMENT ON SEQUENCE t_id_seq IS 'numbers'; ALTER SEQUENCE t_id_seq CACHE 5 CYCLE",
        expected=["column t.id (default)", "column t.id (identity)", "sequence t_id_seq"],
        again=True,
    ),
    "16-identity-to-serial": Case(
        _numbered(_KEY),
        revisions=[
            _made(
                "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY (START 7 CACHE 3) PRIMARY KEY,"
                " note text)"
            )
        ],
        sql=_ROWS,
        expected=["column t.id (default)", "column t.id (identity)", "sequence t_id_seq"],
        again=True,
    ),
    "16-named-identity-to-serial": Case(
        _numbered(_KEY),
        revisions=[
            _made(
                "CREATE TABLE t (id int GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME other MAXVALUE 99)"
                " PRIMARY KEY, note text)"
            )
        ],
        sql=_ROWS,
        expected=["column t.id (default)", "column t.id (identity)", "sequence t_id_seq"],
    ),
    "16-serial-to-big-identity-in-a-schema": Case(
        'numbered = sa.Column("A b", sa.BigInteger, sa.Identity(), primary_key=True)\n'
        'sa.Table("t", metadata, numbered, schema="s")',
        schemas="CREATE SCHEMA s",
        env=_IN_SCHEMA,
        revisions=[_made('CREATE TABLE s.t ("A b" serial PRIMARY KEY)')],
        expected=[
            *("column t.A b (default)", "column t.A b (identity)", "column t.A b (type)"),
            "sequence t_A b_seq",
        ],
    ),
    "16-big-identity-to-serial": Case(
        _numbered(_KEY),
        revisions=[_made("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, note text)")],
        sql=_ROWS,
        expected=[
            *("column t.id (default)", "column t.id (identity)", "column t.id (type)", "sequence t_id_seq")
        ],
    ),
    "16-default-to-identity": Case(
        _t('sa.Column("n", sa.Integer, sa.Identity(), nullable=False)'),
        revisions=[_made("CREATE TABLE t (n int DEFAULT 0)")],
        expected=["column t.n (default)", "column t.n (identity)", "column t.n (not null)"],
    ),
    "16-shared-sequence-to-identity": Case(
        'sa.Sequence("numbers", metadata=metadata)\n' + _t('sa.Column("n", sa.Integer, sa.Identity())'),
        revisions=[
            _made("CREATE SEQUENCE numbers; CREATE TABLE t (n int NOT NULL DEFAULT nextval('numbers'))")
        ],
        expected=["column t.n (default)", "column t.n (identity)"],
    ),
    "16-identity-and-unlogged": Case(
        _numbered('sa.Column("id", sa.Integer, sa.Identity(), primary_key=True)'),
        revisions=[_made("CREATE UNLOGGED TABLE t (id serial PRIMARY KEY, note text)")],
        expected=[
            *("column t.id (default)", "column t.id (identity)", "sequence t_id_seq", "table t (persistence)")
        ],
    ),
}


SINCE_15 = {
    *("16-access-method", "16-access-method-dropped", "16-access-method-new"),
    *("16-unlogged-sequence", "16-unlogged-sequence-dropped", "16-logged-sequence-of-unlogged-table"),
}
CASES = {
    name: replace(case, since=15) if name in SINCE_15 else case
    for name, case in (PARAMETERS | LOGGED | COLUMNS | TABLES | IDENTITIES).items()
}


@pytest.mark.parametrize("case", params(CASES))
def test_a_setting(stock: Stock, case: Case) -> None:
    if stock.database.info.server_version < 150_000:  # where the sequences of an unlogged table are logged
        expected = [of for of in case.expected if not re.match(r"sequence .*\(persistence\)", of)]
        case = replace(case, expected=expected)
    stock.round_trip(case)


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("given", ["", "; DELETE FROM t"])
def test_numbering_continues(stock: Stock, direction: int, given: str) -> None:
    """After the greatest existing number, and after deleted ones; descending, before the least."""
    options = "" if direction == 1 else "increment=-1"
    stock.write_models(_numbered(f'sa.Column("id", sa.Integer, sa.Identity({options}), primary_key=True)'))
    stock.write_revision(_SERIAL)
    stock.upgrade()
    if direction == -1:
        stock.database.execute(
            "ALTER SEQUENCE t_id_seq INCREMENT -1 MINVALUE -2147483648 MAXVALUE -1 START -1 RESTART"
        )
    stock.database.execute(f"{_ROWS}; INSERT INTO t VALUES ({direction * 40}){given}")
    last = direction * (5 if given else 40)
    stock.autogenerate()
    for move in (stock.upgrade, stock.downgrade):
        move()
        last += direction
        assert _next(stock.database) == last


def _next(database: Database) -> int:
    row = database.execute("INSERT INTO t DEFAULT VALUES RETURNING id").fetchone()
    assert row is not None
    number: int = row[0]
    return number


def test_an_identity_of_an_empty_table_starts_as_declared(stock: Stock) -> None:
    stock.write_models(_numbered('sa.Column("id", sa.Integer, sa.Identity(start=7), primary_key=True)'))
    stock.write_revision(_SERIAL)
    stock.upgrade()
    stock.autogenerate()
    stock.upgrade()
    assert _next(stock.database) == 7


@pytest.fixture
def tablespace(stock: Stock) -> Iterator[str]:
    """A tablespace of the test's own server; needs PostgreSQL 15, and a superuser."""
    stock.database.execute("SET allow_in_place_tablespaces = on")
    stock.database.execute("CREATE TABLESPACE aside LOCATION ''")
    yield "aside"
    stock.database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    stock.database.execute("DROP TABLESPACE aside")


_ASIDE = "CREATE TABLE t (id int, n int CONSTRAINT once UNIQUE USING INDEX TABLESPACE aside) TABLESPACE aside"
TABLESPACES = {
    "16-tablespace": Case(
        _t(_ID, 'postgresql_tablespace="aside"')
        + _after("CREATE MATERIALIZED VIEW v TABLESPACE aside AS SELECT 1 AS one"),
        revisions=[_made("CREATE TABLE t (id int); CREATE MATERIALIZED VIEW v AS SELECT 1 AS one")],
        expected=["materialized view v (tablespace)", "table t (tablespace)"],
        text=[r"op.set_tablespace\('v', 'pg_default', kind='materialized view'\)"],
        again=True,
    ),
    "16-tablespace-to-default": Case(
        _t(_ID, 'sa.Column("n", sa.Integer)', 'sa.UniqueConstraint("n", name="once")'),
        revisions=[_made(_ASIDE)],
        expected=["constraint once on t (tablespace)", "table t (tablespace)"],
        text=[r"op.set_tablespace\('once', 'pg_default', kind='index'\)"],
    ),
    "16-tablespace-dropped": Case("", revisions=[_made(_ASIDE)], expected=["table t"]),
}


@pytest.mark.parametrize("case", params(TABLESPACES))
def test_a_tablespace(stock: Stock, tablespace: str, case: Case) -> None:
    assert tablespace in str(case)
    stock.round_trip(case)
