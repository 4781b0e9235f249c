"""The models as applications use them, with Session and AsyncSession."""

import asyncio
import re
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from databases import Database, url_of
from pages import page
from sqlalchemy import Engine, Enum, create_engine, event, func, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, selectinload
from support import START

from nexus_schema.database import parse_url
from nexus_schema.models import ApiRequest, Base, ConversationMetric, StreamingChunk, hourly_stats


@pytest.fixture
def engine(head: Database) -> Iterator[Engine]:
    engine = create_engine(parse_url(url_of(head)))
    yield engine
    engine.dispose()


def request(**values: Any) -> ApiRequest:
    required = {"timestamp": START, "domain": "d", "method": "POST", "path": "/", "headers": {}}
    return ApiRequest(request_id=uuid.uuid4(), **(required | values))


VALUES: dict[type, Any] = {
    uuid.UUID: uuid.UUID(int=7),
    str: "é" * 10,
    int: 3,
    bool: True,
    object: {"ключ": [1, None, {"a": "b"}]},
}


def value_for(column: Any) -> Any:
    if isinstance(column.type, Enum):
        return column.type.enums[0]
    if column.type.python_type is datetime:
        return START if column.type.timezone else START.replace(tzinfo=None)
    if getattr(column.type, "length", None) == 64 and column.type.__visit_name__ == "CHAR":
        return "f" * 64
    return VALUES[column.type.python_type]


@pytest.mark.parametrize("model", [ApiRequest, StreamingChunk, ConversationMetric])
def test_every_column_makes_the_round_trip(engine: Engine, model: type[Base]) -> None:
    values = {column.key: value_for(column) for column in inspect(model).columns}
    if model is ApiRequest:
        values["parent_task_request_id"] = values["request_id"]
    with Session(engine) as session:
        if model is StreamingChunk:
            session.add(request_7 := request())
            request_7.request_id = values["request_id"]
            session.flush()
        session.add(model(**values))
        session.commit()
    with Session(engine) as session:
        found = session.scalars(select(model)).one()
        assert {key: getattr(found, key) for key in values} == values


@pytest.mark.parametrize("model", [ApiRequest, StreamingChunk, ConversationMetric])
def test_the_database_fills_its_defaults(engine: Engine, model: type[Base]) -> None:
    with Session(engine) as session:
        row: Base = ConversationMetric()
        if model is ApiRequest:
            row = request()
        elif model is StreamingChunk:
            row = StreamingChunk(request=request(), chunk_index=0, timestamp=START, data="")
        session.add(row)
        session.commit()
        defaults = {
            c.key: getattr(row, c.key) for c in inspect(model).columns if c.server_default is not None
        }
    assert defaults
    assert None not in defaults.values()


def test_none_in_a_json_column_is_sql_null(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(request(body=None, response_body={"explicit": None}))
        session.commit()
        nulls = session.execute(
            text("SELECT body IS NULL, response_body -> 'explicit' = 'null' FROM api_requests")
        )
        assert nulls.one() == (True, True)


def test_deleting_a_request_deletes_its_chunks_in_the_database_without_loading_them(engine: Engine) -> None:
    with Session(engine) as session:
        row = request()
        row.chunks = [StreamingChunk(chunk_index=n, timestamp=START, data=str(n)) for n in (1, 0)]
        session.add(row)
        session.commit()
    statements: list[str] = []
    with Session(engine) as session:
        found = session.scalars(select(ApiRequest)).one()

        @event.listens_for(engine, "before_cursor_execute")
        def note(_c: object, _cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        session.delete(found)
        session.commit()
        assert [statement.split()[:3] for statement in statements] == [["DELETE", "FROM", "api_requests"]]
        assert session.scalar(select(func.count()).select_from(StreamingChunk)) == 0


def test_chunks_come_in_order(engine: Engine) -> None:
    with Session(engine) as session:
        row = request(chunks=[StreamingChunk(chunk_index=n, timestamp=START, data=str(n)) for n in (2, 0, 1)])
        session.add(row)
        session.commit()
        session.expire_all()
        assert [chunk.chunk_index for chunk in row.chunks] == [0, 1, 2]
        assert row.chunks[0].request is row


def test_parent_task_and_sub_tasks(engine: Engine) -> None:
    with Session(engine) as session:
        parent = request()
        parent.sub_tasks = [request(is_subtask=True), request(is_subtask=True)]
        session.add(parent)
        session.commit()
        assert {child.parent_task for child in parent.sub_tasks} == {parent}
        session.delete(parent)
        with pytest.raises(IntegrityError, match="api_requests_parent_task_request_id_fkey"):
            session.flush()


def test_hourly_stats_is_a_table_to_select_from(engine: Engine) -> None:
    with Session(engine) as session:
        session.add(request(timestamp=datetime.now().astimezone(), model="m", input_tokens=4))
        session.commit()
        session.execute(select(func.refresh_hourly_stats()))
        rows = session.execute(select(hourly_stats.c.request_count, hourly_stats.c.total_input_tokens)).all()
        assert rows == [(1, 4)]


def test_async_sessions(head: Database) -> None:
    async def scenario() -> None:
        engine = create_async_engine(parse_url(url_of(head)))
        async with AsyncSession(engine) as session:
            parent = request(chunks=[StreamingChunk(chunk_index=0, timestamp=START, data="x")])
            session.add_all([parent, request(parent_task=parent)])
            await session.commit()
            found = await session.scalars(
                select(ApiRequest).where(ApiRequest.chunks.any()).options(selectinload(ApiRequest.sub_tasks))
            )
            row = found.one()
            assert len(row.sub_tasks) == 1
            assert [chunk.data for chunk in await row.awaitable_attrs.chunks] == ["x"]
            await session.delete(row.sub_tasks[0])
            await session.delete(row)
            await session.commit()
            assert await session.scalar(select(func.count()).select_from(StreamingChunk)) == 0
        await engine.dispose()

    asyncio.run(scenario())


def test_importing_the_models_opens_no_connection_and_needs_no_database() -> None:
    first, *_ = page("docs/schema.md").partition("## ")
    assert set(Base.metadata.tables) == set(re.findall(r"^\| `(\w+)`", first, re.MULTILINE))
    assert {"api_requests", "conversation_metrics", "hourly_stats", "streaming_chunks"} <= set(
        Base.metadata.tables
    )


def test_repr_shows_key_domain_and_time_and_loads_nothing(engine: Engine) -> None:
    request = ApiRequest(
        request_id=uuid.UUID(int=1),
        timestamp=START,
        domain="d",
        method="POST",
        path="/",
        headers={"authorization": "secret"},
        body={"messages": ["secret"]},
    )
    assert repr(request) == (
        "ApiRequest(request_id=UUID('00000000-0000-0000-0000-000000000001'), domain='d',"
        f" timestamp={START!r})"
    )
    with Session(engine) as session:
        session.add(request)
        session.flush()
        session.expire(request)
        assert repr(request) == "ApiRequest()"
        assert "request_id" not in vars(request), "nothing was loaded"
    assert repr(StreamingChunk(chunk_index=3, data="secret")) == "StreamingChunk(chunk_index=3)"
    assert repr(ConversationMetric(conversation_id="c")) == "ConversationMetric(conversation_id='c')"
