"""Path patterns over raw bytes: what a scan leaves out, and what a restore picks.

A pattern is a path with wildcards, a subset of gitignore's language:

    *  any bytes but '/'      ?  one byte but '/'      [a-z] [!a-z]  one byte of a set
    \\xNN  the byte of these hexadecimal digits, as paths are shown      \\  any other next byte as it is
    ** as a whole component   any number of directories
    /x leading slash          only this absolute path; without it the pattern matches at any depth
    x/ trailing slash         directories only
    !x                        take back what an earlier pattern has left out; the last pattern that matches decides

Other than in gitignore a slash in the middle anchors nothing, and nothing is a comment. A path below a directory that
is left out is never looked at, so it cannot be taken back.

Every wildcard becomes an atomic lookahead in a regular expression, so matching takes time linear in the path: the
first place where the text between two stars fits is as good as any later one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, groupby

from backups.engine.entry import Entry, Kind
from backups.engine.errors import InvalidPattern

Pattern = bytes | str
_DEEP = b"**"
_HEX = re.compile(rb"\\x([0-9a-fA-F]{2})")
_numbers = count()  # of regular-expression groups, whose names must differ in a combined expression


@dataclass(frozen=True, slots=True)
class Glob:
    """One parsed pattern. parts are components as regular expressions; None stands for any number of directories."""

    parts: tuple[bytes | None, ...]
    literal: bytes  # the path or name the pattern stands for when it has no wildcard
    negated: bool
    directories_only: bool

    @property
    def by_name(self) -> bool:
        """Whether the last component of a path alone decides."""
        return len(self.parts) == 2 and self.parts[0] is None and self.parts[1] is not None

    def expression(self) -> bytes:
        """A regular expression that matches a prefix of the path, ending at a component's end."""
        groups = [list(g) for deep, g in groupby(self.parts, key=lambda part: part is None) if not deep]
        joined = [b"/".join(part for part in group if part is not None) for group in groups]
        floating, inside = self.parts[0] is None, self.parts[-1] is None
        pieces = [] if floating else [joined.pop(0) + (b"/" if joined or inside else b"")]
        pieces += [_earliest(rb"(?:[^/]+/)*?" + group + b"/") for group in joined[: None if inside else -1]]
        pieces += [b".+"] if inside else [rb"(?:[^/]+/)*?" + group for group in joined[-1:]]
        return b"".join(pieces)


def parse(pattern: Pattern) -> Glob:
    """Understand one pattern, or raise InvalidPattern naming it."""
    raw = os.fsencode(pattern)
    negated = raw.startswith(b"!")
    body = raw[1:] if negated else raw
    anchored, directories_only = body.startswith(b"/"), body.endswith(b"/")
    names = body.strip(b"/").split(b"/") if body.strip(b"/") else []
    _refuse(pattern, names, body)
    parts = [None if name == _DEEP else _component(name, pattern) for name in names]
    if not anchored:
        parts.insert(0, None)
    literal = b"" if _DEEP in names or any(_special(name) for name in names) else b"/".join(names)
    return Glob(tuple(parts), literal, negated, directories_only)


def _refuse(pattern: Pattern, names: list[bytes], body: bytes) -> None:
    if not names:
        raise _invalid(pattern, "it names nothing")
    if b"\0" in body:
        raise _invalid(pattern, "no file name holds a NUL byte")
    for name in names:
        if name in (b"", b".", b".."):
            raise _invalid(pattern, f"no path holds the component {os.fsdecode(name)!r}")


def _invalid(pattern: Pattern, why: str) -> InvalidPattern:
    return InvalidPattern(f"The pattern {os.fsdecode(pattern)!r} cannot be used: {why}.")


def _special(name: bytes) -> bool:
    return any(byte in name for byte in b"*?[\\")


# one component: fixed texts with stars between them


def _component(name: bytes, pattern: Pattern) -> bytes:
    """A regular expression for one component; it ends where the component ends."""
    texts = [b"".join(text) for star, text in groupby(_tokens(name, pattern), key=lambda t: t == b"*") if not star]
    starts, ends = name.startswith(b"*"), _ends_with_star(name)
    if not texts:
        return b"[^/]+"
    if len(texts) == 1 and not starts and not ends:
        return texts[0] + rb"(?=/|\Z)"
    first = b"" if starts else texts.pop(0)
    last = b"[^/]*" if ends else b"[^/]*" + texts.pop()
    return first + b"".join(_earliest(b"[^/]*?" + text) for text in texts) + last + rb"(?=/|\Z)"


def _ends_with_star(name: bytes) -> bool:
    body = name.rstrip(b"*")
    escapes = len(body) - len(body.rstrip(b"\\"))
    return len(name) - len(body) > escapes % 2


def _tokens(name: bytes, pattern: Pattern) -> Iterator[bytes]:
    """One regular expression for each byte to match; b"*" for a star."""
    at = 0
    while at < len(name):
        byte = name[at : at + 1]
        if byte == b"\\":
            text, at = _escaped(name, at, pattern)
            yield text
        elif byte == b"[":
            text, at = _set(name, at, pattern)
            yield text
        else:
            yield {b"*": b"*", b"?": b"[^/]"}.get(byte) or re.escape(byte)
        at += 1


def _escaped(name: bytes, at: int, pattern: Pattern) -> tuple[bytes, int]:
    """(regular expression, index of the last byte) of what the backslash at `at` says."""
    if (byte := _HEX.match(name, at)) is not None:
        return re.escape(bytes.fromhex(byte[1].decode())), at + 3
    if at + 1 == len(name):
        raise _invalid(pattern, "it ends with a lone backslash")
    return re.escape(name[at + 1 : at + 2]), at + 1


def _set(name: bytes, at: int, pattern: Pattern) -> tuple[bytes, int]:
    """(regular expression, index of the closing bracket) of the set that opens at `at`."""
    start = at + 1
    negated = name[start : start + 1] in (b"!", b"^")
    start += negated
    end = name.find(b"]", start + 1)
    if end < 0:
        raise _invalid(pattern, "a '[' has no ']'; write \\[ for the character itself")
    body = name[start:end]
    if b"[:" in body:
        raise _invalid(pattern, "named classes such as [:alpha:] are not known; write [a-z]")
    return b"(?!/)[" + (b"^" if negated else b"") + _ranges(body, pattern) + b"]", end


def _ranges(body: bytes, pattern: Pattern) -> bytes:
    found, at = [], 0
    while at < len(body):
        low = high = body[at]
        if body[at + 1 : at + 2] == b"-" and at + 2 < len(body):
            high = body[at + 2]
            at += 2
        if low > high:
            raise _invalid(pattern, "a range in brackets runs backwards")
        found.append(b"\\x%02x-\\x%02x" % (low, high))
        at += 1
    return b"".join(found)


def _earliest(expression: bytes) -> bytes:
    """Match at the first place where it fits and never come back to it: an atomic group that Python 3.11.0 has too."""
    name = b"g%d" % next(_numbers)
    return b"(?=(?P<" + name + b">" + expression + b"))(?P=" + name + b")"


# many patterns at once


@dataclass(slots=True)
class _Run:
    """Neighbouring patterns of one sign, asked at once. Index 1: for directories, 0: for everything else."""

    negated: bool
    names: tuple[frozenset[bytes], frozenset[bytes]]
    name: tuple[re.Pattern[bytes] | None, re.Pattern[bytes] | None]
    path: tuple[re.Pattern[bytes] | None, re.Pattern[bytes] | None]

    def hits(self, path: bytes, name: bytes, directory: bool) -> bool:
        if name in self.names[directory]:
            return True
        by_name, by_path = self.name[directory], self.path[directory]
        if by_name is not None and by_name.match(name):
            return True
        return by_path is not None and by_path.match(path) is not None


class Excludes:
    """A list of patterns of what to leave out. Raises InvalidPattern when it is made."""

    def __init__(self, patterns: Iterable[Pattern] = ()) -> None:
        globs = [parse(pattern) for pattern in patterns]
        self._runs = [_run(negated, list(run)) for negated, run in groupby(globs, key=lambda glob: glob.negated)]
        self._runs.reverse()  # the last pattern that matches decides

    def __bool__(self) -> bool:
        return bool(self._runs)

    def match(self, path: bytes, directory: bool) -> bool:
        """Whether this very path is left out; a path below a directory that is left out need not match itself."""
        name = path.rpartition(b"/")[2]
        for run in self._runs:
            if run.hits(path, name, directory):
                return not run.negated
        return False


def _run(negated: bool, globs: list[Glob]) -> _Run:
    def of(kind: bool) -> list[Glob]:
        return [glob for glob in globs if kind or not glob.directories_only]

    def plain(kind: bool) -> frozenset[bytes]:
        return frozenset(glob.literal for glob in of(kind) if glob.by_name and glob.literal)

    def combined(kind: bool, by_name: bool) -> re.Pattern[bytes] | None:
        wanted = [glob for glob in of(kind) if glob.by_name == by_name and not (by_name and glob.literal)]
        return _any([glob.parts[1] or b"" if by_name else glob.expression() for glob in wanted], rb"\Z")

    return _Run(
        negated,
        (plain(False), plain(True)),
        (combined(False, True), combined(True, True)),
        (combined(False, False), combined(True, False)),
    )


def _any(expressions: list[bytes], end: bytes) -> re.Pattern[bytes] | None:
    return re.compile(b"(?s:" + b"|".join(expressions) + b")" + end) if expressions else None


# restores


@dataclass(slots=True)
class _Included:
    """One thing to bring back: a path with its whole subtree, literally or by wildcards."""

    literal: bytes
    itself: re.Pattern[bytes]
    above: re.Pattern[bytes]  # the path lies below something that matches
    directories_only: bool
    lead: tuple[re.Pattern[bytes], ...]  # the leading components, up to the first that can be any number
    bounded: bool  # there is no such component

    def selects(self, path: bytes, directory: bool) -> bool:
        if path == self.literal or path.startswith(self.literal + b"/") or self.above.match(path):
            return True
        return self.itself.match(path) is not None and (directory or not self.directories_only)

    def may_lie_below(self, directory: bytes) -> bool:
        if self.literal.startswith(directory + b"/"):
            return True
        names = directory.split(b"/")
        if self.bounded and len(names) >= len(self.lead):
            return False
        return all(part.match(name) for part, name in zip(self.lead, names, strict=False))


class PathFilter:
    """Which entries of a snapshot a restore brings back.

    include  paths ("srv/data/x", with or without leading slash) or patterns; each brings its whole subtree. A path is
             absolute; only a name with wildcards and without a slash ("*.pdf") matches at any depth. Empty: everything.
    exclude  patterns as of a scan, applied after it
    """

    def __init__(self, include: Iterable[Pattern] = (), exclude: Iterable[Pattern] = ()) -> None:
        wanted = [os.fsencode(pattern) for pattern in include]
        self._included = [] if b"/" in wanted else [_included(pattern) for pattern in wanted]
        self._excludes = Excludes(exclude)
        self._pruned = b"", False  # the directory asked about last, and whether it or one above it is left out

    def selects(self, path: bytes, directory: bool) -> bool:
        """Whether the entry is to be brought back for its own sake."""
        if self._included and not any(included.selects(path, directory) for included in self._included):
            return False
        return not self._excludes or not self._leaves_out(path, directory)

    def may_contain(self, directory: bytes) -> bool:
        """Whether anything below this directory can be selected; False is certain, True is not."""
        if self._excludes and directory and self._leaves_out(directory, True):
            return False
        if not self._included or not directory or self.selects(directory, True):
            return True
        return any(included.may_lie_below(directory) for included in self._included)

    def select(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """The selected entries of an ordered stream, each after the directories on the way to it."""
        way: list[Entry] = []  # directories above the present entry that have not been handed out
        for entry in entries:
            while way and way[-1].path and not entry.path.startswith(way[-1].path + b"/"):
                way.pop()
            if self.selects(entry.path, entry.kind is Kind.DIRECTORY):
                yield from way
                way.clear()
                yield entry
            elif entry.kind is Kind.DIRECTORY:
                way.append(entry)

    def _leaves_out(self, path: bytes, directory: bool) -> bool:
        parent = path.rpartition(b"/")[0]
        if self._pruned[0] != parent:
            self._pruned = parent, self._prunes(parent)
        return self._pruned[1] or self._excludes.match(path, directory)

    def _prunes(self, directory: bytes) -> bool:
        ends = [at for at, byte in enumerate(directory) if byte == 0x2F]
        return any(self._excludes.match(directory[:end], True) for end in [*ends, len(directory)] if end)


def _included(raw: bytes) -> _Included:
    floats = b"/" not in raw and _special(raw)
    if raw.startswith(b"!"):
        raise _invalid(raw, "'!' takes back what was left out; put it among the excludes, or write \\!")
    glob = parse(raw if floats else b"/" + raw.lstrip(b"/"))
    parts = glob.parts[: glob.parts.index(None)] if None in glob.parts else glob.parts
    lead = tuple(re.compile(b"(?s:" + part + rb")\Z") for part in parts if part is not None)
    itself, above = (_any([glob.expression()], end) for end in (rb"\Z", b"/"))
    assert itself is not None
    assert above is not None
    return _Included(raw.strip(b"/"), itself, above, glob.directories_only, lead, None not in glob.parts)


def escape(path: bytes) -> bytes:
    """The pattern that stands for exactly this path or name."""
    return re.sub(rb"([*?\[\\!])", rb"\\\1", path)
