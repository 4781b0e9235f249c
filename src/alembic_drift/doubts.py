"""What the models may make, and nobody can know: a statement of theirs has failed.

What the database has of it is left as it is: it is no difference, and never dropped.
"""

from collections.abc import Callable, Iterable

from alembic_drift.objects import Catalog, Key
from alembic_drift.revisions.subjects import Subject, subjects_of

_SAME = {
    **dict.fromkeys(("procedure", "aggregate", "routine"), "function"),
    "materialized view": "view",
    "domain": "type",
}
"""Kinds of which one may be called the other."""

_PLAIN = {"function", "view", "trigger", "rule", "policy"}
"""The kinds of which there is nothing but plain SQL."""


class Doubts:
    """What is in doubt of one schema."""

    def __init__(self, failed: Iterable[str] = (), place: str = "", *, is_first: bool = True) -> None:
        """Take the statements that have failed.

        :param place: the schema that the models are made in.
        :param is_first: whether it stands for the first of the search_path.
        """
        self._subjects: list[Subject] = []
        self._blocks: list[str] = []
        for statement in failed:
            for subject in subjects_of(statement):
                if subject is None:
                    self._blocks.append(statement)
                elif subject.schema == place or (subject.schema is None and is_first):
                    self._subjects.append(subject)

    def settled(
        self, database: Catalog, models: Catalog, is_own: Callable[[Key], bool]
    ) -> tuple[Catalog, list[str]]:
        """Return the models' side with what is in doubt as the database has it, and lines to tell.

        :param is_own: whether an object is the operator's own, which is left alone anyhow.
        """
        left, spared = dict(models), list[Key]()
        for key, facts in database.items():
            if self._has_failed(key, facts):
                left[key] = facts
            elif not is_own(key) and self._may_lack(key):
                # What the models have of it is compared.
                left[key] = {
                    fact: value
                    for fact, value in {**facts, **models.get(key, facts)}.items()
                    if not fact.startswith("_") or fact in models.get(key, facts)
                }
                if key not in models:
                    spared.append(key)
        return left, self._told(spared)

    def _has_failed(self, key: Key, facts: dict[str, object]) -> bool:
        """Return whether a statement that has failed makes or changes an object."""
        return any(_is(subject, key) or _makes_with(subject, key, facts) for subject in self._subjects)

    def _may_lack(self, key: Key) -> bool:
        """Return whether it cannot be told what the models have of an object."""
        if any(subject.kind == "table" and key.table == subject.name for subject in self._subjects):
            return True
        return bool(self._blocks) and _SAME.get(key.kind, key.kind) in _PLAIN

    def _told(self, spared: list[Key]) -> list[str]:
        if not self._blocks or not spared:
            return []
        block = " ".join(self._blocks[0].split())
        names = ", ".join(str(key) for key in sorted(spared, key=str))
        return [f"not dropped, because {block[:60]}… has failed and may make it: {names}"]


def _name_of(key: Key) -> str:
    """Return the name of an object, of a function without its arguments."""
    if _SAME.get(key.kind, key.kind) != "function":
        return key.name
    name = key.name.partition("(")[0]
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _is(subject: Subject, key: Key) -> bool:
    return (
        _SAME.get(subject.kind, subject.kind) == _SAME.get(key.kind, key.kind)
        and subject.name in {_name_of(key), ""}
        and (subject.table is None or subject.table == key.table)
    )


def _makes_with(subject: Subject, key: Key, facts: dict[str, object]) -> bool:
    """Return whether an object comes with one that a statement makes, or is named where that is changed."""
    owner = facts["_owner"] if key.kind == "sequence" else None
    tables = {key.table, *(owner[:1] if isinstance(owner, list) else ())}
    return (
        _SAME.get(subject.kind, subject.kind) in {"table", "view"}
        and subject.name in tables
        and (subject.named is None or _name_of(key) in subject.named)
    )
