"""A running console for tests: `aihub up` with all its programs, in a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from tests.cli.waiting import alive


class Console:
    """A running `aihub up`."""

    def __init__(self, home: Path, *words: str, variables: Path | None = None) -> None:
        """`variables`: the `.env` file of this console; nothing else says its public address then."""
        self.home = home
        environment = {**os.environ, "AIHUB_ENV_FILE": str(variables or os.devnull), "AIHUB_LOG_LEVEL": "INFO"}
        environment = {**environment, "AIHUB_PUBLIC_URL": ""}
        if variables:
            del environment["AIHUB_PUBLIC_URL"]
        self.process = subprocess.Popen(
            command("up", "--json", "--port", "0", "--drain", "5", "--home", str(home), *words),
            stdout=subprocess.PIPE,
            stderr=(home.parent / "said").open("ab"),
            env=environment,
        )
        assert self.process.stdout is not None
        self.facts: dict[str, Any] = json.loads(self.process.stdout.readline())

    def said(self) -> str:
        return (self.home.parent / "said").read_text()

    def descendants(self) -> dict[int, str]:
        """Living processes of this console by what their environment says, whoever their parents are now."""
        found = {}
        for entry in Path("/proc").iterdir():
            if (
                entry.name.isdigit()
                and alive(int(entry.name))
                and f"AIHUB_HOME={self.home}" in _read(entry / "environ")
            ):
                found[int(entry.name)] = _read(entry / "cmdline")
        return found

    def program(self, word: str) -> int:
        """The process of the program whose command holds the word, started by the supervisor itself."""
        children = _read(Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")).split()
        return next((int(pid) for pid in children if word in _read(Path(f"/proc/{pid}/cmdline"))), 0)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.facts['address']}/healthz", timeout=5) as response:
                return bool(response.status == 204)
        except OSError:
            return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "aihub_backup.cli", *words]


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""
