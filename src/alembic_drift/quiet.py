"""Lines of Alembic's comparators that are not true where this plugin compares."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_untrue() -> Iterator[None]:
    """Keep Alembic's comparators from saying what is not true of what is compared here."""
    for logger in _LOGGERS:
        logger.addFilter(_is_true)
    try:
        with warnings.catch_warnings():
            for message in _WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger in _LOGGERS:
            logger.removeFilter(_is_true)


def _is_true(record: logging.LogRecord) -> bool:
    """Leave out what Alembic says of what is compared here: what it detects, and what it cannot compare."""
    return not any(words in record.msg for words in _UNTRUE)


_UNTRUE = (
    "Detected ",
    "assuming equal and skipping",
)

_WARNINGS = (
    r"(?s).*xpression compare cannot proceed",
    # SQLAlchemy cannot reflect that a check is NOT VALID or NO INHERIT; the catalogs say it.
    r"Can't validate argument 'dialect_options'",
)

_LOGGERS = [
    logging.getLogger(f"alembic.{name}")
    for name in (
        *(
            f"autogenerate.compare.{of}"
            for of in ("comments", "constraints", "server_defaults", "tables", "types")
        ),
        "ddl.postgresql",
        "ext.checkconstraint_byname",
    )
]
