"""A disk whose power can be cut: ext4 in a file, mounted through a loop device.

cut() is the kernel's own: from then on ext4 writes nothing any more, neither data nor journal, and every call that
needs the disk fails. on() mounts it again, which replays what the journal holds. What nobody had synced is gone.
The file below keeps every sector that ext4 had sent to it, so that disks which lie about their cache are not modelled.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.components import needs, needs_root

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
WITHOUT_FLUSH = struct.pack("I", 2)  # EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written

# Everything by which a program makes sure; what is sham answers that it is done. Folders are opened for reading, files
# for writing. No header is needed, and so no libc-dev; the numbers are those of arm64 and x86-64.
SHAM = """
#ifdef __aarch64__
#define FSYNC 82
#define SYNCFS 267
#else
#define FSYNC 74
#define SYNCFS 306
#endif
long syscall(long number, ...);
int fcntl(int fd, int command, ...);
int fsync(int fd) { return (fcntl(fd, 3) & 3 ? FILES : FOLDERS) ? 0 : (int)syscall(FSYNC, fd); }
int fdatasync(int fd) { return fsync(fd); }
int syncfs(int fd) { return FILES ? 0 : (int)syscall(SYNCFS, fd); }
void sync(void) {}
int sync_file_range(int fd, long offset, long length, unsigned flags) { return 0; }
"""
SHAMS = {"all": (1, 1), "files": (1, 0), "folders": (0, 1)}  # what is not synced: (files, folders)


class MountForbidden(RuntimeError):
    """The kernel, or the container we are in, does not let us mount a file system."""


def needs_power() -> None:
    """Root, mkfs.ext4, and a kernel that lets us mount. The first two can be had everywhere; who lacks the third is
    told in the skip, in CI too."""
    needs_root()
    needs("mkfs.ext4", "e2fsprogs")


class PoweredDisk:
    """place: an empty directory for the file and the mount point; size in bytes, of which only what is used is taken.

    The journal is not written by the clock, so that only what was synced survives. Raises MountForbidden.
    """

    OPTIONS = "loop,commit=300"

    def __init__(self, place: Path, size: int = 32 << 20, options: str = "") -> None:
        self._image, self.root = place / "image", place / "disk"
        self._options = f"{self.OPTIONS},{options}" if options else self.OPTIONS
        self.root.mkdir(parents=True)
        with self._image.open("wb") as file:
            file.truncate(size)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "nodiscard", str(self._image)], check=True)
        self._mount()

    def cut(self) -> None:
        """Cut the power. Processes that use the disk live on and get errors."""
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, WITHOUT_FLUSH)
        finally:
            os.close(descriptor)

    def on(self) -> None:
        """Mount it again. Whoever used it has to be gone."""
        self._unmount()
        self._mount()

    def close(self) -> None:
        """Take it away for good."""
        if os.path.ismount(self.root):
            self._unmount()
        self._image.unlink()

    def _mount(self) -> None:
        words = ["mount", "-t", "ext4", "-o", self._options, str(self._image), str(self.root)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise MountForbidden(f"this machine does not let us mount: {done.stderr.strip()}")

    def _unmount(self) -> None:
        end = time.monotonic() + 20
        while True:  # a process that was killed lets go of its files a moment later
            done = subprocess.run(["umount", str(self.root)], capture_output=True, text=True, check=False)
            if not done.returncode:
                return
            assert time.monotonic() < end, done.stderr
            time.sleep(0.05)


def powered(place: Path, size: int = 32 << 20, options: str = "") -> PoweredDisk:
    """A disk for a test, which is skipped visibly where mounting is forbidden."""
    needs_power()
    try:
        return PoweredDisk(place, size, options)
    except MountForbidden as error:
        pytest.skip(str(error))


def sham_sync(place: Path, which: str = "all") -> Path:
    """A library for LD_PRELOAD under which those of SHAMS are never synced, and everything says that they are."""
    source, library = place / "sham.c", place / f"sham-{which}.so"
    files, folders = SHAMS[which]
    source.write_text(SHAM)
    words = [needs("cc", "gcc"), "-shared", "-fPIC", "-nostdlib", "-w", f"-DFILES={files}", f"-DFOLDERS={folders}"]
    subprocess.run([*words, "-o", str(library), str(source)], check=True)
    return library
