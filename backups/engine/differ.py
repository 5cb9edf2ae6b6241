"""diff(): what changed between two snapshots, from their trees alone; content is never decrypted for it."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from backups.engine import tree
from backups.engine.entry import Entry
from backups.engine.log import Snapshot
from backups.engine.repository import Repository


class Difference(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    CONTENT = "changed"  # other bytes, another link target, another kind
    ATTRIBUTES = "attributes"  # the same bytes with other owner, mode, times or extended attributes


class Change(NamedTuple):
    """One path that differs; before and after are None where it does not exist."""

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
