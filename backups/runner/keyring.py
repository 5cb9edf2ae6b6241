"""Deeds about who holds a way into a repository, and about its keys. None of them asks before it writes: repeated, each
says the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backups import engine
from backups.engine import rekey
from backups.runner import places
from backups.runner.caller import Caller

Job = Mapping[str, Any]


def slots(job: Job, _caller: Caller) -> dict[str, Any]:
    """{"repository", "packs": count them?} → {"slots": [`told`], "epoch", "packs", "bytes": how many packs, and how
    large, are under older master keys, "leaves"}."""
    opened = places.repository(job["repository"])
    older = opened.outdated_packs() if job.get("packs") else []
    return {**_state(opened), "packs": len(older), "bytes": sum(pack.size for pack in older)}


def add(job: Job, _caller: Caller) -> dict[str, Any]:
    """{"repository", "slot": {"kind", "value", "label"}} → {"slot": `told`, …}."""
    opened, slot = places.repository(job["repository"]), job["slot"]
    return _done(opened, rekey.add(opened, places.secret(slot), str(slot["label"])))


def change(job: Job, _caller: Caller) -> dict[str, Any]:
    """{"repository", "old", "new": {"kind", "value"}} → {"slot": `told`, …}: the old secret opens no more."""
    opened = places.repository(job["repository"])
    return _done(opened, rekey.change(opened, places.secret(job["old"]), places.secret(job["new"])))


def remove(job: Job, _caller: Caller) -> dict[str, Any]:
    """{"repository", "handle"} → {"slot": `told`, of what is gone, …}."""
    opened = places.repository(job["repository"])
    return _done(opened, rekey.remove(opened, str(job["handle"])))


def rotate(job: Job, _caller: Caller) -> dict[str, Any]:
    """{"repository", "others": secrets of slots that cannot follow without} → {"epoch", …}."""
    opened = places.repository(job["repository"])
    rekey.rotate(opened, [places.secret(one) for one in job["others"]])
    return _state(opened)


def renew(job: Job, _caller: Caller) -> dict[str, Any]:
    """{"repository" with any secret, "own": is that our keyfile?, "keyfile": bytes, "label"} → {…}: the console opens
    it with this keyfile, and with its old one no more. Opened with somebody else's secret the old slot is known by its
    label; of several all stay."""
    opened = places.repository(job["repository"])
    own = places.secret({"kind": "keyfile", "value": job["keyfile"]})
    if job["own"]:
        if opened.secret != own:
            rekey.change(opened, opened.secret, own)
        return _state(opened)
    rekey.settle(opened)
    rekey.adopt(opened, own, str(job["label"]))
    old = [slot for slot in rekey.slots(opened) if _may_be_ours(slot, str(job["label"]))]
    if len(old) == 1:
        rekey.remove(opened, old[0].handle)
    return _state(opened)


def _may_be_ours(slot: rekey.Slot, label: str) -> bool:
    return slot.kind == "keyfile" and slot.label == label and not slot.writer


def _done(opened: engine.Repository, slot: rekey.Slot) -> dict[str, Any]:
    return {**_state(opened), "slot": told(slot)}


def _state(opened: engine.Repository) -> dict[str, Any]:
    found = [told(slot) for slot in rekey.slots(opened)]
    return {"slots": found, "epoch": opened.ring.epoch, "leaves": opened.anchors}


def told(slot: rekey.Slot) -> dict[str, Any]:
    """A slot, without secrets."""
    names = ("handle", "kind", "label", "created", "works", "opened", "writer", "follows")
    return {name: getattr(slot, name) for name in names}
