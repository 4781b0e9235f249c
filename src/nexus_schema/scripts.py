"""Where the revisions are: in the repository, or in the wheel, which brings a copy of them."""

from pathlib import Path

from alembic.config import Config
from alembic.script import Script, ScriptDirectory

_IN_WHEEL = Path(__file__).parent / "repository" / "alembic.ini"
IN_REPOSITORY = not _IN_WHEEL.is_file()
CONFIG_FILE = Path(__file__).resolve().parents[2] / "alembic.ini" if IN_REPOSITORY else _IN_WHEEL


def script_directory() -> tuple[Config, ScriptDirectory]:
    """Return Alembic's configuration and the revisions that it names."""
    config = Config(CONFIG_FILE)
    return config, ScriptDirectory.from_config(config)


def name_of(revision: Script) -> str:
    """Return the name of a revision's file without its ending: ``003_add_subtask_tracking``."""
    return Path(revision.path).stem
