"""``op.backfill``: set columns on the rows that lack them.

In one transaction it is one statement. Online it is many, each over a range of the table and committed by
itself; see :mod:`alembic_online`.
"""

import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import sqlalchemy as sa
from alembic.operations import Operations, ops
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.util import find_tables
from tqdm import tqdm

from alembic_online import catalog
from alembic_online.errors import OnlineError, driver_error, first_line
from alembic_online.run import plain
from alembic_online.waiting import Holders, delays, sqlstate

if TYPE_CHECKING:
    from alembic_online.operations import Online

log = logging.getLogger(__name__)

BULK_ROWS = 1000
"""Below so many rows, taking indexes away costs more than it saves."""

BATCH_SECONDS = 0.2
"""What a batch aims at: as long as others wait for a row of it at most."""

PAUSE = 0.1
"""Pause after a batch, as a part of the time that it took, in which replicas and autovacuum keep up."""

FIRST_STEP, LARGEST_STEP = 64, 65536
"""Pages, or keys, of the first batch; and of the largest, where nothing has to be changed."""

LOG_EVERY_SECONDS = 5.0

LEFT_OVER = 1000
"""Rows that are looked at together after the last pass."""

MAXIMUM_PASSES = 10
"""Where rows keep coming, it ends all the same."""

# What may happen to a batch because of others: they lock or delete a row that it needs.
# A foreign key that is violated three times is so because of its own rows.
_RETRIED: dict[str | None, float] = {
    "55P03": math.inf, "40P01": 20, "40001": 20, "57014": 20, "23503": 3,
}  # fmt: skip

# A plan for a range must not depend on statistics; none of its statements is worth compiling.
# Below deadlock_timeout (1 s): where two lock rows in another order, the batch gives way, not the program.
# What it evicts goes to disk at once: else the system writes it out in bursts, in which the commits of others
# wait. For 200,000 rows it took a third longer, and a writer waited 0.09 s at most instead of 0.27 s.
_SETTINGS = {
    "jit": "off",
    "lock_timeout": "500ms",
    "statement_timeout": "60s",
    "backend_flush_after": "512kB",
}
# Only the rows that belong to the range, each found by its index.
_BY_INDEX = {
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_nestloop": "on",
}


@Operations.register_operation("backfill")
class BackfillOp(ops.MigrateOperation):
    """Run an UPDATE that fills rows; see :meth:`backfill`."""

    def __init__(
        self,
        statement: sa.Update,
        *,
        what: str,
        over: sa.TableClause | None = None,
        key: Sequence[str] = (),
    ) -> None:
        if not isinstance(statement.table, sa.TableClause):
            raise OnlineError(f"a backfill updates a table by its own name, not by an alias ({what})")
        if statement.whereclause is None:
            raise OnlineError(f"a backfill needs a WHERE that names the rows which lack the values ({what})")
        self.statement = statement
        self.what = what
        self.over = over
        self.key = tuple(key)

    @classmethod
    def backfill(
        cls,
        operations: Operations,
        statement: sa.Update,
        *,
        what: str,
        over: sa.TableClause | None = None,
        key: Sequence[str] = (),
    ) -> int:
        """Set columns on the rows that lack them; returns how many rows were changed, 0 in a script.

        :param statement: an UPDATE whose WHERE names the rows that lack the values, so that a row once filled
            is not found again: ``sa.update(t).values(c=1).where(t.c.c.is_(None))``. It may join other tables.
        :param what: what was filled, for the log: "requests given the account of their domain".
        :param over: the table whose ranges the batches are, if it is not the one that is updated: a small
            one that the statement joins by an indexed column.
        :param key: columns of an index; batches are ranges of them instead of ranges of the table's pages.
        """
        changed: int = operations.invoke(cls(statement, what=what, over=over, key=key))
        return changed

    @property
    def table(self) -> sa.TableClause:
        """The table that is updated."""
        assert isinstance(self.statement.table, sa.TableClause)  # noqa: S101 - revisions update tables
        return self.statement.table

    @property
    def tables(self) -> list[sa.TableClause]:
        """All tables that the statement reads or writes."""
        found: list[Any] = [*find_tables(self.statement, check_columns=True, include_crud=True), self.walked]
        plain = {table.element if isinstance(table, sa.Alias) else table: None for table in found}
        return [table for table in plain if isinstance(table, sa.TableClause)]

    @property
    def walked(self) -> sa.TableClause:
        """The table whose ranges the batches are."""
        return self.table if self.over is None else self.over


def fill_at_once(operations: Operations, operation: BackfillOp) -> int:
    """Run a backfill as one statement; returns the number of rows that it changed."""
    context = operations.migration_context
    if context.as_sql:
        context.impl.execute(operation.statement)
        return 0
    connection = operations.get_bind()
    restricted = connection.execute(catalog.ROW_SECURITY).scalar_one()
    # Else rows that a policy hides would stay as they are, without a word.
    connection.exec_driver_sql("SET LOCAL row_security = off")
    # Deferred triggers of the operator's own have to run before the next ALTER TABLE or CREATE INDEX.
    connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
    with _by_index(connection, operation), _indexes_rebuilt(connection, operation):
        changed = connection.execute(operation.statement).rowcount
    with _by_index(connection, operation):
        for _ in range(MAXIMUM_PASSES):
            more = _fill_left_over(connection, operation)
            if more is None:
                break
            changed += more
    connection.exec_driver_sql(f"SET LOCAL row_security = {restricted}")
    log.info("%s %s", changed, operation.what)
    return changed


def _fill_left_over(connection: sa.Connection, operation: BackfillOp) -> int | None:
    """Fill rows that the statement finds after its last pass; returns how many, None if there are none.

    What others have inserted or moved meanwhile is no error. Raises :class:`OnlineError` for rows that an
    UPDATE does not change: they are in the same place afterwards, written by the same transaction.
    """
    where = operation.statement.whereclause
    assert where is not None  # noqa: S101 - checked by BackfillOp
    table = _quoted(connection.dialect, operation.table.name)
    place: list[sa.ColumnClause[Any]] = [
        sa.literal_column(f"CAST({table}.{column} AS text)", sa.Text).label(column)  # type: ignore[misc]
        for column in ("tableoid", "ctid", "xmin")
    ]
    finding = sa.select(*place).select_from(operation.table).where(where)
    found = {tuple(row) for row in connection.execute(finding.limit(LEFT_OVER))}
    if not found:
        return None
    places = ",".join(sorted({f'"{ctid}"' for _, ctid, _ in found}))
    there: sa.ColumnElement[bool] = sa.literal_column(
        f"({table}.ctid = ANY (CAST('{{{places}}}' AS tid[])))", sa.Boolean
    )
    changed = _update(connection, operation, [there], first=True)
    left = len(found & {tuple(row) for row in connection.execute(finding.where(there))})
    if left:
        rows = "1 row" if left == 1 else f"{left} rows{' or more' if len(found) == LEFT_OVER else ''}"
        raise OnlineError(
            f"{rows} of {table} cannot be filled ({operation.what}): an UPDATE changes nothing; look on"
            f" {table} for a BEFORE UPDATE trigger that returns NULL, a rule DO INSTEAD,"
            " a row security policy"
        )
    return changed


@contextmanager
def _by_index(connection: sa.Connection, operation: BackfillOp) -> Iterator[None]:
    """Have the rows of a small table joined by index, whatever the statistics say, or do not say yet."""
    if operation.over is None:
        yield
        return
    names = ", ".join(f"current_setting('{name}') AS {name}" for name in _BY_INDEX)
    before = connection.exec_driver_sql(f"SELECT {names}").one()._asdict()
    for name, value in _BY_INDEX.items():
        connection.exec_driver_sql(f"SET LOCAL {name} = {value}")
    yield
    for name, value in before.items():
        connection.exec_driver_sql(f"SET LOCAL {name} = {value}")


@contextmanager
def _indexes_rebuilt(connection: sa.Connection, operation: BackfillOp) -> Iterator[None]:
    """Take the secondary indexes of a table away while many of its rows change, and build them again.

    An entry in each index for each row costs eight tenths of a bulk update; building the indexes anew costs
    next to nothing. The transaction holds the table anyway. Each index comes back from its own definition,
    the operator's own as well; one that backs a constraint or carries what a definition does not hold
    stays. Nothing happens when fewer than one row in four would change.
    """
    table, where = operation.table, operation.statement.whereclause
    if operation.over is not None or where is None:
        yield
        return
    changing = connection.scalar(sa.select(sa.func.count()).select_from(table).where(where)) or 0
    if changing < BULK_ROWS or changing * 4 < (
        connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
    ):
        yield
        return
    name = _name(connection.dialect, table)
    indexes = connection.execute(_SECONDARY_INDEXES, {"table": name}).all()
    for index in indexes:
        connection.exec_driver_sql(index.drop.replace("%", "%%"))
    yield
    for index in indexes:
        connection.exec_driver_sql(index.make.replace("%", "%%"))
        if index.comment is not None:
            connection.exec_driver_sql(index.comment.replace("%", "%%"))
    log.info("%s: %s indexes built again, after %s rows had changed", table.name, len(indexes), changing)


def key_of(connection: sa.Connection, operation: BackfillOp) -> tuple[str, ...] | None:
    """Return the columns over which a backfill goes; none where it goes over pages, None where it cannot go.

    Of a foreign table, or of one that is distributed over other servers, this server shows no pages, or those
    of something else. The primary key serves there.
    """
    given = {"table": _name(connection.dialect, operation.walked)}
    if operation.key:
        return operation.key
    hidden = connection.execute(_HAS_FOREIGN_PARTS, given).scalar()
    if not hidden and not connection.execute(_PAGES, given).scalar():
        rows = sa.select(sa.literal(1)).select_from(operation.walked).limit(1)
        hidden = connection.execute(rows).first() is not None
    if not hidden:
        return ()
    return tuple(connection.execute(_PRIMARY_KEY, given).scalars()) or None


class _State(NamedTuple):
    """How far a backfill came: which pass, after which page or key, rows changed in all and in this pass."""

    number: int = 1
    position: Any = None
    changed: int = 0
    in_pass: int = 0
    before: int | None = None
    finished: bool = False


class _Pages:
    """Ranges of a table's pages: each page is read once, and no index is needed."""

    by_index: ClassVar[bool] = False

    def __init__(self, connection: sa.Connection, operation: BackfillOp) -> None:
        name = _name(connection.dialect, operation.walked)
        self._end = connection.execute(_PAGES, {"table": name}).scalar() or 0
        self._tid: sa.ColumnClause[Any] = sa.literal_column(
            _quoted(connection.dialect, operation.walked.name) + ".ctid"
        )

    def range(self, position: Any, step: int) -> tuple[list["sa.ColumnElement[bool]"], Any] | None:
        first = position or 0
        if first >= self._end:
            return None
        end = min(first + step, self._end)
        return [self._tid >= _tid(first), self._tid < _tid(end)], end

    def part(self, position: Any) -> float:
        return min(1.0, (position or 0) / max(1, self._end))


class _Keys:
    """Ranges of a key, for a table whose pages lie in no useful order."""

    def __init__(self, connection: sa.Connection, operation: BackfillOp, key: Sequence[str]) -> None:
        quote = partial(_quoted, connection.dialect)
        self._connection = connection
        self._table = operation.walked
        self._columns: list[sa.ColumnElement[Any]] = [
            sa.literal_column(f"{quote(operation.walked.name)}.{quote(name)}") for name in key
        ]
        table = _name(connection.dialect, operation.walked)
        self._types = [self._type(table, name, operation) for name in key]
        # What comes after the key that is the last one now belongs to the next pass.
        self._last = self._row(self._keys().order_by(*(column.desc() for column in self._columns)))
        name = _name(connection.dialect, operation.walked)
        self._total = connection.execute(_ROWS, {"table": name}).scalar() or 1
        self._seen = 0

    def _type(self, table: str, column: str, operation: BackfillOp) -> str:
        """Return the type of a column with its length, without which ranges would miss rows."""
        found = self._connection.execute(_KEY, {"table": table, "column": column}).one_or_none()
        if found is None or not found.attnotnull:
            raise OnlineError(
                f"a backfill cannot go over {table}.{column} ({operation.what}): a key has to be of columns"
                " that are there and NOT NULL, else rows would be missed"
            )
        return str(found.type)

    def _keys(self) -> "sa.Select[Any]":
        return _select(*(column.cast(sa.Text) for column in self._columns))

    def _row(self, select: "sa.Select[Any]") -> list[str] | None:
        row = self._connection.execute(select.select_from(self._table).limit(1)).one_or_none()
        return None if row is None else list(row)

    def _key(self, position: Sequence[str]) -> "sa.ColumnElement[Any]":
        literals: Iterator[sa.ColumnElement[Any]] = (
            sa.literal_column(f"CAST({_quote(value)} AS {kind})")
            for value, kind in zip(position, self._types, strict=True)
        )
        return sa.tuple_(*literals)

    def range(self, position: Any, step: int) -> tuple[list["sa.ColumnElement[bool]"], Any] | None:
        if self._last is None or position == self._last:
            return None
        key = sa.tuple_(*self._columns)
        conditions = [key <= self._key(self._last)]
        if position is not None:
            conditions.append(key > self._key(position))
        end = (
            self._row(self._keys().where(*conditions).order_by(*self._columns).offset(step - 1)) or self._last
        )
        self._seen += step
        return [*conditions[1:], key <= self._key(end)], end

    def part(self, position: Any) -> float:
        return 1.0 if position == self._last else min(1.0, self._seen / max(1, self._total))


def fill_in_batches(online: "Online", operation: BackfillOp) -> int:
    """Run a backfill range after range, each committed by itself; returns the number of rows changed.

    A row that others move to another page is missed by a pass over the pages, so passes are repeated until
    one changes nothing. The journal holds how far it came; a run that died goes on there.
    """
    table = operation.table.name
    state = _State(**online.state.get("backfill", {}))
    if state.finished:
        return state.changed
    for needed in operation.tables:
        name = _name(online.context.dialect, needed)
        if online.scalar(catalog.KIND, table=name) is None:
            raise OnlineError(
                f"table {name} does not exist, which the backfill needs ({operation.what}), and nothing in"
                " the revision has made it; restore it, then rerun"
            )
    with online.outside(f"backfill {table}"):
        if state.position is not None:
            log.info("%s: goes on after %s, with %s done", operation.what, state.position, state.changed)
        with _Progress(operation) as progress:
            while not state.finished:
                state = _pass(online, operation, state, progress)
    return state.changed


def _update(
    connection: sa.Connection,
    operation: BackfillOp,
    conditions: list["sa.ColumnElement[bool]"],
    *,
    first: bool,
) -> int:
    """Run the statement for a range; returns the number of rows changed.

    The first rows that it changes have to prove that they would not be found again: else it would not end.
    """
    statement, where = operation.statement.where(*conditions), operation.statement.whereclause
    # PostgreSQL returns nothing where a rule does something else instead.
    name = _name(connection.dialect, operation.table)
    if not first or where is None or connection.execute(_INSTEAD, {"table": name}).scalar():
        return connection.execute(statement).rowcount
    found_again = connection.scalars(statement.returning(where)).all()
    if any(found_again):
        raise OnlineError(
            f"the rows that a backfill has filled are found by it again ({operation.what}): its WHERE has to"
            " name the rows that lack the values"
        )
    return len(found_again)


def _pass(online: "Online", operation: BackfillOp, state: _State, progress: "_Progress") -> _State:
    """Run one pass over the table, and say what is next."""
    key = key_of(online.connection, operation)
    assert key is not None  # noqa: S101 - else it was refused
    ranges = _Keys(online.connection, operation, key) if key else _Pages(online.connection, operation)
    step, failures = FIRST_STEP, 0
    holders, waiting_since = Holders(online, operation.what), time.monotonic()
    while (found := ranges.range(state.position, step)) is not None:
        conditions, end = found
        begun = time.monotonic()
        try:
            with online.transaction(**_SETTINGS, **(_BY_INDEX if operation.over is not None else {})):
                changed = _update(online.connection, operation, conditions, first=state.changed == 0)
                done = state._replace(
                    position=end, changed=state.changed + changed, in_pass=state.in_pass + changed
                )
                online.note(backfill=done._asdict())
        except DBAPIError as error:
            failures += 1
            driver = driver_error(error)
            state_of_error = None if driver is None else driver.sqlstate
            if state_of_error not in _RETRIED or failures > _RETRIED[state_of_error]:
                raise
            holders.check(waiting_since, f"rows that others hold ({str(driver).splitlines()[0]})")
            step = max(1, step // 2)
            time.sleep(min(2.0, 0.1 * failures))
            continue
        state, failures, waiting_since = done, 0, time.monotonic()
        seconds = time.monotonic() - begun
        progress.show(state.number, ranges.part(end), state.changed)
        # By at most four times, because a range without a row to change says nothing of the next one.
        step = max(1, min(LARGEST_STEP, int(step * min(4.0, max(0.25, BATCH_SECONDS / max(seconds, 1e-4))))))
        time.sleep(min(BATCH_SECONDS, seconds * PAUSE) if changed else 0)
    # As many as before: rows come in as fast as they are filled.
    steady = state.before is not None and state.in_pass >= state.before
    after = state._replace(
        number=state.number + 1,
        position=None,
        in_pass=0,
        before=state.in_pass,
        finished=state.in_pass == 0 or steady or state.number >= MAXIMUM_PASSES,
    )
    return _finish(online, operation, after) if after.finished else after


def _finish(online: "Online", operation: BackfillOp, state: _State) -> _State:
    """See to what the last pass has left, and note that the backfill is finished."""
    holders, started = Holders(online, operation.what), time.monotonic()
    # To find the rows may take a scan of the table.
    settings = _SETTINGS | {"statement_timeout": "0"} | (_BY_INDEX if operation.over is not None else {})
    attempts = 0
    for pause in delays():
        try:
            with online.transaction(**settings):
                more = _fill_left_over(online.connection, operation)
                done = state._replace(changed=state.changed + (more or 0))
                attempts += 1
                finished = more is None or attempts == MAXIMUM_PASSES
                online.note(backfill=done._replace(finished=finished)._asdict())
        except DBAPIError as error:
            if sqlstate(error) not in _RETRIED.keys() - {"23503"}:
                raise
            holders.check(started, f"rows that others hold ({first_line(error)})")
            time.sleep(pause)
            continue
        state = done
        if finished:
            break
    return state


class _Progress:
    """A bar on a terminal, or else a line in the log every few seconds."""

    def __init__(self, operation: BackfillOp) -> None:
        self._what = operation.what
        self._begun = self._logged = time.monotonic()
        self._bar = tqdm(
            total=100, unit="%", desc=operation.table.name, disable=None, file=sys.stderr, leave=False,
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed} < {remaining}{postfix}",
        )  # fmt: skip
        self._number = 1

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, number: int, part: float, rows: int) -> None:
        """Show how much of a pass is done, and how many rows have been changed in all."""
        now = time.monotonic()
        rate = rows / max(1e-3, now - self._begun)
        if not self._bar.disable:
            if number != self._number:
                self._number = number
                self._bar.reset()
            self._bar.set_postfix_str(f" {rows:,} rows, {rate:,.0f}/s", refresh=False)
            self._bar.update(100 * part - self._bar.n)
        elif now - self._logged >= LOG_EVERY_SECONDS:
            self._logged = now
            left = (now - self._begun) / max(part, 1e-3) * (1 - part)
            log.info(
                "%s so far: %d %%, %s rows, %.0f/s, about %.0f s left",
                self._what,
                100 * part,
                rows,
                rate,
                left,
            )


def write_batches(online: "Online", operation: BackfillOp) -> None:
    """Write a backfill to a script: a loop over ranges of pages that commits after each."""
    context = online.context
    walked = operation.walked
    name = _name(context.dialect, walked)
    tid: sa.ColumnClause[Any] = sa.literal_column(_quoted(context.dialect, walked.name) + ".ctid")
    statement = operation.statement.where(
        tid >= sa.literal_column("first_tid"), tid < sa.literal_column("end_tid")
    )
    compiled = statement.compile(dialect=context.dialect, compile_kwargs={"literal_binds": True})
    regclass = name.replace("'", "''")
    settings = _BY_INDEX if operation.over is not None else {}
    with online.outside(operation.what):
        for setting, value in settings.items():
            context.impl.static_output(f"SET {setting} = {value};")
        script = f"""\
-- {operation.what}: in batches, until a pass changes nothing
DO $backfill$
DECLARE
    pages bigint;
    first_page bigint;
    first_tid tid;
    end_tid tid;
    changed bigint;
    changed_in_pass bigint;
BEGIN
    FOR pass IN 1..{MAXIMUM_PASSES} LOOP
        changed_in_pass := 0;
        WITH RECURSIVE parts (part) AS (
            SELECT '{regclass}'::regclass::oid
            UNION SELECT inhrelid FROM pg_inherits JOIN parts ON inhparent = part
        )
        SELECT max(pg_relation_size(part)) / current_setting('block_size')::int INTO pages FROM parts;
        first_page := 0;
        WHILE first_page < pages LOOP
            first_tid := format('(%s,0)', first_page)::tid;
            first_page := first_page + 500;
            end_tid := format('(%s,0)', first_page)::tid;
            {compiled!s};
            GET DIAGNOSTICS changed = ROW_COUNT;
            changed_in_pass := changed_in_pass + changed;
            COMMIT;
        END LOOP;
        EXIT WHEN changed_in_pass = 0;
    END LOOP;
END $backfill$;
"""  # noqa: S608 - the statement is compiled, the names are quoted
        context.impl.static_output(script)
        for setting in settings:
            context.impl.static_output(f"RESET {setting};")


def _select(*columns: "sa.ColumnElement[Any]") -> "sa.Select[Any]":
    statement: sa.Select[Any] = sa.select(*columns)
    return statement


def _tid(page: int) -> "sa.ColumnElement[Any]":
    return sa.literal_column(f"'({page},0)'::tid")


def _quote(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _name(dialect: sa.Dialect, table: sa.TableClause) -> str:
    return plain(dialect, dialect.identifier_preparer.format_table(table))


def _quoted(dialect: sa.Dialect, name: str) -> str:
    return plain(dialect, dialect.identifier_preparer.quote(name))


_PAGES = sa.text("""
WITH RECURSIVE parts (part) AS (
    SELECT CAST(to_regclass(:table) AS oid)
    UNION SELECT inhrelid FROM pg_inherits JOIN parts ON inhparent = part
)
SELECT max(pg_relation_size(part)) / current_setting('block_size')::int FROM parts""")
_HAS_FOREIGN_PARTS = sa.text("""
WITH RECURSIVE parts (part) AS (
    SELECT CAST(to_regclass(:table) AS oid)
    UNION SELECT inhrelid FROM pg_inherits JOIN parts ON inhparent = part
)
SELECT bool_or(relkind = 'f') FROM parts JOIN pg_class ON oid = part""")
_PRIMARY_KEY = sa.text("""
SELECT attname::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
WHERE indrelid = to_regclass(:table) AND indisprimary
ORDER BY array_position(CAST(indkey AS int2[]), attnum)""")
_KEY = sa.text("""
SELECT format_type(atttypid, atttypmod) AS type, attnotnull FROM pg_attribute
WHERE attrelid = to_regclass(:table) AND attname = :column AND attnum > 0 AND NOT attisdropped""")
_INSTEAD = sa.text("""
SELECT EXISTS (
    SELECT FROM pg_rewrite WHERE ev_class = to_regclass(:table) AND ev_type = '2' AND is_instead)""")
_ROWS = sa.text("SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass(:table)")

# Not among them: what backs a constraint, what something else depends on, and what pg_get_indexdef() leaves
# out: a tablespace, the marks of CLUSTER and REPLICA IDENTITY, statistics targets, a partitioned parent.
_SECONDARY_INDEXES = sa.text("""
SELECT format('DROP INDEX %s', CAST(oid AS regclass)) AS drop,
    pg_get_indexdef(oid) AS make,
    format('COMMENT ON INDEX %s IS ', CAST(oid AS regclass))
        || quote_literal(obj_description(oid, 'pg_class')) AS comment
FROM pg_index JOIN pg_class ON oid = indexrelid
WHERE indrelid = to_regclass(:table)
    AND indisvalid AND NOT indisclustered AND NOT indisreplident AND NOT relispartition AND reltablespace = 0
    AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
    AND NOT EXISTS (
        SELECT FROM pg_depend WHERE refobjid = indexrelid AND refclassid = CAST('pg_class' AS regclass)
            OR objid = indexrelid AND classid = CAST('pg_class' AS regclass) AND deptype = 'e'
    )
    AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = indexrelid AND attstattarget >= 0)
ORDER BY relname""")
