"""Changes of the labels of an enumerated type k: the type of the column v of a table t."""

from typing import Any

from drift.stock import Case

_ID = 'sa.Column("id", sa.Integer)'
CHANGED = "type k (definition)"


def k_type(labels: str) -> str:
    return f'pg.ENUM({", ".join(map(repr, labels.split()))}, name="k")'


def table(labels: str, options: str = "", *more: str, array: bool = False) -> str:
    """Return a table with a column of the type."""
    type_ = f"pg.ARRAY({k_type(labels)})" if array else k_type(labels)
    return f'sa.Table("t", metadata, {", ".join([_ID, f"""sa.Column("v", {type_}{options})""", *more])})\n'


def made(labels: str, column: str = "v k", more: str = "") -> list[str]:
    statement = (
        f"CREATE TYPE k AS ENUM ({', '.join(map(repr, labels.split()))}); CREATE TABLE t (id int, {column})"
    )
    return [f'op.execute("""{statement}; {more}""")']


ROWS = "INSERT INTO t (v) VALUES ('a'), ('b'), (NULL)"


def case(old: str, new: str, **options: Any) -> Case:
    return Case(
        **{
            "models": table(new),
            "revisions": made(old),
            "sql": ROWS,
            "expected": [CHANGED],
            "again": True,
            **options,
        }
    )


CHECK = 'sa.CheckConstraint("{0}", name="ck")'
INDEX = 'sa.Index("i", {0})'
