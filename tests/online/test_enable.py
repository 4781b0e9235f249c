"""What importing the package and enabling a context change, and what they do not change."""

import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.operations import Operations, ops, toimpl
from alembic.runtime.migration import MigrationContext
from marks import quick
from online.project import Project, versions

import alembic_online
from alembic_online.errors import OnlineError

REVISION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "r1", None


def upgrade():
    op.create_table("k", sa.Column("id", sa.Integer), sa.Column("t_id", sa.Integer, sa.ForeignKey("t.id")))
    with op.get_context().autocommit_block():
        op.create_index("t_a_ix", "t", ["a"], postgresql_concurrently=True)
        op.drop_index("t_b_ix", "t", postgresql_concurrently=True)
    op.create_index("t_c_ix", "t", ["c"], postgresql_concurrently=True)
    op.execute("ANALYZE t")


def downgrade():
    pass
"""
# A run that does not import the plugin.
ALONE = """
import sys
from alembic.config import main
main(["-c", sys.argv[1], "upgrade", "head", "--sql"])
assert not [name for name in sys.modules if name.startswith("alembic_online")], sorted(sys.modules)
"""


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    """The ini file of a project of Alembic's own template, without the plugin."""
    ini = tmp_path / "alembic.ini"
    command.init(Config(ini, stdout=StringIO()), str(tmp_path / "stock"), template="generic")
    text = ini.read_text().replace("driver://user:pass@localhost/dbname", "postgresql+psycopg://")
    ini.write_text(text)
    (tmp_path / "stock" / "versions" / "r1.py").write_text(REVISION)
    return ini


def test_a_project_that_does_not_enable_it_is_unchanged(stock: Path) -> None:
    alone = subprocess.run(
        [sys.executable, "-c", ALONE, str(stock)], check=True, capture_output=True, text=True
    ).stdout
    assert alembic_online.__all__  # imported, but not enabled
    output = StringIO()
    config = Config(stock, output_buffer=output)
    config.set_main_option("script_location", str(stock.parent / "stock"))
    config.set_main_option("sqlalchemy.url", "postgresql+psycopg://")
    config.config_file_name = None  # otherwise Alembic configures the loggers of this process
    command.upgrade(config, "head", sql=True)
    assert output.getvalue() == alone
    assert alone.count("CONCURRENTLY") == 3


def test_it_calls_the_implementation_of_another_plugin() -> None:
    """In another process, because there is one registry for all plugins."""
    program = """
from alembic.operations import Operations, ops
from alembic.runtime.migration import MigrationContext

@Operations.implementation_for(ops.CreateTableCommentOp, replace=True)
def another(operations, operation):
    print("another plugin's", operation.comment)

import alembic_online
context = MigrationContext.configure(dialect_name="postgresql", opts={"as_sql": True})
Operations(context).create_table_comment("t", "comment")
"""
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout == "another plugin's comment\n"


CONCURRENTLY = """
with op.get_context().autocommit_block():
    op.create_index("t_block_ix", "t", ["a"], postgresql_concurrently=True)
op.create_index("t_plain_ix", "t", ["a"], postgresql_concurrently=True)
op.drop_index("t_a_idx", "t", postgresql_concurrently=True)
"""


def test_an_enabled_script_builds_concurrently_only_outside_of_a_transaction(
    project: Project,
) -> None:
    project.revision(CONCURRENTLY)
    lines = [line for line in project.script(online=False).splitlines() if "INDEX" in line]
    assert lines == [
        "CREATE INDEX CONCURRENTLY t_block_ix ON t (a);",
        "CREATE INDEX t_plain_ix ON t (a);",
        "DROP INDEX t_a_idx;",
    ]
    project.upgrade(online=False)


def test_an_operation_is_passed_on_unchanged() -> None:
    assert Operations._to_impl.dispatch(ops.CreateIndexOp) is not toimpl.create_index
    operation = ops.CreateIndexOp("ix", "t", ["a"], postgresql_concurrently=True)
    output = StringIO()
    opts = {"as_sql": True, "output_buffer": output}
    context = MigrationContext.configure(dialect_name="postgresql", opts=opts)
    for _ in range(2):
        Operations(context).invoke(operation)
    assert output.getvalue().count("CREATE INDEX CONCURRENTLY") == 2


def test_it_mentions_no_project() -> None:
    """Neither a switch that other projects lack, nor tables and constraints with a name of ours."""
    sources = [file.read_text() for file in Path(alembic_online.__file__).parent.rglob("*.py")]
    assert len(sources) > 5
    former = "nexus_schema_not_null_"  # from a run of an older version
    assert not [text for text in sources if re.search("DEBUG=|nexus|NEXUS", text.replace(former, ""))]


# Records whether the revision runs online.
TELLS = 'op.execute("CREATE TABLE ran AS SELECT %s AS online" % plugin.is_online())'
YES, NO = ("", "true", "True", "1", "YES", "on"), ("false", "FALSE", "0", "No", "off")


@pytest.mark.parametrize(
    ("options", "online"),
    quick(
        {
            "alone": (["online"], True),
            "not at all": ([], False),
            "of the project": (["tenant=a", "offline", "inline=yes"], False),
            **{f"online={value}": ([f"online={value}"], True) for value in YES},
            **{f"online={value}": ([f"online={value}"], False) for value in NO},
        },
        "alone",
        "not at all",
        "of the project",
        "online=True",
        "online=off",
    ),
)
def test_valid_values_of_online(project: Project, options: list[str], online: bool) -> None:
    project.revision(TELLS)
    project.upgrade(options=options)
    assert project.database.execute("SELECT online FROM ran").fetchone() == (online,)


@pytest.mark.parametrize(
    ("options", "message"),
    quick(
        {
            "ture": (
                ["online=ture"],
                "option -x online takes plan, restart, .*, true, 1, yes, on, .* or nothing, not 'ture'",
            ),
            "2": (["online=2"], "option -x online takes .*, not '2'"),
            **{
                f"online, {value}": (
                    ["online", f"lock_wait={value}"],
                    "option -x lock_wait takes a number of seconds, not ",
                )
                for value in ("", "soon", "-1", "1s", "nan", "inf", "1e400")
            },
            "soon": (["lock_wait=soon"], "option -x lock_wait takes a number of seconds, not 'soon'"),
            "onlien": (["onlien"], "unknown option -x onlien; did you mean -x online?"),
            "lock-wait": (
                ["online", "lock-wait=5"],
                "unknown option -x lock-wait; did you mean -x lock_wait?",
            ),
        },
        "ture",
        "online, nan",
        "soon",
        "onlien",
    ),
)
def test_invalid_values_of_options(project: Project, options: list[str], message: str) -> None:
    project.revision(TELLS)
    with pytest.raises(OnlineError, match=message) as error:
        project.upgrade(options=options)
    assert "\n" not in str(error.value)
    assert versions(project.database) == []
