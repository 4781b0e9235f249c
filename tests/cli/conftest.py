from pathlib import Path

import pytest
from programs import copy_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project: a test may change its models and revisions."""
    return copy_project(tmp_path, "alembic", "src", "alembic.ini", "pyproject.toml")
