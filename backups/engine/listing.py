"""entries(): what a snapshot holds, in depth-first byte order, without touching any content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from backups.engine import tree
from backups.engine.entry import Entry
from backups.engine.errors import ObjectDamaged
from backups.engine.log import Snapshot
from backups.engine.repository import Repository


def entries(repository: Repository, snapshot: Snapshot, below: bytes = b"") -> Iterator[Entry]:
    """The entries on and below a path. A complete listing is proved against the record's checksum at its end."""
    if below:
        yield from tree.entries(repository.load_blob, snapshot.root, below)
        return
    manifest = hashlib.sha256()
    for raw in tree.leaves(repository.load_blob, snapshot.root):
        manifest.update(raw)
        yield from tree.decode_page(raw)
    if manifest.digest() != snapshot.manifest_sha256:
        raise ObjectDamaged(snapshot.record, "the tree is not the one that the record's checksum was made over")
