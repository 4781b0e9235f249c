"""Errors of one line that need no server."""

import sqlalchemy as sa
from sqlalchemy.exc import CompileError

from nexus_schema.errors import user_message


def test_a_value_that_cannot_be_compiled() -> None:
    try:
        sa.insert(sa.table("t", sa.column("a"))).values(a=object()).compile(
            compile_kwargs={"literal_binds": True}
        )
    except CompileError as error:
        said = user_message(error) or ""
    assert said.startswith("cannot be compiled to SQL: No literal value renderer")
    assert said.endswith("give each object a name, and each column a type")
    assert "\n" not in said
