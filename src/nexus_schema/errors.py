"""Errors: one exception family, and one line for each error that a user can fix."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from alembic.script.revision import MultipleHeads
from alembic.util import CommandError
from psycopg import errors as pg
from psycopg import pq
from psycopg.conninfo import make_conninfo
from sqlalchemy.exc import CompileError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout


class TerminatedError(KeyboardInterrupt):
    """SIGTERM. It is a KeyboardInterrupt because psycopg cancels a statement for no other exception."""


class SchemaError(CommandError):
    """An error that the user can fix. Its text is one line: what is wrong and what to do.

    A subclass of Alembic's ``CommandError``, so that code that calls ``alembic.command`` catches both.
    """


def enabled(variable: str) -> bool:
    """Return whether an environment variable is on: ``true``, ``yes``, ``on`` or ``1``, in any case."""
    return os.environ.get(variable, "").strip().lower() in {"1", "true", "yes", "on"}


def is_seconds(value: Any) -> bool:
    """Return whether an argument is a number. Callers may pass any type, and True equals 1."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def user_message(error: BaseException) -> str | None:
    """Say in one line what went wrong and what to do, or return None for a bug of this project.

    The text consists of what the server and libpq report, which never includes a password.
    """
    if isinstance(error, CommandError):
        if isinstance(error.__cause__, MultipleHeads):
            return (
                f"multiple heads: {', '.join(sorted(error.__cause__.heads))}; set down_revision of the later"
                " one to the other, or merge them: alembic merge heads -m 'join the two'"
            )
        said = _one_line(str(error))
        hints = [hint for text, hint in _HINTS.items() if text in said]
        return "; ".join([said.rstrip("."), *hints]) if hints else said
    if isinstance(error, PoolTimeout):
        return f"no connection of the engine's pool became available: {_one_line(error.args[0])}"
    if isinstance(error, CompileError):
        return (
            f"cannot be compiled to SQL: {_one_line(str(error.args[0]))}; give each object a name, and each"
            " column a type"
        )
    if isinstance(error, DBAPIError):
        error = database_error(error) or error
    if not isinstance(error, psycopg.Error):
        return None
    primary = error.diag.message_primary
    if primary is None and any(word in str(error) for word in _READ_ONLY):
        return (
            "no server of the URL accepts writes, as target_session_attrs requires: each is read-only or a"
            " standby; add the primary to the URL"
        )
    if primary is None:  # not reported by a server: the text is libpq's
        return f"cannot reach the database: {_one_line(str(error))}; check its URL and the server"
    # The detail of these two errors is the whole row, including headers and bodies.
    shows_row = isinstance(error, pg.NotNullViolation | pg.CheckViolation)
    detail = error.diag.message_detail if not shows_row else None
    said = _one_line(primary) + (f" ({_one_line(detail)})" if detail else "")
    match error:
        case pg.RaiseException():
            raised_by = _one_line(error.diag.context or "")
            # Revisions raise in DO blocks; any other exception comes from a user's trigger.
            return said if "inline_code_block" in raised_by else f"{said} (raised by {raised_by})"
        case pg.InsufficientPrivilege():
            return f"missing privilege: {said}; grant it, or connect as the owner of the tables"
        case pg.LockNotAvailable() | pg.DeadlockDetected():
            return (
                f"lock not obtained: {said}; try again at a quieter moment, or allow a longer wait with"
                " PGOPTIONS='-c lock_timeout=60s'"
            )
        case pg.ReadOnlySqlTransaction():
            return (
                f"the server is read-only or a standby: {said}; connect to the primary: name all servers in"
                " the URL with target_session_attrs=read-write"
            )
        case pg.AdminShutdown() | pg.CrashShutdown():
            return f"the connection was terminated: {said}; unfinished work is rolled back; rerun"
        case pg.QueryCanceled():
            return f"cancelled by the server: {said}; raise statement_timeout, or try again"
    return f"the database refused: {said} [SQLSTATE {error.sqlstate}]; DEBUG=true shows the statement"


_HINTS = {
    "t locate revision": "alembic history lists them",
    "Target database is not up to date": "run alembic upgrade head first",
}
"""What to do about errors of Alembic, by a part of their text."""


def database_error(error: BaseException) -> psycopg.Error | None:
    """Return the driver's error: this one, or the one that SQLAlchemy or this project wrapped; or None."""
    if isinstance(error, DBAPIError):
        return database_error(error.orig) if error.orig else None
    if isinstance(error, CommandError) and error.__cause__:
        return database_error(error.__cause__)
    return error if isinstance(error, psycopg.Error) else None


def statement_of(error: BaseException | None) -> str | None:
    """Return the statement that failed, without its parameters, or None if no statement failed."""
    while error is not None and not isinstance(error, DBAPIError):
        error = error.__cause__
    return error.statement.strip() if error is not None and error.statement else None


def is_unreachable(error: BaseException) -> bool:
    """Return whether a retry some seconds later may succeed: the server is down, starting, or went away."""
    if isinstance(error, PoolTimeout):
        return True
    found = database_error(error)
    if not isinstance(found, psycopg.OperationalError):
        return False
    if found.sqlstate is not None:  # class 08: the connection; 57P01 to 57P03: shut down, crashed, starting
        return found.sqlstate.startswith("08") or found.sqlstate in {"57P01", "57P02", "57P03"}
    if found.pgconn is None:
        return True
    # libpq gives no SQLSTATE for a refused connection, but it can ping the server.
    return any(word in str(found) for word in (*_BUSY, *_READ_ONLY)) or _ping(found.pgconn.info) != pq.Ping.OK


# libpq's messages if no server matches target_session_attrs. After a failover, one may match.
_READ_ONLY = ("session is read-only", "server is in hot standby mode")

# Messages of a running server or pooler without a free connection, or of pgbouncer if its server is down.
_BUSY = ("too many clients", "connection slots", "no more connections", "server login", "connect to server")


def _ping(parameters: list[pq.ConninfoOption]) -> int:
    values = {option.keyword.decode(): option.val.decode() for option in parameters if option.val}
    values["connect_timeout"] = values.get("connect_timeout") or "5"
    # A ping needs no login, and a wrong password must not count twice.
    values.pop("password", None)
    values["passfile"] = f"{os.devnull}/none"
    return pq.PGconn.ping(make_conninfo(**values).encode())


def full_report(error: BaseException) -> str:
    """Return everything known about an error over several lines, without parameter values.

    The line of :func:`user_message` comes first, then the statement, the server's hint and the context.
    """
    found = database_error(error)
    said = [user_message(error) or f"{type(error).__name__}: {error}"]
    statement = statement_of(error)
    if statement is not None:
        said.append(f"statement: {statement}")
    if found is not None:
        parts = {"hint": found.diag.message_hint, "where": found.diag.context}
        said += [f"{name}: {_one_line(text)}" for name, text in parts.items() if text]
    return "\n  ".join(said)


@contextmanager
def one_line_errors(*, exit_process: bool) -> Iterator[None]:
    """Turn each error that a user can fix into one line; DEBUG=true prints the traceback before it.

    :param exit_process: print the line to stderr and exit with status 1 (the command line), instead of
        raising :class:`SchemaError` (a program that calls Alembic).
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if not exit_process:
            raise
        sys.stderr.write("interrupted: unfinished work is rolled back; the next run continues from there\n")
        sys.exit(128 + (signal.SIGTERM if isinstance(interrupt, TerminatedError) else signal.SIGINT))
    except BrokenPipeError:
        if not exit_process:
            raise
        # The reader of a pipe, such as head, has ended. Python would fail again to write the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        message = user_message(error)
        if message is None:
            raise
        message = "; ".join([message, *_notes(error)])
        if enabled("DEBUG"):
            traceback.print_exc()
        if exit_process:
            sys.exit(f"error: {message}")
        raise SchemaError(message) from error


def _notes(error: BaseException | None) -> Iterator[str]:
    """Yield the notes of an error and of its causes."""
    while error is not None:
        yield from getattr(error, "__notes__", ())
        error = error.__cause__


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
