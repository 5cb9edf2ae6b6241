"""Repository: an opened repository, its keys, log and index, and the way from a blob's id to its bytes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from blake3 import blake3

from backups.engine import format as fmt
from backups.engine.chunker import Chunker
from backups.engine.codec import Codec, Compressor
from backups.engine.envelope import Sealer, owner
from backups.engine.errors import (
    BlobMissing,
    EngineError,
    ForeignRepository,
    NewerFormat,
    NotARepository,
    ObjectDamaged,
    ObjectMissing,
    RepositoryExists,
    Tampered,
    UnknownEpoch,
    WrongSecret,
)
from backups.engine.index import BlobIndex, Location, PackFacts
from backups.engine.keyobjects import KeyObjects
from backups.engine.keys import RINGS, KeyRing, Secret, origin_of, write_keys
from backups.engine.log import Log, Read, Snapshot
from backups.engine.recall import recalled, remember
from backups.engine.store import ObjectStore, Place

LEFTOVERS = 64  # objects a killed create() can leave: key slots, ring, first record
RECORDS_ASKED = 16  # of the log, for whose it is; one intact one is enough
FRAME_CACHE = 8  # opened frames kept, about 1 MiB each


@dataclass(frozen=True, slots=True)
class Config:
    """The public facts of a repository, as its plain-text object tells them."""

    id: bytes
    format: int
    created: str
    chunks: tuple[int, int, int]  # least, average and greatest size of a content-defined chunk, bytes

    def encode(self) -> bytes:
        facts = {
            "aihub": "repository", "format": self.format, "id": self.id.hex(), "created": self.created,
            "chunks": list(self.chunks), "encryption": "aes-256-gcm",
        }  # fmt: skip
        return json.dumps(facts, sort_keys=True, indent=1).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes, where: str) -> Config:
        try:
            facts = json.loads(data)
            kind, version = facts["aihub"], int(facts["format"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ObjectDamaged("config", f"it is not the description of a repository (in {where})") from None
        if kind != "repository":
            raise ForeignRepository(f"{where} holds {kind!r}, not a repository of ours.")
        if version > fmt.FORMAT:
            raise NewerFormat(
                f"The repository in {where} has format {version}; this version reads up to {fmt.FORMAT}. Upgrade first."
            )
        try:
            low, average, high = map(int, facts["chunks"])
            return cls(bytes.fromhex(facts["id"]), version, facts["created"], (low, average, high))
        except (ValueError, KeyError, TypeError):
            raise ObjectDamaged("config", f"a value in it cannot be read (in {where})") from None


class Repository:
    """An opened repository. Not shared between threads; after a fork call forked() in the child."""

    def __init__(
        self,
        store: ObjectStore,
        config: Config,
        ring: KeyRing,
        secret: Secret,
        cache: Path | None,
        console: str,
        slot: str = "",
        reading: Callable[[Read], None] = lambda _read: None,
    ) -> None:
        """secret: what opened it, kept to follow a change of keys; slot: the key slot, where it is a console's own."""
        self.store, self.config, self.secret = store, config, secret
        self.sealer = Sealer(config.id, ring, self._reloaded_ring)
        self.cache = cache / config.id.hex() if cache else None
        self.console, self.slot, self.keys_unfinished = console, slot, False
        writer = {"console": console, "host": socket.gethostname(), **({"slot": slot} if slot else {})}
        self.log = Log(store, self.sealer, writer, reading)
        self.index = BlobIndex(self.cache)
        self._recalls = False  # the newest records are kept in the cache
        self._synced = False
        self._unmoved = False  # the index was read again because something was missing, and told nothing new
        self._frames: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def create(
        cls,
        store: Place,
        secrets: Sequence[tuple[Secret, str]],
        *,
        cache: Path | None = None,
        console: str = "command line",
    ) -> Repository:
        """Make a repository in an empty place; secrets are (secret, label) pairs, one key slot each.

        Raises RepositoryExists, ForeignRepository (the place holds something else).
        """
        if not secrets:
            raise EngineError("A repository needs at least one secret that opens it.")
        store.create()
        _clear_place(store)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        config = Config(os.urandom(16), fmt.FORMAT, now, (fmt.CHUNK_MIN, fmt.CHUNK_AVERAGE, fmt.CHUNK_MAX))
        ring = KeyRing.generate()
        names = write_keys(store, config.id, ring, secrets)
        first = secrets[0][0]
        repository = cls(store, config, ring, first, cache, console, _own(first, names[RINGS]))
        repository.log.append_checkpoint(config=config.encode(), keys=names)
        store.put("config", config.encode())  # last: a place without it holds no repository yet
        repository.remember_leaves()
        return repository

    @classmethod
    def open(
        cls,
        store: ObjectStore,
        secret: Secret,
        *,
        cache: Path | None = None,
        anchors: Iterable[str] = (),
        console: str = "command line",
        reading: Callable[[Read], None] = lambda _read: None,
        recall: bool = False,
    ) -> Repository:
        """Open with one secret. anchors are log leaves known from before (our database, a sibling); reading hears how
        far the log is read. recall: records that were read by this host before are taken from the cache, damaged in the
        store or not; for who adds to the repository, not for who judges it.

        The config object is believed no further than to find the keys: its sealed copy in the log counts. Where it
        is damaged or gone the key objects tell the repository's id, and check() names the damage.
        Raises NotARepository, NewerFormat, WrongSecret, ObjectDamaged, Tampered, StoreUnavailable.
        """
        config, doubt = _told_config(store)
        objects = KeyObjects(store, config.id)
        if objects.repository_id != config.id:
            _refuse_foreign_keys(store, objects.repository_id)
            doubt = doubt or ObjectDamaged("config", "the key objects name another repository than it does")
        elif doubt:
            raise doubt
        config = replace(config, id=objects.repository_id)
        ring = objects.unlock(secret)
        slot = origin_of(objects.opened, objects.slots[objects.opened])
        repository = cls(store, config, ring, secret, cache, console, _own(secret, slot), reading)
        if recall and repository.cache:
            repository._recalls = True
            repository.log.remembered = recalled(repository.cache / "records", repository.sealer)
        try:
            repository.log.refresh({*anchors, *repository._remembered_leaves()})
        except UnknownEpoch as behind:
            raise objects.explained(behind) from None
        repository.keys_unfinished = objects.unfinished(repository.log.keys, repository.log.removed)
        if objects.opened in repository.log.removed:
            repository.key_objects().unlock(secret)  # raises, unless another slot opens with it
        repository._take_config_from_log(doubt)
        repository.remember_leaves()
        return repository

    @property
    def ring(self) -> KeyRing:
        """The keys; of an opened repository they may become newer ones."""
        return self.sealer.ring

    def take_ring(self, ring: KeyRing) -> None:
        """Seal with these keys from now on."""
        self.sealer.ring = ring

    def key_objects(self) -> KeyObjects:
        """The objects under keys/ as they are now, without those that the log says were taken away."""
        return KeyObjects(self.store, self.config.id, self.log.removed)

    def _reloaded_ring(self) -> KeyRing:
        """Somebody has made a new key epoch since this repository was opened; the same ring, where nothing is new."""
        try:
            return self.key_objects().unlock(self.secret)
        except (WrongSecret, ObjectDamaged):
            return self.ring

    def forked(self) -> None:
        """To be called first in a child process: connections must not be shared with the parent."""
        self.store = self.store.fresh()
        self.index.moved(self.store)
        self._lock = threading.Lock()

    # blobs

    def id_of(self, data: bytes | memoryview) -> bytes:
        """The id of a blob: keyed BLAKE3-256, so that nobody without the key can confirm a guess."""
        return blake3(data, key=self.ring.id_key).digest()

    def chunker(self) -> Chunker:
        return Chunker(self.ring.chunker_seed, *self.config.chunks)

    def compressor(self, codec: str = "zstd", level: int = 1) -> Compressor:
        codecs = {"zstd": Codec.ZSTD, "gzip": Codec.GZIP, "none": Codec.RAW}
        if codec not in codecs:
            raise EngineError(f"The codec {codec!r} is unknown: choose zstd, gzip or none.")
        return Compressor(codecs[codec], level)

    def sync_index(self) -> BlobIndex:
        """The index, read from the store at most once until reload_index()."""
        if not self._synced:
            self.index.sync(self.store, self.sealer)
            self._synced = True
        return self.index

    def reload_index(self) -> BlobIndex:
        self.index_changed()
        return self.sync_index()

    def index_changed(self) -> None:
        """Index objects were added or removed: whoever asks next reads them."""
        self._synced = self._unmoved = False

    def outdated_packs(self) -> list[PackFacts]:
        """Those under an older master key than the one in use: who has that key, and the storage, reads them. Until
        compaction writes what they hold anew, new keys protect new data only."""
        newest, oldest = self.ring.epoch, min(self.ring.masters)
        packs = self.sync_index().packs() if oldest < newest else ()  # no need to read a whole index for nothing
        return [pack for pack in packs if pack.envelope.epoch < newest]

    def learn_index(self, names: Collection[str], least: int) -> bool:
        """Read these index objects beside those that the cache knows, instead of asking which ones there are. False
        when it knows fewer than it should (least), or one cannot be read: then sync_index() has to."""
        self._synced = self.index.learn(self.store, self.sealer, names) >= least and not self.index.damaged
        return self._synced

    def stored_packs(self, begin: str = "") -> dict[bytes, int]:
        """SHA-256 and size of the packs that the store holds, whether an index object names them or not; begin: of
        their names, below packs/."""
        found: dict[bytes, int] = {}
        for name, size in self.store.list(f"packs/{begin}"):
            if (digest := fmt.pack_digest(name)) is not None:
                found[digest] = size
        return found

    def load_blob(self, blob_id: bytes) -> bytes:
        """A blob's bytes, proved against its id. Raises BlobMissing, ObjectMissing, ObjectDamaged.

        One that is stored several times is lost only when every copy is. Where a pack is gone the index is read once
        more: what lay in it may have been moved.
        """
        try:
            return self._load_blob(blob_id)
        except (BlobMissing, ObjectMissing):
            if not self._index_moved():
                raise
            return self._load_blob(blob_id)

    def _index_moved(self) -> bool:
        """Read the index again; has it changed? Where it has not, nobody looks again: what is missing is lost."""
        if self._unmoved:
            return False
        before = self.index.objects
        self._unmoved = self.reload_index().objects == before
        return not self._unmoved

    def _load_blob(self, blob_id: bytes) -> bytes:
        failed: EngineError = BlobMissing(blob_id)
        for location in self.sync_index().find_all(blob_id):
            try:
                return self.load_at(location, blob_id)
            except (ObjectMissing, ObjectDamaged) as error:
                failed = error if isinstance(failed, BlobMissing) else failed
        raise failed

    def load_at(self, location: Location, blob_id: bytes) -> bytes:
        """A blob's bytes from one of its places."""
        frame = self.load_frame(location)
        data = frame[location.start : location.start + location.length]
        self.prove_blob(blob_id, data, location)
        return data

    def prove_blob(self, blob_id: bytes, data: bytes | memoryview, location: Location) -> None:
        if self.id_of(data) != blob_id:
            raise ObjectDamaged(
                fmt.pack_name(location.pack), f"blob {blob_id.hex()[:16]}… has other content than its id says"
            )

    def load_frame(self, location: Location) -> bytes:
        """The raw bytes of the frame a blob lies in; the last few are kept."""
        with self._lock:
            if (raw := self._frames.get(location.frame)) is not None:
                self._frames.move_to_end(location.frame)
                return raw
        section = location.section
        stored = self.store.get(fmt.pack_name(location.pack), section.offset, section.stored)
        raw = self.open_frame(location, stored)
        with self._lock:
            self._frames[location.frame] = raw
            while len(self._frames) > FRAME_CACHE:
                self._frames.popitem(last=False)
        return raw

    def open_frame(self, location: Location, stored: bytes | memoryview) -> bytes:
        """Decrypt and decompress a frame whose stored bytes are at hand."""
        if location.section.raw > fmt.FRAME_LIMIT:
            raise ObjectDamaged(fmt.pack_name(location.pack), "a frame announces more than any frame may hold")
        return self.sealer.open_section(location.envelope, location.section, stored, fmt.pack_name(location.pack))

    # snapshots

    @property
    def snapshots(self) -> list[Snapshot]:
        """The live snapshots, oldest first."""
        return sorted(self.log.live.values(), key=lambda s: (s.time, s.id))

    # anchors

    @property
    def anchors(self) -> list[str]:
        """The log's leaves, to be remembered and asked for later. None while a record is damaged: what it names as
        its parents would stand for it, and nobody would notice when it is deleted."""
        return [] if self.log.damaged else self.log.leaves

    def remember_leaves(self) -> None:
        """Keep the anchors in the cache, against deletion and rollback."""
        if self.cache is None or not self.anchors:
            return
        with contextlib.suppress(OSError):  # an anchor less, never a backup less
            self.cache.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = self.cache / f".leaves-{os.getpid()}"
            text = "\n".join(self.anchors)
            temporary.touch(0o600)
            temporary.write_text(f"{text}\n{fmt.sha256(text.encode()).hex()}")
            temporary.rename(self.cache / "leaves")
        if self._recalls and self.log.raw.keys() != self.log.remembered.keys():
            self.log.remembered = dict(self.log.raw)
            remember(self.cache / "records", self.sealer, self.log.remembered)

    def _remembered_leaves(self) -> Collection[str]:
        if self.cache is None:
            return ()
        try:
            text, _, digest = (self.cache / "leaves").read_text().rpartition("\n")
        except (OSError, ValueError):
            return ()
        return text.split() if fmt.sha256(text.encode()).hex() == digest else ()  # damage here is no tampering

    def _take_config_from_log(self, doubt: EngineError | None) -> None:
        if self.log.config:
            self.config = Config.decode(self.log.config, self.store.describe())
        elif doubt:
            raise doubt
        elif not self.log.names:
            raise Tampered("The log is empty: all its records are gone, the first one included.")
        elif not self.log.damaged:
            self.log.blocked = (
                "The log holds no copy of the repository's config: its first records are gone. What is there can be "
                "restored; nothing is written until an operator has looked at it."
            )


def _own(secret: Secret, slot: str) -> str:
    """A console opens its repositories with a keyfile; the other secrets are people's."""
    return slot if secret.kind == "keyfile" else ""


def read_config(store: ObjectStore) -> Config:
    """The repository's public facts. Raises NotARepository, ForeignRepository, NewerFormat, ObjectDamaged."""
    try:
        data = store.get("config")
    except ObjectMissing:
        if next(iter(store.list("log/")), None) is not None:
            raise ObjectDamaged("config", "it is missing, and other objects of a repository are there") from None
        raise NotARepository(f"There is no repository in {store.describe()}; create one there first.") from None
    return Config.decode(data, store.describe())


def _told_config(store: ObjectStore) -> tuple[Config, EngineError | None]:
    """The config object's word; where it is damaged, one without an id, and the error."""
    try:
        return read_config(store), None
    except (ObjectDamaged, ForeignRepository, NewerFormat) as error:
        return Config(b"", fmt.FORMAT, "", (fmt.CHUNK_MIN, fmt.CHUNK_AVERAGE, fmt.CHUNK_MAX)), error


def _refuse_foreign_keys(store: ObjectStore, keys_of: bytes) -> None:
    """The key objects and the config name two repositories, or the config none: the log tells which is at home.

    ObjectDamaged when the keys are not. Who went on would miss log records of a repository that was never here.
    """
    owners = {_owner(store, info.name) for info in itertools.islice(store.list("log/"), RECORDS_ASKED)} - {b""}
    if owners and keys_of not in owners:
        home = min(owners).hex()
        why = f"the key objects there are those of the repository {keys_of.hex()}, and the log is that of {home}"
        raise ObjectDamaged("keys/", f"{why}; put this repository's own keys/ back from a copy")


def _owner(store: ObjectStore, name: str) -> bytes:
    try:
        return owner(name, store.get(name))
    except (ObjectMissing, ObjectDamaged):
        return b""


def _clear_place(store: ObjectStore) -> None:
    """Refuse a place that is in use; take away what an attempt that was killed before its last step left behind."""
    found = [info.name for info in itertools.islice(store.list(""), LEFTOVERS + 1)]
    where = store.describe()
    if "config" in found:
        raise RepositoryExists(f"{where} holds a repository already; open that one, or choose an empty place.")
    records = sum(name.startswith("log/") for name in found)
    foreign = [name for name in found if not name.startswith(("keys/", "log/"))]
    if foreign or records > 1 or len(found) > LEFTOVERS:
        raise ForeignRepository(f"{where} is not empty (it holds {(foreign or found)[0]}); choose an empty place.")
    for name in found:
        store.delete(name)
