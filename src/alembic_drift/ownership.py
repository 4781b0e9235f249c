"""The unmanaged objects that a project expects in its database: patterns in the settings."""

import tomllib
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from alembic.config import Config

from alembic_drift.errors import DriftError
from alembic_drift.objects import Key

OWN = "/* the operator's own */ "
"""Marks a statement of a revision that recreates an unmanaged object, so that the object stays unmanaged."""


class Allowed:
    """The unmanaged objects that are expected: patterns for what a line of check begins with."""

    def __init__(self, config: Config | None, given: object, kinds: Collection[str]) -> None:
        """Read the patterns of the settings: ``index audit_* on *``, ``column orders.note``.

        :param given: ``own_objects`` of ``context.configure()``; None for those of pyproject.toml.
        :param kinds: the known kinds of objects.

        Raises :class:`DriftError` for a pattern that does not begin with a kind.
        """
        patterns = given
        place = "own_objects of context.configure()"
        if patterns is None:
            file = None if config is None else _pyproject(config)
            place = "own_objects of [tool.alembic_drift] in pyproject.toml"
            patterns = [] if file is None else _read(file).get("own_objects", [])
        if not isinstance(patterns, list | tuple) or not all(isinstance(item, str) for item in patterns):
            raise DriftError(f'{place} must be a list of patterns: ["index audit_*", "column orders.note"]')
        for pattern in patterns:
            kind, _, name = pattern.partition(" ")
            if not (name and set("*?[") & set(kind)) and not any(
                pattern.startswith(f"{known} ") for known in kinds
            ):
                known_kinds = ", ".join(sorted(kinds))
                raise DriftError(f"{place}: {pattern!r} does not begin with a kind of object: {known_kinds}")
        self._patterns = dict.fromkeys(patterns, False)
        self._place = place

    def __contains__(self, key: Key) -> bool:
        found = [
            pattern for pattern in self._patterns if str(key) == pattern or fnmatchcase(str(key), pattern)
        ]
        self._patterns.update(dict.fromkeys(found, True))
        return bool(found)

    def unmatched(self) -> Iterator[str]:
        """Yield a line for each pattern that matched nothing."""
        for pattern, matched in self._patterns.items():
            if not matched:
                yield f"{self._place}: {pattern!r} matches nothing in the database"


def _pyproject(config: Config) -> Path | None:
    named = config.toml_file_name or (
        Path(config.config_file_name).resolve().parent / "pyproject.toml" if config.config_file_name else None
    )
    return Path(named) if named is not None and Path(named).is_file() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("alembic_drift", {})
        if not isinstance(found, dict):
            raise DriftError(f"alembic_drift in {file.name} must be a table: [tool.alembic_drift]")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DriftError(f"{file.name} is not valid TOML: {error}") from error
    unknown = set(found) - {"own_objects"}
    if unknown:
        raise DriftError(
            f"[tool.alembic_drift] in {file.name} supports only own_objects, not {', '.join(sorted(unknown))}"
        )
    return dict(found)
