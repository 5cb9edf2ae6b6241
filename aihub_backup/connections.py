"""From the addresses of database, cache and broker to what Django and Celery want to know. Reads no variable itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from aihub_backup.core import redaction
from aihub_backup.home import database_file

# --- database -------------------------------------------------------------------------------------------------------


def database(url: str, *, home: Path, pool: int) -> dict[str, Any]:
    """Of AIHUB_DATABASE_URL; without one, SQLite in the home. `pool`: most connections of a process."""
    if (file := database_file(url, home)) is not None:
        return _sqlite(file, home)
    scheme, parts = url.partition(":")[0], urlsplit(url)
    if scheme not in ("postgres", "postgresql"):
        raise ImproperlyConfigured(f"AIHUB_DATABASE_URL must begin with postgres:// or sqlite:///, not {scheme}://.")
    redaction.remember([unquote(parts.password or "")])
    return _postgresql(url, pool)


def _sqlite(path: Path, home: Path) -> dict[str, Any]:
    """WAL with full sync: a job's state must survive a power cut. IMMEDIATE: writers wait instead of failing."""
    pragmas = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {"transaction_mode": "IMMEDIATE", "timeout": 20, "init_command": pragmas},
        "TEST": {"NAME": home / "test.sqlite3"},
    }


def _postgresql(url: str, most: int) -> dict[str, Any]:
    """A small psycopg pool in each process; TCP finds a dead server within a minute."""
    found: dict[str, Any] = dict(dj_database_url.parse(url))
    pool = {"min_size": 1, "max_size": most, "timeout": 15}
    tcp = {"connect_timeout": 5, "keepalives_idle": 30, "tcp_user_timeout": 30_000}
    options = {**tcp, **found.get("OPTIONS", {}), "pool": pool}
    return found | {"OPTIONS": options, "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True}


# --- cache ----------------------------------------------------------------------------------------------------------


def cache(url: str) -> dict[str, Any]:
    """Of AIHUB_CACHE_URL; without one, a table of the database."""
    if not url:
        return {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "aihub_cache"}
    if urlsplit(url).scheme not in ("redis", "rediss", "unix"):
        raise ImproperlyConfigured("AIHUB_CACHE_URL must begin with redis://, rediss:// or unix://.")
    # A cache that is down makes pages slower, never wrong: django-redis then answers "not there".
    limits = {"SOCKET_CONNECT_TIMEOUT": 2, "SOCKET_TIMEOUT": 2, "IGNORE_EXCEPTIONS": True}
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url, "OPTIONS": limits, "KEY_PREFIX": "aihub"}


# --- broker ---------------------------------------------------------------------------------------------------------


def broker(url: str) -> dict[str, Any]:
    """The transport's options for a server at AIHUB_BROKER_URL.

    A broker that is down is noticed soon: whoever rings may be a person's request. Workers wait on their own.
    """
    redaction.remember([unquote(urlsplit(url).password or "")])
    soon = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}
    if not url.startswith(("redis", "rediss", "sentinel")):
        return soon
    # Messages are acknowledged as soon as they are heard: what is still unheard after an hour was lost with its worker.
    line = {"socket_keepalive": True, "socket_timeout": 10, "health_check_interval": 25}
    return {**soon, **line, "visibility_timeout": 3600}


def file_broker(queue: Path, control: Path) -> dict[str, Any]:
    """Messages are files: what one side writes into `in` the other reads there too, so both folders are one."""
    folders = {"data_folder_in": str(queue), "data_folder_out": str(queue), "control_folder": str(control)}
    return {**folders, "polling_interval": 0.1}
