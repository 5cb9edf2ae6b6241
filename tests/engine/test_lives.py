"""More of a repository's life against the same model: consoles, copies, old caches, lying stores, crashes anywhere."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Mapping, Set
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import seed
from hypothesis import strategies as some
from hypothesis.stateful import invariant, rule

from backups.engine import (
    CompactOptions,
    ItemError,
    Kind,
    MirrorOptions,
    Options,
    Repository,
    RestoreOptions,
    Secret,
    Snapshot,
    check,
    compact,
    console,
    entries,
    mirror,
    rekey,
    repair,
    restore,
)
from backups.engine import format as fmt
from backups.engine.errors import (
    EngineError,
    KeysMissing,
    NotARepository,
    ObjectDamaged,
    Overtaken,
    TakenOver,
    WrongSecret,
)
from backups.engine.stores.memory import MemoryStore
from backups.engine.stores.retrying import Patience, RetryingStore
from tests.components import in_ci
from tests.engine.scenery import INLINE, archived, content_of, files_of, scanned
from tests.engine.test_history import PAPER, History, live_through, when
from tests.faults import Crash, Fault, FaultyStore, Harm

CRASHES = some.sampled_from([Harm.CRASH, Harm.CRASH_AFTER])
LIES = some.sampled_from([Harm.SHORT, Harm.CORRUPT])


class Lives(History):
    """Beside the model of History: what was said about holds and keys, who owns it, and one copy of the storage."""

    copy: MemoryStore | None = None
    copied: Mapping[str, Mapping[str, bytes]] | None = None  # what the copy holds; None: it is not complete
    copy_harmed = ""  # the one damaged object of the copy
    overtaken = False  # has space been given back since somebody looked from beside?
    ever: Mapping[str, Mapping[str, bytes]] = {}  # what every snapshot held, if it came to be
    sealed: Mapping[str, bytes] | None = None
    holds: Mapping[str, Any] = {}
    seen: Set[str] = frozenset()  # every snapshot there ever was
    old_keys: tuple[Secret, ...] = ()

    def teardown(self) -> None:
        if hasattr(self, "home"):
            self.heal()
            if self.copy is not None:
                self.judge_the_copy()
        super().teardown()

    # deeds that are cut off at any store operation

    @rule(after=some.integers(1, 12), harm=CRASHES)
    @when(lambda self: self.model and not self.ruined)
    def crash_in_a_forget(self, after: int, harm: Harm) -> None:
        gone = self.random.choice(sorted(self.model))
        self.cut_off(after, harm, lambda repository: repository.log.append("forget", {"forget": [gone]}))
        if gone in self.opened().log.gone:
            del self.model[gone]

    @rule(after=some.integers(1, 12), harm=CRASHES)
    @when(lambda self: not self.ruined)
    def crash_in_a_checkpoint(self, after: int, harm: Harm) -> None:
        self.cut_off(after, harm, lambda repository: repository.log.append_checkpoint())

    @rule(after=some.integers(1, 14), harm=CRASHES)
    @when(lambda self: not self.ruined)
    def crash_in_sealing_keys(self, after: int, harm: Harm) -> None:
        before, files = self.sealed, {"app_keys": self.random.randbytes(40)}
        self.cut_off(after, harm, lambda repository: console.seal(repository, files, "console"))
        with suppress(KeysMissing):
            self.sealed = console.read(self.opened()).files
        assert self.sealed in (before, files)

    @rule(after=some.integers(1, 50), harm=CRASHES)
    @when(lambda self: not self.ruined)
    def crash_in_new_keys(self, after: int, harm: Harm) -> None:
        """Whatever is cut off, the console and the paper lead to the same keys."""
        self.cut_off(after, harm, rekey.rotate)
        assert self.opened().ring == Repository.open(self.store, PAPER).ring

    @rule(after=some.integers(1, 40), harm=CRASHES)
    @when(lambda self: not self.ruined)
    def crash_while_somebody_comes_and_goes(self, after: int, harm: Harm) -> None:
        """Once the removal was told, the secret opens nothing; killed before that it may open, or not."""
        guest, told = Secret.keyfile(self.random.randbytes(32)), False
        with suppress(Crash):
            repository = self.opened(FaultyStore(self.store, [Fault(harm, at=after)]))
            rekey.remove(repository, rekey.add(repository, guest, "guest").handle)
            told = True
        self.remember()
        with suppress(EngineError):
            Repository.open(self.store, guest)
            assert not told

    @rule(number=some.integers(1, 20), until=some.none() | some.integers(0, 1 << 33))
    @when(lambda self: not self.ruined)
    def hold(self, number: int, until: int | None) -> None:
        self.holds = {**self.holds, f"backup {number}": {"until": until, "reason": "story"}}
        self.opened().log.append("hold", {"holds": {f"backup {number}": self.holds[f"backup {number}"]}})
        self.remember()

    @invariant()
    def what_was_said_stands(self) -> None:
        if not self.ruined:
            repository = self.opened()
            self.seen = self.seen | self.model.keys()
            assert repository.log.gone == self.seen - self.model.keys()
            assert repository.log.holds == self.holds
            assert self.sealed is None or console.read(repository).files == self.sealed

    def cut_off(self, after: int, harm: Harm, deed: Callable[[Repository], object]) -> None:
        """The process ends at a store operation; whether the deed was done is seen by whoever opens next."""
        with suppress(Crash):
            deed(self.opened(FaultyStore(self.store, [Fault(harm, at=after)])))
        self.remember()

    # consoles

    @rule(after=some.integers(1, 40), harm=CRASHES)
    @when(lambda self: not self.ruined)
    def take_over(self, after: int, harm: Harm) -> None:
        """Another console adopts the repository with the printed code, and may be killed at it."""
        new = Secret.keyfile(self.random.randbytes(32))
        with suppress(Crash):
            store = FaultyStore(self.store, [Fault(harm, at=after)])
            rekey.adopt(Repository.open(store, PAPER, console="new"), new, "new")
        if self.owns(new):
            self.old_keys, self.key = (*self.old_keys, self.key), new
        self.remember()  # also what was written of a takeover that did not come so far

    def owns(self, key: Secret) -> bool:
        try:
            repository = Repository.open(self.store, key)
        except EngineError:  # its slot did not come so far
            return False
        return bool(repository.log.owner.get("slot") == repository.slot)

    @rule()
    @when(lambda self: self.old_keys and not self.ruined)
    def an_old_console_only_reads(self) -> None:
        repository = Repository.open(self.store, self.random.choice(self.old_keys))
        with pytest.raises(TakenOver):
            archived(repository, scanned(self.root), "by the old one")
        assert repository.log.live.keys() == self.model.keys()

    # what is read, by whatever means

    @rule()
    @when(lambda self: self.model)
    def restore_to_a_disk(self) -> None:
        """What comes back is true; with a damaged object around some may be missing, and that is told."""
        name = self.random.choice(sorted(self.model))
        target, told = self.home / "target", list[ItemError]()
        try:
            repository = self.opened(anchored=not self.ruined)
            snapshot = repository.log.snapshot(name)
            base, options = os.fsencode(self.root).strip(b"/"), RestoreOptions(workers=0)
            restore(repository, snapshot, bytes(target), base=base, options=options, report=told.append)
        except EngineError:
            assert self.ruined
            assert not target.exists()
            return
        found = {path.name: path.read_bytes() for path in target.iterdir()}
        lost = self.model[name].keys() - found.keys()
        assert found == {path: data for path, data in self.model[name].items() if path not in lost}
        assert lost == {os.path.basename(os.fsdecode(item.path)) for item in told}
        assert not lost or self.ruined
        shutil.rmtree(target)

    @rule(level=some.integers(1, 3), share=some.floats(0, 1))
    @when(lambda self: self.ruined is None)
    def verify(self, level: int, share: float) -> None:
        assert check(self.opened(), level, read_share=share, workers=0).problems == []

    @rule(number=some.integers(0, 1 << 20))
    @when(lambda self: self.ruined is None)
    def read_in_a_storm(self, number: int) -> None:
        stormy = FaultyStore(self.store, storm=0.2, seed=number)
        repository = self.opened(RetryingStore(stormy, Patience(attempts=30), sleep=lambda _: None))
        self.judge(repository, self.model)
        assert check(repository, 2, workers=0).problems == []

    # stores that lie

    @rule(at=some.integers(1, 30), times=some.integers(1, 3), harm=LIES)
    @when(lambda self: self.ruined is None)
    def read_from_a_store_that_lies(self, at: int, times: int, harm: Harm) -> None:
        """Wrong bytes that the next asking would not get: never taken for right ones, never kept in the cache."""
        store = FaultyStore(self.store, [Fault(harm, "get", at, times)], seed=at)
        with suppress(EngineError):
            repository = Repository.open(store, self.key, cache=self.home / "cache", anchors=self.anchors)
            assert repository.log.damaged or repository.log.live.keys() == self.model.keys()
            self.judge(repository, self.model, strict=False)

    @rule(at=some.integers(1, 30), times=some.integers(1, 3), harm=LIES, parent=some.booleans())
    @when(lambda self: self.ruined is None)
    def back_up_from_a_store_that_lies(self, at: int, times: int, harm: Harm, parent: bool) -> None:
        """It may fail; what it stores in spite of that is right."""
        self.count += 1
        name, files = f"snapshot {self.count:04}", dict(self.present)
        store = FaultyStore(self.store, [Fault(harm, "get", at, times)], seed=at)
        with suppress(EngineError):
            repository = Repository.open(store, self.key, cache=self.home / "cache", anchors=self.anchors)
            before = self.random.choice([None, *repository.snapshots]) if parent else None
            archived(repository, scanned(self.root), name, parent=before, options=INLINE)
        if name in self.opened().log.live:
            self.model[name] = files
        self.remember()
        assert check(self.opened(), 3, workers=0).problems == []

    # what a backup makes good

    @rule(parent=some.booleans(), gone=some.booleans())
    @when(lambda self: self.model and not self.ruined)
    def back_up_around_a_damaged_pack(self, parent: bool, gone: bool) -> None:
        """The next backup relies on nothing that is gone, nor on a pack of which a check told."""
        name = self.random.choice([name for name in self.store.objects if name.startswith("packs/")])
        data = self.store.objects.pop(name)
        if not gone:
            self.store.objects[name] = data[:-1] + bytes([data[-1] ^ 1])
        damaged = frozenset({bytes.fromhex(name.rpartition("/")[2])})
        self.attempt(self.store, parent, Options(workers=0, damaged=damaged))
        new = f"snapshot {self.count:04}"
        self.judge(self.opened(), {new: self.model[new]})
        self.store.objects[name] = data

    # caches

    @rule()
    def keep_the_cache(self) -> None:
        """A disk image of the host is taken."""
        if (self.home / "cache").exists():
            shutil.rmtree(self.home / "old cache", ignore_errors=True)
            shutil.copytree(self.home / "cache", self.home / "old cache")

    @rule()
    def bring_the_old_cache_back(self) -> None:
        if (self.home / "old cache").exists():
            shutil.rmtree(self.home / "cache", ignore_errors=True)
            shutil.copytree(self.home / "old cache", self.home / "cache")

    @rule(where=some.floats(0, 0.999), cut=some.booleans())
    def spoil_the_cache(self, where: float, cut: bool) -> None:
        """A power cut or a bad sector where the cache lies."""
        files = sorted(path for path in (self.home / "cache").rglob("*") if path.is_file() and path.stat().st_size)
        if files:
            path = self.random.choice(files)
            data = bytearray(path.read_bytes())
            at = int(where * len(data))
            data[at] ^= 1 << self.random.randrange(8)
            path.unlink()
            path.write_bytes(data[:at] if cut else data)

    # copies

    @rule(after=some.none() | some.integers(1, 60), harm=CRASHES, let_go=some.booleans(), verify=some.booleans())
    @when(lambda self: self.ruined is None)
    def copy_the_storage(self, after: int | None, harm: Harm, let_go: bool, verify: bool) -> None:
        """Without a key; it may be cut off on its way. What such a copy lists is whole all the same."""
        self.copy = self.copy or MemoryStore()
        options = MirrorOptions(
            parallel=1, verify=verify or bool(self.copy_harmed), delete_after=0.0 if let_go else None
        )
        store = FaultyStore(self.copy, [Fault(harm, at=after)] if after else [])
        self.copied = None
        with suppress(Crash):
            done = mirror(self.store, store, options)
            litter = {problem.object for problem in done.problems if self.is_litter(problem.object)}
            for told in {problem.object for problem in done.problems} - litter:
                self.see_to_the_copy(told)
            held = {name: data for name, data in self.store_held().items() if name not in litter}
            assert held.items() <= self.copy.objects.items()
            self.copied, self.copy_harmed = dict(self.model), ""
        if self.copied is None and not self.copy_harmed:
            self.judge_what_is_listed(self.copy)

    def see_to_the_copy(self, told: str) -> None:
        """Nobody misses what the repository let go; which of two configs is right, only somebody with a key can say."""
        assert self.copy is not None
        assert told == self.copy_harmed
        if told == "config":
            self.copy.objects[told] = self.store.objects[told]
        else:
            assert told not in self.store.objects
            del self.copy.objects[told]

    @rule(where=some.floats(0, 0.999))
    @when(lambda self: self.copied is not None)
    def ruin_the_copy(self, where: float) -> None:
        """The next copy that reads all of it heals it."""
        assert self.copy is not None
        name = self.random.choice([name for name in self.copy.objects if fmt.is_object_name(name)])
        data = self.copy.objects[name]
        at = int(where * len(data))
        self.copy.objects[name] = data[:at] + bytes([data[at] ^ 1 << self.random.randrange(8)]) + data[at + 1 :]
        self.copied, self.copy_harmed = None, name

    @rule()
    @when(lambda self: self.copy is not None)
    def judge_the_copy(self) -> None:
        """A complete one is as good as the storage was then; of another one, what is listed is true or told."""
        assert self.copy is not None
        try:
            repository = Repository.open(self.copy, PAPER)
        except EngineError:
            assert self.copied is None
            return
        if self.copied is not None:
            assert repository.log.live.keys() == self.copied.keys()
            assert check(repository, 3, workers=0).problems == []
        self.judge(repository, self.copied or self.model, strict=self.copied is not None)

    def judge_what_is_listed(self, store: MemoryStore) -> None:
        with suppress(ObjectDamaged, NotARepository):  # it does not open yet: its keys or its config have still to come
            self.judge(Repository.open(store, PAPER), self.ever)

    def store_held(self) -> Mapping[str, bytes]:
        return {name: data for name, data in self.store.objects.items() if fmt.is_object_name(name)}

    @rule()
    @when(lambda self: self.copy is not None and self.ruined is None)
    def fall_back_to_the_copy(self) -> None:
        """Who remembers the storage is told that the copy is older than that."""
        assert self.copy is not None
        newer, self.store.objects = self.store.objects, dict(self.copy.objects)
        gone = set(self.anchors) - self.copy.objects.keys()
        try:
            Repository.open(self.store, self.key, cache=self.home / "cache", anchors=self.anchors)
            told = False
        except EngineError:
            told = True
        self.store.objects = newer
        assert told or not gone

    # space

    @rule(after=some.none() | some.integers(1, 80), harm=CRASHES, budget=some.sampled_from([20_000, 10**9]))
    @when(lambda self: not self.ruined)
    def give_space_back(self, after: int | None, harm: Harm, budget: int) -> None:
        """Nobody is waited for: who looked before may find that it is too late to commit."""
        options = CompactOptions(unused=0.0, grace=0.0, budget=budget)
        faults = [Fault(harm, at=after)] if after else []
        with suppress(Crash):
            compact(self.opened(FaultyStore(self.store, faults)), options, wait=lambda _marks: True)
        self.overtaken = True
        self.remember()

    @rule()
    def look_from_beside(self) -> None:
        super().look_from_beside()
        self.overtaken = False

    def commit(self, repository: Repository, parent: Snapshot | None, options: Options) -> None:
        self.ever = {**self.ever, f"snapshot {self.count + 1:04}": dict(self.present)}
        try:
            super().commit(repository, parent, options)
        except Overtaken:
            assert repository is self.beside
            assert self.overtaken
            assert f"snapshot {self.count:04}" not in self.opened().log.live

    # repairs

    @rule(after=some.none() | some.integers(1, 80), harm=CRASHES, alone=some.booleans())
    @when(lambda self: self.ruined is not None)
    def heal_what_can_be_healed(self, after: int | None, harm: Harm, alone: bool) -> None:
        """From the copy or without; what it cannot heal it tells, and whatever becomes of it nothing more is lost."""
        before = self.readable()
        copies = [] if alone or self.copy is None else [self.copy]
        with suppress(Crash):
            faults = [Fault(harm, at=after)] if after else []
            store, secret = FaultyStore(self.store, faults), self.secret_that_opens()
            done = repair(store, secret, copies, anchors=self.anchors, workers=0)
            assert done.whole == (not done.problems)
            if done.whole:
                self.ruined = None
        assert self.readable() >= before
        self.store.objects = dict(self.store_held())  # somebody has looked at what is in quarantine
        self.remember()

    def secret_that_opens(self) -> Secret:
        """The printed code; if its own slot is what was ruined, that is told, and the key of the console is taken."""
        assert self.ruined is not None
        try:
            Repository.open(self.store, PAPER)
        except (WrongSecret, ObjectDamaged) as told:
            if self.ruined[0].startswith("keys/"):
                assert self.ruined[0] == getattr(told, "name", self.ruined[0])
                return self.key
        return PAPER

    def readable(self) -> set[tuple[str, str]]:
        """(snapshot, file) of all that comes back as it was."""
        try:
            repository = Repository.open(self.store, self.secret_that_opens() if self.ruined else PAPER)
        except EngineError:
            return set()
        return {(name, path) for name in self.model.keys() & repository.log.live.keys()
                for path in self.files_that_come_back(repository, name)}  # fmt: skip

    def files_that_come_back(self, repository: Repository, name: str) -> set[str]:
        base, found = os.fsencode(self.root).strip(b"/"), set[str]()
        with suppress(EngineError):
            for entry in entries(repository, repository.log.snapshot(name), base):
                with suppress(EngineError):
                    path = os.fsdecode(entry.path[len(base) + 1 :])
                    if entry.kind is Kind.FILE and content_of(repository, entry) == self.model[name][path]:
                        found.add(path)
        return found

    def judge(self, repository: Repository, model: Mapping[str, Mapping[str, bytes]], *, strict: bool = True) -> None:
        """What the model holds is read as it was; if not strict, it may also be told that it cannot be."""
        for name in model.keys() & repository.log.live.keys():
            try:
                assert files_of(repository, repository.log.snapshot(name), self.root) == model[name]
            except EngineError:
                assert not strict


@pytest.mark.slow
def test_nothing_that_befalls_consoles_storages_and_caches_loses_a_file() -> None:
    number = int(os.environ.get("AIHUB_SEED") or (11 if in_ci() else random.SystemRandom().randrange(1 << 32)))
    lives = type("Lives", (Lives,), {})
    try:
        live_through(40, 110, seed(number)(lives))
    except BaseException as error:
        error.add_note(f"AIHUB_SEED={number} repeats these steps.")
        raise
