"""Objects that the models may create: whether they do is unknown.

A statement of the models failed, or checks the database before it creates something. The affected objects of
the database are taken as they are: they are no difference, and are never dropped.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from alembic_drift.creation import PLAIN, Statement
from alembic_drift.objects import Catalog, Facts, Key
from alembic_drift.revisions.subjects import Subject, relations_in, subjects_of
from alembic_drift.revisions.tokens import split, tokens_of

_SAME = {
    **dict.fromkeys(("procedure", "aggregate", "routine"), "function"),
    "materialized view": "view",
    "domain": "type",
}
"""Kinds that a statement may use for one another."""

_PLAIN = {"function", "view", "trigger", "rule", "policy"}
"""The kinds that only plain SQL creates."""

_WORDS = {
    **{kind: {kind} for kind in (*_PLAIN, "index", "table", "statistics")},
    "function": {"function", "procedure", "aggregate", "routine"},
    "type": {"type", "domain"},
    "sequence": {"sequence", "serial"},
    "constraint": {"constraint", "unique", "primary", "check", "foreign", "exclude"},
    "column": {"alter"},
}
"""Every statement that creates or changes an object of a kind contains one of these words."""

# How a block makes its decisions, and what makes its effects unknown. A trigger says EXECUTE FUNCTION.
_DECIDES = re.compile(
    r"\b(?:if|case|exception|loop|information_schema|pg_(?!catalog|temp)\w+)\b", re.IGNORECASE
)
_OPAQUE = re.compile(r"\b(?:perform|call|execute(?!\s+(?:function|procedure)\b))\b", re.IGNORECASE)


class Block(NamedTuple):
    """SQL that may create objects which it did not create in the scratch schema."""

    name: str
    """Its name in messages: the beginning of the SQL."""
    sql: str
    is_opaque: bool
    """Whether it may create objects that it does not name."""

    def may_make(self, key: Key, *, is_there: bool) -> bool:
        """Return whether the block may create an object, or a part of it.

        :param is_there: whether the models have the object, without that part.
        """
        kind, text, name = _SAME.get(key.kind, key.kind), self.sql.lower(), _name_of(key)
        if self.is_opaque and (kind in _PLAIN or (kind == "table" and is_there)):
            return True
        if not _WORDS.get(kind, {kind}) & set(re.findall(r"\w+", text)):
            return False
        on_table = key.table is not None and _is_in(text, key.table)
        if kind == "column" and not self.is_opaque:
            return on_table and _is_in(text, name)
        return self.is_opaque or on_table or _is_in(text, name)


def _is_in(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name.lower())}(?!\w)", text) is not None


def conditional_blocks(statements: Iterable[Statement]) -> list[Block]:
    """Return the blocks: plain SQL that queries the database to decide what it creates."""
    return [
        Block(statement.key.name, sql, bool(_OPAQUE.search(sql)))
        for statement in statements
        if statement.key.kind == PLAIN
        and _DECIDES.search(sql := statement.sql)
        and any(tokens[0].word == "do" for tokens in split(list(tokens_of(sql)), ";") if tokens)
    ]


def too_early(statements: Sequence[Statement], first: str) -> Iterator[str]:
    """Yield a line for plain SQL that runs before its table is created: it finds the database's table.

    :param first: the scratch schema of the first schema of the search_path.
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
                        f"{statement.key}: it runs before table {name} is created: create_all fails"
                        " on an empty database, and here it uses the database's table"
                    )


class Doubts:
    """The objects of one schema that cannot be compared."""

    def __init__(
        self,
        failed: Iterable[Statement] = (),
        blocks: Iterable[Block] = (),
        place: str = "",
        *,
        is_first: bool = True,
    ) -> None:
        """Take the statements that failed, and the blocks that did not.

        :param place: the scratch schema in which the models are created.
        :param is_first: whether it stands for the first schema of the search_path.
        """
        self._subjects: list[Subject] = []
        self._blocks = [*blocks]
        for statement in failed:
            for subject in subjects_of(statement.sql):
                if subject is None:
                    self._blocks.append(Block(statement.key.name, statement.sql, is_opaque=True))
                elif subject.schema == place or (subject.schema is None and is_first):
                    self._subjects.append(subject)

    def apply(
        self, database: Catalog, models: Catalog, is_unmanaged: Callable[[Key], bool]
    ) -> tuple[Catalog, list[str]]:
        """Return the models' side with the database's version of these objects, and warnings about them.

        :param is_unmanaged: whether an object is unmanaged, and therefore never dropped.
        """
        left, skipped = dict(models), dict[Block, list[Key]]()
        for key, facts in database.items():
            if self._has_failed(key, facts):
                left[key] = facts
                continue
            ours = models.get(key, {})
            missing = {
                fact: value for fact, value in facts.items() if fact not in ours and not fact.startswith("_")
            }
            if not missing or is_unmanaged(key):
                continue
            block = next((block for block in self._blocks if block.may_make(key, is_there=bool(ours))), None)
            if block is not None:
                skipped.setdefault(block, []).append(key)
            if block is not None or any(
                subject.kind == "table" and key.table == subject.name for subject in self._subjects
            ):
                left[key] = {**ours, **missing} if ours else facts
        return left, [_warning(block, keys) for block, keys in skipped.items()]

    def _has_failed(self, key: Key, facts: Facts) -> bool:
        """Return whether a statement that failed creates or changes an object."""
        return any(_is(subject, key) or _makes_with(subject, key, facts) for subject in self._subjects)


def _warning(block: Block, skipped: list[Key]) -> str:
    names = ", ".join(str(key) for key in sorted(skipped, key=str))
    return (
        f"not compared, because {block.name} may create it: {names}"
        " (a plain CREATE can be compared; it needs no guard, because table events are for new tables)"
    )


def _name_of(key: Key) -> str:
    """Return the name of an object; for a function, without its arguments."""
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
    """Return whether an object is created with the statement's object, or named where that one is changed."""
    owner = facts["_owner"] if key.kind == "sequence" else None
    tables = {key.table, *(owner[:1] if isinstance(owner, list) else ())}
    return (
        _SAME.get(subject.kind, subject.kind) in {"table", "view"}
        and subject.name in tables
        and (subject.named is None or _name_of(key) in subject.named)
    )
