"""A directory that never rests, and the memory of what each of its files was from when to when.

Files change as most programs change them: a new one takes the name of the old one. So what a backup holds of a name is
one of the contents that the name had while the backup was made, whole, or nothing if the name was away then.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SIZES = (300, 9_000, 60_000, 200_000)  # bytes of a file
PER_FOLDER = 50
PAUSE = 0.05  # seconds between two changes
AWAY = ""  # instead of a digest
Seen = dict[str, str]  # path below the root → SHA-256 of its content


@dataclass(frozen=True)
class Change:
    """Somewhere between `before` and `after` (Unix seconds) the name got this content."""

    before: float
    after: float
    digest: str


class Moving:
    """Files that are replaced, removed and made again, for as long as the context lasts."""

    def __init__(self, root: Path, numbers: random.Random, files: int) -> None:
        self.root, self._random = root, numbers
        self._next = root.with_name(f"{root.name}.next")  # outside of the tree, on the same file system
        self._names = [f"{number // PER_FOLDER:02d}/{number:04d}" for number in range(files)]
        self._changes: dict[str, list[Change]] = {}
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        for name in self._names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            self._replace(name)

    def __enter__(self) -> Moving:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def changes(self) -> int:
        """How many there were."""
        with self._guard:
            return sum(map(len, self._changes.values()))

    # the deeds

    def _work(self) -> None:
        while not self._over.wait(PAUSE):
            self.change()

    def change(self) -> None:
        """One of the files."""
        name = self._random.choice(self._names)
        if (self.root / name).exists() and self._random.random() < 0.2:
            self._remove(name)
        else:
            self._replace(name)

    def _replace(self, name: str) -> None:
        data = self._random.randbytes(self._random.choice(SIZES))
        self._next.write_bytes(data)
        before = time.time()
        os.replace(self._next, self.root / name)
        self._remember(name, before, hashlib.sha256(data).hexdigest())

    def _remove(self, name: str) -> None:
        before = time.time()
        (self.root / name).unlink()
        self._remember(name, before, AWAY)

    def _remember(self, name: str, before: float, digest: str) -> None:
        with self._guard:
            self._changes.setdefault(name, []).append(Change(before, time.time(), digest))

    # the judgement

    def judge(self, seen: Seen, begin: float, end: float) -> None:
        """AssertionError unless each file is what its name had at some moment from begin to end (Unix seconds)."""
        with self._guard:
            changes = {name: list(own) for name, own in self._changes.items()}
        strange = sorted(seen.keys() - changes.keys())
        assert not strange, f"{strange[0]} was never there"
        wrong = [name for name, own in changes.items() if seen.get(name, AWAY) not in _possible(own, begin, end)]
        assert not wrong, f"{len(wrong)} files are not what they were, as {wrong[0]}"


def _possible(changes: list[Change], begin: float, end: float) -> set[str]:
    """Contents that the name had at some moment of these."""
    until = [change.after for change in changes[1:]] + [float("inf")]
    found = {one.digest for one, gone in zip(changes, until, strict=True) if one.before <= end and gone >= begin}
    return found | ({AWAY} if changes[0].after >= begin else set())


def seen(tree: Path) -> Seen:
    """What is there."""
    files = (path for path in tree.rglob("*") if path.is_file())
    return {str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
