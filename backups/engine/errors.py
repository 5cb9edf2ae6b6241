"""What can go wrong in the engine, each with one bit: is it worth trying again?"""

from __future__ import annotations

from typing import ClassVar


class EngineError(Exception):
    """A sentence a person may read: what happened, where, and the cure. Never holds a secret."""

    permanent: ClassVar[bool] = True


class StoreUnavailable(EngineError):
    """The place did not answer, or answered with a passing fault."""

    permanent = False


class StoreAbsent(StoreUnavailable):
    """The place is not there. Somebody has to mount, make or name it: a later attempt may find it, a few seconds of
    patience do not."""


class StoreFull(EngineError):
    """No room (bytes or inodes) is left in the place."""


class StoreReadOnly(EngineError):
    """The place takes no writes."""


class StoreRefused(EngineError):
    """The place refused us: credentials or permissions."""


class ObjectMissing(EngineError):
    """No finished object has this name."""

    def __init__(self, name: str, where: str = "") -> None:
        super().__init__(f"Object {name} is missing{f' in {where}' if where else ''}.")
        self.name = name


class ObjectDamaged(EngineError):
    """An object's bytes are not the ones that were written under its name."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"Object {name} is damaged: {why}.")
        self.name = name
        self.why = why


class ObjectExists(EngineError):
    """A name that says nothing about its content is taken by other content; it is never overwritten."""

    def __init__(self, name: str, where: str = "") -> None:
        super().__init__(f"Object {name} already exists{f' in {where}' if where else ''} with other content.")
        self.name = name


class BlobMissing(EngineError):
    """No index knows this blob: the object that described it is gone or damaged."""

    def __init__(self, blob: bytes) -> None:
        super().__init__(f"Blob {blob.hex()} is in no index; an index object or a pack is missing.")
        self.blob = blob


class WrongSecret(EngineError):
    """The key slots are intact, and none of them opens with this secret."""


class SlotRemoved(WrongSecret):
    """The secret is one that was taken away from the repository, or a key slot of it from an older state came back."""


class UnknownEpoch(WrongSecret):
    """An object is sealed with a newer master key than those that the secret leads to."""


class NotARepository(EngineError):
    """The place holds no repository of ours."""


class ForeignRepository(EngineError):
    """The place holds something else, or another repository than the one expected."""


class NewerFormat(EngineError):
    """The repository was written by a newer version; reading it would be guessing."""


class RepositoryExists(EngineError):
    """A repository is already there; creating a second one would shadow it."""


class Tampered(EngineError):
    """Log records that were seen before are gone: deletion, rollback or fork. Writes are blocked."""

    def __init__(self, sentence: str, name: str = "") -> None:
        super().__init__(sentence)
        self.name = name  # of a record that is gone


class TakenOver(EngineError):
    """Another console writes this repository now; the one that asks may only read it."""


class SnapshotMissing(EngineError):
    """No live snapshot has this id."""


class KeysMissing(EngineError):
    """No console has sealed its keys in this repository."""


class SourceError(EngineError):
    """The thing to be backed up cannot be read."""


class SourceUnavailable(SourceError):
    """It does not answer at the moment, or somebody else holds it."""

    permanent = False


class TargetError(EngineError):
    """The place to restore to cannot take what is to be restored."""


class TargetUnavailable(TargetError):
    """It does not answer at the moment."""

    permanent = False


class InvalidOption(EngineError):
    """What somebody typed or set cannot be used, whatever the repository is like."""


class InvalidPattern(InvalidOption):
    """A path pattern cannot be understood."""


class WorkerDied(EngineError):
    """A worker process ended in the middle of its task (killed, or out of memory)."""

    permanent = False


class Overtaken(EngineError):
    """A run went on for longer than it had a right to, and a compaction gave up what it relied on."""

    permanent = False


class LostLease(EngineError):
    """Somebody else owns the job now; nothing may be committed any more."""


class Cancelled(EngineError):
    """Somebody asked for the end of the work."""
