"""A directory that changes while it is read, and the judgement whether what was stored of it can be true.

Every file's content tells its name and its version, so a reader knows whether bytes belong together.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

FLICKERING, GROWING, SHRINKING, REWRITTEN, SWAPPED = 3000, 6, 3, 50, 12
BLOCK = 64 << 10  # bytes of a growing file's content that are one thing
STEP = 1 << 10  # bytes by which a file grows at once: small, so that it can go on for as long as anybody reads
START = 8 << 20  # bytes of a growing file at first
REWRITTEN_SIZE = 100_000
PAUSE = 0.0005  # seconds between two deeds


def stretch(name: str, start: int, length: int) -> bytes:
    """Bytes of an endless content that only this name has: each 64 KiB of it tells where it is."""
    first = start // BLOCK
    made = b"".join(_block(name, number) for number in range(first, (start + length) // BLOCK + 1))
    return made[start - first * BLOCK :][:length]


def _block(name: str, number: int) -> bytes:
    return random.Random(f"{name} {number}").randbytes(1024) * (BLOCK // 1024)


def version(name: str, number: int, size: int) -> bytes:
    """One version of a small file."""
    line = f"{name} {number}\n".encode()
    return (line * (size // len(line) + 1))[:size]


class Unrest:
    """Files that vanish, grow, shrink, are rewritten and become something else, for as long as the context lasts.

    Bounded: growing files rest when they have `most` bytes, and the other deeds use no new room. Nothing ever cuts
    a growing file: what is shorter later and read in between has holes, which is what the shrinking ones are for.
    """

    def __init__(self, root: Path, seed: int, most: int = 64 << 20) -> None:
        self.root, self.most = root, most
        self._random = random.Random(seed)
        self._versions: dict[str, int] = {}
        self._away: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.deeds = 0
        self._plant()

    def __enter__(self) -> Unrest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        for name in self._away:
            self._rewrite(name, 700)

    # the deeds

    def _plant(self) -> None:
        for folder in ("flickering", "growing", "shrinking", "rewritten", "swapped"):
            (self.root / folder).mkdir(parents=True)
        for number in range(FLICKERING):
            self._rewrite(f"flickering/{number:05d}", 700)
        for number in range(REWRITTEN):
            self._rewrite(f"rewritten/{number:02d}", REWRITTEN_SIZE)
        for number in range(SWAPPED):
            self._rewrite(f"swapped/{number:02d}", 700)
        for number in range(GROWING):
            self._extend(f"growing/{number}", START)
        for number in range(SHRINKING):
            self._extend(f"shrinking/{number}", self.most // 2)

    def _work(self) -> None:
        while not self._over.wait(PAUSE):
            for deed in (self._vanish, self._shrink, self._rewrite_one, self._swap):
                deed()
                self._grow()  # after each of them: a reader passes a growing file in a few hundredths of a second
                self.deeds += 2

    def _vanish(self) -> None:
        """Files of odd numbers go and come back as another version; 200 of them are away."""
        name = f"flickering/{self._random.randrange(1, FLICKERING, 2):05d}"
        if name in self._away:
            return
        (self.root / name).unlink()
        self._away.append(name)
        if len(self._away) > 200:
            self._rewrite(self._away.pop(0), 700)

    def _grow(self) -> None:
        for number in range(GROWING):
            if (self.root / f"growing/{number}").stat().st_size < self.most:
                self._extend(f"growing/{number}", STEP)

    def _shrink(self) -> None:
        """Back and forth: the half of it is cut off, or comes again as zeros."""
        path = self.root / f"shrinking/{self._random.randrange(SHRINKING)}"
        size = path.stat().st_size
        os.truncate(path, self.most // 2 if size < self.most // 2 else self.most // 4)

    def _rewrite_one(self) -> None:
        self._rewrite(f"rewritten/{self._random.randrange(REWRITTEN):02d}", REWRITTEN_SIZE)

    def _swap(self) -> None:
        """A name that is now a file, then a FIFO, a link out of the tree or a directory."""
        path = self.root / f"swapped/{self._random.randrange(SWAPPED):02d}"
        other = path.with_name(".next")
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        kind = self._random.randrange(4)
        if kind == 0:
            os.mkfifo(other)
        elif kind == 1:
            other.symlink_to("/etc/passwd")
        elif kind == 2:
            other.write_bytes(version(f"swapped/{path.name}", self.deeds, 700))
        else:
            with suppress(FileNotFoundError):
                path.unlink()
            path.mkdir()
            return
        other.rename(path)

    def _rewrite(self, name: str, size: int) -> None:
        """In place, in two writes: a reader can meet a mixture of two versions."""
        number = self._versions[name] = self._versions.get(name, 0) + 1
        data = version(name, number, size)
        with (self.root / name).open("r+b" if (self.root / name).exists() else "wb", buffering=0) as file:
            file.write(data[: size // 2])
            file.write(data[size // 2 :])

    def _extend(self, name: str, length: int) -> None:
        with (self.root / name).open("ab", buffering=0) as file:
            file.write(stretch(name, file.tell(), length))

    # the judgement

    def judge(self, found: Path, reported: Mapping[bytes, str]) -> None:
        """AssertionError unless what came back of this tree can have been there, or was reported."""
        _Judge(found, reported).judge()


class _Judge:
    def __init__(self, found: Path, reported: Mapping[bytes, str]) -> None:
        self._found, self._reported = found, reported

    def judge(self) -> None:
        for number in range(FLICKERING):
            self._flickering(f"flickering/{number:05d}", stays=number % 2 == 0)
        for number in range(GROWING):
            self._growing(f"growing/{number}")
        for number in range(REWRITTEN):
            self._whole(f"rewritten/{number:02d}", (self._found / f"rewritten/{number:02d}").read_bytes())
        for number in range(SWAPPED):
            self._swapped(f"swapped/{number:02d}")
        self._enough()

    def _told(self, name: str) -> bool:
        return name.encode() in self._reported

    def _flickering(self, name: str, *, stays: bool) -> None:
        path = self._found / name
        assert path.exists() or not stays, f"{name} was there all the time and was not stored"
        if path.exists():
            self._whole(name, path.read_bytes())

    def _whole(self, name: str, data: bytes) -> None:
        """One version from beginning to end, or a reported mixture."""
        numbers = data.split(b"\n", 1)[0].rpartition(b" ")[2]
        whole = numbers.isdigit() and data == version(name, int(numbers), len(data))
        assert whole or self._told(name), f"{name} is a mixture of versions, and nothing was said"

    def _growing(self, name: str) -> None:
        data = (self._found / name).read_bytes()
        assert data == stretch(name, 0, len(data)), f"{name} has bytes that were never in it"
        assert len(data) % STEP == 0 or self._told(name), f"{name} ends where it never ended, and nothing was said"

    def _swapped(self, name: str) -> None:
        path = self._found / name
        if path.is_symlink():
            assert os.readlink(path) == "/etc/passwd"
        elif path.is_file():
            self._whole(name, path.read_bytes())

    def _enough(self) -> None:
        """The run met what this is for."""
        for folder, words in (("flickering", "vanished"), ("growing", "changed"), ("shrinking", "changed shrank")):
            about = [said for path, said in self._reported.items() if path.startswith(folder.encode() + b"/")]
            met = any(word in said for said in about for word in words.split())
            assert met, f"nothing {folder} was reported ({len(self._reported)} reports)"
