"""The test suite itself: it starts servers only for tests that need one, and stops all of them."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from databases import PROGRAMS_OF
from marks import quick
from programs import ROOT, python_program

WITHOUT_SERVERS = """if True:
    import sys, pytest, servers
    servers.Server.start = None
    sys.exit(pytest.main({arguments}))
"""


@pytest.mark.parametrize(
    "arguments",
    quick(
        {
            "collection": ["-n", "0", "--collect-only", "-q"],
            "unit tests": ["-n", "0", "tests/unit/test_database_url.py"],
        }
    ),
)
def test_no_server_is_started_without_need(tmp_path: Path, arguments: list[str]) -> None:
    arguments = [*arguments, f"--basetemp={tmp_path / 'own'}"]
    result = python_program("-c", WITHOUT_SERVERS.format(arguments=arguments), PYTHONPATH=str(ROOT / "tests"))
    assert result.returncode == 0, result.stdout


def processes_with(mark: str) -> list[str]:
    """Return the programs of the processes with ``mark`` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "comm").read_text().strip())
        except OSError:  # it has ended, or belongs to another user
            continue
    return found


def wait_until(mark: str, program: str, *, runs: bool) -> None:
    end = time.monotonic() + 60
    while (program in processes_with(mark)) != runs:
        assert time.monotonic() < end, processes_with(mark)
        time.sleep(0.02)


def command(file: Path, text: str, workers: str) -> list[str | Path]:
    """Return the command that runs a file as a part of this suite."""
    file.write_text(text)
    # pytest's default basetemp would become inaccessible to the servers' user of other tests.
    own = f"--basetemp={file.parent / 'own'}"
    options = ("-c", "pyproject.toml", "-p", "conftest", "-n", workers, own)
    return [sys.executable, "-m", "pytest", *options, file]


@pytest.mark.thorough
def test_another_server(tmp_path: Path) -> None:
    """With TEST_POSTGRES_PROGRAMS, the tests start a server of those programs."""
    text = "def test_version(empty):\n    assert empty.info.server_version // 10_000 == 16\n"
    run = subprocess.run(
        command(tmp_path / "test_version.py", text, "0"),
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "TEST_DATABASE_URL"}
        | {"TEST_POSTGRES_PROGRAMS": str(PROGRAMS_OF[16]), "PYTHONPATH": "tests"},
    )
    assert run.returncode == 0, run.stdout


@pytest.mark.thorough
@pytest.mark.skipif("TEST_DATABASE_URL" in os.environ, reason="the suite uses an existing server")
@pytest.mark.parametrize(("workers", "begun"), [("0", "postgres"), ("2", "initdb")])
def test_sigterm_leaves_no_server_behind(tmp_path: Path, workers: str, begun: str) -> None:
    """Neither a running server, nor one that a worker was just creating when it was killed."""
    mark = uuid.uuid4().hex
    text = "import time\ndef test_a(empty):\n    time.sleep(60)\ndef test_b(empty):\n    time.sleep(60)\n"
    with subprocess.Popen(
        command(tmp_path / "test_slow.py", text, workers),
        cwd=ROOT,
        env=os.environ | {"MARK_OF_THE_TEST": mark, "PYTHONPATH": "tests"},
        stdout=subprocess.DEVNULL,
    ) as suite:
        wait_until(mark, begun, runs=True)
        suite.send_signal(signal.SIGTERM)
        assert suite.wait(60) != 0
    wait_until(mark, "postgres", runs=False)
    time.sleep(1)  # a server that a killed worker had begun to start would be running by now
    wait_until(mark, "postgres", runs=False)
