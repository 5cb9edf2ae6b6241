from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.core.checks import CheckMessage
from pytest_django.fixtures import Settings

from aihub_backup.core import checks
from aihub_backup.core.keys import KeyRing


def ids(found: list[CheckMessage]) -> list[str | None]:
    return [message.id for message in found]


def manage(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIHUB_", "DJANGO_"))}
    given = {**clean, "AIHUB_HOME": str(tmp_path), "AIHUB_ENV_FILE": os.devnull, **environment}
    return subprocess.run(
        [sys.executable, "manage.py", *arguments], env=given, capture_output=True, text=True, check=False
    )


def test_a_fresh_installation_has_nothing_to_complain_about(tmp_path: Path) -> None:
    answer = manage(tmp_path, "check", "--fail-level", "WARNING")

    assert answer.returncode == 0, answer.stderr


def test_a_deployment_behind_tls_has_nothing_to_complain_about(tmp_path: Path) -> None:
    address = {"AIHUB_PUBLIC_URL": "https://backup.example.org"}

    answer = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **address)

    assert answer.returncode == 0, answer.stderr


def test_a_deployment_in_the_clear_is_warned_about(tmp_path: Path) -> None:
    address = {"AIHUB_PUBLIC_URL": "http://backup.example.org"}

    answer = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **address)

    assert "aihub.W003" in answer.stderr


def test_no_model_waits_for_a_migration(tmp_path: Path) -> None:
    answer = manage(tmp_path, "makemigrations", "--check", "--dry-run", "core")

    assert answer.returncode == 0, answer.stdout


def test_a_missing_key_is_an_error_with_the_cure(settings: Settings) -> None:
    settings.AIHUB_APP_KEYS = KeyRing()

    found = checks.keys_are_there()

    assert ids(found) == ["aihub.E001"]
    assert str(settings.AIHUB_APP_KEYS_PATH) in str(found[0].hint)


def test_a_key_file_for_everybody_is_warned_about(settings: Settings, tmp_path: Path) -> None:
    settings.AIHUB_HOME = tmp_path
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/app_keys").touch(0o644)

    assert ids(checks.keys_are_there()) == ["aihub.W001"]


def database(monkeypatch: pytest.MonkeyPatch, engine: str, name: str = "", *, embedded: bool = True) -> None:
    """Let the checks see other settings (overriding DATABASES itself would disturb the tests' own)."""
    seen = SimpleNamespace(DATABASES={"default": {"ENGINE": engine, "NAME": name}}, EMBEDDED=embedded)
    monkeypatch.setattr(checks, "settings", seen)


def test_sqlite_on_a_network_file_system_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    database(monkeypatch, "django.db.backends.sqlite3", "/srv/share/a/console.sqlite3")
    monkeypatch.setattr(checks, "_mounts", lambda: iter([("/", "ext4"), ("/srv/share", "nfs4"), ("/srv/sh", "ext4")]))

    assert ids(checks.database_lies_well()) == ["aihub.E002"]


def test_it_reads_the_real_mounts() -> None:
    assert checks.file_system_of(Path("/proc/self")) == "proc"


def test_sqlite_in_production_is_warned_about(monkeypatch: pytest.MonkeyPatch) -> None:
    database(monkeypatch, "django.db.backends.sqlite3", "/x", embedded=False)

    assert ids(checks.database_lies_well()) == ["aihub.W002"]


def test_a_server_database_has_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    database(monkeypatch, "django.db.backends.postgresql")

    assert checks.database_lies_well() == []


def test_a_home_that_is_not_there_is_an_error(settings: Settings, tmp_path: Path) -> None:
    settings.AIHUB_HOME = tmp_path / "gone"

    assert ids(checks.home_is_writable()) == ["aihub.E003"]


def test_missing_argon2id_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise ImportError

    assert checks.argon2id_is_there() == []
    monkeypatch.setattr(checks, "_try_argon2id", absent)
    assert ids(checks.argon2id_is_there()) == ["aihub.E004"]


def test_job_timings_must_be_in_order(settings: Settings) -> None:
    settings.AIHUB_JOB_FENCE_SECONDS = settings.AIHUB_JOB_LEASE_SECONDS

    assert ids(checks.job_timings_are_in_order()) == ["aihub.E005"]


def test_a_job_handler_must_load(settings: Settings) -> None:
    settings.AIHUB_JOB_HANDLERS = {"ghost": "tests.core.nothing.Ghost"}

    assert ids(checks.job_handlers_load()) == ["aihub.E006"]


def test_production_on_servers_of_its_own_has_nothing_to_complain_about(tmp_path: Path) -> None:
    servers = {
        "AIHUB_PUBLIC_URL": "https://backup.example.org", "AIHUB_DATABASE_URL": "postgres://a:b@db.example/aihub",
        "AIHUB_BROKER_URL": "redis://r.example:6379/0", "AIHUB_CACHE_URL": "redis://r.example:6379/1",
        "AIHUB_SECRET_KEY": "".join(map(chr, range(48, 122))), "AIHUB_APP_KEYS": "k1:" + "QUFB" * 10 + "QUE=",
    }  # fmt: skip

    answer = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **servers)

    assert answer.returncode == 0, answer.stderr
