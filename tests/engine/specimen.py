"""A small repository with every kind of object, made once; and what must hold after any damage to one of them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from backups.engine import Checked, Kind, Repository, RestoreOptions, Secret, check, entries, keys, restore
from backups.engine import format as fmt
from backups.engine.envelope import Opened
from backups.engine.errors import EngineError, ObjectDamaged, WrongSecret
from backups.engine.format import ObjectType
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import KEY, archived, content_of, opened, plant, scanned

PASSPHRASE = Secret.passphrase("correct horse battery")
CODE = keys.encode_recovery_code(bytes(range(200, 232)))
CHEAP = {"name": "argon2id", "t": 1, "m": 8 << 10, "p": 1}
NOISE = hashlib.shake_256(b"specimen").digest(3000)
# Each round's files are new, so that each snapshot has packs of its own and shares those before it.
ROUNDS: tuple[Mapping[str, bytes], ...] = (
    {"a/one": b"one" * 50, "a/two": NOISE[:1000], "pages": (b"page " * 13107)[:65535] * 3, "empty": b""},
    {"b/three": b"three", "a/two": NOISE[1000:1700]},
    {"c/four": NOISE[1700:2300], "large": b"line of a log\n" * 14000},
    {"d/five": NOISE[2300:]},
)
IDS = ("first", "second", "third", "fourth")


@dataclass(frozen=True)
class Specimen:
    """The objects as they were written, what the snapshots held, and where everything is."""

    objects: Mapping[str, bytes]
    files: Mapping[str, Mapping[bytes, bytes]]  # snapshot → path → content
    base: bytes
    names: Mapping[str, str]  # what a story calls an object → its name
    anchors: tuple[str, ...]

    def store(self) -> MemoryStore:
        store = MemoryStore()
        store.objects = dict(self.objects)
        return store


@cache
def specimen() -> Specimen:
    """Four snapshots with a checkpoint in the middle, in small packs; keyfile, passphrase and recovery code."""
    with pytest.MonkeyPatch.context() as small, tempfile.TemporaryDirectory(prefix="specimen-") as folder:
        small.setattr(fmt, "FRAME_SIZE", 1500)
        small.setattr(fmt, "PACK_SIZE", 3000)
        small.setattr(keys, "ARGON2", CHEAP)
        return _made(Path(folder))


def _made(folder: Path) -> Specimen:
    store, names, files = MemoryStore(), {"config": "config"}, {}
    secrets = [(KEY, "app"), (PASSPHRASE, "people"), (Secret.recovery_code(CODE), "paper")]
    repository = Repository.create(store, secrets, console="specimen")
    written = ("ring", "other ring", "keyfile slot", "passphrase slot", "recovery slot")
    names.update(zip(written, repository.log.keys, strict=True))
    names["first checkpoint"] = repository.log.leaves[0]
    present: dict[str, bytes] = {}
    for snapshot_id, more in zip(IDS, ROUNDS, strict=True):
        root = plant(folder / "data", more)
        (root / "link").unlink(missing_ok=True)
        (root / "link").symlink_to(snapshot_id)
        present.update(more)
        parent = repository.snapshots[-1] if repository.snapshots else None
        before = set(store.objects)
        done = archived(repository, scanned(root), snapshot_id, parent=parent).snapshot
        repository.reload_index()
        files[snapshot_id] = {bytes(root)[1:] + b"/" + name.encode(): data for name, data in present.items()}
        names.update(_named(repository, snapshot_id, sorted(set(store.objects) - before)))
        names[f"record of the {snapshot_id}"] = done.record
        if snapshot_id == "second":
            names["checkpoint"] = repository.log.append_checkpoint().name
    return Specimen(dict(store.objects), files, bytes(folder / "data")[1:], names, tuple(repository.log.leaves))


def _named(repository: Repository, snapshot_id: str, new: list[str]) -> Iterator[tuple[str, str]]:
    """One data pack, one tree pack and the index object of a round."""
    for name in new:
        kind = Opened(repository.sealer, name, repository.store.get(name), tuple(ObjectType)).envelope.type
        word = {ObjectType.DATA_PACK: "data pack", ObjectType.TREE_PACK: "tree pack", ObjectType.INDEX: "index"}
        if kind in word:
            yield f"{word[ObjectType(kind)]} of the {snapshot_id}", name


def regions(name: str, data: bytes) -> dict[str, int]:
    """An offset in every region of an object."""
    if name.startswith(("config", "keys/")):
        return {f"byte {at}": at for at in range(0, len(data), 29)}
    repository = opened(specimen().store())
    found = Opened(repository.sealer, name, data, tuple(ObjectType))
    ends = len(data) - fmt.TRAILER.size
    places = {"magic": 0, "format": 4, "type": 5, "epoch": 7, "repository": 8, "salt": 24, "salt's end": 63}
    for section in found.sections:
        end = section.offset + section.stored
        places.update({f"section {section.number}": section.offset, f"its middle {section.number}": end - 17})
        places.update({f"tag {section.number}": end - 1})
    directory = fmt.TRAILER.unpack(data[ends:])[1]
    places.update({"directory": ends - directory, "directory's tag": ends - 1})
    places.update({"directory's number": ends + 3, "its length": ends + 7, "its raw length": ends + 11})
    return {**places, "its codec": ends + 12, "trailer": len(data) - 1}


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def opened_somehow(store: MemoryStore, damaged: str) -> Repository:
    """With the keyfile; where its slot is what is damaged, (or gone) the recovery code opens."""
    try:
        return opened(store)
    except (ObjectDamaged, WrongSecret) as error:
        assert getattr(error, "name", damaged) == damaged == specimen().names["keyfile slot"], error
    return Repository.open(store, Secret.recovery_code(CODE))


def examine(objects: Mapping[str, bytes], damaged: str, level: int) -> Checked:
    """What must hold: the damage is named, nothing sound is blamed, nothing wrong is read, the rest is all there."""
    store = MemoryStore()
    store.objects = dict(objects)
    repository = opened_somehow(store, damaged)
    done = check(repository, level, workers=0)
    assert {problem.object for problem in done.problems} - {""} == {damaged}, done.problems
    harmed = {(s, path) for problem in done.problems for s in problem.snapshots for path in problem.paths}
    unreadable = {s for problem in done.problems for s in problem.snapshots if not _only_files(problem.paths, s)}
    for snapshot_id, files in specimen().files.items():
        if snapshot_id not in repository.log.live:
            assert damaged == specimen().names[f"record of the {snapshot_id}"]
        elif snapshot_id not in unreadable:
            _reads(repository, snapshot_id, files, {path for s, path in harmed if s == snapshot_id})
    assert store.objects == objects  # whatever is read, nothing is written
    return done


def _only_files(paths: tuple[bytes, ...], snapshot_id: str) -> bool:
    return bool(paths) and set(paths) <= specimen().files[snapshot_id].keys()


def _reads(repository: Repository, snapshot_id: str, files: Mapping[bytes, bytes], harmed: set[bytes]) -> None:
    """Every file that is not called harmed comes back; one that is comes back right or with an error."""
    listed = entries(repository, repository.log.live[snapshot_id], specimen().base)
    found = {entry.path: entry for entry in listed if entry.kind is Kind.FILE}
    assert found.keys() == files.keys()
    for path, entry in found.items():
        try:
            assert content_of(repository, entry) == files[path], path
        except EngineError as error:
            assert path in harmed, (path, error)


def restored(objects: Mapping[str, bytes], snapshot_id: str, target: Path, damaged: str) -> tuple[int, set[bytes]]:
    """(items called failed, paths of files that are there); each of them is byte-identical."""
    store = MemoryStore()
    store.objects = dict(objects)
    repository = opened_somehow(store, damaged)
    done = restore(
        repository, repository.log.snapshot(snapshot_id), bytes(target), base=specimen().base,
        options=RestoreOptions(workers=0),
    )  # fmt: skip
    there = set()
    for path, data in specimen().files[snapshot_id].items():
        file = os.fsencode(target) + path[len(specimen().base) :]
        if os.path.exists(file):
            there.add(path)
            with open(file, "rb") as stream:
                assert stream.read() == data, path
    assert not [name for _, _, names in os.walk(target) for name in names if name.startswith(".aihub")]
    return done.failed, there
