"""Where the revisions are, in the repository or in the wheel; and whether a revision is one of them."""

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from nexus_schema.errors import SchemaError

_IN_WHEEL = Path(__file__).parent / "repository" / "alembic.ini"
IN_REPOSITORY = not _IN_WHEEL.is_file()
CONFIG_FILE = Path(__file__).resolve().parents[2] / "alembic.ini" if IN_REPOSITORY else _IN_WHEEL

# One may say the day, another the moment.
_DATE = re.compile(r"^Create Date: *([-\d]{10})([ T][:.\d]+)?", re.MULTILINE)
_IS_MERGE = re.compile(r"^down_revision\b[^=\n]*= *[(\[]", re.MULTILINE)
_NUMBER = re.compile(r"""^revision\b[^=\n]*=\s*["']([^"']+)""", re.MULTILINE)


def script_directory() -> tuple[Config, ScriptDirectory]:
    """Return Alembic's configuration and the revisions that it names."""
    config = Config(CONFIG_FILE)
    return config, ScriptDirectory.from_config(config)


def name_of(revision: Script) -> str:
    """Return the name of a revision's file without its ending: ``003_add_subtask_tracking``."""
    return Path(revision.path).stem


def check_numbers(script: ScriptDirectory) -> None:
    """Raise :class:`SchemaError` where two files have one revision number; Alembic would skip one of them."""
    numbered: dict[str, list[Path]] = {}
    for file in sorted(Path(script.dir, "versions").glob("*.py")):
        found = _NUMBER.search(file.read_text(encoding="utf-8"))
        if found is not None:
            numbered.setdefault(found[1], []).append(file)
    for number, files in numbered.items():
        if len(files) > 1:
            first, second, *_ = files
            raise SchemaError(
                f"two files have the revision number {number}: {first.name} and {second.name};"
                f" {_way_out(first, second, following(numbered))}"
            )


def _way_out(first: Path, second: Path, number: str) -> str:
    """Say which of two files of one number is the later one, and how it gets the next number, of its own."""
    later = _later(first, second)
    if later is not None and _IS_MERGE.search(later.read_text(encoding="utf-8")):
        join = "alembic merge heads -m 'join the two'"
        return f"remove {later.name}, the later one, and join the branches anew: {join}"
    name = "the later one" if later is None else f"{later.name}, the later one,"
    return (
        f"give {name} the number {number} in its name, its docstring and revision, and let it revise"
        f" {int(number) - 1:03d} (down_revision)"
    )


def _later(first: Path, second: Path) -> Path | None:
    """Return the file that was written later by its Create Date, or None where that is not known."""
    dates = [
        found.groups() if (found := _DATE.search(file.read_text(encoding="utf-8"))) else (None, None)
        for file in (first, second)
    ]
    for one, other in zip(*dates, strict=True):  # the day, then the moment
        if one is None or other is None:
            return None
        if one != other:
            return first if one > other else second
    return None


def following(revisions: Iterable[str]) -> str:
    """Return the number after those of these revisions."""
    numbers = [int(revision) for revision in revisions if revision.isdecimal()]
    return f"{max(numbers, default=-1) + 1:03d}"


def next_number(script: ScriptDirectory) -> str:
    """Return the number of a new revision."""
    return following(_known(script))


def is_newer(script: ScriptDirectory, revisions: Collection[str]) -> bool:
    """Return whether a database at these revisions was migrated by newer code of this project."""
    known = _known(script)
    unknown = set(revisions) - known
    # Revisions are numbered; anything else is not ours.
    return bool(unknown) and all(
        name.isdecimal() and int(name) > max(int(number) for number in known if number.isdecimal())
        for name in unknown
    )


def check_known(script: ScriptDirectory, revisions: Collection[str]) -> None:
    """Raise :class:`SchemaError` unless this project has all these revisions, which a database is at."""
    unknown = ", ".join(sorted(set(revisions) - _known(script)))
    if not unknown:
        return
    if is_newer(script, revisions):
        raise SchemaError(
            f"the database is at revision {unknown}, newer than this code, which ends at"
            f" {', '.join(script.get_heads())}; use the code that knows it"
        )
    raise SchemaError(
        f"revision {unknown} is not ours: the alembic_version of this schema is another project's; give that"
        " project a version_table of its own, or this one a schema of its own"
    )


def _known(script: ScriptDirectory) -> set[str]:
    return {revision.revision for revision in script.walk_revisions()}
