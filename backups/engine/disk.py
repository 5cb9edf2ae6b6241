"""A file tree on disk, reached through directory descriptors: no path length limit, no symbolic link followed.

Paths are raw bytes relative to the tree's root, joined by '/'; b"" is the root. Every call raises OSError about the
one item it names; turning that into a reported item or a failed run is the caller's deed.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from backups.engine import kernel
from backups.engine.entry import ItemError

Report = Callable[[ItemError], None]
Xattrs = tuple[tuple[bytes, bytes], ...]

OPEN_DIRECTORIES = 96  # handles kept open; a process may have 1,024 files open by default
LONGEST_PATH = 65_535  # bytes; longer ones are refused, so that a hostile tree costs no quadratic time
STRIDE = 48  # components between the handles kept on the way up
KEPT_FLAGS = 0x0083_C4FC  # inode flags a person sets (chattr); the others tell how the file system works inside

_SEARCH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_XATTRS = frozenset({errno.EOPNOTSUPP, errno.ENOSYS})
_NEVER = frozenset({b"", b".", b".."})


class NotRegular(OSError):
    """What was opened as a file is none (any more): a FIFO, a device, a directory."""


class DiskTree:
    """Access below one directory. Keeps up to `directories` handles open; not for use by several threads at once.

    After a fork parent and child may both go on with it: the handles are only searched, never read.
    root may be a path (links in it are followed: it is the caller's word) or an open directory the tree takes over.
    """

    def __init__(self, root: bytes | int, *, report: Report | None = None, directories: int = OPEN_DIRECTORIES) -> None:
        self._root = root if isinstance(root, int) else os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._report, self._limit = report, max(directories, 2)
        self._open: OrderedDict[bytes, int] = OrderedDict()

    def close(self) -> None:
        self.forget(b"")
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def forget(self, path: bytes) -> None:
        """Close the handles of a directory and of everything below it, before it is renamed or removed."""
        below = path + b"/" if path else b""
        for known in [p for p in self._open if p == path or p.startswith(below)]:
            os.close(self._open.pop(known))

    # directories

    def open_directory(self, path: bytes) -> int:
        """A search handle (O_PATH), for use as dir_fd. It belongs to the tree and is valid until the next call."""
        if not path:
            return self._root
        fd = self._open.get(path)
        if fd is not None:
            self._open.move_to_end(path)
            return fd
        base = self._nearest(path)
        if path.count(b"/", len(base)) > STRIDE:  # a walk comes up from far below: its next steps start here
            base = self._keep(base, path.rsplit(b"/", STRIDE)[0])
        return self._open[self._keep(base, path)]

    def _keep(self, base: bytes, path: bytes) -> bytes:
        """Open path from its ancestor base, which has a handle, and keep the new handle too. Returns path."""
        fd = _descend(self._open[base] if base else self._root, path[len(base) + 1 if base else 0 :])
        self._open[path] = fd
        if len(self._open) > self._limit:
            os.close(self._open.popitem(last=False)[1])
        return path

    def _nearest(self, path: bytes) -> bytes:
        """The closest ancestor with an open handle; b"" the root."""
        while path := path.rpartition(b"/")[0]:
            if path in self._open:
                return path
        return b""

    def open_listing(self, path: bytes) -> int:
        """The directory open for reading: to list it, sync it, change its attributes. The caller closes it."""
        return _without_atime(b".", _LIST, self.open_directory(path))

    def names(self, path: bytes) -> list[bytes]:
        """The raw names in a directory, in no order."""
        fd = self.open_listing(path)
        try:
            return _names(fd)
        finally:
            os.close(fd)

    # what stands in them

    def lstat(self, path: bytes) -> os.stat_result:
        directory, _, name = path.rpartition(b"/")
        if not name:
            return os.fstat(self._root)
        return os.stat(name, dir_fd=self.open_directory(directory), follow_symlinks=False)

    def readlink(self, path: bytes) -> bytes:
        directory, _, name = path.rpartition(b"/")
        return os.readlink(name, dir_fd=self.open_directory(directory))

    def open_file(self, path: bytes) -> tuple[int, os.stat_result]:
        """(descriptor, its stat) of a regular file open for reading; the caller closes it.

        Never hangs on a FIFO, never follows a link, and leaves the access time alone where it may. Raises NotRegular.
        """
        directory, _, name = path.rpartition(b"/")
        fd = _without_atime(name, _READ, self.open_directory(directory))
        try:
            st = os.fstat(fd)
            if not stat.S_ISREG(st.st_mode):
                raise NotRegular(errno.EINVAL, "it is no regular file any more", path)
        except BaseException:
            os.close(fd)
            raise
        return fd, st

    @contextmanager
    def opened(self, path: bytes) -> Iterator[int]:
        """open_file() for a with statement."""
        fd, _ = self.open_file(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def data_runs(self, fd: int, size: int) -> Iterator[tuple[int, int]]:
        """(offset, length) of the stretches up to size that hold data; the rest are holes."""
        if os.fstat(fd).st_blocks * 512 >= size or not _knows_holes(fd):
            yield from [(0, size)] if size else []  # no room for holes
            return
        position = 0
        while position < size:
            start = _seek(fd, position, os.SEEK_DATA, size)
            position = min(_seek(fd, start, os.SEEK_HOLE, size), size)
            if position > start:
                yield start, position - start

    # attributes

    def xattrs(self, fd: int, path: bytes = b"") -> Xattrs:
        """All extended attributes (ACLs among them) of an open file, sorted; () where the file system has none.

        An attribute that is listed but cannot be read is reported under path; without a report it raises OSError.
        """
        return self._xattrs(fd, path)

    def xattrs_of(self, path: bytes) -> Xattrs:
        """xattrs() by path, for what is not opened: directories, links, FIFOs, devices."""
        directory, _, name = path.rpartition(b"/")
        handle = self.open_directory(directory)
        return self._xattrs(b"/proc/self/fd/%d/%s" % (handle, name or b"."), path)

    def _xattrs(self, where: int | bytes, path: bytes) -> Xattrs:
        follow = isinstance(where, int)
        try:
            names = os.listxattr(where, follow_symlinks=follow)
        except OSError as error:
            if error.errno in _NO_XATTRS:
                return ()
            raise
        if not names:
            return ()
        pairs = ((os.fsencode(name), self._value(where, name, path)) for name in sorted(names))
        return tuple((name, value) for name, value in pairs if value is not None)

    def _value(self, where: int | bytes, name: str, path: bytes) -> bytes | None:
        try:
            return os.getxattr(where, name, follow_symlinks=isinstance(where, int))
        except OSError as error:
            if error.errno == errno.ENODATA:  # removed since it was listed
                return None
            if self._report is None:
                raise
            sentence = f"Its attribute {name} cannot be read: {reason(error)}."
            self._report(ItemError(path, "read", sentence, "warning"))
            return None

    def flags(self, fd: int) -> int:
        """The inode flags a person may set (append-only, immutable, no dump …); 0 where unsupported."""
        return kernel.get_flags(fd) & KEPT_FLAGS

    def flags_of(self, path: bytes) -> int:
        """flags() of a directory by path."""
        fd = self.open_listing(path)
        try:
            return self.flags(fd)
        finally:
            os.close(fd)


class _Names(dict[int, str]):
    """Names of ids, looked up once each; "" unknown."""

    def __init__(self, ask: Callable[[int], str]) -> None:
        super().__init__()
        self._ask = ask

    def __missing__(self, number: int) -> str:
        name = self[number] = _looked_up(lambda: self._ask(number))
        return name


class Owners:
    """Names of user and group ids."""

    def __init__(self) -> None:
        self.users = _Names(lambda uid: pwd.getpwuid(uid).pw_name)
        self.groups = _Names(lambda gid: grp.getgrgid(gid).gr_name)


def printable(path: bytes) -> str:
    """Raw bytes as text for people, logs and JSON: what is no printable UTF-8, and a backslash, as \\xNN."""
    text = path.decode("utf-8", "surrogateescape")
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(c if c.isprintable() and c != "\\" else _escaped(c) for c in text)


def from_printable(text: str) -> bytes:
    """The raw bytes that printable() has shown; odd bytes that were typed as they are stay what they are."""
    first, *rest = text.encode("utf-8", "surrogateescape").split(b"\\x")
    return first + b"".join(bytes([int(part[:2], 16)]) + part[2:] for part in rest)


def reason(error: OSError) -> str:
    """Why, in the system's words: for the end of a sentence."""
    words = error.strerror or type(error).__name__
    return words[:1].lower() + words[1:]


def _escaped(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def _looked_up(ask: Callable[[], str]) -> str:
    try:
        return ask()
    except (KeyError, UnicodeDecodeError):
        return ""


def _descend(fd: int, path: bytes) -> int:
    """A new search handle for path below fd, opened in pieces the kernel takes."""
    pieces = _pieces(path) if kernel.has_openat2() else iter(path.split(b"/"))
    handle = -1
    try:
        for piece in pieces:
            deeper = _search(fd if handle < 0 else handle, piece)
            if handle >= 0:
                os.close(handle)
            handle = deeper
    except BaseException:
        if handle >= 0:
            os.close(handle)
        raise
    return handle


def _search(fd: int, piece: bytes) -> int:
    if b"/" in piece:
        return kernel.openat2(fd, piece, _SEARCH)
    if piece in _NEVER:
        raise OSError(errno.EINVAL, "not a name", piece)
    return os.open(piece, _SEARCH, dir_fd=fd)


def _pieces(path: bytes) -> Iterator[bytes]:
    while len(path) >= kernel.PATH_MAX:
        cut = path.rfind(b"/", 0, kernel.PATH_MAX)
        if cut <= 0:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        yield path[:cut]
        path = path[cut + 1 :]
    yield path


def _without_atime(name: bytes, flags: int, dir_fd: int) -> int:
    """Open without touching the access time, which only the owner and root may ask for."""
    try:
        return os.open(name, flags | os.O_NOATIME, dir_fd=dir_fd)
    except PermissionError:
        return os.open(name, flags, dir_fd=dir_fd)


def _names(fd: int) -> list[bytes]:
    if sys.getfilesystemencoding() != "utf-8":  # another encoding may not give every byte back
        return os.listdir(b"/proc/self/fd/%d" % fd)
    with os.scandir(fd) as found:  # one text at a time: a listing of a million names would be held twice
        return [entry.name.encode("utf-8", "surrogateescape") for entry in found]


def _knows_holes(fd: int) -> bool:
    try:
        os.lseek(fd, 0, os.SEEK_HOLE)
    except OSError as error:
        return error.errno == errno.ENXIO
    return True


def _seek(fd: int, position: int, whence: int, size: int) -> int:
    """The next data or hole at or after position; size when there is none."""
    try:
        return os.lseek(fd, position, whence)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing but a hole up to the end, or the file has become shorter
            return size
        raise
