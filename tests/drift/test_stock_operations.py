"""The operations in a revision: those of Alembic where they exist, not SQL in a string."""

from dataclasses import replace

import pytest
from drift.stock import Case, Stock, params

_NEVER = [
    r"(?i)op\.execute\([^)]*ADD CONSTRAINT(?![^)]* USING INDEX)",
    r"(?i)op\.execute\([^)]*DROP CONSTRAINT",
    r"(?i)op\.execute\([^)]*(CREATE|DROP) (UNIQUE )?INDEX",
]
_P = 'sa.Table("p", metadata, sa.Column("a", sa.Integer, unique=True))\n'
_COLUMNS = 'sa.Column("a", sa.Integer), sa.Column("b", sa.Integer), sa.Column("c", sa.Text)'
_NOT_NULL = _COLUMNS.replace("Integer)", "Integer, nullable=False, autoincrement=False)", 1)
_MADE = "op.execute('CREATE TABLE p (a int UNIQUE); CREATE TABLE t (a int, b int, c text)')"


def _t(*items: str) -> str:
    return f'{_P}sa.Table("t", metadata, {", ".join([_COLUMNS, *items])})\n'


def _both(name: str, item: str, sql: str, operation: str, *options: str) -> dict[str, Case]:
    """Return two cases: an object ``x`` is added, and dropped."""
    made = f"op.execute('''{sql}''')"
    kind = "index" if operation == "create_index" else "constraint"
    written = [rf"(?s)op\.{operation}\([^#]*?{option}" for option in options or (operation,)]
    if not options:
        written = [rf"op\.{operation}\("]
    return {
        f"15-{name}-added": Case(
            _t(item), revisions=[_MADE], expected=[f"{kind} x on t"], text=written, never=_NEVER
        ),
        f"15-{name}-dropped": Case(
            _t(), revisions=[_MADE, made], expected=[f"{kind} x on t"], text=written, never=_NEVER
        ),
    }


def _unique(name: str, options: str, sql: str, *written: str) -> dict[str, Case]:
    return _both(
        f"unique-{name}",
        f'sa.UniqueConstraint("a", name="x"{options})',
        f"ALTER TABLE t ADD CONSTRAINT x UNIQUE {sql}",
        "create_unique_constraint",
        *written,
    )


def _foreign_key(name: str, options: str, sql: str, *written: str) -> dict[str, Case]:
    return _both(
        f"foreign-key-{name}",
        f'sa.ForeignKeyConstraint(["a"], ["p.a"], name="x"{options})',
        f"ALTER TABLE t ADD CONSTRAINT x FOREIGN KEY (a) REFERENCES p (a) {sql}",
        "create_foreign_key",
        *written,
    )


def _check(name: str, options: str, sql: str, *written: str) -> dict[str, Case]:
    return _both(
        f"check-{name}",
        f'sa.CheckConstraint("a > 0", name="x"{options})',
        f"ALTER TABLE t ADD CONSTRAINT x CHECK (a > 0) {sql}",
        "create_check_constraint",
        *written,
    )


CASES = {
    **_unique("plain", "", "(a)"),
    # Alembic's operation lacks INCLUDE. An index, built without blocking, becomes the constraint.
    **{
        name: replace(
            case, text=[r"op\.create_index\([^#]*?postgresql_include=\['b'\]", "UNIQUE USING INDEX"]
        )
        for name, case in _unique("include", ', postgresql_include=["b"]', "(a) INCLUDE (b)").items()
    },
    **_unique(
        "nulls-not-distinct",
        ", postgresql_nulls_not_distinct=True",
        "NULLS NOT DISTINCT (a)",
        "postgresql_nulls_not_distinct=True",
    ),
    **_unique("deferrable", ", deferrable=True", "(a) DEFERRABLE", "deferrable=True"),
    **_unique(
        "deferred",
        ', deferrable=True, initially="DEFERRED"',
        "(a) DEFERRABLE INITIALLY DEFERRED",
        "initially=",
    ),
    **_foreign_key("plain", "", ""),
    **_foreign_key("cascade", ', ondelete="CASCADE"', "ON DELETE CASCADE", "ondelete='CASCADE'"),
    **_foreign_key(
        "set-null-columns", ', ondelete="SET NULL (a)"', "ON DELETE SET NULL (a)", r'SET NULL \("?a"?\)'
    ),
    **_foreign_key("not-valid", ", postgresql_not_valid=True", "NOT VALID", "postgresql_not_valid=True"),
    **_foreign_key("deferrable", ", deferrable=True", "DEFERRABLE", "deferrable=True"),
    **_foreign_key("match-full", ', match="FULL"', "MATCH FULL", "match='FULL'"),
    **_check("plain", "", ""),
    **_check("not-valid", ", postgresql_not_valid=True", "NOT VALID", "postgresql_not_valid=True"),
    **_both(
        "exclude",
        'pg.ExcludeConstraint(("a", "="), name="x", using="btree")',
        "ALTER TABLE t ADD CONSTRAINT x EXCLUDE USING btree (a WITH =)",
        "create_exclude_constraint",
        "using='btree'",
    ),
    **_both(
        "exclude-where",
        'pg.ExcludeConstraint(("a", "="), name="x", using="btree", where=sa.text("b > 0"), deferrable=True)',
        "ALTER TABLE t ADD CONSTRAINT x EXCLUDE USING btree (a WITH =) WHERE (b > 0) DEFERRABLE",
        "create_exclude_constraint",
        "deferrable='True'",
        "where=",
    ),
    **_both(
        "exclude-expression",
        'pg.ExcludeConstraint((sa.text("int4range(a, b)"), "&&"), name="x")',
        "ALTER TABLE t ADD CONSTRAINT x EXCLUDE USING gist (int4range(a, b) WITH &&)",
        "create_exclude_constraint",
    ),
    **_both(
        "index-nulls-not-distinct",
        'sa.Index("x", "a", unique=True, postgresql_nulls_not_distinct=True)',
        "CREATE UNIQUE INDEX x ON t (a) NULLS NOT DISTINCT",
        "create_index",
        "postgresql_nulls_not_distinct=True",
    ),
    **_both(
        "index-include",
        'sa.Index("x", "a", postgresql_include=["b"], postgresql_where=sa.text("b > 0"))',
        "CREATE INDEX x ON t (a) INCLUDE (b) WHERE b > 0",
        "create_index",
        "postgresql_include",
        "postgresql_where",
    ),
    **_both(
        "index-expression",
        'sa.Index("x", sa.text("lower(c) text_pattern_ops"))',
        "CREATE INDEX x ON t (lower(c) text_pattern_ops)",
        "create_index",
    ),
    "15-primary-key-added": Case(
        f'{_P}sa.Table("t", metadata, {_NOT_NULL}, sa.PrimaryKeyConstraint("a", name="x"))',
        revisions=[
            "op.execute('CREATE TABLE p (a int UNIQUE); CREATE TABLE t (a int NOT NULL, b int, c text)')"
        ],
        expected=["constraint x on t"],
        text=[r"op\.create_primary_key\("],
        never=_NEVER,
    ),
    "15-primary-key-include": Case(
        f'{_P}sa.Table("t", metadata, {_NOT_NULL},'
        ' sa.PrimaryKeyConstraint("a", name="x", postgresql_include=["b"]))',
        revisions=[
            "op.execute('CREATE TABLE p (a int UNIQUE); CREATE TABLE t (a int NOT NULL, b int, c text)')"
        ],
        expected=["constraint x on t"],
        text=["PRIMARY KEY USING INDEX"],
        never=_NEVER,
    ),
    # Neither Alembic nor SQLAlchemy supports it.
    "15-check-no-inherit": Case(
        _t(),
        revisions=[_MADE, "op.execute('ALTER TABLE t ADD CONSTRAINT x CHECK (a > 0) NO INHERIT')"],
        expected=["constraint x on t"],
    ),
    "15-unique-changed": Case(
        _t('sa.UniqueConstraint("a", name="x", postgresql_include=["b"])'),
        revisions=[_MADE, "op.execute('ALTER TABLE t ADD CONSTRAINT x UNIQUE (a)')"],
        expected=["constraint x on t (definition)"],
        text=[r"UNIQUE USING INDEX"],
        never=_NEVER,
    ),
    "15-of-a-new-table": Case(
        f'{_P}sa.Table("n", metadata, {_COLUMNS},'
        ' sa.UniqueConstraint("a", name="x", postgresql_include=["b"]),'
        ' pg.ExcludeConstraint(("b", "="), name="y", using="btree"))',
        revisions=["op.execute('CREATE TABLE p (a int UNIQUE)')"],
        expected=["table n"],
        never=_NEVER,
    ),
    "15-of-a-dropped-table": Case(
        _P,
        revisions=[
            _MADE,
            "op.execute('''ALTER TABLE t ADD CONSTRAINT x UNIQUE (a) INCLUDE (b),"
            " ADD CONSTRAINT y EXCLUDE USING btree (b WITH =)''')",
        ],
        expected=["table t"],
        never=_NEVER,
    ),
}
# NOT VALID is a temporary state: the constraint of the models is created, and then nothing differs.
for _name in ("15-foreign-key-not-valid-added", "15-check-not-valid-added"):
    CASES[_name] = replace(CASES[_name], text=())

for _name in CASES:
    if "nulls-not-distinct" in _name or "set-null-columns" in _name:
        CASES[_name] = replace(CASES[_name], since=15)


@pytest.mark.parametrize("case", params(CASES))
def test_an_operation(stock: Stock, case: Case) -> None:
    stock.round_trip(case)
