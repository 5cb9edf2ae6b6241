"""Makes a golden repository that two consoles have lived with: python -m tests.golden.lived DIRECTORY

Holds that were given, changed and taken away, forgotten snapshots, a console's sealed keys, a take-over by another
console, and a checkpoint that repeats all of it, with more of each behind it. The tree has an entry of every kind.
Beside the repository it writes DIRECTORY.json: what was said to the engine, not what the engine read back.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from backups import engine
from backups.engine import console, rekey
from backups.engine.scan import scan
from backups.engine.stores.local import LocalStore
from tests.golden.corners import in_order, lines, on_disk

PASSPHRASE = "an old promise"
RECOVERY_CODE = "000G-40R4-0M30-E209-185G-R38E-1W81-24GK-2GAH-C5RR-34D1-P70X-3RFZ-MJJG"
FIRST, SECOND = bytes(range(7, 39)), bytes(range(50, 82))  # keyfiles of the two consoles
OLD, NEW = "https://old.example.org", "https://new.example.org"
MTIME = 1_650_000_000_000_000_001  # nanoseconds
FACTS = {
    "source": {"id": "3e0f5f8e-1111-4a5e-8d7b-000000000001", "name": "papers", "kind": "files", "tags": ["a", "b"]},
    "backup": {"label": "before the move", "hold_until": "2040-01-02T03:04:05+00:00"},
    "part": {"created_at": "2026-11-27T08:00:00+00:00"},
    "mode": "full",
}


def plant(root: Path, number: int) -> None:
    """The tree as it was at that backup."""
    base = os.fsencode(root)
    os.makedirs(base + b"/folder/below", exist_ok=True)
    for name, data in {b"empty": b"", b"same": b"always this", b"text": b"text of %d\n" % number * 400}.items():
        Path(os.fsdecode(base + b"/" + name)).write_bytes(data)
    Path(os.fsdecode(base + b"/folder/below/%d" % number)).write_bytes(b"came with backup %d" % number)
    if not number:
        _plant_others(base)
    for where, folders, names in os.walk(base):
        for name in (*folders, *names):
            os.utime(os.path.join(where, name), ns=(MTIME, MTIME + number), follow_symlinks=False)


def _plant_others(base: bytes) -> None:
    os.link(base + b"/same", base + b"/folder/same again")
    os.symlink(b"folder/below", base + b"/link")
    os.mkfifo(base + b"/fifo", 0o640)
    os.mknod(base + b"/character", 0o20660, os.makedev(1, 5))
    os.mknod(base + b"/block", 0o60660, os.makedev(7, 200))
    with open(base + b"/sparse", "wb") as file:
        file.truncate(9 << 20)
        os.pwrite(file.fileno(), b"island", 5 << 20)
    os.setxattr(base + b"/text", b"user.note", b"\0\xff")
    os.setxattr(base + b"/folder", b"user.note", b"of a folder")
    os.chown(base + b"/text", 1234, 5678)
    os.chmod(base + b"/folder", 0o2750)


def make(place: Path) -> dict[str, Any]:
    """The repository; what it holds."""
    secrets = [(engine.Secret.keyfile(FIRST), OLD), (engine.Secret.passphrase(PASSPHRASE), "people"),
               (engine.Secret.recovery_code(RECOVERY_CODE), "paper")]  # fmt: skip
    engine.Repository.create(LocalStore(str(place)), secrets, console=OLD)
    with tempfile.TemporaryDirectory(prefix="lived-", dir="/var/tmp") as home:
        return _Life(place, Path(home) / "root").live()


class _Life:
    def __init__(self, place: Path, root: Path) -> None:
        self._place, self._root, self._count = place, root, 0
        self._snapshots: dict[str, Any] = {}
        self._holds: dict[str, Any] = {}
        self._forgotten: list[str] = []

    def live(self) -> dict[str, Any]:
        old = self._opened(FIRST, OLD)
        self._back_up(old, "first", "gone at once", "second", "gone later")
        console.seal(old, {"app_keys": b"old one\n", "secret_key": b"old two\n"}, OLD)
        self._hold(old, "first", None, "for ever")
        self._hold(old, "second", 2_208_988_800, "until 2040")
        self._forget(old, "gone at once")
        new = self._opened(FIRST, NEW)
        rekey.adopt(new, engine.Secret.keyfile(SECOND), NEW)
        new = self._opened(SECOND, NEW)
        self._back_up(new, "third")
        new.log.append_checkpoint()
        keys = {"app_keys": b"new one\n", "secret_key": b"new two\n", "secret_key_fallbacks": b"old two\n"}
        console.seal(new, keys, NEW)
        self._hold(new, "second", 0, "taken away")
        self._hold(new, "third", None, "behind the checkpoint")
        self._forget(new, "gone later")
        self._back_up(new, "fourth")
        told = {"snapshots": self._snapshots, "holds": self._holds, "forgotten": sorted(self._forgotten)}
        return told | {"console": NEW, "keys": {name: data.decode() for name, data in keys.items()}}

    def _opened(self, keyfile: bytes, name: str) -> engine.Repository:
        return engine.Repository.open(LocalStore(str(self._place)), engine.Secret.keyfile(keyfile), console=name)

    def _back_up(self, repository: engine.Repository, *names: str) -> None:
        for name in names:
            plant(self._root, self._count)
            self._count += 1
            parent = repository.snapshots[-1] if repository.snapshots else None
            entries = scan([os.fsencode(self._root)], report=_refuse)
            engine.archive(repository, entries, snapshot_id=name, facts=FACTS.copy, parent=parent,
                           options=engine.Options(workers=0))  # fmt: skip
            self._snapshots[name] = in_order(on_disk(self._root))

    def _hold(self, repository: engine.Repository, name: str, until: float | None, reason: str) -> None:
        self._holds[name] = {"until": until, "reason": reason}
        repository.log.append("hold", {"holds": {name: self._holds[name]}})

    def _forget(self, repository: engine.Repository, name: str) -> None:
        del self._snapshots[name]
        self._forgotten.append(name)
        repository.log.append("forget", {"forget": [name], "reason": "retention"})


def _refuse(item: engine.ItemError) -> None:
    raise AssertionError(item)


if __name__ == "__main__":
    made = make(Path(sys.argv[1]))
    snapshots = "\n".join(lines(made.pop("snapshots")))
    rest = "".join(f',\n"{name}": {json.dumps(value)}' for name, value in made.items())
    Path(sys.argv[1] + ".json").write_text(f'{{"snapshots":\n{snapshots}{rest}\n}}\n')
