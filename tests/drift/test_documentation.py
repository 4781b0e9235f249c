"""The plugin's page is correct: its env.py, its settings, its files."""

import re
import tomllib
from pathlib import Path

from alembic.operations import Operations

import alembic_drift
from alembic_drift.kinds import KIND_OF
from alembic_drift.objects import Key
from alembic_drift.ownership import Allowed

PAGE = (Path(__file__).parents[2] / "docs" / "alembic_drift.md").read_text()
PACKAGE = Path(alembic_drift.__file__).parent
IN_ENV, DECLARED = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
"""The examples of the page. test_plain_sql.py runs the second one, declarations in the models."""


def test_env_py_lists_it_by_its_name() -> None:
    compile(IN_ENV, "env.py", "exec")
    assert f'"{alembic_drift.PLUGIN}"' in IN_ENV


def test_its_patterns_match() -> None:
    [toml] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    patterns = tomllib.loads(toml)["tool"]["alembic_drift"]["own_objects"]
    allowed = Allowed(None, patterns, KIND_OF)
    for key in (
        Key("index", "orders", "audit_1"),
        Key("column", "orders", "note"),
        Key("constraint", "orders", "chk_x"),
    ):
        assert key in allowed
    assert [*allowed.unmatched()] == []


def test_its_operations_and_files_exist() -> None:
    for name in re.findall(r"`op\.(\w+)`", PAGE):
        assert hasattr(Operations, name), name
    for name in re.findall(r"`(\w+\.py|\w+/)`", PAGE):
        assert name == "env.py" or (PACKAGE / name).exists(), name
