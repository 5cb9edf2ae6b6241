"""Deeds that read a repository."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from backups import engine
from backups.engine.commit import proven
from backups.engine.entry import sort_key
from backups.engine.patterns import Excludes
from backups.runner import places
from backups.runner.caller import Caller

BATCH_ROWS = 500
PATHS_TOLD = 20  # of the files one damaged object harms


def find(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"repository", "snapshot": id} → {"found": bool, "leaves", and of a found one what `told` tells}.

    One that a compaction may have overtaken is found only if it is whole.
    """
    opened = places.repository(job["repository"])
    snapshot = opened.log.live.get(str(job["snapshot"]))
    if snapshot and not proven(opened, snapshot):
        snapshot = None
    facts = told(snapshot) if snapshot else {}
    return {"found": snapshot is not None, "leaves": opened.anchors, **facts}


def told(snapshot: engine.Snapshot) -> dict[str, Any]:
    """What the caller keeps of a snapshot: {"snapshot", "record", "time", "parent", "items", "size", "facts"}.

    items: those that a recovery of all of it brings back, so that both tell the same number
    """
    return {
        "snapshot": snapshot.id, "record": snapshot.record, "time": snapshot.time, "parent": snapshot.parent,
        "items": snapshot.entries - _above(snapshot.facts), "size": snapshot.size, "facts": dict(snapshot.facts),
    }  # fmt: skip


def _above(facts: Mapping[str, Any]) -> int:
    """How many directories above what was captured the snapshot holds, the root of all among them."""
    base = str(facts.get("captured", {}).get("base", "")).strip("/")
    return len(base.split("/")) if base else 0


def verify(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """{"repository", "snapshots": [ids], "level"} → {"objects", "bytes", "problems": count, "damaged": SHA-256 of every
    damaged pack as hex, "leaves"}."""
    opened = places.repository(job["repository"])
    snapshots = [opened.log.snapshot(str(name)) for name in job["snapshots"]]

    def progress(done: engine.Checked) -> None:
        caller.progress({
            "phase": "verifying", "bytes_done": done.bytes, "bytes_total": done.bytes_expected or None,
            "objects_done": done.objects,
        })  # fmt: skip

    done = engine.check(
        opened, int(job["level"]), snapshots=snapshots, progress=progress,
        report=lambda problem: caller.problem(problem_told(problem)),
    )  # fmt: skip
    caller.check()
    return {
        "objects": done.objects, "bytes": done.bytes, "problems": len(done.problems),
        "damaged": digests_told(done.damaged_packs), "leaves": opened.anchors,
    }  # fmt: skip


def digests_told(digests: Iterable[bytes]) -> list[str]:
    """All of them, as hex: what a list of problems stops short of."""
    return sorted(digest.hex() for digest in digests)


def problem_told(problem: engine.Problem) -> dict[str, Any]:
    """Damage, and the first of what it harms."""
    paths, snapshots = list(problem.paths), list(problem.snapshots)
    return {
        "object": problem.object, "message": problem.message, "snapshots": snapshots,
        "paths": paths[:PATHS_TOLD], "paths_count": problem.paths_count,
    }  # fmt: skip


def entries(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """{"repository", "snapshot", "below", "depth", "after", "match", "limit"} → rows, then {"more": bool}."""
    opened = places.repository(job["repository"])
    snapshot = opened.log.snapshot(str(job["snapshot"]))
    found = _wanted(engine.entries(opened, snapshot, job["below"]), job)
    return {"more": _tell(map(row, found), int(job["limit"]), caller)}


def _wanted(found: Iterable[engine.Entry], job: Mapping[str, Any]) -> Iterator[engine.Entry]:
    below, depth = job["below"], int(job["depth"])
    after, match = sort_key(job["after"]), Excludes([job["match"]]) if job.get("match") else None
    start = below.count(b"/") + 1 if below else 0
    for entry in found:
        if entry.path == below or (job["after"] and entry.key <= after):
            continue
        if depth and entry.path.count(b"/") + 1 > start + depth:
            continue
        if match is None or match.match(entry.path, entry.kind is engine.Kind.DIRECTORY):
            yield entry


def diff(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """{"repository", "before", "after", "limit"} → rows {"kind", "path", "before", "after"}, then {"more": bool}."""
    opened = places.repository(job["repository"])
    before, after = (opened.log.snapshot(str(job[name])) for name in ("before", "after"))
    changes = engine.diff_with_moves(opened, before, after)
    return {"more": _tell(map(_change, changes), int(job["limit"]), caller)}


def _change(change: engine.Change) -> dict[str, Any]:
    before, after = (row(entry) if entry else None for entry in (change.before, change.after))
    return {"kind": str(change.kind), "path": change.path, "before": before, "after": after}


def search(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """{"repository", "snapshots": ids, the oldest first, "wanted": a path as bytes or a pattern as text, "limit"} →
    rows {"path", "versions": [what `row` tells, with "content" and "snapshots": ids]}, then {"more": bool}."""
    opened = places.repository(job["repository"])
    live = opened.log.live
    chosen = [live[str(name)] for name in job["snapshots"] if str(name) in live]
    caller.check()
    return {"more": _tell(map(_found, engine.find(opened, job["wanted"], chosen)), int(job["limit"]), caller)}


def _found(found: engine.Found) -> dict[str, Any]:
    versions = [
        {**row(version.entry), "content": version.id, "snapshots": list(version.snapshots)}
        for version in found.versions
    ]
    return {"path": found.path, "versions": versions}


def row(entry: engine.Entry) -> dict[str, Any]:
    """An entry as a row of a listing."""
    return {
        "path": entry.path, "kind": entry.kind.name.lower(), "mode": entry.mode, "uid": entry.uid, "gid": entry.gid,
        "user": entry.user, "group": entry.group, "mtime_ns": entry.mtime_ns, "size": entry.size,
        "target": entry.target, "notes": int(entry.notes),
    }  # fmt: skip


def _tell(rows: Iterator[Mapping[str, Any]], limit: int, caller: Caller) -> bool:
    """Send up to `limit` rows in batches; True when there would be more."""
    batch: list[Mapping[str, Any]] = []
    for count, one in enumerate(rows):
        if count == limit:
            caller.rows(batch)
            return True
        batch.append(one)
        if len(batch) == BATCH_ROWS:
            caller.rows(batch)
            batch = []
    caller.rows(batch)
    return False
