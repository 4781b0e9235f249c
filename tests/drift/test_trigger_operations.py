"""Operations for triggers, rules and policies: online runs, and errors."""

import pytest
from alembic.util import CommandError
from drift.round_trip import Project, assert_same, schema_of
from drift.stock import Stock
from drift.test_database_changes import ABOUT_TRIGGERS
from sqlalchemy.exc import DBAPIError
from support import HEAD

_F = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"
_X = "CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()"
_CONSTRAINT = "CREATE CONSTRAINT TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()"


def test_generated_operations_run_online(project: Project, schema_at_head: list[str]) -> None:
    for _, change in ABOUT_TRIGGERS:
        project.database.execute(change)
    changed = schema_of(project.database)
    text = project.autogenerate()
    project.x = ["online"]
    project.run("upgrade", "head")
    assert_same(schema_of(project.database), schema_at_head, text)
    project.x = ["online", "allow_data_loss=true"]
    project.run("downgrade", HEAD)
    assert_same(schema_of(project.database), changed, text)


ERRORS = {
    "no trigger": ('op.create_trigger("x", "t", "CREATE RULE x")', "does not begin with CREATE TRIGGER"),
    "no rule": ('op.create_rule("x", "t", "CREATE TRIGGER x")', "rule x does not begin with CREATE RULE"),
    "no key": ('op.alter_constraint_triggers("x", "t", enabled={})', "table t has no foreign key x"),
    "nothing to enable": ('op.alter_trigger("x", "t", enabled=False)', "x"),
    "constraint trigger": (
        f'op.execute({_F!r})\nop.execute({_CONSTRAINT!r})\nop.create_trigger("x", "t", {_X!r})',
        "constraint trigger",
    ),
}


@pytest.mark.parametrize(("body", "said"), ERRORS.values(), ids=[*ERRORS])
def test_wrong_arguments_are_errors(stock: Stock, body: str, said: str) -> None:
    stock.write_models("")
    stock.write_revision(f"import alembic_drift.operations\nop.execute('CREATE TABLE t (a int)')\n{body}")
    with pytest.raises((DBAPIError, CommandError), match=said):
        stock.upgrade()
