"""Alembic in a copy of the project: a test may change the models and revisions of the copy."""

import subprocess
from pathlib import Path

from databases import Database, url_of
from programs import alembic_program
from support import NEXT


def _run(
    project: Path, database: Database | None, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    url = "postgresql://127.0.0.1:1/none" if database is None else url_of(database)
    path = str(project / "src")
    return alembic_program(*arguments, url=url, cwd=project, PYTHONPATH=path, **environment)


def alembic(project: Path, database: Database | None, *arguments: str, **environment: str) -> str:
    """Run a command in the copy, which must succeed; returns its output.

    :param database: None for a command that needs no database: its URL then names no server.
    """
    result = _run(project, database, *arguments, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def alembic_error(project: Path, database: Database | None, *arguments: str) -> str:
    """Run a command in the copy, which must fail with one line; returns that line."""
    result = _run(project, database, *arguments)
    assert result.returncode == 1, result.stderr
    [line] = [line for line in result.stderr.splitlines() if not line.startswith("INFO")]
    return line


def new_file(project: Path, number: str = NEXT) -> Path:
    """Return the file of the revision with this number."""
    [file] = (project / "alembic" / "versions").glob(f"{number}_*.py")
    return file


def change(project: Path, file: str, old: str, new: str) -> None:
    """Replace a text that occurs once in a file of the models."""
    path = project / "src" / "models" / file
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
