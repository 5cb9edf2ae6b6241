"""Calling the runner: one fresh subprocess for each piece of work, driven from the thread that waits for it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from django.conf import settings
from django.db import connection, transaction

from aihub_backup.core import processes
from aihub_backup.core.failures import Failure, Unavailable
from aihub_backup.core.jobs import Cancelled, LostLease, Stopping
from aihub_backup.core.redaction import scrub
from backups.runner import BOOTSTRAP
from backups.runner.wire import Decoder, Garbled, Message, encode

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25  # how often the lease is looked at while the runner is silent
CANCEL_PATIENCE = 5.0  # seconds a runner gets to end by itself before it is signalled
TERM_PATIENCE = 10.0  # seconds from SIGTERM to SIGKILL
LAST_WORDS = 10.0  # seconds from the last message to the end of the process
MOST_LOG_BYTES = 256 << 10  # of the runner's stderr

_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "AIHUB_TOOL_DIRS")
_INHERITED_PREFIXES = ("LC_", "LANG", "COVERAGE_")

Events = Callable[[Mapping[str, Any]], None]
Answers = Callable[[Mapping[str, Any]], bool]  # yes or no to a runner's question; at once


class Holder(Protocol):
    """What is asked of a lease; a job of several runners gives each of them a share of its own."""

    def own(self, child: processes.Child) -> None:
        """Kill the child at the moment the lease is lost."""

    def check(self) -> None:
        """Raise when the work must end."""

    def commit_guard(self) -> None:
        """The last question before what cannot be undone."""

    def progress(self, facts: Mapping[str, Any]) -> None:
        """How far the work is."""


def perform(
    job: Mapping[str, Any],
    *,
    lease: Holder | None = None,
    events: Events | None = None,
    answers: Answers | None = None,
    patience: float | None = None,
) -> dict[str, Any]:
    """Do one job of `backups.runner` and return its result. No database transaction may be open.

    Under a lease: progress goes to `lease.progress`, a cancel or a lost lease ends the runner, and its `ready` is
    answered with `commit` only after `lease.commit_guard()`. Other events ("item", "problem", "rows") go to `events`,
    and each "question" to `answers`, which answers from what the database says.
    Without a lease the work must end within `patience` seconds (None: no bound) and nothing is ever committed.
    Raises Failure with the runner's code and sentence, or the lease's Cancelled, LostLease, Stopping.
    """
    with transaction.atomic(durable=True):  # RuntimeError when one is open: it would stay so for as long as the work
        pass
    if not connection.in_atomic_block:
        connection.close()  # nor is a connection held for hours
    command = [sys.executable, "-I", "-c", BOOTSTRAP, str(settings.BASE_DIR)]
    child = processes.spawn(command, env=_environment(), cwd="/")
    with contextlib.ExitStack() as stack:
        stack.callback(_close, child)
        if lease is not None:
            lease.own(child)
        return _Conversation(child, lease, events, patience, answers).hold(job)


def work() -> Path:
    """Where the private directories are, with copies of what is being backed up."""
    return Path(settings.AIHUB_HOME, "work")


@contextlib.contextmanager
def workdir(name: str) -> Iterator[str]:
    """A private directory for what a strategy needs to lay down; gone afterwards, also that of a killed attempt."""
    root = work()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in root.glob(f"{name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    path = tempfile.mkdtemp(prefix=f"{name}-", dir=root)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _environment() -> dict[str, str]:
    """What a runner may know of ours: no keys, no database, no broker."""
    kept = {name: value for name, value in os.environ.items() if name in _INHERITED}
    return kept | {name: value for name, value in os.environ.items() if name.startswith(_INHERITED_PREFIXES)}


def _close(child: processes.Child) -> None:
    """However the conversation ended, nobody of the group survives it."""
    if (child.poll() is None or child.process.returncode) and not child.kill_group(grace=0):
        log.error("runner %s does not die of SIGKILL (a read that hangs in the kernel?); it is left", child.pid)
    for pipe in (child.stdin, child.stdout, child.stderr):
        with contextlib.suppress(OSError):  # what was never sent needs no sending any more
            pipe.close()


class _Conversation:
    """One job's messages, there and back."""

    def __init__(
        self, child: processes.Child, lease: Holder | None, events: Events | None, patience: float | None,
        answers: Answers | None = None,
    ) -> None:  # fmt: skip
        self._child, self._lease, self._events, self._answers = child, lease, events, answers
        self._deadline = time.monotonic() + patience if patience is not None else None
        self._decoder, self._log = Decoder(), _Log(child.pid)
        self._last: Message | None = None
        self._ending: Failure | None = None  # why we asked for the end
        self._signal_at = 0.0
        self._patience = patience

    def hold(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Send the job, hear events until the last word, return the result."""
        self._send(job)
        self._listen()
        if self._last is None:
            raise self._died()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(LAST_WORDS)
        return self._outcome(self._last)

    # --- hearing ---

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ, self._hear)
            selector.register(self._child.stderr, selectors.EVENT_READ, self._log.feed)
            while selector.get_map() and self._last is None:
                ready = selector.select(LOOK_SECONDS)
                for key, _ in ready:
                    self._read(selector, key)
                if not ready and self._child.poll() is not None:
                    return  # it is dead, though a grandchild may still hold the pipes
                self._look()

    def _read(self, selector: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        data = os.read(key.fd, 1 << 16)
        if data:
            key.data(data)
        else:
            selector.unregister(key.fileobj)

    def _hear(self, data: bytes) -> None:
        try:
            for message in self._decoder.feed(data):
                self._take(message)
        except Garbled as error:
            raise Failure(f"The runner cannot be understood: {error}.", permanent=False, code="runner-died") from None

    def _take(self, message: Message) -> None:
        event = message.get("event")
        if event in ("result", "error"):
            self._last = message
        elif event == "ready":
            self._answer()
        elif event == "question":
            self._reply(message)
        elif event == "progress":
            if self._lease is not None:
                self._lease.progress({name: value for name, value in message.items() if name != "event"})
        elif self._events is not None:
            self._events(message)

    # --- saying ---

    def _answer(self) -> None:
        """May it commit? Only the holder of the lease says yes."""
        if self._ending is not None:
            return  # cancel is on its way already
        if self._lease is None:
            raise RuntimeError("work that commits needs a lease")
        try:
            self._lease.commit_guard()
        except (Cancelled, LostLease, Stopping) as error:
            self._end(error)
        else:
            self._send({"do": "commit"})

    def _reply(self, question: Message) -> None:
        """Who is on the way to the end has heard so, or hears it next."""
        if self._ending is None:
            self._send({"do": "yes" if self._answers is not None and self._answers(question) else "no"})

    def _look(self) -> None:
        """Has the lease, or our patience, come to its end?"""
        if self._ending is not None:
            if time.monotonic() >= self._signal_at:
                self._child.kill_group(TERM_PATIENCE)
            return
        try:
            if self._lease is not None:
                self._lease.check()
            if self._deadline is not None and time.monotonic() > self._deadline:
                raise Unavailable(f"There was no answer within {self._patience:.0f} seconds; try again later.")
        except Failure as error:
            self._end(error)

    def _end(self, error: Failure) -> None:
        """Ask the runner to end; who does not hold the lease any more does not even ask."""
        self._ending, self._signal_at = error, time.monotonic() + CANCEL_PATIENCE
        if isinstance(error, LostLease):
            self._signal_at = 0.0
            self._child.kill_group(grace=0)
        self._send({"do": "cancel"})

    def _send(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # it is dead; the loop will see that
            self._child.stdin.write(encode(message))
            self._child.stdin.flush()

    # --- ending ---

    def _outcome(self, last: Message) -> dict[str, Any]:
        if last["event"] == "result":
            result: dict[str, Any] = last["result"]
            return result
        if self._ending is not None:
            raise self._ending
        raise _failure(last)

    def _died(self) -> Failure:
        if self._ending is not None:
            return self._ending
        if self._lease is not None:
            self._lease.check()  # the heartbeat kills the runner of a lost lease without asking us
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(1)
        status = self._child.poll()
        how = f"killed by signal {-status}" if status is not None and status < 0 else f"exit status {status}"
        words = f"The process that did the work ended without a word ({how})."
        return Failure(words, permanent=False, code="runner-died")


def _failure(last: Message) -> Failure:
    if last["code"] == "cancelled":  # not by us: somebody signalled the process
        return Failure("Somebody else ended the process that did the work.", permanent=False, code="runner-died")
    facts = {"errors": last["errors"]} if last.get("errors") else {}
    return Failure(scrub(last["message"]), permanent=bool(last["permanent"]), code=str(last["code"]), facts=facts)


class _Log:
    """The runner's stderr in our own log, line by line, up to a bound."""

    def __init__(self, pid: int) -> None:
        self._pid, self._held, self._left = pid, b"", MOST_LOG_BYTES

    def feed(self, data: bytes) -> None:
        """More of it."""
        self._left -= len(data)
        if self._left < 0:
            return
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            self._write(line.decode("utf-8", "replace"))

    def _write(self, line: str) -> None:
        try:
            told = json.loads(line)
            level, words = logging.getLevelNamesMapping()[told["level"].upper()], told["message"]
            words += f"\n{told['trace']}" if "trace" in told else ""
        except (ValueError, KeyError, TypeError, AttributeError):
            level, words = logging.WARNING, line
        log.log(level, "runner %s: %s", self._pid, scrub(words))
