"""What a worker process does for a restore: fetch frames, open and prove them, write the files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from backups.engine import format as fmt
from backups.engine import tree
from backups.engine.content import WHOLE, units
from backups.engine.entry import Blob, Entry, Unit
from backups.engine.errors import EngineError, ObjectDamaged, StoreRefused, TargetError
from backups.engine.extract import DirectoryWriter, FileWriter
from backups.engine.index import Location
from backups.engine.repository import Repository
from backups.engine.workers import Emit, Task

GAP = 256 << 10  # frames this close together are fetched with one request, bytes
FETCH = 8 << 20  # of one request at most


class RestoreWorker:
    """Writes files. Results: {files, failed: [[path, sentence]]}; bytes are emitted as they are written."""

    def __init__(self, repository: Repository, writer: DirectoryWriter, emit: Emit, *, forked: bool) -> None:
        if forked:
            repository.forked()
            writer.report = lambda item: emit("item", list(item))
        self._repository, self._writer, self._emit = repository, writer, emit

    def do(self, task: Task) -> dict[str, Any]:
        verb, page = task
        entries = list(tree.decode_page(page))
        return self._small(entries) if verb == "small" else self._large(entries)

    def finish(self) -> None:
        """Nothing is held back."""

    # files that are one blob

    def _small(self, entries: list[Entry]) -> dict[str, Any]:
        located = [(self._repository.index.locate(_blob_of(e)), e) for e in entries]
        result: dict[str, Any] = {"files": 0, "failed": []}
        frames = {location.frame: location for location, _ in located}
        raw: dict[tuple[bytes, int], bytes | EngineError] = {}
        for run in _runs(frames.values()):
            raw.update(self._fetch(run))
        for location, entry in located:
            self._one(entry, location, raw[location.frame], result)
        return result

    def _one(self, entry: Entry, location: Location, frame: bytes | EngineError, result: dict[str, Any]) -> None:
        try:
            data = self._blob(_blob_of(entry), location, frame)
            if len(data) != entry.size:
                raise ObjectDamaged(fmt.pack_name(location.pack), "a blob has another length than its file")
            self._write(entry, data)
            result["files"] += 1
        except EngineError as error:
            _refuse_temporary(error)
            result["failed"].append([entry.path, str(error)])

    def _blob(self, blob_id: bytes, location: Location, frame: bytes | EngineError) -> memoryview:
        """Its proved bytes; where its frame is damaged, from another copy if there is one."""
        if isinstance(frame, EngineError):
            if len(list(self._repository.index.find_all(blob_id))) == 1:
                raise frame
            return memoryview(self._repository.load_blob(blob_id))
        data = memoryview(frame)[location.start : location.start + location.length]
        self._repository.prove_blob(blob_id, data, location)
        return data

    def _write(self, entry: Entry, data: memoryview) -> None:
        with self._writer.open_writer(entry) as file:
            file.write_at(0, data)
        self._emit("bytes", len(data))

    def _fetch(self, run: list[Location]) -> Iterator[tuple[tuple[bytes, int], bytes | EngineError]]:
        """The raw frames of one run; a frame that is damaged or missing comes as its error."""
        first, last = run[0].section, run[-1].section
        name = fmt.pack_name(run[0].pack)
        try:
            stored = memoryview(
                self._repository.store.get(name, first.offset, last.offset + last.stored - first.offset)
            )
        except EngineError as error:
            _refuse_temporary(error)
            if len(run) > 1:  # perhaps only a part of the range is gone
                for location in run:
                    yield from self._fetch([location])
            else:
                yield run[0].frame, error
            return
        for location in run:
            at = location.section.offset - first.offset
            yield location.frame, self._open(location, bytes(stored[at : at + location.section.stored]))

    def _open(self, location: Location, stored: bytes) -> bytes | EngineError:
        try:
            return self._repository.open_frame(location, stored)
        except ObjectDamaged as error:
            return error

    # large files

    def _large(self, entries: list[Entry]) -> dict[str, Any]:
        result: dict[str, Any] = {"files": 0, "failed": []}
        for entry in entries:
            try:
                with self._writer.open_writer(entry) as file:
                    self._fill(file, entry)
                result["files"] += 1
            except EngineError as error:
                _refuse_temporary(error)
                result["failed"].append([entry.path, str(error)])
        return result

    def _fill(self, file: FileWriter, entry: Entry) -> None:
        whole = hashlib.sha256() if entry.sha256 else None
        for unit in units(entry.content or b"", entry.size, self._repository.load_blob):
            for data in self._unit(unit):
                file.write_at(data[0], data[1])
                if whole:
                    whole.update(data[1])
            self._emit("bytes", unit.length)
        if whole and whole.digest() != entry.sha256:
            raise ObjectDamaged("a tree page", "the whole file has another SHA-256 than was recorded")

    def _unit(self, unit: Unit) -> Iterator[tuple[int, memoryview]]:
        """(offset, bytes) of the blobs of a unit in order; raises ObjectDamaged unless its SHA-256 fits."""
        digest, at = hashlib.sha256(), unit.offset
        for group in _groups(unit.blobs, self._repository):
            raw = dict(pair for run in _runs(loc for _, loc in group) for pair in self._fetch(run))
            for blob, location in group:
                frame = raw[location.frame]
                data = self._blob(blob.id, location, frame)
                digest.update(data)
                yield at, data
                at += len(data)
        if digest.digest() != unit.sha256 or at != unit.offset + unit.length:
            raise ObjectDamaged("a tree page", "a stretch of the file has another SHA-256 than was recorded")


def _blob_of(entry: Entry) -> bytes:
    assert isinstance(entry.content, bytes)
    assert len(entry.content) == WHOLE
    return entry.content[:32]


def _runs(locations: Iterable[Location]) -> Iterator[list[Location]]:
    """Distinct frames in groups that one request each fetches: same pack, close together."""
    distinct = {location.frame: location for location in locations}
    run: list[Location] = []
    for location in sorted(distinct.values(), key=lambda item: (item.pack, item.section.offset)):
        if run and not _continues(run, location):
            yield run
            run = []
        run.append(location)
    if run:
        yield run


def _continues(run: list[Location], location: Location) -> bool:
    first, last = run[0].section, run[-1].section
    near = location.section.offset - (last.offset + last.stored) <= GAP
    short = location.section.offset + location.section.stored - first.offset <= FETCH
    return location.pack == run[0].pack and near and short


def _groups(blobs: Iterable[Blob], repository: Repository) -> Iterator[list[tuple[Blob, Location]]]:
    """Blobs with their places, in portions of about FETCH bytes: what is held in memory at once."""
    group: list[tuple[Blob, Location]] = []
    size = 0
    for blob in blobs:
        group.append((blob, repository.index.locate(blob.id)))
        size += blob.length
        if size >= FETCH:
            yield group
            group, size = [], 0
    if group:
        yield group


def _refuse_temporary(error: EngineError) -> None:
    """A store that does not answer, or a full target, ends the restore; only damage is a matter of single files."""
    if not error.permanent or isinstance(error, StoreRefused | TargetError):
        raise error
