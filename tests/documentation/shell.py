"""Runs the commands of a page in order, as a reader would type them."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from databases import PROGRAMS, Database
from pages import examples
from programs import ROOT, alembic_program, python_program


class Shell:
    """A shell: it keeps variables and the directory between commands.

    ``alembic`` and ``python -m`` are forked from a process that has done the slow imports. bash runs all
    other commands, and finds the programs of PostgreSQL.
    """

    def __init__(self, database: Database, cwd: Path = ROOT, **variables: str) -> None:
        info = database.info
        self._cwd = cwd
        self.variables = {
            "PGHOST": info.host,
            "PGPORT": str(info.port),
            "PGUSER": info.user,
            "PGDATABASE": info.dbname,
            "PGPASSWORD": info.password,
            "DATABASE_URL": "postgresql://",  # libpq takes the rest from these variables
            **variables,
        }

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a command line."""
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            [self.variables[name]] = shlex.split(value)
            return subprocess.CompletedProcess(line, 0, "", "")
        words = shlex.split(line)
        variables = dict(self.variables)
        while re.match(r"[A-Z_]+=", words[0]):
            name, _, value = words.pop(0).partition("=")
            variables[name] = value
        if words[0] == "alembic":
            return alembic_program(*words[1:], cwd=self._cwd, **variables)
        if words[:2] == ["python", "-m"]:
            return python_program(*words[1:], cwd=self._cwd, **variables)
        variables["PATH"] = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-c", f"set -e -o pipefail; {line}"],
            check=False,
            capture_output=True,
            text=True,
            cwd=self._cwd,
            env=os.environ | variables,
            timeout=120,
        )


def command_lines(text: str) -> Iterator[str]:
    """Yield the command lines of the sh blocks of a text. Two spaces and a # begin a comment."""
    for block in examples(text, "sh"):
        for line in re.sub(r"\\\n *", "", block).splitlines():
            if command := line.partition("  #")[0].strip():
                yield command
