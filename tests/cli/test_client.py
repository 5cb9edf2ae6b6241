"""The REST API as the command line uses it, against a server that answers what the test wrote down."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from aihub_backup.cli import client as api
from aihub_backup.cli.client import Client
from aihub_backup.cli.exits import CommandFailed, Exit


class Script(BaseHTTPRequestHandler):
    """A console that answers what the test wrote down."""

    answers: ClassVar[list[tuple[int, Any]]] = []
    seen: ClassVar[list[tuple[str, str | None, str | None]]] = []

    def do_GET(self) -> None:
        status, body = self.answers.pop(0)
        self.seen.append((self.path, self.headers["Authorization"], self.headers["Idempotency-Key"]))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "http://127.0.0.1:9/stolen")
        data = json.dumps(body).encode() if body is not None else b""
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_DELETE = do_GET

    def log_message(self, *words: object) -> None:
        """Quiet."""


@pytest.fixture
def scripted() -> Iterator[Client]:
    Script.answers.clear()
    Script.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Script) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Client(f"http://127.0.0.1:{server.server_address[1]}", "aihub_token")
        server.shutdown()


def test_it_sends_the_token_and_a_fresh_idempotency_key(scripted: Client) -> None:
    Script.answers += [(202, {"id": "1"}), (202, {"id": "2"})]

    scripted.back_up("full")
    scripted.back_up("full")

    (path, token, first), (_, _, second) = Script.seen
    assert (path, token) == ("/api/v1/backup/create", "Bearer aihub_token")
    assert first and second and first != second


def test_it_turns_a_problem_into_a_sentence_and_an_exit_code(scripted: Client) -> None:
    problem = {
        "detail": "Some values are not valid.",
        "code": "validation-error",
        "errors": [{"pointer": "/type", "detail": "There is no such type."}],
    }
    Script.answers += [(400, problem), (503, None)]

    with pytest.raises(CommandFailed) as refusal:
        scripted.back_up("sideways")
    with pytest.raises(CommandFailed) as silence:
        scripted.backup("x")

    assert str(refusal.value) == "Some values are not valid. /type: There is no such type. (400 validation-error)"
    assert (refusal.value.exit_code, silence.value.exit_code) == (Exit.USAGE, Exit.DEPENDENCY)


def test_it_follows_work_to_its_end_and_gives_up_in_time(scripted: Client) -> None:
    Script.answers += [(200, {"status": "running"}), (200, {"status": "completed", "finished_at": "now"})]
    Script.answers += [(200, {"status": "running"})] * 100

    ended = scripted.finished(lambda: scripted.backup("1"), 10)
    with pytest.raises(CommandFailed) as late:
        scripted.finished(lambda: scripted.backup("2"), 0.1)

    assert api.status(ended) == "completed"
    assert late.value.exit_code == Exit.TIMEOUT


def test_it_carries_the_token_nowhere_else(scripted: Client) -> None:
    Script.answers += [(302, None)]

    with pytest.raises(CommandFailed, match="302"):
        scripted.backup("1")


def test_it_says_when_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)

    with pytest.raises(CommandFailed, match=r"127\.0\.0\.1:9 does not answer: .*refused") as silence:
        Client("http://127.0.0.1:9", "t").get("/list", page_size="1")

    assert silence.value.exit_code == Exit.DEPENDENCY


def test_it_tells_why_the_work_failed() -> None:
    answer = {"status": "failed", "error": {"detail": "The disk is full."}, "parts": [{"error": "Sent twice."}]}

    assert api.problem(answer) == "The disk is full. Sent twice."
    assert api.problem({"status": "cancelled"}) == "it ended cancelled."
    assert api.progress_line({"status": "running", "progress": {"percent": 42.4, "bytes_done": 1500}}) == (
        "running  42 %  1.5 kB"
    )
