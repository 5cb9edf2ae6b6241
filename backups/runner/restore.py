"""A snapshot, or parts of it, back into files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backups import engine
from backups.engine.patterns import PathFilter
from backups.runner import holding, places
from backups.runner.caller import Caller


def restore(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """{"repository", "snapshot", "target": absolute bytes, "base": bytes, "include", "exclude": patterns, "options":
    {"preserve_owner", "privileges", "leave"}, "stage": see `holding.target`} → the counts of `engine.Restored.pack()`
    with "leaves".

    The target is empty or does not exist; the caller gives a place of its own (a stage), and decides what becomes of
    it: a restore that was ended in the middle leaves a part of the tree there, and with the option "leave" all that the
    same restore needs to go on.
    """
    opened = places.repository(job["repository"])
    with holding.target(job) as target:
        done = engine.restore(
            opened, opened.log.snapshot(str(job["snapshot"])), target, base=job.get("base", b""),
            select=selection(job), options=engine.RestoreOptions(**job.get("options", {})), report=caller.item,
            progress=lambda counts: caller.progress(_progress(counts)),
        )  # fmt: skip
    return {**done.pack(), "leaves": opened.anchors}


def selection(job: Mapping[str, Any]) -> PathFilter | None:
    """Which entries are meant; None: all of them."""
    include, exclude = job.get("include", ()), job.get("exclude", ())
    return PathFilter(include, exclude) if include or exclude else None


def _progress(done: engine.Restored) -> dict[str, Any]:
    return {
        "phase": "restoring", "bytes_done": done.bytes, "bytes_total": done.bytes_expected,
        "bytes_kept": done.kept, "items_done": done.items, "items_total": done.items_expected, "current": done.current,
    }  # fmt: skip
