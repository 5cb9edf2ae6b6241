"""Is what was restored what was captured? Everything is read back, then the strategy looks at what it is."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from backups import engine
from backups.engine.content import units
from backups.engine.disk import DiskTree, printable, reason
from backups.kinds import STRATEGIES
from backups.runner import holding, places, restore
from backups.runner.caller import Caller

BLOCK = 1 << 20
MOST_TOLD = 5  # wrong paths named in one finding; the counts are of all

_FORMATS = {
    engine.Kind.FILE: stat.S_IFREG, engine.Kind.DIRECTORY: stat.S_IFDIR, engine.Kind.SYMLINK: stat.S_IFLNK,
    engine.Kind.FIFO: stat.S_IFIFO, engine.Kind.CHARACTER: stat.S_IFCHR, engine.Kind.BLOCK: stat.S_IFBLK,
}  # fmt: skip


def validate(job: Mapping[str, Any], caller: Caller) -> dict[str, Any]:
    """{"repository", "snapshot", "target", "base", "include", "exclude", "lost": number of items that were reported
    as not restored, "bytes": to be read, "whole": nothing was left out, "kind" of the source, "facts": told at
    the capture, "stage": see `holding.target`} → {"findings": [{"check", "passed", "detail", …}]}."""
    opened = places.repository(job["repository"])
    with holding.target(job) as target:
        findings = [_Reading(opened, {**job, "target": target}, caller).finding()]
        if job.get("whole") and not job["lost"]:
            findings += _by_strategy(job, target)
    return {"findings": findings}


def _by_strategy(job: Mapping[str, Any], target: bytes) -> list[dict[str, Any]]:
    """What the strategy itself finds: databases are opened and counted, for example."""
    found = STRATEGIES.load(job["kind"]).validate(os.fsdecode(target), job["facts"])
    return [dict(finding) for finding in found]


class _Reading:
    """Compares every entry of the snapshot that was chosen with what stands in the target."""

    def __init__(self, repository: engine.Repository, job: Mapping[str, Any], caller: Caller) -> None:
        self._repository, self._job, self._caller = repository, job, caller
        self._base: bytes = job.get("base", b"")
        self._wrong: list[str] = []
        self._wrong_count = self._missing = self._files = self._items = self._bytes = self._told = 0

    def finding(self) -> dict[str, Any]:
        """{"check", "passed", "detail", "counts": {"files", "bytes", "missing"}} of the whole comparison."""
        tree = DiskTree(self._job["target"])
        try:
            for entry in self._entries():
                self._compare(tree, entry)
        finally:
            tree.close()
        passed = not self._wrong_count and self._missing <= self._job["lost"]
        counts = {"files": self._files, "bytes": self._bytes, "missing": self._missing}
        return {"check": "read back", "passed": passed, "detail": self._detail(passed), "counts": counts}

    def _detail(self, passed: bool) -> str:
        if passed:
            without = f" {self._missing} items, reported as not restored, are not there." if self._missing else ""
            return f"{self._files} files, {self._bytes} bytes, have the SHA-256 that was recorded.{without}"
        told = f"{self._wrong_count} items are not as recorded and {self._missing} are missing"
        return f"{told}: {' '.join(self._wrong)}"

    def _entries(self) -> Iterator[engine.Entry]:
        snapshot = self._repository.log.snapshot(str(self._job["snapshot"]))
        found = engine.entries(self._repository, snapshot, self._base)
        select = restore.selection(self._job)
        root: bytes | None = None
        for entry in select.select(found) if select else found:
            if root is None:  # a base that is a single file stands under its own name in the target
                root = entry.path if entry.kind is engine.Kind.DIRECTORY else entry.path.rpartition(b"/")[0]
            entry.path = entry.path[len(root) + 1 if root else 0 :]
            yield entry

    def _compare(self, tree: DiskTree, entry: engine.Entry) -> None:
        self._items += 1
        self._tick()
        try:
            why = self._difference(tree, entry)
        except (FileNotFoundError, NotADirectoryError):
            self._missing += 1
            return
        except OSError as error:
            why = reason(error)
        if why:
            self._wrong_count += 1
            if len(self._wrong) < MOST_TOLD:
                self._wrong.append(f"{printable(entry.path) or '.'} ({why}).")

    def _difference(self, tree: DiskTree, entry: engine.Entry) -> str:
        found = tree.lstat(entry.path)
        if stat.S_IFMT(found.st_mode) != _FORMATS[entry.kind]:
            return "another kind of thing"
        if entry.kind is engine.Kind.SYMLINK:
            return "" if tree.readlink(entry.path) == entry.target else "another target"
        if entry.kind is not engine.Kind.FILE:
            return ""
        if found.st_size != entry.size:
            return f"{found.st_size} bytes instead of {entry.size}"
        with tree.opened(entry.path) as fd:
            return "" if self._same_content(fd, entry) else "other content"

    def _same_content(self, fd: int, entry: engine.Entry) -> bool:
        self._files += 1
        for unit in units(entry.content or b"", entry.size, self._repository.load_blob):
            if _sha256(fd, unit.offset, unit.length) != unit.sha256:
                return False
            self._bytes += unit.length
            self._tick()
        return True

    def _tick(self) -> None:
        if self._items % 256 == 0 or self._bytes - self._told >= BLOCK:
            self._told = self._bytes
            done = {"bytes_done": self._bytes, "bytes_total": self._job.get("bytes"), "items_done": self._items}
            self._caller.progress({"phase": "validating", **done})


def _sha256(fd: int, offset: int, length: int) -> bytes:
    digest, end = hashlib.sha256(), offset + length
    while offset < end:
        data = os.pread(fd, min(BLOCK, end - offset), offset)
        if not data:
            break
        digest.update(data)
        offset += len(data)
    return digest.digest()
