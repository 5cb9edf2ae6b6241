"""Deeds of a console that has lost its rows, or never had them: the repository's log tells them again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from backups import engine
from backups.engine import rekey
from backups.engine.log import ADOPT, Read
from backups.runner import places
from backups.runner.caller import Caller
from backups.runner.looking import told

BATCH_ROWS = 500
DAMAGE_TOLD = 50  # of the records that cannot be read

Facts = Mapping[str, Any]


def survey(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"repository"} → {"id", "created", "newest": {"time", "writer"} or None, "slot": of the secret that opened it,
    "facts": the repository's own words about itself}. Writes nothing."""
    opened = places.repository(job["repository"])
    newest = max(opened.log.live.values(), key=lambda one: one.time, default=None)
    facts = newest.facts.get("repository", {}) if newest else {}
    return {
        "id": opened.config.id.hex(), "created": opened.config.created, "newest": _last_word(opened),
        "slot": opened.slot, "facts": dict(facts),
    }  # fmt: skip


def _last_word(opened: engine.Repository) -> dict[str, Any] | None:
    """When the newest record was written, and by which console; one that adopts says its new slot in the body."""
    last = opened.log.newest
    if last is None:
        return None
    slot = last.body.get("slot") if last.kind == ADOPT else last.writer.get("slot")
    return {"time": last.time, "writer": {**last.writer, "slot": slot or ""}}


def enrol(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"repository" with the known secret, "keyfile": bytes, "label"} → {"leaves"}: a key slot for the console's
    keyfile, and the record that says so. Does not ask: written twice it says the same."""
    opened = places.repository(job["repository"])
    own = places.secret({"kind": "keyfile", "value": job["keyfile"]})
    rekey.adopt(opened, own, str(job["label"]))
    return {"leaves": opened.anchors}


def adopt(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """{"repository"} → rows, then {"points", "passed_over", "damaged": sentences, "damaged_count", "leaves"}.

    Rows come in batches of one kind each: {"is": "policy" | "source", …its newest facts…}, then {"is": "point", …what
    `looking.told` tells…, "forgotten_at", "hold", "absent"}, oldest first, then {"is": "gone", "id"}.
    """
    opened = places.repository(job["repository"], _telling(caller))
    log = opened.log
    points = sorted(_points(log), key=lambda point: (point.snapshot.time, point.snapshot.id))
    ours = [point for point in points if _of_a_console(point.snapshot.facts)]
    newest = [point.snapshot.facts for point in reversed(ours)]
    _tell(caller, "policy", _once(newest, _policies))
    _tell(caller, "source", _once(newest, lambda facts: [facts["source"]]))
    _tell_points(caller, ours, log)
    _tell(caller, "gone", ({"id": name} for name in sorted(log.gone)))
    damaged = [*map(str, log.damaged), *(f"Object {name} is missing." for name in sorted(log.missing))]
    return {
        "points": sum(point.forgotten_at is None for point in ours), "passed_over": len(points) - len(ours),
        "damaged": damaged[:DAMAGE_TOLD], "damaged_count": len(damaged), "leaves": opened.anchors,
    }  # fmt: skip


class _Point(NamedTuple):
    """A recovery point; one that was forgotten tells when (Unix seconds)."""

    snapshot: engine.Snapshot
    forgotten_at: float | None


def _points(log: Any) -> Iterator[_Point]:
    for snapshot in log.live.values():
        yield _Point(snapshot, None)
    for snapshot, when in log.forgotten.values():
        yield _Point(snapshot, when)


def _of_a_console(facts: Facts) -> bool:
    """The command line writes snapshots too; they belong to no backup and no source."""
    return all(isinstance(facts.get(name), dict) and facts[name].get("id") for name in ("source", "backup"))


# --- telling --------------------------------------------------------------------------------------------------------


def _telling(caller: Caller) -> Any:
    def reading(read: Read) -> None:
        caller.progress({
            "phase": "reading the log", "bytes_done": read.bytes, "bytes_total": read.bytes_expected,
            "log_records": read.records, "log_bytes": read.bytes,
        })  # fmt: skip

    return reading


def _once(facts: Iterable[Facts], of: Any) -> Iterator[Facts]:
    """Each thing that the facts speak of, as the first of them tells it."""
    seen: set[str] = set()
    for one in facts:
        for found in of(one):
            if found["id"] not in seen:
                seen.add(found["id"])
                yield found


def _policies(facts: Facts) -> list[Facts]:
    told = (facts["backup"].get("promise"), facts["source"].get("promise"))
    return [one for one in told if one and one.get("id")]


def _tell(caller: Caller, kind: str, rows: Iterable[Facts]) -> None:
    batch: list[Facts] = []
    for row in rows:
        batch.append({"is": kind, **row})
        if len(batch) == BATCH_ROWS:
            caller.rows(batch)
            batch = []
    if batch:
        caller.rows(batch)


def _tell_points(caller: Caller, points: list[_Point], log: Any) -> None:
    absent = _absent(points, log)
    for start in range(0, len(points), BATCH_ROWS):
        batch = points[start : start + BATCH_ROWS]
        caller.progress({
            "phase": "writing rows", "bytes_done": None, "bytes_total": None, "items_done": start,
            "items_total": len(points),
        })  # fmt: skip
        _tell(caller, "point", (_point(point, log.holds, absent) for point in batch))


def _point(point: _Point, holds: Mapping[str, Facts], absent: dict[str, list[Facts]]) -> Facts:
    backup = str(point.snapshot.facts["backup"]["id"])
    return {
        **told(point.snapshot), "forgotten_at": point.forgotten_at, "hold": holds.get(backup),
        "absent": absent.pop(backup, []),
    }  # fmt: skip


def _absent(points: Iterable[_Point], log: Any) -> dict[str, list[Facts]]:
    """Of each backup the parts that it should have had in this repository and that nothing is known of: they failed,
    or were never made. They are what makes a recovery set partial."""
    there = {point.snapshot.id for point in points} | set(log.gone)
    backups = {point.snapshot.facts["backup"]["id"]: point.snapshot.facts for point in points}
    return {str(name): found for name, facts in backups.items() if (found := _lacking(facts, there))}


def _lacking(facts: Facts, there: set[str]) -> list[Facts]:
    repository = facts.get("repository", {}).get("id")
    parts = facts["backup"].get("parts", ())
    return [part for part in parts if part["repository"] == repository and part["id"] not in there]
