"""What the tests of autogenerate share."""

from pathlib import Path

import pytest
from autogenerate.circle import Project
from support import Database


@pytest.fixture
def project(head: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, head, monkeypatch)
