"""Damage to a repository's objects, and the proof that it is found, named, and never restored as if it were data."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backups import engine
from backups.engine import errors
from backups.engine.scan import scan
from backups.engine.stores.memory import MemoryStore
from tests.proofs.workshop import remove

KEYFILE = engine.Secret.keyfile(b"the console's own keyfile of 32+")
CODE = engine.new_recovery_code()
PAPER = engine.Secret.recovery_code(CODE)
PEOPLE = engine.Secret.passphrase("what people remember")

Objects = Mapping[str, bytes]
Files = dict[str, bytes]  # path below the source → content


def kind_of(name: str) -> str:
    """config, keys, log, index or packs."""
    return name.partition("/")[0]


@dataclass
class Scene:
    """A repository with three snapshots of a tree that changed between them.

    files: how many small ones; large: bytes of one file of several chunks
    """

    place: Path
    random: random.Random
    files: int = 12
    large: int = 300_000
    store: MemoryStore = field(default_factory=MemoryStore)
    states: dict[str, Files] = field(default_factory=dict)  # snapshot id → what it holds
    history: list[Objects] = field(default_factory=list)  # all objects after each snapshot

    def __post_init__(self) -> None:
        self.source = self.place / "source"
        secrets = [(KEYFILE, "console"), (PAPER, "paper"), (PEOPLE, "people")]
        repository = engine.Repository.create(self.store, secrets)
        self._plant()
        for number in range(3):
            self._change(number)
            self._back_up(repository, f"snapshot-{number}")

    @property
    def objects(self) -> Objects:
        """Everything that is stored now."""
        return self.history[-1]

    @property
    def keyfile_slot(self) -> str:
        """Name of the key object that the keyfile opens."""
        return engine.Repository.open(self.store, KEYFILE).slot

    @property
    def base(self) -> bytes:
        """The source's path as snapshots tell it."""
        return os.fsencode(self.source).strip(b"/")

    def _plant(self) -> None:
        for number in range(self.files):
            path = self.source / f"folder-{number % 3}" / f"file-{number:04d}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"%d " % number + self.random.randbytes(self.random.choice((20, 300, 2000))))
        (self.source / "large").write_bytes(self.random.randbytes(self.large))
        (self.source / "link").symlink_to("large")

    def _change(self, number: int) -> None:
        (self.source / f"new-{number}").write_bytes(self.random.randbytes(500))
        (self.source / "folder-1" / "file-0001").write_bytes(b"version %d" % number)

    def _back_up(self, repository: engine.Repository, name: str) -> None:
        entries = scan([bytes(self.source)], report=_refuse)
        parent = repository.snapshots[-1] if repository.snapshots else None
        options = engine.Options(workers=0)
        engine.archive(repository, entries, snapshot_id=name, facts=dict, parent=parent, options=options)
        self.states[name] = contents(self.source)
        self.history.append(dict(self.store.objects))


def contents(root: Path) -> Files:
    """Every file's content and every link's target, by path."""
    paths = [path for path in root.rglob("*") if path.is_symlink() or path.is_file()]
    return {str(path.relative_to(root)): _content(path) for path in paths}


def _content(path: Path) -> bytes:
    return b"-> " + os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()


def _refuse(item: engine.ItemError) -> None:
    raise AssertionError(item)


class Trial:
    """A scene whose objects were harmed. prove() raises AssertionError unless check tells it and restores are honest.

    harmed   names that check has to tell
    levels   of check, each of which has to tell them
    """

    def __init__(
        self, scene: Scene, objects: Objects, harmed: Iterable[str], *, levels: Sequence[int] = (2, 3)
    ) -> None:
        self.scene, self.harmed, self.levels = scene, set(harmed), levels
        self.store = MemoryStore()
        self.store.objects = dict(objects)
        self.whole = 0  # snapshots that came back without a loss

    def prove(self) -> Trial:
        """Open, check, restore every snapshot."""
        repository = self._opened()
        if repository is not None:
            problems = [self._checked(repository, level) for level in self.levels]
            self._restore_all(repository, problems[-1])
        return self

    def _opened(self) -> engine.Repository | None:
        """Opened by the first secret that still does; None when the damage keeps them all out, and says so."""
        for secret in (KEYFILE, PAPER):
            try:
                return engine.Repository.open(self.store, secret)
            except errors.Tampered as error:
                assert self._deleted("log"), f"no record is missing, and yet: {error}"
            except errors.EngineError as error:
                self._blamed_key(error)
        return None

    def _deleted(self, kind: str) -> bool:
        return any(kind_of(name) == kind and name not in self.store.objects for name in self.harmed)

    def _blamed_key(self, error: errors.EngineError) -> None:
        """Only a harmed key object keeps a good secret out, and the sentence names it."""
        keys = {name for name in self.harmed if kind_of(name) == "keys"}
        assert keys, f"no key is harmed, and yet: {error}"
        assert any(name in str(error) for name in keys) or self._deleted("keys"), f"the key is not named: {error}"

    def _checked(self, repository: engine.Repository, level: int) -> list[engine.Problem]:
        problems = engine.check(repository, level, workers=0).problems
        missing = self.harmed - {problem.object for problem in problems}
        assert not missing, f"check of level {level} does not name {sorted(missing)}: {problems}"
        innocent = {problem.object for problem in problems} - self.harmed - {""}
        assert not innocent, f"check blames {sorted(innocent)} instead of {sorted(self.harmed)}"
        return problems

    def _restore_all(self, repository: engine.Repository, problems: list[engine.Problem]) -> None:
        visible = {snapshot.id: snapshot for snapshot in repository.snapshots}
        hidden = self.scene.states.keys() - visible.keys()
        assert not hidden or any(kind_of(name) == "log" for name in self.harmed), f"{sorted(hidden)} cannot be seen"
        for name, snapshot in visible.items():
            told = {path for problem in problems if name in problem.snapshots for path in problem.paths}
            harmed = any(name in problem.snapshots for problem in problems)
            self._restore(repository, snapshot, told if harmed else None)

    def _restore(self, repository: engine.Repository, snapshot: engine.Snapshot, told: set[bytes] | None) -> None:
        """told: the paths that check says are lost; None: nothing of this snapshot is."""
        wanted = self.scene.states[snapshot.id]
        found, said = self.brought_back(repository, snapshot)
        for path, data in found.items():
            assert wanted.get(path) == data, f"{path} came back, and it is not what was backed up"
        lost = wanted.keys() - found.keys()
        if told is None:
            assert not lost and not said, f"{snapshot.id} is sound, and yet lost {sorted(lost)}: {said}"
            self.whole += 1
        elif found:
            assert lost <= said.keys(), f"lost without a word: {sorted(lost - said.keys())}"
            known = {os.fsdecode(path)[len(self.scene.base) + 1 :] for path in told}
            assert lost <= known, f"check did not tell of {sorted(lost - known)}"

    def try_to_open(self, secret: engine.Secret) -> engine.Repository | None:
        """None where this secret opens nothing, or nothing can be read."""
        try:
            return engine.Repository.open(self.store, secret)
        except errors.EngineError:
            return None

    def brought_back(self, repository: engine.Repository, snapshot: engine.Snapshot) -> tuple[Files, dict[str, str]]:
        """What is there after a restore, and what was said about what is not."""
        target, items = self.scene.place / "target", list[engine.ItemError]()
        options = engine.RestoreOptions(workers=0)
        said: dict[str, str] = {}
        try:
            engine.restore(
                repository, snapshot, bytes(target), base=self.scene.base, options=options, report=items.append
            )
        except errors.EngineError as error:
            assert not target.exists(), f"the restore failed ({error}), and something is there"
            said[""] = str(error)
        found = contents(target) if target.exists() else {}
        remove(target)
        return found, said | {os.fsdecode(item.path): item.message for item in items}


def flipped(data: bytes, place: int, bit: int) -> bytes:
    """The same bytes with one bit turned over."""
    return data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]
