"""What the engine's proofs work with: its own command line as real processes that are watched, counted and killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backups.engine.disk import from_printable
from benchmarks.compare import same_tree
from benchmarks.measure import Watch

PROJECT = Path(__file__).resolve().parents[2]
MARK = "AIHUB_PROOF"  # in the environment of everything a proof starts, and so of all its descendants
MEMORY_LIMIT = 256 << 20  # bytes of Pss_Anon + Pss_Shmem that an engine's whole process tree may use
MIB = float(1 << 20)
# exit codes of the engine's command line
OK, FAILED, USAGE, WARNINGS, NOT_FOUND, DAMAGE, NOT_ALLOWED, IN_THE_WAY = 0, 1, 2, 3, 4, 5, 7, 8


@dataclass(frozen=True)
class Ran:
    """How a command ended. memory: peak bytes of its process tree, 0 when nobody watched."""

    code: int
    result: Any
    said: list[str]
    seconds: float
    memory: int = 0

    def about(self, root: Path) -> dict[bytes, str]:
        """Paths below root that were reported (raw, relative), each with its last sentence."""
        found: dict[bytes, str] = {}
        for line in self.said:
            severity, _, rest = line.partition(": /")
            shown, _, sentence = rest.rpartition(": It ")
            path = b"/" + from_printable(shown)
            if severity in ("warning", "error") and path.startswith(bytes(root) + b"/"):
                found[path[len(bytes(root)) + 1 :]] = f"It {sentence}"
        return found


class Running:
    """A command that runs, and everything it starts."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self.mark = uuid.uuid4().hex
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - both live as long as the command
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - the same
        self.begun = time.monotonic()
        self.process = subprocess.Popen(
            words, cwd=PROJECT, env={**environment, MARK: self.mark}, stdin=subprocess.DEVNULL,
            stdout=self._out, stderr=self._said, start_new_session=True,
        )  # fmt: skip

    @property
    def over(self) -> bool:
        return self.process.poll() is not None

    @property
    def children(self) -> list[int]:
        """The worker processes."""
        pid = self.process.pid
        with suppress(OSError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    def alive(self) -> list[int]:
        """Everything of this run that still lives, whoever its parent is now."""
        return marked(self.mark)

    def kill(self, pid: int | None = None) -> None:
        """SIGKILL to the command itself, or to one of its processes."""
        with suppress(ProcessLookupError):
            os.kill(pid or self.process.pid, signal.SIGKILL)

    def end(self, patience: float = 600.0) -> Ran:
        """Wait for the end; RuntimeError when it does not come."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.sweep()
            raise RuntimeError(f"The command did not end within {patience} seconds.") from None
        seconds = time.monotonic() - self.begun
        return Ran(code, _document(_text(self._out)), _text(self._said).splitlines(), seconds)

    def sweep(self) -> None:
        """Kill everything that is left of this run."""
        for pid in self.alive():
            self.kill(pid)
        self.process.wait()


class Engine:
    """`python -m backups.engine` with a repository, a cache and a secret of its own in a directory.

    The secret is a keyfile, which costs no time, or a passphrase, as most people have, or a recovery code.
    repository: where it is, if not in the place
    """

    def __init__(self, place: Path, *, passphrase: str = "", code: str = "", repository: Path | None = None) -> None:
        self.repository = repository or place / "repository"
        self.address = str(self.repository)
        keyfile = place / "keyfile"
        keyfile.write_bytes(b"a keyfile of 32 bytes or of more")
        secret = {"AIHUB_PASSPHRASE": passphrase, "AIHUB_RECOVERY_CODE": code, "AIHUB_KEYFILE": str(keyfile)}
        path = os.environ.get("PATH", os.defpath)
        self.environment = {"PATH": path, "LANG": "C.UTF-8", "AIHUB_CACHE_DIR": str(place / "cache"), **secret}

    def start(self, verb: str, *words: str | Path) -> Running:
        command = [sys.executable, "-m", "backups.engine", verb, "--json", self.address, *map(str, words)]
        return Running(command, self.environment)

    def run(self, verb: str, *words: str | Path, watch: bool = False, codes: Iterable[int] = (OK, WARNINGS)) -> Ran:
        """Run to the end, its memory sampled if watched; AssertionError when it ends with another code."""
        running = self.start(verb, *words)
        sampled: AbstractContextManager[Any] = Watch(running.process.pid) if watch else nullcontext()
        with sampled as watching:
            ran = running.end(3600)
        assert ran.code in set(codes), f"{verb} ended with code {ran.code}: {' '.join(ran.said)[-500:]}"
        return Ran(ran.code, ran.result, ran.said, ran.seconds, watching.peak if watching else 0)

    def snapshots(self) -> list[str]:
        """Ids of the visible snapshots, oldest first."""
        return [row["id"] for row in self.run("list").result]

    def objects(self, kind: str) -> set[str]:
        """Names of the finished objects of a kind (packs, index, log), without asking the engine."""
        folders = os.walk(self.repository / kind)
        return {name for _, _, names in folders for name in names if not name.startswith(".")}


def marked(mark: str) -> list[int]:
    """Living processes whose environment holds the mark."""
    wanted = f"{MARK}={mark}".encode()
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and _holds(name, wanted)]


def _holds(pid: str, wanted: bytes) -> bool:
    with suppress(OSError):
        if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    return False


def eventually(question: Callable[[], object], seconds: float, what: str) -> None:
    """Ask again and again until the answer is true; AssertionError when it never is."""
    end = time.monotonic() + seconds
    while not question():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} seconds"
        time.sleep(0.01)


def assert_same(expected: Path, found: Path, *, root: bool = True) -> None:
    """AssertionError with the first differences, unless both trees are equal in content and attributes."""
    differences = same_tree(os.fsencode(expected), os.fsencode(found), root=root)
    assert not differences, f"{len(differences)} differences, as {differences[0]}"


def remove(*trees: Path) -> None:
    """rm -rf; shutil.rmtree() gives up below a thousand directories."""
    subprocess.run(["rm", "-rf", "--", *map(str, trees)], check=True)


def copy(tree: Path, to: Path) -> Path:
    """A copy with everything that a backup keeps."""
    subprocess.run(["cp", "-a", "--reflink=auto", "--", str(tree), str(to)], check=True)
    return to


def roomy(wanted: int, otherwise: Path) -> Path:
    """A new directory in memory if that many bytes and as much again are free there; else inside `otherwise`."""
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() and _free(memory) >= 2 * wanted else otherwise
    return Path(tempfile.mkdtemp(prefix="aihub-proof-", dir=parent))


def _free(place: Path) -> int:
    facts = Path("/proc/meminfo").read_text().splitlines()
    available = next(int(line.split()[1]) for line in facts if line.startswith("MemAvailable"))  # KiB
    return min(shutil.disk_usage(place).free, available << 10)


def _text(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode(errors="replace"))


def _document(text: str) -> Any:
    with suppress(ValueError):
        return json.loads(text)
    return None
