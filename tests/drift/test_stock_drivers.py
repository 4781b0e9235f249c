"""Some cases of other modules with psycopg 2, and with asyncpg in Alembic's async template."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from databases import Database
from drift.stock import Case, Stock
from drift.test_broken_models import BROKEN
from drift.test_names import RENAMED, UNNAMED
from drift.test_renamed_tables import CASES as RENAMED_TABLES
from drift.test_stock_columns import CASES as COLUMNS
from drift.test_stock_operations import CASES as OPERATIONS
from drift.test_stock_partitions import CASES as PARTITIONS
from drift.test_stock_renamed_columns import CASES as RENAMED_COLUMNS
from drift.test_stock_schemas import FRESH
from drift.test_stock_types import CHECKS, GENERATED

CASES: Mapping[str, Case] = {
    "04-unique-column": UNNAMED["04-unique-column"],
    "04-rename-unique": RENAMED["04-rename-unique"],
    "05-index": RENAMED_TABLES["05-index"],
    "07-new-column": CHECKS["07-new-column"],
    "08-foreign-key-to": PARTITIONS["08-foreign-key-to"],
    "09-uuid-with-default": COLUMNS["09-uuid-with-default"],
    "09-no-cast": COLUMNS["09-no-cast"],
    "10-new-table": GENERATED["10-new-table"],
    "11-plain": RENAMED_COLUMNS["11-plain"],
    "13-first-odd": FRESH["13-first-odd"],
    "13-named-odd": FRESH["13-named-odd"],
    "15-exclude-added": OPERATIONS["15-exclude-added"],
    "15-unique-include-dropped": OPERATIONS["15-unique-include-dropped"],
}
QUICK = {"09-uuid-with-default", "13-first-odd"}
TEMPLATES = {"psycopg2": "generic", "asyncpg": "async"}


def _params(cases: Mapping[str, Any]) -> list[Any]:
    """Return the quick cases with each driver, and the others with one driver in turn."""
    return [
        pytest.param(driver, case, id=f"{name}@{driver}", marks=[] if name in QUICK else pytest.mark.thorough)
        for number, (name, case) in enumerate(cases.items())
        for driver in (TEMPLATES if name in QUICK else [[*TEMPLATES][number % 2]])
    ]


@pytest.mark.parametrize(("driver", "case"), _params(CASES))
def test_the_round_trip_with_each_driver(empty: Database, tmp_path: Path, driver: str, case: Case) -> None:
    Stock(tmp_path, empty, TEMPLATES[driver], driver).round_trip(case)


_BROKEN = {"06-index-without-columns": BROKEN["06-index-without-columns"]}


@pytest.mark.parametrize(("driver", "broken"), _params(_BROKEN))
def test_a_broken_object_is_named(empty: Database, tmp_path: Path, driver: str, broken: Any) -> None:
    """The result is the same for a driver that accepts only one statement at a time."""
    stock = Stock(tmp_path, empty, TEMPLATES[driver], driver)
    stock.write_models(broken[0] + '\nsa.Table("other", metadata, sa.Column("b", sa.Integer))')
    stock.write_revision("op.execute('CREATE TABLE t (a int)')\nop.execute('CREATE TABLE other (a int)')")
    stock.upgrade()
    assert {"column other.b", "index i on t"} <= {*stock.check()}
