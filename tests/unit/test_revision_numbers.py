"""Two files with the same revision number: the error names both, the later one, and the solution."""

from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from nexus_schema.errors import SchemaError
from nexus_schema.scripts import check_numbers


def write(versions: Path, name: str, date: str, down: str = '"000"') -> None:
    created = f"\nCreate Date: {date}" if date else ""
    (versions / name).write_text(
        f'"""One.\n\nRevision ID: {name[:3]}{created}\n"""\n\n'
        f'revision: str = "{name[:3]}"\ndown_revision: str | None = {down}\n'
    )


@pytest.mark.parametrize(
    ("first", "second", "later"),
    [
        ("2026-01-02 10:00:00.5", "2026-01-02 09:00:00.5", "001_a.py, the later one,"),
        ("2026-01-02 09:00:00.5", "2026-01-02 10:00:00.5", "001_b.py, the later one,"),
        ("2026-01-02", "2026-01-03 10:00:00.5", "001_b.py, the later one,"),
        ("2026-01-02", "2026-01-02 10:00:00.5", "the later one"),
        ("2026-01-02", "2026-01-02", "the later one"),
        ("2026-01-02", "", "the later one"),
    ],
)
def test_the_later_one_gets_the_next_number(tmp_path: Path, first: str, second: str, later: str) -> None:
    versions = tmp_path / "versions"
    versions.mkdir()
    write(versions, "000_base.py", "2026-01-01", "None")
    write(versions, "001_a.py", first)
    write(versions, "001_b.py", second)
    write(versions, "002_c.py", "2026-01-04", '"001"')
    with pytest.raises(SchemaError) as refused:
        check_numbers(ScriptDirectory(tmp_path))
    assert str(refused.value) == (
        "two files have the revision number 001: 001_a.py and 001_b.py;"
        f" give {later} the number 003 in its file name, its docstring and revision, and set its"
        " down_revision to 002"
    )


@pytest.mark.parametrize(
    ("of_merge", "expected"),
    [
        ("2026-01-05", "remove 003_merge.py, the later one, and merge the branches again: alembic merge"),
        ("2026-01-03", "give 003_x.py, the later one, the number 004 in its file name"),
    ],
)
def test_one_of_two_files_is_a_merge(tmp_path: Path, of_merge: str, expected: str) -> None:
    versions = tmp_path / "versions"
    versions.mkdir()
    write(versions, "003_merge.py", of_merge, '("001", "002")')
    write(versions, "003_x.py", "2026-01-04", '"002"')
    with pytest.raises(SchemaError, match=rf"003: 003_merge\.py and 003_x\.py; {expected}"):
        check_numbers(ScriptDirectory(tmp_path))
