"""The last questions before and after a snapshot's record is put: is all it needs still there?

Nobody who holds a lease meets them: a compaction waits for him. They are for a writer that held out longer than its
lease and for command lines, which hold none: it may have relied on packs that were condemned meanwhile.
"""

from __future__ import annotations

from typing import NoReturn

from backups.engine.errors import BlobMissing, ObjectDamaged, ObjectMissing, Overtaken
from backups.engine.log import Snapshot
from backups.engine.repository import Repository
from backups.engine.usage import Usage

GONE = (
    "Space was given back in the repository while this run went on longer than it had a right to, and something it"
    " relied on is gone. It has to be made again."
)


class CommitGuard:
    """Made when a run begins, before it relies on anything. commit() raises Overtaken when what a snapshot needs may
    have been given up since; it looks no further while the log tells of no sweep that it did not know."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._known = self._told()

    def commit(self, snapshot: Snapshot) -> Snapshot:
        """Put the record, and look afterwards: a compaction that did not see it may have condemned what it needs."""
        log = self._repository.log
        kept = log.append_snapshot(snapshot, lambda: self._judge(snapshot))
        log.refresh()
        if not self._sound(kept):
            take_back(self._repository, kept)
        must_be_proven(self._repository, kept)
        return kept

    def _judge(self, snapshot: Snapshot) -> None:
        """Before the record is put: nothing has happened yet."""
        if not self._sound(snapshot):
            raise Overtaken(GONE)

    def _sound(self, snapshot: Snapshot) -> bool:
        """The log has just been read."""
        if (told := self._told()) != self._known:
            if not whole(self._repository, snapshot):
                return False
            self._known = told
        return True

    def _told(self) -> tuple[set[str], int]:
        """Sweeps, and checkpoints: they may stand for sweeps that nobody reads any more."""
        log = self._repository.log
        return set(log.marks.sweeps), len(log.unread)


def whole(repository: Repository, snapshot: Snapshot) -> bool:
    """Whether all that the snapshot needs lies in packs that are there and are not condemned."""
    repository.reload_index()
    usage = Usage(repository, repository.stored_packs(), leaving=repository.log.marks.condemned_packs)
    try:
        for _ in usage.add([snapshot]):
            pass
    except (BlobMissing, ObjectMissing, ObjectDamaged):
        return False
    return not usage.held


def proven(repository: Repository, snapshot: Snapshot) -> bool:
    """Whether a snapshot of the log may be taken for done: its record and a sweep that did not know of each other
    leave that open until all it needs has been found."""
    return not repository.log.concurrent_sweeps(snapshot.record) or whole(repository, snapshot)


def must_be_proven(repository: Repository, snapshot: Snapshot) -> None:
    """Overtaken when it is not proven(); then it is taken back."""
    if not proven(repository, snapshot):
        take_back(repository, snapshot)


def take_back(repository: Repository, snapshot: Snapshot) -> NoReturn:
    """It is in the log and cannot be restored: nobody is to believe in it."""
    repository.log.append("forget", {"forget": [snapshot.id], "reason": GONE})
    raise Overtaken(GONE)
