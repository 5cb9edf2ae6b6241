"""`aihub up` as in production: rows in PostgreSQL, messages and cache in Valkey, keys that were given."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.cli.console import Console, command
from tests.cli.waiting import eventually
from tests.servers import postgresql, valkey

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("console")]


@pytest.fixture
def _servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a console that has them to itself."""
    database, broker = postgresql.started(18), valkey.start()
    person = f"{quote(postgresql.OWNER)}:{quote(postgresql.PASSWORD, safe='')}"
    given = {
        "AIHUB_DATABASE_URL": f"postgres://{person}@127.0.0.1:{database.port}/{database.database()}",
        "AIHUB_BROKER_URL": broker.url(0), "AIHUB_CACHE_URL": broker.url(1), "AIHUB_MODE": "production",
        "AIHUB_SECRET_KEY": "a secret that somebody was given to keep for this console, and nobody else",
        "AIHUB_APP_KEYS": f"k1:{base64.b64encode(b'k' * 32).decode()}", "AIHUB_NODE": "production-node",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("_servers")
def test_it_backs_up_through_its_workers(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/file").write_text("something worth keeping")
    console = Console(tmp_path / "home")

    def ask(*words: str) -> Any:
        done = subprocess.run(command(*words, "--json", "--home", str(console.home)), capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    ask("storage", "add", "disk", "--option", f"path={tmp_path / 'disk'}")
    ask("repository", "create", "main", "--storage", "disk", "--waive-kit")
    ask("source", "add", "data", "--option", f"paths={tmp_path / 'data'}")
    backup = ask("backup", "run", "data", "--wait")
    token = ask("token", "--days", "1")
    eventually(lambda: "postgresql, migrated" in _doctor(console) and "was seen" in _doctor(console), 60)
    console.stop()

    assert backup["status"] == "completed"
    assert token["token"].startswith("aihub_")
    assert not (console.home / "console.sqlite3").exists() and not (console.home / "keys").exists()
    assert console.descendants() == {}


def _doctor(console: Console) -> str:
    return subprocess.run(command("doctor", "--home", str(console.home)), capture_output=True, text=True).stdout
