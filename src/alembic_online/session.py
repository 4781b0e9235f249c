"""The connection of an online run: used outside of Alembic's transactions, and restored at the end."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from copy import deepcopy
from typing import Any

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import DBAPIError

from alembic_online import catalog
from alembic_online.lock import lock_migrations, unlock_migrations

CLIENT_CHECK_INTERVAL = "5s"
"""How often the server checks that the client of a running statement is still connected."""


def is_autocommit(context: MigrationContext) -> bool:
    """Return whether a connected context is in an autocommit_block()."""
    connection = context.connection
    return (
        connection is not None and connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
    )


def around_autocommit_block(
    context: MigrationContext, around: Callable[[], AbstractContextManager[None]]
) -> None:
    """Wrap each autocommit_block() of a context in another context manager: Alembic has no event for it."""
    original = context.autocommit_block

    @contextmanager
    def block() -> Iterator[None]:
        with around(), original():
            yield

    context.autocommit_block = block  # type: ignore[method-assign]


def lost(error: BaseException) -> BaseException:
    """Return the error that broke the connection, which later errors mask."""
    found: BaseException | None = error
    while found is not None and not (isinstance(found, DBAPIError) and found.connection_invalidated):
        found = found.__context__
    return found or error


class Session:
    """The connection of a run; it may come from an application's pool.

    :param lock_wait: seconds to wait for sessions in the way; None: as long as it takes.
    """

    def __init__(self, context: MigrationContext, lock_wait: float | None) -> None:
        self.context = context
        self.lock_wait = lock_wait
        self.revision = ""
        """The current revision, for pg_stat_activity."""
        self._inside = False
        self._program = self._said = ""
        self._watching = False
        self._row_security: str | None = None

    @property
    def connection(self) -> sa.Connection:
        """The connection of the migration, which autocommit_block() replaces."""
        connection = self.context.connection
        assert connection is not None  # noqa: S101 - only a script has none
        return connection

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock of migrations, and restore the session at the end."""
        self.connection.commit()
        try:
            self._watch_client()
            # With row security, rows that a policy hides would silently stay unchanged.
            self._row_security = str(self.scalar(catalog.ROW_SECURITY))
            self.set({"row_security": "off"})
            self.connection.commit()
            lock_migrations(self.connection, wait=self.lock_wait)  # before Alembic reads the current revision
            yield
        except BaseException:
            with suppress(Exception):  # an error of a lost connection would hide the cause
                self._give_back()
            raise
        self._give_back()

    def _watch_client(self) -> None:
        """Make the server cancel a statement when its client is gone, instead of running it for hours."""
        with suppress(DBAPIError):  # not on every system
            self._watching = bool(self.rows(catalog.WATCH_CLIENT, interval=CLIENT_CHECK_INTERVAL))
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
            self.set({"row_security": self._row_security})
        connection.commit()

    @contextmanager
    def outside(self, what: str) -> Iterator[None]:
        """Leave Alembic's transaction; switch timeouts off and show the work in pg_stat_activity.

        :param what: the work, for application_name.
        """
        if self._inside:
            self.say(what)
            yield
            return
        failure: BaseException | None = None
        try:
            with ExitStack() as stack:
                if not is_autocommit(self.context):  # else the revision has opened a block
                    stack.enter_context(self.context.autocommit_block())
                self._inside = True
                settings: dict[str, str] = {}
                try:
                    found = self.connection.execute(catalog.SETTINGS).one()._asdict()
                    settings |= {name: value for name, value in found.items() if value is not None}
                    self._program = settings["application_name"] or "alembic"
                    self._said = self._name(self._program, what)
                    self.set(dict.fromkeys(settings, "0") | {"application_name": self._said})
                    yield
                except BaseException as error:
                    failure = error  # an exit below may fail too, and would mask it
                    raise
                finally:
                    self._inside = False
                    if settings and not self.connection.invalidated and not self.connection.closed:
                        with suppress(DBAPIError) if failure is not None else ExitStack():
                            self.set(settings)
        except BaseException as error:
            cause = lost(failure or error)
            if error is not cause:
                raise cause from cause.__cause__
            raise

    def say(self, what: str) -> None:
        """Show the work of the session in pg_stat_activity."""
        name = self._name(self._program, what)
        if name != self._said:
            self.set({"application_name": name})
            self._said = name

    def _name(self, program: str, what: str) -> str:
        return f"{program} {self.revision}: {what}"[:63]

    def set(self, values: dict[str, str], *, local: bool = False) -> None:
        """Change settings of PostgreSQL, for the session or for its transaction."""
        names = [*values]
        calls = ", ".join(f"set_config(:n{at}, :v{at}, {str(local).lower()})" for at in range(len(names)))
        given = {f"n{at}": name for at, name in enumerate(names)}
        given |= {f"v{at}": values[name] for at, name in enumerate(names)}
        self.connection.execute(sa.text(f"SELECT {calls}"), given)

    @contextmanager
    def transaction(self, **settings: str) -> Iterator[None]:
        """Run the block in its own transaction, within :meth:`outside`.

        :param settings: settings of PostgreSQL for this transaction.
        """
        connection = self.connection
        # In it, Alembic remembers which types it has created; a rollback must restore it.
        memo = deepcopy(self.context.impl.memo)
        try:
            connection.exec_driver_sql("BEGIN")
            if settings:
                self.set(settings, local=True)
            yield
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            self.context.impl.memo = memo
            with suppress(Exception):  # an error of a lost connection would hide the cause
                connection.exec_driver_sql("ROLLBACK")
            raise

    @contextmanager
    def settings(self, what: str, **settings: str) -> Iterator[None]:
        """Change settings for a part of a transaction; after an error, its rollback restores them.

        :param what: the work, for application_name.
        """
        found = self.connection.execute(catalog.SETTINGS).one()._asdict()
        program = found["application_name"] or "alembic"
        before = {setting: found[setting] for setting in settings} | {"application_name": program}
        self.set(settings | {"application_name": self._name(program, what)}, local=True)
        yield
        self.set(before, local=True)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Make the block read-only, and roll back its transaction."""
        connection = self.connection
        connection.commit()  # Alembic may have made its version table
        # By SQL, because the driver's read_only cannot be set on an asynchronous connection.
        name = "default_transaction_read_only"
        before = connection.exec_driver_sql(f"SHOW {name}").scalar_one()
        self.set({name: "on"})
        connection.commit()
        try:
            yield
        finally:
            if not connection.invalidated:
                connection.rollback()
                self.set({name: before})
                connection.commit()

    def rows(self, question: "sa.TextClause", **parameters: object) -> Sequence[Any]:
        """Query rows."""
        return self.connection.execute(question, parameters).all()

    def scalar(self, question: "sa.TextClause", **parameters: object) -> Any:
        """Query one value."""
        return self.connection.execute(question, parameters).scalar()

    def run_sql(self, statement: str) -> None:
        """Execute SQL that changes the schema and has no parameters.

        It is executed as DDL, so that SQLAlchemy's dialect for asyncpg drops its prepared statements.
        """
        self.context.impl.execute(sa.DDL(statement.replace("%", "%%")))  # type: ignore[no-untyped-call]


def literal(statement: str) -> sa.TextClause:
    """Return SQL without parameters, in the form of SQLAlchemy."""
    return sa.text(statement.replace(":", r"\:"))
