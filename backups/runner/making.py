"""Deeds that prepare places and repositories, or write only to a repository's log."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from aihub_backup.core.redaction import remember
from backups import engine
from backups.engine import console
from backups.engine.errors import EngineError, RepositoryExists, StoreReadOnly, WrongSecret
from backups.engine.stores.retrying import RetryingStore
from backups.runner import places
from backups.runner.caller import Caller

_PROBE = b"AI Hub Backup was here to see whether this place keeps what it is given."


def probe(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"store", "create": make the place ready first?} → {"place", "capabilities"}. Writes, reads, lists and deletes
    one small object."""
    store = places.store(job["store"])
    if job.get("create"):
        store.create()
    if not store.capabilities().writable:
        raise StoreReadOnly(f"{store.describe()} is read-only; make it writable or choose another place.")
    _round_trip(store, f"probe/{secrets.token_hex(16)}")
    learned = store.capabilities()  # once more: of some places only writing tells what they can do
    return {"place": store.describe(), "capabilities": asdict(learned)}


def _round_trip(store: RetryingStore, name: str) -> None:
    try:
        store.put(name, _PROBE)
        if store.get(name) != _PROBE or name not in [info.name for info in store.list("probe/")]:
            raise EngineError(f"{store.describe()} does not give back what was written to it; do not use it.")
    finally:
        with suppress(EngineError):  # the first error is the one to tell
            store.delete(name)


def init(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"store", "slots": [{"kind", "value", "label"}], "cache", "console"} → {"id", "place", "leaves"}.

    The first slot is our own: where an earlier attempt got through, it opens the repository and that is the result.
    """
    store = places.store(job["store"])
    slots = [(places.secret(slot), str(slot["label"])) for slot in job["slots"]]
    try:
        made = engine.Repository.create(store, slots, cache=places.cache(job), console=job["console"])
    except RepositoryExists as exists:
        made = _made_before(store, slots[0][0], job, exists)
    return {"id": made.config.id.hex(), "place": store.describe(), "leaves": made.anchors}


def _made_before(
    store: RetryingStore, own: engine.Secret, job: Mapping[str, Any], exists: RepositoryExists
) -> engine.Repository:
    try:
        return engine.Repository.open(store, own, cache=places.cache(job), console=job["console"])
    except WrongSecret:
        raise exists from None


def unlock(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"repository"} with the secret to be proven → {"id", "leaves"}."""
    opened = places.repository(job["repository"])
    return {"id": opened.config.id.hex(), "leaves": opened.anchors}


def forget(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """{"repository", "snapshots": [ids], "reason"} → {"forgotten": [ids], "leaves"}. Asks before it writes."""
    opened = places.repository(job["repository"])
    live = [name for name in job["snapshots"] if name in opened.log.live]
    caller.ask(snapshots=live)
    if live:
        opened.log.append("forget", {"forget": live, "reason": str(job.get("reason", ""))})
        opened.remember_leaves()
    return {"forgotten": live, "leaves": opened.anchors}


def hold(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"repository", "holds": {id of a backup: {"until": Unix seconds or None, "reason"}}} → {"leaves"}: the last word
    about holds is in the log. Does not ask: written twice it says the same, and what is there is not written again."""
    opened = places.repository(job["repository"])
    fresh = {name: told for name, told in job["holds"].items() if opened.log.holds.get(name) != told}
    if fresh:
        opened.log.append("hold", {"holds": fresh})
        opened.remember_leaves()
    return {"leaves": opened.anchors}


def seal(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"repository", "files": {name: bytes}} → {"record", "time", "leaves"}: the console's keys are in the log.

    Does not ask: written twice it says the same, and what is there already is not written again.
    """
    files: Mapping[str, bytes] = job["files"]
    remember(part for content in files.values() for part in re.split(rb"[,:\s]+", content))
    opened = places.repository(job["repository"])
    sealed = console.seal(opened, files, str(job["repository"]["console"]))
    return {"record": sealed.record, "time": sealed.time, "leaves": opened.anchors}
