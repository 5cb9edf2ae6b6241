"""Where the console lives and where its variables come from. Nothing here makes anything."""

from __future__ import annotations

import os
from pathlib import Path

from aihub_backup.core.variables import read_file, text

BASE_DIR = Path(__file__).resolve().parent.parent
DATABASE = "console.sqlite3"  # in the home, where AIHUB_DATABASE_URL names no other


def read_variables() -> None:
    """Add what the `.env` file says to the environment."""
    read_file(os.environ.get("AIHUB_ENV_FILE") or BASE_DIR / ".env")


def path() -> Path:
    """The home that the variables name, whether it is there or not."""
    return Path(text("AIHUB_HOME", str(BASE_DIR / "var"))).expanduser().resolve()


def is_set_up(home: Path) -> bool:
    """Was a console ever started there? One whose database is elsewhere needs its home only."""
    elsewhere = text("AIHUB_DATABASE_URL") or text("AIHUB_DATABASE_URL_FILE")
    return home.is_dir() if elsewhere else (home / DATABASE).is_file()
