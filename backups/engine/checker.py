"""check(): find every object that is not what was written, and name every snapshot and file that it harms.

Level 1 lists the objects and compares sizes with the index; level 2 also reads them all and compares their SHA-256
with their names, which needs no key; level 3 also decrypts everything and hashes every blob again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from backups.engine import format as fmt
from backups.engine import tree
from backups.engine.errors import (
    BlobMissing,
    EngineError,
    ObjectDamaged,
    ObjectMissing,
    Tampered,
)
from backups.engine.glance import TreeGlance
from backups.engine.harm import BadPacks, TreeJudge, blobs_of
from backups.engine.index import PackFacts
from backups.engine.log import Snapshot
from backups.engine.lookout import distrust
from backups.engine.options import default_workers
from backups.engine.prover import PackProver
from backups.engine.repository import Repository
from backups.engine.workers import Emit, ForkedPool, InlinePool

Digest = bytes  # a SHA-256
PATHS_NAMED = 1000  # affected paths that are listed for one problem; all are counted


class _Harmed:
    """What one object harms; dictionaries keep the order and drop repetitions."""

    def __init__(self, why: str) -> None:
        self.why = why
        self.snapshots: dict[str, None] = {}
        self.paths: dict[bytes, None] = {}


class Problem(NamedTuple):
    """One damaged or missing object, or one snapshot that cannot be restored completely.

    object     name of the object ("" when only the snapshot's tree tells)
    snapshots  ids of the snapshots it harms; paths: raw paths of the files it harms (at most PATHS_NAMED)
    paths_count  how many files it harms
    """

    object: str
    message: str
    snapshots: tuple[str, ...] = ()
    paths: tuple[bytes, ...] = ()
    paths_count: int = 0


@dataclass(slots=True)
class Checked:
    """The outcome. Sound when there are no problems."""

    level: int
    objects: int = 0
    bytes: int = 0
    bytes_expected: int = 0
    unused_packs: int = 0  # in no index: left by an interrupted run, harmless
    removed_keys: tuple[str, ...] = ()  # key objects that were removed and lie here all the same; harmless to us
    damaged_packs: set[Digest] = field(default_factory=set)  # SHA-256 of all that nothing new may rely on
    problems: list[Problem] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.problems


CheckProgress = Callable[[Checked], None]


def check(
    repository: Repository,
    level: int,
    *,
    snapshots: Sequence[Snapshot] | None = None,
    read_share: float = 1.0,
    suspects: Collection[bytes] | None = None,
    workers: int | None = None,
    report: Callable[[Problem], None] = lambda _: None,
    progress: CheckProgress = lambda _: None,
) -> Checked:
    """Check the whole repository, or only what some snapshots need: then a damaged pack that harms none of them,
    because another copy of all they need from it is sound, is no problem.

    read_share  part of the packs that levels 2 and 3 read, 0 to 1 (drawn by name: always the same ones)
    suspects    SHA-256 of the only packs that levels 2 and 3 read; None: all, as read_share says
    Never stops at a problem; raises only when the store cannot be reached.
    """
    if level not in (1, 2, 3):
        raise EngineError(
            f"There is no check of level {level}: choose 1 (objects there), 2 (SHA-256) or 3 (decrypted)."
        )
    run = _Check(repository, level, read_share, suspects, workers, report, progress)
    run.log()
    run.index()
    run.small_objects(snapshots)
    needed = None if snapshots is None else run.packs_of(snapshots)
    chosen = repository.snapshots if snapshots is None else snapshots
    glance = TreeGlance(repository, chosen)
    run.packs(needed, meanwhile=glance)
    if run.harmed or not glance.finish():
        run.trees(chosen, harmless=snapshots is None)
        run.indexes(chosen)
    if run.done.problems:
        distrust(repository)
    return run.done


class _Check:
    def __init__(
        self, repository: Repository, level: int, share: float, suspects: Collection[bytes] | None,
        workers: int | None, report: Callable[[Problem], None], progress: CheckProgress,
    ) -> None:  # fmt: skip
        self.done = Checked(level)
        self._repository, self._level, self._share = repository, level, share
        self._suspects, self._workers = suspects, workers
        self._report, self._progress = report, progress
        self._told = time.monotonic()
        self._packs: dict[bytes, PackFacts] = {}
        self._bad = BadPacks()
        self._judge = TreeJudge(repository, self._bad)

    # everything but packs

    def log(self) -> None:
        try:
            self._repository.log.refresh()
        except Tampered as error:
            self._problem(error.name or "log/", str(error))

    def index(self) -> None:
        repository = self._repository
        index = repository.reload_index()
        for damage in index.damaged:
            self._problem(damage.name, damage.why)
        self._bad.condemned = repository.log.marks.condemned_packs
        self._packs = {pack.digest: pack for pack in index.packs() if pack.digest not in self._bad.condemned}

    def small_objects(self, only: Sequence[Snapshot] | None) -> None:
        """Config, keys, log and index; of the last two only what belongs to some snapshots, if they are given."""
        if only is None:
            self._records()
        self._config()
        self._keys()
        wanted = None if only is None else {name for s in only for name in (s.record, *s.index)}
        self._named("log/", self._record, wanted)
        self._named("index/", lambda name, data: None, wanted)

    def _records(self) -> None:
        log = self._repository.log
        for damage in log.damaged:
            self._problem(damage.name, damage.why)
        for name in sorted(log.missing):
            self._problem(name, "the record is missing, though a later one follows it")

    def indexes(self, snapshots: Iterable[Snapshot]) -> None:
        """Index objects that are gone, where a blob cannot be found for it. Where each has a place in another one,
        somebody wrote anew what they told (repair, compaction), and nothing is missing."""
        if not self._judge.unlocated:
            return
        present = {info.name for info in self._repository.store.list("index/")}
        lost: dict[str, list[str]] = {}
        for snapshot in snapshots:
            for name in snapshot.index:
                if name not in present:
                    lost.setdefault(name, []).append(snapshot.id)
        for name, ids in lost.items():
            self._problem(name, "the index object is missing", ids)

    def _config(self) -> None:
        try:
            data = self._repository.store.get("config")
        except ObjectMissing:
            return self._problem("config", "it is missing")
        if self._repository.log.config and data != self._repository.log.config:
            self._problem("config", "it differs from its copy in the log")
        return None

    def _keys(self) -> None:
        """Those that were removed open nothing, whether they are here or not: they are told, and are no damage."""
        log, present = self._repository.log, {info.name for info in self._repository.store.list("keys/")}
        for name in log.keys:
            if name not in present:
                self._problem(name, "the key object is missing")
        self.done.removed_keys = tuple(sorted(present & log.removed.keys()))
        self._named("keys/", lambda name, data: None, present - log.removed.keys())

    def _named(self, prefix: str, prove: Callable[[str, bytes], object], wanted: Collection[str] | None = None) -> None:
        """Read small objects whole: the name from level 2 on, the content at level 3."""
        for name, size in self._repository.store.list(prefix):
            if wanted is not None and name not in wanted:
                continue
            self.done.objects += 1
            if self._level < 2 or any(problem.object == name for problem in self.done.problems):
                continue
            self.done.bytes += size
            try:
                data = self._repository.store.get(name)
                if not fmt.name_matches(name, data):
                    self._problem(name, "its SHA-256 is not its name")
                elif self._level >= 3:
                    prove(name, data)
            except ObjectDamaged as damage:
                self._problem(name, damage.why)
            except ObjectMissing:
                self._problem(name, "it is missing")

    def _record(self, name: str, _: bytes) -> None:
        self._repository.log.read(name)

    # packs

    def packs_of(self, snapshots: Iterable[Snapshot]) -> set[bytes]:
        """The packs that these snapshots' trees and files lie in, as far as the trees can be read."""
        needed: set[bytes] = set()
        seen: set[bytes] = set()
        for snapshot in snapshots:
            with suppress(ObjectMissing, ObjectDamaged, BlobMissing):  # trees() names what is wrong
                self._collect(snapshot.root, needed, seen)
        return needed

    def _collect(self, page: bytes, needed: set[bytes], seen: set[bytes]) -> None:
        if page in seen:
            return
        seen.add(page)
        needed.update(location.pack for location in self._repository.index.find_all(page))
        raw = self._repository.load_blob(page)
        for reference in tree.references(raw)[1]:
            self._collect(reference.id, needed, seen)
        if tree.is_leaf(raw):
            for entry in tree.decode_page(raw):
                for blob in blobs_of(self._repository, entry):
                    needed.update(location.pack for location in self._repository.index.find_all(blob))

    @property
    def harmed(self) -> bool:
        """Are there packs that are not what they should be?"""
        return bool(self._bad.why)

    def packs(self, needed: Collection[bytes] | None, meanwhile: TreeGlance) -> None:
        sizes = dict(self._listing())
        wanted = self._packs.keys() if needed is None else needed & self._packs.keys()
        for digest in sorted(wanted):
            self.done.objects += 1
            self._listed(self._packs[digest], sizes.get(digest))
        if needed is None:
            self.done.unused_packs = len(sizes.keys() - self._packs.keys())  # those that were condemned among them
        if self._level >= 2:
            self._read_packs(
                [d for d in sorted(wanted) if d in sizes and d not in self._bad.why and self._drawn(d)],
                sizes,
                meanwhile,
            )

    def _listing(self) -> Iterator[tuple[bytes, int]]:
        """(digest, size) of every pack there is; what bears another name than a pack's is told."""
        for name, size in self._repository.store.list("packs/"):
            if (digest := fmt.pack_digest(name)) is not None:
                yield digest, size
            else:
                self._problem(name, "no pack bears such a name")

    def _listed(self, pack: PackFacts, size: int | None) -> None:
        if size is None:
            self._bad.lose(pack.digest, "it is missing")
        elif size != pack.size:
            self._bad.lose(pack.digest, f"it has {size} bytes instead of {pack.size}")

    def _drawn(self, digest: bytes) -> bool:
        if self._suspects is not None:
            return digest in self._suspects
        return int.from_bytes(digest[:4], "big") < self._share * (1 << 32)

    def _read_packs(self, digests: Sequence[bytes], sizes: dict[bytes, int], meanwhile: TreeGlance) -> None:
        self.done.bytes_expected = sum(sizes[d] for d in digests)
        pool = self._pool(len(digests))
        try:
            for digest in digests:
                while not pool.has_room() and not self.harmed and meanwhile.step():
                    pool.poll()
                pool.submit(["pack", digest, self._level], self._taker(digest, sizes[digest]))
            pool.flush()
        finally:
            pool.close()

    def _pool(self, tasks: int) -> ForkedPool | InlinePool:
        repository = self._repository
        count = default_workers() if self._workers is None else self._workers
        alone = tasks < 3 or not count or not repository.store.capabilities().across_processes

        def make(_emit: Emit) -> PackProver:
            return PackProver(repository, forked=not alone)

        return InlinePool(make, _ignore) if alone else ForkedPool(make, _ignore, count)

    def _taker(self, digest: bytes, size: int) -> Callable[[Any], None]:
        def take(result: dict[str, Any]) -> None:
            self.done.bytes += size
            if result["damage"]:
                self._bad.lose(digest, result["damage"])
            elif result["blobs"]:
                self._bad.spoil(digest, result["blobs"])
            self._tick()

        return take

    # trees

    def trees(self, snapshots: Iterable[Snapshot], *, harmless: bool) -> None:
        """Every blob that a tree names must be in a sound pack; each bad object is told with all that it harms.

        harmless  also tell of bad packs that harm nothing in these snapshots
        """
        harmed: dict[str, _Harmed] = {fmt.pack_name(digest): _Harmed(why) for digest, why in self._bad.why.items()}
        self.done.damaged_packs.update(self._bad.why)
        for snapshot in snapshots:
            for harm in self._judge.tree(snapshot):
                entry = harmed.setdefault(harm.object, _Harmed(harm.why))
                entry.snapshots[snapshot.id] = None
                entry.paths[harm.path] = None
            self._tick()
        for name, found in sorted(harmed.items()):
            if not found.snapshots and not harmless:
                continue
            self._problem(name, found.why, list(found.snapshots), sorted(found.paths))

    # telling

    def _problem(self, name: str, message: str, snapshots: Sequence[str] = (), paths: Sequence[bytes] = ()) -> None:
        problem = Problem(name, message, tuple(snapshots), tuple(paths[:PATHS_NAMED]), len(paths))
        self.done.problems.append(problem)
        if name.startswith("packs/") and fmt.is_object_name(name):
            self.done.damaged_packs.add(fmt.digest_of(name))
        self._report(problem)

    def _tick(self) -> None:
        if time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            self._progress(self.done)


def _ignore(_topic: str, _value: Any) -> None:
    """Provers emit nothing."""
