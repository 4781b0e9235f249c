import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from databases import Database
from online.drivers import ENVIRONMENTS
from online.project import Project, reset
from psycopg.conninfo import make_conninfo


@pytest.fixture(scope="session")
def shared(server_url: str) -> Iterator[Database]:
    """A database for all tests of the folder: emptying it is cheaper than creating another one."""
    name = "nexus_online_" + os.environ.get("PYTEST_XDIST_WORKER", "alone")
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        admin.execute(f"CREATE DATABASE {name}")
        with psycopg.connect(make_conninfo(server_url, dbname=name), autocommit=True) as connection:
            connection.prepare_threshold = None  # a recreated table has other types
            yield connection
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def project(shared: Database, tmp_path: Path) -> Project:
    """An Alembic project with a database that has the tables of BASE."""
    shared.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    reset(shared)
    return Project(tmp_path / "project", shared)


@pytest.fixture
def driven(project: Project, tmp_path: Path, driver: str) -> Project:
    """A project with another driver, on the same tables."""
    return Project(tmp_path / driver, project.database, driver=driver, environment=ENVIRONMENTS[driver])
