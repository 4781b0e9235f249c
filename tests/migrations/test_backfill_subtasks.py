"""The backfill of 003: each rule, a comparison with the reference, and the growth of its work."""

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from databases import Database, url_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from migrations.reference_backfill import ABSENT, Request
from migrations.reference_backfill import backfill as reference
from psycopg.types.json import Jsonb
from sqlalchemy import event, text
from support import at, insert, operations, revision_module, run_alembic, task_response, user_message

REVISION = revision_module("003")


@pytest.fixture
def database(at_revision: Callable[[str], Database]) -> Database:
    return at_revision("003")


def backfill(database: Database) -> None:
    with operations(database):
        REVISION.fill()


def invocation(database: Database, request_id: uuid.UUID) -> Any:
    return database.execute(
        "SELECT task_tool_invocation FROM api_requests WHERE request_id = %s", [request_id]
    ).fetchone()[0]  # type: ignore[index]


def links(database: Database, request_id: uuid.UUID) -> list[str | None]:
    """Return the linked conversation of each stored call."""
    return [call.get("linked_conversation_id") for call in invocation(database, request_id)]


def parent_of(database: Database, request_id: uuid.UUID) -> tuple[uuid.UUID | None, bool | None]:
    row = database.execute(
        "SELECT parent_task_request_id, is_subtask FROM api_requests WHERE request_id = %s", [request_id]
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def child(database: Database, content: Any, seconds: float = 5, **values: Any) -> tuple[uuid.UUID, uuid.UUID]:
    """Insert the first request of a new conversation; returns request_id and conversation_id."""
    conversation = values.pop("conversation_id", None) or uuid.uuid4()
    row = {"timestamp": at(seconds), "body": user_message(content)} | values
    return insert(database, "api_requests", conversation_id=conversation, **row), conversation


def parent(database: Database, *prompts: str, seconds: float = 0, **values: Any) -> uuid.UUID:
    row = {
        "timestamp": at(seconds),
        "conversation_id": uuid.uuid4(),
        "response_body": task_response(*prompts),
    }
    return insert(database, "api_requests", **(row | values))


class TestRule1StoresTheCalls:
    def test_in_order_and_in_both_forms(self, database: Database) -> None:
        request = parent(database, "one", "two")
        backfill(database)
        assert invocation(database, request) == [
            {
                "id": f"toolu_{n}",
                "name": "Task",
                "prompt": prompt,
                "description": f"task {n}",
                "input": {"prompt": prompt, "description": f"task {n}"},
            }
            for n, prompt in enumerate(["one", "two"])
        ]

    def test_other_items_are_no_calls(self, database: Database) -> None:
        content = [
            {"type": "text", "name": "Task"},
            {"type": "tool_use", "name": "Bash", "input": {"prompt": "no"}},
            [{"type": "tool_use", "name": "Task", "input": {"prompt": "nested"}}],
            "Task",
            None,
        ]
        request = insert(database, "api_requests", response_body={"content": content})
        backfill(database)
        assert invocation(database, request) is None

    @pytest.mark.parametrize(
        "given", [{}, None, [], "text", {"prompt": None}, {"prompt": 5, "description": []}]
    )
    def test_missing_texts_are_empty(self, database: Database, given: Any) -> None:
        body = {"content": [{"type": "tool_use", "name": "Task", "input": given}]}
        request = insert(database, "api_requests", response_body=body)
        backfill(database)
        assert invocation(database, request) == [
            {"id": None, "name": "Task", "prompt": "", "description": "", "input": given}
        ]

    def test_a_stored_value_is_kept(self, database: Database) -> None:
        values: list[Any] = [[], {}, [{"id": "mine"}]]
        requests = [parent(database, "one", task_tool_invocation=value) for value in values]
        backfill(database)
        assert [invocation(database, request) for request in requests] == values


class TestRule2Candidates:
    def test_only_the_first_request_of_a_conversation(self, database: Database) -> None:
        request = parent(database, "go")
        first, conversation = child(database, "something else", 4)
        child(database, "go", 5, conversation_id=conversation)
        backfill(database)
        assert parent_of(database, first) == (None, False)
        assert links(database, request) == [None]

    def test_at_equal_times_the_smaller_request_id_is_first(self, database: Database) -> None:
        request = parent(database, "go")
        _, conversation = child(database, "something else", request_id=uuid.UUID(int=1))
        child(database, "go", conversation_id=conversation, request_id=uuid.UUID(int=2))
        backfill(database)
        assert links(database, request) == [None]

    def test_a_linked_request_is_no_candidate(self, database: Database) -> None:
        other = parent(database, "else", seconds=-100)
        request = parent(database, "go")
        linked, _ = child(database, "go", parent_task_request_id=other, is_subtask=True)
        backfill(database)
        assert parent_of(database, linked) == (other, True)
        assert links(database, request) == [None]

    def test_the_first_message_must_be_the_users(self, database: Database) -> None:
        request = parent(database, "go")
        child(database, None, body={"messages": [{"role": "assistant", "content": "go"}]})
        child(database, None, body={"messages": [{"role": "system"}, {"role": "user", "content": "go"}]})
        backfill(database)
        assert links(database, request) == [None]

    def test_texts_without_a_reminder_are_compared(self, database: Database) -> None:
        request = parent(database, "go", "<system-reminder> b")
        items = ["<system-reminder> a", "<system-reminder> b", "go"]
        _, conversation = child(database, [{"type": "text", "text": text} for text in items])
        backfill(database)
        assert links(database, request) == [str(conversation), None]

    def test_the_first_text_is_compared_when_all_hold_a_reminder(self, database: Database) -> None:
        request = parent(database, "<system-reminder> b", "<system-reminder> a")
        items = ["<system-reminder> a", "<system-reminder> b"]
        _, conversation = child(database, [{"type": "text", "text": text} for text in items])
        backfill(database)
        assert links(database, request) == [None, str(conversation)]

    def test_a_string_is_compared_even_with_a_reminder(self, database: Database) -> None:
        request = parent(database, "<system-reminder> a")
        _, conversation = child(database, "<system-reminder> a")
        backfill(database)
        assert links(database, request) == [str(conversation)]


class TestRule3Matching:
    @pytest.mark.parametrize(
        ("seconds", "linked"), [(-1, False), (0, False), (0.000001, True), (29.999999, True), (30, False)]
    )
    def test_it_begins_less_than_30_seconds_after_the_parent(
        self, database: Database, seconds: float, linked: bool
    ) -> None:
        request = parent(database, "go")
        begun, _ = child(database, "go", seconds)
        backfill(database)
        assert parent_of(database, begun) == ((request, True) if linked else (None, False))

    def test_an_empty_prompt_matches_nothing(self, database: Database) -> None:
        request = parent(database, "")
        begun, _ = child(database, "")
        backfill(database)
        assert links(database, request) == [None]
        assert parent_of(database, begun) == (None, False)

    def test_another_domain_does_not_match(self, database: Database) -> None:
        request = parent(database, "go", domain="a")
        child(database, "go", domain="b")
        backfill(database)
        assert links(database, request) == [None]

    def test_the_same_conversation_does_not_match(self, database: Database) -> None:
        conversation = uuid.uuid4()
        request = parent(database, "go", conversation_id=conversation)
        child(database, "go", conversation_id=conversation)
        backfill(database)
        assert links(database, request) == [None]

    def test_a_parent_without_conversation_matches(self, database: Database) -> None:
        request = parent(database, "go", conversation_id=None)
        _, conversation = child(database, "go")
        backfill(database)
        assert links(database, request) == [str(conversation)]

    def test_the_latest_parent_wins_then_the_larger_request_id(self, database: Database) -> None:
        parent(database, "go", seconds=0, request_id=uuid.UUID(int=9))
        parent(database, "go", seconds=1, request_id=uuid.UUID(int=1))
        winner = parent(database, "go", seconds=1, request_id=uuid.UUID(int=2))
        begun, _ = child(database, "go")
        backfill(database)
        assert parent_of(database, begun) == (winner, True)


class TestRule4Turns:
    def test_children_take_the_calls_in_order_of_time(self, database: Database) -> None:
        request = parent(database, "go", "go")
        _, late = child(database, "go", 6)
        _, early = child(database, "go", 5)
        backfill(database)
        assert links(database, request) == [str(early), str(late)]

    def test_a_child_without_a_free_call_is_still_linked_to_the_parent(self, database: Database) -> None:
        request = parent(database, "go")
        _, first = child(database, "go", 5)
        second, _ = child(database, "go", 6)
        backfill(database)
        assert links(database, request) == [str(first)]
        assert parent_of(database, second) == (request, True)

    def test_a_child_with_two_prompts_takes_the_first_free_call(self, database: Database) -> None:
        request = parent(database, "a", "b", "c")
        both = [{"type": "text", "text": "b"}, {"type": "text", "text": "a"}]
        _, first = child(database, both, 5)
        _, second = child(database, both, 6)
        _, third = child(database, "c", 7)
        backfill(database)
        assert links(database, request) == [str(first), str(second), str(third)]


class TestRule5Conversations:
    def test_every_request_of_the_conversation_is_a_subtask(self, database: Database) -> None:
        request = parent(database, "go")
        first, conversation = child(database, "go", 5)
        later, _ = child(database, "more", 500, conversation_id=conversation)
        backfill(database)
        assert parent_of(database, first) == parent_of(database, later) == (request, True)

    def test_a_subtask_may_have_subtasks(self, database: Database) -> None:
        top = parent(database, "go")
        middle, conversation = child(database, "go", 5, response_body=task_response("deeper"))
        bottom, deepest = child(database, "deeper", 9)
        backfill(database)
        assert (links(database, top), links(database, middle)) == ([str(conversation)], [str(deepest)])
        assert parent_of(database, middle) == (top, True)
        assert parent_of(database, bottom) == (middle, True)


@pytest.mark.parametrize(
    "stored",
    [
        {"id": "x", "name": "Task", "prompt": "go", "description": "d"},
        {"id": "x", "name": "Task", "input": {"prompt": "go", "description": "d"}},
    ],
    ids=["script", "proxy"],
)
def test_calls_that_the_proxy_stored_link_in_either_form(database: Database, stored: dict[str, Any]) -> None:
    request = parent(database, response_body=None, task_tool_invocation=[stored])
    _, conversation = child(database, "go")
    backfill(database)
    assert invocation(database, request) == [stored | {"linked_conversation_id": str(conversation)}]


# Few values, so that many are equal; every shape that section 3 warns of.
prompts = st.sampled_from(["", "a", "b", "<system-reminder> a", "<system-reminder>"])
scalars = st.one_of(st.none(), st.booleans(), st.integers(-1, 1), st.just(0.5), prompts)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["content", "messages", "type", "name", "input", "prompt", "role", "text", "id"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)


def mostly(likely: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(likely, likely, likely, likely, anything)


def record(required: dict[str, Any], optional: dict[str, Any] | None = None) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(required, optional=optional or {})


call_input = mostly(record({"prompt": mostly(prompts)}, {"description": mostly(prompts)}))
item = mostly(
    record(
        {"type": mostly(st.just("tool_use")), "name": mostly(st.just("Task"))},
        {"id": mostly(prompts), "input": call_input},
    )
)
response_bodies = st.one_of(st.just(ABSENT), mostly(record({"content": mostly(st.lists(item, max_size=4))})))
text_items = mostly(record({"type": mostly(st.just("text")), "text": mostly(prompts)}))
contents = mostly(st.one_of(prompts, st.lists(text_items, max_size=3)))
messages = mostly(record({"role": mostly(st.just("user")), "content": contents}))
bodies = st.one_of(st.just(ABSENT), mostly(record({"messages": mostly(st.lists(messages, max_size=2))})))
stored_calls = mostly(
    record(
        {"name": mostly(st.just("Task"))},
        {"prompt": mostly(prompts), "input": call_input, "linked_conversation_id": mostly(st.none())},
    )
)
invocations = st.one_of(*[st.just(ABSENT)] * 4, mostly(st.lists(stored_calls, max_size=3)))


@st.composite
def request_lists(draw: st.DrawFn) -> list[Request]:
    conversations = [None, *(uuid.UUID(int=100 + n) for n in range(4))]
    requests = [
        Request(
            request_id=uuid.UUID(int=number),
            timestamp=at(draw(st.sampled_from([0, 1, 1, 2, 10, 29, 30, 31]))),
            domain=draw(st.sampled_from(["a", "a", "a", "b"])),
            conversation_id=draw(st.sampled_from(conversations)),
            body=draw(bodies),
            response_body=draw(response_bodies),
            is_subtask=draw(st.sampled_from([False, False, None, True])),
            task_tool_invocation=draw(invocations),
        )
        for number in draw(st.permutations(range(1, draw(st.integers(1, 8)) + 1)))
    ]
    for request in requests:
        request.parent_task_request_id = draw(
            st.sampled_from([*[None] * 9, draw(st.sampled_from(requests)).request_id])
        )
    return requests


JSON_COLUMNS = ("body", "response_body", "task_tool_invocation")


def insert_requests(database: Database, requests: list[Request]) -> None:
    rows = []
    for request in requests:
        row = asdict(request)
        for column in JSON_COLUMNS:
            value = getattr(request, column)
            row[column] = None if value is ABSENT else Jsonb(value)
        rows.append(row)
    with database.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO api_requests (request_id, timestamp, domain, conversation_id, body, response_body,
                parent_task_request_id, is_subtask, task_tool_invocation, method, path, headers)
            VALUES (%(request_id)s, %(timestamp)s, %(domain)s, %(conversation_id)s, %(body)s,
                %(response_body)s, NULL, %(is_subtask)s, %(task_tool_invocation)s, 'POST', '/', '{}')
            """,
            rows,
        )
        cursor.executemany(
            "UPDATE api_requests SET parent_task_request_id = %(parent_task_request_id)s"
            " WHERE request_id = %(request_id)s AND %(parent_task_request_id)s::uuid IS NOT NULL",
            rows,
        )


def read_requests(database: Database) -> dict[uuid.UUID, tuple[Any, ...]]:
    rows = database.execute(
        "SELECT request_id, parent_task_request_id, is_subtask, task_tool_invocation::text, xmin::text"
        " FROM api_requests"
    )
    return {row[0]: (*row[1:3], None if row[3] is None else json.loads(row[3]), row[4]) for row in rows}


@pytest.mark.thorough
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(requests=request_lists())
def test_it_agrees_with_the_reference_on_any_json(database: Database, requests: list[Request]) -> None:
    database.execute("DELETE FROM api_requests")
    insert_requests(database, requests)
    backfill(database)
    once = read_requests(database)
    reference(requests)
    expected = {
        request.request_id: (
            request.parent_task_request_id,
            request.is_subtask,
            None if request.task_tool_invocation is ABSENT else request.task_tool_invocation,
        )
        for request in requests
    }
    assert {key: value[:3] for key, value in once.items()} == expected
    backfill(database)
    assert read_requests(database) == once, "a second run wrote rows"


@pytest.fixture
def stale(database: Database) -> Database:
    """A database with statistics from before any request had a conversation or a body."""
    database.execute("ALTER TABLE api_requests SET (autovacuum_enabled = off)")
    database.execute(
        "INSERT INTO api_requests (request_id, timestamp, domain, method, path, headers)"
        " SELECT gen_random_uuid(), now(), 'd', 'POST', '/', '{}' FROM generate_series(1, 3000)"
    )
    database.execute("ANALYZE api_requests")
    database.execute("DELETE FROM api_requests")
    return database


FILL = """
INSERT INTO api_requests
    (request_id, timestamp, domain, method, path, headers, conversation_id, body, response_body)
SELECT gen_random_uuid(), now() - n * interval '1 second' - (n %% 2) * interval '5 seconds',
    'd', 'POST', '/', '{}', gen_random_uuid(),
    jsonb_build_object('messages', jsonb_build_array(jsonb_build_object('role', 'user', 'content',
        CASE WHEN %(same)s THEN 'prompt' ELSE 'prompt ' || n / 2 END))),
    CASE WHEN n %% 2 = 1 THEN jsonb_build_object('content', jsonb_build_array(jsonb_build_object(
        'type', 'tool_use', 'name', 'Task', 'input', jsonb_build_object('prompt',
        CASE WHEN %(same)s THEN 'prompt' ELSE 'prompt ' || n / 2 END)))) END
FROM generate_series(%(first)s::int, %(last)s::int) AS n"""


def work(database: Database) -> float:
    """Return how many rows all plan nodes of the statement that works out the changes process."""
    touched: list[float] = []
    settings_seen: list[str] = []

    def count(node: dict[str, Any]) -> float:
        rows = node["Actual Rows"] + sum(v for k, v in node.items() if k.startswith("Rows Removed by"))
        return float(rows * node["Actual Loops"] + sum(count(inner) for inner in node.get("Plans", [])))

    with operations(database) as connection:

        def explain(_c: object, cursor: Any, statement: str, parameters: Any, *_: object) -> tuple[str, Any]:
            if statement == REVISION.WORK_OUT_CHANGES:
                cursor.execute("SHOW enable_nestloop")
                settings_seen.append(cursor.fetchone()[0])
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
                touched.append(count(cursor.fetchone()[0][0]["Plan"]))
                return "SELECT", parameters
            return statement, parameters

        event.listen(connection, "before_cursor_execute", explain, retval=True)
        REVISION.fill()
        connection.rollback()
    assert settings_seen == ["off"], "with wrong estimates, the planner may choose a nested loop"
    return touched[0]


@pytest.mark.thorough
@pytest.mark.parametrize("same", [False, True], ids=["different prompts", "one prompt everywhere"])
def test_its_work_grows_linearly_with_stale_statistics(stale: Database, same: bool) -> None:
    stale.execute(FILL, {"same": same, "first": 1, "last": 2_000})
    small = work(stale)
    stale.execute(FILL, {"same": same, "first": 2_001, "last": 8_000})
    large = work(stale)
    assert large < 4.5 * small, "four times the requests, more than four times the work"


def test_only_bodies_of_possible_children_are_read(stale: Database) -> None:
    parent(stale, "go")
    for seconds in (-5, 31, 40):
        child(stale, "go", seconds)
    child(stale, "go", 29)
    plan: list[dict[str, Any]] = []

    def find(node: dict[str, Any]) -> None:
        if node.get("Subplan Name") == "CTE candidates":
            plan.append(node)
        for inner in node.get("Plans", []):
            find(inner)

    with operations(stale) as connection:
        connection.exec_driver_sql(REVISION.FIND_TASK_CALLS)
        explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {REVISION.WORK_OUT_CHANGES}")
        find(explained.scalar_one()[0]["Plan"])
        connection.rollback()
    assert [node["Actual Rows"] for node in plan] == [1]


def test_the_search_for_calls_runs_in_parallel(database: Database) -> None:
    """The planner does not count data in TOAST: by default it would use one process."""
    database.execute(FILL, {"same": False, "first": 1, "last": 20_000})
    database.execute("ANALYZE api_requests")
    for setting, value in REVISION.SETTINGS.items():
        database.execute(f"SET {setting} = {value}")
    rows = database.execute(f"EXPLAIN {REVISION.FIND_TASK_CALLS}").fetchall()
    assert "Parallel Seq Scan on api_requests" in str(rows)


TOAST_SCANS = """
SELECT pg_stat_get_xact_numscans(indexrelid) FROM pg_class JOIN pg_index ON indrelid = reltoastrelid
WHERE oid = 'api_requests'::regclass"""


def test_a_request_deleted_between_two_searches_takes_no_conversation(database: Database) -> None:
    older = parent(database, "go", seconds=0)
    newer = parent(database, "go", seconds=1)
    _, conversation = child(database, "go")
    database.execute(REVISION.FIND_TASK_CALLS)
    database.execute("DELETE FROM api_requests WHERE request_id = %s", [newer])
    database.execute(REVISION.FIND_NEW_TASK_CALLS)
    database.execute(REVISION.WORK_OUT_CHANGES)
    linked = database.execute(
        "SELECT conversation_id, parent_id FROM nexus_schema_003_changes WHERE parent_id IS NOT NULL"
    )
    assert linked.fetchall() == [(conversation, older)]


@pytest.mark.thorough
@pytest.mark.parametrize("any_found", [True, False])
def test_a_second_search_reads_only_new_or_changed_responses(database: Database, any_found: bool) -> None:
    """If the first search found no call, its time is unknown: then all responses are read again."""
    database.execute("ALTER TABLE api_requests ALTER response_body SET STORAGE EXTERNAL")
    long = {"filler": "x" * 5000, "content": []}
    old = [insert(database, "api_requests", response_body=long) for _ in range(20)]
    if any_found:
        parent(database, "go")
    database.execute(REVISION.FIND_TASK_CALLS)
    new = insert(database, "api_requests", response_body=long | task_response("new"))
    database.execute(
        "UPDATE api_requests SET response_body = %s WHERE request_id = %s",
        [Jsonb(long | task_response("changed")), old[0]],
    )
    with database.transaction():
        before = database.execute(TOAST_SCANS).fetchall()[0][0]
        database.execute(REVISION.FIND_NEW_TASK_CALLS)
        read = database.execute(TOAST_SCANS).fetchall()[0][0] - before
    found = {row[0] for row in database.execute("SELECT request_id FROM nexus_schema_003_found")}
    assert {new, old[0]} <= found
    assert (read < 10) == any_found


def test_planner_settings_are_restored(database: Database) -> None:
    with operations(database) as connection:
        show = text(f"SELECT {', '.join(f'current_setting({name!r})' for name in REVISION.SETTINGS)}")
        before = connection.execute(show).one()
        REVISION.fill()
        assert connection.execute(show).one() == before


def test_a_flood_of_children_costs_no_more_than_other_requests(stale: Database) -> None:
    """Thirty calls with one prompt and a thousand children of it must not make thirty thousand pairs.

    About sixty plan nodes process each request once. A node that processed each pair would exceed the limit.
    """
    parent(stale, *["go"] * 30)
    for number in range(1000):
        child(stale, "go", 1 + number / 100)
    assert work(stale) < 65 * 1001


def test_two_calls_and_two_subtasks_inserted_at_002_are_linked_at_head(empty: Database) -> None:
    run_alembic("upgrade", "002", url=url_of(empty))
    request = parent(empty, "find the bug", "write the test")
    first, bug = child(empty, "find the bug", 3)
    second, test = child(empty, [{"type": "text", "text": "write the test"}], 4)
    run_alembic("upgrade", "head", url=url_of(empty))
    assert links(empty, request) == [str(bug), str(test)]
    assert parent_of(empty, first) == parent_of(empty, second) == (request, True)
