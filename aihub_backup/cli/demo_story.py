"""What the demo plays through the REST API: back up, verify, change, back up again, recover both points, compare."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aihub_backup.cli import client as api
from aihub_backup.cli import compare, demo_data, output
from aihub_backup.cli.client import Answer, Client
from aihub_backup.cli.exits import CommandFailed, Exit

PATIENCE = 900.0  # seconds for one backup, verification or recovery
FILES, DATABASE = "platform files", "platform database"


@dataclass
class Step:
    """One row of the table: what was done with how many bytes in how many seconds, and what it added to the storage."""

    name: str
    bytes: int
    seconds: float
    stored: int | None = None


@dataclass
class Outcome:
    """What is reported at the end."""

    backups: int = 0
    files: int = 0
    bytes: int = 0
    rows: int = 0
    steps: list[Step] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    compared: int = 0

    @property
    def identical(self) -> bool:
        """Both points came back, and nothing differs."""
        return self.compared == 2 and not self.differences

    def figures(self) -> dict[str, object]:
        """The members of the JSON line."""
        return {
            "backups": self.backups,
            "files": self.files,
            "bytes": self.bytes,
            "identical": self.identical,
        }

    def table(self) -> str:
        """The table for people."""
        return output.table(("step", "data", "time", "speed", "stored", "saved"), [_row(step) for step in self.steps])


@dataclass(frozen=True)
class State:
    """The data at one moment, to compare with: a reading of the tree, a copy of the database."""

    tree: compare.Tree
    database: Path

    @property
    def bytes(self) -> int:
        """Bytes of all files and the database."""
        return sum(item.size for item in self.tree.values()) + self.database.stat().st_size


class Story:
    """The demo's data, storage and console."""

    client: Client
    connection: sqlite3.Connection

    def __init__(self, place: Path, scale: demo_data.Scale) -> None:
        self.place, self.scale = place, scale
        self.outcome = Outcome()
        self.files, self.database = place / "data" / "files", place / "data" / "database" / "platform.sqlite3"
        self.storage = place / "storage"

    def play(self, client: Client) -> Outcome:
        """All of it, in order. CommandFailed when a step does not do what it should."""
        self.client = client
        self.set_up()
        before = self.state("before")
        first = self.back_up("first backup", "full", before)
        self.verify(first, before)
        self.change_data()
        after = self.state("after")
        second = self.back_up("second backup", "incremental", after)
        self.connection.close()
        self.recover("first point back", first, before)
        self.recover("second point back", second, after)
        self.outcome.files, self.outcome.bytes = len(after.tree), after.bytes
        self.outcome.rows = compare.count_rows(after.database)
        return self.outcome

    def make_data(self) -> None:
        """The two sources, from their seeds. The connection stays open: the database is in use during its backup."""
        output.say("making data: configuration, model weights, logs, odd files, a database in use")
        demo_data.make_files(self.files, self.scale)
        self.database.parent.mkdir()
        self.connection = demo_data.make_database(self.database, self.scale)

    def set_up(self) -> None:
        """A local repository, whose recovery kit is proved as a person would, and the two sources."""
        self.client.add_storage("local storage", "local", {"path": str(self.storage)})
        kit = self.client.add_repository("demo repository", "local storage")
        self._keep_kit(kit)
        self.client.prove_kit(api.identifier(kit), api.recovery_code(kit))
        self.client.add_source(FILES, "files", {"paths": [str(self.files)]})
        self.client.add_source(DATABASE, "sqlite", {"path": str(self.database)})
        output.say("set up: one repository with a proved recovery kit, two sources")

    def state(self, name: str) -> State:
        """What the data is now."""
        witness = self.place / f"witness-{name}.sqlite3"
        with sqlite3.connect(witness) as copy:
            self.connection.backup(copy)
        copy.close()
        return State(compare.read_tree(self.files), witness)

    def change_data(self) -> None:
        """A day passes."""
        demo_data.change_files(self.files)
        demo_data.change_database(self.connection)
        output.say("changed, renamed, added and deleted files and rows")

    def back_up(self, name: str, kind: str, state: State) -> str:
        """Run one backup to its end; its id."""
        held, begin = _size(self.storage), time.monotonic()
        backup = api.identifier(self.client.back_up(kind, [FILES, DATABASE]))
        self._finish(name, lambda: self.client.backup(backup), "completed")
        self._step(Step(f"{name} ({kind})", state.bytes, time.monotonic() - begin, _size(self.storage) - held))
        self.outcome.backups += 1
        return backup

    def verify(self, backup: str, state: State) -> None:
        """Read, decrypt and re-hash everything the backup needs."""
        begin = time.monotonic()
        for verification in api.identifiers(self.client.verify(backup, 3)):
            self._finish("verification", partial(self.client.verification, verification), "passed")
        self._step(Step("verification, level 3", state.bytes, time.monotonic() - begin))

    def recover(self, name: str, backup: str, state: State) -> None:
        """Bring one point back to a new place and compare it with what was there."""
        target = self.place / "recovered" / name.split(maxsplit=1)[0]
        target.parent.mkdir(exist_ok=True)
        begin = time.monotonic()
        recovery = api.identifier(self.client.recover(backup, str(target), "demo: does everything come back?"))
        self._finish(name, lambda: self.client.recovery(recovery), "completed")
        self._step(Step(name, state.bytes, time.monotonic() - begin))
        self._compare(name, state, target)

    def _compare(self, name: str, state: State, target: Path) -> None:
        found = compare.read_tree(api.recovered_place(target, FILES, self.files))
        database = api.recovered_place(target, DATABASE, self.database)
        problems = [*compare.compare_trees(state.tree, found), *compare.compare_databases(state.database, database)]
        self.outcome.differences += [f"{name}: {problem}" for problem in problems[: compare.SHOWN]]
        self.outcome.compared += 1
        verdict = "NOT identical" if problems else "identical"
        output.say(f"{name}: compared {len(found):,} files and the database: {verdict}")

    def _finish(self, name: str, ask: Callable[[], Answer], wanted: str) -> None:
        answer = self.client.finished(ask, PATIENCE, _follow(name))
        if api.status(answer) != wanted:
            raise CommandFailed(f"{name}: {api.problem(answer)}", Exit.FAILED)

    def _step(self, step: Step) -> None:
        self.outcome.steps.append(step)
        output.say(f"{step.name}: {output.size(step.bytes)} in {step.seconds:.1f} s")

    def _keep_kit(self, kit: Answer) -> None:
        path = self.place / "recovery-kit.txt"
        path.touch(mode=0o600)
        path.write_text(api.kit_text(kit))


def _follow(name: str) -> Callable[[Answer], None]:
    """On a terminal: one line that tells how far the work is."""
    if not sys.stderr.isatty():
        return lambda answer: None
    return lambda answer: output.progress(f"{name}: {api.progress_line(answer)}", done=bool(answer.get("finished_at")))


def _row(step: Step) -> tuple[str, ...]:
    speed = output.rate(step.bytes, step.seconds)
    stored = "" if step.stored is None else output.size(step.stored)
    saved = "" if step.stored is None else f"{100 * (1 - step.stored / max(1, step.bytes)):.0f} %"
    return (step.name, output.size(step.bytes), f"{step.seconds:.1f} s", speed, stored, saved)


def _size(directory: Path) -> int:
    """Bytes of all files below the directory."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(directory) for name in names
    )
