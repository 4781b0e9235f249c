"""Suppresses messages of Alembic's comparators that are misleading where this plugin compares."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_misleading_messages() -> Iterator[None]:
    """Suppress what Alembic's comparators say about objects that this plugin compares."""
    for logger in _LOGGERS:
        logger.addFilter(_is_accurate)
    try:
        with warnings.catch_warnings():
            for message in _WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger in _LOGGERS:
            logger.removeFilter(_is_accurate)


def _is_accurate(record: logging.LogRecord) -> bool:
    """Return False for messages about what Alembic detects or cannot compare: this plugin compares it."""
    return not any(words in record.msg for words in _MISLEADING)


_MISLEADING = (
    "Detected ",
    "assuming equal and skipping",
)

_WARNINGS = (
    r"(?s).*xpression compare cannot proceed",
    # SQLAlchemy cannot reflect that a check is NOT VALID or NO INHERIT; the catalogs show it.
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
