"""The revisions of this project: where they are, in the repository or the wheel, and their numbers."""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy.exc import DBAPIError

from nexus_schema.errors import SchemaError

_IN_WHEEL = Path(__file__).parent / "repository" / "alembic.ini"
IN_REPOSITORY = not _IN_WHEEL.is_file()
CONFIG_FILE = Path(__file__).resolve().parents[2] / "alembic.ini" if IN_REPOSITORY else _IN_WHEEL

# The date; some files have the time as well.
_DATE = re.compile(r"^Create Date: *([-\d]{10})([ T][:.\d]+)?", re.MULTILINE)
_IS_MERGE = re.compile(r"^down_revision\b[^=\n]*= *[(\[]", re.MULTILINE)
_NUMBER = re.compile(r"""^revision\b[^=\n]*=\s*["']([^"']+)""", re.MULTILINE)


def script_directory() -> tuple[Config, ScriptDirectory]:
    """Return Alembic's configuration and its directory of revisions."""
    config = Config(CONFIG_FILE)
    return config, ScriptDirectory.from_config(config)


def name_of(revision: Script) -> str:
    """Return the name of a revision's file without its suffix: ``003_add_subtask_tracking``."""
    return Path(revision.path).stem


def check_numbers(script: ScriptDirectory) -> None:
    """Raise :class:`SchemaError` if two files have the same number; Alembic would ignore one of them."""
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
                f" {_resolution(first, second, following(numbered))}"
            )


def _resolution(first: Path, second: Path, number: str) -> str:
    """Say which of two files of the same number is the later one, and how to give it the next number."""
    later = _later(first, second)
    if later is not None and _IS_MERGE.search(later.read_text(encoding="utf-8")):
        merge = "alembic merge heads -m 'join the two'"
        return f"remove {later.name}, the later one, and merge the branches again: {merge}"
    name = "the later one" if later is None else f"{later.name}, the later one,"
    return (
        f"give {name} the number {number} in its file name, its docstring and revision, and set its"
        f" down_revision to {int(number) - 1:03d}"
    )


def _later(first: Path, second: Path) -> Path | None:
    """Return the file with the later Create Date, or None if that is not known."""
    dates = [
        found.groups() if (found := _DATE.search(file.read_text(encoding="utf-8"))) else (None, None)
        for file in (first, second)
    ]
    for one, other in zip(*dates, strict=True):  # the date, then the time
        if one is None or other is None:
            return None
        if one != other:
            return first if one > other else second
    return None


def following(revisions: Iterable[str]) -> str:
    """Return the number after the last of these revisions."""
    numbers = [int(revision) for revision in revisions if revision.isdecimal()]
    return f"{max(numbers, default=-1) + 1:03d}"


def next_number(script: ScriptDirectory) -> str:
    """Return the number of a new revision."""
    return following(_known(script))


def is_newer(script: ScriptDirectory, revisions: Collection[str]) -> bool:
    """Return whether newer code of this project migrated a database that is at these revisions."""
    known = _known(script)
    unknown = set(revisions) - known
    # The revisions of this project are numbers.
    return bool(unknown) and all(
        name.isdecimal() and int(name) > max(int(number) for number in known if number.isdecimal())
        for name in unknown
    )


def check_known(script: ScriptDirectory, revisions: Collection[str]) -> None:
    """Raise :class:`SchemaError` unless this project has all these revisions of a database."""
    unknown = ", ".join(sorted(set(revisions) - _known(script)))
    if not unknown:
        return
    if is_newer(script, revisions):
        raise SchemaError(
            f"the database is at revision {unknown}, newer than this code, which ends at"
            f" {', '.join(script.get_heads())}; use code that has this revision"
        )
    raise SchemaError(
        f"revision {unknown} belongs to another project, which uses the alembic_version of this schema; give"
        " that project its own version_table, or this one its own schema"
    )


@contextmanager
def note_progress(context: MigrationContext, before: Collection[str]) -> Iterator[None]:
    """Add a note to an error: at which revisions it leaves the database, if not at those before."""
    connection = context.connection
    of_caller = connection is None or connection.in_transaction()  # then the caller rolls everything back
    try:
        yield
    except Exception as error:
        if connection is not None and not (of_caller or connection.closed or connection.invalidated):
            with suppress(DBAPIError):  # of a lost connection
                connection.rollback()
                now = context.get_current_heads()
                connection.rollback()
                if set(now) != set(before):
                    error.add_note(f"the database is at {', '.join(sorted(now)) or 'base'}")
        raise


def _known(script: ScriptDirectory) -> set[str]:
    return {revision.revision for revision in script.walk_revisions()}
