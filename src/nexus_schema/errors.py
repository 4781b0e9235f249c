"""Errors: one family, and one line for each thing that can go wrong."""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from alembic.util import CommandError
from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError


class SchemaError(CommandError):
    """Something the user can mend; its text is one line that says what is wrong and what to do.

    A subclass of Alembic's ``CommandError``, so that code which calls ``alembic.command`` catches both.
    """


def debug_enabled() -> bool:
    """Return whether DEBUG asks for tracebacks and SQL (``true``, ``yes``, ``on`` or ``1``)."""
    return os.environ.get("DEBUG", "").strip().lower() in {"1", "true", "yes", "on"}


def describe(error: BaseException) -> str | None:
    """Say in one line what went wrong and what to do, or return None for what is a bug of ours.

    The text is made of what the server and libpq report, which never includes a password.
    """
    if isinstance(error, CommandError):
        return _one_line(str(error))
    if isinstance(error, DBAPIError):
        error = error.orig or error
    if not isinstance(error, psycopg.Error):
        return None
    primary = error.diag.message_primary
    if primary is None:  # no answer from a server: libpq's own words
        return f"cannot reach the database: {_one_line(str(error))}; check DATABASE_URL and the server"
    # The detail of these two is the whole row, with what it holds of headers and bodies.
    shows_row = isinstance(error, pg.NotNullViolation | pg.CheckViolation)
    detail = error.diag.message_detail if not shows_row else None
    said = _one_line(primary) + (f" ({_one_line(detail)})" if detail else "")
    match error:
        case pg.RaiseException():
            raised_by = _one_line(error.diag.context or "")
            # Ours stand in DO blocks of revisions; any other comes from a trigger of the operator's own.
            return said if "inline_code_block" in raised_by else f"{said} (raised by {raised_by})"
        case pg.InsufficientPrivilege():
            return f"missing privilege: {said}; grant it, or connect as the owner of the tables"
        case pg.LockNotAvailable() | pg.DeadlockDetected():
            return (
                f"lock not obtained: {said}; try again at a quieter moment, or allow a longer wait with"
                " PGOPTIONS='-c lock_timeout=60s'"
            )
        case pg.QueryCanceled():
            return f"stopped by the server: {said}; raise statement_timeout, or try again"
    return f"the database refused: {said} [SQLSTATE {error.sqlstate}]; DEBUG=true shows the statement"


@contextmanager
def one_line_errors(*, exit_process: bool) -> Iterator[None]:
    """Turn what can go wrong into one line; DEBUG=true prints the traceback before it.

    :param exit_process: print the line to stderr and exit with status 1 (the command line), instead of
        raising :class:`SchemaError` (a program that calls Alembic).
    """
    try:
        yield
    except KeyboardInterrupt:
        if not exit_process:
            raise
        sys.stderr.write("interrupted: what was not finished is undone\n")
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        message = describe(error)
        if message is None:
            raise
        if debug_enabled():
            traceback.print_exc()
        if exit_process:
            sys.exit(f"error: {message}")
        raise SchemaError(message) from error


def _one_line(text: str) -> str:
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
