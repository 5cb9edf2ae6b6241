"""Two backups, a recovery, a verification and a compaction against one repository at once, for a long time, with
processes of the console killed and frozen past their leases: all snapshots verify and come back.

It is the console that `aihub up` runs. Its leases are shortened by its own settings (`TIMINGS`), in the same order as
the usual ones; the watchdog looks as often as always. What retention would let go is deleted through the API, which is
the deed that retention calls.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from aihub_backup.cli import client as api
from aihub_backup.cli import output
from aihub_backup.cli.exits import CommandFailed
from tests.proofs.moving import Moving, Seen, seen
from tests.proofs.registry import Case, Figures, Missed, proof
from tests.proofs.saboteur import Saboteur, held
from tests.proofs.stack import Console, family
from tests.proofs.witness import Witness, frozen
from tests.proofs.workshop import MIB, OK, Engine, eventually, remove, roomy

LEASE = 20.0  # seconds
TIMINGS = {
    "AIHUB_JOB_LEASE_SECONDS": f"{LEASE:.0f}", "AIHUB_JOB_FENCE_SECONDS": "12", "AIHUB_JOB_HEARTBEAT_SECONDS": "4",
    "AIHUB_JOB_RETRY_SECONDS": "1", "AIHUB_WORKER_SLOTS": "6",
}  # fmt: skip
KEPT = 3  # points of a source that always stay
DONE_WITHIN = 400.0  # seconds for the console to bring work to an end by itself
POLL = 0.5  # seconds between two questions
SOURCES = ("first", "second")
# How work may end whose processes were killed or frozen, beside well; anything else is a fault.
EXCUSED = {"worker-lost", "runner-died", "lost-lease", "worker-died", "overtaken"}
REFUSED = ("backup-deleted", "not-restorable", "in-use", "last-restorable-point")  # two loops meet at one backup
WELL = {"completed", "completed_with_warnings", "passed"}
ENDED = {"failed", "deleted", *WELL}


@dataclass(frozen=True)
class Load:
    """minutes: of unrest; files: of each source; pauses: seconds between two strikes, from and to."""

    minutes: float
    files: int
    pauses: tuple[float, float]


FULL = Load(minutes=10, files=400, pauses=(2.0, 8.0))


@proof(
    "endurance", "unrest",
    "ten minutes of two backups, a recovery, a verification and a compaction at once, with kills and freezes",
    count=3,
)  # fmt: skip
def unrest(case: Case) -> Figures:
    room = roomy(2 << 30, case.place)
    try:
        return Endurance(case.place, room, case.random, FULL).prove()
    finally:
        remove(room)


@dataclass(frozen=True)
class Point:
    """A completed backup. begin, end: moments between which it was made, Unix seconds."""

    backup: str
    snapshot: str
    source: str
    begin: float
    end: float


class Endurance:
    """One console, one repository, and everybody at work in it.

    place: of the console and of what it recovers; room: of everything large
    """

    def __init__(self, place: Path, room: Path, numbers: random.Random, load: Load) -> None:
        self.place, self.room, self.load = place, room, load
        self._seed = numbers.randrange(1 << 32)
        self._numbers = {name: random.Random(f"{self._seed} {name}") for name in (*SOURCES, "saboteur", "verification",
                         "recovery", "retention", "compaction")}  # fmt: skip
        self._points: dict[str, Point] = {}  # id of a backup → what it holds, also of those that were deleted
        self._deleted: set[str] = set()
        self._first: dict[str, Seen] = {}  # snapshot → what came back of it the first time
        self._counts: Counter[str] = Counter()
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._error: BaseException | None = None

    def prove(self) -> Figures:
        """Unrest, rest, and the judgement; figures of it all."""
        output.say(f"endurance: the seed is {self._seed}")
        with Console(self.place / "console", TIMINGS) as self.console:
            self._set_up()
            try:
                self._unrest()
                self._settle()
                self._judge()
            except AssertionError as error:
                raise Missed(f"{error} (seed {self._seed}; {'; '.join(self._saboteur.told[-12:])})",
                             self._figures()) from error  # fmt: skip
        return self._figures()

    # the scene

    def _set_up(self) -> None:
        client, storage = self.console.client, self.room / "storage"
        client.add_storage("disk", "local", {"path": str(storage)})
        kit = client.add_repository("main", "disk")
        client.prove_kit(api.identifier(kit), api.recovery_code(kit))
        self.engine = Engine(self.room, code=api.recovery_code(kit), repository=storage)
        self._moving = {
            name: Moving(self.room / "data" / name, self._numbers[name], self.load.files) for name in SOURCES
        }
        for name, moving in self._moving.items():
            client.add_source(name, "files", {"paths": [str(moving.root)]})
        for name in SOURCES:
            self._back_up(name)
        assert len(self._points) == len(SOURCES), "undisturbed, the first backups were not made"

    # everybody at once

    def _unrest(self) -> None:
        saboteur = Saboteur(self.console, self._numbers["saboteur"], LEASE, self.load.pauses)
        self._saboteur, self._witness = saboteur, Witness(self.console.home)
        deeds: list[Callable[[], None]] = [lambda: self._back_up("first"), lambda: self._back_up("second"),
                                           self._recover, self._verify, self._compact, self._forget]  # fmt: skip
        with ExitStack() as stack:
            for moving in self._moving.values():
                stack.enter_context(moving)
            stack.enter_context(self._witness)
            threads = [threading.Thread(target=self._again, args=(deed,), daemon=True) for deed in deeds]
            with saboteur:
                for thread in threads:
                    thread.start()
                self._wait(self.load.minutes * 60)
            self._over.set()
            for thread in threads:
                thread.join()
        self._raise()

    def _again(self, deed: Callable[[], None]) -> None:
        try:
            while not self._over.is_set():
                deed()
        except BaseException as error:  # raised by the thread that waits
            self._error = self._error or error
            self._over.set()

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._over.wait(1) and self._saboteur.error is None:
            pass

    def _raise(self) -> None:
        if error := self._error or self._saboteur.error:
            raise AssertionError(f"{type(error).__name__}: {error}") from error
        assert not self._witness.error, self._witness.error

    def _back_up(self, source: str) -> None:
        client, begin = self.console.client, time.time()
        kind = "full" if self._numbers[source].random() < 0.2 else "incremental"
        backup = api.identifier(client.back_up(kind, [source]))
        answer = self._finished(lambda: client.backup(backup))
        if self._ended_well("backups", answer):
            part = answer["parts"][0]
            with self._guard:
                self._points[backup] = Point(backup, part["id"], source, begin, time.time())

    def _verify(self) -> None:
        client, numbers = self.console.client, self._numbers["verification"]
        point, level = self._any(numbers), numbers.randint(1, 3)
        answer = self._unless_refused(lambda: client.verify(point.backup, level))
        for check in api.identifiers(answer) if answer else []:
            self._ended_well("verifications", self._finished(partial(client.verification, check)))

    def _recover(self) -> None:
        client, point = self.console.client, self._any(self._numbers["recovery"])
        target = self.place / f"recovered-{self._counts['recoveries asked for']}"
        self._count("recoveries asked for")
        answer = self._unless_refused(lambda: client.recover(point.backup, str(target), "proof: it comes back"))
        if answer is None:
            return
        ended = self._finished(lambda: client.recovery(api.identifier(answer)))
        if self._ended_well("recoveries", ended):
            self._came_back(point, Path(ended["parts"][0]["place"]))
        remove(target)

    def _compact(self) -> None:
        client = self.console.client
        client.post("/repositories/main/compact", {})
        answer = self._finished(lambda: client.get("/repositories/main/compaction"))
        if self._ended_well("compactions", answer):
            self._count("bytes given back", answer["freed_bytes"] or 0)
        self._over.wait(self._numbers["compaction"].uniform(0, 3))

    def _forget(self) -> None:
        """What a policy does that keeps few points: any of them but the newest goes."""
        self._over.wait(2)
        for source in SOURCES:
            points = [point for point in self._live() if point.source == source]
            if len(points) > KEPT:
                point = self._numbers["retention"].choice(points[:-1])
                if self._unless_refused(partial(self.console.client.delete, f"/{point.backup}")):
                    self._deleted.add(point.backup)
                    self._count("backups forgotten")

    # how it ends

    def _finished(self, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        end = time.monotonic() + DONE_WITHIN
        while not (answer := ask())["finished_at"]:
            assert time.monotonic() < end, f"it is still {answer['status']} after {DONE_WITHIN:.0f} s: {answer}"
            time.sleep(POLL)
        return answer

    def _ended_well(self, what: str, answer: Mapping[str, Any]) -> bool:
        """True: it did. False: it says that a process was lost. AssertionError: it says anything else."""
        if answer["status"] in WELL:
            self._count(what)
            return True
        codes = _codes(answer)
        assert codes and codes <= EXCUSED, f"one of the {what} is {answer['status']}: {api.problem(dict(answer))}"
        self._count(f"{what} given up")
        return False

    def _unless_refused(self, deed: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
        """None: another loop was first."""
        try:
            return deed()
        except CommandFailed as error:
            if any(code in str(error) for code in REFUSED):
                return None
            raise

    def _count(self, what: str, more: int = 1) -> None:
        with self._guard:
            self._counts[what] += more

    def _live(self) -> list[Point]:
        """Oldest first."""
        with self._guard:
            return [point for backup, point in self._points.items() if backup not in self._deleted]

    def _any(self, numbers: random.Random) -> Point:
        return numbers.choice(self._live())

    def _came_back(self, point: Point, tree: Path) -> None:
        """As the source was while the backup was made, and each time the same."""
        found = seen(tree)
        self._moving[point.source].judge(found, point.begin, point.end)
        with self._guard:
            first = self._first.setdefault(point.snapshot, found)
        assert found == first, f"snapshot {point.snapshot} came back otherwise than before"

    # rest

    def _settle(self) -> None:
        """Nobody helps: jobs end by themselves, and everything is as the rows say."""
        eventually(lambda: not self._jobs(), DONE_WITHIN, "all work ends by itself")
        eventually(self.console.up_again, DONE_WITHIN, "all programs run again")
        self._compact()
        eventually(lambda: not self.console.victims("runner"), DONE_WITHIN, "nobody works any more")
        left = [process.command for process in family(self.console.process.pid) if frozen(process.pid)]
        assert not left, f"left frozen: {left}"

    def _jobs(self) -> list[dict[str, Any]]:
        """Work that has not ended."""
        busy = [row for row in self._listed() if row["status"] not in ENDED]
        return [*busy, *({"job": job.id} for job in held(self.console.home))]

    def _listed(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        answer = self.console.client.get("/list", page_size="200")
        while True:
            rows += answer["results"]
            if not answer.get("next"):
                return rows
            answer = self.console.client.get("/list?" + answer["next"].partition("?")[2])

    # the judgement

    def _judge(self) -> None:
        live = self._rows_are_true()
        for point in live:
            self._verifies(point)
        judge(self.engine, live, self._came_back, self.room / "back")
        for what in ("backups", "recoveries", "verifications", "compactions", "bytes given back", "backups forgotten"):
            assert self._counts[what], f"no {what}: nothing was proved"
        assert self._saboteur.kills, "nobody was killed: nothing was proved"
        assert self._saboteur.past_lease, "nobody was frozen past a lease: nothing was proved"

    def _rows_are_true(self) -> list[Point]:
        """The log and the rows are one, and what went wrong says so; the points that live."""
        rows = self._listed()
        parts = {part["id"] for row in rows for part in row["parts"] if part["status"] in WELL}
        assert set(self.engine.snapshots()) == parts, "the log and the rows differ"
        silent = [row["id"] for row in rows if row["status"] == "failed" and not _codes(row)]
        assert not silent, f"backup {silent[0]} has failed without a sentence"
        known = {row["id"] for row in rows if row["restorable"]}
        live = [point for backup, point in self._points.items() if backup in known]
        gone = self._points.keys() - self._deleted - known
        assert not gone, f"backup {min(gone)} was completed and nobody deleted it, and it cannot be recovered"
        return live

    def _verifies(self, point: Point) -> None:
        client = self.console.client
        for check in api.identifiers(client.verify(point.backup, 3)):
            answer = self._finished(partial(client.verification, check))
            assert answer["status"] == "passed", f"backup {point.backup} at level 3: {answer}"

    def _figures(self) -> Figures:
        saboteur = self._saboteur
        told = ("backups", "recoveries", "verifications", "compactions", "backups forgotten")
        given_up = sum(many for what, many in self._counts.items() if what.endswith("given up"))
        return {
            **{what: self._counts[what] for what in told}, "given up with a sentence": given_up,
            "kills": saboteur.kills, "freezes": saboteur.freezes, "freezes past a lease": saboteur.past_lease,
            "MiB given back": round(self._counts["bytes given back"] / MIB, 1),
            "changes of the sources": sum(moving.changes for moving in self._moving.values()),
            "longest untruth, s": round(self._witness.longest, 1),
        }  # fmt: skip


def judge(engine: Engine, points: list[Point], came_back: Callable[[Point, Path], None], target: Path) -> None:
    """By the engine alone, with the recovery code: all points come back, and a check of all bytes is content."""
    rows = {row["id"]: row["facts"].get("captured", {}) for row in engine.run("list").result}
    for point in points:
        base = rows[point.snapshot].get("base")
        words = ["--snapshot", point.snapshot, "--target", target, *(["--base", base] if base else [])]
        engine.run("restore", *words, codes=(OK,))
        came_back(point, target)
        remove(target)
    assert engine.run("check", "--read-data", codes=(OK,)).result["problems"] == []


def _codes(answer: Mapping[str, Any]) -> set[str]:
    """Codes of what the work and its parts say about their end."""
    errors = [answer.get("error"), *(part.get("error") for part in answer.get("parts") or [])]
    return {error["code"] for error in errors if error}
