"""A machine on which nothing of this project is left: an isolated Python, a few packages and rescue.py."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[2] / "backups" / "rescue.py"
NEEDED = ("cryptography", "cffi", "zstandard", "msgpack", "blake3")
NEEDED_FOR_S3 = ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3")
# Runs the program as its own, and tells afterwards what it had imported. A stranger may not read our packages: they are
# imported before it becomes one.
LAUNCH = """
import json, locale, os, runpy, shutil, sys
folder, modules, user, program, *sys.argv[1:] = sys.argv[1:]
sys.path.append(folder)
sys.argv[0] = program
with open(modules, "w") as file:
    if user:
        runpy.run_path(program, run_name="before")
        os.setgroups([])
        os.setgid(int(user))
        os.setuid(int(user))
    try:
        runpy.run_path(program, run_name="__main__")
    finally:
        json.dump(sorted(sys.modules), file)
"""


@dataclass(frozen=True)
class Ran:
    """How a rescue ended, and the top-level modules it had imported."""

    code: int
    out: str
    said: str
    modules: frozenset[str]


class Island:
    """Starts rescue.py; its secrets come from the environment that is given."""

    user: int | None = None  # whom it belongs to; None: us

    def __init__(self, home: Path, packages: Iterable[str] = NEEDED) -> None:
        self.home, self.folder = home, home / "packages"
        self.folder.mkdir(parents=True)
        for package in packages:
            self._settle(package)

    def run(self, *words: str | Path, **environment: str) -> Ran:
        modules = self.home / "modules.json"
        inside = ["-c", LAUNCH, self.folder, modules, self.user or "", PROGRAM, *words]
        ended = subprocess.run(
            [sys.executable, "-I", "-S", *map(str, inside)], env=_bare(environment), cwd=self.home, timeout=240,
            capture_output=True, text=True, errors="surrogateescape", stdin=subprocess.DEVNULL, start_new_session=True,
            check=False,
        )  # fmt: skip
        imported = json.loads(modules.read_text())
        ran = Ran(ended.returncode, ended.stdout, ended.stderr, frozenset(name.split(".")[0] for name in imported))
        assert "Traceback" not in ran.said, ran.said
        assert not ran.modules & {"django", "backups", "aihub_backup", "recovery", "disaster"}
        return ran

    def _settle(self, package: str) -> None:
        """Links to what the distribution installed at the top of site-packages."""
        files = importlib.metadata.distribution(package).files or ()
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            os.symlink(str(importlib.metadata.distribution(package).locate_file(top)), self.folder / top)


def _bare(environment: Mapping[str, str]) -> dict[str, str]:
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": "/nonexistent", **environment}
