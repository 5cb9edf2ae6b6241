"""diff(): what changed between two snapshots, from their trees alone; content is never decrypted for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from backups.engine import tree
from backups.engine.entry import Entry, Kind
from backups.engine.finder import content_id
from backups.engine.log import Snapshot
from backups.engine.repository import Repository


class Difference(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    MOVED = "moved"  # the same bytes under another path; the file at the old one is gone
    CONTENT = "changed"  # other bytes, another link target, another kind
    ATTRIBUTES = "attributes"  # the same bytes with other owner, mode, times or extended attributes


class Change(NamedTuple):
    """One path that differs; before and after are None where it does not exist. Of what moved, path is the new one, and
    before has the old one."""

    kind: Difference
    path: bytes
    before: Entry | None
    after: Entry | None


def diff(repository: Repository, before: Snapshot, after: Snapshot, below: bytes = b"") -> Iterator[Change]:
    """The differences in depth-first byte order; memory does not grow with the trees."""
    if before.root == after.root:
        return
    old = tree.entries(repository.load_blob, before.root, below)
    new = tree.entries(repository.load_blob, after.root, below)
    one, two = next(old, None), next(new, None)
    while one is not None or two is not None:
        if two is None or (one is not None and one.key < two.key):
            assert one is not None
            yield Change(Difference.REMOVED, one.path, one, None)
            one = next(old, None)
        elif one is None or two.key < one.key:
            yield Change(Difference.ADDED, two.path, None, two)
            two = next(new, None)
        else:
            if kind := compare(one, two):
                yield Change(kind, two.path, one, two)
            one, two = next(old, None), next(new, None)


def diff_with_moves(repository: Repository, before: Snapshot, after: Snapshot, below: bytes = b"") -> Iterator[Change]:
    """As diff(), but a file that is gone and one that is new, with the same content, are one change. Of several with
    the same content the first goes with the first. The trees are read up to three times; memory grows with the files
    that are gone or new, about 100 bytes for each, and with those that moved.
    """
    gone, new = defaultdict[bytes, list[bytes]](list), defaultdict[bytes, list[bytes]](list)
    for change in diff(repository, before, after, below):
        if entry := _may_move(change):
            (gone if change.kind is Difference.REMOVED else new)[_digest(entry)].append(entry.path)
    origin = {to: old for content in gone.keys() & new.keys() for old, to in zip(gone[content], new[content])}  # noqa: B905
    left, found = set(origin.values()), dict[bytes, Entry]()
    if origin:  # a file may come before the path that it had
        removed = (change.before for change in diff(repository, before, after, below) if change.path in left)
        found = {entry.path: entry for entry in removed if entry is not None}
    for change in diff(repository, before, after, below):
        if change.kind is Difference.ADDED and change.path in origin:
            yield Change(Difference.MOVED, change.path, found[origin[change.path]], change.after)
        elif not (change.kind is Difference.REMOVED and change.path in left):
            yield change


def _may_move(change: Change) -> Entry | None:
    """The file that is gone or new; None for all else. Empty files are alike, and say nothing."""
    entry = {Difference.REMOVED: change.before, Difference.ADDED: change.after}.get(change.kind)
    return entry if entry is not None and entry.kind is Kind.FILE and entry.content and entry.size else None


def _digest(entry: Entry) -> bytes:
    return bytes.fromhex(content_id(entry))[:16]


def compare(one: Entry, two: Entry) -> Difference | None:
    """How two entries of one path differ. Inode, ctime and access path are this machine's business and do not count."""
    if (one.kind, one.content, one.size, one.target, one.rdev) != (
        two.kind,
        two.content,
        two.size,
        two.target,
        two.rdev,
    ):
        return Difference.CONTENT
    mine = (one.mode, one.uid, one.gid, one.mtime_ns, one.xattrs, one.flags)
    if mine != (two.mode, two.uid, two.gid, two.mtime_ns, two.xattrs, two.flags):
        return Difference.ATTRIBUTES
    return None
