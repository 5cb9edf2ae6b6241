"""The deed that repairs a repository."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backups import engine
from backups.engine.repair import ADDED, REPLACED
from backups.runner import places
from backups.runner.caller import MOST_ITEMS, Caller
from backups.runner.looking import digests_told, problem_told


def repair(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """{"repository", "copies": [stores], "anchors", "preview": nothing is written} → {"deeds": the first MOST_ITEMS,
    "deeds_count", "objects", "bytes": of the right objects from copies, "problems": the first ones, "problems_count",
    "damaged": SHA-256 of every pack that stays damaged as hex, "orphans": how many, "set_aside": how many, "returned",
    "forgotten": ids of snapshots, "snapshots", "leaves"}."""
    spec = job["repository"]

    def progress(phase: str, done: engine.Repaired) -> None:
        caller.progress({
            "phase": phase, "bytes_done": done.bytes_read, "bytes_total": done.bytes_expected or None,
            "objects_done": len(done.deeds),
        })  # fmt: skip

    done = engine.repair(
        places.store(spec["store"]), places.secret(spec["secret"]), [places.store(one) for one in job["copies"]],
        dry_run=bool(job["preview"]), expected=str(spec["id"]), anchors=job["anchors"], progress=progress,
    )  # fmt: skip
    return _told(done)


def _told(done: engine.Repaired) -> dict[str, Any]:
    taken = [deed for deed in done.deeds if deed.what in (ADDED, REPLACED)]
    return {
        "deeds": [deed._asdict() for deed in done.deeds[:MOST_ITEMS]], "deeds_count": len(done.deeds),
        "objects": len(taken), "bytes": done.bytes_copied, "bytes_read": done.bytes_read,
        "problems": [problem_told(one) for one in done.problems[:MOST_ITEMS]], "problems_count": len(done.problems),
        "damaged": digests_told(done.damaged_packs), "orphans": len(done.orphans), "set_aside": len(done.set_aside),
        "returned": done.returned, "forgotten": done.forgotten, "snapshots": done.snapshots, "leaves": done.leaves,
    }  # fmt: skip
