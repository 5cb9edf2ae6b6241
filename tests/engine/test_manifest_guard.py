"""The guard judges a whole snapshot before the first byte is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.engine.content import pack_unit
from backups.engine.entry import Blob, Entry, Kind, Unit
from backups.engine.errors import TargetError
from backups.engine.extract import DirectoryWriter, ManifestGuard
from tests.engine import trees

ROOT = Entry(b"", Kind.DIRECTORY)


def directory(path: bytes) -> Entry:
    return Entry(path, Kind.DIRECTORY)


def file(path: bytes = b"f", **facts: object) -> Entry:
    return Entry(path, Kind.FILE, **facts)  # type: ignore[arg-type]  # passed on as they are


def unit(offset: int, length: int, blobs: tuple[int, ...] | None = None) -> bytes:
    return pack_unit(Unit(offset, length, bytes(32), tuple(Blob(bytes(32), n) for n in blobs or (length,))))


def judge(*entries: Entry, guard: ManifestGuard | None = None) -> None:
    guard = guard or ManifestGuard()
    for entry in entries:
        guard.check(entry)
    guard.finish()


def test_it_accepts_every_tree_there_is(tmp_path: Path) -> None:
    trees.plant_oddities(tmp_path / "source")
    base = len(os.fsencode(tmp_path / "source"))
    guard = ManifestGuard()

    for entry in trees.entries(tmp_path / "source"):
        entry.path = entry.path[base:]
        guard.check(entry)

    assert guard.entries > 90
    assert guard.size > 100 << 30


HOSTILE: list[tuple[str, list[Entry]]] = [
    ("component '..'", [ROOT, file(b"..")]),
    ("component '..'", [ROOT, directory(b"a"), file(b"a/../../etc/passwd")]),
    ("component '.'", [ROOT, file(b".")]),
    ("component ''", [ROOT, directory(b"a"), file(b"a//b")]),
    ("component ''", [ROOT, file(b"a/")]),
    ("absolute", [ROOT, file(b"/etc/passwd")]),
    ("absolute", [ROOT, file(b"/")]),
    ("NUL", [ROOT, file(b"a\0b")]),
    ("longer than 255", [ROOT, file(b"n" * 256)]),
    ("longer than 65535", [ROOT, file(b"/".join([b"n" * 100] * 700))]),
    ("stands twice", [ROOT, file(b"a"), file(b"a")]),
    ("stands twice", [ROOT, directory(b"a"), file(b"a")]),
    ("stands twice", [ROOT, ROOT]),
    ("out of order", [ROOT, file(b"b"), file(b"a")]),
    ("out of order", [ROOT, directory(b"b"), file(b"b/x"), file(b"a")]),
    ("/a above it is no directory", [ROOT, file(b"a"), file(b"a/b")]),
    ("/a above it is no directory", [ROOT, Entry(b"a", Kind.SYMLINK, target=b"/etc"), file(b"a/b")]),
    ("/a above it is no directory", [ROOT, file(b"a/b")]),
    ("/a above it is no directory", [directory(b"a"), file(b"a/b")][1:]),
    ("the root is no directory", [file(b"")]),
    ("above it is no directory", [file(b"a")]),
    ("impossible", [ROOT, file(mode=0o10000)]),
    ("impossible", [ROOT, file(mode=-1)]),
    ("impossible", [ROOT, file(uid=-1)]),
    ("impossible", [ROOT, file(gid=2**32 - 1)]),
    ("impossible", [ROOT, file(size=-1)]),
    ("impossible", [ROOT, file(size=2**63)]),
    ("impossible", [ROOT, file(mtime_ns=2**64)]),
    ("impossible", [ROOT, file(flags=2**40)]),
    ("impossible", [ROOT, file(rdev=-5)]),
    ("impossible", [ROOT, Entry(b"a", 7)]),  # type: ignore[arg-type]  # a kind nobody knows
    ("wrong type", [ROOT, file(mode=None)]),
    ("wrong type", [ROOT, file(mtime_ns="now")]),
    ("wrong type", [ROOT, file(xattrs=5)]),
    ("wrong type", [ROOT, file(xattrs=((b"a",),))]),
    ("wrong type", [ROOT, file("text")]),  # type: ignore[arg-type]  # a path that is no bytes
    ("link is empty", [ROOT, Entry(b"a", Kind.SYMLINK)]),
    ("link is empty, too long", [ROOT, Entry(b"a", Kind.SYMLINK, target=b"x" * 4096)]),
    ("link is empty", [ROOT, Entry(b"a", Kind.SYMLINK, target=b"x\0")]),
    ("impossible name or size", [ROOT, file(xattrs=((b"", b"x"),))]),
    ("impossible name or size", [ROOT, file(xattrs=((b"user.x\0", b"x"),))]),
    ("impossible name or size", [ROOT, file(xattrs=((b"user.x", b"x" * 65_537),))]),
    ("impossible name or size", [ROOT, file(xattrs=(("user.x", b"x"),))]),
    ("overlap or lie outside", [ROOT, file(size=10, content=unit(0, 6) + unit(5, 5))]),
    ("overlap or lie outside", [ROOT, file(size=10, content=unit(5, 5) + unit(0, 5))]),
    ("overlap or lie outside", [ROOT, file(size=10, content=unit(5, 6))]),
    ("overlap or lie outside", [ROOT, file(size=2**62, content=unit(2**63, 5))]),
    ("overlap or lie outside", [ROOT, file(size=10, content=unit(0, 0, (0,)))]),
    ("another length than its blobs", [ROOT, file(size=100, content=unit(0, 50, (20, 31)))]),
    ("cannot be understood", [ROOT, file(size=100, content=unit(0, 50)[:-1])]),
    ("cannot be understood", [ROOT, file(size=100, content=b"x")]),
    ("named impossibly", [ROOT, file(size=100, content=(b"short",))]),
    ("named impossibly", [ROOT, file(size=100, content=())]),
    ("content without being a file", [ROOT, Entry(b"d", Kind.DIRECTORY, content=unit(0, 5))]),
]


@pytest.mark.parametrize(("why", "entries"), HOSTILE, ids=lambda value: value if isinstance(value, str) else "")
def test_it_refuses_what_a_hostile_snapshot_may_say(why: str, entries: list[Entry]) -> None:
    with pytest.raises(TargetError) as caught:
        judge(*entries)

    assert why in str(caught.value)
    assert "is refused" in str(caught.value)
    assert "Nothing was written." in str(caught.value)


def test_it_names_the_entry_even_when_its_name_is_no_text() -> None:
    with pytest.raises(TargetError, match=r"entry /caf\\xe9\\x0a is refused"):
        judge(ROOT, file(b"caf\xe9\n"), file(b"caf\xe9\n"))


def test_it_refuses_more_than_is_declared() -> None:
    with pytest.raises(TargetError, match="declares only 2 entries"):
        judge(ROOT, file(b"a"), file(b"b"), guard=ManifestGuard(entries=2))
    with pytest.raises(TargetError, match="declares only 100 bytes"):
        judge(ROOT, file(b"a", size=60), file(b"b", size=60), guard=ManifestGuard(size=100))


def test_it_refuses_less_than_is_declared() -> None:
    with pytest.raises(TargetError, match="declares 3 entries and holds 2"):
        judge(ROOT, file(b"a"), guard=ManifestGuard(entries=3))


def test_it_lets_nothing_pass_below_a_directory_that_it_refused() -> None:
    guard = ManifestGuard()
    guard.check(ROOT)
    with pytest.raises(TargetError, match="content without being a file"):
        guard.check(Entry(b"a", Kind.DIRECTORY, content=b"x"))

    with pytest.raises(TargetError, match="/a above it is no directory of the snapshot"):
        guard.check(file(b"a/b"))


def test_it_accepts_content_of_every_form() -> None:
    guard = ManifestGuard()

    judge(
        ROOT,
        file(b"empty", content=b"", xattrs=((b"user.x", b"x" * 65_536),)),
        file(b"hole", size=100, content=b""),
        file(b"not captured", size=100),
        file(b"pages", size=1 << 40, content=(bytes(32), bytes(32))),
        file(b"units", size=100, content=unit(10, 20, (5, 15)) + unit(50, 50)),
        file(b"whole", size=100, content=bytes(64)),
        guard=guard,
    )

    assert (guard.entries, guard.size) == (7, 400 + (1 << 40))


def test_it_accepts_what_is_declared() -> None:
    guard = ManifestGuard(entries=2, size=60)

    judge(ROOT, file(b"a", size=60), guard=guard)

    assert (guard.entries, guard.size) == (2, 60)


def test_it_refuses_names_the_target_cannot_tell_apart() -> None:
    letters = [ROOT, directory(b"A"), file(b"A/x"), file(b"a")]
    accents = [ROOT, file(b"e\xcc\x81"), file(b"\xc3\xa9")]

    judge(*letters)
    judge(*accents, guard=ManifestGuard(folds_case=True))
    judge(ROOT, directory(b"A"), file(b"A/a"), directory(b"b"), file(b"b/a"), guard=ManifestGuard(folds_case=True))
    with pytest.raises(TargetError, match="/a is refused: the target's file system cannot tell"):
        judge(*letters, guard=ManifestGuard(folds_case=True))
    with pytest.raises(TargetError, match="cannot tell its name from another"):
        judge(*accents, guard=ManifestGuard(folds_unicode=True))


names = st.binary(min_size=0, max_size=4) | st.sampled_from([b"..", b".", b"", b"a", b"\0"])
paths = st.lists(names, max_size=4).map(b"/".join)
wild = st.builds(
    Entry,
    paths,
    st.sampled_from(list(Kind)),
    mode=st.integers(-1, 0o10000),
    size=st.integers(-1, 2**64),
    target=st.binary(max_size=3),
    content=st.binary(max_size=90) | st.none() | st.tuples(st.binary(max_size=33)),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(wild, max_size=8))
def test_it_lets_nothing_pass_that_could_do_harm(entries: list[Entry]) -> None:
    guard = ManifestGuard()
    passed = [entry for entry in [ROOT, *sorted(entries, key=lambda entry: entry.key)] if _fine(guard.check, entry)]

    seen = {entry.path: entry for entry in passed}
    assert len(seen) == len(passed)
    for path, entry in seen.items():
        parts = path.split(b"/") if path else []
        assert not any(part in (b"", b".", b"..") or b"\0" in part for part in parts)
        assert all(seen[b"/".join(parts[:n])].kind is Kind.DIRECTORY for n in range(len(parts)))
        assert 0 <= entry.size < 2**63


def _fine(check: Callable[[Entry], None], entry: Entry) -> bool:
    try:
        check(entry)
    except TargetError:
        return False
    return True


def test_it_lets_a_restore_write_nothing(tmp_path: Path) -> None:
    """The order of a restore: the guard sees everything before the writer exists."""

    def restore(entries: list[Entry]) -> None:
        judge(*entries)
        with DirectoryWriter(os.fsencode(tmp_path / "t")):
            raise AssertionError("too late")

    for _, entries in HOSTILE:
        with pytest.raises(TargetError):
            restore(entries)
    assert os.listdir(tmp_path) == []
