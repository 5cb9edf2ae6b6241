"""Worker processes: forked once a run, each carrying whole tasks; results and finished packs come back.

A receiver thread for each worker drains its pipe, so neither side ever waits for the other with full buffers. A
worker that dies ends the run: whoever made the pool kills the others, and nothing has been committed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import os
import queue
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, Pipe
from typing import Any, Protocol

import msgpack

from backups.engine import errors
from backups.engine.errors import EngineError, WorkerDied

PR_SET_PDEATHSIG = 1
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MMAP_THRESHOLD = 2 << 20  # bytes; without it glibc learns to keep whole packs on its heap, torn by small blocks
TRIM_THRESHOLD = 8 << 20  # bytes; setting the other one leaves this at 128 KiB: each frame would be paged in anew
KEPT = 32 << 20  # bytes; the most that glibc takes from its heap, and what may lie there unused
COLLECTIONS = 20_000, 20, 20  # see gc.set_threshold(); 700, 10, 10 is usual
IN_HAND = 2  # tasks given to a worker at once: one it works on, one that waits
Task = list[Any]  # [verb, *arguments]
Emit = Callable[[str, Any], None]


class Worker(Protocol):
    """What runs in a worker process: do() a task; finish() flushes. Both may emit (topic, value)."""

    def do(self, task: Task) -> Any: ...

    def finish(self) -> Any: ...

    def close(self) -> None: ...


Make = Callable[[Emit], Worker]


class Pool(Protocol):
    """Either worker processes or the same work done inline."""

    def submit(self, task: Task, then: Callable[[Any], None]) -> None: ...

    def wait(self) -> None: ...

    def poll(self) -> None: ...

    def drain(self) -> None: ...

    def finish(self) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class InlinePool:
    """The worker's code in the caller's own process: for small jobs, and stores that only one process sees."""

    def __init__(self, make: Make, emit: Emit) -> None:
        self._worker = make(emit)

    def submit(self, task: Task, then: Callable[[Any], None]) -> None:
        then(self._worker.do(task))

    def has_room(self) -> bool:
        """Whether the next task would be done at once."""
        return True

    def poll(self) -> None:
        """Nothing is ever outstanding."""

    def wait(self) -> None:
        """Nothing is ever outstanding."""

    def drain(self) -> None:
        """Nothing is ever outstanding."""

    def finish(self) -> None:
        self._worker.finish()

    flush = finish

    def close(self) -> None:
        self._worker.close()


class ForkedPool:
    """Worker processes. make(emit) runs in each child; emitted values arrive at emit in the parent's thread.

    room  how many tasks may wait here while all workers have enough in hand: whoever submits goes on with its own work
    """

    def __init__(self, make: Make, emit: Emit, count: int, *, room: int = 0) -> None:
        self._emit = emit
        self._room = room
        self._tasks: deque[tuple[bytes, Callable[[Any], None]]] = deque()
        self._inbox: queue.SimpleQueue[tuple[int, str, Any]] = queue.SimpleQueue()
        self._children = [_Child(make, number) for number in range(count)]
        for child in self._children:  # threads only after the last fork
            child.listen(self._inbox)

    def submit(self, task: Task, then: Callable[[Any], None]) -> None:
        """Give a task to the least busy worker; waits while all have enough in hand and enough tasks wait."""
        self._tasks.append((msgpack.packb(task), then))
        self._hand_out()
        while len(self._tasks) > self._room:
            self._receive()
        self.poll()

    def _hand_out(self) -> None:
        while self._tasks:
            child = min(self._children, key=lambda c: len(c.waiting))
            if len(child.waiting) >= IN_HAND:
                break
            child.send(*self._tasks.popleft())

    def has_room(self) -> bool:
        """Whether a worker would get the next task at once."""
        return not self._tasks and any(len(child.waiting) < IN_HAND for child in self._children)

    def poll(self) -> None:
        """Take what the workers have answered so far, without waiting."""
        while not self._inbox.empty():
            self._receive()

    def wait(self) -> None:
        """Wait for one message of any worker."""
        if any(child.waiting for child in self._children):
            self._receive()

    def drain(self) -> None:
        """Wait until every task has been answered."""
        while self._tasks or any(child.waiting for child in self._children):
            self._receive()

    def finish(self) -> None:
        """Let every worker finish what it holds back (open packs), without waiting for it."""
        for child in self._children:
            child.send(msgpack.packb(["finish"]), _ignore)

    def flush(self) -> None:
        """The same once all is answered, and wait for it."""
        self.drain()
        self.finish()
        self.drain()

    def each(self, task: Task) -> None:
        """The same task for every worker, and wait for it."""
        self.drain()
        for child in self._children:
            child.send(msgpack.packb(task), _ignore)
        self.drain()

    def close(self) -> None:
        for child in self._children:
            child.kill()

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self._children]

    def _receive(self) -> None:
        number, topic, value = self._inbox.get()
        child = self._children[number]
        if topic == "done":
            then = child.waiting.pop(0)
            self._hand_out()  # first: a worker waits
            then(value)
        elif topic == "failed":
            raise _revive(value)
        elif topic == "died":
            raise WorkerDied(f"Worker process {child.pid} ended while it was working ({child.reap()}).")
        else:
            self._emit(topic, value)


def _ignore(_: Any) -> None:
    pass


class _Child:
    def __init__(self, make: Make, number: int) -> None:
        self.number = number
        self.waiting: list[Callable[[Any], None]] = []
        self._reaped = False
        self._listener: threading.Thread | None = None
        self._pipe, theirs = Pipe()
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run_child(make, self._pipe, theirs, parent)
        theirs.close()

    def listen(self, inbox: queue.SimpleQueue[tuple[int, str, Any]]) -> None:
        self._listener = threading.Thread(target=_listen, args=(self.number, self._pipe, inbox), daemon=True)
        self._listener.start()

    def send(self, packed: bytes, then: Callable[[Any], None]) -> None:
        self.waiting.append(then)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the listener tells of the death
            self._pipe.send_bytes(packed)

    def reap(self) -> str:
        self._reaped = True
        with contextlib.suppress(ChildProcessError):
            _, status = os.waitpid(self.pid, 0)
            code = os.waitstatus_to_exitcode(status)
            return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return "already gone"

    def kill(self) -> None:
        if not self._reaped:  # else its number may be another process's by now
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.reap()
        if self._listener:
            self._listener.join()  # it has met the end; going on, it would read from the next pipe of this number
        with contextlib.suppress(OSError):
            self._pipe.close()


def _listen(number: int, pipe: Connection, inbox: queue.SimpleQueue[tuple[int, str, Any]]) -> None:
    try:
        while True:
            topic, value = msgpack.unpackb(pipe.recv_bytes(), strict_map_key=False)
            inbox.put((number, topic, value))
    except (EOFError, OSError, ValueError):  # ValueError: it died in the middle of a message
        inbox.put((number, "died", None))


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends; covers a parent that is gone already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


@contextlib.contextmanager
def few_collections() -> Iterator[None]:
    """Look for cycles of garbage less often: a run makes entries by the million, and none are in cycles."""
    usual = gc.get_threshold()
    gc.set_threshold(*COLLECTIONS)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def return_memory() -> None:
    """Have the allocator give large buffers back to the system as soon as they are freed (mallopt(3))."""
    with contextlib.suppress(AttributeError):  # another libc than glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD)


def keep_memory() -> None:
    """Have the allocator use the same pages again for buffers of up to 32 MiB, instead of asking the system for each.

    For workers that read pack after pack and keep next to nothing: a fresh page costs as much as hashing its bytes.
    """
    with contextlib.suppress(AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, KEPT)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)


def _run_child(make: Make, parents_end: Connection, pipe: Connection, parent: int) -> None:
    """Never returns: the parent's stack below the fork is not ours."""
    status = 1
    try:
        die_with_parent(parent)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
        parents_end.close()
        return_memory()
        gc.disable()  # no cycles are made on the hot path, and a collection would copy shared pages
        _serve(make, pipe)
        status = 0
    except (EOFError, BrokenPipeError):
        status = 0  # the parent is done with us
    finally:
        os._exit(status)


def _serve(make: Make, pipe: Connection) -> None:
    def emit(topic: str, value: Any) -> None:
        pipe.send_bytes(msgpack.packb([topic, value]))

    try:
        worker = make(emit)
        for task in _tasks(pipe):
            emit("done", worker.finish() if task[0] == "finish" else worker.do(task))
    except (EOFError, BrokenPipeError):
        raise
    except BaseException as error:
        emit("failed", _describe(error))


def _tasks(pipe: Connection) -> Iterator[Task]:
    while True:
        yield msgpack.unpackb(pipe.recv_bytes(), strict_map_key=False)


def _describe(error: BaseException) -> list[Any]:
    text = str(error) if isinstance(error, EngineError) else "".join(traceback.format_exception(error))
    return [type(error).__name__, text, getattr(error, "name", None), getattr(error, "why", None)]


def _revive(described: list[Any]) -> EngineError:
    """The child's error as an exception here; one that is not ours becomes an EngineError with its traceback."""
    kind, text, name, why = described
    if kind in ("ObjectMissing", "ObjectExists"):
        revived: EngineError = getattr(errors, kind)(name)
        revived.args = (text,)
        return revived
    if kind == "ObjectDamaged":
        return errors.ObjectDamaged(name, why)
    found = getattr(errors, kind, None)
    if isinstance(found, type) and issubclass(found, EngineError) and found is not errors.BlobMissing:
        return found(text)
    return EngineError(text)


class Ring:
    """Buffers in memory that all processes share: the feeder of a stream fills one, a worker empties it."""

    def __init__(self, slots: int, size: int) -> None:
        self.size = size
        self._memory = mmap.mmap(-1, slots * size)
        self.free = list(range(slots))

    def view(self, slot: int) -> memoryview:
        return memoryview(self._memory)[slot * self.size : (slot + 1) * self.size]
