"""The example server, as uvicorn runs it, over HTTP."""

import base64
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import wave
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from databases import Database, url_of
from documentation.shell import command_lines
from pages import section
from programs import ROOT
from support import HEAD

COMMANDS = [*command_lines(section("docs/applications.md", "Try the example server"))]
"""The commands of the page: how to start the server, and requests to it."""


class Replica:
    """A running server: its URL and its output so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said = ""
        self.url = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        assert self._ready.wait(120), self.said
        assert self.url, self.said

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line
            found = re.search(r"running on (http://[\w.:]+)", line)
            if found:
                self.url = found[1]
                self._ready.set()
        self._ready.set()

    def request(self, path: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if body else None
        request = urllib.request.Request(
            self.url + path, data=data, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) in {0, -signal.SIGTERM}
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def replica(cwd: Path, **environment: str) -> Iterator[Replica]:
    """Run the page's command, on a free port."""
    *variables, program = COMMANDS[0].partition("&& ")[2].partition("uvicorn ")
    arguments = shlex.split(program.replace("examples", str(ROOT / "examples"), 1))
    given = dict(pair.split("=") for pair in variables[0].split())
    assert given == {"METRICS_ENABLED": "true"}
    unset = {"DATABASE_URL", "MIGRATION_DATABASE_URL"}
    process = subprocess.Popen(
        [Path(sys.executable).with_name("uvicorn"), *arguments, "--port", "0"],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k not in unset} | given | environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    started = Replica(process)
    try:
        yield started
    finally:
        started.stop()


def ask(server: Replica, command: str) -> Any:
    """Send the request of a curl command line."""
    _, _, url, *options = shlex.split(command)
    body = json.loads(options[options.index("-d") + 1]) if "-d" in options else {}
    return server.request(url.removeprefix("localhost:8000"), **body)


@pytest.mark.thorough
def test_two_replicas_at_once_on_an_empty_database(empty: Database, tmp_path: Path) -> None:
    replicas: list[Replica] = []
    with ExitStack() as stack:

        def start() -> None:
            replicas.append(stack.enter_context(replica(tmp_path, DATABASE_URL=url_of(empty))))

        threads = [threading.Thread(target=start) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one, other = replicas
        assert one.request("/healthz") == other.request("/healthz") == {"status": "ok", "revision": HEAD}

        answer = one.request("/translate", conversation_id="c", text="Hello good world", record_ms=7)
        assert (answer["detected_lang"], answer["text"]) == ("en", "hallo gut Welt")
        with wave.open(io.BytesIO(base64.b64decode(answer["audio"]))) as audio:
            assert audio.getnframes() > 0
        answer = other.request("/translate", conversation_id="c", text="Danke", target_lang="fr", user_id="u")
        assert (answer["detected_lang"], answer["text"]) == ("de", "merci")
        # The table does not accept this language, but the caller gets the translation.
        assert one.request("/translate", conversation_id="c", text="hello", target_lang="x" * 11)["text"]

        rows = other.request("/metrics/c")
        assert [(row["detected_lang"], row["target_lang"], row["record_ms"]) for row in rows] == [
            ("en", "de", 7),
            ("de", "fr", None),
        ]
        for row in rows:
            assert min(row["whisper_ms"], row["translate_ms"], row["tts_ms"]) >= 0
        assert one.request("/metrics/unknown") == []
        with pytest.raises(urllib.error.HTTPError, match="422"):
            one.request("/metrics/%00")

        empty.execute("ALTER TABLE alembic_version RENAME TO other")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            one.request("/healthz")
    assert "target_lang is longer than 10 characters (11)" in one.said
    assert "Traceback" not in one.said + other.said


@pytest.mark.thorough
def test_on_the_embedded_default(tmp_path: Path) -> None:
    with replica(tmp_path) as server:
        assert server.request("/healthz") == {"status": "ok", "revision": HEAD}
        assert server.request("/translate", conversation_id="c", text="merci")["text"] == "danke"
        assert len(server.request("/metrics/c")) == 1
        answers = [ask(server, command) for command in COMMANDS[1:]]
        assert answers[0]["text"]
        assert [row["target_lang"] for row in answers[1]] == ["fr"]
        assert answers[2] == {"status": "ok", "revision": HEAD}
    assert (tmp_path / ".postgres").is_dir()
    for line in ("[Migr] applied 006_create_conversation_metrics", "[Metrics] write ok"):
        assert line in server.said
