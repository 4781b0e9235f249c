"""Where the revisions are, in the repository or in the wheel; and whether a revision is one of them."""

import re
from collections.abc import Collection
from pathlib import Path

from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from nexus_schema.errors import SchemaError

_IN_WHEEL = Path(__file__).parent / "repository" / "alembic.ini"
IN_REPOSITORY = not _IN_WHEEL.is_file()
CONFIG_FILE = Path(__file__).resolve().parents[2] / "alembic.ini" if IN_REPOSITORY else _IN_WHEEL

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
    files: dict[str, str] = {}
    for file in sorted(Path(script.dir, "versions").glob("*.py")):
        found = _NUMBER.search(file.read_text(encoding="utf-8"))
        if found is None:
            continue
        other = files.setdefault(found[1], file.name)
        if other != file.name:
            raise SchemaError(
                f"two files have the revision number {found[1]}: {other} and {file.name}; give the later one"
                " the next number, in its name, in revision and in down_revision"
            )


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
