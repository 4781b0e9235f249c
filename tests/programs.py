"""Runs programs as a user does, each in a process."""

import multiprocessing
import multiprocessing.process
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

from alembic.config import main

ROOT = Path(__file__).resolve().parents[1]


def run_program(
    *arguments: str | Path,
    url: str | None = None,
    cwd: Path = ROOT,
    stdin: str | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a program as a user does, with DATABASE_URL set to ``url``, or unset."""
    return subprocess.run(
        [str(argument) for argument in arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=_variables(url, environment),
        input=stdin,
        timeout=120,
    )


def _variables(url: str | None, given: dict[str, str]) -> dict[str, str]:
    unset = {"DATABASE_URL", "DEBUG", "ACCOUNT_DOMAINS_FILE"}
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    return variables | given | ({"DATABASE_URL": url} if url is not None else {})


_processes = multiprocessing.get_context("forkserver")
"""Forks from a process with the slow imports done: they take a second and a half for each run of Alembic."""

_processes.set_forkserver_preload(
    [
        "programs",
        "alembic.config",
        "nexus_schema.upgrade",
        "nexus_schema.legacy",
        "nexus_schema.metrics",
        "nexus_schema.models",
    ]
)


def forked(target: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """Start a process that calls a function."""
    path = os.pathsep.join(str(ROOT / folder) for folder in ("src", "tests"))
    with mock.patch.dict(os.environ, PYTHONPATH=path):  # finds this module, in this checkout
        forkserver.ensure_running()
    process = _processes.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


class Fork:
    """A process that behaves like ``alembic …``, ``python -c …`` or ``python -m …`` of this environment.

    It is forked from a process that has already imported Alembic and this project. If the variables contain
    PYTHONPATH, it imports the project again from there.
    """

    def __init__(self, *arguments: str, url: str | None = None, cwd: Path = ROOT, **environment: str) -> None:
        self._arguments = arguments
        self._directory = tempfile.TemporaryDirectory(prefix="nexus-fork-")
        self._outputs = [Path(self._directory.name, name) for name in ("stdout", "stderr")]
        variables = _variables(url, environment)
        self._process = forked(
            _run, arguments, cwd, variables, "PYTHONPATH" in environment, sys.pycache_prefix, *self._outputs
        )

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()
        self._directory.cleanup()

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def said(self) -> str:
        """Return what it has written to stderr so far."""
        return self._outputs[1].read_text() if self._outputs[1].exists() else ""

    @property
    def ended(self) -> bool:
        return not self._process.is_alive()

    def wait(self, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Return the exit status and the output, as a user sees them."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"{self._arguments} hangs"
        outputs = [output.read_text() for output in self._outputs]
        self._directory.cleanup()
        return subprocess.CompletedProcess([*self._arguments], self._process.exitcode, *outputs)


def alembic_program(
    *arguments: str, url: str | None = None, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``alembic`` as a process; see :class:`Fork`."""
    return Fork("alembic", *arguments, url=url, cwd=cwd, **environment).wait()


def python_program(
    *arguments: str, url: str | None = None, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``python -c CODE`` or ``python -m MODULE`` as a process; see :class:`Fork`."""
    return Fork("python", *arguments, url=url, cwd=cwd, **environment).wait()


def _run(
    arguments: tuple[str, ...],
    cwd: Path,
    variables: dict[str, str],
    own_path: bool,
    pycache: str | None,
    *outputs: Path,
) -> None:
    for descriptor, output in enumerate(outputs, start=1):
        os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    sys.dont_write_bytecode, sys.pycache_prefix = False, pycache
    if own_path:
        sys.path[:0] = variables["PYTHONPATH"].split(os.pathsep)
        for name in [name for name in sys.modules if name.partition(".")[0] in {"models", "nexus_schema"}]:
            del sys.modules[name]
    program, *rest = arguments
    sys.argv = [program, *rest]
    if program == "alembic":
        main()
    elif rest[0] == "-c":
        sys.path.insert(0, "")
        exec(compile(rest[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = rest[1:]
        sys.path.insert(0, "")
        runpy.run_module(rest[1], run_name="__main__", alter_sys=True)


def copy_project(to: Path, *names: str) -> Path:
    """Copy files and folders of the project, so that a test may change them; returns the copy's folder."""
    for name in names:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, to / name, ignore=ignored, symlinks=True)
        else:
            shutil.copy(ROOT / name, to)
    return to
