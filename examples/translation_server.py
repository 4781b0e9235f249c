"""A translation server: migrates its database at start-up, and records the metrics of each message.

One command runs it (see docs/applications.md), on the server in DATABASE_URL or on an embedded one. It
translates word by word from a short list. A real service would replace the steps of POST /translate.
"""

import asyncio
import base64
import io
import logging
import math
import os
import re
import time
import wave
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from nexus_schema import record_conversation_metrics_async, upgrade_database_async
from nexus_schema.database import database_url, parse_url
from nexus_schema.embedded import DATA_DIRECTORY, embedded_server
from nexus_schema.models import ConversationMetric

# Uvicorn configures only its own loggers. These loggers say what happens to the database.
logging.basicConfig(format="%(levelname)s:     %(message)s")
for package in ("nexus_schema", "alembic.online"):
    logging.getLogger(package).setLevel(logging.INFO)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Upgrade the database to the newest revision, then serve."""
    with ExitStack() as stack:
        if "DATABASE_URL" in os.environ:
            url = database_url()
        else:
            embedded = embedded_server(Path(DATA_DIRECTORY))
            url = parse_url(await asyncio.to_thread(stack.enter_context, embedded))
        engine = create_async_engine(url)
        await upgrade_database_async(engine)
        app.state.engine = engine
        yield
        await engine.dispose()


app = FastAPI(title="Translation server", lifespan=lifespan)


def engine_of(request: Request) -> AsyncEngine:
    """Return the engine that lives as long as the server."""
    engine: AsyncEngine = request.app.state.engine
    return engine


Engine = Annotated[AsyncEngine, Depends(engine_of)]


ConversationId = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00]*$")]


class Message(BaseModel):
    """A spoken message, here as the text of the recording."""

    conversation_id: ConversationId
    user_id: str | None = Field(default=None, max_length=255)
    text: str = Field(min_length=1, max_length=2000)
    target_lang: str = "de"
    record_ms: int | None = Field(default=None, ge=0, description="how long the recording took")


class Translation(BaseModel):
    """A message in the other language, as text and as a WAV file in base64."""

    detected_lang: str
    text: str
    audio: str


@app.post("/translate")
async def translate(message: Message, engine: Engine) -> Translation:
    """Translate a message, and record how long each step took."""
    begin = time.perf_counter()
    words, language = recognise(message.text)
    recognised = time.perf_counter()
    translated = " ".join(translate_word(word, language, message.target_lang) for word in words)
    understood = time.perf_counter()
    audio = speak(translated)
    spoken = time.perf_counter()
    await record_conversation_metrics_async(
        engine,
        conversation_id=message.conversation_id,
        user_id=message.user_id,
        record_ms=message.record_ms,
        whisper_ms=round(1000 * (recognised - begin)),
        translate_ms=round(1000 * (understood - recognised)),
        tts_ms=round(1000 * (spoken - understood)),
        detected_lang=language,
        target_lang=message.target_lang,
        voice_used="beeps",
    )
    return Translation(detected_lang=language, text=translated, audio=base64.b64encode(audio).decode())


@app.get("/metrics/{conversation_id}")
async def metrics(conversation_id: ConversationId, engine: Engine) -> list[dict[str, Any]]:
    """Return the metrics of a conversation, oldest first."""
    table = ConversationMetric.__table__
    rows = (
        select(table)
        .where(ConversationMetric.conversation_id == conversation_id)
        .order_by(ConversationMetric.created_at)
    )
    async with engine.connect() as connection:
        return [dict(row._mapping) for row in await connection.execute(rows)]


@app.get("/healthz")
async def healthz(engine: Engine) -> dict[str, str]:
    """Return the revision of the schema, or 503 if the database does not answer."""
    try:
        async with engine.connect() as connection:
            revision = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    except DBAPIError as error:
        raise HTTPException(503, "the database does not answer, or was never migrated") from error
    return {"status": "ok", "revision": str(revision)}


WORDS = [
    {"en": "hello", "de": "hallo", "fr": "bonjour"},
    {"en": "world", "de": "Welt", "fr": "monde"},
    {"en": "thank", "de": "danke", "fr": "merci"},
    {"en": "good", "de": "gut", "fr": "bon"},
    {"en": "day", "de": "Tag", "fr": "jour"},
]


def recognise(said: str) -> tuple[list[str], str]:
    """Return the words, and the language that contains most of them."""
    words = re.findall(r"\w+", said)
    known = {
        language: sum(entry[language].lower() == word.lower() for entry in WORDS for word in words)
        for language in WORDS[0]
    }
    return words, max(known, key=lambda language: known[language])


def translate_word(word: str, source: str, target: str) -> str:
    """Return the word in the other language, or unchanged if the list does not have it."""
    return next((e[target] for e in WORDS if target in e and e[source].lower() == word.lower()), word)


def speak(said: str) -> bytes:
    """Return a WAV file with a beep for each word: the longer the word, the deeper the beep."""
    rate, frames = 8000, bytearray()
    for word in said.split():
        pitch = 880 / (1 + len(word) / 8)
        frames += bytes(int(127 + 100 * math.sin(math.tau * pitch * n / rate)) for n in range(rate // 8))
        frames += bytes([127]) * (rate // 16)
    file = io.BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(1)
        audio.setframerate(rate)
        audio.writeframes(frames)
    return file.getvalue()
