"""PostgreSQL's own programs: which of them fits, and how it is run without telling anybody the password."""

from __future__ import annotations

import glob
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from aihub_backup.core import processes
from aihub_backup.core.redaction import scrub
from backups.engine.errors import EngineError, SourceError, TargetError
from backups.strategies.postgresql.options import PostgreSQLOptions

CONNECT_SECONDS = 15  # until a server has to let us in
LOOK_SECONDS = 0.5  # between two looks at a program that runs
_USUAL = "/usr/lib/postgresql/*/bin"
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(\S*)")
_MOST_WORDS = 64 << 10  # bytes of a program's messages that are looked at


class Client(NamedTuple):
    """One installation of the client programs."""

    directory: str
    major: int
    version: str

    def program(self, name: str) -> str:
        """The path of one of its programs."""
        return os.path.join(self.directory, name)


class Ran(NamedTuple):
    """How a program ended: its exit code and what it said."""

    code: int
    output: bytes
    words: list[str]

    @property
    def why(self) -> str:
        """Its last words, for a sentence."""
        return last(self.words) or f"exit code {self.code}"


# which


def installed(bin_dir: str, program: str = "pg_dump") -> list[Client]:
    """What is in the directory, or in the usual places: the newest first. Of two of the same version the usual place
    counts: what Debian puts into PATH asks its own files which version to start."""
    places = [bin_dir] if bin_dir else [*glob.glob(_USUAL), *os.get_exec_path()]
    found = filter(None, (_look(place, program) for place in dict.fromkeys(places)))
    return sorted(found, key=lambda client: -client.major)


def for_server(options: PostgreSQLOptions, major: int) -> Client:
    """The pg_dump of the server's version, else the next newer one. SourceError with the cure."""
    return _fitting("pg_dump", options.bin_dir, major, f"the server is {major}", SourceError)


def for_archive(bin_dir: str, major: int) -> Client:
    """The pg_restore that reads what a pg_dump of that version wrote. TargetError with the cure."""
    return _fitting("pg_restore", bin_dir, major, f"the dump is of {major}", TargetError)


def _fitting(program: str, bin_dir: str, major: int, need: str, refusal: type[EngineError]) -> Client:
    """The program of that version, else the next newer one."""
    every = installed(bin_dir, program)
    fitting = [client for client in every if client.major >= major]
    if not fitting:
        raise refusal(_unfit(every, bin_dir, program, need, major))
    return min(fitting, key=lambda client: client.major)


def _look(place: str, program: str) -> Client | None:
    path = os.path.join(place, program)
    if not os.access(path, os.X_OK):
        return None
    with suppress(OSError, subprocess.TimeoutExpired):
        told = subprocess.run([path, "--version"], check=False, capture_output=True, text=True, timeout=10, env={})
        if found := _VERSION.search(told.stdout):
            return Client(place, int(found[1]), found[1] + found[2])
    return None


def _unfit(every: Sequence[Client], bin_dir: str, program: str, need: str, major: int) -> str:
    where = f"in {bin_dir}" if bin_dir else "on this host"
    cure = f"Install postgresql-client-{major}, or name the directory of its programs."
    if not every:
        return f"There is no {program} {where}, and {need}. {cure}"
    return f"The newest {program} {where} is {every[0].major}, and {need}. {cure}"


# running


class Desk:
    """How the programs are told whom to ask, and as whom. The password lies in a file that only we may read; neither
    command lines nor environments hold it, and nothing of our own environment reaches them."""

    def __init__(self, options: PostgreSQLOptions, workdir: Path) -> None:
        self._options, self._workdir = options, workdir

    @property
    def passfile(self) -> str:
        """Written anew whenever it is asked for."""
        path = self._workdir / "pgpass"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if self._options.password:
                escaped = self._options.password.replace("\\", "\\\\").replace(":", "\\:")
                file.write(f"*:*:*:*:{escaped}\n")
        return str(path)

    def lay_down(self, name: str, text: str) -> str:
        """The path of a file in the work directory that holds this."""
        path = self._workdir / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def environment(self, database: str) -> dict[str, str]:
        """All that a program gets to know."""
        options = self._options
        told = {
            "PATH": os.defpath, "HOME": str(self._workdir), "LC_ALL": "C", "PGHOST": options.host,
            "PGPORT": str(options.port), "PGUSER": options.user, "PGDATABASE": database,
            "PGPASSFILE": self.passfile, "PGSSLMODE": options.sslmode, "PGAPPNAME": "aihub-backup",
            "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS), "PGCLIENTENCODING": "UTF8",
        }  # fmt: skip
        return told | ({"PGSSLROOTCERT": options.sslrootcert} if options.sslrootcert else {})

    def start(self, command: Sequence[str], database: str, words: Path) -> processes.Child:
        """The program, which dies with us; what it says goes to the file `words`. Its output is ours to read."""
        with words.open("wb") as file:
            words.chmod(0o600)
            return processes.spawn(
                command, stdin=subprocess.DEVNULL, stderr=file, env=self.environment(database), cwd=str(self._workdir)
            )

    def run(self, command: Sequence[str], database: str, tick: Callable[[], None] = lambda: None) -> Ran:
        """See it through; `tick` is called meanwhile and may raise. Its output is kept in memory."""
        output = self._workdir / "output"
        with output.open("wb") as file, (self._workdir / "words").open("wb") as words:
            child = processes.spawn(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=words, env=self.environment(database),
                cwd=str(self._workdir),
            )  # fmt: skip
            code = _seen_through(child, tick)
        return Ran(code, output.read_bytes(), said(self._workdir / "words"))


def read(command: Sequence[str]) -> Ran:
    """Run a program that needs no server and says little; nothing of our environment reaches it."""
    child = processes.spawn(command, stdin=subprocess.DEVNULL, env={"PATH": os.defpath, "LC_ALL": "C"}, cwd="/")
    try:
        output, words = child.process.communicate()
    finally:
        child.kill_group(grace=0)
    return Ran(child.wait(), output, _lines(words))


def _seen_through(child: processes.Child, tick: Callable[[], None]) -> int:
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return child.wait(LOOK_SECONDS)
            tick()
    finally:
        child.kill_group(grace=0)


def said(words: Path) -> list[str]:
    """The lines a program has said, without secrets."""
    with words.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _MOST_WORDS))
        return _lines(file.read())


def last(words: Sequence[str]) -> str:
    """The last line that tells what was wrong; hints behind it help nobody without it."""
    telling = [line for line in words if re.search(r"\b(error|FATAL|ERROR|fatal|detail):", line)]
    return (telling or list(words) or [""])[-1].strip()


def warnings(words: Sequence[str]) -> Iterator[str]:
    """What a program that succeeded found odd."""
    for line in words:
        if found := re.search(r"\bwarning: (.+)", line):
            yield found[1]


def _lines(raw: bytes) -> list[str]:
    return [line for line in scrub(raw.decode("utf-8", "replace")).splitlines() if line.strip()]
