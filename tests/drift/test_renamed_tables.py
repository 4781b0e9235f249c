"""Tables that a revision has renamed: objects named after the old table are renamed, and back again."""

import re

import pytest
from drift.stock import Case, Stock, params

CONVENTION = """
metadata = sa.MetaData(naming_convention={"pk": "pk_%(table_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s", "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s"})
"""


def _renamed(
    columns: str, *expected: str, convention: bool = False, more: str = "", **options: object
) -> Case:
    """A table ``old`` with these columns, created as the models would, and renamed to ``new``."""
    made = re.sub(r'sa\.Table\("(\w+)", metadata, ', r'op.create_table("\1", ', more + columns)
    revisions = [made.replace("TABLE", "old"), "op.rename_table('old', 'new')"]
    models = (CONVENTION if convention else "") + more + columns.replace("TABLE", "new")
    return Case(models, revisions=revisions, expected=expected, never=_NEVER, **options)  # type: ignore[arg-type]


_NEVER = [
    r"drop_constraint",
    r"drop_index",
    r"create_(unique|foreign|check|primary|index)",
    r"(?i)drop sequence",
]
_ID = 'sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)'
_OTHER = f'sa.Table("o", metadata, {_ID})\n'

CASES = {
    "05-primary-key": _renamed(f'sa.Table("TABLE", metadata, {_ID})', equal=False),
    "05-unique": _renamed(
        f'sa.Table("TABLE", metadata, {_ID}, sa.Column("a", sa.Text, unique=True))', equal=False
    ),
    "05-foreign-key": _renamed(
        f'sa.Table("TABLE", metadata, {_ID}, sa.Column("o_id", sa.Integer, sa.ForeignKey("o.id")))',
        more=_OTHER,
        equal=False,
    ),
    "05-referred": _renamed(
        f'sa.Table("TABLE", metadata, {_ID})\n'
        'sa.Table("child", metadata, sa.Column("up", sa.Integer, sa.ForeignKey("TABLE.id")))',
        equal=False,
    ),
    "05-check": _renamed(
        'sa.Table("TABLE", metadata, sa.Column("a", sa.Integer, sa.CheckConstraint("a > 0")))'
    ),
    # SQLAlchemy itself names the index of a column, so it is named in the models.
    "05-index": _renamed(
        'sa.Table("TABLE", metadata, sa.Column("a", sa.Integer, index=True))',
        "index ix_new_a on new (name)",
        text=[r"(?i)(?=.*rename).*ix_old_a.*ix_new_a"],
    ),
    "05-unique-index": _renamed(
        'sa.Table("TABLE", metadata, sa.Column("a", sa.Integer, index=True, unique=True))',
        "index ix_new_a on new (name)",
    ),
    "05-serial": _renamed(
        'sa.Table("TABLE", metadata, sa.Column("id", sa.Integer, primary_key=True))',
        "sequence new_id_seq (name)",
        text=[r"(?i)old_id_seq.*rename.*new_id_seq"],
        equal=False,
    ),
    "05-identity": _renamed(
        'sa.Table("TABLE", metadata, sa.Column("id", sa.Integer, sa.Identity(), primary_key=True))'
    ),
    "05-enum-check": _renamed(
        'sa.Table("TABLE", metadata, sa.Column("k", sa.Enum("a", native_enum=False, create_constraint=True)))'
    ),
    "05-convention-primary-key": _renamed(
        f'sa.Table("TABLE", metadata, {_ID})',
        "constraint pk_new on new (name)",
        convention=True,
        text=[r"(?i)rename.*pk_old.*pk_new"],
    ),
    "05-convention-unique": _renamed(
        'sa.Table("TABLE", metadata, sa.Column("a", sa.Text, unique=True))',
        "constraint uq_new_a on new (name)",
        convention=True,
        text=[r"(?i)rename.*uq_old_a.*uq_new_a"],
    ),
    "05-convention-foreign-key": _renamed(
        'sa.Table("TABLE", metadata, sa.Column("o_id", sa.Integer, sa.ForeignKey("o.id")))',
        "constraint fk_new_o_id_o on new (name)",
        convention=True,
        more=_OTHER,
        text=[r"(?i)rename.*fk_old_o_id_o.*fk_new_o_id_o"],
    ),
    "05-convention-referred": _renamed(
        f'sa.Table("TABLE", metadata, {_ID})\n'
        'sa.Table("child", metadata, sa.Column("up", sa.Integer, sa.ForeignKey("TABLE.id")))',
        "constraint fk_child_up_new on child (name)",
        "constraint pk_new on new (name)",
        convention=True,
    ),
    "05-convention-check": _renamed(
        'sa.Table("TABLE", metadata, sa.Column("a", sa.Integer),'
        ' sa.CheckConstraint("a > 0", name="positive"))',
        "constraint ck_new_positive on new (name)",
        convention=True,
        text=[r"(?i)rename.*ck_old_positive.*ck_new_positive"],
    ),
    "05-convention-index": _renamed(
        'sa.Table("TABLE", metadata, sa.Column("a", sa.Integer, index=True))',
        "index ix_new_a on new (name)",
        convention=True,
        text=[r"(?i)(?=.*rename).*ix_old_a.*ix_new_a"],
    ),
    "05-convention-serial": _renamed(
        'sa.Table("TABLE", metadata, sa.Column("id", sa.Integer, primary_key=True))',
        "constraint pk_new on new (name)",
        "sequence new_id_seq (name)",
        convention=True,
    ),
    # Two tables exchange their names: each new name is still in use.
    "05-exchanged": Case(
        CONVENTION
        + "".join(
            f'sa.Table("{name}", metadata, sa.Column("{column}", sa.Text),'
            ' sa.Column("x", sa.Text, unique=True))\n'
            for name, column in (("one", "b"), ("two", "a"))
        ),
        revisions=[
            "op.execute('''CREATE TABLE one (a text, x text CONSTRAINT uq_one_x UNIQUE);"
            " CREATE TABLE two (b text, x text CONSTRAINT uq_two_x UNIQUE)''')",
            "op.rename_table('one', 'three')\nop.rename_table('two', 'one')\nop.rename_table('three', 'two')",
        ],
        expected=["constraint uq_one_x on one (name)", "constraint uq_two_x on two (name)"],
        never=_NEVER,
    ),
    # Both the name and the definition differ: this is no rename.
    "05-changed-too": Case(
        CONVENTION
        + 'sa.Table("new", metadata, sa.Column("a", sa.Text, unique=True), sa.Column("b", sa.Text))',
        revisions=[
            "op.execute('CREATE TABLE old (a text, b text, CONSTRAINT uq_old_a UNIQUE (a, b))')",
            "op.rename_table('old', 'new')",
        ],
        expected=["constraint uq_new_a on new", "constraint uq_old_a on new"],
        text=[r"drop_constraint", r"create_unique_constraint"],
    ),
}


@pytest.mark.parametrize("case", params(CASES))
def test_a_renamed_table(stock: Stock, case: Case) -> None:
    stock.round_trip(case)
