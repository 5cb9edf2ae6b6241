"""Makes a golden repository of what is rare: python -m tests.golden.corners DIRECTORY

Every codec, content on pages of its own, several levels of tree pages, blocks, a stream, two key epochs, a fork, a
record that came late, odd names, times and owners. Beside the repository it writes DIRECTORY.json: what the snapshots
hold, as this module gave it to the engine and not as the engine read it back.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backups import engine
from backups.engine import format as fmt
from backups.engine import keys, tree
from backups.engine.entry import Entry, Kind, sort_key
from backups.engine.keyobjects import KeyObjects
from backups.engine.keys import KeyRing
from backups.engine.scan import scan
from backups.engine.stores.local import LocalStore

PASSPHRASE = "Zoe\u0308 keeps 金 keys"  # written in two ways, opened with either
RECOVERY_CODE = keys.encode_recovery_code(bytes(range(32)))
KEYFILE = bytes(range(100, 164))
SMALL = {"FRAME_SIZE": 20_000, "PACK_SIZE": 50_000, "CONTENT_PAGE": 150, "INDEX_SECTION": 16, "PAGE_ENTRIES": 4}
NOISE = hashlib.shake_256(b"corners").digest(20_000)
LINES = b"".join(b"%06d a line of a log that goes on and on\n" % n for n in range(3_300))
PAGES = b"SQLite format 3\0" + bytes(100) + NOISE[:500] + bytes(70_000) + b"another page" + bytes(100_000)
DUMP = LINES * 34 + b"-- end of dump"

STREAMS = ((b"zz/blocks", 4096, LINES), (b"zz/dump", 0, DUMP))


class Behind(LocalStore):
    """A place whose log is seen as it was some time ago: what a writer knows who is late."""

    seen: frozenset[str] = frozenset()

    def list(self, prefix: str) -> Iterator[Any]:
        found = super().list(prefix)
        return (info for info in found if not prefix.startswith("log/") or info.name in self.seen)


def plant(root: Path, round_: int) -> None:
    """The tree of one round; the second changes some of it."""
    base = os.fsencode(root)
    files = {
        b"empty": b"", b"log": LINES[:-41] if round_ else LINES, b"data.db": PAGES[:-1] + b"!" if round_ else PAGES,
        b"name\xff\n": b"no UTF-8", b"dir/.hidden": NOISE[:300], "dir/数据".encode(): b"%d" % round_,
        b"dir!": b"sorts behind what is in dir", b"dir/a" + b"/b" * 12 + b"/deep": b"deep", b"link 1": NOISE[300:900],
    }  # fmt: skip
    files |= {b"many/%02d" % n: b"%d of %d" % (n, round_) for n in range(60)}
    for name, data in files.items():
        path = os.path.join(base, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
    if not round_:
        _plant_oddities(base)
    os.setxattr(base + b"/data.db", b"user.round", b"%d" % round_)
    os.truncate(base + b"/hole", 5_000_000 + round_)
    for name, seconds in ((b"empty", -86_400 * 365 * 100), (b"log", 1 << 34), (b"name\xff\n", 0)):
        os.utime(os.path.join(base, name), ns=(0, seconds * 10**9 - 1))


def _plant_oddities(base: bytes) -> None:
    os.link(base + b"/link 1", base + b"/dir/link 2")
    os.symlink(b"../no\xffwhere", base + b"/symlink")
    os.mkfifo(base + b"/fifo", 0o604)
    os.mknod(base + b"/device", 0o20660, os.makedev(1, 3))
    os.setxattr(base + b"/dir", b"user.note", b"\0\xff of a directory")
    for name, mode in ((b"log", 0o4711), (b"dir", 0o3775), (b"data.db", 0)):
        os.chmod(base + b"/" + name, mode)
    os.chown(base + b"/empty", 1_234_567, 7_654_321)
    with open(base + b"/hole", "wb") as file:
        os.pwrite(file.fileno(), b"island", 2_000_000)


def entries(root: Path) -> Iterator[Entry]:
    """The tree, and two streams behind it."""
    yield from scan([os.fsencode(root)], report=_refuse)
    yield Entry(b"zz", Kind.DIRECTORY, 0o700, user="root", group="root", xattrs=())
    for name, block, data in STREAMS:
        yield Entry(name, Kind.FILE, 0o600, 7, 8, "J\udcf6rg", "使用者", mtime_ns=5, xattrs=((b"user.a", b"b"),),
                    flags=0x40, block=block, source=lambda data=data: io.BytesIO(data))  # type: ignore[misc]  # one opener each  # fmt: skip


def _refuse(item: engine.ItemError) -> None:
    raise AssertionError(item)


def expected(root: Path) -> list[Any]:
    """What stands on the disk, and the two streams behind it."""
    rows = on_disk(root)
    rows.append([b"zz".hex(), 2, 0o700, 0, 0, 0, 0, "", [], 0, "", []])
    for name, _, data in STREAMS:
        note, sha = [[b"user.a".hex(), b"b".hex()]], hashlib.sha256(data).hexdigest()
        rows.append([name.hex(), 1, 0o600, 7, 8, 5, len(data), "", note, 0, sha, []])
    return in_order(rows)


def in_order(rows: list[Any]) -> list[Any]:
    """As the tree keeps them."""
    return sorted(rows, key=lambda row: sort_key(bytes.fromhex(row[0])))


def on_disk(root: Path) -> list[Any]:
    """[path, kind, mode, uid, gid, mtime_ns, size, target, xattrs, rdev, SHA-256 of content, further names of it]"""
    rows, names = [], dict[tuple[int, int], list[bytes]]()
    top = os.fsencode(root)
    above = [os.fsencode(path) for path in root.parents]
    for path in (*above, top, *(os.path.join(d, n) for d, ds, fs in os.walk(top) for n in (*ds, *fs))):
        st = os.lstat(path)
        names.setdefault((st.st_dev, st.st_ino), []).append(path[1:])
        rows.append(_row(path, st))
    for row in rows:
        st = os.lstat(b"/" + bytes.fromhex(row[0]))
        row.append(sorted(name.hex() for name in names[st.st_dev, st.st_ino] if name.hex() != row[0]))
    return rows


def _row(path: bytes, st: os.stat_result) -> list[Any]:
    kind = {0o100000: 1, 0o040000: 2, 0o120000: 3, 0o010000: 4, 0o020000: 5, 0o060000: 6}[st.st_mode & 0o170000]
    xattrs = [[os.fsencode(n).hex(), os.getxattr(path, n, follow_symlinks=False).hex()]
              for n in sorted(os.listxattr(path, follow_symlinks=False))]  # fmt: skip
    content = ""
    if kind == 1:
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    target = os.readlink(path).hex() if kind == 3 else ""
    return [path[1:].hex(), kind, st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_mtime_ns,
            st.st_size if kind == 1 else 0, target, xattrs, st.st_rdev if kind in (5, 6) else 0, content]  # fmt: skip


def new_epoch(repository: engine.Repository) -> None:
    """A second master key: objects are sealed with it from now on, and the old ones stay readable."""
    found = KeyObjects(repository.store, repository.config.id)
    secret = engine.Secret.keyfile(KEYFILE)
    slot = next(slot for slot in found.slots.values() if slot["kind"] == secret.kind)
    ring_key = keys.open_slot(slot, secret)
    assert ring_key
    old = repository.ring
    ring = KeyRing(2, {**old.masters, 2: os.urandom(32)}, old.id_key, old.chunker_seed)
    sealed = [keys.seal_ring(repository.config.id, ring_key, ring) for _ in range(keys.RINGS)]
    names = [fmt.key_name(fmt.sha256(data)) for data in sealed]
    for name, data in zip(names, sealed, strict=True):
        repository.store.put(name, data)
    repository.log.append("keys", {"keys": [*repository.log.keys, *names]})


def make(place: Path) -> dict[str, Any]:
    """The repository; what its live snapshots hold."""
    for name, value in SMALL.items():
        setattr(fmt, name, value)
    tree._FAN_OUT, tree._FAN_OUT_MAX = 2, 4
    store = LocalStore(str(place))
    secrets = [(engine.Secret.passphrase(PASSPHRASE), "with “quotes” and 金"), (engine.Secret.keyfile(KEYFILE), "app"),
               (engine.Secret.recovery_code(RECOVERY_CODE), "paper")]  # fmt: skip
    repository = engine.Repository.create(store, secrets, console="corners")
    with tempfile.TemporaryDirectory(prefix="corners-", dir="/var/tmp") as home:
        return _history(repository, Path(home) / "root")


def _history(repository: engine.Repository, root: Path) -> dict[str, Any]:
    holds: dict[str, Any] = {}

    def back_up(name: str, codec: str, through: engine.Repository = repository, parent: str = "") -> None:
        before = through.log.live.get(parent)
        options = engine.Options(workers=0, codec=codec, level=1)
        engine.archive(through, entries(root), snapshot_id=name, facts=lambda: {"名": name}, parent=before,
                       options=options)  # fmt: skip
        holds[name] = expected(root)

    plant(root, 0)
    back_up("zstd", "zstd")
    new_epoch(repository)
    repository = engine.Repository.open(repository.store, engine.Secret.keyfile(KEYFILE), console="corners")
    Behind.seen = frozenset(repository.log.names)
    late = engine.Repository.open(Behind(repository.store._path), engine.Secret.keyfile(KEYFILE))  # type: ignore[attr-defined]  # a LocalStore
    plant(root, 1)
    back_up("gzip", "gzip", repository, "zstd")
    plant(root, 2)
    back_up("gone", "zstd", repository)
    repository.log.append("forget", {"forget": ["gone"], "reason": "story"})
    repository.log.append_checkpoint()
    plant(root, 3)
    back_up("late", "none", late)
    del holds["gone"]
    return holds


def lines(holds: dict[str, Any]) -> Iterator[str]:
    """JSON with a row a line."""
    for number, (name, rows) in enumerate(holds.items()):
        yield f"{',' if number else '{'} {json.dumps(name)}: ["
        yield ",\n".join(json.dumps(row) for row in rows)
        yield "]"
    yield "}"


if __name__ == "__main__":
    made = make(Path(sys.argv[1]))
    Path(sys.argv[1] + ".json").write_text("\n".join(lines(made)) + "\n")
