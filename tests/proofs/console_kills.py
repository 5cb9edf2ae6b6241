"""kill -9 anywhere in the running console while it backs up and recovers: told truly, done again, nothing lost."""

from __future__ import annotations

import itertools
import random
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aihub_backup.cli import client as api
from aihub_backup.cli.compare import compare_databases
from aihub_backup.core import processes
from tests.proofs.engine_kills import Scale, bulk, mutate, plant
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.stack import Console, Process, struck
from tests.proofs.workshop import OK, Engine, assert_same, copy, eventually, remove, roomy

TRUTH_WITHIN = 120.0  # seconds for which a row may say "running" while nobody works
DONE_WITHIN = 400.0  # seconds for the console to bring the work to an end by itself
UP_WITHIN = 120.0  # seconds until all programs of the console run again
GONE_WITHIN = 2.0  # seconds until nobody lives below a killed process
TRIES = 8  # kills that may come too late before one meets the work
LOOKS_PER_QUESTION = 20  # at the processes for each question to the API: theirs is a brief life

FILES, DATABASE, OWN = "platform files", "platform database", "console"
Salvo = tuple[str, ...]  # roles that are killed at once; the first one's work is waited for
TEN: list[Salvo] = [
    ("runner",), ("runner",), ("engine worker",), ("engine worker",), ("pool process",), ("worker",),
    ("worker", "web"), ("beat",), ("control",),
]  # fmt: skip
LISTENERS = 4
LOAD = Scale(files=400, early=4 << 20, bulk=64 << 20)


@proof(
    "console", "killed-console", "ten kills -9 among all processes of a console while it backs up and recovers", count=6
)
def killed_console(case: Case) -> Figures:
    room = roomy(20 * LOAD.bulk, case.place)
    try:
        return KilledConsole(case.place, room, case.random, LOAD).prove(case.random.sample(TEN, len(TEN)))
    finally:
        remove(room)


@proof(
    "console", "killed-listener", "a pool process killed while it listens for work: the next backup ends by itself",
    count=2,
)  # fmt: skip
def killed_listener(case: Case) -> Figures:
    room = roomy(20 * LOAD.bulk, case.place)
    try:
        return KilledConsole(case.place, room, case.random, LOAD).prove_listeners(LISTENERS)
    finally:
        remove(room)


@dataclass(frozen=True)
class Point:
    """What a backup has to bring back: a copy of the files, a copy of the database."""

    files: Path
    database: Path


@dataclass
class Work:
    """A backup or a recovery that was asked for."""

    kind: str
    id: str
    point: Point
    begun: float = field(default_factory=time.monotonic)
    target: Path | None = None


class KilledConsole:
    """A console with two sources, killed again and again in one of its parts while it works.

    place: of the console and of what it recovers; room: of everything large
    """

    def __init__(
        self, place: Path, room: Path, numbers: random.Random, load: Scale, more: Mapping[str, str] | None = None
    ) -> None:
        self.place, self.room, self.random, self.load, self._environment = place, room, numbers, load, more
        self.files, self.database = room / "data" / "files", room / "data" / "platform.sqlite3"
        self.points: dict[str, Point] = {}  # id of a backup → what it holds
        self._usual = {"backup": 3.0, "recovery": 6.0}  # seconds that work takes without a kill
        self._late = self._works = 0
        self._lies: dict[str, float] = {}  # job → since when it says that somebody works on it
        self._longest_lie = 0.0

    def prove(self, salvos: Sequence[Salvo]) -> Figures:
        """Kill the roles of each salvo together, one salvo for each piece of work; figures of it all."""
        with Console(self.place / "console", self._environment) as self.console:
            self._set_up()
            for kind in ("backup", "recovery"):
                work = self._begin(kind)
                self._finish(work)
                self._usual[kind] = time.monotonic() - work.begun
            gone = [self._kill(salvo, "recovery" if turn % 3 == 2 else "backup") for turn, salvo in enumerate(salvos)]
            self._all_come_back()
        return {
            "kills": sum(map(len, salvos)), "kills that came too late": self._late,
            "gone after, s": round(max(gone), 2),
            "said running without a process, s": round(self._longest_lie, 1), "backups": len(self.points),
        }  # fmt: skip

    def prove_listeners(self, kills: int) -> Figures:
        """Kill one idle pool process after the other, each time with the next backup to be made."""
        with Console(self.place / "console", self._environment) as self.console:
            self._set_up()
            took = [self._after_a_listener() for _ in range(kills)]
            self._all_come_back()
        return {"kills": kills, "longest until the next backup was made, s": round(max(took), 1)}

    def _after_a_listener(self) -> float:
        struck(self.random.choice(self.console.victims("pool process")), GONE_WITHIN)
        work = self._begin("backup")
        state = self._finish(work)
        assert state == "completed", f"the backup after the kill of a listener is {state}"
        return time.monotonic() - work.begun

    # the scene

    def _set_up(self) -> None:
        client, storage = self.console.client, self.room / "storage"
        plant(self.files, self.load, self.random)
        self._connection = sqlite3.connect(self.database)
        self._connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, said TEXT)")
        client.add_storage("local storage", "local", {"path": str(storage)})
        kit = client.add_repository("main", "local storage")
        client.prove_kit(api.identifier(kit), api.recovery_code(kit))
        client.add_source(FILES, "files", {"paths": [str(self.files)]})
        client.add_source(DATABASE, "sqlite", {"path": str(self.database)})
        self.engine = Engine(self.room, code=api.recovery_code(kit), repository=storage)
        eventually(self._protects_itself, DONE_WITHIN, "the console has backed up its own database")

    def _protects_itself(self) -> bool:
        """The first backup after the kit's proof is the console's own: no kill is meant for it."""
        return any(backup["restorable"] for backup in self._listed())

    def _listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.console.client.get("/list", page_size="500")["results"]
        return found

    def _change(self) -> None:
        """A day passes: changes everywhere, and much that is new."""
        mutate(self.files, self.random)
        remove(self.files / "bulk")
        bulk(self.files / "bulk", self.load, self.random)
        rows = [(self.random.randbytes(200).hex(),) for _ in range(2000)]
        with self._connection:
            self._connection.executemany("INSERT INTO events (said) VALUES (?)", rows)

    def _picture(self) -> Point:
        self._works += 1
        database = self.room / f"database-{self._works}.sqlite3"
        with closing(sqlite3.connect(database)) as witness:
            self._connection.backup(witness)
        return Point(copy(self.files, self.room / f"files-{self._works}"), database)

    # the work

    def _begin(self, kind: str) -> Work:
        if kind == "backup":
            self._change()
            return self._back_up(self._picture())
        backup = self.random.choice(sorted(self.points))
        self._works += 1
        target = self.place / f"recovered-{self._works}"
        answer = self.console.client.recover(backup, str(target), "proof: does it come back in spite of a kill?")
        return Work(kind, api.identifier(answer), self.points[backup], target=target)

    def _back_up(self, point: Point) -> Work:
        answer = self.console.client.back_up("incremental", [FILES, DATABASE])
        return Work("backup", api.identifier(answer), point)

    def _ask(self, work: Work) -> dict[str, Any]:
        client = self.console.client
        return client.backup(work.id) if work.kind == "backup" else client.recovery(work.id)

    def _finish(self, work: Work) -> str:
        """Follow the work to its end, judging whatever the rows say meanwhile; the last state."""
        end = time.monotonic() + DONE_WITHIN
        while True:
            answer = self._ask(work)
            self._judge(work, answer)
            if answer["finished_at"]:
                break
            assert time.monotonic() < end, (
                f"{work.kind} is still {answer['status']} after {DONE_WITHIN:.0f} s: {answer}"
            )
            time.sleep(0.3)
        if answer["status"] == "completed":
            self._completed(work, answer)
        else:
            assert api.problem(answer), f"{work.kind} {answer['status']} without a sentence"
        return str(answer["status"])

    def _completed(self, work: Work, answer: Mapping[str, Any]) -> None:
        if work.target is None:
            self.points[work.id] = work.point
            return
        places = {part["source"]["name"]: Path(part["place"]) for part in answer["parts"]}
        self._compare(work.point, places[FILES], places[DATABASE])
        remove(work.target)

    # the truth

    def _judge(self, work: Work, answer: Mapping[str, Any]) -> None:
        """The rows may be wrong for a while after a kill, never for longer than the promise."""
        if work.kind == "backup":
            state = answer["status"]
            assert not answer["restorable"] or state == "completed", f"a backup that is {state} can be recovered"
        for job, state, attempts, owner, error in self._jobs():
            if state in ("running", "committing", "cancelling"):
                self._believe(job, owner)
            else:
                self._lies.pop(job, None)
                assert error or state == "completed" or not attempts, f"a job is {state} again without a sentence"

    def _jobs(self) -> list[tuple[str, str, int, str, str]]:
        uri = f"file:{self.console.home}/console.sqlite3?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as connection:
            return connection.execute("SELECT id, state, attempts, lease_owner, error_message FROM core_job").fetchall()

    def _believe(self, job: str, owner: str) -> None:
        holder = processes.Identity.parse(owner)
        if holder and processes.presence(holder, one_host=True) is processes.Presence.ALIVE:
            self._lies.pop(job, None)
            return
        lie = time.monotonic() - self._lies.setdefault(job, time.monotonic())
        self._longest_lie = max(self._longest_lie, lie)
        assert lie < TRUTH_WITHIN, f"job {job} says for {lie:.0f} s that a process works on it that is dead"

    # the kill

    def _kill(self, salvo: Salvo, kind: str) -> float:
        """Kill while the work goes on and prove that all is well again; the seconds until nobody below lived."""
        for number in range(TRIES):
            work = self._begin(kind)
            victim = self._victim(salvo[0], work, self._usual[kind] / 3**number)
            if victim is not None:
                return self._killed(victim, salvo, work)
            self._late += 1
            self._finish(work)
        raise AssertionError(f"no {salvo[0]} was met in {TRIES} times")

    def _victim(self, role: str, work: Work, patience: float) -> Process | None:
        """Someone of the role, at a random moment of so many seconds since the first of them came; None when the
        work was over before."""
        looks, end = itertools.count(1), time.monotonic() + DONE_WITHIN
        while not self.console.victims(role):
            assert time.monotonic() < end, f"nobody works on the {work.kind} after {DONE_WITHIN:.0f} s"
            if next(looks) % LOOKS_PER_QUESTION == 0 and self._ask(work)["finished_at"]:
                return None
            time.sleep(0.02)
        time.sleep(self.random.uniform(0, patience))
        over = self._ask(work)["finished_at"]  # asked first: an answer may take longer than a process lives
        found = [] if over else self.console.victims(role)
        return self.random.choice(found) if found else None

    def _killed(self, victim: Process, salvo: Salvo, work: Work) -> float:
        try:
            gone = struck(victim, GONE_WITHIN)
            others = [process for role in salvo[1:] for process in self.console.victims(role)[:1]]
            gone = max(gone, *(struck(other, GONE_WITHIN) for other in others), 0.0)
            if self._finish(work) != "completed":
                self._once_more(work)
            eventually(self.console.up_again, UP_WITHIN, "all programs run again")
            self._nothing_half()
            self._comes_back(self.random.choice(sorted(self.points)))
        except AssertionError as error:
            raise AssertionError(f"after the kill of {' and '.join(salvo)} during a {work.kind}: {error}") from error
        return gone

    def _once_more(self, work: Work) -> None:
        """The work was given up with a sentence: asked for again, it succeeds without anybody's help."""
        again = self._back_up(work.point) if work.kind == "backup" else self._begin("recovery")
        state = self._finish(again)
        assert state == "completed", f"asked for again, it is {state}: {self._ask(again)}"

    # the proof

    def _nothing_half(self) -> None:
        """The repository's log, the API's points and what we know are one."""
        listed = self._listed()
        stored = {part["id"] for backup in listed for part in backup["parts"] if part["status"] == "completed"}
        visible = {backup["id"] for backup in listed if backup["restorable"] and _source(backup) != OWN}
        assert set(self.engine.snapshots()) == stored, "the log and the rows differ"
        assert visible == self.points.keys(), "what can be recovered is not what was completed"

    def _comes_back(self, backup: str) -> None:
        """Restored by the engine alone, with the recovery code: as the console's owner would after its loss."""
        target = self.room / "back"
        parts = {part["source"]["name"]: part["id"] for part in self.console.client.backup(backup)["parts"]}
        bases = {row["id"]: row["facts"]["captured"]["base"] for row in self.engine.run("list").result}
        for name, snapshot in parts.items():
            words = ["--snapshot", snapshot, "--base", bases[snapshot], "--target", target / name]
            self.engine.run("restore", *words, codes=(OK,))
        self._compare(self.points[backup], target / FILES, target / DATABASE)
        remove(target)

    def _compare(self, point: Point, files: Path, database: Path) -> None:
        assert_same(point.files, files)
        found = next(database.rglob("*.sqlite3"), database)
        problems = compare_databases(point.database, found)
        assert not problems, problems

    def _all_come_back(self) -> None:
        for backup in sorted(self.points):
            self._comes_back(backup)
        check = self.engine.run("check", "--read-data", codes=(OK,)).result
        assert check["problems"] == []


def _source(backup: Mapping[str, Any]) -> str:
    """The name of the first source."""
    return str(backup["parts"][0]["source"]["name"])
