"""Handing tasks to workers: none are started for a small job, forked ones for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backups.engine.capture import BUFFER, SMALL, UNIT, Capture
from backups.engine.claims import Claims
from backups.engine.disk import DiskTree
from backups.engine.entry import ItemError
from backups.engine.errors import EngineError
from backups.engine.format import ObjectType
from backups.engine.options import Options, Report
from backups.engine.pack import PackInfo, PackWriter
from backups.engine.repository import Repository
from backups.engine.saver import RunIndex, TreeSaver
from backups.engine.workers import Emit, ForkedPool, InlinePool, Make, Ring, Task

HELD = 2  # tasks that wait before processes are started; fewer are done inline
RING_SLOTS, RING_SLOT = 4, 4 << 20  # buffers for streams: number and bytes
ROOM = 32  # tasks that wait while scan and comparison go on; what all of them may claim fits above a half-full table

Then = Callable[[Any], None]


class CaptureWorker:
    """The worker side: a repository of its own and a Capture."""

    def __init__(
        self, repository: Repository, options: Options, claims: Claims, ring: Ring, emit: Emit, *, forked: bool
    ) -> None:
        if forked:
            repository.forked()
        self._repository, self._ring = repository, ring
        self._tree = DiskTree(b"/", report=lambda item: emit("item", list(item)))
        compressor = repository.compressor(options.codec, options.level)
        packer = PackWriter(
            repository.sealer, ObjectType.DATA_PACK, compressor, repository.store.put,
            lambda pack: emit("pack", pack.pack()), options.verify_every,
        )  # fmt: skip
        self._capture = Capture(
            self._tree, repository.id_of, repository.chunker(), repository.index.__contains__, claims.claim, packer
        )

    def do(self, task: Task) -> Any:
        verb, *arguments = task
        if verb == SMALL:
            return self._capture.small(*arguments)
        if verb == UNIT:
            return self._capture.unit(*arguments)
        if verb == BUFFER:
            slot, offset, lengths = arguments
            return self._capture.buffer(self._ring.view(slot), offset, lengths)
        if verb == "reload":
            return self._repository.reload_index() and None
        raise EngineError(f"A worker does not know the task {verb!r}.")

    def finish(self) -> None:
        self._capture.packer.flush()

    def close(self) -> None:
        self._tree.close()


class Dispatcher:
    """Tasks in, results and packs out. The workers are forked when there is enough for them to do."""

    def __init__(
        self, repository: Repository, options: Options, index: RunIndex, saver: TreeSaver, report: Report
    ) -> None:
        self._repository, self._options, self._index, self._saver = repository, options, index, saver
        self._report = report
        self._claims: Claims | None = None
        self._held: list[tuple[Task, Then]] = []
        self.pool: ForkedPool | InlinePool | None = None
        self.ring = Ring(RING_SLOTS, RING_SLOT)

    def submit(self, task: Task, then: Then) -> None:
        if self.pool is not None:
            self._submit(self.pool, task, then)
            return
        self._held.append((task, then))
        if len(self._held) > HELD:
            self.start()

    def _submit(self, pool: ForkedPool | InlinePool, task: Task, then: Then) -> None:
        if self._claims is not None and self._claims.half_full:
            self._make_room(pool, self._claims)
        pool.submit(task, then)

    def start(self, *, inline: bool = False) -> ForkedPool | InlinePool:
        """Have a pool, and give it what was held back. inline: no processes for the little there is."""
        if self.pool is None:
            alone = inline or not self._options.workers or not self._repository.store.capabilities().across_processes
            self.pool = self._inline() if alone else self._fork()
        held, self._held = self._held, []
        for task, then in held:
            self._submit(self.pool, task, then)
        return self.pool

    def wait(self) -> None:
        self.start().wait()

    def poll(self) -> None:
        """Take what has been answered so far, and let those who answered have their next tasks."""
        if self.pool is not None:
            self.pool.poll()

    def drain(self) -> None:
        """All tasks answered."""
        if self._held or self.pool:
            self.start(inline=True).drain()

    def begin_to_finish(self) -> None:
        """Let the workers store what they hold back while the caller goes on."""
        if self.pool:
            self.pool.finish()

    def finish(self) -> None:
        """All tasks answered, all packs durable and in the run's index."""
        if self._held or self.pool:
            self.start(inline=True).flush()

    def close(self) -> None:
        pool, self.pool = self.pool, None
        if pool:
            pool.close()

    def _inline(self) -> InlinePool:
        self._claims = Claims(1 << 18, shared=False)
        return InlinePool(self._maker(self._claims, forked=False), self._emitted)

    def _fork(self) -> ForkedPool:
        self._saver.settle()  # no thread of ours may hold a lock while we fork
        self._index.close()
        self._repository.sync_index()
        self._claims = Claims()
        return ForkedPool(self._maker(self._claims, forked=True), self._emitted, self._options.workers, room=ROOM)

    def _maker(self, claims: Claims, *, forked: bool) -> Make:
        return lambda emit: CaptureWorker(self._repository, self._options, claims, self.ring, emit, forked=forked)

    def _emitted(self, topic: str, value: Any) -> None:
        if topic == "pack":
            self._index.add(PackInfo.unpack(value))
        else:
            self._report(ItemError(*value))

    def _make_room(self, pool: ForkedPool | InlinePool, claims: Claims) -> None:
        """Let the index tell what the claims told, everywhere, then forget the claims."""
        pool.flush()
        self._saver.flush()
        self._index.write()
        self._repository.reload_index()
        if isinstance(pool, ForkedPool):
            pool.each(["reload"])
        claims.clear()
