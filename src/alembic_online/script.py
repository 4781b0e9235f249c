"""The interpreter that writes steps to a script, for ``--sql``."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack, contextmanager
from functools import singledispatchmethod
from typing import TYPE_CHECKING, Any

from alembic.runtime.migration import MigrationContext

from alembic_online.filling.script import write_batches
from alembic_online.live import GUARD_SECONDS
from alembic_online.server import Server
from alembic_online.session import around_autocommit_block, is_autocommit, literal
from alembic_online.steps import (
    WEAK_LOCK_TIMEOUT,
    BuildIndex,
    BuildParts,
    Fill,
    Locking,
    NonBlocking,
    Rows,
    Setting,
    Step,
    Validate,
    Work,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """\
-- Each operation commits by itself, so that other sessions keep reading and writing. A script cannot inspect
-- the database. If a statement fails (lock timeout, invalid index after a failed build), clean up after it
-- and continue after the last finished statement. alembic -x online upgrade does this automatically.
SET lock_timeout = 0;
SET statement_timeout = 0;
SET row_security = off;
"""

_BLOCKS = "alembic_online_blocks"


def count_blocks(context: MigrationContext) -> None:
    """Make a context that writes a script count its open autocommit blocks: Alembic does not show them."""
    context.opts[_BLOCKS] = 0

    @contextmanager
    def counted() -> "Iterator[None]":
        context.opts[_BLOCKS] += 1
        try:
            yield
        finally:
            context.opts[_BLOCKS] -= 1

    around_autocommit_block(context, counted)


def in_transaction(context: MigrationContext) -> bool:
    """Return whether a context runs, or writes to a script, within a transaction."""
    if context.as_sql:
        return context.impl.transactional_ddl and not context.opts.get(_BLOCKS)
    connection = context.connection
    if connection is None or is_autocommit(context):
        return False
    driver: Any = connection.connection.dbapi_connection
    return not connection.dialect.detect_autocommit_setting(driver)  # the engine may set it


class Script:
    """Writes the steps of one operation.

    :param as_alembic: writes the operation as Alembic itself does.
    """

    def __init__(self, server: Server, operation: Any, as_alembic: Callable[[], object]) -> None:
        self._server = server
        self._context = server.render.context
        self._operation = operation
        self._as_alembic = as_alembic

    def write(self, steps: Iterable[Step]) -> None:
        """Write the steps, outside of Alembic's transaction."""
        with ExitStack() as stack:
            if not self._context.opts[_BLOCKS]:  # else the revision has opened one
                stack.enter_context(self._context.autocommit_block())
            for step in steps:
                self._take(step)

    @singledispatchmethod
    def _take(self, step: Any) -> None:
        raise NotImplementedError(step)

    def _line(self, line: str) -> None:
        self._context.impl.static_output(line)

    def _do(self, work: Work) -> None:
        if work is None:
            self._as_alembic()
        for statement in work or ():
            self._context.impl.execute(literal(statement))

    @_take.register
    def _setting(self, step: Setting) -> None:
        self._do(step.work)

    @_take.register
    def _locking(self, step: Locking) -> None:
        if step.warning is not None:
            self._line(f"-- {step.warning}")
        self._line("BEGIN;")
        self._line(f"SET LOCAL lock_timeout = '{WEAK_LOCK_TIMEOUT}';")
        self._line(f"SET LOCAL statement_timeout = '{GUARD_SECONDS}s';")
        for table in sorted({*step.locks} - self._server.created - self._server.made):
            self._line(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE;")
        if step.limit != WEAK_LOCK_TIMEOUT:
            self._line(f"SET LOCAL lock_timeout = '{step.limit}';")
        self._do(step.work)
        self._line("COMMIT;")

    @_take.register
    def _rows(self, step: Rows) -> None:
        if step.guarded:
            self._locking(Locking(step.what, None, limit=WEAK_LOCK_TIMEOUT))
        else:
            self._non_blocking(NonBlocking(step.what, None))

    @_take.register
    def _non_blocking(self, step: NonBlocking) -> None:
        if step.transaction:
            self._line("BEGIN;\n")
        self._do(step.work)
        if step.transaction:
            self._line("COMMIT;\n")

    @_take.register
    def _build_index(self, step: BuildIndex) -> None:
        self._do((step.index.create(concurrently=True),))

    @_take.register
    def _build_parts(self, step: BuildParts) -> None:
        raise NotImplementedError(step)  # a script cannot find out which tables have partitions

    @_take.register
    def _validate(self, step: Validate) -> None:
        self._do((self._server.render.validation(step),))

    @_take.register
    def _fill(self, step: Fill) -> None:
        assert step.default is None  # noqa: S101 - a script cannot find out which defaults need it
        write_batches(self._context, self._operation)
