"""What the directory store promises beyond the port: order of writes, links, links in the way, foreign places."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from backups.engine.errors import (
    EngineError,
    ForeignRepository,
    ObjectDamaged,
    ObjectExists,
    ObjectMissing,
    StoreFull,
    StoreReadOnly,
    StoreRefused,
    StoreUnavailable,
)
from backups.engine.stores import posix
from backups.engine.stores.local import LocalStore

DATA = b"some bytes " * 100
NAME = f"packs/ab/{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    made = LocalStore(str(tmp_path / "store"))
    made.create()
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


# -------------------------------------------------------------------- the order that survives a power cut


class Recorder:
    """Notes the calls that decide what survives, with the kind of thing each of them was about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        for name in ("write", "fsync", "rename", "link", "unlink", "mkdir"):
            monkeypatch.setattr(os, name, self._recorded(name, getattr(os, name)))

    def _recorded(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            self.calls.append(f"{name} {self._about(args[0])}")
            return real(*args, **kwargs)

        return call

    def _about(self, what: object) -> str:
        if not isinstance(what, int):
            return "temporary" if str(what).startswith(".tmp-") else str(what)
        path = os.readlink(f"/proc/self/fd/{what}")
        return "temporary" if "/.tmp-" in path else os.path.basename(path)


def test_it_syncs_the_file_before_and_the_folders_after_the_rename(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Recorder(monkeypatch).calls

    store.put(NAME, DATA)

    made = ["mkdir packs", "fsync store", "mkdir ab", "fsync packs"]
    assert calls == [*made, "write temporary", "fsync temporary", "rename temporary", "fsync ab"]


def test_it_publishes_a_fixed_name_by_a_link_that_cannot_overwrite(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Recorder(monkeypatch).calls

    store.put("config", b"facts")

    assert calls == ["write temporary", "fsync temporary", "link temporary", "unlink temporary", "fsync store"]


def test_it_syncs_the_folders_once_also_when_others_made_them(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "packs" / "ab").mkdir(parents=True)
    calls = Recorder(monkeypatch).calls

    store.put(NAME, DATA)
    store.put("packs/ab/other", DATA)

    first, second = calls[: len(calls) // 2 + 1], calls[len(calls) // 2 + 1 :]
    assert first[:2] == ["fsync store", "fsync packs"]
    assert [call for call in second if call.startswith("fsync")] == ["fsync temporary", "fsync ab"]


def test_it_syncs_the_folder_of_an_object_that_is_already_there(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(NAME, DATA)
    calls = Recorder(monkeypatch).calls

    store.put(NAME, DATA)

    assert calls == ["fsync ab"]


def _failing_fsync(monkeypatch: pytest.MonkeyPatch, *, folders: bool) -> list[int]:
    """fsync of files, or of folders, answers EIO once for each descriptor; the list grows with every such answer."""
    failed: list[int] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode) is folders and not failed:
            failed.append(descriptor)
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return failed


def test_it_throws_the_file_away_when_it_cannot_be_synced(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("packs/ab/first", b"1")
    failed = _failing_fsync(monkeypatch, folders=False)

    with pytest.raises(StoreUnavailable, match=r"Input/output error: the directory .*while writing packs/ab"):
        store.put(NAME, DATA)

    assert len(failed) == 1
    assert os.listdir(root / "packs/ab") == ["first"]


def test_it_writes_anew_what_may_have_been_lost_with_the_folder(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("packs/ab/first", b"1")
    _failing_fsync(monkeypatch, folders=True)
    with pytest.raises(StoreUnavailable):
        store.put(NAME, DATA)
    doubtful = (root / NAME).stat().st_ino
    calls = Recorder(monkeypatch).calls

    store.put(NAME, DATA)

    assert calls == ["write temporary", "fsync temporary", "rename temporary", "fsync ab"]
    assert (root / NAME).stat().st_ino != doubtful


def test_objects_are_read_only_and_folders_private(store: LocalStore, root: Path) -> None:
    store.put(NAME, DATA)

    assert stat.S_IMODE((root / NAME).stat().st_mode) == 0o400
    assert stat.S_IMODE((root / "packs/ab").stat().st_mode) == 0o700
    assert stat.S_IMODE(root.stat().st_mode) == 0o700


# -------------------------------------------------------------------- two writers of one name


def test_a_writer_who_comes_second_with_the_same_bytes_is_content(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _another_writer_is_first(monkeypatch, root / "config", b"facts")

    store.put("config", b"facts")

    assert store.get("config") == b"facts"
    assert [info.name for info in store.list("")] == ["config"]
    assert store.sweep(0) == 0


def test_a_writer_who_comes_second_with_other_bytes_is_refused(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _another_writer_is_first(monkeypatch, root / "config", b"other facts")

    with pytest.raises(ObjectExists):
        store.put("config", b"facts")

    assert store.get("config") == b"other facts"
    assert store.sweep(0) == 0


def _another_writer_is_first(monkeypatch: pytest.MonkeyPatch, path: Path, data: bytes) -> None:
    real = posix.rename_new

    def rename_new(parent: int, old: str, new: str) -> None:
        path.write_bytes(data)
        real(parent, old, new)

    monkeypatch.setattr(posix, "rename_new", rename_new)


def test_it_needs_no_hard_links(store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)

    store.put("config", b"facts")
    _another_writer_is_first(monkeypatch, root / "second", b"other facts")
    with pytest.raises(ObjectExists):
        store.put("second", b"facts")

    assert store.get("config") == b"facts"


# -------------------------------------------------------------------- places that are not ours


def test_it_never_appears_on_an_unmounted_mount_point(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()

    for path in (tmp_path / "mnt", tmp_path / "mnt" / "missing"):
        store = LocalStore(str(path))
        with pytest.raises(StoreUnavailable, match="mount the disk it is on") as caught:
            store.put("config", b"facts")
        assert str(path) in str(caught.value)

    assert os.listdir(tmp_path / "mnt") == []


@pytest.mark.parametrize("name", ["missing", "empty"])
def test_an_unmounted_disk_is_unavailable_for_every_verb(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    store = LocalStore(str(tmp_path / name))
    deeds: list[Callable[[], object]] = [
        lambda: store.get("config"),
        lambda: store.stat("config"),
        lambda: list(store.list("")),
        lambda: store.delete("config"),
        store.capabilities,
        lambda: store.sweep(0),
    ]

    for deed in deeds:
        with pytest.raises(StoreUnavailable, match="There is no store of ours in the directory"):
            deed()


def test_a_repository_copied_by_other_means_is_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "config").write_bytes(b"facts")
    store = LocalStore(str(tmp_path / "copy"))

    store.create()
    store.put("packs/ab/x", b"x")

    assert [info.name for info in store.list("")] == ["config", "packs/ab/x"]


def test_a_copy_without_marker_and_config_can_still_be_read(tmp_path: Path) -> None:
    (tmp_path / "copy" / "log").mkdir(parents=True)
    (tmp_path / "copy" / "log" / "0").write_bytes(b"record")
    store = LocalStore(str(tmp_path / "copy"))

    assert store.get("log/0") == b"record"
    with pytest.raises(ObjectMissing):
        store.get("config")


def test_it_makes_missing_parents_only_when_created(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "a" / "b" / "c"))

    store.create()
    store.create()
    store.put("config", b"facts")

    assert store.get("config") == b"facts"


def test_it_refuses_a_directory_with_other_files(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear …")

    with pytest.raises(ForeignRepository, match=r"There are other files in .*, as “letters.txt”: choose an empty"):
        LocalStore(str(tmp_path)).create()

    assert os.listdir(tmp_path) == ["letters.txt"]


def test_it_tells_an_odd_name_as_every_other_one_is_told(tmp_path: Path) -> None:
    os.close(os.open(os.fsencode(tmp_path) + b"/odd\xff", os.O_CREAT))

    with pytest.raises(ForeignRepository, match=r"as “odd\\xff”: choose an empty"):
        LocalStore(str(tmp_path)).create()


def test_it_accepts_the_root_of_an_empty_disk(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()

    LocalStore(str(tmp_path)).create()

    assert list(LocalStore(str(tmp_path)).list("")) == []


@pytest.mark.parametrize("name", ["file", "file/below/it"])
def test_it_refuses_a_path_that_is_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    store = LocalStore(str(tmp_path / name))
    deeds: list[Callable[[], object]] = [store.create, lambda: store.put("config", b""), lambda: store.get("config")]

    for deed in deeds:
        with pytest.raises(StoreRefused, match="/file is a file; a real directory is needed"):
            deed()

    assert (tmp_path / "file").read_bytes() == b"precious"


# -------------------------------------------------------------------- things that are not objects


def test_it_reads_and_writes_nothing_through_links(store: LocalStore, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "packs").symlink_to(outside)
    (root / "config").symlink_to(outside / "secret")
    deeds: list[Callable[[], object]] = [
        lambda: store.get("packs/secret"),
        lambda: store.put("packs/new", b""),
        lambda: store.delete("packs/secret"),
    ]

    for deed in deeds:
        with pytest.raises(StoreRefused, match="packs is a symbolic link; a real directory is needed"):
            deed()
    with pytest.raises(ObjectMissing):
        store.get("config")
    with pytest.raises(ObjectExists):
        store.put("config", b"facts")

    assert list(store.list("")) == []
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == {"secret": b"secret"}


def test_strange_things_in_the_directory_are_no_objects(store: LocalStore, root: Path) -> None:
    (root / "packs").mkdir()
    os.mkfifo(root / "packs" / "fifo")
    (root / "packs" / "folder").mkdir()
    (root / "README").write_bytes(b"")
    (root / "file").write_bytes(b"a file where a folder should be")

    for name in ("packs/fifo", "packs/folder", "packs", "file/below"):
        with pytest.raises(ObjectMissing):
            store.get(name)
        with pytest.raises(ObjectMissing):
            store.stat(name)
    store.delete("packs/folder")
    store.delete("file/below")

    assert [info.name for info in store.list("")] == ["file"]
    with pytest.raises(StoreRefused, match="file is a file; a real directory is needed"):
        store.put("file/below", b"")
    with pytest.raises(ObjectExists):
        store.put("packs/folder", b"")


def test_a_link_in_place_of_an_object_is_replaced(store: LocalStore, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    (root / "packs" / "ab").mkdir(parents=True)
    (root / NAME).symlink_to(tmp_path / "outside")

    store.put(NAME, DATA)

    assert store.get(NAME) == DATA
    assert (tmp_path / "outside").read_bytes() == b"secret"


def test_a_folder_in_place_of_an_object_is_refused(store: LocalStore, root: Path) -> None:
    (root / NAME).mkdir(parents=True)

    with pytest.raises(StoreRefused, match="Is a directory"):
        store.put(NAME, DATA)

    assert store.sweep(0) == 0


# -------------------------------------------------------------------- leftovers


def test_it_sweeps_only_old_unfinished_files(store: LocalStore, root: Path) -> None:
    store.put(NAME, DATA)
    old, young = root / "packs/ab/.tmp-0123456789abcdef", root / ".tmp-fedcba9876543210"
    strange = root / "packs/ab/.tmp-of-somebody-else"
    for path in (old, young, strange):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    os.utime(strange, (0, 0))

    assert store.sweep(3600) == 1

    assert not old.exists()
    assert young.exists()
    assert strange.exists()
    assert [info.name for info in store.list("")] == [NAME]


def test_a_writer_whose_file_was_swept_may_try_again(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = posix.write_synced
    swept = []

    def write_synced(parent: int, temporary: str, data: bytes) -> None:
        real(parent, temporary, data)
        swept.append(store.sweep(0))

    with monkeypatch.context() as patch:
        patch.setattr(posix, "write_synced", write_synced)
        with pytest.raises(StoreUnavailable) as caught:
            store.put(NAME, DATA)
    store.put(NAME, DATA)

    assert swept == [1]
    assert not caught.value.permanent
    assert store.get(NAME) == DATA


# -------------------------------------------------------------------- what the kernel says, in our words


@pytest.mark.parametrize(
    ("number", "kind", "sentence"),
    [
        (errno.ENOSPC, StoreFull, "No space is left in the directory"),
        (errno.EDQUOT, StoreFull, "quota is used up"),
        (errno.EROFS, StoreReadOnly, "is read-only"),
        (errno.EACCES, StoreRefused, "has no permission in the directory"),
        (errno.EPERM, StoreRefused, "has no permission in the directory"),
        (errno.EFBIG, StoreRefused, "Choose another place"),
        (errno.EIO, StoreUnavailable, "Input/output error"),
        (errno.ESTALE, StoreUnavailable, "Stale file handle"),
        (errno.EMFILE, StoreUnavailable, "Too many open files"),
    ],
)
def test_it_translates_what_the_kernel_says(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[EngineError], sentence: str
) -> None:
    def write(descriptor: int, data: bytes) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", write)

    with pytest.raises(kind, match=sentence) as caught:
        store.put(NAME, DATA)

    assert f"while writing {NAME}" in str(caught.value)
    assert store.sweep(0) == 0


def test_it_writes_on_when_the_kernel_takes_a_part(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))

    store.put(NAME, DATA)

    assert store.get(NAME) == DATA


# -------------------------------------------------------------------- set aside


ASIDE = f"quarantine/{NAME}/{hashlib.sha256(b'wrong').hexdigest()}"


def test_wrong_bytes_are_set_aside_without_reading_them(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(NAME, b"wrong")
    monkeypatch.setattr(os, "pread", lambda *_: pytest.fail("a sector that may be lost was read"))

    store.set_aside(NAME, ASIDE)

    assert (root / ASIDE).samefile(root / NAME)


def test_where_files_have_one_name_only_the_bytes_are_copied(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(NAME, b"wrong")
    monkeypatch.setattr(posix, "linked", lambda *_: False)

    store.set_aside(NAME, ASIDE)
    store.put(NAME, DATA)

    assert (root / ASIDE).read_bytes() == b"wrong"
    assert (root / NAME).read_bytes() == DATA


# -------------------------------------------------------------------- lost sectors


def test_a_lost_sector_is_damage_to_one_object(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(NAME, DATA)
    monkeypatch.setattr(os, "pread", _refused)

    with pytest.raises(ObjectDamaged, match="the disk cannot read it") as caught:
        store.get(NAME)

    assert caught.value.name == NAME


def test_a_disk_that_says_nothing_is_no_damage(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put(NAME, DATA)
    for call in ("pread", "fstatvfs"):
        monkeypatch.setattr(os, call, _refused)

    with pytest.raises(StoreUnavailable, match="See that the disk is there and sound"):
        store.get(NAME)


def _refused(*_: object) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO))
