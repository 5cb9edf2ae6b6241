"""The runner as a program: messages, ends, and what it never does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from backups.runner import BOOTSTRAP
from backups.runner.wire import Decoder, Garbled, encode


class Talk:
    """A started runner and the messages on its pipes."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-c", BOOTSTRAP, str(settings.BASE_DIR)]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env={"PATH": os.environ["PATH"]})
        self._decoder = Decoder()
        self._held: list[dict[str, Any]] = []

    def say(self, **message: object) -> None:
        assert self.process.stdin
        self.process.stdin.write(encode(message))
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """The next message; {} at the end."""
        assert self.process.stdout
        while not self._held:
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                return {}
            self._held += self._decoder.feed(data)
        return self._held.pop(0)

    def until(self, event: str) -> dict[str, Any]:
        """The next message of that name."""
        while (message := self.hear()).get("event") not in (event, None):
            pass
        return message

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()


@pytest.fixture
def talk() -> Iterator[Talk]:
    """A runner that waits for its job."""
    found = Talk()
    yield found
    found.process.kill()
    found.process.wait()
    for pipe in (found.process.stdin, found.process.stdout, found.process.stderr):
        assert pipe
        pipe.close()


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    """A backup into a fresh repository."""
    from backups import engine

    store = engine.open_store("local", {"path": str(tmp_path / "store")})
    secret = engine.new_keyfile()
    made = engine.Repository.create(store, [(secret, "test")])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(b"content" * 1000)
    (tmp_path / "work").mkdir()
    place = {
        "store": {"kind": "local", "options": {"path": str(tmp_path / "store")}}, "id": made.config.id.hex(),
        "secret": {"kind": "keyfile", "value": secret.value}, "anchors": [], "cache": "", "console": "test",
    }  # fmt: skip
    return {
        "job": "backup", "repository": place, "snapshot": "11111111-1111-4111-8111-111111111111", "parents": [],
        "source": {"kind": "files", "options": {"paths": [str(tmp_path / "data")]}}, "workdir": str(tmp_path / "work"),
        "mode": "full", "options": {"codec": "zstd", "level": 1}, "facts": {}, "lease_epoch": 1,
    }  # fmt: skip


def records(job: dict[str, Any]) -> int:
    """Log records in the repository, the first checkpoint among them."""
    return len(list(Path(job["repository"]["store"]["options"]["path"], "log").rglob("*-*")))


def test_it_commits_only_after_the_word(talk: Talk, job: dict[str, Any]) -> None:
    talk.say(**job)
    ready = talk.until("ready")
    before = records(job)

    talk.say(do="commit")

    result = talk.until("result")["result"]
    assert (ready["snapshot"], before, records(job)) == (job["snapshot"], 1, 2)
    assert result["snapshot"] == job["snapshot"]
    assert result["stats"]["files"] == 1
    assert talk.process.wait(5) == 0


@pytest.mark.parametrize("end", ["cancel", "stdin", "sigterm", "nonsense"])
def test_anything_but_the_word_keeps_it_from_committing(talk: Talk, job: dict[str, Any], end: str) -> None:
    talk.say(**job)
    talk.until("ready")

    if end == "cancel":
        talk.say(do="cancel")
    elif end == "stdin":
        talk.close()
    elif end == "sigterm":
        talk.process.send_signal(signal.SIGTERM)
    else:
        talk.say(do="a dance")

    assert talk.until("error")["code"] == "cancelled"
    assert (talk.process.wait(5), records(job)) == (1, 1)


def test_it_ends_when_nobody_gives_it_a_job(talk: Talk) -> None:
    talk.close()

    assert talk.until("error")["code"] == "cancelled"
    assert talk.process.wait(5) == 1


def test_an_unknown_job_is_told(talk: Talk) -> None:
    talk.say(job="dance")

    error = talk.until("error")

    assert (error["message"], error["permanent"]) == ("The runner knows no job “dance”.", True)


def test_a_job_without_what_it_needs_is_an_unforeseen_error_in_the_log_alone(talk: Talk) -> None:
    talk.say(job="backup", secrets=["canary-1234"], repository={"canary-1234": 1})

    error = talk.until("error")

    assert error["code"] == "internal-error"
    assert "KeyError" in error["message"]
    assert talk.process.stderr
    logged = talk.process.stderr.read()
    assert b"KeyError" in logged
    assert b"canary-1234" not in logged


def test_it_loads_no_django(talk: Talk, job: dict[str, Any]) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import backups.runner.deeds;"
        "from backups.kinds import STRATEGIES; [STRATEGIES.load(kind) for kind in STRATEGIES.kinds()];"
        "sys.exit('django' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-I", "-c", code, str(settings.BASE_DIR)], check=False).returncode == 0


def test_it_leaves_no_core_file(talk: Talk, job: dict[str, Any]) -> None:
    talk.say(**job)
    talk.until("ready")

    limits = Path(f"/proc/{talk.process.pid}/limits").read_text()

    assert next(line for line in limits.splitlines() if "core file" in line).split()[4:6] == ["0", "0"]


def test_no_descriptor_of_ours_reaches_a_program_it_starts(talk: Talk, job: dict[str, Any]) -> None:
    """Standard input is empty and standard output is the log: a tool can neither read our words nor garble them."""
    talk.say(**job)
    talk.until("ready")
    descriptors = {number: os.readlink(f"/proc/{talk.process.pid}/fd/{number}") for number in ("0", "1", "2")}

    assert descriptors["0"] == os.devnull
    assert descriptors["1"] == descriptors["2"]


def test_it_dies_with_a_stuck_caller_that_closed_the_pipes(talk: Talk, job: dict[str, Any]) -> None:
    talk.say(**job)
    talk.until("ready")
    talk.close()

    end = time.monotonic() + 5
    while talk.process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)

    assert talk.process.poll() == 1


def test_messages_survive_any_cut() -> None:
    sent: list[dict[str, Any]] = [{"event": "x", "bytes": b"\xff\0", "text": "ü"}, {"list": [1, None, 2.5]}]
    data = b"".join(encode(message) for message in sent)
    decoder = Decoder()

    heard = [message for at in range(len(data)) for message in decoder.feed(data[at : at + 1])]

    assert heard == sent


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\1\x01", b"Hell" * 3])
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(Garbled):
        list(Decoder().feed(data))
