"""LargeFiles: a file that several workers fill is whole when its last piece is, and gone when one of them failed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.engine.entry import Entry, Kind
from backups.engine.errors import TargetError
from backups.engine.extract import DirectoryWriter, Identity
from backups.engine.parts import LargeFiles
from backups.engine.plan import unpack_file

MTIME = 10**18


class Told(list[tuple[bytes, str]]):
    def __call__(self, entry: Entry, failed: str) -> None:
        self.append((entry.path, failed))


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[DirectoryWriter]:
    writer = DirectoryWriter(os.fsencode(tmp_path / "target"))
    yield writer
    writer.discard()


@pytest.fixture
def stage(tmp_path: Path, writer: DirectoryWriter) -> Path:
    return next(tmp_path.glob(".aihub-restore-*"))


def large(path: bytes = b"large", size: int = 10) -> Entry:
    return Entry(path, Kind.FILE, 0o640, os.geteuid(), os.getegid(), mtime_ns=MTIME, size=size)


def begun(files: LargeFiles, entry: Entry, pieces: int) -> int:
    number = files.begin(entry)
    assert number is not None
    for _ in range(pieces):
        files.expect(number)
    return number


def write(writer: DirectoryWriter, files: LargeFiles, number: int, offset: int, data: bytes) -> None:
    """What a worker does, with what it is sent."""
    identity, facts = files.facts({number: 1})[number]
    out = writer.open_again(unpack_file(facts), Identity(*identity))
    out.write_at(offset, data)
    out.leave()


def test_a_file_is_whole_when_its_last_piece_is_there(writer: DirectoryWriter, stage: Path, told: Told) -> None:
    files = LargeFiles(writer, told)
    number = begun(files, large(), 2)
    files.planned(number)

    write(writer, files, number, 5, b"world")
    files.arrived({number: 1}, {})
    unfinished = (stage / "large").stat()
    write(writer, files, number, 0, b"hello")
    files.arrived({number: 1}, {})

    finished = (stage / "large").stat()
    assert (stat.S_IMODE(unfinished.st_mode), unfinished.st_size) == (0o600, 10)
    assert (stat.S_IMODE(finished.st_mode), finished.st_mtime_ns) == (0o640, MTIME)
    assert (stage / "large").read_bytes() == b"helloworld"
    assert told == [(b"large", "")]


def test_a_file_whose_plan_is_not_finished_waits(writer: DirectoryWriter, told: Told) -> None:
    files = LargeFiles(writer, told)
    number = begun(files, large(), 1)

    files.arrived({number: 1}, {})
    assert told == []
    files.planned(number)

    assert told == [(b"large", "")]


def test_what_no_piece_covers_is_a_hole(writer: DirectoryWriter, stage: Path, told: Told) -> None:
    files = LargeFiles(writer, told)
    number = begun(files, large(size=1 << 30), 1)
    files.planned(number)

    write(writer, files, number, 1 << 20, b"data")
    files.arrived({number: 1}, {})

    found = (stage / "large").stat()
    assert found.st_size == 1 << 30
    assert found.st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("last", [True, False])
def test_a_piece_that_failed_takes_the_file_away_when_all_have_ended(
    writer: DirectoryWriter, stage: Path, told: Told, last: bool
) -> None:
    files = LargeFiles(writer, told)
    number = begun(files, large(), 2)
    files.planned(number)

    for failed in ({}, {number: "It is damaged."}) if last else ({number: "It is damaged."}, {}):
        assert (stage / "large").exists()
        files.arrived({number: 1}, failed)

    assert not (stage / "large").exists()
    assert told == [(b"large", "It is damaged.")]


def test_a_plan_that_failed_takes_the_file_away(writer: DirectoryWriter, stage: Path, told: Told) -> None:
    files = LargeFiles(writer, told)
    number = begun(files, large(), 0)

    files.planned(number, "A blob is missing.")

    assert not (stage / "large").exists()
    assert told == [(b"large", "A blob is missing.")]


def test_a_file_that_cannot_be_made_is_told(writer: DirectoryWriter, told: Told) -> None:
    files = LargeFiles(writer, told)

    assert files.begin(large(b"n" * 256)) is None
    assert files.begin(large(b"huge", size=2**62)) is None

    assert [(path[:4], "cannot be written to this target" in why) for path, why in told] == [
        (b"nnnn", True),
        (b"huge", True),
    ]


@pytest.mark.parametrize("kind", ["link", "file", "fifo", "nothing"])
def test_nothing_is_written_to_what_somebody_has_put_in_its_place(
    writer: DirectoryWriter, stage: Path, told: Told, tmp_path: Path, kind: str
) -> None:
    files = LargeFiles(writer, told)
    number = begun(files, large(), 1)
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    (stage / "large").rename(tmp_path / "aside")
    if kind == "link":
        (stage / "large").symlink_to(precious)
    elif kind == "file":
        os.link(precious, stage / "large")
    elif kind == "fifo":
        os.mkfifo(stage / "large")

    with pytest.raises(TargetError, match="is gone or replaced"):
        write(writer, files, number, 0, b"hello")
    with pytest.raises(TargetError):
        files.planned(number)
        files.arrived({number: 1}, {})

    assert precious.read_bytes() == b"mine"
    assert told == []
