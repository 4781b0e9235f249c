"""docs/revisions.md and docs/autogenerate.md are correct: each change of the models and its revision."""

import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alembic import op
from alembic.config import Config
from databases import Database, dump_schema
from documentation.shell import Shell, command_lines
from pages import code, examples, headings, page, section
from programs import copy_project
from sqlalchemy import DDL, MetaData, event
from support import HEAD, NEXT, insert, operations

import alembic_online
from alembic_drift.kinds import KIND_OF
from alembic_drift.objects import Key
from alembic_drift.ownership import Allowed
from nexus_schema import revisions
from nexus_schema.models import Base

PAGE, OTHER = "docs/revisions.md", "docs/autogenerate.md"

REVISION = '''"""A revision of the page."""

import sqlalchemy as sa
from alembic import op

from nexus_schema.revisions import refuse_data_loss, verify

revision: str = "{number}"
down_revision: str | None = "{before}"

'''


def apply_diff(project: Path, diff: str) -> None:
    """Apply a diff to a file of a copy of the project; a line with … separates two places of the file."""
    name, *lines = diff.splitlines()
    path = project / name.removeprefix("--- ")
    for hunk in "\n".join(lines).split("\n…\n"):
        old, new = (
            "\n".join(line[1:] for line in hunk.splitlines() if line[0] in kept) for kept in (" -", " +")
        )
        text = path.read_text()
        if new in text:
            pytest.skip(f"{name} has this change of the page already")
        assert text.count(old) == 1, f"{name} has no {old}"
        path.write_text(text.replace(old, new))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path, "alembic", "src", "alembic.ini", "pyproject.toml")


def test_its_changes(head: Database, project: Path) -> None:
    before = dump_schema(head)
    versions = project / "alembic" / "versions"
    shell = Shell(head, project, PYTHONPATH=str(project / "src"))

    first = section(PAGE, "Add a column or an index")
    # The numbers of the page are those before anyone has followed it.
    first = first.replace("007", HEAD).replace("008", NEXT)
    [diff], [said], [written], [console] = (
        examples(first, kind) for kind in ("diff", "text", "py", "console")
    )
    apply_diff(project, diff)
    check, autogenerate, *steps, downgrade, _ = command_lines(section("README.md", "Change the schema"))
    assert [check, autogenerate] == [*command_lines(first)]
    checked = shell.run(check)
    assert (checked.returncode, checked.stdout) == (255, said)
    assert shell.run(autogenerate).returncode == 0
    assert written in (versions / f"{NEXT}_add_request_region.py").read_text()

    rename, fill = section(PAGE, "Rename a column"), section(PAGE, "Fill existing rows")
    apply_diff(project, *examples(rename, "diff"))
    number = int(NEXT)
    for body in examples(rename, "py") + examples(fill, "py"):
        header = REVISION.format(number=f"{number + 1:03d}", before=f"{number:03d}")
        number += 1
        (versions / f"{number:03d}_x.py").write_text(header + body)
    insert(head, "api_requests", domain="a.eu.example")
    insert(head, "api_requests")
    upgrade, line, check, clean = console.splitlines()
    assert [upgrade, check] == [f"$ {step}" for step in steps]
    assert line in shell.run(steps[0]).stderr.splitlines()
    assert clean in shell.run(steps[1]).stdout.splitlines()
    assert head.execute("SELECT region FROM api_requests ORDER BY domain").fetchall() == [("eu",), ("us",)]

    labels, view = section(PAGE, "Add an enumerated type"), section(PAGE, "Add a view")
    module, operation = examples(view, "py")
    (project / "src" / "models" / "daily_metrics.py").write_text(module)
    for diff in examples(labels, "diff") + examples(view, "diff"):
        apply_diff(project, diff)
    assert shell.run("alembic revision --autogenerate -m more").returncode == 0
    text = (versions / f"{number + 1:03d}_more.py").read_text()
    of_view = [operation] if head.info.server_version >= 160000 else []  # older servers qualify its columns
    for block in [*examples(labels, "py"), *of_view]:
        assert textwrap.indent(block, "    ") in text
    assert shell.run("alembic upgrade head").returncode == 0
    head.execute("SELECT quality FROM conversation_metrics; SELECT day, messages FROM daily_metrics")

    assert shell.run(downgrade).returncode == 0
    lost = shell.run(f"alembic downgrade {HEAD}")
    assert "would lose values of api_requests.region, 2 in all" in lost.stderr
    head.execute("UPDATE api_requests SET region = NULL")
    assert shell.run(f"alembic downgrade {HEAD}").returncode == 0
    assert dump_schema(head) == before


def test_its_reference() -> None:
    """It has the functions with their parameters."""
    found = [words.strip("`") for _, level, words in headings(page(PAGE)) if level == 3]
    assert len(found) >= 5
    for call in found:
        name, parameters = re.fullmatch(r"(\w+)\((.*)\)", call).groups()  # type: ignore[union-attr]
        function: Any = getattr(revisions, name, None) or getattr(alembic_online, name)
        assert ", ".join(inspect.signature(function).parameters) == parameters


def test_its_operations_for_views_and_functions_run(head: Database) -> None:
    block, _ = examples(page(OTHER), "py")
    before = dump_schema(head)
    with operations(head):
        exec(block, {"op": op})
    assert block.count("op.") == 4
    assert dump_schema(head) == before


def test_its_policy_is_created_with_its_table(empty: Database) -> None:
    _, block = examples(page(OTHER), "py")
    model = SimpleNamespace(__table__=Base.metadata.tables["conversation_metrics"].to_metadata(MetaData()))
    exec(block, {"event": event, "DDL": DDL, "ConversationMetric": model})
    with operations(empty) as connection:
        model.__table__.create(connection)
    assert empty.execute("SELECT tablename, policyname FROM pg_policies").fetchall() == [
        ("conversation_metrics", "everything")
    ]


def test_the_operations_it_names_exist() -> None:
    def named() -> Iterator[str]:
        for name in (PAGE, OTHER):
            yield from (words for words in code(page(name)) if words.startswith("op."))

    assert all(hasattr(op, words.removeprefix("op.")) for words in named())


def test_its_allow_list_works(tmp_path: Path) -> None:
    [toml] = examples(page(OTHER), "toml")
    (tmp_path / "pyproject.toml").write_text(toml)
    allowed = Allowed(Config(tmp_path / "alembic.ini"), None, KIND_OF)
    assert Key("index", "api_requests", "audit_1") in allowed
    assert Key("column", "api_requests", "note") in allowed
    assert Key("trigger", "api_requests", "notify") in allowed
    assert Key("index", "api_requests", "other") not in allowed
