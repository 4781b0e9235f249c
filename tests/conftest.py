"""The server of the test suite, and databases cloned from templates.

TEST_DATABASE_URL names another server (a superuser's URL). Otherwise the first test that needs a server
starts an embedded one, for each worker of pytest-xdist its own; it ends with the worker, also after SIGTERM.
"""

import gc
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pytest_postgresql import factories
from servers import memory
from support import upgraded_to

from nexus_schema.embedded import embedded_server


def pytest_configure(config: pytest.Config) -> None:
    # What a shell runs in the background ignores SIGINT, and so would the programs of the tests.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    os.environ.pop("DATABASE_URL", None)
    config.option.postgresql_drop_test_database = True


def pytest_collection_finish() -> None:
    gc.freeze()  # what is imported stays; to look at it again and again takes a twentieth of the time


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of the server that the tests share."""
    if "TEST_DATABASE_URL" in os.environ:
        yield os.environ["TEST_DATABASE_URL"]
        return
    with (
        tempfile.TemporaryDirectory(prefix="nexus-tests-", dir=memory(), ignore_cleanup_errors=True) as path,
        embedded_server(Path(path) / "data") as url,
    ):
        with psycopg.connect(url, autocommit=True) as connection:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # its data lives minutes
                connection.execute(f"ALTER SYSTEM SET {setting} = off")
            connection.execute("SELECT pg_reload_conf()")
        yield url


@pytest.fixture(scope="session")
def server(server_url: str) -> SimpleNamespace:
    """What the factories of pytest-postgresql ask of the server that they depend on."""
    given: dict[str, Any] = {**conninfo_to_dict(server_url)}
    return SimpleNamespace(
        host=given.get("host", "localhost"),
        port=int(given.get("port", 5432)),
        user=given.get("user", "postgres"),
        password=given.get("password"),
        options="",
        maintenance_dbname="postgres",
        template_dbname=None,
    )


empty_server = factories.postgresql_noproc(dbname="nexus_empty", depends_on="server")
head_server = factories.postgresql_noproc(
    dbname="nexus_head", load=[upgraded_to("head")], depends_on="server"
)

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
