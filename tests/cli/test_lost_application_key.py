"""The application key is lost: what that costs, with the real console and its real command line."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aihub_backup.cli import compare
from aihub_backup.cli.exits import Exit
from tests.cli.console import Console, command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("console")]


def run(home: Path, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "AIHUB_ENV_FILE": os.devnull, "AIHUB_PUBLIC_URL": ""}
    return subprocess.run(
        command(*words, "--home", str(home), "--json"), input=typed, capture_output=True, text=True, timeout=240,
        env=environment, check=False,
    )  # fmt: skip


def asked(home: Path, *words: str, typed: str = "") -> Any:
    ran = run(home, *words, typed=typed)
    assert ran.returncode == Exit.OK, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1]) if ran.stdout else None


@contextmanager
def started(home: Path) -> Iterator[None]:
    """The whole console, for as long as it is needed."""
    console = Console(home)
    try:
        yield
    finally:
        console.stop()


def backed_up_and_restored(home: Path, target: Path) -> None:
    assert asked(home, "backup", "run", "data", "--wait")["status"] == "completed"
    assert asked(home, "restore", "data", "--to", str(target), "--wait")["status"] == "completed"


def test_a_console_that_lost_its_application_key_goes_on_with_the_paper(tmp_path: Path) -> None:
    home, data, kit = tmp_path / "home", tmp_path / "data", tmp_path / "kit.txt"
    data.mkdir()
    (data / "one.txt").write_text("of before")
    with started(home):
        asked(home, "storage", "add", "disk", "--option", f"path={tmp_path / 'disk'}")
        asked(home, "repository", "create", "main", "--storage", "disk", "--kit", str(kit))
        code = next(line.split()[-1] for line in kit.read_text().splitlines() if line.startswith("Recovery code"))
        asked(home, "repository", "prove", "main", typed=f"{code}\n")
        asked(home, "source", "add", "data", "--option", f"paths={data}")
        backed_up_and_restored(home, tmp_path / "before")
    fresh = f"fresh:{base64.b64encode(os.urandom(32)).decode()}\n"
    (home / "keys" / "app_keys").write_text(fresh)

    lost = run(home, "repository", "keys", "main", "list")
    refused = run(home, "repository", "keys", "main", "renew")
    renewed = asked(home, "repository", "keys", "main", "renew", "--ask", "recovery-code", typed=f"{code}\n")

    assert lost.returncode != Exit.OK
    assert "which AIHUB_APP_KEYS does not hold" in lost.stderr
    assert "give the recovery code or a passphrase" in refused.stderr
    assert sorted((slot["label"], slot["ours"]) for slot in renewed["slots"]) == [
        ("application", True), ("recovery kit", False),
    ]  # fmt: skip
    with started(home):
        (data / "two.txt").write_text("of afterwards")
        backed_up_and_restored(home, tmp_path / "after")
    assert compare.compare_trees(compare.read_tree(data), compare.read_tree(tmp_path / "after")) == []
    assert (tmp_path / "before/one.txt").read_text() == "of before"
