"""Runs a command with TEST_DATABASE_URL set: python tests/with_server.py PROGRAMS COMMAND …

PROGRAMS is the folder of the programs of a PostgreSQL, of which this starts a server for the command.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from servers import make_directory_of_run, own_server, remove_directory_of_run

SETTINGS = """
synchronous_commit = off
full_page_writes = off
max_connections = 500
"""
"""Its data lives minutes, and all workers share it."""


def main() -> int:
    """Return the exit status of the command."""
    programs, *command = sys.argv[1:]
    directory = make_directory_of_run()
    try:
        with own_server(Path(programs), SETTINGS) as server:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # it reaches the command, too
            process = subprocess.Popen(command, env=os.environ | {"TEST_DATABASE_URL": server.url()})
            signal.signal(signal.SIGTERM, lambda *_: process.terminate())
            return process.wait()
    finally:
        remove_directory_of_run(directory)


if __name__ == "__main__":
    sys.exit(main())
