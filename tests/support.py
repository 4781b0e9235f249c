"""What tests of several folders need: running Alembic, dumping a schema, making rows."""

import multiprocessing
import multiprocessing.process
import os
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing import forkserver
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock
from urllib.parse import quote

import psycopg
import pytest
from alembic import command
from alembic.config import Config, main
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, create_engine

from nexus_schema.database import parse_url
from nexus_schema.embedded import load_pgserver

ROOT = Path(__file__).resolve().parents[1]
REVISIONS = sorted(file.name[:3] for file in (ROOT / "alembic" / "versions").glob("*.py"))
HEAD = REVISIONS[-1]
NEXT = f"{int(HEAD) + 1:03d}"
PROGRAMS: Path = load_pgserver().utils.POSTGRES_VERSIONS[18]  # the newest pg_dump dumps every older server
SECRET = "hunter2-s3cret"
"""A password, which may be in no output."""

START = datetime(2025, 6, 1, 12, tzinfo=UTC)

Database = psycopg.Connection[Any]


def quick(cases: Mapping[str, Any] | Iterable[str], *names: str) -> list[Any]:
    """Return parameters of a test: the cases of these names, or the first; the others are thorough."""
    given = cases if isinstance(cases, Mapping) else {case: case for case in cases}
    names = names or tuple(given)[:1]
    assert set(names) <= set(given)
    return [
        pytest.param(
            *(value if type(value) is tuple else (value,)),
            id=name,
            marks=[] if name in names else pytest.mark.thorough,
        )
        for name, value in given.items()
    ]


def url_of(connection: Database, **parameters: str) -> str:
    """Return the URL of a connection's database, with further libpq parameters."""
    info = connection.info
    query = {"host": info.host, "port": str(info.port), **parameters}
    user = quote(info.user, safe="") + (f":{quote(info.password, safe='')}" if info.password else "")
    return f"postgresql://{user}@/{info.dbname}?" + "&".join(
        f"{k}={quote(v, safe='')}" for k, v in query.items()
    )


def as_role(connection: Database, role: str, password: str = SECRET) -> str:
    """Return the URL of a connection's database for another role."""
    info = connection.info
    return f"postgresql://{role}:{password}@/{info.dbname}?host={info.host}&port={info.port}"


def run_alembic(
    name: str, *arguments: Any, url: str, x: Mapping[str, str] | None = None, **options: Any
) -> Any:
    """Run a command of Alembic in this process, as a program does."""
    config = Config(ROOT / "alembic.ini")
    if x:
        config.cmd_opts = Namespace(x=[f"{key}={value}" for key, value in x.items()])
    with mock.patch.dict(os.environ, DATABASE_URL=url):
        return getattr(command, name)(config, *arguments, **options)


def run_program(
    *arguments: str | Path,
    url: str | None = None,
    cwd: Path = ROOT,
    stdin: str | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a program as a user does, with DATABASE_URL set to url or not set at all."""
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
"""Forks processes from one that has imported what takes time: a second and a half for each run of Alembic."""
_processes.set_forkserver_preload(
    # Not nexus_schema.autogenerate: a plugin of Alembic cannot be imported twice.
    [
        "support",
        "alembic.config",
        "nexus_schema.upgrade",
        "nexus_schema.legacy",
        "nexus_schema.metrics",
        "nexus_schema.models",
    ]
)


def forked(target: Callable[..., None], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """Start a process that calls a function."""
    with mock.patch.dict(os.environ, PYTHONPATH=str(ROOT / "tests")):  # where it finds this module
        forkserver.ensure_running()
    process = _processes.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


class Fork:
    """A process that does what ``alembic …``, ``python -c …`` or ``python -m …`` of this environment would.

    It is forked from one that has imported Alembic and ours already, which are imported again, from there,
    if the variables say PYTHONPATH.
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
        """End it at once."""
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
        """Return how it ended, and what it printed as a user sees it."""
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
    """Copy files and folders of the project, so that a test may change them; returns where they are."""
    for name in names:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, to / name, ignore=ignored, symlinks=True)
        else:
            shutil.copy(ROOT / name, to)
    return to


def dump_schema(connection: Database, *arguments: str) -> str:
    """Return pg_dump --schema-only of a database, without Alembic's own table.

    This pg_dump may be older than the server, and then writes bookkeeping that the server's own leaves out.
    """
    result = run_program(
        PROGRAMS / "pg_dump",
        "--schema-only",
        "--restrict-key=nexus",
        "--exclude-table=*.alembic_version",
        *arguments,
        url_of(connection),
    )
    assert result.returncode == 0, result.stderr
    plain = re.sub(r"\bpg_attver=\d+(, )?", "", result.stdout)
    return re.sub(r"^ALTER TABLE .* ALTER COLUMN .* SET \(\);\n+", "", plain, flags=re.MULTILINE)


def run_sql_script(connection: Database, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script with psql, stopping at the first error."""
    return run_program(
        PROGRAMS / "psql",
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        url_of(connection),
        "-f",
        "-",
        stdin=script,
        PGOPTIONS="-c client_min_messages=warning",  # not: IF EXISTS has found nothing
    )


def revision_module(revision: str) -> ModuleType:
    """Return the module of a revision file."""
    found = ScriptDirectory.from_config(Config(ROOT / "alembic.ini")).get_revision(revision)
    assert found is not None
    return found.module


@contextmanager
def operations(connection: Database) -> Iterator[Connection]:
    """Let functions of a revision run outside of Alembic's command, in one transaction."""
    engine = create_engine(parse_url(url_of(connection)))
    with engine.begin() as opened, Operations.context(MigrationContext.configure(opened)):
        yield opened
    engine.dispose()


def wait_until_a_session_waits(connection: Database) -> None:
    """Return when some session of the server waits for a lock."""
    while connection.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone() == (0,):
        time.sleep(0.05)


def upgraded_to(revision: str) -> Callable[..., None]:
    """Return what pytest-postgresql calls to bring a template database to a revision."""

    def load(**connection: Any) -> None:
        connection.pop("autocommit", None)
        with psycopg.connect(**connection) as opened:
            url = url_of(opened)
        run_alembic("upgrade", revision, url=url)

    return load


def at(seconds: float) -> datetime:
    """Return the moment so many seconds after the start of the tests' time."""
    return START + timedelta(seconds=seconds)


def insert(connection: Database, table: str, **values: Any) -> uuid.UUID:
    """Insert a row; what is NOT NULL and not given gets a plain value. Returns the request_id."""
    row: dict[str, Any] = dict(values)
    if table == "api_requests":
        row = {
            "request_id": uuid.uuid4(),
            "timestamp": START,
            "domain": "claude-1.msldev.io",
            "method": "POST",
            "path": "/v1/messages",
            "headers": {},
        } | row
    columns = sql.SQL(", ").join(map(sql.Identifier, row))
    marks = sql.SQL(", ").join(sql.Placeholder() * len(row))
    connection.execute(
        sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(sql.Identifier(table), columns, marks),
        [Jsonb(value) if isinstance(value, dict | list) else value for value in row.values()],
    )
    return uuid.UUID(str(row.get("request_id", uuid.UUID(int=0))))


def task_response(*prompts: str) -> dict[str, Any]:
    """Return a response body that makes a Task call for each prompt."""
    return {
        "content": [
            {
                "type": "tool_use",
                "id": f"toolu_{number}",
                "name": "Task",
                "input": {"prompt": prompt, "description": f"task {number}"},
            }
            for number, prompt in enumerate(prompts)
        ]
    }


def user_message(content: Any) -> dict[str, Any]:
    """Return a request body whose first message is the user's."""
    return {"messages": [{"role": "user", "content": content}]}


# What makes a schema, in any order: relations, columns, constraints, indexes, comments, code, sequences.
CATALOG = """
WITH ours AS (
    SELECT oid, relname, relkind FROM pg_class
    WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
      AND relname <> 'alembic_version' AND relkind IN ('r', 'm', 'v', 'S')
)
SELECT 'relation', relname::text, format('%s %s', relkind, obj_description(oid, 'pg_class')) FROM ours
UNION ALL
SELECT 'column', format('%s.%s', relname, attname),
    format('%s %s default %s, %s, %s', format_type(atttypid, atttypmod), attnotnull,
        pg_get_expr(adbin, adrelid), attcollation::regcollation, col_description(attrelid, attnum))
FROM ours JOIN pg_attribute ON attrelid = oid LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attnum > 0 AND NOT attisdropped AND relkind <> 'S'
UNION ALL
SELECT 'constraint', format('%s.%s', relname, conname),
    format('%s valid %s', pg_get_constraintdef(pg_constraint.oid), convalidated)
FROM ours JOIN pg_constraint ON conrelid = ours.oid
WHERE contype <> 'n' -- from PostgreSQL 18 on; a column says it anyway
UNION ALL
SELECT 'index', indexrelid::regclass::text, format('%s valid %s', pg_get_indexdef(indexrelid), indisvalid)
FROM ours JOIN pg_index ON indrelid = oid
UNION ALL
SELECT 'view', relname, pg_get_viewdef(oid) FROM ours WHERE relkind IN ('m', 'v')
UNION ALL
SELECT 'function', proname,
    format('%s %s', pg_get_functiondef(pg_proc.oid), obj_description(pg_proc.oid, 'pg_proc'))
FROM pg_proc WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
UNION ALL
SELECT 'sequence', relname, format('owned by %s column %s', refobjid::regclass, refobjsubid)
FROM ours JOIN pg_depend ON objid = oid AND deptype = 'a' WHERE relkind = 'S'
"""


def catalog(connection: Database) -> dict[tuple[str, str], str]:
    """Return everything that makes the schema, by kind and name; the order of columns is no part of it."""
    return {(kind, name): definition for kind, name, definition in connection.execute(CATALOG)}


Content = dict[str, tuple[list[str], list[Any]]]


def content(database: Database, like: Content | None = None) -> Content:
    """Return every row of every table as text, in the columns that the tables have, or had in ``like``."""
    found: Content = {}
    tables = database.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = current_schema()"
    ).fetchall()
    for (table,) in tables:
        if table == "alembic_version" or (like is not None and table not in like):
            continue
        if like is None:
            cursor = database.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(sql.Identifier(table)))
            assert cursor.description is not None
            columns = sorted(column.name for column in cursor.description)
        else:
            columns = like[table][0]
        shown = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns)
        rows = database.execute(sql.SQL("SELECT {} FROM {}").format(shown, sql.Identifier(table))).fetchall()
        found[table] = (columns, sorted(rows, key=str))
    return found
