"""Makes golden repositories that were looked after: python -m tests.golden.kept DIRECTORY

`v1-compacted`: two snapshots were forgotten; one compaction has swept, another one has marked and was cut off.
`v1-repaired`: a pack and all index objects were damaged; a copy healed the one, and the others were written anew.
`v1-renewed`: new keys were drawn twice; everything was written anew under the second ones, some under the third.
Run once; what it made is kept. Frames and packs are small, so that a few KB make many of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from backups import engine
from backups.engine import format as fmt
from backups.engine import rekey
from backups.engine.repair import repair
from backups.engine.scan import scan
from backups.engine.stores.local import LocalStore
from tests.golden.make import MTIME

PASSPHRASE = "golden and well kept"
RECOVERY_CODE = "000G-40R4-0M30-E209-185G-R38E-1W81-24GK-2GAH-C5RR-34D1-P70X-3RFZ-MJJG"
KEYFILE = bytes(range(3, 35))
EVERY_BYTE = engine.CompactOptions(unused=0.0, grace=0.0)


def files(first: int, last: int) -> dict[str, bytes]:
    """Name → content of the files with these numbers; some shrink, some do not."""
    noise = {f"noise/{n}": hashlib.shake_256(b"%d" % n).digest(1500) for n in range(first, last)}
    return noise | {f"text/{n}": b"line %d\n" % n * 250 for n in range(first, last)}


# Repository → snapshot → its files.
HELD: Mapping[str, Mapping[str, dict[str, bytes]]] = {
    "v1-compacted": {"kept": files(4, 9), "newest": files(7, 14)},
    "v1-repaired": {"one": files(0, 6), "two": files(3, 9)},
    "v1-renewed": {"first keys": files(0, 6), "second keys": files(4, 9), "third keys": files(8, 11)},
}


class Life:
    """A repository in a directory, and what happens to it."""

    def __init__(self, place: Path, held: Mapping[str, dict[str, bytes]]) -> None:
        secrets = [(engine.Secret.keyfile(KEYFILE), "application"), (engine.Secret.passphrase(PASSPHRASE), "people"),
                   (engine.Secret.recovery_code(RECOVERY_CODE), "printed")]  # fmt: skip
        self.place, self._held = place, held
        engine.Repository.create(self.store, secrets, console="golden")

    @property
    def store(self) -> LocalStore:
        return LocalStore(str(self.place))

    def opened(self) -> engine.Repository:
        return engine.Repository.open(self.store, engine.Secret.keyfile(KEYFILE), console="golden")

    def back_up(self, snapshot: str, content: Mapping[str, bytes] | None = None) -> None:
        """A snapshot of what it is to hold."""
        with tempfile.TemporaryDirectory() as home:
            for name, data in (content or self._held[snapshot]).items():
                path = Path(home) / name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
                os.utime(path, ns=(MTIME, MTIME))
            entries, facts = scan([os.fsencode(home)], report=print), {"roots": [home]}
            engine.archive(self.opened(), entries, snapshot_id=snapshot, facts=facts.copy,
                           options=engine.Options(workers=0))  # fmt: skip

    def forget(self, snapshot: str) -> None:
        self.opened().log.append("forget", {"forget": [snapshot]})


def compacted(life: Life) -> None:
    """Swept once, with a checkpoint between mark and sweep; then marked."""
    life.back_up("gone", files(0, 7))
    life.back_up("kept")
    life.forget("gone")
    engine.compact(life.opened(), EVERY_BYTE)
    life.opened().log.append_checkpoint()
    engine.compact(life.opened(), EVERY_BYTE, wait=lambda _marks: True)
    life.back_up("gone too", files(9, 18))
    life.back_up("newest")
    life.forget("gone too")
    engine.compact(life.opened(), EVERY_BYTE)
    assert life.opened().log.marks.marked


def repaired(life: Life) -> None:
    """A spoilt pack from a copy; the index from the packs."""
    life.back_up("one")
    life.back_up("two")
    with tempfile.TemporaryDirectory() as home:
        copy = Path(home) / "copy"
        shutil.copytree(life.place, copy)
        shutil.rmtree(copy / "index")
        shutil.rmtree(life.place / "index")
        spoil(max((life.place / "packs").glob("*/*"), key=lambda path: path.stat().st_size))
        done = repair(life.store, engine.Secret.keyfile(KEYFILE), [LocalStore(str(copy))])
    assert done.whole
    assert {deed.what for deed in done.deeds} == {"replaced", "described"}


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


def renewed(life: Life) -> None:
    """All of it under the second keys, then a part under the third."""
    life.back_up("first keys")
    rekey.rotate(life.opened())
    life.back_up("second keys")
    engine.compact(life.opened(), EVERY_BYTE, wait=lambda _marks: True)
    assert not life.opened().outdated_packs()
    rekey.rotate(life.opened())
    life.back_up("third keys")
    tight = engine.CompactOptions(unused=0.0, grace=0.0, budget=9000)
    engine.compact(life.opened(), tight, wait=lambda _marks: True)
    assert {pack.envelope.epoch for pack in life.opened().sync_index().packs()} == {2, 3}


DEEDS: Mapping[str, Callable[[Life], None]] = {
    "v1-compacted": compacted, "v1-repaired": repaired, "v1-renewed": renewed,
}  # fmt: skip


if __name__ == "__main__":
    fmt.FRAME_SIZE, fmt.PACK_SIZE = 4000, 8000
    for name, deed in DEEDS.items():
        deed(Life(Path(sys.argv[1]) / name, HELD[name]))
