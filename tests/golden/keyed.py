"""Makes a golden repository whose keys were changed: python -m tests.golden.keyed DIRECTORY

A guest came and went (the slot lies there again, as a copy would bring it back), the passphrase was changed, and
new keys were drawn twice, with a backup under each. Run once; what it made is kept.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from backups import engine
from backups.engine import rekey
from backups.engine.scan import scan
from backups.engine.stores.local import LocalStore
from tests.golden.make import MTIME

OLD_PASSPHRASE, PASSPHRASE = "golden for a while", "golden from then on"
RECOVERY_CODE = "000G-40R4-0M30-E209-185G-R38E-1W81-24GK-2GAH-C5RR-34D1-P70X-3RFZ-MJJG"
KEYFILE, GUEST = bytes(range(32)), bytes(range(100, 132))
SNAPSHOTS = ("under the first keys", "under the second keys", "under the third keys")


def content(snapshot: str) -> bytes:
    """Of the file “file”."""
    return f"written {snapshot}\n".encode() * 500


def make(place: Path) -> None:
    """The repository."""
    secrets = [
        (engine.Secret.keyfile(KEYFILE), "application"), (engine.Secret.recovery_code(RECOVERY_CODE), "printed"),
        (engine.Secret.passphrase(OLD_PASSPHRASE), "people"),
    ]  # fmt: skip
    store = LocalStore(str(place))
    repository = engine.Repository.create(store, secrets, console="golden")
    _back_up(repository, SNAPSHOTS[0])
    rekey.adopt(repository, engine.Secret.keyfile(KEYFILE), "application")
    rekey.add(repository, engine.Secret.keyfile(GUEST), "guest")
    rekey.rotate(repository)
    _back_up(repository, SNAPSHOTS[1])
    guest = rekey.find(repository, "guest").name
    kept = store.get(guest)
    rekey.remove(repository, "guest")
    rekey.change(repository, engine.Secret.passphrase(OLD_PASSPHRASE), engine.Secret.passphrase(PASSPHRASE))
    rekey.rotate(repository)
    _back_up(repository, SNAPSHOTS[2])
    repository.log.append_checkpoint()
    store.put(guest, kept)


def _back_up(repository: engine.Repository, snapshot: str) -> None:
    with tempfile.TemporaryDirectory() as home:
        file = Path(home) / "file"
        file.write_bytes(content(snapshot))
        os.utime(file, ns=(MTIME, MTIME))
        facts = {"roots": [home]}
        engine.archive(repository, scan([os.fsencode(home)], report=print), snapshot_id=snapshot, facts=facts.copy)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
