"""The rules of the sub-task backfill in plain Python, row by row: a reference for the tests."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

ABSENT = object()
"""SQL NULL in a JSON column, as opposed to the JSON value null."""


@dataclass
class Request:
    """The columns of api_requests that the rules use."""

    request_id: UUID
    timestamp: datetime
    domain: str
    conversation_id: UUID | None = None
    body: Any = ABSENT
    response_body: Any = ABSENT
    parent_task_request_id: UUID | None = None
    is_subtask: bool | None = False
    task_tool_invocation: Any = ABSENT

    @property
    def age(self) -> tuple[datetime, UUID]:
        return (self.timestamp, self.request_id)


def backfill(requests: list[Request]) -> None:
    """Change the requests according to section 3 of the reference."""
    for request in requests:
        calls = task_items(request.response_body)
        if calls and request.task_tool_invocation is ABSENT:
            request.task_tool_invocation = [stored(call) for call in calls]

    children = [first for first in first_requests(requests) if first.parent_task_request_id is None]
    links: list[tuple[Request, Request]] = []
    for child in sorted(children, key=lambda request: request.age):
        texts = texts_of(child.body)
        parents = [parent for parent in requests if is_parent(parent, child, texts)]
        if not parents:
            continue
        parent = max(parents, key=lambda request: request.age)
        for call in calls_of(parent):
            if prompt_of(call) in texts and call.get("linked_conversation_id") is None:
                call["linked_conversation_id"] = str(child.conversation_id)
                break
        links.append((child, parent))
    for child, parent in links:
        for request in requests:
            if request.conversation_id == child.conversation_id:
                request.parent_task_request_id = parent.request_id
                request.is_subtask = True


def task_items(response: Any) -> list[dict[str, Any]]:
    if not isinstance(response, dict) or not isinstance(response.get("content"), list):
        return []
    items = [item for item in response["content"] if isinstance(item, dict)]
    return [item for item in items if item.get("type") == "tool_use" and item.get("name") == "Task"]


def stored(item: dict[str, Any]) -> dict[str, Any]:
    given = item.get("input")
    fields = given if isinstance(given, dict) else {}
    return {
        "id": item.get("id"),
        "name": "Task",
        "prompt": text_or_empty(fields.get("prompt")),
        "description": text_or_empty(fields.get("description")),
        "input": given,
    }


def text_or_empty(value: Any) -> str:
    return value if isinstance(value, str) else ""


def calls_of(request: Request) -> list[dict[str, Any]]:
    if not isinstance(request.task_tool_invocation, list):
        return []
    calls = [call for call in request.task_tool_invocation if isinstance(call, dict)]
    return [call for call in calls if call.get("name") == "Task" and prompt_of(call)]


def prompt_of(call: dict[str, Any]) -> str:
    given = call.get("input")
    return text_or_empty(call.get("prompt")) or text_or_empty(
        given.get("prompt") if isinstance(given, dict) else None
    )


def first_requests(requests: list[Request]) -> list[Request]:
    firsts: dict[UUID, Request] = {}
    for request in sorted(requests, key=lambda request: request.age):
        if request.conversation_id is not None:
            firsts.setdefault(request.conversation_id, request)
    return list(firsts.values())


def texts_of(body: Any) -> list[str]:
    messages = body.get("messages") if isinstance(body, dict) else None
    first = messages[0] if isinstance(messages, list) and messages else None
    if not isinstance(first, dict) or first.get("role") != "user":
        return []
    content = first.get("content")
    if isinstance(content, str):
        return [content]
    items = [item for item in content if isinstance(item, dict)] if isinstance(content, list) else []
    texts = [
        item["text"] for item in items if item.get("type") == "text" and isinstance(item.get("text"), str)
    ]
    return [text for text in texts if "<system-reminder>" not in text] or texts[:1]


def is_parent(parent: Request, child: Request, texts: list[str]) -> bool:
    waited = child.timestamp - parent.timestamp
    return (
        parent.domain == child.domain
        and parent.conversation_id != child.conversation_id
        and timedelta(0) < waited < timedelta(seconds=30)
        and any(prompt_of(call) in texts for call in calls_of(parent))
    )
