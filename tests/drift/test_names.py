"""Names: constraints that the models do not name, and objects that differ only in their name."""

import pytest
from drift.stock import Case, Stock, params


def _of_p(made: str, columns: str, **options: object) -> Case:
    """A table p, created by a revision with names, and models without names."""
    revision = f"op.execute('''CREATE TABLE p ({made})''')"
    return Case(f'sa.Table("p", metadata, {columns})', revisions=[revision], **options)  # type: ignore[arg-type]


_ID = 'sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)'
_MADE_ID = "id int CONSTRAINT pk_p PRIMARY KEY, "
_OTHER = "op.execute('CREATE TABLE o (id int CONSTRAINT pk_o PRIMARY KEY)')"
_OTHER_MODEL = f'sa.Table("o", metadata, {_ID})\n'

UNNAMED = {
    "04-primary-key": _of_p("id int CONSTRAINT pk_p PRIMARY KEY", _ID),
    "04-primary-key-of-two": _of_p(
        "a int, b int, CONSTRAINT pk_p PRIMARY KEY (a, b)",
        'sa.Column("a", sa.Integer, primary_key=True, autoincrement=False),'
        ' sa.Column("b", sa.Integer, primary_key=True)',
    ),
    "04-primary-key-constraint": _of_p(
        "a int, b int, CONSTRAINT pk_p PRIMARY KEY (b, a)",
        'sa.Column("a", sa.Integer), sa.Column("b", sa.Integer, autoincrement=False),'
        ' sa.PrimaryKeyConstraint("b", "a")',
    ),
    "04-unique-column": _of_p(
        _MADE_ID + "a int CONSTRAINT uq_p_a UNIQUE", f'{_ID}, sa.Column("a", sa.Integer, unique=True)'
    ),
    "04-unique-constraint": _of_p(
        _MADE_ID + "a int, b int, CONSTRAINT uq_p UNIQUE (a, b)",
        f'{_ID}, sa.Column("a", sa.Integer), sa.Column("b", sa.Integer), sa.UniqueConstraint("a", "b")',
    ),
    "04-foreign-key": Case(
        f'{_OTHER_MODEL}sa.Table("p", metadata,'
        ' sa.Column("o_id", sa.ForeignKey("o.id", ondelete="CASCADE")))',
        revisions=[
            _OTHER,
            "op.execute('CREATE TABLE p (o_id int CONSTRAINT fk_p REFERENCES o ON DELETE CASCADE)')",
        ],
    ),
    "04-foreign-key-constraint": Case(
        f'{_OTHER_MODEL}sa.Table("p", metadata, sa.Column("o_id", sa.Integer),'
        ' sa.ForeignKeyConstraint(["o_id"], ["o.id"]))',
        revisions=[_OTHER, "op.execute('CREATE TABLE p (o_id int CONSTRAINT fk_p REFERENCES o)')"],
    ),
    "04-check": _of_p(
        _MADE_ID + "a int CONSTRAINT ck_p CHECK (a > 0)",
        f'{_ID}, sa.Column("a", sa.Integer, sa.CheckConstraint("a > 0"))',
    ),
    "04-check-of-two": _of_p(
        _MADE_ID + "a int, b int, CONSTRAINT ck_p CHECK (a > b), CONSTRAINT ck_q CHECK (b > 1)",
        f'{_ID}, sa.Column("a", sa.Integer), sa.Column("b", sa.Integer), sa.CheckConstraint("b > 1"),'
        ' sa.CheckConstraint("a > b")',
    ),
    "04-exclude": _of_p(
        "during tstzrange, CONSTRAINT ex_p EXCLUDE USING gist (during WITH &&)",
        'sa.Column("during", pg.TSTZRANGE), pg.ExcludeConstraint(("during", "&&"))',
    ),
    "04-enum-check": _of_p(
        "kind varchar(1) CONSTRAINT ck_kind CHECK (kind IN ('a', 'b'))",
        'sa.Column("kind", sa.Enum("a", "b", native_enum=False, create_constraint=True))',
    ),
    "04-enum-check-named-type": _of_p(
        "kind varchar(1) CONSTRAINT ck_kind CHECK (kind IN ('a', 'b'))",
        'sa.Column("kind", sa.Enum("a", "b", name="kind", native_enum=False, create_constraint=True))',
        expected=["constraint kind on p (name)"],
        text=[r"(?i)rename.*ck_kind.*kind"],
        never=[r"drop_constraint", r"create_check"],
    ),
    "04-boolean-check": _of_p(
        "b boolean CONSTRAINT ck_b CHECK (b IN (false, true))",
        'sa.Column("b", sa.Boolean, sa.CheckConstraint("b IN (false, true)"))',
    ),
    # The models declare it twice, by the column and with a name: one key of the database matches both.
    "04-foreign-key-twice": Case(
        f'{_OTHER_MODEL}sa.Table("p", metadata, sa.Column("o_id", sa.ForeignKey("o.id")),'
        ' sa.ForeignKeyConstraint(["o_id"], ["o.id"], name="fk_p"))',
        revisions=[_OTHER, "op.execute('CREATE TABLE p (o_id int CONSTRAINT fk_p REFERENCES o)')"],
    ),
    "04-foreign-key-twice-in-both": Case(
        f'{_OTHER_MODEL}sa.Table("p", metadata, sa.Column("o_id", sa.ForeignKey("o.id")),'
        ' sa.ForeignKeyConstraint(["o_id"], ["o.id"], name="fk_p"))',
        revisions=[
            _OTHER,
            "op.execute('CREATE TABLE p (o_id int CONSTRAINT fk_p REFERENCES o CONSTRAINT q REFERENCES o)')",
        ],
    ),
    # A difference besides the name is a difference, reported under the name in the database.
    "04-unique-of-others": _of_p(
        "a int, b int, CONSTRAINT uq_p UNIQUE (a)",
        'sa.Column("a", sa.Integer), sa.Column("b", sa.Integer, unique=True)',
        expected=["constraint p_b_key on p", "constraint uq_p on p"],
    ),
    "04-foreign-key-changed": Case(
        f'{_OTHER_MODEL}sa.Table("p", metadata,'
        ' sa.Column("o_id", sa.ForeignKey("o.id", ondelete="CASCADE")))',
        revisions=[_OTHER, "op.execute('CREATE TABLE p (o_id int CONSTRAINT fk_p REFERENCES o)')"],
        expected=["constraint fk_p on p (definition)"],
        equal=False,
    ),
    # The models have one of these two constraints: the other one is a difference.
    "04-one-more-unique": _of_p(
        # In two statements: PostgreSQL merges equal constraints of one statement.
        "a int CONSTRAINT x1 UNIQUE); ALTER TABLE p ADD CONSTRAINT x2 UNIQUE (a",
        'sa.Column("a", sa.Integer, unique=True)',
        expected=["constraint x2 on p"],
        equal=False,
    ),
}

_RENAMED_NEVER = [r"drop_constraint", r"create_(unique|foreign|check|primary|index|exclude)", r"drop_index"]


def _renamed(kind: str, made: str, columns: str, rename: str) -> Case:
    return _of_p(
        made.replace("NAME", "x_old"),
        columns.replace("NAME", '"x_new"'),
        expected=[f"{kind} x_new on p (name)"],
        text=[rename],
        never=_RENAMED_NEVER,
    )


_A = 'sa.Column("a", sa.Integer), '
_CONSTRAINT = r"(?i)rename.*x_old.*x_new"
RENAMED = {
    "04-rename-primary-key": _renamed(
        "constraint",
        "a int CONSTRAINT NAME PRIMARY KEY",
        'sa.Column("a", sa.Integer, autoincrement=False), sa.PrimaryKeyConstraint("a", name=NAME)',
        _CONSTRAINT,
    ),
    "04-rename-unique": _renamed(
        "constraint", "a int CONSTRAINT NAME UNIQUE", _A + 'sa.UniqueConstraint("a", name=NAME)', _CONSTRAINT
    ),
    "04-rename-check": _renamed(
        "constraint",
        "a int CONSTRAINT NAME CHECK (a > 0)",
        _A + 'sa.CheckConstraint("a > 0", name=NAME)',
        _CONSTRAINT,
    ),
    "04-rename-exclude": _renamed(
        "constraint",
        "a int, CONSTRAINT NAME EXCLUDE USING btree (a WITH =)",
        _A + 'pg.ExcludeConstraint(("a", "="), name=NAME, using="btree")',
        _CONSTRAINT,
    ),
    "04-rename-foreign-key": _renamed(
        "constraint",
        "b int UNIQUE, a int CONSTRAINT NAME REFERENCES p (b)",
        _A + 'sa.Column("b", sa.Integer, unique=True), sa.ForeignKeyConstraint(["a"], ["p.b"], name=NAME)',
        _CONSTRAINT,
    ),
    "04-rename-index": Case(
        'sa.Table("p", metadata, sa.Column("a", sa.Integer), sa.Index("x_new", "a"))',
        revisions=["op.execute('CREATE TABLE p (a int)')\nop.create_index('x_old', 'p', ['a'])"],
        expected=["index x_new on p (name)"],
        text=[r"(?i)(?=.*rename).*x_old.*x_new"],
        never=_RENAMED_NEVER,
    ),
}


@pytest.mark.parametrize("case", params(UNNAMED | RENAMED))
def test_a_name(stock: Stock, case: Case) -> None:
    stock.round_trip(case)
