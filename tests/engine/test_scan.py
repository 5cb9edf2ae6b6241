"""A scan: roots in, entries in depth-first byte order out, everything odd reported."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backups.engine.entry import Entry, ItemError, Kind, Notes
from backups.engine.errors import InvalidPattern, SourceError
from backups.engine.reserved import Reserved
from backups.engine.scan import CACHE_SIGNATURE, resolve, scan
from tests.components import open_the_way
from tests.engine import trees
from tests.engine.deep import dig, dug, write

needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root makes devices and mounts, and becomes somebody else for a moment"
)


class Scanned:
    """What a scan of a directory has found, with paths relative to it."""

    def __init__(self, top: Path, *roots: Path, **options: object) -> None:
        self.top = os.fsencode(top).lstrip(b"/")
        self.told: list[ItemError] = []
        named = [os.fsencode(root) for root in roots] or [os.fsencode(top)]
        self.all = list(scan(named, report=self.told.append, **options))  # type: ignore[arg-type]  # passed through
        self.entries = {entry.path[len(self.top) + 1 :]: entry for entry in self.all if entry.path.startswith(self.top)}

    def __getitem__(self, path: bytes) -> Entry:
        return self.entries[path]

    @property
    def paths(self) -> list[bytes]:
        return [path for path in self.entries if path]

    @property
    def reported(self) -> dict[bytes, tuple[str, str]]:
        return {item.path[len(self.top) + 1 :]: (item.severity, item.message) for item in self.told}


def plant(top: Path, *paths: str) -> None:
    for path in paths:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text(path)


# what an entry tells


def test_it_tells_everything_about_each_kind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("hello")
    os.chmod(tmp_path / "file", 0o4711)
    os.utime(tmp_path / "file", ns=(1, 1_500_000_000_123_456_789))
    (tmp_path / "link").symlink_to(os.fsdecode(b"/no\xffwhere"))
    os.mkfifo(tmp_path / "pipe", 0o600)
    os.link(tmp_path / "file", tmp_path / "second")

    found = Scanned(tmp_path)

    st_file = (tmp_path / "file").stat()
    file, link, pipe = found[b"file"], found[b"link"], found[b"pipe"]
    assert (file.kind, file.mode, file.size, file.nlink) == (Kind.FILE, 0o4711, 5, 2)
    assert (file.mtime_ns, file.ctime_ns) == (1_500_000_000_123_456_789, st_file.st_ctime_ns)
    assert (file.device, file.inode) == (st_file.st_dev, st_file.st_ino)
    assert (file.uid, file.user) == (os.geteuid(), subprocess.check_output(["id", "-un"], text=True).strip())
    assert (link.kind, link.target, link.size) == (Kind.SYMLINK, b"/no\xffwhere", 0)
    assert (pipe.kind, pipe.mode) == (Kind.FIFO, 0o600)
    assert found[b"second"].inode == file.inode
    assert file.xattrs is None  # read later, by whoever opens the file anyway
    assert found.told == []


@needs_root
@pytest.mark.root
def test_it_tells_device_numbers_and_unknown_owners(tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
    os.chown(tmp_path / "null", 4_000_000, 4_000_001)

    found = Scanned(tmp_path)[b"null"]

    assert (found.kind, found.rdev) == (Kind.CHARACTER, os.makedev(1, 3))
    assert (found.uid, found.user, found.gid, found.group) == (4_000_000, "", 4_000_001, "")


def test_it_marks_what_changed_too_shortly_before(tmp_path: Path) -> None:
    plant(tmp_path, "old")
    time.sleep(2.2)
    plant(tmp_path, "new")

    found = Scanned(tmp_path)

    assert found[b"old"].notes == Notes.NONE
    assert found[b"new"].notes == Notes.UNSURE


# order, depth, size


def test_it_gives_depth_first_byte_order(tmp_path: Path) -> None:
    plant(tmp_path, "a/x", "a.b", "a-b/y", "a/b/z", "b", "a!")

    found = Scanned(tmp_path)

    assert found.paths == [b"a", b"a/b", b"a/b/z", b"a/x", b"a!", b"a-b", b"a-b/y", b"a.b", b"b"]
    keys = [entry.key for entry in found.all]
    assert keys == sorted(keys)


NAMES = st.text(st.sampled_from("ab\x01 -./\udcff\U0001f600"), min_size=1, max_size=4)
TREES = st.lists(NAMES, min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREES)
def test_it_gives_every_tree_in_the_order_of_its_keys(tmp_path: Path, paths: list[str]) -> None:
    top = tmp_path / os.urandom(8).hex()
    for path in paths:
        names = [name for name in path.split("/") if name not in ("", ".", "..")]
        (top / "/".join(names)).mkdir(parents=True, exist_ok=True)

    found = Scanned(tmp_path, top)

    expected = {os.fsencode(p) for p, _, _ in os.walk(top)} | {os.fsencode(p) for p in (tmp_path, *tmp_path.parents)}
    keys = [entry.key for entry in found.all]
    assert keys == sorted(set(keys))
    assert {entry.path for entry in found.all} == {path.lstrip(b"/") for path in expected}


def test_it_begins_with_the_directories_above_the_roots(tmp_path: Path) -> None:
    plant(tmp_path, "srv/data/x", "srv/other", "etc/passwd")

    found = Scanned(tmp_path, tmp_path / "srv" / "data")

    above = [os.fsencode(path).lstrip(b"/") for path in reversed(tmp_path.parents)]
    assert [entry.path for entry in found.all][: len(above)] == above
    assert found.paths == [b"srv", b"srv/data", b"srv/data/x"]
    assert found[b"srv"].mode == 0o777 & (tmp_path / "srv").stat().st_mode


def test_it_walks_thousands_of_levels(tmp_path: Path) -> None:
    path = dug(tmp_path, lambda fd: write(fd, b"leaf", b"x"), 8000)
    many = tmp_path / "many"
    many.mkdir()
    thin = dug_thin(many, 3000)

    found = Scanned(tmp_path)

    trees.remove(many)  # what clears tmp_path away gives up below a thousand levels
    assert found[path + b"/leaf"].size == 1
    assert found[b"many/" + thin].kind is Kind.DIRECTORY
    assert found.told == []


def dug_thin(top: Path, levels: int) -> bytes:
    fd = os.open(top, os.O_PATH)
    for _ in range(levels):
        os.mkdir(b"t", dir_fd=fd)
        fd, old = os.open(b"t", os.O_PATH, dir_fd=fd), fd
        os.close(old)
    os.close(fd)
    return b"/".join([b"t"] * levels)


def test_it_holds_only_names_of_a_huge_directory(tmp_path: Path) -> None:
    count = 20_000
    for number in range(count):
        os.close(os.open(tmp_path / f"file{number:020}", os.O_CREAT | os.O_WRONLY, 0o600))
    entries = scan([os.fsencode(tmp_path)], report=lambda _: None)
    tracemalloc.start()

    passed = sum(1 for _ in entries)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert passed > count
    assert peak / count < 200  # bytes a name while the directory is read; 135 measured


def test_it_begins_before_it_has_read_everything(tmp_path: Path) -> None:
    plant(tmp_path, "a/x", "b/x")
    entries = scan([os.fsencode(tmp_path)], report=lambda _: None)

    first = next(entry for entry in entries if entry.path.endswith(b"/a/x"))
    plant(tmp_path, "b/y")

    assert first.size == 3
    assert any(entry.path.endswith(b"/b/y") for entry in entries)


def test_it_closes_every_handle(tmp_path: Path) -> None:
    plant(tmp_path, "a/x", "b/c/d/x")
    before = len(os.listdir("/proc/self/fd"))

    Scanned(tmp_path)
    abandoned = scan([os.fsencode(tmp_path)], report=lambda _: None)
    next(abandoned)
    abandoned.close()  # type: ignore[attr-defined]  # a generator

    assert len(os.listdir("/proc/self/fd")) == before


# roots


def test_it_takes_overlapping_roots_once(tmp_path: Path) -> None:
    plant(tmp_path, "a/b/x", "a/y", "c")

    found = Scanned(tmp_path, tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a", tmp_path / "c")

    assert found.paths == [b"a", b"a/b", b"a/b/x", b"a/y", b"c"]


def test_it_takes_a_file_as_a_root(tmp_path: Path) -> None:
    plant(tmp_path, "a/x", "a/y")

    assert Scanned(tmp_path, tmp_path / "a" / "x").paths == [b"a", b"a/x"]


def test_it_takes_a_fifo_as_a_root(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    assert Scanned(tmp_path, tmp_path / "pipe")[b"pipe"].kind is Kind.FIFO


def test_it_keeps_a_root_that_is_a_link_as_a_link_and_says_so(tmp_path: Path) -> None:
    plant(tmp_path, "real/x")
    (tmp_path / "link").symlink_to("real")

    found = Scanned(tmp_path, tmp_path / "link")

    assert found.paths == [b"link"]
    assert found[b"link"].target == b"real"
    severity, message = found.reported[b"link"]
    assert severity == "warning"
    assert "name real itself" in message


def test_it_resolves_links_above_a_root(tmp_path: Path) -> None:
    plant(tmp_path, "real/data/x")
    (tmp_path / "link").symlink_to("real")

    found = Scanned(tmp_path, tmp_path / "link" / "data")

    assert found.paths == [b"real", b"real/data", b"real/data/x"]


def test_it_spells_roots_in_one_way() -> None:
    assert resolve([b"/", b"/usr//lib/../lib/.", b"/usr/lib/", b"/srv"]) == [b"", b"srv", b"usr/lib"]


@pytest.mark.parametrize(
    ("root", "sentence"),
    [
        (b"relative/path", "absolute path"),
        (b"", "absolute path"),
        (b"/nul\0", "absolute path"),
        (b"/no/such/place", "does not exist"),
        (b"/etc/passwd/x", "does not exist"),
        (b"/" + b"x" * 300, "cannot be read: file name too long"),
        (b"/usr/" + b"x/" * 3000, "does not exist"),
    ],
)
def test_it_refuses_a_root_that_cannot_be_read(root: bytes, sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        scan([root], report=lambda _: None)


def test_it_scans_a_tree_that_stands_elsewhere(tmp_path: Path) -> None:
    plant(tmp_path, "srv/x")
    (tmp_path / "out").symlink_to("/etc")

    found = list(scan([b"/srv"], tree=os.fsencode(tmp_path), report=lambda _: None))

    assert [entry.path for entry in found] == [b"", b"srv", b"srv/x"]
    with pytest.raises(SourceError, match="leads out of"):
        scan([b"/out/ssh"], tree=os.fsencode(tmp_path), report=lambda _: None)


def test_it_refuses_to_scan_nothing() -> None:
    with pytest.raises(SourceError, match="no path is named"):
        scan([], report=lambda _: None)


def test_it_refuses_a_bad_pattern_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(InvalidPattern):
        scan([os.fsencode(tmp_path)], excludes=["a["], report=lambda _: None)


@pytest.fixture
def somebody(tmp_path: Path) -> Iterator[None]:
    """An account without privileges, for the length of a test."""
    open_the_way(tmp_path)
    os.setegid(65534)
    os.seteuid(65534)
    yield
    os.seteuid(0)
    os.setegid(0)


@needs_root
@pytest.mark.root
def test_it_refuses_a_root_that_is_locked(tmp_path: Path, somebody: None) -> None:
    locked = tmp_path / "locked"
    _as_root(lambda: locked.mkdir(0o700))

    with pytest.raises(SourceError, match=r"permission denied\. Let the worker's account read it"):
        scan([os.fsencode(locked)], report=lambda _: None)


@needs_root
@pytest.mark.root
def test_it_reports_directories_it_may_not_read(tmp_path: Path, somebody: None) -> None:
    def make() -> None:
        for number in range(150):  # more than the handles a tree keeps
            (tmp_path / f"locked{number:03}").mkdir(0o700)
        plant(tmp_path, "z")
        os.chmod(tmp_path / "z", 0o644)

    _as_root(make)

    found = Scanned(tmp_path)

    assert found.reported[b"locked000"] == ("error", "It cannot be read: permission denied.")
    assert len(found.told) == 150
    assert found[b"locked149"].kind is Kind.DIRECTORY
    assert found[b"z"].size == 1


def _as_root(deed: object) -> None:
    os.seteuid(0)
    deed()  # type: ignore[operator]  # a callable without arguments
    os.seteuid(65534)


# oddities


def test_it_skips_a_socket_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's address is at most 107 bytes
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")

    found = Scanned(tmp_path)

    assert found.paths == []
    assert found.reported[b"socket"][0] == "warning"


def test_it_reports_what_vanishes_under_its_hands(tmp_path: Path) -> None:
    plant(tmp_path, "a", "b", "c/x", "d")
    told: list[ItemError] = []
    entries = scan([os.fsencode(tmp_path)], report=told.append)
    next(entry for entry in entries if entry.path.endswith(b"/a"))
    os.unlink(tmp_path / "b")
    (tmp_path / "c" / "x").unlink()
    (tmp_path / "c").rmdir()

    rest = [entry.path.rpartition(b"/")[2] for entry in entries]

    assert rest == [b"d"]
    assert [(item.path.rpartition(b"/")[2], item.severity) for item in told] == [(b"b", "warning"), (b"c", "warning")]
    assert "vanished" in told[0].message


def test_it_reports_a_directory_that_is_gone_when_it_comes_back_to_it(tmp_path: Path) -> None:
    deep = tmp_path / "top" / "a"
    deep.mkdir(parents=True)
    thin = dug_thin(deep, 300)  # more than the handles a tree keeps
    plant(tmp_path, "top/z")
    told: list[ItemError] = []
    entries = scan([os.fsencode(tmp_path / "top")], report=told.append)
    next(entry for entry in entries if entry.path.endswith(thin))

    os.rename(tmp_path / "top", tmp_path / "moved")
    rest = list(entries)

    assert rest == []
    assert [(item.path, item.severity) for item in told] == [(os.fsencode(tmp_path / "top")[1:], "error")]
    assert "cannot be read to its end" in told[0].message


def test_it_leaves_out_what_lies_deeper_than_it_stores(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    path, fd = dig(top, 66_000, b"d" * 255)
    os.close(fd)

    found = Scanned(top)

    trees.remove(top)
    assert 65_000 < max(len(entry.path) for entry in found.all) < 65_535 + 256 < len(path) + len(found.top)
    assert [item.severity for item in found.told] == ["error"]
    assert "longer than 65535 bytes" in found.told[0].message


def test_it_does_not_follow_a_link_put_in_place_of_a_directory(tmp_path: Path) -> None:
    plant(tmp_path, "outside/secret", "top/a/x", "top/b")
    told: list[ItemError] = []
    entries = scan([os.fsencode(tmp_path / "top")], report=told.append)
    next(entry for entry in entries if entry.path.endswith(b"/top/a"))  # seen as a directory, not gone into
    os.rename(tmp_path / "top" / "a", tmp_path / "moved")
    (tmp_path / "top" / "a").symlink_to(tmp_path / "outside")

    rest = [entry.path.rpartition(b"/")[2] for entry in entries]

    assert rest == [b"b"]
    assert told[0].severity == "error"


def test_it_passes_growing_and_changing_trees(tmp_path: Path) -> None:
    plant(tmp_path, *(f"d{number}/x" for number in range(30)))
    entries = scan([os.fsencode(tmp_path)], report=lambda _: None)

    for number, entry in enumerate(entries):
        if entry.path.startswith(os.fsencode(tmp_path)[1:]) and entry.kind is Kind.DIRECTORY and number < 200:
            plant(Path("/") / os.fsdecode(entry.path), f"grown{number}")

    assert number > 30


# what is left out


def test_it_leaves_out_what_patterns_name(tmp_path: Path) -> None:
    plant(tmp_path, "a/x.pyc", "a/x.py", "node_modules/deep/x", "keep/build", "b/build/x")

    found = Scanned(tmp_path, excludes=["*.pyc", "node_modules", "build/"])

    assert found.paths == [b"a", b"a/x.py", b"b", b"keep", b"keep/build"]
    assert found.told == []


def test_it_never_leaves_out_a_root(tmp_path: Path) -> None:
    plant(tmp_path, "cache/a/x", "cache/b", "keep")

    found = Scanned(tmp_path, tmp_path, tmp_path / "cache" / "a", excludes=["cache"])

    assert found.paths == [b"cache", b"cache/a", b"cache/a/x", b"keep"]


def test_it_leaves_out_caches_that_say_so(tmp_path: Path) -> None:
    plant(tmp_path, "cache/x/y", "liar/CACHEDIR.TAG", "liar/x", "data/x")
    (tmp_path / "cache" / "CACHEDIR.TAG").write_bytes(CACHE_SIGNATURE + b"\n# made by a test\n")
    (tmp_path / "liar" / "deeper").mkdir()
    (tmp_path / "liar" / "deeper" / "CACHEDIR.TAG").symlink_to("../../cache/CACHEDIR.TAG")

    found = Scanned(tmp_path, exclude_caches=True)

    assert found.paths == [
        b"cache",
        b"cache/CACHEDIR.TAG",
        b"data",
        b"data/x",
        b"liar",
        b"liar/CACHEDIR.TAG",
        b"liar/deeper",
        b"liar/deeper/CACHEDIR.TAG",
        b"liar/x",
    ]
    assert b"cache/x/y" in Scanned(tmp_path).paths
    assert b"cache/x/y" in Scanned(tmp_path, tmp_path / "cache", exclude_caches=True).paths  # named, so wanted


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """tmp_path/top with a file system of its own mounted on top/mount."""
    point = tmp_path / "top" / "mount"
    plant(tmp_path, "top/x")
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", point], check=True)
    try:
        plant(tmp_path, "top/mount/inside/y")
        yield tmp_path / "top"
    finally:
        subprocess.run(["umount", "-R", point], check=True)


@needs_root
@pytest.mark.root
def test_it_stays_on_one_file_system_where_asked(mounted: Path) -> None:
    everything = Scanned(mounted).paths
    one = Scanned(mounted, one_file_system=True).paths
    named = Scanned(mounted, mounted, mounted / "mount" / "inside", one_file_system=True).paths

    assert everything == [b"mount", b"mount/inside", b"mount/inside/y", b"x"]
    assert one == [b"mount", b"x"]
    assert named == everything


@needs_root
@pytest.mark.root
def test_it_does_not_enter_pseudo_file_systems(mounted: Path) -> None:
    subprocess.run(["mount", "-t", "proc", "none", mounted / "mount" / "inside"], check=True)

    assert Scanned(mounted).paths == [b"mount", b"mount/inside", b"x"]
    with pytest.raises(SourceError, match="on a proc file system"):
        Scanned(mounted / "mount" / "inside")


PROC = "It is left out. It is on a proc file system, which shows processes and the secrets they were given"


@pytest.mark.parametrize("root", ["/proc", "/proc/self/environ", "/proc/self/fd", "/proc/1/cwd"])
def test_it_refuses_a_root_among_processes(root: str) -> None:
    with pytest.raises(SourceError, match=r"is not read\. It is on a proc file system.* Name another path\."):
        Scanned(Path(root))


def test_it_refuses_a_root_behind_a_link_to_processes(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/proc/self")

    with pytest.raises(SourceError, match="on a proc file system"):
        Scanned(tmp_path, tmp_path / "link" / "environ")


@needs_root
@pytest.mark.root
def test_it_reads_no_file_of_a_process_that_was_mounted_among_the_others(tmp_path: Path) -> None:
    plant(tmp_path, "x", "y")
    subprocess.run(["mount", "--bind", f"/proc/{os.getpid()}/environ", tmp_path / "x"], check=True)
    try:
        found = Scanned(tmp_path)
        with pytest.raises(SourceError, match="on a proc file system"):
            Scanned(tmp_path / "x")
    finally:
        subprocess.run(["umount", tmp_path / "x"], check=True)

    assert found.paths == [b"y"]
    severity, message = found.reported[b"x"]
    assert severity == "warning" and message.startswith(PROC)


@needs_root
@pytest.mark.root
def test_it_does_not_descend_where_processes_are_mounted_after_its_look(
    mounted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = mounted / "mount" / "inside"
    subprocess.run(["mount", "-t", "proc", "none", inside], check=True)
    monkeypatch.setattr("backups.engine.scan.examine", lambda roots, *_: resolve(roots))

    found = Scanned(mounted, inside / "self")

    assert found.paths == [b"mount"]
    assert found.reported[b"mount/inside"][1].startswith(PROC)


def test_the_whole_tree_keeps_the_place_of_processes_and_nothing_in_it() -> None:
    found = scan([b"/"], excludes=["/*/*", "!/proc/*"], report=lambda _: None)

    below = [entry.path for entry in found if entry.path == b"proc" or entry.path.startswith(b"proc/")]

    assert below == [b"proc"]


def test_a_link_that_keeps_where_it_leads_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shut = os.fsencode(tmp_path / "shut")
    os.symlink("/srv", shut)
    shut_to_us(monkeypatch, shut)

    with pytest.raises(SourceError, match=r"/shut cannot be looked into \(Permission denied\)"):
        scan([shut + b"/etc"], report=lambda _: None)


def shut_to_us(monkeypatch: pytest.MonkeyPatch, link: bytes) -> None:
    """As /proc/1/root is to who is not root."""
    read = os.readlink

    def readlink(path: bytes, **more: int) -> bytes:
        if path == link:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return read(path, **more)

    monkeypatch.setattr(os, "readlink", readlink)


# what is reserved


def test_it_leaves_out_what_is_reserved_under_whatever_name_and_says_so(tmp_path: Path) -> None:
    plant(tmp_path, "home/keys/ring", "home/base", "linked/x", "y")
    os.link(tmp_path / "home" / "base", tmp_path / "linked" / "harmless")
    names = [tmp_path / "home" / name for name in ("keys", "base", "base-wal")]
    identities = frozenset((st.st_dev, st.st_ino) for st in (name.stat() for name in names[:2]))
    reserved = Reserved(frozenset(os.fsencode(name).strip(b"/") for name in names), identities, "It is ours.")
    plant(tmp_path, "home/base-wal")  # made after the list was

    found = Scanned(tmp_path, reserved=reserved)

    assert found.paths == [b"home", b"linked", b"linked/x", b"y"]
    told = ("warning", "It is left out. It is ours.")
    assert found.reported == dict.fromkeys((b"home/base", b"home/base-wal", b"home/keys", b"linked/harmless"), told)


def test_it_says_nothing_of_what_a_pattern_leaves_out_first(tmp_path: Path) -> None:
    plant(tmp_path, "keys/ring", "x")
    reserved = Reserved(frozenset([os.fsencode(tmp_path / "keys").strip(b"/")]), why="It is ours.")

    found = Scanned(tmp_path, reserved=reserved, excludes=["keys/"])

    assert found.paths == [b"x"] and not found.told


@pytest.mark.parametrize("root", ["keys", "keys/deep/ring", "linked"])
def test_it_refuses_a_root_that_is_reserved_or_inside(tmp_path: Path, root: str) -> None:
    plant(tmp_path, "keys/deep/ring")
    os.link(tmp_path / "keys" / "deep" / "ring", tmp_path / "linked")
    sts = [(tmp_path / name).stat() for name in ("keys", "linked")]
    reserved = Reserved(identities=frozenset((st.st_dev, st.st_ino) for st in sts), why="It is ours.")

    with pytest.raises(SourceError, match=r"is not read\. It is ours\. Name another path\."):
        Scanned(tmp_path, tmp_path / root, reserved=reserved)


@needs_root
@pytest.mark.root
def test_it_knows_what_is_reserved_behind_a_bind_mount(tmp_path: Path) -> None:
    plant(tmp_path, "home/keys/ring", "top/x")
    (tmp_path / "top" / "mount").mkdir()
    st = (tmp_path / "home" / "keys").stat()
    reserved = Reserved(identities=frozenset([(st.st_dev, st.st_ino)]), why="It is ours.")
    subprocess.run(["mount", "--bind", tmp_path / "home", tmp_path / "top" / "mount"], check=True)
    try:
        found = Scanned(tmp_path / "top", reserved=reserved)
    finally:
        subprocess.run(["umount", tmp_path / "top" / "mount"], check=True)

    assert found.paths == [b"mount", b"x"]
