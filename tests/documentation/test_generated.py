"""The diagram of the README and the tables of docs/schema.md agree with the models.

The diagram and the tables of columns are generated from the models. This command writes them:

``WRITE_PAGES=1 pytest -n 0 tests/documentation/test_generated.py``
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from databases import Database, url_of
from pages import cells, code, page, section
from programs import ROOT
from sqlalchemy import create_engine

from nexus_schema import queries
from nexus_schema.database import parse_url
from nexus_schema.models import Base

INDEXES = r"""
SELECT indexrelid::regclass::text, replace(regexp_replace(pg_get_indexdef(indexrelid, 0, true),
    '^.* USING (\w+) \((.*?)\)( WHERE .*)?$', '\2 (\1)\3'), '"', '')
FROM pg_index JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = 'public'::regnamespace
"""
COLUMNS = """
SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull,
    coalesce(pg_get_expr(adbin, adrelid), ''), col_description(attrelid, attnum),
    EXISTS (SELECT FROM pg_constraint WHERE conrelid = attrelid AND contype = 'p' AND attnum = ANY (conkey)),
    EXISTS (SELECT FROM pg_constraint WHERE conrelid = attrelid AND contype = 'f' AND attnum = ANY (conkey)),
    EXISTS (SELECT FROM pg_index WHERE indrelid = attrelid AND attnum = ANY (indkey))
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'm') AND attnum > 0
ORDER BY array_position('{api_requests,streaming_chunks,hourly_stats,conversation_metrics}', relname), attnum
"""
RELATIONS = """
SELECT confrelid::regclass::text, CASE WHEN attnotnull THEN '||' ELSE '|o' END || '--o{',
    conrelid::regclass::text, attname
FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
WHERE contype = 'f' AND connamespace = 'public'::regnamespace
UNION
SELECT refobjid::regclass::text, '}|..o|', relname,
    CASE relname WHEN 'hourly_stats' THEN 'summed up by hour' ELSE 'read by the view' END
FROM pg_depend JOIN pg_rewrite ON pg_rewrite.oid = objid JOIN pg_class ON pg_class.oid = ev_class
WHERE refclassid = 'pg_class'::regclass AND refobjid <> ev_class
    AND relnamespace = 'public'::regnamespace
ORDER BY 1, 3, 4
"""
TYPES = {
    "character varying": "varchar",
    "character(": "char(",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
}


class Column(NamedTuple):
    """A column as the server describes it."""

    table: str
    name: str
    type: str
    not_null: bool
    default: str
    comment: str
    primary: bool
    foreign: bool
    indexed: bool

    @property
    def short_type(self) -> str:
        found = self.type
        for written, short in TYPES.items():
            found = found.replace(written, short)
        return found


def diagram(columns: list[Column], relations: list[tuple[str, ...]]) -> Iterator[str]:
    """Return the lines of the diagram: keys and indexed columns."""
    yield "```mermaid"
    yield "erDiagram"
    for one, kind, other, label in relations:
        yield f'    {one} {kind} {other} : "{label}"'
    for table in dict.fromkeys(column.table for column in columns):
        yield f"    {table} {{"
        for column in columns:
            if column.table == table and (column.primary or column.foreign or column.indexed):
                keys = [key for key, has in (("PK", column.primary), ("FK", column.foreign)) if has]
                yield f"        {column.short_type} {column.name} {', '.join(keys)}".rstrip()
        yield "    }"
    yield "```"


def table(columns: list[Column]) -> Iterator[str]:
    """Return the lines of a table of columns."""
    yield "| column | type | null | default | comment |"
    yield "|---|---|---|---|---|"
    for column in columns:
        null = "no" if column.not_null else "yes"
        default = f"`{column.default}`" if column.default else ""
        yield f"| `{column.name}` | {column.type} | {null} | {default} | {column.comment} |"


def generated(database: Database) -> dict[tuple[str, str], str]:
    """Return the generated texts by page and mark."""
    columns = [Column(*row) for row in database.execute(COLUMNS)]
    relations = [tuple(row) for row in database.execute(RELATIONS)]
    found = {("README.md", "diagram"): "\n".join(diagram(columns, relations))}
    for name in dict.fromkeys(column.table for column in columns):
        of_table = [column for column in columns if column.table == name]
        found["docs/schema.md", f"columns of {name}"] = "\n".join(table(of_table))
    return found


@pytest.fixture
def made(empty: Database) -> Database:
    """A database created from the models."""
    engine = create_engine(parse_url(url_of(empty)))
    Base.metadata.create_all(engine)
    engine.dispose()
    return empty


def test_the_pages_agree_with_the_models(made: Database) -> None:
    stale: list[str] = []
    for (name, mark), text in generated(made).items():
        start = f"<!-- {mark}: made from the models -->\n"
        before, found, rest = page(name).partition(start)
        assert found, f"{name} has no place for {mark}"
        old, end, after = rest.partition("<!-- end -->")
        if old == f"\n{text}\n\n":
            continue
        if "WRITE_PAGES" in os.environ:
            (ROOT / name).write_text(f"{before}{start}\n{text}\n\n{end}{after}")
        else:
            stale.append(f"{name}: {mark}")
    assert not stale, (
        "generated from other models; update them: WRITE_PAGES=1 pytest -n 0"
        " tests/documentation/test_generated.py"
    )


def test_the_table_of_indexes_agrees_with_the_models(made: Database) -> None:
    said = {}
    for name, on, serves in cells(section("docs/schema.md", "Indexes"))[1:]:
        columns, _, where = on.partition("; ")
        columns = columns.replace(" (GIN)", " (gin)") if columns.endswith(" (GIN)") else f"{columns} (btree)"
        said[name.strip("`")] = f"{columns}{where and ' ' + where}"
        for query in code(serves):
            assert hasattr(queries, query) or query == "hourly_stats"
    assert said == dict(made.execute(INDEXES).fetchall()), "complete the table of indexes in docs/schema.md"


def test_the_table_of_revisions_is_the_chain() -> None:
    rows = cells(section("docs/schema.md", "Revisions"))[1:]
    assert [name for name, *_ in rows] == [
        f"`{file.stem}`" for file in sorted((ROOT / "alembic" / "versions").glob("*.py"))
    ], "complete the table of revisions in docs/schema.md"
