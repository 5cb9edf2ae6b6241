"""The table of variables in docs/operations.md is whole."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READERS = ("aihub_backup/settings.py", "aihub_backup/provisioning/environment.py", "aihub_backup/cli/stack.py",
           "aihub_backup/cli/web.py", "backups/strategies/programs.py")  # fmt: skip


def test_every_variable_that_is_read_is_told() -> None:
    told = (ROOT / "docs/operations.md").read_text()
    code = " ".join((ROOT / name).read_text() for name in READERS)

    read = set(re.findall(r'"((?:AIHUB|BACKUP|DR|DISASTER)_[A-Z0-9_]+)"', code))

    assert [name for name in sorted(read) if f"`{name}`" not in told] == []
