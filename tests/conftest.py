"""The server of the test suite, and databases cloned from templates.

TEST_DATABASE_URL names another server (a superuser's URL). Otherwise an embedded one is started for the
run; workers of pytest-xdist find it in the same variable.
"""

import gc
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pytest_postgresql import factories
from servers import memory
from support import upgraded_to

from nexus_schema.embedded import embedded_server

_stack: list[Any] = []


def pytest_configure(config: pytest.Config) -> None:
    # What a shell runs in the background ignores SIGINT, and so would the programs of the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "TEST_DATABASE_URL" not in os.environ:
        directory = tempfile.TemporaryDirectory(
            prefix="nexus-tests-", dir=memory(), ignore_cleanup_errors=True
        )
        server = embedded_server(Path(directory.name) / "data")
        os.environ["TEST_DATABASE_URL"] = server.__enter__()
        with psycopg.connect(os.environ["TEST_DATABASE_URL"], autocommit=True) as connection:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # its data lives minutes
                connection.execute(f"ALTER SYSTEM SET {setting} = off")
            connection.execute("SELECT pg_reload_conf()")
        os.environ["TEST_SERVER_IS_EMBEDDED"] = "yes"
        _stack.extend([server, directory])
    os.environ.pop("DATABASE_URL", None)
    given: dict[str, Any] = {**conninfo_to_dict(os.environ["TEST_DATABASE_URL"])}
    config.option.postgresql_host = given.get("host", "localhost")
    config.option.postgresql_port = int(given.get("port", 5432))
    config.option.postgresql_user = given.get("user", "postgres")
    config.option.postgresql_password = given.get("password")
    config.option.postgresql_drop_test_database = True


def pytest_collection_finish() -> None:
    gc.freeze()  # what is imported stays; to look at it again and again takes a twentieth of the time


def pytest_unconfigure() -> None:
    for server, directory in [tuple(_stack)] if _stack else []:
        server.__exit__(None, None, None)
        directory.cleanup()


empty_server = factories.postgresql_noproc(dbname="nexus_empty")
head_server = factories.postgresql_noproc(dbname="nexus_head", load=[upgraded_to("head")])

empty_connection = factories.postgresql("empty_server")
head_connection = factories.postgresql("head_server")


@pytest.fixture
def empty(empty_connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """An autocommit connection to an empty database of the test's own."""
    empty_connection.autocommit = True
    return empty_connection


@pytest.fixture
def head(head_connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    """An autocommit connection to a database at head, cloned for the test."""
    head_connection.autocommit = True
    return head_connection
