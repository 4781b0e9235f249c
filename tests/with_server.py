"""Runs a command with TEST_DATABASE_URL set: python tests/with_server.py PROGRAMS COMMAND …

PROGRAMS is the folder with the programs of a PostgreSQL. The server runs as long as the command.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from servers import make_run_directory, own_server, remove_run_directory

SETTINGS = """
synchronous_commit = off
full_page_writes = off
max_connections = 500
"""
"""The data is temporary, and all workers share the server."""


def main() -> int:
    """Return the exit status of the command."""
    programs, *command = sys.argv[1:]
    directory = make_run_directory()
    try:
        with own_server(Path(programs), SETTINGS) as server:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches the command, too
            process = subprocess.Popen(command, env=os.environ | {"TEST_DATABASE_URL": server.url()})
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            return process.wait()
    finally:
        remove_run_directory(directory)


if __name__ == "__main__":
    sys.exit(main())
