"""What the models may make, and nobody can know: a statement of theirs has failed, or looks before it makes.

What the database has of it is left as it is: it is no difference, and never dropped.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from alembic_drift.made import PLAIN, Statement
from alembic_drift.objects import Catalog, Facts, Key
from alembic_drift.revisions.subjects import Subject, relations_in, subjects_of
from alembic_drift.revisions.tokens import split, tokens_of

_SAME = {
    **dict.fromkeys(("procedure", "aggregate", "routine"), "function"),
    "materialized view": "view",
    "domain": "type",
}
"""Kinds of which one may be called the other."""

_PLAIN = {"function", "view", "trigger", "rule", "policy"}
"""The kinds of which there is nothing but plain SQL."""

_WORDS = {
    **{kind: {kind} for kind in (*_PLAIN, "index", "table", "statistics")},
    "function": {"function", "procedure", "aggregate", "routine"},
    "type": {"type", "domain"},
    "sequence": {"sequence", "serial"},
    "constraint": {"constraint", "unique", "primary", "check", "foreign", "exclude"},
    "column": {"alter"},
}
"""A word of these is in whatever makes or changes one of a kind."""

# By what a block decides what it does, and what does what no text tells; a trigger says EXECUTE FUNCTION.
_DECIDES = re.compile(
    r"\b(?:if|case|exception|loop|information_schema|pg_(?!catalog|temp)\w+)\b", re.IGNORECASE
)
_UNTOLD = re.compile(r"\b(?:perform|call|execute(?!\s+(?:function|procedure)\b))\b", re.IGNORECASE)


class Block(NamedTuple):
    """SQL that may make what it has not made."""

    name: str
    """How it is told: its beginning."""
    sql: str
    is_untold: bool
    """Whether it may make what it does not name."""

    def may_make(self, key: Key, *, is_there: bool) -> bool:
        """Return whether it may make an object, or a part of it.

        :param is_there: whether the models have it, without that part.
        """
        kind, text, name = _SAME.get(key.kind, key.kind), self.sql.lower(), _name_of(key)
        if self.is_untold and (kind in _PLAIN or (kind == "table" and is_there)):
            return True
        if not _WORDS.get(kind, {kind}) & set(re.findall(r"\w+", text)):
            return False
        on_table = key.table is not None and _is_in(text, key.table)
        if kind == "column" and not self.is_untold:
            return on_table and _is_in(text, name)
        return self.is_untold or on_table or _is_in(text, name)


def _is_in(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", text) is not None


def undecided(statements: Iterable[Statement]) -> list[Block]:
    """Return the plain SQL that sees the database, and decides by that what it makes: blocks."""
    return [
        Block(statement.key.name, sql, bool(_UNTOLD.search(sql)))
        for statement in statements
        if statement.key.kind == PLAIN
        and _DECIDES.search(sql := statement.sql)
        and any(tokens[0].word == "do" for tokens in split(list(tokens_of(sql)), ";") if tokens)
    ]


def too_early(statements: Sequence[Statement], first: str) -> Iterator[str]:
    """Yield lines of plain SQL that uses a table of the models before it is made: it finds the database's.

    :param first: the schema that is made for the first of the search_path.
    """
    made = {
        (statement.place, statement.key.name): number
        for number, statement in enumerate(statements)
        if statement.key.kind == "table"
    }
    for number, statement in enumerate(statements):
        if statement.key.kind == PLAIN:
            for schema, name in dict.fromkeys(relations_in(statement.sql)):
                if made.get((schema or first, name), 0) > number:
                    yield (
                        f"{statement.key}: it comes before table {name} is created: create_all fails with it"
                        " on an empty database, and here it uses the table that the database has"
                    )


class Doubts:
    """What is in doubt of one schema."""

    def __init__(
        self,
        failed: Iterable[Statement] = (),
        blocks: Iterable[Block] = (),
        place: str = "",
        *,
        is_first: bool = True,
    ) -> None:
        """Take the statements that have failed, and the blocks that have not.

        :param place: the schema that the models are made in.
        :param is_first: whether it stands for the first of the search_path.
        """
        self._subjects: list[Subject] = []
        self._blocks = [*blocks]
        for statement in failed:
            for subject in subjects_of(statement.sql):
                if subject is None:
                    self._blocks.append(Block(statement.key.name, statement.sql, is_untold=True))
                elif subject.schema == place or (subject.schema is None and is_first):
                    self._subjects.append(subject)

    def settled(
        self, database: Catalog, models: Catalog, is_own: Callable[[Key], bool]
    ) -> tuple[Catalog, list[str]]:
        """Return the models' side with what is in doubt as the database has it, and lines to tell.

        :param is_own: whether an object is the operator's own, which is left alone anyhow.
        """
        left, spared = dict(models), dict[Block, list[Key]]()
        for key, facts in database.items():
            if self._has_failed(key, facts):
                left[key] = facts
                continue
            ours = models.get(key, {})
            lacking = {
                fact: value for fact, value in facts.items() if fact not in ours and not fact.startswith("_")
            }
            if not lacking or is_own(key):
                continue
            block = next((block for block in self._blocks if block.may_make(key, is_there=bool(ours))), None)
            if block is not None:
                spared.setdefault(block, []).append(key)
            if block is not None or any(
                subject.kind == "table" and key.table == subject.name for subject in self._subjects
            ):
                left[key] = {**ours, **lacking} if ours else facts
        return left, [_told(block, keys) for block, keys in spared.items()]

    def _has_failed(self, key: Key, facts: Facts) -> bool:
        """Return whether a statement that has failed makes or changes an object."""
        return any(_is(subject, key) or _makes_with(subject, key, facts) for subject in self._subjects)


def _told(block: Block, spared: list[Key]) -> str:
    names = ", ".join(str(key) for key in sorted(spared, key=str))
    return (
        f"left as the database has it, because {block.name} may make it: {names}"
        " (a plain CREATE can be compared, and needs no guard: events of a table are for a new one)"
    )


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


def _makes_with(subject: Subject, key: Key, facts: Facts) -> bool:
    """Return whether an object comes with one that a statement makes, or is named where that is changed."""
    owner = facts["_owner"] if key.kind == "sequence" else None
    tables = {key.table, *(owner[:1] if isinstance(owner, list) else ())}
    return (
        _SAME.get(subject.kind, subject.kind) in {"table", "view"}
        and subject.name in tables
        and (subject.named is None or _name_of(key) in subject.named)
    )
