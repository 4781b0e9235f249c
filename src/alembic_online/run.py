"""One online run of Alembic: its steps, their journal, and the ways to run a statement."""

import hashlib
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from psycopg.types.json import Jsonb
from sqlalchemy.exc import DBAPIError

from alembic_online import catalog
from alembic_online.errors import OnlineError, RefusedError
from alembic_online.lock import lock_migrations, unlock_migrations
from alembic_online.waiting import RETRIED, Holders, Watch, delays, sqlstate

log = logging.getLogger(__name__)

STRONG_LOCK_TIMEOUT = "200ms"
"""Longest wait for a lock behind which others queue up: their longest stall."""

WEAK_LOCK_TIMEOUT = "2s"
"""Longest wait for a lock that stalls nobody. Above deadlock_timeout (1 s), after which the server cancels
an autovacuum that stands in the way."""

CLIENT_CHECK_INTERVAL = "5s"
"""How often the server looks whether the client of a running statement is still there."""

GUARD_SECONDS = 5
"""A brief statement that runs longer is none: it reads or writes the table under its lock."""


KEY = "alembic_online"
"""Where the options of an enabled context hold its run, or None where all runs in one transaction."""

_BLOCKS = "alembic_online_blocks"


_SCRIPT_HEAD = """\
-- Each operation commits by itself, so that others go on reading and writing. A script cannot look at what
-- is there: where a statement fails (a lock was not obtained in time, a build left an invalid index), see to
-- what it left, and go on after what is done. alembic -x online upgrade does that by itself.
SET lock_timeout = 0;
SET statement_timeout = 0;
SET row_security = off;
"""


@dataclass(frozen=True)
class Entry:
    """An operation of a revision in the journal: what it does, for the how manieth time, how far it came."""

    digest: str
    number: int
    state: dict[str, Any]
    """Its steps that are committed, by name."""
    resumed: bool
    """Whether an earlier run has begun it."""


class Found(NamedTuple):
    """An index or a constraint that has the wanted name."""

    table: str
    valid: bool
    definition: str


def is_autocommit(context: MigrationContext) -> bool:
    """Return whether a connected context is in an autocommit_block()."""
    connection = context.connection
    return (
        connection is not None and connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
    )


def count_blocks(context: MigrationContext) -> None:
    """Have a context that writes a script count its autocommit_block(): Alembic leaves no mark of one."""
    original = context.autocommit_block
    context.opts[_BLOCKS] = 0

    @contextmanager
    def counted() -> Iterator[None]:
        context.opts[_BLOCKS] += 1
        try:
            with original():
                yield
        finally:
            context.opts[_BLOCKS] -= 1

    context.autocommit_block = counted  # type: ignore[method-assign]


def in_transaction(context: MigrationContext) -> bool:
    """Return whether what a context runs, or writes to a script, is within a transaction."""
    if context.as_sql:
        return context.impl.transactional_ddl and not context.opts.get(_BLOCKS)
    connection = context.connection
    if connection is None or is_autocommit(context):
        return False
    driver: Any = connection.connection.dbapi_connection
    return not connection.dialect.detect_autocommit_setting(driver)  # that of the engine


def plain(dialect: sa.Dialect, compiled: str) -> str:
    """Return what SQLAlchemy wrote for the driver without its doubled percent signs."""
    return compiled.replace("%%", "%") if dialect.paramstyle in {"format", "pyformat"} else compiled


def _lost(error: BaseException) -> BaseException:
    """Return the error by which a connection was lost, which those that follow from it hide."""
    found: BaseException | None = error
    while found is not None and not (isinstance(found, DBAPIError) and found.connection_invalidated):
        found = found.__context__
    return found or error


class Run:
    """One run of Alembic: its steps, their journal, and the ways to run a statement."""

    def __init__(self, context: MigrationContext, *, lock_wait: float | None, requested: bool = True) -> None:
        self.context = context
        self.operations = Operations(context)
        self.offline = context.as_sql
        self.planning = False
        self.active = True
        self.skipping = False
        """Whether the revision runs in one transaction, after an online run that did a part of it."""
        self.filled = 0
        """Rows that the backfills of the current pass changed."""
        self.lock_wait = lock_wait
        self._requested = requested
        self._revision = ""
        self._created: set[str] = set()
        self._step = ""
        self._journal: dict[tuple[str, int], dict[str, Any]] = {}
        self._journal_exists = False
        self._journal_schema: str | None = None
        self._seen: Counter[str] = Counter()
        self._entry: Entry | None = None
        self._inside = False
        self._program = ""
        self._watching = False
        self._row_security: str | None = None
        self._script: MigrationContext | None = None
        self._did: str | None = None
        """What the operation that runs has done, for the log."""
        self._made: dict[tuple[str, int], list[str]] = {}
        """Tables that the operations of the revision have made, unless later ones have dropped them."""
        self._checked: set[str] = set()
        """Tables to which the revision adds a check, which may prove that a column has no NULL."""
        self._again: set[str] = set()
        """Names of tables that are made again, because somebody has dropped them since an earlier run."""

    # The run: one step for each revision.

    @contextmanager
    def session(self) -> Iterator[None]:
        """Lock out other migrations, and give the session back as it was, whatever the end.

        The connection may be one of an application's pool.
        """
        self.connection.commit()
        try:
            self._watch_client()
            # Else rows that a policy hides would stay as they are, without a word.
            self._row_security = str(self.scalar(catalog.ROW_SECURITY))
            self._set({"row_security": "off"})
            self.connection.commit()
            lock_migrations(self.connection, wait=self.lock_wait)  # before Alembic reads where it is
            self.require_journal_name()
            yield
        except BaseException:
            if needed := sorted(self._all_made()):
                log.warning(
                    "%s is not finished; the next run needs what this one has made: %s",
                    self._revision,
                    ", ".join(needed),
                )
            with suppress(Exception):  # what comes from a lost connection would hide the cause
                self._give_back()
            raise
        self._give_back()

    def _watch_client(self) -> None:
        """Have the server end what runs when the client is gone, instead of building on for hours."""
        with suppress(DBAPIError):  # not on every system
            self._watching = bool(self._rows(catalog.WATCH_CLIENT, interval=CLIENT_CHECK_INTERVAL))
            self.connection.commit()
        self.connection.rollback()

    def _give_back(self) -> None:
        connection = self.connection
        if connection.closed or connection.invalidated:
            return
        connection.rollback()
        unlock_migrations(connection)
        if self._watching:
            connection.execute(catalog.WATCH_NO_CLIENT)
        if self._row_security is not None:
            self._set({"row_security": self._row_security})
        connection.commit()

    def steps(self, found: Iterable[MigrationStep]) -> Iterator[MigrationStep]:
        """Yield Alembic's steps, each made ready before it runs."""
        if self.offline:
            self.context.impl.static_output(_SCRIPT_HEAD)
        for step in found:
            self.active = self.skipping = False
            self._step = ""
            self._made, self._again, self._checked = {}, set(), set()
            if isinstance(step, RevisionStep):
                self._begin(step)
            yield step

    def _begin(self, step: RevisionStep) -> None:
        self._revision = step.revision.revision
        self._seen.clear()
        if not self.offline:
            direction = "upgrade" if step.is_upgrade else "downgrade"
            self._load_journal(f"{direction} {self._revision}")
        if getattr(step.revision.module, "online", True) is False:
            self.skipping = bool(self._journal)
            if self._requested or self.skipping:
                done = ", without what an online run has done already" if self.skipping else ""
                log.info("%s says online = False: it runs in one transaction%s", self._revision, done)
            return
        if not self._requested:
            if not self._journal:
                return
            log.info("%s was begun online, and is finished online", self._revision)
        self.active = True
        if not self.offline:
            self._plan(step)
            self._seen.clear()

    def _plan(self, step: RevisionStep) -> None:
        """Read the revision through without doing anything, so that what is refused is so before it starts.

        A revision that reads what it has just written cannot be read to its end; what comes after that is
        refused where it stands.
        """
        connection = self.connection
        connection.commit()  # Alembic may have made its version table
        # By SQL: what the driver calls read_only cannot be set on an asynchronous connection.
        name = "default_transaction_read_only"
        before = connection.exec_driver_sql(f"SHOW {name}").scalar_one()
        self._set({name: "on"})
        connection.commit()
        self.planning, created, made = True, set(self._created), dict(self._made)
        try:
            with self.context.begin_transaction(_per_migration=True):
                step.migration_fn()
        except RefusedError:
            raise
        except Exception as error:  # noqa: BLE001 - as below
            if connection.invalidated:
                raise _lost(error) from None
            # Whatever it is will come again when the revision runs.
            log.debug("%s cannot be read through: %s", self._revision, error)
        finally:
            self.planning, self._created, self._made, self._again = False, created, made, set()
            if not connection.invalidated:
                connection.rollback()
                self._set({name: before})
                connection.commit()

    def step_applied(self, **_: object) -> None:
        """Forget the operations of a revision in the transaction that stamps it; all, for a stamp by hand."""
        if self.offline or not self.scalar(catalog.JOURNAL, table=self._journal_table):
            return
        table, run = self._journal_sql, self.connection.exec_driver_sql
        if self._step:
            run(f"DELETE FROM {table} WHERE step = %s", (self._step,))  # noqa: S608 - quoted
        if not self._step or not run(f"SELECT EXISTS (SELECT FROM {table})").scalar():  # noqa: S608 - quoted
            run(f"DROP TABLE {table}")
            self._journal_exists = False

    # The journal: which operations of an interrupted revision are done, and how far the last one came. The
    # catalog cannot tell: a later operation may have undone what an earlier one did.

    @property
    def _journal_table(self) -> str:
        if self._journal_schema is None:  # once: a revision may set another search_path
            given = self.context.version_table_schema
            self._journal_schema = str(given or self.scalar(catalog.CURRENT_SCHEMA))
        return self.quoted(f"{self.context.version_table}_journal", self._journal_schema)

    @property
    def _journal_sql(self) -> str:
        return self._journal_table.replace("%", "%%")

    def _load_journal(self, step: str) -> None:
        connection = self.connection
        self._step = step
        self._journal = {}
        self._journal_exists = bool(self.scalar(catalog.JOURNAL, table=self._journal_table))
        if self._journal_exists:
            rows = connection.exec_driver_sql(
                f"SELECT digest, number, state FROM {self._journal_sql} WHERE step = %s",  # noqa: S608 - quoted
                (step,),
            )
            self._journal = {(row.digest, row.number): row.state for row in rows}
            self._made = {key: state["made"] for key, state in self._journal.items() if state.get("made")}

    def has_journal(self) -> bool:
        """Return whether an interrupted run has left a journal; a transaction is open after as before."""
        return bool(self._is_journal())

    def _is_journal(self) -> bool | None:
        """Return whether what has the journal's name is one, or None where nothing has it."""
        connection = self.connection
        outer = connection.in_transaction()
        found: bool | None = self.scalar(catalog.JOURNAL, table=self._journal_table)
        if not outer:
            connection.rollback()
        return found

    def require_journal_name(self) -> None:
        """Raise :class:`OnlineError` if the journal's name belongs to something else."""
        if self._is_journal() is False:
            raise OnlineError(
                f"nothing was changed: {self._journal_table} already exists, and is not the journal that"
                " online runs keep under this name; rename it, then rerun"
            )

    def entry(self, text: str) -> Entry:
        """Return the entry of an operation.

        :param text: what it does. Operations are told apart by it, and by how often it came before.
        """
        digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        self._seen[digest] += 1
        number = self._seen[digest]
        state = self._journal.get((digest, number))
        return Entry(digest, number, dict(state or {}), resumed=state is not None)

    @contextmanager
    def journaled(self, entry: Entry) -> Iterator[None]:
        """Have what is inside note its steps for an operation."""
        self._entry = entry
        try:
            yield
        finally:
            self._entry = None

    @property
    def state(self) -> dict[str, Any]:
        """The steps of the operation that runs which are committed."""
        return {} if self._entry is None else self._entry.state

    @property
    def resumed(self) -> bool:
        """Whether an earlier run has begun the operation that runs."""
        return self._entry is not None and self._entry.resumed

    def note(self, **steps: Any) -> None:
        """Record steps of the operation that runs, in the transaction of their work."""
        entry = self._entry
        if entry is None:  # a script, or a setting
            return
        entry.state.update(steps)
        self.connection.exec_driver_sql(
            f"INSERT INTO {self._journal_sql} VALUES (%s, %s, %s, %s)"  # noqa: S608 - quoted
            " ON CONFLICT (step, digest, number) DO UPDATE SET state = excluded.state",
            (self._step, entry.digest, entry.number, Jsonb(entry.state)),
        )

    def note_step(self, step: str) -> None:
        """Record a step, and with the last one of an operation the tables that it has made and dropped."""
        entry = self._entry
        if step != "done" or entry is None:
            self.note(**{step: True})
            return
        made = [name for (name,) in self._rows(catalog.MADE_IN_TRANSACTION)]
        self.note(done=True, **({"made": made} if made else {}))
        missing = {name for (name,) in self._rows(catalog.MISSING, names=[*self._all_made()])}
        for (digest, number), names in [*self._made.items()]:
            if left := [name for name in names if name not in missing]:
                self._made[digest, number] = left
            else:
                del self._made[digest, number]
            if left != names:
                self.connection.exec_driver_sql(
                    f"UPDATE {self._journal_sql} SET state = state || %s"  # noqa: S608 - quoted
                    " WHERE step = %s AND digest = %s AND number = %s",
                    (Jsonb({"made": left}), self._step, digest, number),
                )
        if made:
            self._made[entry.digest, entry.number] = made

    def _all_made(self) -> Iterable[str]:
        return itertools.chain.from_iterable(self._made.values())

    def open_journal(self) -> None:
        """Make the journal's table unless it is there."""
        if not self._journal_exists:
            self.connection.exec_driver_sql(
                f"CREATE TABLE IF NOT EXISTS {self._journal_sql}"
                " (step text, digest text, number int, state jsonb, PRIMARY KEY (step, digest, number))"
            )
            self._journal_exists = True

    # The ways to run a statement.

    @property
    def connection(self) -> sa.Connection:
        """The connection of the migration, which autocommit_block() exchanges."""
        connection = self.context.connection
        assert connection is not None  # noqa: S101 - only a script has none
        return connection

    @contextmanager
    def outside(self, what: str) -> Iterator[None]:
        """Leave Alembic's transaction; the session says what it does, and has no timeouts of its own.

        :param what: what it does, for pg_stat_activity.
        """
        if self.offline or self._inside:
            with ExitStack() as stack:
                before = self._inside
                if not before:
                    stack.enter_context(self.context.autocommit_block())
                elif not self.offline:
                    self._say(what)
                self._inside = True
                try:
                    yield
                finally:
                    self._inside = before
            return
        failure: BaseException | None = None
        try:
            with ExitStack() as stack:
                if not is_autocommit(self.context):  # else the author's own block
                    stack.enter_context(self.context.autocommit_block())
                self._inside = True
                found = self.connection.execute(catalog.SETTINGS).one()._asdict()
                settings = {name: value for name, value in found.items() if value is not None}
                self._program = settings["application_name"] or "alembic"
                try:
                    self._set({name: "0" for name in settings if name != "application_name"})
                    self._say(what)
                    yield
                except BaseException as error:
                    failure = error  # an exit below may fail as well, and would hide it
                    raise
                finally:
                    self._inside = False
                    if not self.connection.invalidated and not self.connection.closed:
                        with suppress(DBAPIError) if failure is not None else ExitStack():
                            self._set(settings)
        except BaseException as error:
            if failure is not None and error is not failure:
                raise _lost(failure) from failure.__cause__
            raise

    def _say(self, what: str) -> None:
        self._set({"application_name": f"{self._program} {self._revision}: {what}"[:63]})

    def _set(self, values: dict[str, str], *, local: bool = False) -> None:
        marks = ", ".join(f"set_config(%s, %s, {str(local).lower()})" for _ in values)
        flat = tuple(itertools.chain.from_iterable(values.items()))
        self.connection.exec_driver_sql(f"SELECT {marks}", flat)

    @contextmanager
    def transaction(self, **settings: str) -> Iterator[None]:
        """Run what is inside in a transaction of its own, within :meth:`outside`.

        :param settings: settings of the server for this transaction.
        """
        connection, before = self.connection, dict(self.state)
        # By which Alembic knows that a type has been created: also with what is undone.
        memo = deepcopy(self.context.impl.memo)
        connection.exec_driver_sql("BEGIN")
        try:
            if settings:
                self._set(settings, local=True)
            yield
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            self.state.clear()
            self.state.update(before)
            self.context.impl.memo = memo
            with suppress(Exception):  # what comes from a lost connection would hide the cause
                connection.exec_driver_sql("ROLLBACK")
            raise

    def brief(
        self,
        what: str,
        work: Callable[[], object],
        *tables: str,
        stops_reads: bool = True,
        limit: str = STRONG_LOCK_TIMEOUT,
        step: str | None = None,
    ) -> None:
        """Run statements that change the catalog alone, under a strong lock.

        :param what: what they do.
        :param work: executes them.
        :param tables: the tables that they lock, quoted, as far as they are known.
        :param stops_reads: whether readers would have to wait too.
        :param limit: longest wait for the lock.
        :param step: its name in the journal, if that has to tell whether it is done.
        """
        if step in self.state:
            return
        self._did = self._did or what
        with self.outside(what):
            if self.offline:
                self._write_brief(work, tables, limit)
                return
            started = time.monotonic()
            holders = Holders(self, what)
            for delay in delays():
                locked = self._ordinary(tables)
                holders.wait(locked, stops_reads=stops_reads)
                begun = time.monotonic()
                try:
                    with self.transaction(
                        lock_timeout=WEAK_LOCK_TIMEOUT, statement_timeout=f"{GUARD_SECONDS}s"
                    ):
                        for table in locked:
                            self.connection.exec_driver_sql(
                                f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE".replace("%", "%%")
                            )
                        self._set({"lock_timeout": limit}, local=True)
                        work()
                        if step is not None:
                            self.note_step(step)
                        return
                except DBAPIError as error:
                    state = sqlstate(error)
                    if state == "57014" and time.monotonic() - begun >= GUARD_SECONDS:
                        raise OnlineError(
                            f"{what} ran {GUARD_SECONDS} s under its lock and was cancelled: it reads or"
                            " writes the table. Rows are filled by op.backfill; a statement that locks nobody"
                            ' out says so with execution_options={"online": "long"}; and online = False at'
                            " the top of a revision runs it in one transaction"
                        ) from error
                    if state not in RETRIED:
                        raise
                    holders.check(started, f"a lock ({str(error.orig).splitlines()[0]})")
                time.sleep(delay)

    def _write_brief(self, work: Callable[[], object], tables: Iterable[str], limit: str) -> None:
        write = self.context.impl.static_output
        write("BEGIN;")
        write(f"SET LOCAL lock_timeout = '{WEAK_LOCK_TIMEOUT}';")
        write(f"SET LOCAL statement_timeout = '{GUARD_SECONDS}s';")
        for table in sorted(set(tables) - self._created):
            write(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE;")
        if limit != WEAK_LOCK_TIMEOUT:
            write(f"SET LOCAL lock_timeout = '{limit}';")
        work()
        write("COMMIT;")

    def long(
        self,
        what: str,
        work: Callable[[], object],
        *,
        transaction: bool = False,
        undo: Callable[[], object] | None = None,
        step: str | None = None,
    ) -> object:
        """Run statements whose locks let others read and write, for as long as they take.

        :param transaction: whether they run in a transaction.
        :param undo: removes what a failure has left, where no transaction does.
        :param step: its name in the journal, where a transaction can hold both.
        """
        if step in self.state:
            return None
        self._did = self._did or what
        with self.outside(what):
            if self.offline:
                if transaction:
                    self.context.impl.static_output("BEGIN;\n")
                work()
                if transaction:
                    self.context.impl.static_output("COMMIT;\n")
                return None
            if not transaction and not self.state:
                self.note(begun=True)  # so that the next run knows whose it is, whatever this one leaves
            for delay in itertools.islice(delays(), 5):
                watch = Watch(self, what)
                try:
                    with watch, self.transaction() if transaction else ExitStack():
                        result = work()
                        if step is not None:
                            self.note_step(step)
                        return result
                except BaseException as error:
                    if undo is not None:
                        with suppress(Exception):  # a lost connection; the next run finds what is left
                            undo()
                    if watch.gave_up is not None:
                        raise OnlineError(watch.gave_up) from error
                    if sqlstate(error) != "40P01":
                        raise
                time.sleep(delay)
            raise OnlineError(f"{what}: deadlocked five times; try again at a quieter moment")

    def run_sql(self, statement: str) -> None:
        """Execute SQL in which nothing is a parameter."""
        self.context.impl.execute(sa.text(statement.replace(":", r"\:")))

    # What the catalog says.

    def quoted(self, name: str, schema: str | None = None) -> str:
        """Return the name of a table as SQL writes it."""
        return self.plain(
            self.context.dialect.identifier_preparer.format_table(sa.table(name, schema=schema))
        )

    def quote(self, name: str) -> str:
        """Return a name within a table or schema as SQL writes it."""
        return self.plain(self.context.dialect.identifier_preparer.quote(name))

    def plain(self, compiled: str) -> str:
        """Return what SQLAlchemy wrote for the driver without its doubled percent signs."""
        return plain(self.context.dialect, compiled)

    def _rows(self, statement: "sa.TextClause", **parameters: object) -> Sequence[Any]:
        return self.connection.execute(statement, parameters).all()

    def scalar(self, statement: "sa.TextClause", **parameters: object) -> Any:
        """Ask the server for one value."""
        return self.connection.execute(statement, parameters).scalar()

    def _ordinary(self, tables: Iterable[str]) -> list[str]:
        """Return those that LOCK TABLE knows, in an order that all runs share."""
        return sorted({table for table in tables if self.scalar(catalog.KIND, table=table) in {"r", "p"}})

    def is_new(self, table: str) -> bool:
        """Return whether this run, or this script, has created a table."""
        return table in self._created

    def without_ceremony(self, table: str) -> bool:
        """Return whether a table was created by this run, is not there, or has no rows."""
        if self.offline:
            return False
        if self.is_new(table):
            return True
        if not self.scalar(catalog.MAY_HAVE_ROWS, table=table):
            return True
        if self.scalar(catalog.IS_RESTRICTED, table=table):
            return False  # whether it has rows is an error
        rows = f"SELECT EXISTS (SELECT FROM {table})"  # noqa: S608 - quoted
        return not self.connection.exec_driver_sql(rows.replace("%", "%%")).scalar()

    def _is_partitioned(self, table: str) -> bool:
        return not self.offline and self.scalar(catalog.KIND, table=table) == "p"

    @contextmanager
    def _copy_of(self, table: str, how: str) -> Iterator[None]:
        """Ask the server what it makes of something: on an empty copy of a table, in a transaction undone.

        :param how: what the copy is made of; ``{}`` stands for the table.
        """
        with self.outside("asks the server, on an empty copy of a table"):
            self.connection.exec_driver_sql("BEGIN READ WRITE")
            try:
                self.run_sql(f"CREATE TEMP TABLE {catalog.PROBE} ({how.format(table)})")
                yield
            except BaseException:
                with suppress(Exception):  # what comes from a lost connection would hide the cause
                    self.connection.exec_driver_sql("ROLLBACK")
                raise
            self.connection.exec_driver_sql("ROLLBACK")

    def rewritten(self, table: str, work: Callable[[str], object]) -> list[str]:
        """Return what of a table and its indexes a change would write anew.

        :param work: makes the change to the table whose name it is given.
        """
        with self._copy_of(table, "LIKE {} INCLUDING ALL"):
            before = self.connection.execute(catalog.FILES).all()
            work(catalog.PROBE)
            after = self.connection.execute(catalog.FILES).all()
        return [name for name, _ in set(before) - set(after)]

    def _index(self, name: str) -> Found | None:
        row = self.connection.execute(catalog.INDEX, {"name": name}).one_or_none()
        return None if row is None else Found(*row)

    def _constraint(self, table: str, name: str) -> Found | None:
        row = self.connection.execute(catalog.CONSTRAINT, {"table": table, "name": name}).one_or_none()
        return None if row is None else Found(table, *row)
