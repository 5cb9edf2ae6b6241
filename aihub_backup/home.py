"""Where the console lives and where its variables come from. Nothing here makes anything."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aihub_backup.core.variables import read_file, secret, text

BASE_DIR = Path(__file__).resolve().parent.parent
KIT = "recovery-kit.txt"  # in the home, where a first start writes it and nobody names another file
CALLED = "called"  # in the home, touched whenever the pool of workers of this host is called
HEARD = "heard"  # in the home, touched by the pool when it hears that
ADDRESS = "address"  # in the home: where `aihub up` has served it last
DATABASE = "console.sqlite3"  # in the home, where AIHUB_DATABASE_URL names no other


def read_variables() -> None:
    """Add what the `.env` file says to the environment."""
    read_file(variable_file())


def variable_file() -> Path:
    """The `.env` file, whether it is there or not."""
    return Path(os.environ.get("AIHUB_ENV_FILE") or BASE_DIR / ".env")


def secret_files() -> list[Path]:
    """Files whose content is a variable's value: AIHUB_…_FILE."""
    return [Path(value) for name, value in os.environ.items() if _names_a_file(name) and value]


def _names_a_file(name: str) -> bool:
    return name.startswith("AIHUB_") and name.endswith("_FILE")


def path() -> Path:
    """The home that the variables name, whether it is there or not."""
    return Path(text("AIHUB_HOME", str(BASE_DIR / "var"))).expanduser().resolve()


def served_at(home: Path) -> str:
    """The address under which `aihub up` has served this home last; "" when it never did."""
    try:
        return (home / ADDRESS).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def is_set_up(home: Path) -> bool:
    """Was a console ever started there? One whose database is on a server needs its home only."""
    file = database_file(secret("AIHUB_DATABASE_URL"), home)
    return home.is_dir() if file is None else file.is_file()


def database_is_on_server() -> bool:
    """Do the variables name a database that is no file of this host?"""
    return database_file(secret("AIHUB_DATABASE_URL"), path()) is None


def database_file(url: str, home: Path) -> Path | None:
    """Of AIHUB_DATABASE_URL: the file of SQLite, in the home where no other is named; None on a server."""
    if not url:
        return home / DATABASE
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "sqlite" else None
