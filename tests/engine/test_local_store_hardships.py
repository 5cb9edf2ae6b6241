"""The directory store on real kernels' bad days: killed writers, full disks, read-only disks, power cuts."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from backups.engine.errors import StoreFull, StoreReadOnly, StoreRefused
from backups.engine.stores.local import LocalStore
from tests.power import PoweredDisk, powered

KILLS = 25


def named(data: bytes) -> str:
    digest = hashlib.sha256(data).hexdigest()
    return f"packs/{digest[:2]}/{digest}"


def in_a_child(deed: Callable[[], object]) -> int:
    """Run the deed in a forked process that ends without cleaning up after pytest; its pid."""
    child = os.fork()
    if child == 0:
        code = 1
        with suppress(BaseException):
            deed()
            code = 0
        os._exit(code)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def mount(*arguments: str) -> None:
    """Mount, or skip visibly where this process may not."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let us mount: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], LocalStore]]:
    """Mounts a tmpfs with the given options and makes a store on it."""
    place = tmp_path / "disk"
    place.mkdir()

    def mounted(options: str) -> LocalStore:
        mount("-t", "tmpfs", "-o", options, "tmpfs", str(place))
        store = LocalStore(str(place / "store"))
        store.create()
        return store

    yield mounted
    subprocess.run(["umount", str(place)], capture_output=True, check=False)


def filled(store: LocalStore, size: int) -> list[str]:
    """Put objects until the place refuses; the names of those it took."""
    taken: list[str] = []
    with suppress(StoreFull):
        for number in range(100_000):
            data = number.to_bytes(8, "big") * (size // 8)
            store.put(named(data), data)
            taken.append(named(data))
    return taken


def assert_whole(store: LocalStore) -> int:
    """Every object under a final name has the bytes its name promises; how many there are."""
    names = [info.name for info in store.list("packs/")]
    for name in names:
        assert hashlib.sha256(store.get(name)).hexdigest() == name.rpartition("/")[2]
    return len(names)


# -------------------------------------------------------------------- killed writers


def test_a_killed_writer_leaves_no_short_object(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "store"))
    store.create()
    chance = random.Random(5)

    for _ in range(KILLS):
        writer = _writer_at_work(store)
        time.sleep(chance.uniform(0.005, 0.06))
        os.kill(writer, signal.SIGKILL)
        assert exit_code(writer) == -signal.SIGKILL

    assert assert_whole(store) > KILLS
    store.sweep(0)
    assert not list((tmp_path / "store").rglob(".tmp-*"))


def _writer_at_work(store: LocalStore) -> int:
    """A child that has put its first object and goes on: on a busy machine it may take long to get there."""
    heard, said = os.pipe()
    writer = in_a_child(lambda: _write_for_ever(store.fresh(), said))
    os.close(said)
    assert os.read(heard, 1) == b"1"
    os.close(heard)
    return writer


def _write_for_ever(store: LocalStore, said: int) -> NoReturn:
    _write(store)
    os.write(said, b"1")
    while True:
        _write(store)


def _write(store: LocalStore) -> None:
    data = os.urandom(1 << random.randrange(10, 21))
    store.put(named(data), data)


def test_processes_may_put_the_same_objects_at_once(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "store"))
    store.create()
    objects = [bytes([number]) * 10_000 for number in range(40)]

    def write() -> None:
        for data in objects:
            store.fresh().put(named(data), data)
        store.fresh().put("config", b"facts")

    codes = [exit_code(child) for child in [in_a_child(write) for _ in range(4)]]

    assert codes == [0, 0, 0, 0]
    assert assert_whole(store) == len(objects)
    assert store.sweep(0) == 0


def test_of_two_creators_with_different_facts_one_wins(tmp_path: Path) -> None:
    for attempt in range(10):
        store = LocalStore(str(tmp_path / f"store-{attempt}"))
        store.create()
        creators = [in_a_child(partial(store.put, "config", facts)) for facts in (b"one", b"two")]

        codes = [exit_code(creator) for creator in creators]

        assert sorted(codes) == [0, 1]
        assert store.get("config") == (b"one" if codes[0] == 0 else b"two")


# -------------------------------------------------------------------- no room


def test_a_full_disk_is_told_and_survived(small_disk: Callable[[str], LocalStore]) -> None:
    store = small_disk("size=8m")
    taken = filled(store, 1 << 18)
    extra = os.urandom(1 << 18)

    with pytest.raises(StoreFull, match="No space is left in the directory") as caught:
        store.put(named(extra), extra)

    assert caught.value.permanent
    assert assert_whole(store) == len(taken) > 20
    assert store.sweep(0) == 0
    store.delete(taken[0])
    store.put(named(extra), extra)
    assert store.get(named(extra)) == extra


def test_the_smallest_remainders_of_a_disk_leave_nothing_half_written(small_disk: Callable[[str], LocalStore]) -> None:
    store = small_disk("size=1m")

    for size in (1 << 18, 1 << 14, 1 << 12, 1 << 10):
        filled(store, size)

    assert assert_whole(store) > 0
    assert store.sweep(0) == 0


def test_missing_inodes_are_told_from_missing_space(small_disk: Callable[[str], LocalStore]) -> None:
    store = small_disk("size=8m,nr_inodes=80")
    taken = filled(store, 64)

    with pytest.raises(StoreFull, match=r"No inodes .* are left in the directory"):
        store.put("index/one-more", b"x")

    assert store.capabilities().free_objects == 0
    assert assert_whole(store) == len(taken) > 5
    for name in taken[:3]:
        store.delete(name)
    store.put("index/one-more", b"x")
    assert store.get("index/one-more") == b"x"


def test_room_that_comes_back_is_used(small_disk: Callable[[str], LocalStore], tmp_path: Path) -> None:
    store = small_disk("size=2m")
    filled(store, 1 << 18)
    data = os.urandom(1 << 20)

    mount("-o", "remount,size=8m", str(tmp_path / "disk"))
    store.put(named(data), data)

    assert store.get(named(data)) == data


# -------------------------------------------------------------------- no writing


def test_a_disk_that_turns_read_only_is_told_and_still_read(
    small_disk: Callable[[str], LocalStore], tmp_path: Path
) -> None:
    store = small_disk("size=8m")
    store.put("config", b"facts")
    mount("-o", "remount,ro", str(tmp_path / "disk"))

    deeds: list[Callable[[], None]] = [lambda: store.put("index/new", b"x"), lambda: store.delete("config")]
    for deed in deeds:
        with pytest.raises(StoreReadOnly, match="file system is read-only: the directory"):
            deed()

    assert store.get("config") == b"facts"
    assert not store.capabilities().writable
    mount("-o", "remount,rw", str(tmp_path / "disk"))
    store.put("index/new", b"x")
    assert store.get("index/new") == b"x"


def test_a_stranger_without_permission_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user")
    store = LocalStore(str(tmp_path / "store"))
    store.create()

    def as_nobody() -> None:
        os.setuid(65534)
        with pytest.raises(StoreRefused, match="User 65534 has no permission"):
            store.put("config", b"facts")
        with pytest.raises(StoreRefused, match="give it read and write access"):
            list(store.list(""))

    assert exit_code(in_a_child(as_nobody)) == 0


# -------------------------------------------------------------------- power cuts


@pytest.fixture
def disk_with_power(tmp_path: Path) -> Iterator[PoweredDisk]:
    disk = powered(tmp_path)
    yield disk
    disk.close()


def cut_the_power(disk: PoweredDisk) -> None:
    """ext4 forgets all that was not synced, as when the power fails; then the disk is mounted again."""
    disk.cut()
    disk.on()


def test_everything_put_survives_a_power_cut(disk_with_power: PoweredDisk) -> None:
    store = LocalStore(str(disk_with_power.root / "a" / "store"))
    store.create()
    objects = [os.urandom(5000) for _ in range(20)]
    for data in objects:
        store.put(named(data), data)
    store.put("config", b"facts")

    cut_the_power(disk_with_power)

    assert sorted(info.name for info in store.list("packs/")) == sorted(map(named, objects))
    assert assert_whole(store) == len(objects)
    assert store.get("config") == b"facts"


def test_the_power_cut_is_real(disk_with_power: PoweredDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fsync, and with all else equal, what was put is gone: the test before this one proves something."""
    store = LocalStore(str(disk_with_power.root / "store"))
    store.create()
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    store.put("config", b"facts")

    cut_the_power(disk_with_power)

    assert list(store.list("")) == []
