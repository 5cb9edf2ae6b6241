"""What heals a damaged repository: which objects to take from copies, which index objects to write anew.

Nothing is written here, and nothing that an object did not prove about itself is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum

from backups.engine import content, tree
from backups.engine import format as fmt
from backups.engine.errors import BlobMissing, EngineError, NewerFormat, ObjectDamaged, ObjectMissing, WrongSecret
from backups.engine.index import PackFacts, packs_told, seal_index
from backups.engine.keyobjects import parse_public
from backups.engine.pack import PackInfo, read_ends
from backups.engine.repository import Config, Repository
from backups.engine.saver import BLOBS_PER_INDEX
from backups.engine.survey import Survey
from backups.engine.view import View

_LOST = (ObjectMissing, ObjectDamaged, BlobMissing)


class Place(IntEnum):
    """Where a blob can be had, from the best to the worst."""

    HERE = 0  # in a sound pack that an index object here describes
    HEALED = 1  # in one that a copy heals
    UNTOLD = 2  # in a sound pack here that no index object here describes
    COPIED = 3  # in a pack that only a copy has
    RUINED = 4  # in a damaged pack that nothing heals: its frame may be intact
    RUINED_UNTOLD = 5
    NOWHERE = 6  # or in one that a compaction is deleting


@dataclass
class Remedies:
    """In the order in which they are applied: whoever is killed in between has lost nothing, and goes on later.

    packs, indexes, keys, records   names of objects to be taken from copies, wrong or missing here
    written   SHA-256 of the packs that each new index object describes
    retired   index objects that are beyond help, and that nothing needs any more
    config    its right bytes, where other ones are here or none
    blind     blobs that live snapshots need and no index knows, and stretches of trees that nobody can read: how many
    """

    packs: list[str] = field(default_factory=list)
    written: list[list[bytes]] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    config: bytes | None = None
    blind: int = 0


class Catalogue:
    """Which packs the index objects describe: those that are here or will be healed here, and those of copies."""

    def __init__(self, view: View, survey: Survey, repository: Repository) -> None:
        self._view, self._sealer = view, repository.sealer
        self.here: dict[bytes, PackFacts] = {}
        self.elsewhere: dict[bytes, PackFacts] = {}
        self.by_object: dict[str, list[bytes]] = {}  # of the copies' index objects: what each of them describes
        for name in sorted(name for name in view.names if name.startswith("index/")):
            self._read(name, here=name in survey.sizes)

    def _read(self, name: str, *, here: bool) -> None:
        with suppress(*_LOST):
            data = self._view.get(name)
            if not fmt.name_matches(name, data):
                return
            found = {facts.digest: facts for facts in packs_told(self._sealer, name, data)}
            (self.here if here else self.elsewhere).update(found)
            if not here:
                self.by_object[name] = list(found)


class Planner:
    """Finds the remedies. The repository is one that was opened through the view."""

    def __init__(self, view: View, survey: Survey, catalogue: Catalogue, repository: Repository) -> None:
        self._view, self._survey, self._catalogue, self._repository = view, survey, catalogue, repository
        self._ranks: dict[bytes, Place] = {}
        self._swept = repository.log.marks.condemned_packs  # what was condemned never comes back
        self.plan = Remedies()
        self.sealer = repository.sealer

    def find(self, tick: Callable[[], None]) -> Remedies:
        self._show_untold()
        wanted = self._wanted(tick)
        self._packs(wanted)
        self._indexes(wanted)
        self._small()
        return self.plan

    # blobs

    def _show_untold(self) -> None:
        """Packs that no index object describes are looked into like all others: one object for each few of them."""
        for batch in batches(self._survey.told.values()):
            data = seal_index(self._repository.sealer, batch)
            self._view.own[fmt.index_name(fmt.sha256(data))] = data
        self._repository.reload_index()

    def _wanted(self, tick: Callable[[], None]) -> dict[bytes, Place]:
        """The packs that live snapshots need and that something has to be done for, or about."""
        wanted: dict[bytes, Place] = {}
        for blob in needed(self._repository, self._blinded):
            places = {location.pack: self._rank(location.pack) for location in self._repository.index.find_all(blob)}
            best = min(places, key=lambda digest: (places[digest], digest), default=None)
            if best is None:
                self._blinded()
            elif places[best] is not Place.HERE:
                wanted[best] = places[best]
            tick()
        return wanted

    def _blinded(self) -> None:
        self.plan.blind += 1

    def _rank(self, digest: bytes) -> Place:
        if digest not in self._ranks:
            swept = digest in self._swept
            told = digest in self._catalogue.here
            self._ranks[digest] = Place.NOWHERE if swept else self._judged(fmt.pack_name(digest), told)
        return self._ranks[digest]

    def _judged(self, name: str, told: bool) -> Place:
        if self._survey.intact(name):
            return Place.HERE if told else Place.UNTOLD
        if self._view.obtainable(name):
            return Place.HEALED if told else Place.COPIED
        if name in self._survey.sizes:
            return Place.RUINED if told else Place.RUINED_UNTOLD
        return Place.NOWHERE

    # objects

    def _packs(self, wanted: Iterable[bytes]) -> None:
        """Every damaged one, every missing one that an index object here tells of, and what only copies have; but none
        that a compaction is deleting."""
        names = {name for name in self._survey.wrong if name.startswith("packs/")}
        names |= {fmt.pack_name(digest) for digest in (*self._catalogue.here, *wanted)}
        self.plan.packs = self._healable(names - {fmt.pack_name(digest) for digest in self._swept})

    def _indexes(self, wanted: dict[bytes, Place]) -> None:
        harmed = {name for name in self._survey.wrong if name.startswith("index/")}
        self.plan.indexes = self._healable(harmed)
        untold = {digest for digest in wanted if digest not in self._catalogue.here}
        for name, described in self._catalogue.by_object.items():
            if untold.intersection(described) and all(map(self._will_be_here, described)):
                self.plan.indexes.append(name)
                untold.difference_update(described)
        told = [info for digest in sorted(untold) if (info := self.pack_info(digest)) is not None]
        self.plan.written = [[info.digest for info in batch] for batch in batches(told)]
        if not self.plan.blind:
            self.plan.retired = sorted(harmed - set(self.plan.indexes))

    def _will_be_here(self, digest: bytes) -> bool:
        name = fmt.pack_name(digest)
        return self._survey.intact(name) or name in self.plan.packs

    def pack_info(self, digest: bytes) -> PackInfo | None:
        """What a pack says of itself; None where its directory is damaged."""
        name = fmt.pack_name(digest)
        try:
            return self._survey.told.get(digest) or read_ends(
                self._repository.sealer, digest, self._view.stat(name).size, self._view.get
            )
        except (*_LOST, NewerFormat, WrongSecret):
            return None

    def _small(self) -> None:
        harmed = {name for name in self._survey.wrong if name.startswith("keys/")}
        keys = self._healable(harmed | set(self._repository.log.keys))
        self.plan.keys = [name for name in keys if self._is_our_key(name)]
        # The newest first: a word that forgets a snapshot is back before the snapshot that it forgets.
        records = self._healable(name for name in self._view.names if name.startswith("log/"))
        self.plan.records = [name for name in reversed(records) if self._is_our_record(name)]
        self.plan.config = self._config()

    def _healable(self, names: Iterable[str]) -> list[str]:
        return sorted(name for name in names if not self._survey.intact(name) and self._view.obtainable(name))

    def _is_our_key(self, name: str) -> bool:
        with suppress(*_LOST, NewerFormat):
            facts = parse_public(name, self._view.get(name))
            return str(facts["repository"]) == self._repository.config.id.hex()
        return False

    def _is_our_record(self, name: str) -> bool:
        with suppress(*_LOST, NewerFormat, WrongSecret):
            self._repository.log.read(name)
            return True
        return False

    def _config(self) -> bytes | None:
        """Its right bytes, unless they are here. Sealed in the log; where that lost them, as a copy has them."""
        here = self._repository.store.get("config") if self._survey.intact("config") else None
        right = self._repository.log.config or here or self._view.from_copy("config")
        if right is None or right == here:
            return None
        with suppress(EngineError):
            return right if Config.decode(right, "").id == self._repository.config.id else None
        return None


def batches(infos: Iterable[PackInfo]) -> Iterator[list[PackInfo]]:
    """As many as one index object describes."""
    batch: list[PackInfo] = []
    blobs = 0
    for info in infos:
        batch.append(info)
        blobs += sum(len(frame.lengths) // 4 for frame in info.frames)
        if blobs >= BLOBS_PER_INDEX:
            yield batch
            batch, blobs = [], 0
    if batch:
        yield batch


def needed(repository: Repository, unreadable: Callable[[], None]) -> Iterator[bytes]:
    """Ids of all blobs of the live snapshots, some more than once; each page that cannot be read is told."""
    walk = _Walk(repository, unreadable)
    for snapshot in repository.snapshots:
        yield from walk.below(snapshot.root)


class _Walk:
    """Reads each tree page once, however many snapshots share it."""

    def __init__(self, repository: Repository, unreadable: Callable[[], None]) -> None:
        self._repository, self._unreadable = repository, unreadable
        self._seen: set[bytes] = set()

    def below(self, page: bytes) -> Iterator[bytes]:
        if page in self._seen:
            return
        self._seen.add(page)
        yield page
        try:
            raw = self._repository.load_blob(page)
        except _LOST:
            return self._unreadable()
        for reference in tree.references(raw)[1]:
            yield from self.below(reference.id)
        for entry in tree.decode_page(raw) if tree.is_leaf(raw) else ():
            yield from self._content(entry.content or b"")
        return None

    def _content(self, held: content.Content) -> Iterator[bytes]:
        if isinstance(held, tuple):
            yield from held
        try:
            yield from content.blob_ids(held, self._repository.load_blob)
        except _LOST:
            self._unreadable()
