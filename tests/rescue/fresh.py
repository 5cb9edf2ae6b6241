"""A fresh repository, made by the engine's command line as somebody would make it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PASSPHRASE = "a fresh start"
PROJECT = Path(__file__).resolve().parents[2]


def engine(home: Path, *words: str | Path) -> None:
    """`python -m backups.engine`; it must end well."""
    secret = {"AIHUB_PASSPHRASE": PASSPHRASE, "AIHUB_CACHE_DIR": str(home / "cache")}
    command = [sys.executable, "-m", "backups.engine", *map(str, words), "--quiet"]
    ended = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, **secret}, capture_output=True, text=True, timeout=240, check=False
    )
    assert ended.returncode in (0, 3), ended.stderr


def backed_up(home: Path, source: Path) -> Path:
    """A new repository with one snapshot of the source."""
    engine(home, "init", home / "repository")
    engine(home, "backup", home / "repository", source)
    return home / "repository"
