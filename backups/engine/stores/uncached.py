"""Large objects past the page cache: a backup is written once and read seldom.

Cached, it drives out what the host's services live on. In a virtual machine the first touch of each page that
receives it costs more than compressing its bytes did. And a check that reads the cache has not looked at the disk.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from backups.engine import kernel
from backups.engine.store import Data

LEAST = 1 << 20  # bytes; of less than that nobody notices where it went
MOST = 32 << 20  # bytes read at once; the buffer for it is kept
BLOCK = 4096  # addresses, offsets and lengths that direct I/O takes on these (open(2), O_DIRECT)
_FILE_SYSTEMS = frozenset({"ext4", "xfs"})  # over a network it is slower; others copy to their own cache anyway
_PIECE = 1 << 20  # bytes written at once
_KEPT = 2  # buffers
_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS

_spare: list[mmap.mmap] = []  # private: a child that is forked gets copies


def write(file: int, data: memoryview) -> int:
    """Write the beginning of data to a new file by direct I/O; how many bytes, 0 where that is not to be had.

    What is left is the caller's to append: less than a block, or more where the device refused or the disk is full.
    Raises what write(2) does.
    """
    whole = len(data) - len(data) % BLOCK if len(data) >= LEAST else 0
    if not whole or not _takes(os.fstat(file).st_dev):
        return 0
    with suppress(_Refused), _direct(file), _aligned(_PIECE) as piece:
        return _written(file, data[:whole], piece)
    return os.lseek(file, 0, os.SEEK_CUR)  # a device with odd blocks: the caller goes on in the usual way


def read(file: int, start: int, wanted: int) -> bytes:
    """These bytes, or fewer, by direct I/O; none where it is not to be had, and where the cache has them already.

    Raises what preadv(2) does.
    """
    if not LEAST <= wanted <= MOST or not _takes(os.fstat(file).st_dev) or not _is_cold(file, start):
        return b""
    with suppress(_Refused), _direct(file), _aligned(wanted + 2 * BLOCK) as room:
        data = _filled(file, start, wanted, room)
        os.posix_fadvise(file, start - start % BLOCK, LEAST, os.POSIX_FADV_DONTNEED)  # what asking for it brought there
        return data
    return b""


class _Refused(Exception):
    """The kernel does not write like that here."""


@cache
def _takes(device: int) -> bool:
    return kernel.file_systems().get(device, "") in _FILE_SYSTEMS


def _is_cold(file: int, start: int) -> bool:
    """Whether this byte would have to come from the disk."""
    try:
        return not os.preadv(file, [bytearray(1)], start, os.RWF_NOWAIT)
    except BlockingIOError:
        return True
    except OSError:  # a kernel that cannot tell
        return False


@contextmanager
def _direct(file: int) -> Iterator[None]:
    usual = fcntl.fcntl(file, fcntl.F_GETFL)
    try:
        fcntl.fcntl(file, fcntl.F_SETFL, usual | os.O_DIRECT)
    except OSError:
        raise _Refused from None
    try:
        yield
    finally:
        fcntl.fcntl(file, fcntl.F_SETFL, usual)


@contextmanager
def _aligned(size: int) -> Iterator[memoryview]:
    """A buffer that begins with a page; used again, since fresh ones are what all this is to spare."""
    try:
        memory = _spare.pop()
    except IndexError:
        memory = mmap.mmap(-1, size, flags=_PRIVATE)
    if len(memory) < size:
        memory = mmap.mmap(-1, size, flags=_PRIVATE)
    yield memoryview(memory)
    if len(_spare) < _KEPT:
        _spare.append(memory)


def _filled(file: int, start: int, wanted: int, room: memoryview) -> bytes:
    first, end = start - start % BLOCK, start + wanted
    length = -(-(end - first) // BLOCK) * BLOCK
    try:
        got = os.preadv(file, [room[:length]], first)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise _Refused from None
    return bytes(room[start - first : min(got, end - first)])


def _written(file: int, data: Data, piece: memoryview) -> int:
    at = 0
    while at < len(data):
        length = min(_PIECE, len(data) - at)
        piece[:length] = data[at : at + length]
        try:
            done = os.write(file, piece[:length])
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise _Refused from None
        if done % BLOCK:  # the disk became full: what is left could not be written from here
            return at + done
        at += done
    return at
