"""Names and texts as SQL writes them."""

import re
from collections.abc import Mapping


def quote(name: str) -> str:
    """Return a name, quoted always."""
    return '"' + name.replace('"', '""') + '"'


def qualified(name: str, schema: str | None) -> str:
    """Return the name of a relation or type, with its schema if that is given."""
    return quote(name) if schema is None else f"{quote(schema)}.{quote(name)}"


def literal(value: str) -> str:
    """Return a text, whatever standard_conforming_strings says."""
    quoted = "'" + value.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in quoted else quoted


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return SQL with values in the place of their marks, ``@NAME`` and the like, in one go."""
    return re.sub("|".join(values), lambda found: values[found[0]], text)


def as_text(statement: str) -> str:
    """Return SQL as it has to stand in ``text()``, where a colon before a word would be a parameter."""
    return re.sub(r"(?<![:\w\\]):(?=\w)", r"\:", statement)
