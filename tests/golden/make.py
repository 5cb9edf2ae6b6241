"""Makes a golden repository: python -m tests.golden.make DIRECTORY

Run once for each format version; what it made is kept. The content follows from a seed, so that the expected bytes
need not be stored; the repository itself holds random keys and salts and comes out differently every time.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path

from backups import engine
from backups.engine.scan import scan
from backups.engine.stores.local import LocalStore

PASSPHRASE = "golden for ever"
RECOVERY_CODE = "000G-40R4-0M30-E209-185G-R38E-1W81-24GK-2GAH-C5RR-34D1-P70X-3RFZ-MJJG"
KEYFILE = bytes(range(32))
MTIME = 1_700_000_000_123_456_789  # nanoseconds
EPOCHS = ("first", "second")  # the snapshots that are kept; "gone" lies between them and was forgotten


def contents(epoch: str) -> dict[bytes, bytes]:
    """Relative path → content of the regular files."""
    draw = random.Random(f"golden {epoch}")
    large = random.Random("golden large").randbytes(200_000)
    files = {
        b"empty": b"",
        b"text": b"".join(b"line %d\n" % draw.randrange(1000) for _ in range(2000)),
        b"large": large[:100_000] + epoch.encode() + large[100_000:],
        b"not utf-8 \xff": b"bytes are bytes",
        b"deep/er/file": b"far down",
    }
    return files | {b"many/%03d" % n: b"file %d of %s" % (n, epoch.encode()) for n in range(300)}


def grow(root: Path, epoch: str) -> None:
    """The tree as it was in that epoch."""
    base = os.fsencode(root)
    for path, data in contents(epoch).items():
        full = os.path.join(base, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        Path(os.fsdecode(full)).write_bytes(data)
        os.chmod(full, 0o640)
        os.utime(full, ns=(MTIME, MTIME))
    if not (root / "link").is_symlink():
        (root / "link").symlink_to("nowhere/at all")
        (root / "second name").hardlink_to(root / "text")
    with (root / "sparse").open("wb") as sparse:
        sparse.truncate(3 << 20)
        sparse.seek(1 << 20)
        sparse.write(b"an island")
    os.utime(root / "sparse", ns=(MTIME, MTIME))


def make(place: Path) -> None:
    """A repository with two live snapshots, a forgotten one and a checkpoint."""
    secrets = [
        (engine.Secret.passphrase(PASSPHRASE), "people"),
        (engine.Secret.recovery_code(RECOVERY_CODE), "printed"),
        (engine.Secret.keyfile(KEYFILE), "console"),
    ]
    repository = engine.Repository.create(LocalStore(str(place)), secrets)
    with tempfile.TemporaryDirectory() as home:
        root = Path(home) / "golden"
        for epoch in (EPOCHS[0], "gone", EPOCHS[1]):
            grow(root, epoch)
            facts = {"roots": [str(root)]}
            entries = scan([os.fsencode(root)], report=print)
            engine.archive(repository, entries, snapshot_id=epoch, facts=facts.copy)
    repository.log.append("forget", {"forget": ["gone"], "reason": "to be forgotten"})
    repository.log.append_checkpoint()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
