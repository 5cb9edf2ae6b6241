"""The tree: any set of paths comes back in order; pages stay small, and a change moves few of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from backups.engine import format as fmt
from backups.engine import tree
from backups.engine.entry import Entry, Kind, Notes, sort_key
from backups.engine.errors import EngineError
from backups.engine.tree import Tree, TreeWriter


class Pages(dict[bytes, bytes]):
    """Pages by id; counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[bytes] = []

    def save(self, raw: bytes) -> bytes:
        self[fmt.sha256(raw)] = raw
        return fmt.sha256(raw)

    def load(self, page: bytes) -> bytes:
        self.read.append(page)
        return self[page]


def written(entries: Iterable[Entry], pages: Pages) -> Tree:
    writer = TreeWriter(pages.save)
    for entry in entries:
        writer.add(entry)
    return writer.finish()


def file(path: bytes, size: int = 1) -> Entry:
    return Entry(path, Kind.FILE, size=size, xattrs=(), content=fmt.sha256(path) * 2)


def directory(path: bytes) -> Entry:
    return Entry(path, Kind.DIRECTORY, xattrs=())


def paths(found: Iterable[Entry]) -> list[bytes]:
    return [entry.path for entry in found]


def many(count: int) -> Iterator[Entry]:
    """The root and a directory for every thousand files."""
    yield directory(b"")
    for number in range(count):
        if number % 1000 == 0:
            yield directory(b"d%06d" % (number // 1000))
        yield file(b"d%06d/file-%09d" % (number // 1000, number), number)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pages and a low fan-out: several levels with few entries."""
    monkeypatch.setattr(fmt, "PAGE_ENTRIES", 4)
    monkeypatch.setattr(fmt, "PAGE_ENTRIES_MAX", 9)
    monkeypatch.setattr(tree, "_FAN_OUT", 3)
    monkeypatch.setattr(tree, "_FAN_OUT_MAX", 5)


# ----------------------------------------------------------------- round trips

NAMES = some.binary(min_size=1, max_size=6).map(lambda name: name.replace(b"/", b"-").replace(b"\0", b"~"))
PATHS = some.lists(NAMES, min_size=1, max_size=4).map(b"/".join)
TREES = some.sets(PATHS, max_size=60).map(lambda found: sorted({b"", *found}, key=sort_key))


@some.composite
def any_entry(draw: some.DrawFn, path: bytes) -> Entry:
    kind = draw(some.sampled_from(Kind))
    numbers = some.integers(0, 2**64 - 1)
    times = some.integers(-(2**63), 2**63 - 1)
    content = some.one_of(
        some.binary(max_size=200), some.lists(some.binary(min_size=32, max_size=32), min_size=1, max_size=5).map(tuple)
    )
    ids = some.integers(0, 2**32 - 1)
    return Entry(
        path, kind, draw(some.integers(0, 0o7777)), draw(ids), draw(ids),
        mtime_ns=draw(times), ctime_ns=draw(times), device=draw(numbers), inode=draw(numbers),
        nlink=draw(some.integers(1, 2**32)), size=draw(some.integers(0, 2**63 - 1)),
        target=draw(some.binary(max_size=20)), rdev=draw(numbers),
        xattrs=tuple(draw(some.lists(some.tuples(some.binary(min_size=1), some.binary()), max_size=3))),
        flags=draw(some.integers(0, 2**32 - 1)), block=draw(some.sampled_from([0, 4096, 65536])),
        notes=Notes(draw(some.integers(0, 7))), content=draw(content) if kind is Kind.FILE else None,
        sha256=draw(some.sampled_from([b"", bytes(32)])),
    )  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(found=TREES, data=some.data())
def test_every_field_of_every_entry_comes_back(found: list[bytes], data: some.DataObject) -> None:
    entries, pages = [data.draw(any_entry(path)) for path in found[:12]], Pages()

    done = written(entries, pages)

    assert list(tree.entries(pages.load, done.root)) == entries
    assert done.entries == len(entries)
    assert done.size == sum(entry.size for entry in entries if entry.kind is Kind.FILE)


@pytest.mark.usefixtures("narrow")
@settings(deadline=None, max_examples=150)
@given(found=TREES)
def test_any_set_of_paths_comes_back_in_order(found: list[bytes]) -> None:
    pages = Pages()

    done = written(map(file, found), pages)

    assert paths(tree.entries(pages.load, done.root)) == found
    assert fmt.sha256(pages[done.root]) == done.root_sha256
    assert fmt.sha256(b"".join(tree.leaves(pages.load, done.root))) == done.manifest_sha256


@pytest.mark.usefixtures("narrow")
@settings(deadline=None, max_examples=150)
@given(found=TREES, below=some.one_of(PATHS, some.just(b"")), data=some.data())
def test_a_listing_of_a_subtree_is_the_whole_listing_filtered(
    found: list[bytes], below: bytes, data: some.DataObject
) -> None:
    pages = Pages()
    done = written(map(file, found), pages)
    for base in (below, data.draw(some.sampled_from(found)), data.draw(some.sampled_from(found)).split(b"/")[0]):
        inside = [path for path in found if not base or path == base or path.startswith(base + b"/")]

        assert paths(tree.entries(pages.load, done.root, base)) == inside


@given(found=TREES)
def test_descendants_come_right_behind_their_directory(found: list[bytes]) -> None:
    for number, path in enumerate(found):
        inside = [other for other in found if other.startswith(path + b"/")]
        assert not path or found[number + 1 : number + 1 + len(inside)] == inside


def test_names_of_people_come_back_even_in_odd_bytes() -> None:
    entries = [
        Entry(b"", Kind.DIRECTORY, uid=0, gid=0, user="root", group="wheel", xattrs=()),
        Entry(b"a", Kind.FILE, uid=7, gid=8, user="J\udcf6rg", group="使用者", xattrs=(), content=b""),
        Entry(b"b", Kind.FILE, uid=9, gid=9, xattrs=(), content=b""),
    ]
    pages = Pages()

    done = written(entries, pages)

    assert list(tree.entries(pages.load, done.root)) == entries


def test_attributes_that_were_never_read_come_back_as_none_there() -> None:
    pages = Pages()

    done = written([Entry(b"", Kind.DIRECTORY, xattrs=None)], pages)

    assert next(tree.entries(pages.load, done.root)).xattrs == ()


def test_an_empty_tree_has_one_page() -> None:
    pages = Pages()

    done = written([], pages)

    assert (len(pages), done.entries, done.size) == (1, 0, 0)
    assert list(tree.entries(pages.load, done.root)) == []
    assert list(tree.entries(pages.load, done.root, b"x")) == []


@pytest.mark.parametrize("wrong", [[b"b", b"a"], [b"a", b"a"], [b"a/b", b"a"], [b"a!", b"a/b"], [b"x", b""]])
def test_entries_out_of_order_are_refused(wrong: Sequence[bytes]) -> None:
    with pytest.raises(EngineError, match="out of order"):
        written(map(file, wrong), Pages())


# ---------------------------------------------------------------------- levels


@pytest.mark.usefixtures("narrow")
def test_a_large_tree_has_several_levels_and_no_large_page() -> None:
    pages = Pages()

    done = written(many(3000), pages)

    level, _ = tree.references(pages[done.root])
    assert level >= 4
    counts = [len(list(tree.decode_page(raw))) for raw in pages.values() if tree.is_leaf(raw)]
    assert max(counts) <= 9
    assert max(len(tree.references(raw)[1]) for raw in pages.values()) <= 5
    assert {page for page, _ in tree.pages(pages.load, done.root)} == set(pages)


@pytest.mark.usefixtures("narrow")
def test_references_count_what_is_below_them() -> None:
    pages = Pages()
    done = written(many(500), pages)

    for raw in pages.values():
        for reference in tree.references(raw)[1]:
            below = list(tree.entries(pages.load, reference.id))
            assert (reference.first, reference.entries) == (below[0].path, len(below))
            assert reference.size == sum(entry.size for entry in below if entry.kind is Kind.FILE)
    assert (done.entries, done.size) == (502, sum(range(500)))


@pytest.mark.usefixtures("narrow")
def test_a_subtree_is_found_without_reading_the_rest() -> None:
    pages = Pages()
    done = written(many(3000), pages)
    pages.read.clear()

    found = paths(tree.entries(pages.load, done.root, b"d000001/file-000001500"))

    assert found == [b"d000001/file-000001500"]
    assert len(pages.read) < 30
    assert len(pages) > 700


def test_a_page_is_closed_by_its_bytes_too() -> None:
    """Hundreds of entries with much content, long names or attributes do not make a page of hundreds of MiB."""
    fat = [Entry(b"%03d" % n, Kind.FILE, xattrs=((b"user.a", bytes(60_000)),), content=bytes(82)) for n in range(60)]
    long = [Entry(b"%03d" % n + bytes([65]) * 60_000, Kind.FILE, xattrs=(), content=b"") for n in range(60)]

    for entries in (fat, long):
        pages = Pages()
        done = written(entries, pages)
        assert max(map(len, pages.values())) < 2 * tree.PAGE_BYTES
        assert paths(tree.entries(pages.load, done.root)) == paths(entries)


def test_a_page_of_references_is_closed_by_its_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """512 references of 65,535 bytes each would be more than any frame may hold."""
    monkeypatch.setattr(tree, "PAGE_BYTES", 10_000)
    entries = [file(b"%04d" % n + bytes([65]) * 3000) for n in range(600)]
    pages = Pages()

    done = written(entries, pages)

    assert max(map(len, pages.values())) < 20_000
    assert paths(tree.entries(pages.load, done.root)) == paths(entries)


def test_a_leaf_is_not_taken_for_references_nor_the_other_way_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fmt, "PAGE_ENTRIES_MAX", 2)
    pages = Pages()
    done = written(many(20), pages)

    assert not tree.is_leaf(pages[done.root])
    with pytest.raises(EngineError, match="where a leaf page should be"):
        list(tree.decode_page(pages[done.root]))


# --------------------------------------------------------------------- changes


def _ids(entries: Iterable[Entry]) -> set[bytes]:
    pages = Pages()
    written(entries, pages)
    return set(pages)


def test_the_same_entries_make_the_same_tree() -> None:
    assert _ids(many(3000)) == _ids(many(3000))


@pytest.mark.parametrize("where", [b"", b"d000000", b"d000007/file-000007500", b"d000019/file-000019999"])
def test_an_insertion_moves_few_pages(where: bytes) -> None:
    before = list(many(20_000))
    after = sorted([*before, file(where + b"-new")], key=lambda entry: entry.key)

    assert len(_ids(after) - _ids(before)) <= 5


def test_a_removed_or_changed_file_moves_few_pages() -> None:
    before = list(many(20_000))
    removed = [entry for entry in before if not entry.path.endswith(b"9500")]
    changed = [file(e.path, e.size + 1) if e.path.endswith(b"9500") else e for e in before]

    assert len(before) - len(removed) == 2
    assert len(_ids(removed) - _ids(before)) <= 9
    assert len(_ids(changed) - _ids(before)) <= 6


# ---------------------------------------------------------------------- memory


def test_memory_does_not_grow_with_the_tree() -> None:
    """Counted in the interpreter's blocks of memory; 100,000 entries that were kept would take a million."""
    before, most = sys.getallocatedblocks(), 0
    pages = Pages()
    done = written(many(100_000), pages)

    for number, _ in enumerate(tree.entries(pages.__getitem__, done.root)):
        if number % 500 == 0:
            most = max(most, sys.getallocatedblocks() - before)
    writing = _most_while(written, many(100_000), _OnlyIds())

    assert done.entries == 100_101
    assert most < 120_000
    assert writing < 120_000


def _most_while(write: Callable[[Iterable[Entry], Pages], Tree], entries: Iterator[Entry], pages: Pages) -> int:
    """The greatest number of blocks in use while entries are written, above what is in use now."""
    before, most = sys.getallocatedblocks(), 0

    def sampled() -> Iterator[Entry]:
        nonlocal most
        for number, entry in enumerate(entries):
            if number % 500 == 0:
                most = max(most, sys.getallocatedblocks() - before)
            yield entry

    write(sampled(), pages)
    return most


class _OnlyIds(Pages):
    def save(self, raw: bytes) -> bytes:
        return fmt.sha256(raw)
