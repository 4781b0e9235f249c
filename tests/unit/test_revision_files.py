"""The revision files: named by number, in one chain, self-contained, documented."""

import ast
import re
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from programs import ROOT
from support import REVISIONS

FILES = sorted((ROOT / "alembic" / "versions").glob("*.py"))
SHARED = {
    "nexus_schema.revisions",
    "nexus_schema.options",
    "nexus_schema.errors",
    "nexus_schema.legacy",
}


def test_they_form_one_chain() -> None:
    script = ScriptDirectory.from_config(Config(ROOT / "alembic.ini"))
    assert [revision.revision for revision in script.walk_revisions()] == REVISIONS[::-1]
    assert [f"{number:03d}" for number in range(len(FILES))] == REVISIONS


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
class TestEachFile:
    def test_its_name_is_its_number_and_what_it_does(self, file: Path) -> None:
        assert re.fullmatch(r"\d{3}_[a-z0-9_]+\.py", file.name)
        assert f'revision: str = "{file.name[:3]}"' in file.read_text()

    def test_it_imports_no_models(self, file: Path) -> None:
        imported = {
            node.module if isinstance(node, ast.ImportFrom) else alias.name
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        ours = {name for name in imported if name and name.split(".")[0] in {"models", "nexus_schema"}}
        assert ours <= SHARED

    def test_its_docstring_says_what_and_why(self, file: Path) -> None:
        docstring = ast.get_docstring(ast.parse(file.read_text())) or ""
        assert re.search(r"^What: .+^Why: ", docstring, re.MULTILINE | re.DOTALL)
        assert "TODO" not in docstring
        down = re.search(r"^down_revision: .*None = (.*)$", file.read_text(), re.MULTILINE)
        assert down is not None
        revised = ", ".join(re.findall(r'"(\w+)"', down[1]))  # several after a merge
        assert re.search(rf"^Revision ID: {file.name[:3]}$", docstring, re.MULTILINE)
        assert re.search(rf"^Revises: ?{revised}$", docstring, re.MULTILINE)
