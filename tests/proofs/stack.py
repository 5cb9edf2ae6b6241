"""The whole console as `aihub up` runs it, in a home of its own, and the processes it consists of."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aihub_backup.cli.client import Client
from aihub_backup.core.processes import start_time
from tests.proofs.workshop import PROJECT, eventually

READY_WITHIN, STOPPED_WITHIN = 180.0, 60.0  # seconds
RUNNER = "from backups.runner import main"
PROGRAMS = {"web": "gunicorn", "beat": " beat ", "worker": "jobs@", "control": "control@"}  # in their command lines
ROLES = ("runner", "engine worker", "pool process", "worker", "control", "beat", "web", "web process")


@dataclass(frozen=True)
class Process:
    """One process, not to be mixed up with a later one of the same number."""

    pid: int
    parent: int
    started: int
    command: str

    @property
    def alive(self) -> bool:
        """Is it still there, and more than a zombie?"""
        return start_time(self.pid) == self.started

    def kill(self) -> None:
        """SIGKILL."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def family(root: int) -> list[Process]:
    """The process and all its living descendants, ancestors first."""
    everybody: dict[int, list[Process]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := _process(int(name))):
            everybody.setdefault(process.parent, []).append(process)
    top = _process(root)
    found = [top] if top else []
    for process in found:
        found.extend(everybody.get(process.pid, ()))
    return found


def _process(pid: int) -> Process | None:
    with suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return None if fields[0] in "ZX" else Process(pid, int(fields[1]), int(fields[19]), command)
    return None


class Console:
    """A running `aihub up`. environment: settings beside the usual ones."""

    def __init__(self, home: Path, environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AIHUB_", "DJANGO_"))},
            "AIHUB_ENV_FILE": os.devnull, **(environment or {}),
        }  # fmt: skip
        self._said = (home.parent / f"{home.name}-said").open("ab")
        words = ["up", "--json", "--port", "0", "--drain", "5", "--home", str(home)]
        self.process = subprocess.Popen(
            self._command(*words), stdout=subprocess.PIPE, stderr=self._said, cwd=PROJECT, env=self._environment
        )
        try:
            self.client = self._connect()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """SIGTERM, and the proof that nothing of it lives on."""
        everybody = family(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(STOPPED_WITHIN)
        finally:
            left = [process for process in everybody if process.alive]
            for process in left:
                process.kill()
            self._said.close()
        assert not left, f"left behind: {[process.command for process in left]}"

    def run(self, *words: str) -> Any:
        """Another command of the launcher against this home; its JSON."""
        command = self._command(*words, "--json", "--home", str(self.home))
        done = subprocess.run(command, stdout=subprocess.PIPE, cwd=PROJECT, env=self._environment, check=True)
        return json.loads(done.stdout)

    # processes

    def programs(self) -> dict[str, Process]:
        """web, beat, worker and control, as far as they run now."""
        own = [process for process in family(self.process.pid) if process.parent == self.process.pid]
        words = PROGRAMS.items()
        return {name: process for name, word in words for process in own if word in f"{process.command} "}

    def victims(self, role: str) -> list[Process]:
        """The processes that play this role now."""
        everybody, programs = family(self.process.pid), self.programs()
        if role in programs:
            return [programs[role]]
        runners = [process for process in everybody if RUNNER in process.command]
        pids = {process.pid for process in runners}
        if role == "runner":
            return [process for process in runners if process.parent not in pids]
        if role == "engine worker":
            return [process for process in runners if process.parent in pids]
        program = {"pool process": "worker", "web process": "web"}.get(role, "")
        parent = programs[program].pid if program in programs else -1
        return [process for process in everybody if process.parent == parent]

    def up_again(self) -> bool:
        """All programs run, and the web server answers."""
        return len(self.programs()) == len(PROGRAMS) and self.answers()

    def answers(self) -> bool:
        """Does the web server answer?"""
        with suppress(OSError), urllib.request.urlopen(f"{self.client.address}/healthz", timeout=5) as response:
            return bool(response.status < 300)
        return False

    # starting

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "aihub_backup.cli", *words]

    def _connect(self) -> Client:
        assert self.process.stdout is not None
        facts = json.loads(self.process.stdout.readline() or "{}")
        assert "address" in facts, f"the console did not start: {facts}"
        self.account: dict[str, str] = facts["account"] or {}  # of the first start: its name and one-time password
        client = Client(facts["address"], self.run("token", "--days", "1")["token"])
        self.client = client
        eventually(self.up_again, READY_WITHIN, "the console is up")
        return client


def struck(process: Process, patience: float = 2.0) -> float:
    """kill -9; the seconds until nobody below it lived. AssertionError after `patience` seconds."""
    below, begun = family(process.pid), time.monotonic()
    process.kill()
    while left := [one.command for one in below if one.alive]:
        assert time.monotonic() - begun < patience, f"alive below a killed process: {left}"
        time.sleep(0.01)
    return time.monotonic() - begun
