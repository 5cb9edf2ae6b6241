"""Patterns: what is left out of a backup, and what a restore picks."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backups.engine.entry import Entry, Kind
from backups.engine.errors import InvalidPattern
from backups.engine.patterns import Excludes, PathFilter, escape


def leaves_out(patterns: list[bytes], path: bytes, *, directory: bool = False) -> bool:
    """The answer of a scan: a path is left out with the first directory above it that is."""
    excludes = Excludes(patterns)
    names = path.split(b"/")
    above = [b"/".join(names[:n]) for n in range(1, len(names))]
    return any(excludes.match(parent, True) for parent in above) or excludes.match(path, directory)


@pytest.mark.parametrize(
    ("pattern", "out", "kept"),
    [
        (
            b"node_modules",
            [b"node_modules", b"srv/app/node_modules/x.js"],
            [b"srv/node_modules2", b"srv/my_node_modules"],
        ),
        (b"*.pyc", [b"a.pyc", b"srv/b.pyc", b".pyc"], [b"a.pyc2", b"a.py"]),
        (b"/srv/cache", [b"srv/cache", b"srv/cache/x"], [b"home/srv/cache", b"srv/cache2"]),
        (b"srv/cache", [b"srv/cache", b"home/srv/cache"], [b"srv/x/cache", b"mysrv/cache"]),
        (b"/srv/*/tmp", [b"srv/a/tmp", b"srv/a/tmp/x"], [b"srv/tmp", b"srv/a/b/tmp"]),
        (b"/srv/**/tmp", [b"srv/tmp", b"srv/a/tmp", b"srv/a/b/tmp/x"], [b"tmp", b"srv/tmp2"]),
        (b"/srv/**", [b"srv/a", b"srv/a/b"], [b"srv", b"srv2/a"]),
        (b"a?c", [b"abc", b"x/a.c"], [b"ac", b"abbc"]),
        (b"[a-c]x[!0-9]", [b"bxz", b"axy/q"], [b"dxz", b"bx5", b"bx"]),
        (b"[]]", [b"]"], [b"[", b"[]]"]),
        (b"*", [b"x", b"\xff\xfe"], []),
        (b"caf\xe9*", [b"caf\xe9", b"x/caf\xe9.txt"], [b"cafe"]),
        (rb"\*x", [b"*x"], [b"yx"]),
        (rb"/a/caf\xe9*", [b"a/caf\xe9", b"a/caf\xe9.txt"], [b"a/cafe", b"a/cafxe9"]),
        (rb"back\x5cslash", [b"back\\slash"], [b"backx5cslash"]),
        (rb"\!x", [b"!x"], [b"x"]),
        (b"a**b", [b"ab", b"axb"], [b"a/b"]),
        (b"#x", [b"#x"], [b"x"]),
        (b"a\nb", [b"a\nb"], [b"a"]),
    ],
)
def test_it_leaves_out_what_a_pattern_means(pattern: bytes, out: list[bytes], kept: list[bytes]) -> None:
    assert [path for path in out if not leaves_out([pattern], path)] == []
    assert [path for path in kept if leaves_out([pattern], path)] == []


def test_it_tells_directories_from_files_where_the_pattern_does() -> None:
    assert leaves_out([b"build/"], b"srv/build", directory=True)
    assert leaves_out([b"build/"], b"srv/build/x")
    assert not leaves_out([b"build/"], b"srv/build")


def test_it_takes_back_what_a_later_pattern_names() -> None:
    patterns = [b"*.log", b"!important.log", b"/srv/important.log"]

    assert leaves_out(patterns, b"var/x.log")
    assert not leaves_out(patterns, b"var/important.log")
    assert leaves_out(patterns, b"srv/important.log")


def test_it_cannot_take_back_what_lies_below_a_directory_left_out() -> None:
    assert leaves_out([b"/srv", b"!/srv/keep"], b"srv/keep")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "names nothing"),
        ("/", "names nothing"),
        ("!", "names nothing"),
        ("a//b", "component ''"),
        ("a/../b", "component '..'"),
        ("./a", "component '.'"),
        ("a[bc", "no ']'"),
        ("[z-a]", "backwards"),
        ("[[:alpha:]]", "named classes"),
        ("a\\", "lone backslash"),
        ("a\0b", "NUL"),
    ],
)
def test_it_names_a_pattern_it_cannot_use(pattern: str, why: str) -> None:
    with pytest.raises(InvalidPattern, match="cannot be used") as caught:
        Excludes(["fine", pattern])

    assert repr(pattern) in str(caught.value)
    assert why in str(caught.value)


# against a slow reference


def matches(pattern: bytes, text: bytes) -> bool:
    """One component, by trying everything."""
    if not pattern:
        return not text
    if pattern.startswith(b"*"):
        return matches(pattern[1:], text) or (text != b"" and matches(pattern, text[1:]))
    return bool(text) and (pattern[0] == text[0] or pattern[:1] == b"?") and matches(pattern[1:], text[1:])


def matches_path(pattern: list[bytes], names: list[bytes]) -> bool:
    if not pattern:
        return not names
    if pattern[0] == b"**":
        if len(pattern) == 1:
            return bool(names)
        return matches_path(pattern[1:], names) or (names != [] and matches_path(pattern, names[1:]))
    return names != [] and matches(pattern[0], names[0]) and matches_path(pattern[1:], names[1:])


def reference(pattern: bytes, path: bytes) -> bool:
    parts = pattern.strip(b"/").split(b"/")
    return matches_path(parts if pattern.startswith(b"/") else [b"**", *parts], path.split(b"/"))


components = st.lists(st.sampled_from([b"a", b"b", b"*", b"?", b"\xff"]), min_size=1, max_size=5).map(b"".join)
globs = st.lists(components | st.just(b"**"), min_size=1, max_size=4).map(b"/".join)
paths = st.lists(st.text("ab\udcff", min_size=1, max_size=5), min_size=1, max_size=5).map("/".join)


@settings(max_examples=600, deadline=None)
@given(globs, st.booleans(), paths)
@example(b"**/a*b/**/b", True, "a/ab/b/b")
@example(b"*a*b*", False, "a/bab")
def test_it_agrees_with_trying_everything(glob: bytes, anchored: bool, text: str) -> None:
    pattern = (b"/" if anchored else b"") + glob
    path = text.encode("utf-8", "surrogateescape")

    assert Excludes([pattern]).match(path, False) == reference(pattern, path)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.booleans(), globs), min_size=1, max_size=5), paths)
def test_it_decides_by_the_last_pattern_that_matches(rules: list[tuple[bool, bytes]], text: str) -> None:
    path = text.encode("utf-8", "surrogateescape")
    hits = [not negated for negated, glob in rules if reference(glob, path)]

    answer = Excludes([(b"!" if negated else b"") + glob for negated, glob in rules]).match(path, False)

    assert answer == (hits[-1] if hits else False)


@settings(max_examples=300, deadline=None)
@given(globs, paths)
def test_it_never_turns_away_from_a_directory_that_holds_something_wanted(glob: bytes, text: str) -> None:
    wanted = PathFilter([glob])
    path = text.encode("utf-8", "surrogateescape")
    above = [path[:at] for at, byte in enumerate(path) if byte == 0x2F]

    if wanted.selects(path, False):
        assert all(wanted.may_contain(directory) for directory in above)


@pytest.mark.parametrize(
    "pattern", [b"*a" * 30 + b"b", b"**/a/" * 30 + b"b", b"/" + b"a*/" * 60 + b"b", b"?" * 200 + b"*b"]
)
@pytest.mark.parametrize("path", [b"a" * 4000, b"a/" * 2000 + b"a", b"aaaa/" * 1000 + b"a"])
def test_it_never_tries_for_long(pattern: bytes, path: bytes) -> None:
    excludes, wanted = Excludes([pattern]), PathFilter([pattern])
    began = time.process_time()

    excludes.match(path, False)
    wanted.selects(path, False)

    assert time.process_time() - began < 0.5


# restores


def test_it_selects_a_path_with_everything_below() -> None:
    wanted = PathFilter([b"srv/data/x"])

    assert wanted.selects(b"srv/data/x", True)
    assert wanted.selects(b"srv/data/x/y/z", False)
    assert not wanted.selects(b"srv/data/xy", False)
    assert not wanted.selects(b"home/srv/data/x", False)


def test_it_takes_absolute_spelling_and_text() -> None:
    assert PathFilter(["/srv/data/x/"]).selects(b"srv/data/x/y", False)
    assert PathFilter(["/"]).selects(b"anything", False)
    assert PathFilter().selects(b"anything", False)


def test_it_selects_by_wildcards() -> None:
    by_name, anchored = PathFilter([b"*.pdf"]), PathFilter([b"srv/*/logs"])

    assert by_name.selects(b"srv/a/b.pdf", False)
    assert anchored.selects(b"srv/a/logs/x", False)
    assert not anchored.selects(b"home/srv/a/logs", True)


def test_it_selects_a_name_that_looks_like_a_pattern() -> None:
    assert PathFilter([b"srv/a[1].txt"]).selects(b"srv/a[1].txt", False)
    assert PathFilter([escape(b"srv/a[1]*!\\.txt")]).selects(b"srv/a[1]*!\\.txt", False)
    assert not PathFilter([escape(b"a*")]).selects(b"ab", False)


def test_it_leaves_out_parts_of_what_it_selects() -> None:
    wanted = PathFilter([b"srv"], [b"*.tmp", b"/srv/cache"])

    assert wanted.selects(b"srv/x", False)
    assert not wanted.selects(b"srv/x.tmp", False)
    assert not wanted.selects(b"srv/cache/deep/x", False)
    assert not wanted.may_contain(b"srv/cache/deep")


def test_it_prunes_directories_that_hold_nothing_wanted() -> None:
    wanted = PathFilter([b"srv/data/*/logs"])

    assert [wanted.may_contain(path) for path in (b"", b"srv", b"srv/data", b"srv/data/a", b"srv/data/a/logs/q")] == [
        True
    ] * 5
    assert [wanted.may_contain(path) for path in (b"home", b"srv/other", b"srv/data/a/x")] == [False] * 3


def test_it_refuses_to_take_back_in_a_selection() -> None:
    with pytest.raises(InvalidPattern, match="excludes"):
        PathFilter(["!x"])


def test_it_hands_out_the_way_to_what_is_selected() -> None:
    kinds = {b"srv/data/x": Kind.FILE, b"srv/y": Kind.FILE, b"var/z": Kind.FILE}
    order = [b"", b"etc", b"srv", b"srv/data", b"srv/data/x", b"srv/empty", b"srv/y", b"var", b"var/z"]
    entries = [Entry(path, kinds.get(path, Kind.DIRECTORY)) for path in order]

    selected = PathFilter([b"srv/data/x", b"var"]).select(entries)

    assert [entry.path for entry in selected] == [b"", b"srv", b"srv/data", b"srv/data/x", b"var", b"var/z"]
