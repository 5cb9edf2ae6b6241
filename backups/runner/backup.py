"""The deed all others are for: a source's data into a repository."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aihub_backup.core.options import dump, secret_names
from aihub_backup.core.redaction import leaves, remember, scrub
from backups import engine
from backups.engine import rekey
from backups.engine.commit import must_be_proven
from backups.engine.errors import EngineError
from backups.engine.reserved import Reserved
from backups.kinds import STRATEGIES
from backups.runner import looking, places
from backups.runner.caller import Caller

ABANDONED_SECONDS = 24 * 3600.0  # an upload nobody has touched for so long has no writer any more
SWEEP_PATIENCE = 60.0  # seconds of retrying; it waits for the next run otherwise

log = logging.getLogger(__name__)


def strategy(spec: Mapping[str, Any], workdir: str) -> Any:
    """{"kind", "options", "reserved"} → the strategy, its secrets masked from here on. OptionsError."""
    plugin = STRATEGIES.load(spec["kind"])
    options = STRATEGIES.options(spec["kind"], spec["options"])
    values = dump(options)
    remember(leaves({name: values[name] for name in secret_names(type(options))}))
    made = plugin(options, Path(workdir))
    made.reserved = _reserved(spec.get("reserved", {}))
    return made


def _reserved(told: Mapping[str, Any]) -> Reserved:
    """{"paths", "identities": of [device, inode], "why"} as the services tell it."""
    identities = frozenset((device, inode) for device, inode in told.get("identities", ()))
    return Reserved(frozenset(told.get("paths", ())), identities, str(told.get("why", "")))


def test(job: Mapping[str, Any], _caller: Caller) -> dict[str, Any]:
    """{"source", "workdir"} → {}. Raises what keeps the source from being read, or from coming back."""
    source = strategy(job["source"], job["workdir"])
    source.check()
    source.check_way_back()
    return {}


def backup(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """One source into one snapshot.

    {"repository", "source", "workdir", "snapshot": id, "parents": ids to compare with, the best first, "mode",
    "facts", "options": {"codec", "level", "verify_every"}, "damaged": SHA-256 in hex of packs that are not to be relied
    on, "lease_epoch"} → what `looking.told` tells, with "leaves"
    and "stats". A snapshot of this id that is in the log already is the result, and nothing is done again.
    """
    repository = places.repository(job["repository"], recall=True)
    sweep(job["repository"]["store"])
    done = repository.log.live.get(str(job["snapshot"]))
    if done is not None:
        must_be_proven(repository, done)
    else:
        repository.log.must_be_ours()
        rekey.tidy(repository)
        done = _archive(repository, job, caller)
    return {**looking.told(done), "leaves": repository.anchors, "stats": done.facts.get("stats", {})}


def sweep(place: places.Spec) -> int:
    """Take away what killed writers left half written; how many those were. No backup fails because of it."""
    try:
        return places.store({**place, "patience": SWEEP_PATIENCE}).sweep(ABANDONED_SECONDS)
    except EngineError as error:
        log.warning("unfinished uploads could not be removed: %s", scrub(str(error)))
        return 0


def _archive(repository: engine.Repository, job: Mapping[str, Any], caller: Caller) -> engine.Snapshot:
    source = strategy(job["source"], job["workdir"])
    source.check()
    run = _Run(job, caller)
    archived = engine.archive(
        repository, source.capture(run.item), snapshot_id=str(job["snapshot"]),
        facts=lambda: run.facts(source.facts()), parent=_parent(repository, job["parents"]),
        options=_options(job),
        report=run.item, progress=run.progress, commit=lambda: caller.ask(snapshot=job["snapshot"]),
        lease_epoch=int(job["lease_epoch"]),
    )  # fmt: skip
    return archived.snapshot


def _options(job: Mapping[str, Any]) -> engine.Options:
    damaged = frozenset(map(bytes.fromhex, job.get("damaged", ())))
    return engine.Options(assume_unchanged=job["mode"] != "full", damaged=damaged, **job["options"])


def _parent(repository: engine.Repository, candidates: Iterable[str]) -> engine.Snapshot | None:
    """The first candidate that the repository still holds."""
    live = repository.log.live
    return next((live[name] for name in candidates if name in live), None)


class _Run:
    """Remembers the counts, so that the snapshot itself can tell them: a row that is lost is rebuilt from it.

    `as_of` (Unix seconds) is the beginning of the run: what changed later may be missing.
    """

    def __init__(self, job: Mapping[str, Any], caller: Caller) -> None:
        self._job, self._caller = job, caller
        self._stats, self._as_of = engine.Stats(), time.time()
        self._odd = {"warnings": 0, "errors": 0}  # of the scan and of the engine alike

    def item(self, item: engine.ItemError) -> None:
        self._odd["errors" if item.severity == "error" else "warnings"] += 1
        self._caller.item(item)

    def progress(self, stats: engine.Stats) -> None:
        self._stats = stats
        self._caller.progress({
            "phase": "reading", "bytes_done": stats.bytes, "bytes_total": stats.bytes_expected or None,
            "items_done": stats.items, "items_total": stats.items_expected or None,
            "bytes_stored": stats.bytes_stored, "current": scrub(stats.current), **self._odd,
        })  # fmt: skip

    def facts(self, captured: Mapping[str, Any]) -> dict[str, Any]:
        counts = {name: value for name, value in self._stats.pack().items() if name != "current"}
        told = {"captured": dict(captured), "stats": {**counts, **self._odd}, "as_of": self._as_of}
        return {**self._job["facts"], **told}
