from __future__ import annotations

import base64
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ASK = """
import json, sys
from aihub_backup import settings
print(json.dumps({name: getattr(settings, name) for name in sys.argv[1:]}, default=str))
"""
SECRET = "a secret that somebody was given to keep"
KEY = "k1:" + base64.b64encode(b"k" * 32).decode()


def settings_of(home: Path, *names: str, **environment: str) -> dict[str, Any]:
    answer = start(home, *names, **environment)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def complaint(home: Path, **environment: str) -> str:
    answer = start(home, **environment)
    assert answer.returncode != 0
    return answer.stderr.strip().splitlines()[-1]


def start(home: Path, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AIHUB_", "DJANGO_"))}
    given = {**clean, "AIHUB_HOME": str(home), "AIHUB_ENV_FILE": os.devnull, **environment}
    return subprocess.run([sys.executable, "-c", ASK, *names], env=given, capture_output=True, text=True, check=False)


def test_the_embedded_default_lives_in_its_home(tmp_path: Path) -> None:
    found = settings_of(
        tmp_path / "home", "AIHUB_MODE", "DATABASES", "CELERY_BROKER_URL", "CELERY_BROKER_TRANSPORT_OPTIONS"
    )

    database = found["DATABASES"]["default"]
    assert found["AIHUB_MODE"] == "embedded"
    assert database["NAME"] == str(tmp_path / "home/console.sqlite3")
    assert database["OPTIONS"]["transaction_mode"] == "IMMEDIATE"
    assert "synchronous=FULL" in database["OPTIONS"]["init_command"]
    assert found["CELERY_BROKER_URL"] == "filesystem://localhost//"
    assert found["CELERY_BROKER_TRANSPORT_OPTIONS"]["polling_interval"] == 0.1


def test_embedded_keys_are_made_once_and_private(tmp_path: Path) -> None:
    first = settings_of(tmp_path, "SECRET_KEY")

    assert settings_of(tmp_path, "SECRET_KEY") == first
    for name in ("secret_key", "app_keys"):
        assert stat.S_IMODE((tmp_path / "keys" / name).stat().st_mode) == 0o600


def test_many_first_processes_agree_on_the_keys(tmp_path: Path) -> None:
    environment = {**os.environ, "AIHUB_HOME": str(tmp_path), "AIHUB_ENV_FILE": os.devnull}
    command = [sys.executable, "-c", ASK, "SECRET_KEY"]
    started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(6)]

    assert len({process.communicate()[0] for process in started}) == 1


def test_a_lost_key_is_never_replaced_beside_a_database(tmp_path: Path) -> None:
    settings_of(tmp_path, "DEBUG")
    (tmp_path / "console.sqlite3").touch()
    (tmp_path / "keys/app_keys").unlink()

    assert settings_of(tmp_path, "AIHUB_APP_KEYS")["AIHUB_APP_KEYS"] == "KeyRing(current='')"
    assert not (tmp_path / "keys/app_keys").exists()


def test_nor_beside_a_database_in_another_place(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.sqlite3").touch()

    found = settings_of(tmp_path, "AIHUB_APP_KEYS", AIHUB_DATABASE_URL=f"sqlite://{tmp_path}/elsewhere.sqlite3")

    assert found["AIHUB_APP_KEYS"] == "KeyRing(current='')"
    assert not (tmp_path / "keys/app_keys").exists()


def test_production_never_makes_a_key(tmp_path: Path) -> None:
    said = complaint(tmp_path, AIHUB_MODE="production")

    assert "AIHUB_SECRET_KEY (or AIHUB_SECRET_KEY_FILE) is not set" in said
    assert "openssl rand" in said
    assert not (tmp_path / "keys").exists()


def test_production_needs_an_application_key(tmp_path: Path) -> None:
    said = complaint(tmp_path, AIHUB_MODE="production", AIHUB_SECRET_KEY=SECRET)

    assert "AIHUB_APP_KEYS (or AIHUB_APP_KEYS_FILE) is not set" in said


@pytest.mark.parametrize("given", [",", " , ,", "\n"])
def test_production_takes_no_ring_without_a_key(tmp_path: Path, given: str) -> None:
    (tmp_path / "ring").write_text(given + ",")
    production = {"AIHUB_MODE": "production", "AIHUB_SECRET_KEY": SECRET}

    said = complaint(tmp_path, AIHUB_APP_KEYS=given, **production)
    of_the_file = complaint(tmp_path, AIHUB_APP_KEYS_FILE=str(tmp_path / "ring"), **production)

    assert "AIHUB_APP_KEYS (or AIHUB_APP_KEYS_FILE) is not set; production needs it" in said
    assert of_the_file == said
    assert "openssl rand -base64 32" in said


def test_production_needs_a_secret_that_nobody_guesses(tmp_path: Path) -> None:
    said = complaint(tmp_path, AIHUB_MODE="production", AIHUB_SECRET_KEY="abc", AIHUB_APP_KEYS=KEY)

    assert "AIHUB_SECRET_KEY holds a key of 3 characters; production needs 32 or more." in said


def test_no_short_secret_lives_on_as_a_former_one(tmp_path: Path) -> None:
    given = {"AIHUB_SECRET_KEY": SECRET, "AIHUB_SECRET_KEY_FALLBACKS": f"{SECRET}x,abc", "AIHUB_APP_KEYS": KEY}

    said = complaint(tmp_path, AIHUB_MODE="production", **given)

    assert "AIHUB_SECRET_KEY_FALLBACKS holds a key of 3 characters" in said


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    (tmp_path / "url").write_text("postgres://bob:p%40ss@db.example/aihub")

    found = settings_of(
        tmp_path, "SECRET_KEY", "DATABASES", "AIHUB_MODE",
        AIHUB_SECRET_KEY_FILE=str(tmp_path / "secret"), AIHUB_DATABASE_URL_FILE=str(tmp_path / "url"),
        AIHUB_APP_KEYS=KEY,
    )  # fmt: skip

    database = found["DATABASES"]["default"]
    assert found["SECRET_KEY"] == SECRET
    assert found["AIHUB_MODE"] == "production"
    assert (database["ENGINE"], database["PASSWORD"]) == ("django.db.backends.postgresql", "p@ss")
    assert database["OPTIONS"]["pool"]["max_size"] == 8


def test_redis_may_serve_as_broker_and_cache(tmp_path: Path) -> None:
    found = settings_of(
        tmp_path, "CELERY_BROKER_URL", "CACHES", "AIHUB_MODE", "CELERY_BROKER_TRANSPORT_OPTIONS",
        "CELERY_TASK_ACKS_LATE", "CELERY_WORKER_PREFETCH_MULTIPLIER",
        AIHUB_BROKER_URL="redis://r:6379/0", AIHUB_CACHE_URL="redis://r:6379/1",
        AIHUB_SECRET_KEY=SECRET, AIHUB_APP_KEYS=KEY,
    )  # fmt: skip

    assert (found["CELERY_BROKER_URL"], found["AIHUB_MODE"]) == ("redis://r:6379/0", "production")
    assert found["CACHES"]["default"]["BACKEND"] == "django_redis.cache.RedisCache"
    assert found["CACHES"]["default"]["OPTIONS"]["IGNORE_EXCEPTIONS"] is True
    assert found["CELERY_BROKER_TRANSPORT_OPTIONS"]["visibility_timeout"] == 3600
    assert (found["CELERY_TASK_ACKS_LATE"], found["CELERY_WORKER_PREFETCH_MULTIPLIER"]) == (False, 1)


def test_cookies_follow_the_public_address(tmp_path: Path) -> None:
    names = ("SESSION_COOKIE_SECURE", "SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS", "CSRF_TRUSTED_ORIGINS")

    https = settings_of(tmp_path, *names, AIHUB_PUBLIC_URL="https://backup.example.org:8443/")
    http = settings_of(tmp_path, *names)

    assert https == {
        "SESSION_COOKIE_SECURE": True, "SECURE_SSL_REDIRECT": True, "SECURE_HSTS_SECONDS": 31_536_000,
        "CSRF_TRUSTED_ORIGINS": ["https://backup.example.org:8443"],
    }  # fmt: skip
    assert (http["SESSION_COOKIE_SECURE"], http["SECURE_HSTS_SECONDS"]) == (False, 0)


def test_a_file_of_settings_is_read(tmp_path: Path) -> None:
    (tmp_path / "settings").write_text("AIHUB_NODE=from-file\n")

    assert settings_of(tmp_path, "AIHUB_NODE", AIHUB_ENV_FILE=str(tmp_path / "settings")) == {"AIHUB_NODE": "from-file"}


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"AIHUB_DEBUG": "perhaps"}, "AIHUB_DEBUG must be true or false; it is 'perhaps'."),
        ({"AIHUB_JOB_LEASE_SECONDS": "long"}, "AIHUB_JOB_LEASE_SECONDS must be a number of seconds; it is 'long'."),
        ({"AIHUB_JOB_LEASE_SECONDS": "0"}, "AIHUB_JOB_LEASE_SECONDS must be above zero"),
        ({"AIHUB_WORKER_MAX_TASKS": "0"}, "AIHUB_WORKER_MAX_TASKS must be at least 1; it is 0."),
        ({"AIHUB_MODE": "demo"}, "AIHUB_MODE must be one of embedded, production; it is 'demo'."),
        ({"AIHUB_NODE": "Über"}, "AIHUB_NODE must be lower-case letters"),
        ({"AIHUB_PUBLIC_URL": "backup.example.org"}, "AIHUB_PUBLIC_URL must be http(s)://host[:port]"),
        (
            {"AIHUB_DATABASE_URL": "mysql://u:tigerlily@h/d", "AIHUB_SECRET_KEY": SECRET, "AIHUB_APP_KEYS": KEY},
            "AIHUB_DATABASE_URL must begin with",
        ),
        ({"AIHUB_CACHE_URL": "memcache://h"}, "AIHUB_CACHE_URL must begin with"),
        ({"AIHUB_APP_KEYS": "tigerlily"}, "AIHUB_APP_KEYS: key 1 is not written as id:base64"),
        ({"AIHUB_APP_KEYS": "k1:***"}, "AIHUB_APP_KEYS: key 1 (“k1”) is not base64."),
        ({"AIHUB_APP_KEYS": "k1:AAAA"}, "AIHUB_APP_KEYS: key 1 (“k1”) has 3 bytes instead of 32."),
        ({"AIHUB_APP_KEYS": f"{KEY},{KEY}"}, "AIHUB_APP_KEYS: two keys have the same id."),
        (
            {"AIHUB_SECRET_KEY": "a", "AIHUB_SECRET_KEY_FILE": "/b"},
            "AIHUB_SECRET_KEY and AIHUB_SECRET_KEY_FILE are both set",
        ),
        ({"AIHUB_APP_KEYS_FILE": "/nowhere"}, "AIHUB_APP_KEYS_FILE names /nowhere, which cannot be read: No such file"),
        ({"AIHUB_LOG_LEVEL": "LOUD"}, "AIHUB_LOG_LEVEL must be one of"),
    ],
)
def test_a_bad_value_is_a_loud_sentence(tmp_path: Path, environment: dict[str, str], words: str) -> None:
    sentence = complaint(tmp_path, **environment)

    assert words in sentence
    assert "tigerlily" not in sentence


def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert "AIHUB_HOME: " in complaint(tmp_path / "file/home")


def test_the_files_that_the_file_of_variables_names_are_known(tmp_path: Path) -> None:
    """No source may read them, wherever they were named."""
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "env").write_text(f"AIHUB_SECRET_KEY_FILE={tmp_path}/secret\n")

    found = settings_of(tmp_path / "home", "AIHUB_VARIABLE_FILES", "SECRET_KEY", AIHUB_ENV_FILE=str(tmp_path / "env"))

    assert found["SECRET_KEY"] == SECRET
    assert str(tmp_path / "secret") in found["AIHUB_VARIABLE_FILES"]
