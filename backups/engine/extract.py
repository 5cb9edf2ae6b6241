"""DirectoryWriter: where a restore writes a file tree. Linux, by directory handles only.

What holds, whatever a snapshot says and whoever else works in the target:

- nothing is written outside of the target: no path is followed through a symbolic link, nothing is written to a file
  that was not created here, and links to existing files are made from handles, not from names
- nothing stands under its final name before it is whole: the tree grows in a stage that only we may enter (see
  backups.engine.target), and a damaged file is removed from it
- every file gets owner, attributes, mode, ACLs, flags and times, in this order; directories get theirs at the end

The files may be filled by several processes: the parent makes the directories, forked children call open_writer() on
their copy of the writer, and when all are done the parent makes the links and closes it.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import nullcontext, suppress
from types import TracebackType

import msgpack

from backups.engine import kernel
from backups.engine.attributes import Attributes, Rights
from backups.engine.disk import DiskTree, Report, printable, reason
from backups.engine.entry import Entry, ItemError, Kind
from backups.engine.errors import EngineError, TargetError
from backups.engine.filling import FileWriter, Identity, NotRestored
from backups.engine.manifest import ManifestGuard
from backups.engine.spool import Spool
from backups.engine.target import Stage, TargetFacts, probe_target, refusal

__all__ = ["DirectoryWriter", "FileWriter", "Identity", "ManifestGuard", "NotRestored", "TargetFacts", "probe_target"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEEP = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_AGAIN = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HANDLE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FORMATS = {
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.CHARACTER: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
}
# What is wrong with one item only; every other failure ends the restore.
_ITEM = frozenset({errno.EEXIST, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EFBIG, errno.EMLINK})
# What an open says when something else stands where a directory or file of ours did; ENXIO: a FIFO.
_REPLACED = frozenset({errno.ELOOP, errno.ENOTDIR, errno.ENOENT, errno.ENXIO})
_NEVER = frozenset({b"", b".", b".."})


class DirectoryWriter:
    """Writes a tree below target, which must be empty or not exist; it is complete and durable when close() returns.

    base            the subtree that becomes the target's root; paths of entries lie below it
    preserve_owner  give files back to their owners; None: when we are root
    privileges      see attributes.Rights; it takes effect as far as this process has them
    report          called with what could not be given back. A forked child sets its own before it writes
    what            identifies the restore, so that one that was killed is continued; b"": it never is

    Raises TargetError when the target cannot be used, at any time. As a context manager it closes, or discards
    everything when it is left with an exception.
    """

    def __init__(
        self, target: bytes, *, base: bytes = b"", preserve_owner: bool | None = None, privileges: bool = False,
        owners_by_name: bool = False, selinux: bool = False, report: Report = lambda _: None, what: bytes = b"",
    ) -> None:  # fmt: skip
        owner = os.geteuid() == 0 if preserve_owner is None else preserve_owner
        self.report, self._base, self._privileges = report, base, privileges
        self.attributes = Attributes(Rights(owner, privileges, owners_by_name, selinux), self._tell)
        self._stage = Stage(target, what)
        self._tree = DiskTree(os.dup(self._stage.fd))
        self._directories = Spool(self._stage.fd)
        self._root: Entry | None = None

    def _tell(self, item: ItemError) -> None:
        self.report(item)  # looked up each time: a child has replaced it

    @property
    def target(self) -> bytes:
        """Where the tree will stand: an absolute path without symbolic links."""
        return self._stage.target

    @property
    def stage(self) -> int:
        """A handle on the directory in which the tree grows, for files without a name."""
        return self._stage.fd

    @property
    def continued(self) -> bool:
        """Whether it goes on where the same restore was killed: directories and files may be there already."""
        return self._stage.continued

    # in the parent, in the order of the stream

    def make_directory(self, entry: Entry) -> None:
        """Make a directory that only we may enter; its own attributes come with close()."""
        path = self._relative(entry.path)
        if not path:
            self._root = entry
            return
        parent, name = _split(path)
        try:
            with suppress(FileExistsError) if self.continued else nullcontext():
                os.mkdir(name, 0o700, dir_fd=self._tree.open_directory(parent))
            self._directories.append(_pack(entry))
        except OSError as error:
            raise self._refusal(entry, error) from None

    # in any process

    def open_writer(self, entry: Entry) -> FileWriter:
        """A new, empty file that has its directory already. Raises NotRestored when only this file cannot be."""
        parent, name = _split(self._relative(entry.path))
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=self._tree.open_directory(parent))
        except OSError as error:
            raise self.failure(entry, error) from None
        return FileWriter(self, entry, fd)

    def stands(self, entry: Entry) -> bool:
        """Whether there is something under this name already."""
        parent, name = _split(self._relative(entry.path))
        try:
            os.stat(name, dir_fd=self._tree.open_directory(parent), follow_symlinks=False)
        except OSError:
            return False
        return True

    def open_kept(self, entry: Entry) -> FileWriter | None:
        """A file of a restore that was killed: to be read, and finished, left or aborted. None, and it is gone, where
        that cannot be."""
        parent, name = _split(self._relative(entry.path))
        try:
            fd = os.open(name, _KEEP, dir_fd=self._tree.open_directory(parent))
        except OSError:
            self.remove(entry)
            return None
        file = FileWriter(self, entry, fd, again=True)
        if file.has_room():
            return file
        file.abort()
        return None

    def open_again(self, entry: Entry, identity: Identity) -> FileWriter:
        """A file that another writer has left, to fill more of it or to finish it; any process may, at the same time.

        Raises TargetError when something else bears its name now.
        """
        parent, name = _split(self._relative(entry.path))
        try:
            fd = os.open(name, _AGAIN, dir_fd=self._tree.open_directory(parent))
        except OSError as error:
            raise self._refusal(entry, error) from None
        st = os.fstat(fd)
        if (st.st_dev, st.st_ino) == identity and stat.S_ISREG(st.st_mode):
            return FileWriter(self, entry, fd, again=True)
        os.close(fd)
        raise self._intruder(entry)

    # in the parent, when all files are finished

    def link(self, entry: Entry, first_path: bytes) -> bool:
        """Give what was restored as first_path (as its entry has it) another name; False: reported instead."""
        try:
            handle = self._handle(self._relative(first_path), entry, _FORMATS.get(entry.kind, stat.S_IFREG))
            try:
                self._link(handle, entry)
            finally:
                os.close(handle)
        except FileNotFoundError:
            return self._lost(entry, f"its first name, /{printable(first_path)}, was not restored")
        except OSError as error:
            return self._lost_or_refused(entry, error)
        return True

    def _link(self, handle: int, entry: Entry) -> None:
        parent, name = _split(self._relative(entry.path))
        here = b"/proc/self/fd/%d" % handle

        def deed() -> None:
            os.link(here, name, dst_dir_fd=self._tree.open_directory(parent), follow_symlinks=True)

        try:
            deed()
        except PermissionError:  # append-only and immutable files take no further names
            if entry.kind is not Kind.FILE:
                raise
            fd = os.open(here, os.O_RDONLY | os.O_CLOEXEC)
            try:
                with kernel.unlocked(fd):
                    deed()
            finally:
                os.close(fd)

    def symlink(self, entry: Entry) -> bool:
        """Make a symbolic link, which nothing here ever follows; False: reported instead."""
        parent, name = _split(self._relative(entry.path))
        try:
            os.symlink(entry.target, name, dir_fd=self._tree.open_directory(parent))
            self._give_back(entry)
        except OSError as error:
            return self._lost_or_refused(entry, error)
        return True

    def special(self, entry: Entry) -> bool:
        """Make a FIFO, or with privileges a device; False: reported instead."""
        parent, name = _split(self._relative(entry.path))
        if entry.kind is not Kind.FIFO and not self._privileges:
            return self._lost(entry, "a device is restored only with privileges", unsupported=True)
        try:
            os.mknod(name, _FORMATS[entry.kind] | 0o600, entry.rdev, dir_fd=self._tree.open_directory(parent))
            self._give_back(entry)
        except PermissionError:
            return self._lost(entry, "this account may not make devices", unsupported=True)
        except OSError as error:
            return self._lost_or_refused(entry, error)
        return True

    def _give_back(self, entry: Entry) -> None:
        handle = self._handle(self._relative(entry.path), entry, _FORMATS[entry.kind])
        try:
            self.attributes.give_back(b"/proc/self/fd/%d" % handle, entry)
        finally:
            os.close(handle)

    def _handle(self, path: bytes, entry: Entry, kind: int) -> int:
        """A handle on what we have made; what somebody has put in its place is refused."""
        parent, name = _split(path)
        fd = os.open(name, _HANDLE, dir_fd=self._tree.open_directory(parent))
        st = os.fstat(fd)
        if stat.S_IFMT(st.st_mode) == kind and (kind == stat.S_IFREG or st.st_nlink <= max(entry.nlink, 1)):
            return fd
        os.close(fd)
        raise self._intruder(entry)

    # the end

    def close(self) -> None:
        """Give the directories their attributes, make everything durable, and put the tree in its place."""
        try:
            for packed in self._directories.backwards():
                self._finish_directory(_unpack(packed))
            self._tree.close()
            self._directories.close()
            kernel.syncfs(self._stage.fd)
        except OSError as error:
            raise refusal(self.target, error) from None
        self._stage.publish(self._crown)

    def discard(self) -> None:
        """Remove everything that was written. For the process that made the writer; harmless after close()."""
        self._tree.close()
        self._directories.close()
        self._stage.discard()

    def leave(self) -> None:
        """Close the handles and remove nothing, as a kill would; harmless after close()."""
        self._tree.close()
        self._directories.close()
        self._stage.leave()

    def __enter__(self) -> DirectoryWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None:
            self.discard()
            return
        try:
            self.close()
        except BaseException:
            self.discard()
            raise

    def _finish_directory(self, entry: Entry) -> None:
        try:
            fd = self._tree.open_listing(self._relative(entry.path))
        except OSError as error:
            raise self._refusal(entry, error) from None
        try:
            self.attributes.give_back(fd, entry)
        finally:
            os.close(fd)

    def _crown(self, root: int) -> None:
        if self._root is not None:
            self.attributes.give_back(root, self._root)

    # paths and failures

    def _relative(self, path: bytes) -> bytes:
        if not self._base:
            return path
        if path == self._base:
            return b""
        if not path.startswith(self._base + b"/"):
            raise TargetError(f"/{printable(path)} does not lie below /{printable(self._base)}, which is restored.")
        return path[len(self._base) + 1 :]

    def remove(self, entry: Entry) -> None:
        """Take away a file that cannot be whole."""
        parent, name = _split(self._relative(entry.path))
        try:
            os.unlink(name, dir_fd=self._tree.open_directory(parent))
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._refusal(entry, error) from None

    def failure(self, entry: Entry, error: OSError) -> EngineError:
        """What an error while writing an entry means: NotRestored for this one, TargetError for all of them."""
        if error.errno == errno.EEXIST:
            return NotRestored("It was not written: the target cannot tell its name from another one beside it.")
        if error.errno in _ITEM:
            return NotRestored(f"It cannot be written to this target: {reason(error)}.")
        return self._refusal(entry, error)

    def _refusal(self, entry: Entry, error: OSError) -> TargetError:
        if error.errno in _REPLACED:
            return self._intruder(entry)
        return refusal(self.target + b"/" + self._relative(entry.path), error)

    def _intruder(self, entry: Entry) -> TargetError:
        return TargetError(
            f"What was made for /{printable(entry.path)} is gone or replaced: somebody else changes "
            f"{printable(self.target)} while it is restored. Choose a directory nobody else uses."
        )

    def _lost_or_refused(self, entry: Entry, error: OSError) -> bool:
        failure = self.failure(entry, error)
        if isinstance(failure, TargetError):
            raise failure from None
        return self._lost(entry, reason(error))

    def _lost(self, entry: Entry, why: str, *, unsupported: bool = False) -> bool:
        self.report(ItemError(entry.path, "restore", f"It was not restored: {why}.", "error", unsupported))
        return False


def _split(path: bytes) -> tuple[bytes, bytes]:
    parent, _, name = path.rpartition(b"/")
    if name in _NEVER:
        raise TargetError(f"/{printable(path)} is no path that can be restored.")
    return parent, name


def _pack(entry: Entry) -> bytes:
    """What a directory gets back at the end."""
    e = entry
    packed: bytes = msgpack.packb([e.path, e.mode, e.uid, e.gid, e.user, e.group, e.mtime_ns, e.xattrs or (), e.flags])
    return packed


def _unpack(packed: bytes) -> Entry:
    path, mode, uid, gid, user, group, mtime, xattrs, flags = msgpack.unpackb(packed)
    pairs = tuple((name, value) for name, value in xattrs)
    return Entry(path, Kind.DIRECTORY, mode, uid, gid, user, group, mtime, xattrs=pairs, flags=flags)
