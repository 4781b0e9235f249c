"""Quotes names and texts for SQL."""

import re
from collections.abc import Mapping


def quote(name: str) -> str:
    """Return a quoted name."""
    return '"' + name.replace('"', '""') + '"'


def qualified(name: str, schema: str | None) -> str:
    """Return the name of a relation or type, with its schema if one is given."""
    return quote(name) if schema is None else f"{quote(schema)}.{quote(name)}"


def literal(value: str) -> str:
    """Return a literal that is correct with any standard_conforming_strings."""
    quoted = "'" + value.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in quoted else quoted


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return SQL with its placeholders, such as ``@NAME``, replaced by values in a single pass."""
    return re.sub("|".join(values), lambda found: values[found[0]], text)


def as_text(statement: str) -> str:
    """Return SQL for ``text()``, with a backslash before each colon that would begin a parameter."""
    return re.sub(r"(?<![:\w\\]):(?=\w)", r"\:", statement)
