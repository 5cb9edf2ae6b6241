"""The runner's side of the conversation with the process that called it."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any

from aihub_backup.core.redaction import leaves, remember, scrub
from backups.engine.entry import ItemError
from backups.engine.errors import Cancelled
from backups.runner.wire import Decoder, Message, encode

MOST_ITEMS = 200  # item errors and problems told one by one; the counts are of all
PROGRESS_SECONDS = 1.0

_WORDS = "The work was cancelled."


class Caller:
    """Who called us: tells the job, hears events, may cancel, and alone allows the commit.

    There is no reading thread: forked workers must not inherit one. What the caller says is looked at whenever
    progress is told, and waited for at the commit.
    """

    def __init__(self, ears: int, mouth: int) -> None:
        self._ears, self._mouth = ears, mouth
        self._decoder = Decoder()
        self._heard: list[Message] = []
        self._told_at = 0.0
        self._told: dict[str, int] = {}
        self._quiet = self._speaking = self._interrupted = False
        self.pid = os.getpid()

    @classmethod
    def of_this_process(cls) -> Caller:
        """Take stdin and stdout for ourselves: what a library prints goes to stderr, and no tool reads our messages."""
        ears, mouth = os.dup(0), os.dup(1)  # not inherited by programs we start
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        return cls(ears, mouth)

    # --- hearing ---

    def job(self) -> Message:
        """The first message. Its `secrets` are masked from here on."""
        job = self._next()
        remember(leaves(job.get("secrets", ())))
        return job

    def check(self) -> None:
        """Raise Cancelled when the caller asked for the end or is gone; never waits."""
        while select.select([self._ears], [], [], 0)[0]:
            self._read()
        if any(message.get("do") == "cancel" for message in self._heard):
            raise Cancelled(_WORDS)

    def ask(self, **facts: Any) -> None:
        """Say `ready` and wait for the word. Cancelled when it is no, or when nobody is there to say it."""
        self.check()
        self._send("ready", facts)
        answer = self._next()
        if answer.get("do") != "commit":
            raise Cancelled(_WORDS)
        self.quiet()  # the point of no return: the caller would not know what a cancelled commit has left

    def question(self, what: str, **facts: Any) -> bool:
        """Ask the caller something and wait for yes or no. Cancelled when it wants the end instead, or is gone."""
        self.check()
        self._send("question", {"what": what, **facts})
        answer = self._next()
        if answer.get("do") not in ("yes", "no"):
            raise Cancelled(_WORDS)
        return bool(answer["do"] == "yes")

    def on_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        """A clean end, wherever the main thread is (also out of a read that hangs), but never inside a message."""
        if self._quiet or os.getpid() != self.pid:
            return
        if self._speaking:
            self._interrupted = True
            return
        self._interrupt()

    def quiet(self) -> None:
        """Let no signal interrupt what follows."""
        self._quiet = True
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def _interrupt(self) -> None:
        self.quiet()
        raise Cancelled(_WORDS)

    # --- telling ---

    def progress(self, facts: Mapping[str, Any]) -> None:
        """How far the work is (keys of `core.jobs.progress`); told once a second at most. Also looks for a cancel."""
        self.check()
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self._send("progress", facts)

    def item(self, item: ItemError) -> None:
        """Something odd about one item."""
        message = scrub(item.message)
        self._capped("item", {"path": item.path, "action": item.action, "message": message, "severity": item.severity})

    def problem(self, facts: Mapping[str, Any]) -> None:
        """Damage that a check has found."""
        self._capped("problem", facts)

    def rows(self, rows: list[Mapping[str, Any]]) -> None:
        """A batch of a listing."""
        self.check()
        self._send("rows", {"rows": rows})

    def result(self, result: Mapping[str, Any]) -> None:
        """The last word after success."""
        self._send("result", {"result": result})

    def error(self, problem: Mapping[str, Any]) -> None:
        """The last word after a failure; nobody may be there any more to hear it."""
        try:
            self._send("error", problem)
        except BrokenPipeError:
            return

    def _capped(self, event: str, facts: Mapping[str, Any]) -> None:
        self._told[event] = self._told.get(event, 0) + 1
        if self._told[event] <= MOST_ITEMS:
            self._send(event, facts)

    def _send(self, event: str, facts: Mapping[str, Any]) -> None:
        data, self._speaking = memoryview(encode({"event": event, **facts})), True
        while data:
            data = data[os.write(self._mouth, data) :]
        self._speaking = False
        if self._interrupted and not self._quiet:
            self._interrupt()

    def _next(self) -> Message:
        while not self._heard:
            self._read()
        return self._heard.pop(0)

    def _read(self) -> None:
        data = os.read(self._ears, 1 << 16)
        if not data:
            raise Cancelled("The process that asked for this work is gone.")
        self._heard += self._decoder.feed(data)
