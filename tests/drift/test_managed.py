"""Which objects are managed, by the sources of the revisions: those that a revision creates."""

import logging
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from drift.revisions import assert_managed, chain
from drift.round_trip import Project
from programs import ROOT
from support import HEAD, NEXT

from alembic_drift.objects import Key
from alembic_drift.revisions.managed import managed_by


def test_revisions_are_read_from_the_first_to_the_last(tmp_path: Path) -> None:
    script = chain(
        tmp_path, "op.create_index('i', 't', ['a'])", "op.drop_index('i')\nop.create_index('j', 't', ['a'])"
    )
    assert_managed(managed_by(script), "index t.j", "index t.i")


def test_an_object_of_another_schema_is_a_different_one(tmp_path: Path) -> None:
    script = chain(
        tmp_path,
        "op.create_table('t', sa.Column('a', sa.Text, index=True), schema='other')\n"
        "op.execute('CREATE TABLE public.u (a int); DROP TABLE IF EXISTS u2; CREATE TABLE v (a int)')\n"
        "op.execute('DROP TABLE public.v')",
    )
    managed = managed_by(script, "public")
    assert_managed(managed.of("other"), "table t; column t.a; index t.ix_other_t_a", "table u")
    assert_managed(managed, "table u; column u.a", "table t; column t.a; table v")
    assert_managed(managed_by(script, "other"), "table t", "table u")


def test_no_revision_is_run(tmp_path: Path) -> None:
    """Alembic imports the modules once, and nothing else runs."""
    ran = tmp_path / "ran"
    script = chain(
        tmp_path,
        "from pathlib import Path\n"
        f"RAN = Path({str(ran)!r})\n"
        "RAN.write_text(RAN.read_text() + 'imported ' if RAN.exists() else 'imported ')\n"
        "def upgrade():\n"
        "    RAN.write_text('upgraded')\n"
        f"    engine = sa.create_engine('sqlite:///{tmp_path / 'database'}')\n"
        "    engine.connect().execute(sa.text('CREATE TABLE t (a int)'))\n"
        "    op.get_bind().execute(sa.text('INSERT INTO log VALUES (1)'))\n"
        "    op.create_index('i', 't', ['a'])\n",
    )
    assert_managed(managed_by(script), "index t.i", "table t; table log")
    assert_managed(managed_by(script), "index t.i", "")
    assert ran.read_text() == "imported "
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ran", "versions"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def upgrade(:", "invalid syntax"),
        (None, "No such file"),
        (
            "def upgrade():\n  for a in range(9999):\n    for b in range(9999):\n      print(a, b)\n",
            "TooLong",
        ),
    ],
)
def test_a_source_that_cannot_be_read_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str | None, says: str
) -> None:
    script = chain(tmp_path, "op.create_index('i', 't', ['a'])", "op.create_index('j', 't', ['a'])")
    script.get_heads()  # Alembic has imported them
    file = tmp_path / "versions" / "r0.py"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    with caplog.at_level(logging.WARNING, logger="alembic.drift"):
        assert_managed(managed_by(script), "index t.j", "index t.i")
    [record] = caplog.records
    assert str(file) in record.getMessage()
    assert says in record.getMessage()


def test_all_objects_of_this_project_are_managed(project: Project) -> None:
    managed = managed_by(ScriptDirectory.from_config(Config(ROOT / "alembic.ini")))
    there = {
        Key(kind, table, name)
        for kind, table, name in project.database.execute(
            "SELECT 'table', NULL, tablename::text FROM pg_tables WHERE schemaname = 'public'"
            " AND tablename NOT LIKE 'alembic_version%'"
            " UNION ALL SELECT 'column', table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name NOT LIKE 'alembic_version%'"
            " AND table_name IN (SELECT tablename FROM pg_tables)"
            " UNION ALL SELECT 'index', tablename, indexname FROM pg_indexes WHERE schemaname = 'public'"
            " AND tablename NOT LIKE 'alembic_version%'"
            " AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname)"
            " UNION ALL SELECT 'sequence', NULL, sequencename FROM pg_sequences WHERE schemaname = 'public'"
            " UNION ALL SELECT 'materialized view', NULL, matviewname FROM pg_matviews"
        ).fetchall()
    }
    assert len(there) > 70
    assert {str(key) for key in there if key not in managed} == set()
    assert Key("function", None, "refresh_hourly_stats()") in managed
    assert Key("column", "api_requests", "user_id") not in managed, "it belongs to conversation_metrics"
    assert Key("column", "api_requests", "data") not in managed, "it belongs to streaming_chunks"
    assert Key("table", None, "nexus_schema_003_found") not in managed, "it is dropped again"


def test_an_unmanaged_column_is_reported_and_kept(project: Project) -> None:
    """The revisions create columns with these names, but in other tables."""
    project.database.execute("ALTER TABLE api_requests ADD user_id text, ADD data text")
    assert project.check() == []
    said = project.said.getvalue()
    assert "unmanaged (in no model, created by no revision): column api_requests.user_id" in said
    assert "unmanaged (in no model, created by no revision): column api_requests.data" in said


def test_objects_removed_from_the_models_are_differences(project: Project, copy: Any) -> None:
    """A column, an index, a table with its sequence, the view and the function."""
    requests = copy.api_requests
    for index in [
        i for i in requests.indexes if i.name == "idx_requests_message_count" or "error" in i.columns
    ]:
        requests.indexes.discard(index)
    requests._columns.remove(requests.c.error)
    for name in ("streaming_chunks", "hourly_stats"):
        copy.metadata.remove(copy.metadata.tables[name])
    gone = {line.partition(":")[0] for line in project.check()}
    assert gone == {
        "column api_requests.error",
        "index idx_requests_message_count on api_requests",
        "table streaming_chunks",
        "materialized view hourly_stats",
        "function refresh_hourly_stats()",
    }
    assert "unmanaged" not in project.said.getvalue()
    project.database.execute("ALTER SEQUENCE streaming_chunks_id_seq OWNED BY NONE")
    assert any(line.startswith("sequence streaming_chunks_id_seq:") for line in project.check())


def test_check_does_not_run_upgrades(project: Project, tmp_path: Path) -> None:
    ran = tmp_path / "ran.txt"
    ran.write_text("")
    (project.folder / f"{NEXT}_effects.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import context, op\nfrom pathlib import Path\n"
        f"RAN = Path({str(ran)!r})\n"
        f"revision = '{NEXT}'\ndown_revision = '{HEAD}'\n"
        "def upgrade():\n"
        "    RAN.write_text(RAN.read_text() + 'x')\n"
        "    context.get_bind().execute(sa.text(\n"
        "        \"INSERT INTO conversation_metrics (user_id) VALUES ('x')\"))\n"
        "    op.create_index('by_user', 'conversation_metrics', ['user_id'])\n"
        "def downgrade():\n    raise NotImplementedError\n"
    )
    project.run("upgrade", "head")
    [line] = project.check()
    assert line.startswith("index by_user on conversation_metrics: only in the database")
    assert ran.read_text() == "x"
    assert project.database.execute("SELECT count(*) FROM conversation_metrics").fetchone() == (1,)
