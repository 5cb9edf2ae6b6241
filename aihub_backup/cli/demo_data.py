"""Data as an AI platform keeps it, made from a seed: the same seed and size give the same bytes everywhere.

Two sources: a tree of files (configuration and text, model weights, logs, and the oddities that file trees have) and a
SQLite database in use. `change_*` then does what a day does to them.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EPOCH_NS = 1_750_000_000_123_456_789  # modification times count from here, with nanoseconds that must survive
MODES = (0o644, 0o600, 0o640, 0o755, 0o444)


@dataclass(frozen=True)
class Scale:
    """How much to make: count of small files, bytes of each weight file and of each log, rows of the database."""

    files: int
    weights: int
    log: int
    rows: int


SCALES = {
    "small": Scale(files=400, weights=4_000_000, log=2_000_000, rows=8_000),
    "normal": Scale(files=3_000, weights=32_000_000, log=16_000_000, rows=120_000),
    "large": Scale(files=20_000, weights=256_000_000, log=128_000_000, rows=1_000_000),
}


class Writer:
    """Writes text that compresses like text and repeats like configuration, and weights that hardly compress."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        syllables = ["ba", "ce", "di", "fo", "gu", "ler", "mon", "nar", "pis", "rat", "sel", "tor", "ver", "win"]
        words = ["".join(self.random.choice(syllables, self.random.integers(1, 4))) for _ in range(2_000)]
        picked = self.random.zipf(1.3, (6_000, 8)) % len(words)
        self.lines = [f"{words[row[0]]}_{words[row[1]]}: {' '.join(words[i] for i in row[2:])}\n" for row in picked]

    def text(self, size: int) -> bytes:
        """About `size` bytes of lines, with a token of its own."""
        token = f"# {self.random.integers(1 << 60):x}\n"
        count = max(1, size // 50)
        return (token + "".join(self.lines[i] for i in self.random.integers(0, len(self.lines), count))).encode()

    def weights(self, size: int) -> bytes:
        """Numbers as models keep them: 16 bits of floats drawn around zero."""
        floats = self.random.standard_normal(size // 2, dtype=np.float32) * np.float32(0.02)
        return (floats.view(np.uint32) >> 16).astype("<u2").tobytes()

    def log(self, size: int, first: int = 0) -> bytes:
        """Lines of a service's log, one after the other in time."""
        count = size // 90
        steps = self.random.integers(1, 900, count).cumsum()
        users = self.random.integers(0, 400, count)
        took = self.random.integers(1, 3_000, count)
        lines = (
            f"{1_763_000_000_000 + first + t} INFO inference request={i:08d} user=u{u:03d} latency_ms={ms} status=200\n"
            for i, (t, u, ms) in enumerate(zip(steps.tolist(), users.tolist(), took.tolist(), strict=True))
        )
        return "".join(lines).encode()


def make_files(root: Path, scale: Scale, seed: int = 1) -> None:
    """A tree of files below `root`, which must not exist."""
    writer = Writer(seed)
    root.mkdir(parents=True)
    for number in range(scale.files):
        folder = root / "config" / f"team-{number % 17:02d}" / f"service-{number % 83:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        size = int(min(200_000, writer.random.lognormal(8.3, 1.2)))
        _write(folder / f"part-{number:05d}.yaml", writer.text(size), MODES[number % len(MODES)])
    base = writer.weights(scale.weights)
    _write(root / "models" / "base.bin", base)
    _write(root / "models" / "tuned.bin", _tuned(base, writer))
    for name in ("gateway.log", "trainer.log"):
        _write(root / "logs" / name, writer.log(scale.log))
    _oddities(root / "odd", writer)
    _settle(root)


def change_files(root: Path, seed: int = 2) -> None:
    """What a day does: edits, growth, insertions, renames, deletions, new files, things that change their kind."""
    writer = Writer(seed)
    small = sorted((root / "config").rglob("*.yaml"))
    for number, path in enumerate(small):
        if number % 40 == 0:
            _rewrite(path, path.read_bytes() + writer.text(300))
        elif number % 40 == 1:
            path.unlink()
        elif number % 40 == 2:
            path.rename(path.with_name("renamed-" + path.name))
    shutil.rmtree(root / "config" / "team-03")
    _write(root / "config" / "team-new" / "fresh.yaml", writer.text(4_000))
    for path in sorted((root / "logs").iterdir()):
        with path.open("ab") as log:
            log.write(writer.log(max(900, path.stat().st_size // 20), first=90_000_000))
    base = root / "models" / "base.bin"
    content = base.read_bytes()
    _rewrite(base, content[: len(content) // 2] + writer.weights(100) + content[len(content) // 2 :])
    (root / "odd" / "empty").unlink()
    (root / "odd" / "empty").mkdir()
    (root / "odd" / "private").chmod(0o711)


def make_database(path: Path, scale: Scale, seed: int = 3) -> sqlite3.Connection:
    """A database in WAL mode with rows of many types. The connection stays open: the database is in use."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        """
        PRAGMA journal_mode = WAL;
        PRAGMA wal_autocheckpoint = 0;
        PRAGMA user_version = 7;
        CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL, joined REAL, avatar BLOB);
        CREATE TABLE runs (id INTEGER PRIMARY KEY, user INTEGER REFERENCES users, loss REAL, note TEXT);
        CREATE INDEX runs_user ON runs (user);
        CREATE TABLE labels (name TEXT PRIMARY KEY, weight INTEGER) WITHOUT ROWID;
        CREATE VIEW heavy AS SELECT * FROM labels WHERE weight > 500;
        """
    )
    _fill(connection, scale.rows, np.random.default_rng(seed))
    connection.execute("PRAGMA wal_checkpoint")
    connection.execute("INSERT INTO labels VALUES ('only in the write-ahead log', 1)")
    return connection


def change_database(connection: sqlite3.Connection, seed: int = 4) -> None:
    """Updates, deletions, new rows and a new table."""
    random = np.random.default_rng(seed)
    with connection:
        connection.execute("BEGIN")
        connection.execute("UPDATE runs SET note = note || ' (checked)' WHERE id % 50 = 0")
        connection.execute("DELETE FROM users WHERE id % 97 = 5")
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)")
        texts = [(f"note {random.integers(1 << 40):x}",) for _ in range(500)]
        connection.executemany("INSERT INTO notes (text) VALUES (?)", texts)
        connection.execute("COMMIT")


def _fill(connection: sqlite3.Connection, rows: int, random: np.random.Generator) -> None:
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO users VALUES (?, ?, ?, ?)", _users(max(10, rows // 10), random))
    losses = random.standard_exponential(rows).tolist()
    runs = ((i, i % max(10, rows // 10), loss, f"run {i} of the trainer") for i, loss in enumerate(losses))
    connection.executemany("INSERT INTO runs VALUES (?, ?, ?, ?)", runs)
    connection.executemany("INSERT INTO labels VALUES (?, ?)", ((f"label-{i}", i % 1000) for i in range(rows // 20)))
    connection.execute("COMMIT")


def _users(count: int, random: np.random.Generator) -> Iterator[tuple[int, str, float | None, bytes]]:
    for number in range(count):
        joined = None if number % 7 == 0 else float(random.random())
        yield number, f"user {number} 用户", joined, random.bytes(int(random.integers(0, 400)))


def _tuned(base: bytes, writer: Writer) -> bytes:
    """A near copy: most of the base model, one layer trained anew."""
    start, length = len(base) // 3, len(base) // 10
    return base[:start] + writer.weights(length) + base[start + length // 2 * 2 :]


def _oddities(root: Path, writer: Writer) -> None:
    """What real trees hold besides plain files."""
    root.mkdir()
    _write(root / "empty", b"")
    _write(root / "中文 name with spaces.txt", "内容\n".encode())
    _write(Path(os.fsdecode(os.fsencode(root) + b"/not-utf8-\xff\xfe")), b"named in bytes\n")
    _write(root / "shared", writer.text(5_000))
    os.link(root / "shared", root / "shared again")
    (root / "relative link").symlink_to("shared")
    (root / "dangling link").symlink_to("nowhere/at all")
    (root / "absolute link").symlink_to("/etc/hostname")
    (root / "private").mkdir(mode=0o700)
    (root / "empty folder").mkdir()
    os.mkfifo(root / "pipe")
    (root / "pipe").chmod(0o620)
    with (root / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(16_000_000)
        file.write(b"end")


def _settle(root: Path) -> None:
    """Give everything a modification time of its own, directories last, links themselves."""
    paths = sorted(root.rglob("*"), key=os.fsencode, reverse=True)
    for number, path in enumerate([*paths, root]):
        stamp = EPOCH_NS + number * 1_000_000_007
        os.utime(path, ns=(stamp, stamp), follow_symlinks=False)


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def _rewrite(path: Path, content: bytes) -> None:
    """Replace the file as editors do: a new file under the old name."""
    mode = path.stat().st_mode & 0o7777
    fresh = path.with_name(path.name + ".new")
    _write(fresh, content, mode)
    fresh.replace(path)
