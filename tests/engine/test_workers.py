"""Worker processes: tasks answered, errors brought over, deaths told, and no child left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from backups.engine import errors
from backups.engine.errors import EngineError, WorkerDied
from backups.engine.workers import Emit, ForkedPool, InlinePool, Ring, Task, Worker, die_with_parent


class Scripted:
    """A worker that does what its tasks say."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._held: list[int] = []

    def do(self, task: Task) -> Any:
        verb, *arguments = task
        return getattr(self, verb)(*arguments)

    def finish(self) -> None:
        for number in self._held:
            self._emit("packed", number)
        self._held.clear()

    def close(self) -> None:
        """Nothing is kept open."""

    def double(self, number: int) -> int:
        return 2 * number

    def hold(self, number: int) -> int:
        self._held.append(number)
        return number

    def heard(self, number: int, _: bytes) -> None:
        self._emit("heard", number)

    def pid(self) -> int:
        time.sleep(0.05)  # so that the next task finds this worker busy
        return os.getpid()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def shout(self, size: int) -> int:
        for _ in range(20):
            self._emit("noise", bytes(size))
        return size

    def fail(self, kind: str, *arguments: str) -> None:
        raise getattr(errors, kind)(*arguments)

    def stumble(self) -> None:
        raise ValueError("something nobody thought of")

    def die(self, number: int) -> None:
        os.kill(os.getpid(), number)
        time.sleep(60)

    def leave(self, status: int) -> None:
        os._exit(status)


class Emitted(list[tuple[str, Any]]):
    def __call__(self, topic: str, value: Any) -> None:
        self.append((topic, value))


def children() -> set[int]:
    """Processes whose parent we are, dead ones that nobody has waited for included."""
    with open(f"/proc/self/task/{os.getpid()}/children") as found:
        return set(map(int, found.read().split()))


Start = Callable[..., ForkedPool]


@pytest.fixture
def start() -> Iterator[Start]:
    """Makes pools, and proves that none of them leaves a process behind."""
    before, pools = children(), []

    def started(
        make: Callable[[Emit], Worker] = Scripted, emit: Emit | None = None, count: int = 2, room: int = 0
    ) -> ForkedPool:
        pools.append(ForkedPool(make, Emitted() if emit is None else emit, count, room=room))
        return pools[-1]

    yield started
    for pool in pools:
        pool.close()
    assert children() <= before


def test_every_task_is_answered_once(start: Start) -> None:
    answers: list[int] = []
    pool = start()

    for number in range(200):
        pool.submit(["double", number], answers.append)
    pool.drain()

    assert sorted(answers) == [2 * number for number in range(200)]


def test_inline_and_forked_do_the_same(start: Start) -> None:
    results = []
    for make in (lambda emit: InlinePool(Scripted, emit), lambda emit: start(emit=emit, count=1)):
        emitted = Emitted()
        answers: list[int] = []
        pool = make(emitted)
        for number in range(5):
            pool.submit(["hold", number], answers.append)
        pool.wait()
        pool.flush()
        pool.close()
        results.append((answers, emitted))

    assert results[0] == results[1] == ([0, 1, 2, 3, 4], [("packed", n) for n in range(5)])


def test_whoever_asks_for_room_never_waits(start: Start) -> None:
    answers: list[int] = []
    pool = start(count=1)

    asked = 0
    for number in range(20):
        while not pool.has_room():
            asked += 1
            pool.poll()
        pool.submit(["double", number], answers.append)
    pool.drain()

    assert answers == [2 * number for number in range(20)]
    assert asked > 0
    assert InlinePool(Scripted, Emitted()).has_room()


def test_tasks_wait_where_there_is_room_for_them(start: Start) -> None:
    answers: list[int] = []
    pool = start(count=1, room=100)
    pool.submit(["sleep", 0.3], lambda _: None)

    begun = time.monotonic()
    for number in range(100):
        pool.submit(["double", number], answers.append)
    submitted = time.monotonic() - begun
    assert (answers, pool.has_room()) == ([], False)
    pool.drain()

    assert answers == [2 * number for number in range(100)]
    assert submitted < 0.3


def test_no_more_tasks_wait_than_there_is_room_for(start: Start) -> None:
    emitted = Emitted()
    pool = start(emit=emitted, count=1, room=2)

    for number in range(20):
        pool.submit(["heard", number, b"x" * 400], lambda _: None)
        assert number - len(emitted) <= 5  # two waiting here, two in hand, one that it is telling of

    pool.drain()
    assert emitted == [("heard", number) for number in range(20)]


def test_tasks_that_wait_are_handed_out_while_nobody_submits(start: Start) -> None:
    answers: list[int] = []
    pool = start(count=2, room=100)
    for number in range(50):
        pool.submit(["double", number], answers.append)

    deadline = time.monotonic() + 30
    while len(answers) < 50 and time.monotonic() < deadline:
        pool.poll()

    assert sorted(answers) == [2 * number for number in range(50)]


def test_a_death_is_told_also_while_tasks_wait(start: Start) -> None:
    pool = start(count=1, room=100)
    pool.submit(["leave", 3], lambda _: None)

    with pytest.raises(WorkerDied):
        for number in range(20):
            pool.submit(["double", number], lambda _: None)
        pool.drain()


def test_work_is_spread_over_all_workers(start: Start) -> None:
    pids: list[int] = []
    pool = start(count=3)

    for _ in range(6):
        pool.submit(["pid"], pids.append)
    pool.drain()

    assert set(pids) == set(pool.pids)
    assert os.getpid() not in pids


def test_what_is_held_back_comes_with_a_flush(start: Start) -> None:
    emitted = Emitted()
    pool = start(emit=emitted)
    for number in range(10):
        pool.submit(["hold", number], lambda _: None)

    pool.flush()

    assert sorted(value for _, value in emitted) == list(range(10))


def test_a_task_for_each_reaches_every_worker(start: Start) -> None:
    emitted = Emitted()
    pool = start(emit=emitted, count=3)

    pool.each(["hold", 7])
    pool.flush()

    assert emitted == [("packed", 7)] * 3


def test_full_pipes_on_both_sides_stop_nobody(start: Start) -> None:
    emitted = Emitted()
    answers: list[int] = []
    pool = start(emit=emitted)

    for _ in range(12):
        pool.submit(["shout", 300_000], answers.append)
    pool.drain()

    assert len(answers) == 12
    assert len(emitted) == 240


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("task", "kind", "said"),
    [
        (["fail", "StoreFull", "No space is left."], errors.StoreFull, "No space is left."),
        (["fail", "StoreUnavailable", "Gone."], errors.StoreUnavailable, "Gone."),
        (["fail", "ObjectMissing", "packs/ab/x"], errors.ObjectMissing, "Object packs/ab/x is missing."),
        (["fail", "ObjectMissing", "packs/ab/x", "the disk"], errors.ObjectMissing, "is missing in the disk."),
        (
            ["fail", "ObjectExists", "config", "the disk"],
            errors.ObjectExists,
            "Object config already exists in the disk",
        ),
        (
            ["fail", "ObjectDamaged", "packs/ab/x", "it is cut"],
            errors.ObjectDamaged,
            "packs/ab/x is damaged: it is cut.",
        ),
        (["stumble"], EngineError, "ValueError: something nobody thought of"),
        (["fail", "Cancelled", "Stop."], errors.Cancelled, "Stop."),
    ],
)
def test_an_error_in_a_worker_is_the_same_error_here(
    start: Start, task: Task, kind: type[EngineError], said: str
) -> None:
    pool = start()

    with pytest.raises(EngineError) as caught:
        pool.submit(task, lambda _: None)
        pool.drain()

    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert caught.value.permanent == kind.permanent
    if kind in (errors.ObjectMissing, errors.ObjectDamaged):
        assert getattr(caught.value, "name", "") == "packs/ab/x"


def test_an_error_while_a_worker_is_made_is_told(start: Start) -> None:
    def broken(_: Emit) -> Worker:
        raise errors.StoreRefused("The password is wrong.")

    pool = start(make=broken)

    with pytest.raises(errors.StoreRefused, match="The password is wrong"):
        pool.submit(["pid"], lambda _: None)
        pool.drain()


# ---------------------------------------------------------------------- deaths


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (["die", signal.SIGKILL], "signal SIGKILL"),
        (["die", signal.SIGXCPU], "signal SIGXCPU"),
        (["die", signal.SIGTERM], "signal SIGTERM"),
        (["leave", 3], "exit code 3"),
    ],
)
def test_a_worker_that_dies_ends_the_run_with_a_passing_error(start: Start, task: Task, said: str) -> None:
    pool = start()

    with pytest.raises(WorkerDied, match=said) as caught:
        pool.submit(task, lambda _: None)
        pool.drain()

    assert not caught.value.permanent
    pool.close()
    assert not set(pool.pids) & children()


def test_a_process_number_is_not_killed_twice(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a worker has been waited for, its number may be given to any other process."""
    pool, killed = start(), list[int]()
    with pytest.raises(WorkerDied):
        pool.submit(["leave", 3], lambda _: None)
        pool.drain()
    kill = os.kill

    def noted(pid: int, number: int) -> None:
        killed.append(pid)
        kill(pid, number)

    monkeypatch.setattr(os, "kill", noted)

    pool.close()
    pool.close()

    assert len(killed) == 1
    assert set(killed) < set(pool.pids)


def test_closing_kills_workers_in_the_middle_of_their_work(start: Start) -> None:
    pool = start()
    for _ in range(2):
        pool.submit(["sleep", 600], lambda _: None)

    pool.close()

    assert not set(pool.pids) & children()


def test_giving_tasks_to_a_worker_that_is_dead_tells_of_its_death(start: Start) -> None:
    """Also when it died with unread tasks in its pipe."""
    for _ in range(20):
        pool = start(count=1)
        os.kill(pool.pids[0], signal.SIGSTOP)
        pool.submit(["double", 1], lambda _: None)
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(WorkerDied):
            for _ in range(3):
                pool.submit(["double", 2], lambda _: None)


def test_workers_die_with_their_parent() -> None:
    """Even one that is killed in the middle, with work in its workers' hands."""
    mine, theirs = os.pipe()
    if (parent := os.fork()) == 0:
        try:
            pool = ForkedPool(Scripted, Emitted(), 2)
            for _ in range(2):
                pool.submit(["sleep", 600], lambda _: None)
            os.write(theirs, b" ".join(b"%d" % pid for pid in pool.pids))
        finally:  # whatever happens, this copy of the tests ends here
            os.kill(os.getpid(), signal.SIGKILL)
    workers = [int(pid) for pid in os.read(mine, 100).split()]
    os.waitpid(parent, 0)

    deadline = time.monotonic() + 10
    while alive := [pid for pid in workers if _alive(pid)]:
        assert time.monotonic() < deadline, f"{alive} are still there"
        time.sleep(0.01)
    os.close(mine)
    os.close(theirs)


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as facts:
            return facts.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_child_whose_parent_is_gone_before_it_could_ask_ends_at_once() -> None:
    if (child := os.fork()) == 0:
        die_with_parent(parent=1 << 22)  # a process that is not our parent
        os._exit(7)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_pool_that_ended_takes_no_answers_from_the_next_one(start: Start) -> None:
    """The next pool's pipes get the same numbers; whoever still listens to the old ones would read from them."""
    answers: list[int] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns as often as they can
    try:
        for _ in range(60):
            failing = start(count=1)
            with pytest.raises(errors.StoreFull):
                failing.submit(["fail", "StoreFull", "No space is left."], lambda _: None)
                failing.drain()
            failing.close()
            pool = start(count=1)
            for number in range(3):
                pool.submit(["double", number], answers.append)
            pool.drain()
            pool.close()
    finally:
        sys.setswitchinterval(interval)

    assert answers == [0, 2, 4] * 60


# ------------------------------------------------------------------------ ring


def test_a_ring_is_seen_by_parent_and_child(start: Start) -> None:
    ring = Ring(2, 1 << 16)

    class Reader(Scripted):
        def read(self, slot: int) -> bytes:
            return bytes(ring.view(slot)[:5])

    answers: list[bytes] = []
    pool = start(make=Reader)
    ring.view(1)[:5] = b"hello"
    pool.submit(["read", 1], answers.append)
    pool.drain()

    assert answers == [b"hello"]
    assert len(ring.view(0)) == 1 << 16
    assert ring.free == [0, 1]
