"""Alembic's commands as a user runs them, in a copy of the project."""

import ast
import re
import shlex
import signal
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from alembic import __version__
from copies import alembic, alembic_error, change, new_file
from databases import Database, dump_schema, url_of
from marks import quick
from programs import alembic_program, python_program, run_program
from support import HEAD, NEXT, REVISIONS


def test_reading_commands(head: Database, project: Path) -> None:
    assert f"{HEAD} (head)" in alembic(project, head, "current")
    history = alembic(project, head, "history")
    assert history.index(f"{REVISIONS[-2]} -> {HEAD} (head)") < history.index("<base> -> 000")
    assert "No new upgrade operations detected." in alembic(project, head, "check")


@pytest.mark.thorough
def test_downgrade_and_upgrade(head: Database, project: Path) -> None:
    before = dump_schema(head)
    alembic(project, head, "downgrade", "base")
    assert "CREATE" not in dump_schema(head)
    alembic(project, head, "upgrade", "head")
    assert dump_schema(head) == before


def test_with_nothing_changed_no_revision_is_written(head: Database, project: Path) -> None:
    files = set(project.rglob("*.py"))
    said = alembic(project, head, "revision", "--autogenerate", "-m", "nothing")
    assert "models and database agree: no revision was written" in said
    assert set(project.rglob("*.py")) == files


def test_a_plain_revision_gets_the_next_number_and_needs_no_database(project: Path) -> None:
    result = alembic_program(
        "revision", "-m", "Add request tags!", url="postgresql://127.0.0.1:1/none", cwd=project
    )
    assert result.returncode == 0, result.stderr
    file = new_file(project)
    assert file.name == f"{NEXT}_add_request_tags.py"
    text = file.read_text()
    assert f'revision: str = "{NEXT}"' in text
    assert f'down_revision: str | None = "{HEAD}"' in text
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert re.match(r"Add request tags!\.\n\nWhat: TODO.*\nWhy: TODO", docstring, re.DOTALL)
    imports = (
        "import sqlalchemy as sa\nfrom alembic import op\n\n"
        "from nexus_schema.revisions import refuse_data_loss, verify\n\nrevision: str"
    )
    assert imports in text, "the author of the revision needs them"
    for command in ("format --check", "check --extend-ignore F401,PIE790"):
        found = run_program(sys.executable, "-m", "ruff", *command.split(), file, cwd=project)
        assert found.returncode == 0, found.stdout
    assert not (project / ".postgres").exists()


def test_branches_are_joined_by_a_revision_with_the_next_number(project: Path) -> None:
    """None of these commands needs a database."""
    joined = f"{int(NEXT) + 1:03d}"
    versions = project / "alembic" / "versions"
    alembic(project, None, "revision", "-m", "one")
    other = new_file(project).read_text().replace(f'"{NEXT}"', f'"{joined}"')
    (versions / f"{joined}_two.py").write_text(other)
    for command in (["revision", "-m", "three"], ["upgrade", "head", "--sql"]):
        assert alembic_error(project, None, *command) == (
            f"error: multiple heads: {NEXT}, {joined}; set down_revision of the later one to the other"
            ", or merge them: alembic merge heads -m 'join the two'"
        )
    assert "a revision needs a message" in alembic_error(project, None, "merge", "heads")
    alembic(project, None, "merge", "heads", "--rev-id", "x", "-m", "other")
    (versions / "x_other.py").unlink()

    number = f"{int(joined) + 1:03d}"
    alembic(project, None, "merge", "heads", "-m", "join them")
    file = new_file(project, number)
    assert file.name == f"{number}_join_them.py"
    text = file.read_text()
    assert (
        f'revision: str = "{number}"\ndown_revision: str | Sequence[str] | None = ("{NEXT}", "{joined}")'
        in text
    )
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert f"Revision ID: {number}\nRevises: {NEXT}, {joined}\n" in docstring
    assert "TODO" not in docstring
    for ruff in ("format --check", "check"):
        found = run_program(sys.executable, "-m", "ruff", *ruff.split(), file, cwd=project)
        assert found.returncode == 0, found.stdout
    assert f"{number} (head)" in alembic(project, None, "heads")
    script = alembic(project, None, "upgrade", f"{HEAD}:head", "--sql")
    assert f"UPDATE alembic_version SET version_num='{number}'" in script
    assert not (project / ".postgres").exists()


WITHOUT_RUFF = """if True:
    import sys
    sys.modules["ruff"] = None  # as if it were not installed
    from alembic.config import main
    main(["revision", "-m", "plain"])
"""


def test_a_revision_is_written_without_ruff_too(project: Path) -> None:
    result = python_program("-c", WITHOUT_RUFF, cwd=project, PYTHONPATH=str(project / "src"))
    assert result.returncode == 0, result.stderr
    assert "ruff is not installed: the revision is written, but not formatted" in result.stderr
    assert new_file(project).name == f"{NEXT}_plain.py"


def test_a_revision_needs_a_message(project: Path) -> None:
    result = alembic_program("revision", cwd=project)
    assert result.returncode == 1
    assert [line[:33] for line in result.stderr.splitlines() if not line.startswith("INFO")] == [
        "error: a revision needs a message"
    ]


NEW_TABLE = '''
class Tag(Base):
    """A tag."""

    __tablename__ = "tags"
    __table_args__ = (
        CheckConstraint(r"length(name) % 2 = 0 AND name <> '\\:bad'", name="name"),
        {"comment": "Tags"},
    )

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, comment="Key")
    name: Mapped[str] = mapped_column(String(50), unique=True, comment="Name")
'''


@pytest.mark.thorough
def test_autogenerate_writes_a_revision_that_runs(head: Database, project: Path) -> None:
    change(
        project,
        "conversation_metric.py",
        "    created_at:",
        '    tag_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("tags.id"), comment="Tag")\n'
        "    created_at:",
    )
    change(
        project, "conversation_metric.py", "import DateTime,", "import CheckConstraint, DateTime, ForeignKey,"
    )
    change(
        project,
        "conversation_metric.py",
        'Index("idx_conversation_metrics_conversation", "conversation_id")',
        'Index("idx_conversation_metrics_tag", "tag_id")',
    )
    path = project / "src" / "models" / "conversation_metric.py"
    path.write_text(path.read_text() + "\n" + NEW_TABLE)
    change(
        project,
        "hourly_stats.py",
        'func.count().label("request_count"),',
        'func.count().label("request_count"),\n        func.max(ApiRequest.duration_ms).label("slowest"),',
    )
    change(
        project,
        "hourly_stats.py",
        'Index("idx_hourly_stats_hour_domain"',
        'Index("idx_hourly_stats_model", hourly_stats.c.model)\nIndex("idx_hourly_stats_hour_domain"',
    )
    head.execute('CREATE INDEX "My Own" ON hourly_stats (domain)')
    before = dump_schema(head)

    alembic(project, head, "revision", "--autogenerate", "-m", "tags")
    text = new_file(project).read_text()
    created = re.findall(r"op\.(?:create_table|add_column|create_index)\(", text)
    dropped = re.findall(r"op\.drop_(?!materialized_view)\w+\(", text)  # this one always has IF EXISTS
    assert (text.count("if_not_exists=True"), text.count("if_exists=True")) == (len(created), len(dropped))
    assert min(len(created), len(dropped)) >= 4
    assert "slowest" in text
    formatted = run_program(sys.executable, "-m", "ruff", "format", "--check", new_file(project), cwd=project)
    assert formatted.returncode == 0, formatted.stdout

    alembic(project, head, "upgrade", "head")
    after = dump_schema(head)
    assert "CREATE TABLE public.tags" in after
    assert re.search(r"max\(.*duration_ms\) AS slowest", after)
    assert "% 2" in after
    assert "':bad'" in after
    assert "%%" not in text
    assert 'CREATE INDEX "My Own" ON public.hourly_stats' in after
    said = alembic(project, head, "revision", "--autogenerate", "-m", "again")
    assert "no revision was written" in said
    change(project, "hourly_stats.py", 'Index("idx_hourly_stats_model", hourly_stats.c.model)\n', "")
    dropping = alembic_program("check", url=url_of(head), cwd=project, PYTHONPATH=str(project / "src"))
    assert "[index idx_hourly_stats_model on hourly_stats]" in dropping.stdout, "a revision created it"
    alembic(project, head, "stamp", HEAD)
    alembic(project, head, "upgrade", "head")
    assert dump_schema(head) == after, "the generated upgrade cannot run twice"
    alembic(project, head, "downgrade", HEAD)
    assert dump_schema(head) == before


@pytest.mark.parametrize("edit", quick(["drop", "widen"]))
def test_a_column_that_the_view_reads_can_change(head: Database, project: Path, edit: str) -> None:
    if edit == "drop":
        change(
            project,
            "hourly_stats.py",
            '        func.sum(ApiRequest.tool_call_count).label("total_tool_calls"),\n',
            "",
        )
        change(project, "hourly_stats.py", '    "total_tool_calls": "Sum of tool_call_count",\n', "")
        models = (project / "src" / "models" / "api_request.py").read_text()
        column = re.search(r"    tool_call_count: .*?\n    \)\n", models, re.DOTALL)
        assert column is not None
        change(project, "api_request.py", column[0], "")
    else:
        change(
            project,
            "api_request.py",
            "model: Mapped[str | None] = mapped_column(String(100)",
            "model: Mapped[str | None] = mapped_column(String(200)",
        )
    before = dump_schema(head)
    alembic(project, head, "revision", "--autogenerate", "-m", edit)
    alembic(project, head, "upgrade", "head")
    alembic(project, head, "check")
    head.execute("SELECT refresh_hourly_stats()")
    alembic(project, head, "downgrade", HEAD)
    if edit == "widen":
        assert dump_schema(head) == before
    alembic(project, head, "upgrade", "head")


def test_a_read_only_role_is_warned_of_what_is_not_compared(head: Database, project: Path) -> None:
    role = f"nexus_reader_{head.info.backend_pid}"
    head.execute(
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    )
    head.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    info = head.info
    url = f"postgresql://{role}:x@/{info.dbname}?host={info.host}&port={info.port}"
    result = alembic_program("check", url=url, cwd=project, PYTHONPATH=str(project / "src"))
    head.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
    [line] = [line for line in result.stderr.splitlines() if "not compared" in line]
    assert f"because role {role} cannot create a schema in database {info.dbname}" in line


def test_history_needs_no_database(project: Path) -> None:
    result = alembic_program("history", url="postgresql://127.0.0.1:1/none", cwd=project)
    assert result.returncode == 0, result.stderr
    assert f"{REVISIONS[-2]} -> {HEAD} (head)" in result.stdout


def test_the_reader_of_a_pipe_may_end_early(project: Path) -> None:
    alembic_command = shlex.quote(str(Path(sys.executable).with_name("alembic")))
    command = f"{alembic_command} upgrade head --sql | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = run_program("bash", "-c", command, cwd=project)
    assert done.returncode == 128 + signal.SIGPIPE
    assert done.stdout == "BEGIN;\n"
    assert all(line.startswith(("INFO", "WARNING")) for line in done.stderr.splitlines())


def test_the_version_is_that_of_this_package() -> None:
    said = python_program("-m", "nexus_schema", "--version").stdout
    assert said == f"nexus-schema {version('nexus-schema')}, Alembic {__version__}\n"


def test_offline_sql_is_pure_sql_and_needs_no_database(project: Path) -> None:
    result = alembic_program("upgrade", "head", "--sql", cwd=project)
    assert result.returncode == 0, result.stderr
    assert "INFO" not in result.stdout
    assert "%%" not in result.stdout
    assert not (project / ".postgres").exists()
    assert result.stdout.count("BEGIN;") == result.stdout.count("COMMIT;") == len(REVISIONS)
