"""Models, chain and --sql script create the same schema."""

import difflib

import pytest
from databases import Database, dump_schema, run_sql_script, url_of
from programs import alembic_program
from sqlalchemy import create_engine
from support import HEAD, run_alembic

from nexus_schema.database import parse_url
from nexus_schema.models import Base


def assert_same(left: str, right: str) -> None:
    assert left == right, "\n".join(difflib.unified_diff(left.splitlines(), right.splitlines(), lineterm=""))


def with_sorted_columns(dump: str) -> str:
    """Sort the columns of each table: a revision adds one at the end, in the model it may be anywhere."""

    def in_order(statement: str) -> str:
        first, *columns = statement.splitlines()
        return "\n".join([first, *sorted(line.rstrip(",") for line in columns)])

    statements = dump.split("\n\n")
    return "\n\n".join(in_order(text) if text.startswith("CREATE TABLE") else text for text in statements)


def test_the_models_create_the_schema_of_the_chain(head: Database, empty: Database) -> None:
    engine = create_engine(parse_url(url_of(empty)))
    Base.metadata.create_all(engine)
    engine.dispose()
    assert "CREATE MATERIALIZED VIEW public.hourly_stats" in dump_schema(head)
    assert_same(with_sorted_columns(dump_schema(head)), with_sorted_columns(dump_schema(empty)))


def test_the_sql_script_creates_the_schema_of_the_chain(head: Database, empty: Database) -> None:
    script = alembic_program("upgrade", "head", "--sql", url=url_of(empty))
    assert script.returncode == 0, script.stderr
    result = run_sql_script(empty, script.stdout)
    assert (result.returncode, result.stderr) == (0, "")
    assert_same(dump_schema(head), dump_schema(empty))
    assert empty.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]


def test_drop_all_leaves_nothing(empty: Database) -> None:
    before = dump_schema(empty)
    engine = create_engine(parse_url(url_of(empty)))
    Base.metadata.create_all(engine)
    Base.metadata.drop_all(engine)
    engine.dispose()
    assert_same(before, dump_schema(empty))


def test_check_is_clean_at_head(head: Database) -> None:
    result = alembic_program("check", url=url_of(head))
    assert (result.returncode, result.stdout) == (0, "No new upgrade operations detected.\n")


def test_check_leaves_nothing_behind_and_locks_no_view(head: Database) -> None:
    before = dump_schema(head)
    with head.transaction():  # the view is being read
        head.execute("SELECT count(*) FROM hourly_stats")
        run_alembic("check", url=url_of(head, options="-c lock_timeout=100ms"))
    assert_same(before, dump_schema(head))


@pytest.mark.parametrize(
    "own",
    [
        "CREATE INDEX mine ON hourly_stats (model)",
        'CREATE INDEX "My Odd" ON hourly_stats (model)',
        "CREATE INDEX idx_requests_conversation_timestamp ON api_requests (conversation_id)",
        "CREATE INDEX idx_requests_branch_id ON api_requests (branch_id)",
    ],
)
def test_an_unmanaged_index_is_no_difference(head: Database, own: str) -> None:
    head.execute(own)
    run_alembic("check", url=url_of(head))
