"""What autogenerate adds: verify at the end of an upgrade, refuse_data_loss before a downgrade."""

import re
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from cli.changes import CASES, Case
from copies import alembic, alembic_error, new_file
from databases import Database, dump_schema
from marks import quick
from programs import ROOT, run_program
from support import HEAD


def change_models(project: Path, code: str) -> None:
    path = project / "src" / "models" / "conversation_metric.py"
    text = path.read_text()
    if code == "# drop created_at":
        text = re.sub(r"    created_at: .*\n.*\n    \)\n", "", text)
    else:
        text += f"\n\nimport sqlalchemy as sa\nmetrics = ConversationMetric.__table__\n{dedent(code)}"
    path.write_text(text)


def calls(text: str, function: str, name: str) -> str:
    """Return the calls of ``name``: verify ends an upgrade, refuse_data_loss begins a downgrade."""
    body = text.partition(f"def {function}()")[2].partition("\n\n\n")[0]
    # A call ends on its first line, or at a parenthesis with the indentation of that line.
    found = re.compile(rf"^    {name}\((?:.*\)|\n(?:     .*\n)*    \))$", re.MULTILINE).findall(body)
    inner = dedent("\n".join(line for line in body.splitlines()[2:] if "###" not in line)).strip()
    whole = dedent("\n".join(found))
    assert inner.endswith(whole) if name == "verify" else inner.startswith(whole)
    return whole


@pytest.mark.parametrize("case", quick(CASES))
def test_verify_and_refuse_data_loss(head: Database, project: Path, case: Case) -> None:
    change_models(project, case.code)
    head.execute('CREATE SCHEMA "Other"')
    before = dump_schema(head)
    alembic(project, head, "revision", "--autogenerate", "-m", "x")
    text = new_file(project).read_text()
    assert calls(text, "upgrade", "verify") == dedent(case.verify).strip()
    assert calls(text, "downgrade", "refuse_data_loss") == dedent(case.refuse).strip()
    assert ("verify" in text, "refuse_data_loss" in text) == (bool(case.verify), bool(case.refuse))
    for command in ("format --check", "check --extend-ignore E501"):
        found = run_program(sys.executable, "-m", "ruff", *command.split(), new_file(project), cwd=project)
        assert found.returncode == 0, found.stdout

    alembic(project, head, "upgrade", "head")
    after = dump_schema(head)
    if case.kept:
        head.execute(case.kept)
    alembic(project, head, "downgrade", HEAD)
    assert dump_schema(head) == before
    online = " INCLUDE " not in text  # the op.execute that adds it is refused online
    alembic(project, head, "-x", f"online={online}", "upgrade", "head")
    assert dump_schema(head) == after
    if case.lost:
        head.execute(case.lost)
        refused = alembic_error(project, head, "downgrade", HEAD)
        assert refused.startswith(f"error: this downgrade would lose {case.said}; back them up first")
        refused = alembic_error(project, head, "-x", "online", "downgrade", HEAD)
        assert "run it without -x online" in refused
        assert dump_schema(head) == after
        alembic(project, head, "-x", "allow_data_loss=true", "downgrade", HEAD)
        assert dump_schema(head) == before
        alembic(project, head, "upgrade", "head")
        assert dump_schema(head) == after


@pytest.mark.thorough
def test_verify_knows_every_spelling_of_a_type(head: Database, project: Path) -> None:
    change_models(
        project,
        """
        from sqlalchemy.dialects import postgresql as pg

        types = [
            *(sa.Float(), sa.Float(24), sa.Float(53), sa.Double(), sa.REAL(), sa.SmallInteger()),
            *(sa.DECIMAL(), sa.DECIMAL(10), sa.DECIMAL(10, 2), sa.Numeric(10), sa.Numeric(10, 2)),
            *(sa.CHAR(), sa.CHAR(3), sa.String(), sa.Text(), sa.Unicode(3), sa.String(5, collation="C")),
            *(sa.LargeBinary(), sa.PickleType(), sa.JSON(), pg.JSONB(), pg.JSONPATH(), sa.Boolean()),
            *(sa.Uuid(), sa.Uuid(native_uuid=False), pg.INET(), pg.TSVECTOR(), pg.BIT(), pg.BIT(3)),
            *(pg.BIT(varying=True), pg.BIT(5, varying=True), pg.INT4RANGE(), pg.OID(), pg.MONEY()),
            *(sa.Interval(), pg.INTERVAL(fields="DAY"), pg.INTERVAL(precision=3), sa.Date(), sa.Time()),
            *(pg.TIME(precision=2), pg.TIMESTAMP(precision=3), sa.DateTime(timezone=True)),
            *(sa.ARRAY(sa.Float()), sa.ARRAY(sa.Float(), dimensions=2), sa.ARRAY(sa.CHAR())),
            *(sa.ARRAY(sa.DECIMAL(5)), sa.ARRAY(sa.Enum("a", name="Mood 1")), sa.Enum("a", name="Mood 2")),
            *(sa.Enum("abc", name="plain", native_enum=False), pg.DOMAIN("counted", sa.Integer())),
            sa.Integer().with_variant(sa.BigInteger(), "postgresql"),
        ]
        for number, type_ in enumerate(types):
            metrics.append_column(sa.Column(f"c{number}", type_))
        sa.Table("keyed", Base.metadata, sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True))
        sa.Table("serial", Base.metadata, sa.Column("id", sa.Integer, primary_key=True))
        """,
    )
    alembic(project, head, "revision", "--autogenerate", "-m", "x")
    alembic(project, head, "upgrade", "head")
    text = new_file(project).read_text()
    new_file(project).write_text(
        text.replace('sa.Column("id", sa.BigInteger(), nullable=False)]', 'sa.Column("id", sa.Integer())]')
    )
    alembic(project, head, "downgrade", HEAD)
    refused = alembic_error(project, head, "upgrade", "head")
    assert "keyed is not what this revision creates: column id is BIGINT" in refused


def test_mypy_knows_the_operations_of_the_plugins(tmp_path: Path) -> None:
    file = tmp_path / "revision.py"
    file.write_text("from alembic import op\n\nop.create_type('quality', ['low', 'high'])\n")
    mypy = Path(sys.executable).with_name("mypy")
    result = run_program(mypy, "--config-file", ROOT / "pyproject.toml", file, cwd=ROOT)
    assert result.returncode == 0, result.stdout
