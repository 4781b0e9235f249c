"""One line for what can go wrong, where no server is needed to see it."""

import sqlalchemy as sa
from sqlalchemy.exc import CompileError

from nexus_schema.errors import describe


def test_what_cannot_be_compiled() -> None:
    try:
        sa.insert(sa.table("t", sa.column("a"))).values(a=object()).compile(
            compile_kwargs={"literal_binds": True}
        )
    except CompileError as error:
        said = describe(error) or ""
    assert said.startswith("not to be written as SQL: No literal value renderer")
    assert said.endswith("give names, and columns their types")
    assert "\n" not in said
