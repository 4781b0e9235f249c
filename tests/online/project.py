"""A small Alembic project, independent of ours, and the tables that its revisions change."""

import re
import subprocess
import textwrap
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import alembic
import psycopg
from alembic import command
from alembic.config import Config
from databases import Database, catalog, content, engine_of, run_sql_script, url_of
from psycopg import pq
from sqlalchemy import Engine, event, make_url

# The changes of a project to the env.py of Alembic's own template.
ENABLED = {
    "from alembic import context\n": "from alembic import context\nimport alembic_online\n",
    """        dialect_opts={"paramstyle": "named"},
    )
""": """        dialect_opts={"paramstyle": "named"},
        transaction_per_migration=True,
    )
    alembic_online.enable(context)
""",
    """            connection=connection, target_metadata=target_metadata
        )
""": """            connection=connection, target_metadata=target_metadata, transaction_per_migration=True
        )
        alembic_online.enable(context)
""",
}
# Further changes for the tests: other arguments of configure, and hooks of the engine.
TESTED = {
    "target_metadata = None\n": """import sqlalchemy as sa
given = config.attributes
# PostgreSQL's own names: online, a constraint needs a name.
convention = {"uq": "%(table_name)s_%(column_0_name)s_key", "ix": "ix_%(column_0_label)s"}
target_metadata = sa.MetaData(naming_convention=convention)
how = {"target_metadata": target_metadata, "transaction_per_migration": True} | given.get("configure", {})
""",
    "        target_metadata=target_metadata,\n": "        **how,\n",
    "        transaction_per_migration=True,\n    )": "    )",
    "connection=connection, target_metadata=target_metadata, transaction_per_migration=True": (
        "connection=connection, **how"
    ),
    "connectable = ": 'connectable = given.get("engine") or ',
    "    with connectable.connect() as connection:\n": """    for hook in given["hooks"]:
        hook(connectable)
    with connectable.connect() as connection, afterwards(connection):
        for statement in given["before"]:
            connection.exec_driver_sql(statement)
            connection.commit()
        if given.get("begun"):
            connection.exec_driver_sql("SELECT 1")
""",
    "def run_migrations_online() -> None:\n": """from contextlib import contextmanager

@contextmanager
def afterwards(connection):
    try:
        yield
    finally:
        for look in given["afterwards"]:
            look(connection)

def run_migrations_online() -> None:
""",
}
TEMPLATE = Path(alembic.__file__).parent / "templates" / "generic" / "env.py"


def env(template: Path, *changes: dict[str, str]) -> str:
    """Return an env.py of a template with changes; each old text must occur once."""
    text = template.read_text()
    for old, new in [pair for change in changes for pair in change.items()]:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


ENV = env(TEMPLATE, ENABLED, TESTED)

REVISION = """
import sqlalchemy as sa
from alembic import op
import alembic_online as plugin
from sqlalchemy.dialects import postgresql

revision, down_revision = {revision!r}, {previous!r}
{top}

def upgrade():
{upgrade}

def downgrade():
    raise NotImplementedError
"""

BASE = """
CREATE TABLE parent (id int PRIMARY KEY, name text);
INSERT INTO parent SELECT n, 'p' || n FROM generate_series(1, 10) AS n;
CREATE TABLE t (
    id int PRIMARY KEY,
    a int,
    b varchar(10) DEFAULT 'b',
    code varchar(5) CONSTRAINT t_code_check CHECK (code <> ''),
    filled int NOT NULL DEFAULT 1,
    parent_id int,
    "Odd %name" int
);
CREATE INDEX t_a_idx ON t (a);
COMMENT ON TABLE t IS 'a table';
INSERT INTO t SELECT n, n, 'b' || n, 'c', n, n % 10 + 1, n FROM generate_series(1, 50) AS n;
CREATE TABLE bare (id int, v int);
INSERT INTO bare SELECT n, n FROM generate_series(1, 50) AS n;
CREATE TABLE child (
    id int PRIMARY KEY,
    t_id int CONSTRAINT child_t_fkey REFERENCES t,
    parent_id int CONSTRAINT child_parent_fkey REFERENCES parent
);
CREATE INDEX child_parent_idx ON child (parent_id);
INSERT INTO child SELECT n, n, n FROM generate_series(1, 10) AS n;
"""

FIX = "INSERT INTO parent VALUES (99, 'fixed')"
"""Inserts the row without which a revision fails that divides by its number."""

Hook = Callable[[Engine], None]


class Project:
    """An Alembic project in a folder. Its revisions are written from text."""

    def __init__(
        self, path: Path, database: Database, *, driver: str = "psycopg", environment: str = ENV
    ) -> None:
        self.path = path
        self.database = database
        self._driver = driver
        self._revisions = 0
        (path / "versions").mkdir(parents=True)
        (path / "env.py").write_text(environment)

    @property
    def url(self) -> str:
        return url_of(self.database)

    def revision(self, upgrade: str, *, top: str = "") -> None:
        """Add a revision after the last one."""
        self._revisions += 1
        revision = f"r{self._revisions}"
        previous = f"r{self._revisions - 1}" if self._revisions > 1 else None
        body = textwrap.indent(textwrap.dedent(upgrade).strip(), "    ")
        (self.path / "versions" / f"{revision}.py").write_text(
            REVISION.format(revision=revision, previous=previous, top=top, upgrade=body)
        )

    def config(self, *, online: bool, **attributes: Any) -> Config:
        output, options = (
            attributes.pop("output", None),
            attributes.pop("options", ["online"] if online else []),
        )
        config = Config(output_buffer=output, cmd_opts=Namespace(x=options))
        config.set_main_option("script_location", str(self.path).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        url = make_url(self.url).set(drivername=f"postgresql+{self._driver}")
        config.set_main_option("sqlalchemy.url", url.render_as_string(hide_password=False).replace("%", "%%"))
        engine = engine_of(self.database, self.url) if self._driver == "psycopg" else None
        given = {"engine": engine, "hooks": (), "before": (), "afterwards": ()} | attributes
        config.attributes.update(given)
        return config

    def upgrade(self, *, online: bool = True, **attributes: Any) -> None:
        """Run ``alembic -x online upgrade head``, or without -x online."""
        command.upgrade(self.config(online=online, **attributes), "head")

    def in_thread(self, **attributes: Any) -> "InThread":
        """Start an upgrade in another thread."""
        return InThread(lambda: self.upgrade(**attributes))

    def waits(self, statement: str) -> int:
        """Wait until a statement like this waits for a lock; returns its server process."""
        wait_for(self.database, f"SELECT EXISTS ({WAITING})", statement)
        found = self.database.execute(WAITING, [statement]).fetchone()
        assert found is not None
        return int(found[0])

    def script(self, *, online: bool = True) -> str:
        """Return what ``alembic -x online upgrade head --sql`` prints."""
        output = StringIO()
        command.upgrade(self.config(online=online, output=output), "head", sql=True)
        return output.getvalue()

    def run_script(self) -> subprocess.CompletedProcess[str]:
        """Run the script in psql."""
        return run_sql_script(self.database, self.script())


def reset(database: Database, setup: str = BASE) -> None:
    """Empty a database and recreate its tables: cheaper than creating another database."""
    database.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public;" + setup)


NOT_NULL = """
SELECT conrelid::regclass::text, conname, convalidated FROM pg_constraint
WHERE contype = 'n' AND connamespace = 'public'::regnamespace ORDER BY 1, 2"""


State = set[tuple[str, ...]]


def state(database: Database) -> State:
    """Return all results of a run: the schema, the names in it, the rows, the version."""
    return {
        *((*key, what) for key, what in catalog(database).items()),
        *(("not null", *map(str, row)) for row in database.execute(NOT_NULL)),
        *(
            ("rows", table, *map(str, columns), no_uuids(rows))
            for table, (columns, rows) in content(database).items()
        ),
        ("version", *versions(database)),
    }


def both_ways(
    project: Project, setup: str = "SELECT 1", look: Callable[[Database], Any] = state, **attributes: Any
) -> tuple[Any, Any]:
    """Run the revisions on the same database, online and in one transaction; return both results.

    :param setup: SQL that prepares the database.
    """
    found = []
    for online in (True, False):
        reset(project.database)
        project.database.execute(setup)
        project.upgrade(online=online, **attributes)
        found.append(look(project.database))
    return found[0], found[1]


def no_uuids(value: object) -> str:
    """Return the text of a value, in which all UUIDs are equal."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "a uuid", repr(value))


def versions(database: Database) -> list[Any]:
    """Return the current revisions of the database."""
    if database.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
        return []
    return [row[0] for row in database.execute("SELECT version_num FROM alembic_version")]


class Fault(Exception):  # noqa: N818 - raised by a test
    """Raised by :class:`Stop`."""


PASSING = "SELECT|BEGIN|SET|SAVEPOINT|RELEASE"


class Stop:
    """Ends a run before its n-th change, by an exception or by terminating its server process.

    In a transaction of the plugin, only the COMMIT counts: a stop before an earlier statement leaves the same
    state. With ``kill``, the process is also terminated before those statements.
    """

    def __init__(self, number: int, *, kill: Database | None = None, matching: str = "") -> None:
        self.reached = ""
        self._number = number
        self._kill = kill
        self._matching = re.compile(matching, re.IGNORECASE)

    def __call__(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self._before)

    def _before(self, _connection: Any, cursor: Any, statement: str, *_: object) -> None:
        statement = statement.strip()
        inside, process = session_of(cursor)
        counts = not re.match("SELECT|SAVEPOINT|RELEASE", statement)
        if self._kill is None:
            counts = statement == "COMMIT" if inside else not re.match(PASSING, statement)
        if not counts or not self._matching.match(statement):
            return
        self._number -= 1
        if self._number != 0:
            return
        self.reached = statement
        if self._kill is None:
            raise Fault(statement)
        terminate(self._kill, process)


def session_of(cursor: Any) -> tuple[bool, int]:
    """Return whether a driver's cursor is in a transaction begun by SQL, and its server process."""
    if hasattr(cursor, "connection"):
        driver = cursor.connection
        inside = driver.info.transaction_status == pq.TransactionStatus.INTRANS
        return driver.autocommit and inside, driver.info.backend_pid
    adapter = cursor._adapt_connection  # SQLAlchemy's adapter of asyncpg
    connection = adapter.driver_connection
    return adapter.autocommit and connection.is_in_transaction(), connection.get_server_pid()


class Blocker:
    """Another session takes locks right before a statement of a run, and holds them until it gives up."""

    def __init__(self, database: Database, locks: str, *, before: str) -> None:
        self.times = 0
        self._url = url_of(database)
        self._locks = locks
        self._before_statement = re.compile(before, re.IGNORECASE)
        self._other: psycopg.Connection[Any] | None = None

    def __call__(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", self._before)

    def _before(self, _connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        statement = statement.strip()
        if self._other is not None and statement == "ROLLBACK":
            self._other.close()
            self._other = None
        if self.times == 0 and self._before_statement.match(statement):
            self.times = 1
            self._other = psycopg.connect(self._url)
            self._other.execute(self._locks)


def terminate(database: Database, pid: int) -> None:
    """Terminate a server process, and wait until it is gone."""
    database.execute("SELECT pg_terminate_backend(%s)", [pid])
    wait_for(database, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = %s)", pid)


def wait_for(database: Database, condition: str, *parameters: Any, seconds: float = 30) -> None:
    """Wait until a condition is true on the server."""
    end = time.monotonic() + seconds
    while database.execute(condition, parameters).fetchone() != (True,):
        assert time.monotonic() < end, f"never became true: {condition}"
        time.sleep(0.02)


class InThread(threading.Thread):
    """Runs a function in a thread; ``end`` waits for it and raises its error."""

    def __init__(self, work: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # noqa: BLE001 - raised by end()
            self.error = error

    def end(self, seconds: float = 60) -> None:
        self.join(seconds)
        assert not self.is_alive(), "it hangs"
        if self.error is not None:
            raise self.error


def others_work(database: Database) -> None:
    """Read and write t over a connection that waits at most one second for a lock."""
    with psycopg.connect(url_of(database), autocommit=True) as other:
        other.execute("SET lock_timeout = '1s'")
        other.execute("SELECT count(*) FROM t")
        other.execute("INSERT INTO t (id, a) VALUES (-1, -1)")
        other.execute("UPDATE t SET a = -2 WHERE id = -1")
        other.execute("DELETE FROM t WHERE id = -1")


WAITING = """
SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE NOT granted AND datname = current_database() AND query LIKE %s"""
