"""The backfill of 007: elements of task_tool_invocation get the form that is missing."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
from databases import Database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from marks import quick
from migrations.fitting import BOTH, TASK, TEXTS, WAYS, migrate, store, stored
from support import insert

At = Callable[[str], Database]

# An element before and after.
ELEMENTS: dict[str, tuple[Any, Any]] = {
    "the proxy's form": (TASK | {"input": TEXTS}, BOTH),
    "the scripts' form": (TASK | TEXTS, BOTH),
    "both forms": (BOTH, BOTH),
    "neither": (TASK, TASK),
    "linked": (
        TASK | {"input": TEXTS, "linked_conversation_id": "c"},
        BOTH | {"linked_conversation_id": "c"},
    ),
    "more in its input": (
        TASK | {"input": TEXTS | {"subagent_type": "x"}},
        TASK | TEXTS | {"input": TEXTS | {"subagent_type": "x"}},
    ),
    "more beside its texts": (TASK | TEXTS | {"more": [1.50, None]}, BOTH | {"more": [1.50, None]}),
    "no description in its input": (
        TASK | {"input": {"prompt": "go"}},
        TASK | {"prompt": "go", "description": "", "input": {"prompt": "go"}},
    ),
    "no description": (
        TASK | {"prompt": "go"},
        TASK | {"prompt": "go", "description": "", "input": {"prompt": "go", "description": ""}},
    ),
    "a description alone": (
        TASK | {"description": "there"},
        TASK | {"prompt": "", "description": "there", "input": {"prompt": "", "description": "there"}},
    ),
    "an empty input": (TASK | {"input": {}}, TASK | {"prompt": "", "description": "", "input": {}}),
    "texts that are none": (
        TASK | {"input": {"prompt": 5, "description": [{}]}},
        TASK | {"prompt": "", "description": "", "input": {"prompt": 5, "description": [{}]}},
    ),
    "a prompt beside its input": (
        TASK | {"prompt": "other", "input": TEXTS},
        TASK | {"prompt": "other", "description": "there", "input": TEXTS},
    ),
    "a prompt that is null": (
        TASK | {"prompt": None, "input": TEXTS},
        TASK | {"prompt": None, "description": "there", "input": TEXTS},
    ),
    "an input that is null": (TASK | TEXTS | {"input": None}, TASK | TEXTS | {"input": None}),
    "an input that is a list": (TASK | {"input": [TEXTS]}, TASK | {"input": [TEXTS]}),
    "a list": ([TASK | TEXTS], [TASK | TEXTS]),
    "a string": ("prompt", "prompt"),
    "a number": (1.50, 1.50),
    "null": (None, None),
    "odd texts": (
        TASK | {"input": {"prompt": "%s :x \\ '\" ключ", "description": "\n"}},
        TASK
        | {"prompt": "%s :x \\ '\" ключ", "description": "\n"}
        | {"input": {"prompt": "%s :x \\ '\" ключ", "description": "\n"}},
    ),
}
NO_CALLS: list[Any] = [{}, TASK | TEXTS, "prompt", 5, None, [], [[TASK | {"input": TEXTS}]]]


class TestTaskCalls:
    """The missing forms of elements of task_tool_invocation."""

    @pytest.mark.parametrize("x", quick(WAYS, "atomic", "online"))
    def test_each_element_gets_the_missing_form(self, at_revision: At, x: dict[str, str]) -> None:
        database = at_revision("006")
        before, after = zip(*ELEMENTS.values(), strict=True)
        store(database, *([element] for element in before), [*before], *NO_CALLS)
        insert(database, "api_requests", request_id=f"{1000:032x}")
        migrate(database, x=x)
        assert stored(database) == [*([element] for element in after), [*after], *NO_CALLS, None]

    def test_a_second_run_and_a_downgrade_change_nothing(self, at_revision: At) -> None:
        database = at_revision("006")
        store(database, [element for element, _ in ELEMENTS.values()], *NO_CALLS)
        migrate(database)
        versions = "SELECT request_id, xmin::text, ctid FROM api_requests ORDER BY 1"
        before = stored(database), database.execute(versions).fetchall()
        for step in ("006", "007"):
            migrate(database, step)
            assert (stored(database), database.execute(versions).fetchall()) == before

    def test_the_log_counts_the_requests(self, at_revision: At, caplog: pytest.LogCaptureFixture) -> None:
        database = at_revision("006")
        store(database, [TASK | TEXTS] * 3, [TASK | TEXTS], [BOTH])
        with caplog.at_level(logging.INFO, "alembic.online"):
            migrate(database)
        assert "requests given the missing form of their Task calls (2 rows)" in caplog.messages

    def test_what_003_stores_has_both(self, at_revision: At, caplog: pytest.LogCaptureFixture) -> None:
        database = at_revision("002")
        content = [{"type": "tool_use", "id": "t", "name": "Task", "input": one} for one in (TEXTS, None, {})]
        insert(database, "api_requests", response_body={"content": content})
        with caplog.at_level(logging.INFO, "alembic.online"):
            migrate(database)
        assert "requests given the missing form of their Task calls (0 rows)" in caplog.messages

    @pytest.mark.thorough
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(values=st.lists(st.deferred(lambda: VALUES), min_size=1, max_size=30))
    def test_any_json(self, at_revision: At, values: list[Any]) -> None:
        database = at_revision("006")
        store(database, *values)
        migrate(database)
        assert stored(database) == [completed(value) for value in values]


def completed(value: Any) -> Any:
    """Return a value of the column after 007, in plain Python."""
    if not isinstance(value, list):
        return value
    value = copy.deepcopy(value)
    for call in value:
        if not isinstance(call, dict):
            continue
        given_input = call.get("input")
        if isinstance(given_input, dict):
            for name in ("prompt", "description"):
                text = given_input.get(name)
                call.setdefault(name, text if isinstance(text, str) else "")
        elif "input" not in call and {"prompt", "description"} & call.keys():
            for name in ("prompt", "description"):
                call.setdefault(name, "")
            call["input"] = {name: call[name] for name in ("prompt", "description")}
    return value


_scalars = st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["", "go", "Task", "prompt"])
_keys = st.sampled_from(["id", "name", "prompt", "description", "input", "more"])
_json = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=5)
)
VALUES: st.SearchStrategy[Any] = (
    st.lists(st.dictionaries(_keys, _json, max_size=6) | _json, max_size=4) | _json
)
