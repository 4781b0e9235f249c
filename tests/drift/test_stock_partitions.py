"""Partitioned tables of other projects: objects that partitions inherit are no separate differences."""

import pytest
from drift.stock import Case, Stock, params

_ID = 'sa.Column("id", sa.Integer, primary_key=True, autoincrement=False)'
_PARTITIONED = 'postgresql_partition_by="RANGE (id)"'
_PARTITIONS = """
CREATE TABLE m1 PARTITION OF m FOR VALUES FROM (0) TO (10);
CREATE TABLE m2 PARTITION OF m FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
CREATE TABLE m2a PARTITION OF m2 FOR VALUES FROM (10) TO (15)"""
_P = f'sa.Table("p", metadata, {_ID})\n'
_M = f'sa.Table("m", metadata, {_ID}, {_PARTITIONED})\n'
_WITH = f'sa.Table("m", metadata, {_ID}, sa.Column("a", sa.Integer), MORE {_PARTITIONED})\n'
_MADE_P = "op.execute('CREATE TABLE p (id int PRIMARY KEY)')"
_MADE_M = f"op.execute('''CREATE TABLE m (id int PRIMARY KEY) PARTITION BY RANGE (id);{_PARTITIONS}''')"
# Models that include the partitions.
_MODELLED = "".join(
    f'sa.event.listen(metadata, "after_create", sa.DDL("{statement.strip()}"))\n'
    for statement in _PARTITIONS.split(";")
)


def _with(made: str, more: str = "", **options: object) -> Case:
    """A partitioned table m. A revision and the models create the partitions."""
    parts = f"CREATE TABLE m (id int PRIMARY KEY, a int{made}) PARTITION BY RANGE (id);{_PARTITIONS}"
    return Case(
        _P + _WITH.replace("MORE", more) + _MODELLED,
        revisions=[_MADE_P, f"op.execute('''{parts}''')"],
        **options,  # type: ignore[arg-type]
    )


CASES = {
    "08-nothing": _with(""),
    "08-foreign-key-of": _with(
        ", CONSTRAINT f FOREIGN KEY (a) REFERENCES p", 'sa.ForeignKeyConstraint(["a"], ["p.id"], name="f"),'
    ),
    "08-foreign-key-of-unnamed": _with(" REFERENCES p", 'sa.ForeignKeyConstraint(["a"], ["p.id"]),'),
    "08-foreign-key-to": Case(
        _M + 'sa.Table("c", metadata, sa.Column("m_id", sa.ForeignKey("m.id", name="f")))\n' + _MODELLED,
        revisions=[_MADE_M, "op.execute('CREATE TABLE c (m_id int CONSTRAINT f REFERENCES m)')"],
    ),
    # An operator adds partitions regularly, and no model has them.
    "08-foreign-key-to-own-partitions": Case(
        _M + 'sa.Table("c", metadata, sa.Column("m_id", sa.ForeignKey("m.id", name="f")))\n',
        revisions=[
            "op.execute('CREATE TABLE m (id int PRIMARY KEY) PARTITION BY RANGE (id)')",
            "op.execute('CREATE TABLE c (m_id int CONSTRAINT f REFERENCES m)')",
        ],
        sql=_PARTITIONS,
    ),
    "08-foreign-key-of-own-partitions": Case(
        _P + f'sa.Table("m", metadata, {_ID}, sa.Column("a", sa.ForeignKey("p.id", name="f")),'
        f" {_PARTITIONED})\n",
        revisions=[
            _MADE_P,
            "op.execute('''CREATE TABLE m (id int PRIMARY KEY, a int CONSTRAINT f REFERENCES p)"
            " PARTITION BY RANGE (id)''')",
        ],
        sql=_PARTITIONS,
    ),
    "08-foreign-key-to-itself": _with(
        ", CONSTRAINT f FOREIGN KEY (a) REFERENCES m", 'sa.ForeignKeyConstraint(["a"], ["m.id"], name="f"),'
    ),
    "08-check": _with(", CONSTRAINT c CHECK (a > 0)", 'sa.CheckConstraint("a > 0", name="c"),'),
    "08-check-own-partitions": Case(
        _WITH.replace("MORE", 'sa.CheckConstraint("a > 0", name="c"),'),
        revisions=[
            "op.execute('''CREATE TABLE m (id int PRIMARY KEY, a int CONSTRAINT c CHECK (a > 0))"
            " PARTITION BY RANGE (id)''')",
        ],
        sql=_PARTITIONS,
    ),
    "08-index-own-partitions": Case(
        _WITH.replace("MORE", 'sa.Index("i", "a"),'),
        revisions=[
            "op.execute('CREATE TABLE m (id int PRIMARY KEY, a int) PARTITION BY RANGE (id)')\n"
            "op.create_index('i', 'm', ['a'])"
        ],
        sql=_PARTITIONS,
    ),
    # A difference of the partitioned table is one difference, resolved once.
    "08-foreign-key-dropped": _with(
        ", CONSTRAINT f FOREIGN KEY (a) REFERENCES p", "", expected=["constraint f on m"]
    ),
    "08-foreign-key-added": _with(
        "", 'sa.ForeignKeyConstraint(["a"], ["p.id"], name="f"),', expected=["constraint f on m"]
    ),
    "08-foreign-key-to-dropped": Case(
        _M + 'sa.Table("c", metadata, sa.Column("m_id", sa.Integer))\n' + _MODELLED,
        revisions=[_MADE_M, "op.execute('CREATE TABLE c (m_id int CONSTRAINT f REFERENCES m)')"],
        expected=["constraint f on c"],
    ),
    "08-foreign-key-to-added": Case(
        _M + 'sa.Table("c", metadata, sa.Column("m_id", sa.ForeignKey("m.id", name="f")))\n' + _MODELLED,
        revisions=[_MADE_M, "op.execute('CREATE TABLE c (m_id int)')"],
        expected=["constraint f on c"],
    ),
    "08-check-dropped": _with(", CONSTRAINT c CHECK (a > 0)", "", expected=["constraint c on m"]),
    "08-check-added": _with("", 'sa.CheckConstraint("a > 0", name="c"),', expected=["constraint c on m"]),
    "08-inherited-check": Case(
        'sa.Table("up", metadata, sa.Column("a", sa.Integer), sa.CheckConstraint("a > 0", name="c"))\n'
        'sa.event.listen(metadata, "after_create", sa.DDL("CREATE TABLE down () INHERITS (up)"))',
        revisions=["op.execute('CREATE TABLE up (a int CONSTRAINT c CHECK (a > 0))')"],
        sql="CREATE TABLE down () INHERITS (up)",
    ),
}


@pytest.mark.parametrize("case", params(CASES))
def test_a_partitioned_table(stock: Stock, case: Case) -> None:
    stock.round_trip(case)
