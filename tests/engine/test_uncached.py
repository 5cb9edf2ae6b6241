"""Large objects that go past the page cache are the same objects, wherever they lie and whatever the disk says."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from backups.engine.errors import ObjectDamaged, StoreFull
from backups.engine.stores import uncached
from backups.engine.stores.local import LocalStore

TAKES = uncached._takes  # tells the truth about this machine
BLOCK, LEAST = uncached.BLOCK, uncached.LEAST
SIZES = [LEAST - 1, LEAST, LEAST + 1, LEAST + BLOCK - 1, LEAST + BLOCK, 3 * LEAST + 777, 16 * LEAST + 1]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(str(tmp_path / "store"))
    store.create()
    return store


@pytest.fixture(autouse=True)
def direct(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Try it here, whatever file system the tests run on."""
    monkeypatch.setattr(uncached, "_takes", lambda device: device == tmp_path.stat().st_dev)


def cold(path: Path) -> None:
    """Nothing of it is in the cache any more."""
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(file)


def name_of(data: bytes) -> str:
    return f"odd/{len(data)}"


@pytest.mark.parametrize("size", SIZES)
def test_an_object_of_any_size_comes_back(store: LocalStore, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)

    store.put(name_of(data), memoryview(data))

    assert (tmp_path / "store" / name_of(data)).read_bytes() == data
    cold(tmp_path / "store" / name_of(data))
    assert store.get(name_of(data)) == data


@pytest.mark.parametrize("start", [0, 1, BLOCK - 1, BLOCK, LEAST + 77])
@pytest.mark.parametrize("length", [1, LEAST, LEAST + 1, 2 * LEAST - 3])
def test_any_part_of_it_comes_back(store: LocalStore, tmp_path: Path, start: int, length: int) -> None:
    data = os.urandom(3 * LEAST + 99)
    store.put("part", data)

    cold(tmp_path / "store" / "part")
    first, second = store.get("part", start, length), store.get("part", start, length)

    assert first == second == data[start : start + length]


def test_what_was_written_did_not_fill_the_cache(store: LocalStore, tmp_path: Path) -> None:
    store.put("large", bytes(4 * LEAST))

    file = os.open(tmp_path / "store" / "large", os.O_RDONLY)
    was_cold = uncached._is_cold(file, 2 * LEAST)
    os.close(file)

    assert was_cold or not TAKES(tmp_path.stat().st_dev)


def test_reading_does_not_fill_it_either(store: LocalStore, tmp_path: Path) -> None:
    store.put("large", os.urandom(4 * LEAST))

    for _ in range(3):
        store.get("large")

    file = os.open(tmp_path / "store" / "large", os.O_RDONLY)
    stays_cold = uncached._is_cold(file, 0)
    os.close(file)
    assert stays_cold or not TAKES(tmp_path.stat().st_dev)


def test_a_device_that_will_not_is_written_in_the_usual_way(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    data, write = os.urandom(3 * LEAST + 5), os.write
    tried: list[int] = []

    def refusing(file: int, piece: memoryview) -> int:
        tried.append(len(piece))
        if len(piece) == LEAST and len(tried) == 2:  # in the middle
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return write(file, piece)

    monkeypatch.setattr(os, "write", refusing)
    store.put("refused", data)
    monkeypatch.undo()

    assert store.get("refused") == data
    assert tried == [LEAST, LEAST, 2 * LEAST + 5]


def test_a_full_disk_is_told(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, piece: memoryview) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreFull):
        store.put("full", bytes(2 * LEAST))
    monkeypatch.undo()

    assert list(store.list("")) == []


@pytest.mark.parametrize("part", [2, 3], ids=["whole blocks", "within a block"])
def test_a_short_write_is_gone_on_with(store: LocalStore, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    data, write = os.urandom(2 * LEAST), os.write
    monkeypatch.setattr(os, "write", lambda file, piece: write(file, piece[: max(1, len(piece) // part)]))

    store.put("short", data)
    monkeypatch.undo()

    assert store.get("short") == data


def test_a_short_read_is_gone_on_with(store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, preadv = os.urandom(2 * LEAST + 9), os.preadv
    store.put("first", bytes(3 * LEAST))
    store.put("short", data)
    cold(tmp_path / "store" / "first")
    store.get("first")  # leaves zeros in the buffer
    cold(tmp_path / "store" / "short")

    def short(file: int, buffers: list[memoryview], at: int, flags: int = 0) -> int:
        return preadv(file, buffers if flags else [buffers[0][: 3 * BLOCK]], at, flags)

    monkeypatch.setattr(os, "preadv", short)
    found = store.get("short")

    assert found == data


def test_a_file_that_is_cut_off_is_damage(store: LocalStore, tmp_path: Path) -> None:
    store.put("cut", os.urandom(2 * LEAST))
    path = tmp_path / "store" / "cut"
    path.chmod(0o600)
    os.truncate(path, LEAST + 10)
    cold(path)

    with pytest.raises(ObjectDamaged):
        store.get("cut", 0, 2 * LEAST)


def test_a_child_has_buffers_of_its_own(store: LocalStore, tmp_path: Path) -> None:
    store.put("first", bytes(2 * LEAST))  # leaves a buffer for the next one
    ours, theirs = os.urandom(8 * LEAST), os.urandom(8 * LEAST)

    child = os.fork()
    if not child:
        status = 1
        try:
            LocalStore(str(tmp_path / "store")).put("theirs", theirs)
            status = 0
        finally:
            os._exit(status)
    store.put("ours", ours)
    assert os.waitpid(child, 0)[1] == 0

    assert (store.get("ours"), store.get("theirs")) == (ours, theirs)
