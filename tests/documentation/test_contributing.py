"""CONTRIBUTING.md, CI, the hooks of pre-commit and the workflow run the sessions of noxfile.py."""

import os
import re
import runpy
import subprocess
import sys
import sysconfig
from typing import Any

import yaml
from documentation.shell import command_lines
from pages import cells, code, section
from programs import ROOT

WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())


def nox(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run nox as in an activated environment."""
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    program = [sys.executable, "-m", "nox", *arguments]
    variables = os.environ | {"PATH": path}
    return subprocess.run(program, check=False, capture_output=True, text=True, cwd=ROOT, env=variables)


def sessions() -> list[str]:
    return re.findall(r"^[*-] (\S+) -> ", nox("--list").stdout, re.MULTILINE)


def test_the_sessions_are_in_the_table() -> None:
    rows = cells(section("CONTRIBUTING.md", "Commands"))[1:]
    *named, last = [command for row in rows for command in code(row[0])]
    found = sessions()
    assert named == [f"nox -s {name}" for name in found[: len(named)]]
    assert last == found[-1]


def test_the_first_command_is_that_of_the_readme() -> None:
    set_up, *_ = command_lines(section("CONTRIBUTING.md", "Set up"))
    assert set_up == [*command_lines(section("README.md", "Two commands"))][-1]


def test_the_sessions_run_pytest() -> None:
    """As the README's second command and CI do."""
    run = nox("-s", "test", "thorough", "--", "--version")
    assert run.returncode == 0, run.stderr
    assert "nox > pytest --version\n" in run.stderr
    assert "nox > pytest -m thorough --version\n" in run.stderr


def test_the_hooks_run_the_checks() -> None:
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    checks = runpy.run_path(str(ROOT / "noxfile.py"))["CHECKS"]
    assert [hook["entry"] for hook in repository["hooks"]] == [*checks]


def commands(job: dict[str, Any]) -> list[str]:
    """Return the commands of a job for each value of its matrix."""
    [(name, values)] = job["strategy"]["matrix"].items()
    lines = [step["run"] for step in job["steps"] if "run" in step]
    return [
        re.sub(rf"\$\{{\{{ matrix\.{name} \}}\}}", str(value), line) for value in values for line in lines
    ]


def test_the_workflow_runs_the_same_commands() -> None:
    of_python, of_postgres = (commands(job) for job in WORKFLOW["jobs"].values())
    assert set(of_python) == {".ci/run"}
    assert of_postgres[::2] == ["pip install -e '.[test]'"] * 5
    assert of_postgres[1::2] == [f"nox -s {name}" for name in sessions() if name.startswith("postgres-")]


def test_the_workflow_begins_with_the_oldest_python() -> None:
    required = re.findall(
        r'^requires-python = ">=(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    assert WORKFLOW["jobs"]["python"]["strategy"]["matrix"]["python"][:1] == required
