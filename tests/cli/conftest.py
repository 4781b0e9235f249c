from pathlib import Path

import pytest
from programs import copy_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project whose models and revisions a test may change."""
    return copy_project(tmp_path, "alembic", "src", "alembic.ini", "pyproject.toml")
