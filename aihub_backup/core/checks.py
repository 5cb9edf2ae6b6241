"""System checks with ids, run by `manage.py check`: E… stops the console, W… is worth a look.

E001 application key missing · E002 SQLite on a network file system · E003 AIHUB_HOME not writable · E004 no Argon2id ·
E005 job timings out of order · E006 job handler not importable · E010 SecretsField without an early primary key ·
W001 key file readable by others · W002 SQLite in production · W003 plain HTTP beyond this host (--deploy)
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, register

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "fuse.sshfs",
        "fuse.glusterfs",
        "fuse.s3fs",
    }
)
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@register(Tags.security)
def keys_are_there(**_facts: Any) -> list[CheckMessage]:
    """E001, W001."""
    return [*_missing_key(), *_open_key_files()]


@register(Tags.database)
def database_lies_well(**_facts: Any) -> list[CheckMessage]:
    """E002, W002."""
    if "sqlite" not in settings.DATABASES["default"]["ENGINE"]:
        return []
    return [*_remote_sqlite(), *_sqlite_in_production()]


@register(Tags.files)
def home_is_writable(**_facts: Any) -> list[CheckMessage]:
    """E003."""
    if os.access(settings.AIHUB_HOME, os.W_OK | os.X_OK):
        return []
    return [Error(f"AIHUB_HOME {settings.AIHUB_HOME} is not writable.", "Give it to this user.", id="aihub.E003")]


@register(Tags.security)
def argon2id_is_there(**_facts: Any) -> list[CheckMessage]:
    """E004: repository passphrases are stretched with it."""
    try:
        _try_argon2id()
    except Exception as error:  # the binding tells its absence in several ways
        hint = "Use the cryptography wheel from PyPI, which brings its own OpenSSL 3.2 or newer."
        return [Error(f"Argon2id is not available ({type(error).__name__}).", hint, id="aihub.E004")]
    return []


@register()
def job_timings_are_in_order(**_facts: Any) -> list[CheckMessage]:
    """E005: a holder must give up on its own before anybody may take its job."""
    tick, beat = settings.AIHUB_JOB_TICK_SECONDS, settings.AIHUB_JOB_HEARTBEAT_SECONDS
    fence, lease = settings.AIHUB_JOB_FENCE_SECONDS, settings.AIHUB_JOB_LEASE_SECONDS
    if tick <= beat < fence < lease:
        return []
    found = f"tick {tick:g} ≤ heartbeat {beat:g} < fence {fence:g} < lease {lease:g} does not hold"
    return [Error(f"The job timings are out of order: {found}.", "Set AIHUB_JOB_…_SECONDS.", id="aihub.E005")]


@register()
def job_handlers_load(**_facts: Any) -> list[CheckMessage]:
    """E006."""
    from aihub_backup.core import jobs
    from aihub_backup.core.failures import Failure

    found: list[CheckMessage] = []
    for kind in jobs.kinds():
        try:
            jobs.handler_for(kind)
        except Failure as failure:
            found.append(Error(str(failure), id="aihub.E006"))
    return found


@register(Tags.security, deploy=True)
def public_address_is_safe(**_facts: Any) -> list[CheckMessage]:
    """W003."""
    address = urlsplit(settings.AIHUB_PUBLIC_URL)
    if address.scheme == "https" or address.hostname in LOOPBACK:
        return []
    hint = "Put a TLS proxy before the console and set AIHUB_PUBLIC_URL to its https:// address."
    return [
        checks.Warning(f"The console is reached in the clear at {settings.AIHUB_PUBLIC_URL}.", hint, id="aihub.W003")
    ]


def file_system_of(path: Path) -> str:
    """The type of the file system that holds the path ("ext4", "nfs4", …); empty when it cannot be told."""
    best, found = -1, ""
    for mount, kind in _mounts():
        inside = str(path) == mount or str(path).startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= best:  # the later of two equal ones lies on top
            best, found = len(mount), kind
    return found


def _mounts() -> Iterator[tuple[str, str]]:
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        before, _, after = line.partition(" - ")
        mount = before.split()[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="replace")
        yield mount, after.split()[0]


def _missing_key() -> Iterator[CheckMessage]:
    if settings.AIHUB_APP_KEYS:
        return
    hint = f"Put the lost key back at {settings.AIHUB_APP_KEYS_PATH}; what it sealed cannot be read without it."
    yield Error("There is no application key, so stored secrets cannot be read or written.", hint, id="aihub.E001")


def _open_key_files() -> Iterator[CheckMessage]:
    named = (os.environ.get(name, "") for name in ("AIHUB_APP_KEYS_FILE", "AIHUB_SECRET_KEY_FILE"))
    own = (settings.AIHUB_HOME / "keys").glob("*")
    for path in [*(Path(name) for name in named if name), *own]:
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield checks.Warning(f"The key file {path} is open to other users.", f"chmod 600 {path}", id="aihub.W001")


def _remote_sqlite() -> Iterator[CheckMessage]:
    path = Path(settings.DATABASES["default"]["NAME"])
    kind = file_system_of(path.parent.resolve())
    if kind in NETWORK_FILE_SYSTEMS:
        hint = "Its locks do not hold there and the file would be damaged. Use a local disk, or PostgreSQL."
        yield Error(f"The SQLite database {path} lies on a network file system ({kind}).", hint, id="aihub.E002")


def _sqlite_in_production() -> Iterator[CheckMessage]:
    if not settings.EMBEDDED:
        hint = "Workers on other hosts cannot reach it: set AIHUB_DATABASE_URL=postgres://…"
        yield checks.Warning("Production mode runs on SQLite.", hint, id="aihub.W002")


def _try_argon2id() -> None:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

    Argon2id(salt=b"\0" * 16, length=32, iterations=1, lanes=1, memory_cost=64).derive(b"probe")
