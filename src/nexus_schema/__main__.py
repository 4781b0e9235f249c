"""``python -m nexus_schema``: Alembic's command line with the revisions of this package.

For operators who have the wheel but not the repository. In the repository it does the same as ``alembic``.
"""

import sys
from importlib.metadata import version

from alembic import __version__
from alembic.config import CommandLine

from nexus_schema import scripts
from nexus_schema.errors import SchemaError, one_line_errors

_WRITING = {"init", "revision", "merge", "edit"}


def main() -> None:
    """Run an Alembic command; exit with its status, or with 1 after an error."""
    command_line = CommandLine(prog="python -m nexus_schema")
    if sys.argv[1:] == ["--version"]:  # Alembic's own would print only the version of Alembic
        sys.stdout.write(f"nexus-schema {version('nexus-schema')}, Alembic {__version__}\n")
        return
    options = command_line.parser.parse_args()
    with one_line_errors(exit_process=True):
        if not hasattr(options, "cmd"):
            command_line.parser.error("too few arguments")
        if not scripts.IN_REPOSITORY and options.cmd[0].__name__ in _WRITING:
            raise SchemaError("revisions are written with alembic in the repository of this project")
        command_line.main(["-c", str(scripts.CONFIG_FILE), *sys.argv[1:]])


if __name__ == "__main__":
    main()
