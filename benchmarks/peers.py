"""The tools that are compared, each told in its own words to do the same four things."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.measure import Command

PROJECT = Path(__file__).resolve().parent.parent
PEERS_HOME = PROJECT / "var" / "peers" / "bin"  # newer tools than the distribution's may be put here
SECRET = "benchmark"  # every tool's passphrase


class Stage(NamedTuple):
    """Where one run of one tool happens; number counts its backups from 1."""

    repository: Path
    source: Path
    target: Path
    home: Path  # caches and settings of the tool, kept for the whole round
    number: int


@dataclass(frozen=True)
class Peer:
    """A tool. Each verb makes the command for a stage; encrypted says whether it does the same work as we do."""

    name: str
    version: str
    encrypted: bool
    init: Callable[[Stage], Command]
    backup: Callable[[Stage], Command]
    restore: Callable[[Stage], Command]
    check: Callable[[Stage], Command]


def available(names: list[str]) -> dict[str, Peer | None]:
    """The named tools, ours first, None where this machine has none; LookupError for a name nobody knows."""
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        raise LookupError(f"There is no peer {unknown[0]!r}; choose among {', '.join(PEERS)}.")
    return {name: PEERS[name]() for name in PEERS if name in names}


def ours() -> Peer | None:
    def command(*words: str) -> Callable[[Stage], Command]:
        argv = [sys.executable, "-m", "backups.engine", *words]
        return lambda stage: Command(_filled(argv, stage), PROJECT, _our_environment(stage))

    return Peer(
        "ours",
        _our_version(),
        True,
        init=command("init", "{repository}"),
        backup=command("backup", "{repository}", "{source}"),
        restore=command("restore", "{repository}", "--target", "{target}"),
        check=command("check", "{repository}", "--level", "3"),
    )


def restic() -> Peer | None:
    program = _program("restic")
    if not program:
        return None

    def environment(stage: Stage) -> Mapping[str, str]:
        home = str(stage.home)
        return {"HOME": home, "RESTIC_PASSWORD": SECRET, "RESTIC_CACHE_DIR": f"{home}/restic"}

    def command(*words: str, at: str = "home") -> Callable[[Stage], Command]:
        argv = [program, "-q", "-r", "{repository}", *words]
        return lambda stage: Command(_filled(argv, stage), getattr(stage, at), environment(stage))

    return Peer(
        "restic",
        _version(program, "version"),
        True,
        init=command("init"),
        backup=command("backup", ".", at="source"),
        restore=command("restore", "latest", "--target", "{target}"),
        check=command("check", "--read-data"),
    )


def borg() -> Peer | None:
    program = _program("borg")
    if not program:
        return None

    def environment(stage: Stage) -> Mapping[str, str]:
        allowed = ("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "BORG_RELOCATED_REPO_ACCESS_IS_OK")
        home = str(stage.home)
        return {"HOME": home, "BORG_PASSPHRASE": SECRET, "BORG_BASE_DIR": f"{home}/borg"} | dict.fromkeys(
            allowed, "yes"
        )

    def command(*words: str, at: str = "home") -> Callable[[Stage], Command]:
        return lambda stage: Command(_filled([program, *words], stage), getattr(stage, at), environment(stage))

    return Peer(
        "borg",
        _version(program, "--version"),
        True,
        init=command("init", "-e", "repokey-blake2", "{repository}"),
        backup=command("create", "-C", "zstd,1", "{repository}::backup-{number}", ".", at="source"),
        restore=command("extract", "{repository}::backup-{number}", at="target"),
        check=command("check", "--verify-data", "{repository}"),
    )


def tar() -> Peer | None:
    """tar and zstd: no deduplication, no encryption; the floor that the tools above stand on."""
    program = _program("tar")
    if not program or not shutil.which("zstd"):
        return None

    def command(*words: str) -> Callable[[Stage], Command]:
        argv = [program, "-I", "zstd -q -1 -T0", *words]
        return lambda stage: Command(_filled(argv, stage), stage.home, {"HOME": str(stage.home)})

    return Peer(
        "tar+zstd",
        _version(program, "--version"),
        False,
        init=lambda stage: Command(["mkdir", "-p", str(stage.repository)], stage.home),
        backup=command("--format=posix", "-cf", "{repository}/{number}.tar.zst", "-C", "{source}", "."),
        restore=command("-xf", "{repository}/{number}.tar.zst", "-C", "{target}"),
        check=command("-tf", "{repository}/{number}.tar.zst"),
    )


def rclone() -> Peer | None:
    """rclone: a plain mirror, no history, no encryption."""
    program = _program("rclone")
    if not program:
        return None

    def command(*words: str) -> Callable[[Stage], Command]:
        argv = [program, "-q", "--config", "/dev/null", *words]
        return lambda stage: Command(_filled(argv, stage), stage.home, {"HOME": str(stage.home)})

    return Peer(
        "rclone",
        _version(program, "version"),
        False,
        init=lambda stage: Command(["mkdir", "-p", str(stage.repository)], stage.home),
        backup=command("sync", "{source}", "{repository}/mirror"),
        restore=command("copy", "{repository}/mirror", "{target}"),
        check=command("check", "{source}", "{repository}/mirror", "--download"),
    )


# Ours first: it is what the others are compared with.
PEERS: Mapping[str, Callable[[], Peer | None]] = {
    "ours": ours,
    "restic": restic,
    "borg": borg,
    "tar": tar,
    "rclone": rclone,
}


def _filled(argv: list[str], stage: Stage) -> list[str]:
    return [word.format(**stage._asdict()) for word in argv]


def _program(name: str) -> str:
    """The path in AIHUB_BENCH_RESTIC and its like, else what var/peers/bin or the PATH has; "" when there is none."""
    found = shutil.which(name, path=PEERS_HOME) or shutil.which(name)
    return os.environ.get(f"AIHUB_BENCH_{name.upper()}") or found or ""


def _version(program: str, flag: str) -> str:
    said = subprocess.run([program, flag], capture_output=True, text=True, check=False).stdout
    return said.partition("\n")[0].partition(" compiled")[0]


def _our_environment(stage: Stage) -> Mapping[str, str]:
    home = str(stage.home)
    return {"HOME": home, "AIHUB_PASSPHRASE": SECRET, "AIHUB_CACHE_DIR": f"{home}/ours"}


def _our_version() -> str:
    argv = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty"]
    said = subprocess.run(argv, capture_output=True, text=True, check=False) if shutil.which("git") else None
    return f"aihub {said.stdout.strip() if said and said.returncode == 0 else ''}".strip()
