"""The server of the test suite, and databases cloned from templates.

Each pytest-xdist worker starts a server at the first test that needs one, with the programs of the embedded
PostgreSQL or those in the folder TEST_POSTGRES_PROGRAMS. It stops with its worker, also on SIGTERM.
TEST_DATABASE_URL names an existing server instead (the URL of a superuser).
"""

import gc
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from databases import PROGRAMS, SECRET, Database
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pytest_postgresql.factories.noprocess import xdistify_dbname
from pytest_postgresql.janitor import DatabaseJanitor
from servers import make_run_directory, own_server, remove_run_directory
from support import upgraded_to


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts background commands with SIGINT ignored; the programs of the tests would inherit that.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    os.environ.pop("DATABASE_URL", None)
    if not hasattr(config, "workerinput"):  # the controller of the workers, or the only process
        config.add_cleanup(partial(remove_run_directory, make_run_directory()))
    # Each command loads the revisions: cache the compiled files, but outside of the project's folders.
    if cache := getattr(config, "cache", None):  # None with -p no:cacheprovider
        sys.dont_write_bytecode = False
        sys.pycache_prefix = str(cache.mkdir("pycache"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more worker than cores: some tests wait for locks."""
    return int(os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS", (os.cpu_count() or 1) + 1))


def pytest_collection_finish() -> None:
    # Imported modules are never freed. Exclude them from garbage collection, which takes less time then.
    gc.freeze()


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of the server that the tests share."""
    if "TEST_DATABASE_URL" in os.environ:
        yield os.environ["TEST_DATABASE_URL"]
        return
    programs = Path(os.environ.get("TEST_POSTGRES_PROGRAMS", PROGRAMS))
    with own_server(programs, "synchronous_commit = off\nfull_page_writes = off\n") as server:
        template = server.url().replace("/postgres?", "/template1?")
        with psycopg.connect(template, autocommit=True) as connection:
            # pg_dump reads all comments. Without those on system objects it takes a sixth less time.
            connection.execute("DELETE FROM pg_description WHERE objoid < 16384")
            connection.execute("VACUUM FULL pg_description")
        yield server.url()


@pytest.fixture(scope="session")
def shared_server(server_url: str) -> SimpleNamespace:
    """The host, port, user and password of the server."""
    given: dict[str, Any] = {**conninfo_to_dict(server_url)}
    return SimpleNamespace(
        host=given.get("host", "localhost"),
        port=int(given.get("port", 5432)),
        user=given.get("user", "postgres"),
        password=given.get("password"),
    )


@pytest.fixture(scope="session")
def clones(shared_server: SimpleNamespace) -> Iterator[Callable[[str], AbstractContextManager[Database]]]:
    """Return a function that clones a database at a revision ("base" is empty) and connects in autocommit.

    pytest-postgresql creates the template of a revision at the first call for it. Its own clones would take
    three times the processor time, mostly for new connections, and the suite makes a thousand clones.
    """
    place = {name: getattr(shared_server, name) for name in ("user", "host", "port", "password")}
    with ExitStack() as stack:
        admin = stack.enter_context(psycopg.connect(**place, dbname="postgres", autocommit=True))
        templates: dict[str, sql.Identifier] = {}
        cloned: set[str] = set()

        def template(revision: str) -> sql.Identifier:
            if revision not in templates:
                name = xdistify_dbname(f"nexus_template_{revision}_")
                janitor = DatabaseJanitor(**place, dbname=name, as_template=True)
                janitor.drop()
                stack.enter_context(janitor)
                if revision != "base":
                    janitor.load(upgraded_to(revision))
                templates[revision] = sql.Identifier(name)
            return templates[revision]

        def drop(database: sql.Identifier) -> None:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))

        @contextmanager
        def clone(revision: str) -> Iterator[Database]:
            name = xdistify_dbname(f"nexus_{revision}_")
            database = sql.Identifier(name)
            if revision not in cloned:
                stack.callback(drop, database)
                cloned.add(revision)
            # Drop the clone of the previous test. At the end of that test, DROP would wait for connections.
            drop(database)
            by_files = sql.SQL("STRATEGY FILE_COPY" if admin.info.server_version >= 150_000 else "")
            create = sql.SQL("CREATE DATABASE {} TEMPLATE {} {}")
            admin.execute(create.format(database, template(revision), by_files))
            with closing(psycopg.connect(**place, dbname=name, autocommit=True)) as connection:
                yield connection

        yield clone


Clone = Callable[[str], AbstractContextManager[Database]]


@pytest.fixture
def empty(clones: Clone) -> Iterator[Database]:
    """An autocommit connection to an empty database for this test."""
    with clones("base") as connection:
        yield connection


@pytest.fixture
def head(clones: Clone) -> Iterator[Database]:
    """An autocommit connection to a database at head for this test."""
    with clones("head") as connection:
        yield connection


@pytest.fixture
def at_revision(clones: Clone) -> Iterator[Callable[[str], Database]]:
    """Return a function that creates a database at a revision, as ``empty`` and ``head`` do."""
    with ExitStack() as stack:
        yield lambda revision: stack.enter_context(clones(revision))


@pytest.fixture
def role(empty: Database) -> Iterator[str]:
    """A login role with a password and no privileges."""
    name = f"nexus_test_{uuid.uuid4().hex[:12]}"
    empty.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{SECRET}'")
    yield name
    empty.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")
