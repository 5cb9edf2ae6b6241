"""Giving back the space of what was forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backups import engine
from backups.engine.compaction import Ripe, aged
from backups.engine.errors import LostLease
from backups.engine.marks import Named
from backups.runner import places
from backups.runner.caller import Caller

POLL = 1.0  # seconds between questions whether the others have ended


def preview(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """{"repository", "options": of engine.CompactOptions, "damaged": SHA-256 of packs in hex} → engine.Plan.pack()."""
    opened = places.repository(job["repository"])
    return engine.preview(opened, _options(job), lambda done: caller.progress(_progress(done))).pack()


def compact(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """What `preview` takes, and {"ended": marks whose writers have all ended, "held": marks that are not to be touched,
    "patience": seconds to wait for those who are at work} → engine.Compacted.pack() with "leaves".

    Asks "holding" before each step that deletes; "ended" (with "marks": names of the new ones, in the first question)
    whether everybody who was at work at the first question has come to an end.
    """
    opened = places.repository(job["repository"])
    opened.log.must_be_ours()
    options = _options(job)
    done = engine.compact(
        opened, options, wait=_waiting(caller, float(job["patience"])), ripe=_ripe(job, options),
        holding=_holding(caller), report=caller.item, progress=lambda now: caller.progress(_progress(now)),
    )  # fmt: skip
    return {**done.pack(), "leaves": opened.anchors}


def _options(job: Mapping[str, Any]) -> engine.CompactOptions:
    damaged = frozenset(map(bytes.fromhex, job.get("damaged", ())))
    return engine.CompactOptions(damaged=damaged, **job["options"])


def _ripe(job: Mapping[str, Any], options: engine.CompactOptions) -> Ripe:
    """Marks nobody knows anything of, those of command lines among them, have to be a day old."""
    ended, held = set(job["ended"]), set(job["held"])

    def ripe(name: str, named: Named) -> bool:
        return name not in held and (aged(named, options) or (name in ended and not named.orphans))

    return ripe


def _waiting(caller: Caller, patience: float) -> Callable[[Sequence[str]], bool]:
    def wait(marks: Sequence[str]) -> bool:
        until = time.monotonic() + patience
        while not caller.question("ended", marks=list(marks)):
            if time.monotonic() >= until:
                return False
            time.sleep(POLL)
        return True

    return wait


def _holding(caller: Caller) -> Callable[[], None]:
    def holding() -> None:
        if not caller.question("holding"):
            raise LostLease("The lease of this job was lost; another compaction may be at work.")

    return holding


def _progress(done: engine.Compacted) -> dict[str, Any]:
    """Objects where objects are looked at or deleted, bytes where bytes are carried."""
    unit = "bytes" if done.phase == "compacting" else "items"
    other = "items" if unit == "bytes" else "bytes"
    return {
        "phase": done.phase, f"{unit}_done": done.done, f"{unit}_total": done.expected or None,
        f"{other}_done": None, f"{other}_total": None,
    }  # fmt: skip
