"""What a worker process does for a restore: fetch frames, open and prove them, write the files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from backups.engine import format as fmt
from backups.engine import tree
from backups.engine.content import units
from backups.engine.continuing import keep, pieces_of, sha256_of
from backups.engine.entry import Blob, Entry, Unit
from backups.engine.envelope import Envelope, Section
from backups.engine.errors import EngineError, ObjectDamaged, ObjectMissing, StoreRefused, TargetError
from backups.engine.extract import DirectoryWriter, FileWriter, Identity
from backups.engine.index import Location
from backups.engine.plan import Target, unpack_file
from backups.engine.repository import Repository
from backups.engine.workers import Emit, Task, keep_memory

GAP = 256 << 10  # frames this close together are fetched with one request, bytes
FETCH = 8 << 20  # of one request at most
TOLD = 0.5  # seconds between two messages about what was written
OPEN_FILES = 64  # large files that a task has open at once

Stored = memoryview | EngineError  # what lies at some place of a pack, or why it cannot be read


class RestoreWorker:
    """Writes files, in three kinds of task:

    ["frames", frames, files]  frames as in plan.Part, files {number: [identity, facts]} of the large files they hold
                               pieces of, which stand there already
    ["whole", page]            files on a tree page, one after the other, each from its beginning to its end
    ["kept", page]             files that a killed restore has left: result "partial" tells of those that are not whole,
                               what is not right at all is removed

    Results: {files: how many were made whole, failed: [[path or number, sentence]]}; bytes are emitted now and then.
    """

    def __init__(self, repository: Repository, writer: DirectoryWriter, emit: Emit, *, forked: bool) -> None:
        if forked:
            repository.forked()
            keep_memory()
            writer.report = lambda item: emit("item", list(item))
        self._repository, self._writer, self._emit = repository, writer, emit
        self._written, self._told = 0, time.monotonic()
        self._reader = ThreadPoolExecutor(1, "reader")  # its thread begins with the first run that it reads

    def do(self, task: Task) -> dict[str, Any]:
        result: dict[str, Any] = {"files": 0, "failed": []}
        if task[0] == "kept":
            found = (keep(self._writer, self._repository.load_blob, entry) for entry in tree.decode_page(task[1]))
            result["partial"] = [row for row in found if row]
        elif task[0] == "whole":
            self._whole(task[1], result)
        else:
            self._frames(task[1], task[2], result)
        self._tell()
        return result

    def finish(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """The writer is its maker's."""
        self._reader.shutdown(cancel_futures=True)

    def _count(self, written: int) -> None:
        self._written += written
        if time.monotonic() - self._told >= TOLD:
            self._tell()

    def _tell(self) -> None:
        self._emit("bytes", self._written)
        self._written, self._told = 0, time.monotonic()

    # frames, each with all that is wanted from it

    def _frames(self, frames: list[list[Any]], files: dict[int, list[Any]], result: dict[str, Any]) -> None:
        wanted: dict[tuple[bytes, int], list[Any]] = {}
        places = []
        for pack, envelope, section, pieces in frames:
            place = Location(pack, Envelope(*envelope), Section(*section), 0, 0)
            wanted[place.frame] = pieces
            places.append(place)
        opened = _OpenFiles(self._writer, files)
        try:
            for run, stored in self._ahead(_runs(places)):
                for place, raw in self._opened(run, stored):
                    self._pieces(place, raw, wanted[place.frame], opened, result)
        finally:
            opened.close()

    def _pieces(
        self, place: Location, frame: bytes | EngineError, pieces: list[Any], opened: _OpenFiles, result: dict[str, Any]
    ) -> None:
        proved, data = -1, memoryview(b"")  # several files may be the same blob
        for start, length, blob_id, target in pieces:
            try:
                if start != proved:
                    data = self._blob(blob_id, place, start, length, frame)
                    proved = start
                if isinstance(target[0], int):
                    opened.write(target, data)
                else:
                    self._file(target, data, place)
                    result["files"] += 1
                self._count(length)
            except EngineError as error:
                _refuse_temporary(error)
                result["failed"].append([target[0], str(error)])

    def _file(self, target: Target, data: memoryview, place: Location) -> None:
        entry = unpack_file(target)
        if len(data) != entry.size:
            raise ObjectDamaged(fmt.pack_name(place.pack), "a blob has another length than its file")
        with self._writer.open_writer(entry) as file:
            file.write_at(0, data)

    def _blob(self, blob_id: bytes, place: Location, start: int, length: int, frame: bytes | EngineError) -> memoryview:
        """Its proved bytes; where its frame is damaged, from another copy if there is one. What is missing may have
        been moved."""
        if isinstance(frame, EngineError):
            gone = isinstance(frame, ObjectMissing)
            if not gone and len(list(self._repository.index.find_all(blob_id))) == 1:
                raise frame
            return memoryview(self._repository.load_blob(blob_id))
        data = memoryview(frame)[start : start + length]
        self._repository.prove_blob(blob_id, data, place)
        return data

    def _ahead(self, runs: Iterator[list[Location]]) -> Iterator[tuple[list[Location], Stored]]:
        """Each run with its bytes; those of the next one are fetched while the caller works on them."""
        waiting: tuple[list[Location], Future[Stored]] | None = None
        for run in runs:
            coming = run, self._reader.submit(self._read, run)
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = coming
        if waiting:
            yield waiting[0], waiting[1].result()

    def _read(self, run: list[Location]) -> Stored:
        first, last = run[0].section, run[-1].section
        length = last.offset + last.stored - first.offset
        try:
            return memoryview(self._repository.store.get(fmt.pack_name(run[0].pack), first.offset, length))
        except EngineError as error:
            return error

    def _fetch(self, run: list[Location]) -> Iterator[tuple[Location, bytes | EngineError]]:
        """The raw frames of one run; a frame that is damaged or missing comes as its error."""
        return self._opened(run, self._read(run))

    def _opened(self, run: list[Location], stored: Stored) -> Iterator[tuple[Location, bytes | EngineError]]:
        if isinstance(stored, EngineError):
            _refuse_temporary(stored)
            if len(run) > 1:  # perhaps only a part of the range is gone
                for location in run:
                    yield from self._fetch([location])
            else:
                yield run[0], stored
            return
        for location in run:
            at = location.section.offset - run[0].section.offset
            yield location, self._open(location, stored[at : at + location.section.stored])

    def _open(self, location: Location, stored: memoryview) -> bytes | EngineError:
        try:
            return self._repository.open_frame(location, stored)
        except ObjectDamaged as error:
            return error

    # whole files: empty ones, and streams, whose own SHA-256 is computed on the way

    def _whole(self, page: bytes, result: dict[str, Any]) -> None:
        for entry in tree.decode_page(page):
            try:
                with self._begun(entry) as file:
                    self._fill(file, entry)
                result["files"] += 1
            except EngineError as error:
                _refuse_temporary(error)
                result["failed"].append([entry.path, str(error)])

    def _begun(self, entry: Entry) -> FileWriter:
        """A new file, or what a killed restore has left of it."""
        kept = self._writer.open_kept(entry) if self._writer.continued and self._writer.stands(entry) else None
        return kept or self._writer.open_writer(entry)

    def _kept(self, file: FileWriter, unit: Unit, whole: Any) -> bool:
        """Whether a unit of a stream stands there already; whole hears it."""
        if not self._writer.continued or sha256_of(file, unit.offset, unit.length) != unit.sha256:
            return False
        for piece in pieces_of(file, unit.offset, unit.length):
            whole.update(piece)
        self._count(unit.length)
        self._emit("kept", unit.length)
        return True

    def _fill(self, file: FileWriter, entry: Entry) -> None:
        whole = hashlib.sha256() if entry.sha256 else None
        for unit in units(entry.content or b"", entry.size, self._repository.load_blob):
            if whole and self._kept(file, unit, whole):
                continue
            for at, data in self._unit(unit):
                file.write_at(at, data)
                self._count(len(data))
                if whole:
                    whole.update(data)
        if whole and whole.digest() != entry.sha256:
            raise ObjectDamaged("a tree page", "the whole file has another SHA-256 than was recorded")

    def _unit(self, unit: Unit) -> Iterator[tuple[int, memoryview]]:
        """(offset, bytes) of the blobs of a unit in order, each proved by its id; raises ObjectDamaged."""
        at = unit.offset
        for group in _groups(unit.blobs, self._repository):
            raw = {place.frame: frame for run in _runs(loc for _, loc in group) for place, frame in self._fetch(run)}
            for blob, location in group:
                data = self._blob(blob.id, location, location.start, location.length, raw[location.frame])
                if len(data) != blob.length:
                    raise ObjectDamaged(fmt.pack_name(location.pack), "a blob has another length than its file says")
                yield at, data
                at += len(data)
        if at != unit.offset + unit.length:
            raise ObjectDamaged("a tree page", "a stretch of the file has another length than its blobs")


class _OpenFiles:
    """The large files that one task writes to, opened when the first piece comes. Few: a task has few frames."""

    def __init__(self, writer: DirectoryWriter, files: dict[int, list[Any]]) -> None:
        self._writer, self._files = writer, files
        self._open: dict[int, FileWriter] = {}

    def write(self, target: Target, data: memoryview) -> None:
        number, offset = target
        file = self._open.get(number)
        if file is None:
            if len(self._open) >= OPEN_FILES:
                self.close()
            identity, facts = self._files[number]
            file = self._open[number] = self._writer.open_again(unpack_file(facts), Identity(*identity))
        file.write_at(offset, data)

    def close(self) -> None:
        for file in self._open.values():
            file.leave()
        self._open.clear()


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
