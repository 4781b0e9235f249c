"""007 on databases with rows: every legacy kind up and down, and interrupted anywhere when online."""

import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from databases import Content, Database, catalog, content, url_of
from legacy_databases import DIFFERENT, KINDS, build, proxy_only
from marks import quick
from migrations.fitting import BOTH, TASK, TEXTS, WAYS, migrate, store, stored
from runtime import killed
from runtime.killed import State, kill_client, kill_server, state
from support import insert, run_alembic

from nexus_schema import Outcome, upgrade_database

Catalog = dict[tuple[str, str], str]
ONE_FORM = [TASK | {"input": TEXTS}, TASK | TEXTS]


@pytest.fixture(scope="module")
def new(clones: Callable[[str], AbstractContextManager[Database]]) -> dict[str, Catalog]:
    """The catalogs of new databases at 006 and 007."""
    found = {}
    for revision in ("006", "007"):
        with clones(revision) as database:
            found[revision] = catalog(database)
    return found


def with_both_forms(before: Content, request_id: uuid.UUID) -> Content:
    """Return the same rows, with both forms for the Task calls of one of them."""
    columns, rows = before["api_requests"]
    calls, key = columns.index("task_tool_invocation"), columns.index("request_id")
    text = (
        '{"id": "t", "name": "Task", "input": {"prompt": "go", "description": "there"}, "prompt": "go",'
        ' "description": "there"}'
    )
    changed = [
        (*row[:calls], f"[{text}, {text}]", *row[calls + 1 :]) if row[key] == str(request_id) else row
        for row in rows
    ]
    assert changed != rows
    return before | {"api_requests": (columns, sorted(changed, key=str))}


# Every fourth kind; the ways alternate.
TURNS = {
    "bootstrap, atomic": ("bootstrap", WAYS["atomic"]),
    "bootstrap, online": ("bootstrap", WAYS["online"]),
} | {
    f"{kind}, {way}": (kind, WAYS[way])
    for number, kind in enumerate(DIFFERENT[3::4])
    for way in [[*WAYS][number % len(WAYS)]]
}


@pytest.mark.parametrize(("kind", "x"), quick(TURNS))
def test_up_down_up(empty: Database, new: dict[str, Catalog], kind: str, x: dict[str, str]) -> None:
    build(empty, KINDS[kind])
    mine = proxy_only(catalog(empty))
    run_alembic("upgrade", "006", url=url_of(empty))
    request = insert(empty, "api_requests", task_tool_invocation=ONE_FORM)
    before = content(empty)
    for revision in ("007", "006", "007"):
        migrate(empty, revision, x)
        assert catalog(empty) == new[revision] | mine
        assert content(empty) == with_both_forms(before, request)


class TestInterruptedOnline:
    """The client or its server process is killed before a write; the next run finishes."""

    def start(self, at_revision: Callable[[str], Database]) -> str:
        database = at_revision("006")
        store(database, *[ONE_FORM] * 30, [BOTH])
        url = url_of(database)
        database.close()
        return url

    @pytest.mark.thorough
    def test_at_every_16th_write(self, at_revision: Callable[[str], Database]) -> None:
        writes: list[str] = []

        def note(_number: int, _connection: Any, text: str, _parameters: Any) -> None:
            writes.append(text)

        url = self.start(at_revision)
        killed.upgrade(url, note, online=True)
        expected = state(url)
        assert sum("CONCURRENTLY" in text for text in writes) >= 6
        done: list[State] = []
        for turn, number in enumerate(range(0, len(writes), 16)):
            kill = kill_client if turn % 2 else kill_server
            url = self.start(at_revision)
            assert kill(url, number, online=True)
            left = state(url)
            if left in done:
                continue  # the next run depends on this state alone
            result = upgrade_database(url, online=True)
            assert result.outcome in {Outcome.UPGRADED, Outcome.AT_HEAD}, result
            assert state(url) == expected, f"{kill.__name__} at write {number}: {writes[number]}"
            done.append(left)

    def test_the_old_index_stays_until_the_new_one(self, at_revision: Callable[[str], Database]) -> None:
        """The rows that were filled by then stay filled."""
        writes: list[str] = []

        def stop(_number: int, _connection: Any, text: str, _parameters: Any) -> None:
            writes.append(text)
            if text.startswith("CREATE INDEX CONCURRENTLY"):
                raise KeyboardInterrupt

        database = at_revision("006")
        store(database, ONE_FORM)
        with pytest.raises(KeyboardInterrupt):
            killed.upgrade(url_of(database), stop, online=True)
        assert stored(database) == [[BOTH, BOTH]]
        assert ("index", "idx_requests_conversation_detail") in catalog(database)
        assert upgrade_database(url_of(database), online=True).outcome is Outcome.UPGRADED
