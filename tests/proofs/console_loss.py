"""A console's whole home is gone: the storage and the printed recovery code bring it back, row for row."""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from aihub_backup.cli import client as api
from aihub_backup.cli.exits import CommandFailed
from backups.strategies.sqlite import examined
from tests.proofs.engine_kills import Scale, plant
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.stack import Console
from tests.proofs.workshop import OK, Engine, assert_same, copy, eventually, remove, roomy

WITHIN = 400.0  # seconds for the console to bring one piece of work to its end
FILES, OWN = "platform files", "console"
LOAD = Scale(files=400, early=4 << 20, bulk=32 << 20)

Rows = dict[str, Counter[tuple[Any, ...]]]


@proof("console", "lost-console", "a console's whole home is deleted; storage and kit alone bring it back", count=3)
def lost_console(case: Case) -> Figures:
    room = roomy(20 * LOAD.bulk, case.place)
    try:
        return LostConsole(case.place, room, case.random, LOAD).prove()
    finally:
        remove(room)


class LostConsole:
    """A console with its own protection and one source of files; what it protects is lost together with it.

    place: of the console and of what it recovers; room: of everything large
    """

    def __init__(
        self, place: Path, room: Path, numbers: random.Random, load: Scale, more: Mapping[str, str] | None = None
    ) -> None:
        self.place, self.room, self.random, self.load, self._environment = place, room, numbers, load, more
        self.home, self.files, self.storage = place / "console", room / "files", room / "storage"

    def prove(self) -> Figures:
        """Lose everything but the storage and the code; the figures of its return."""
        with Console(self.home, self._environment) as console:
            self._set_up(console.client)
            files = self._back_up(console.client, FILES)
            before = rows_of(self.home / "console.sqlite3")
            own = self._back_up(console.client, OWN)
            after = rows_of(self.home / "console.sqlite3")
        then = copy(self.files, self.room / "files of then")
        remove(self.home, self.files)
        begun = time.monotonic()
        found = self._bring_back()
        figures = compare(before, after, found)
        with Console(self.home, self._environment) as console:
            figures["seconds from nothing to a console"] = round(time.monotonic() - begun, 1)
            self._knows_everything(console.client, files, own, then)
        return figures

    # before

    def _set_up(self, client: api.Client) -> None:
        plant(self.files, self.load, self.random)
        client.add_storage("local storage", "local", {"path": str(self.storage)})
        kit = client.add_repository("main", "local storage")
        self.code = api.recovery_code(kit)
        client.prove_kit(api.identifier(kit), self.code)
        client.add_source(FILES, "files", {"paths": [str(self.files)]})
        eventually(lambda: self._protects_itself(client), WITHIN, "the console protects itself")

    def _protects_itself(self, client: api.Client) -> bool:
        return OWN in {row["name"] for row in client.get("/sources")["results"]}

    def _back_up(self, client: api.Client, source: str) -> str:
        asked = api.identifier(client.back_up("incremental", [source]))
        answer = client.finished(lambda: client.backup(asked), WITHIN)
        assert answer["status"] == "completed", f"the backup of {source} is {answer['status']}: {api.problem(answer)}"
        return asked

    # the new machine

    def _bring_back(self) -> dict[str, Any]:
        """The keys and the database, with the engine's commands and the printed code; what the snapshot tells."""
        machine = self.room / "new machine"
        machine.mkdir()
        self.home.mkdir(mode=0o700)
        engine = Engine(machine, code=self.code, repository=self.storage)
        engine.run("keys", "--to", self.home / "keys", codes=(OK,))
        newest = [row for row in engine.run("list").result if row["facts"]["source"]["name"] == OWN][-1]
        engine.run("restore", "--snapshot", newest["id"], "--target", machine / "back", codes=(OK,))
        database = machine / "back" / "console.sqlite3"
        told = {"captured": newest["facts"]["captured"], "found": examined(bytes(database)), "rows": rows_of(database)}
        copy(database, self.home / "console.sqlite3")
        return told

    def _knows_everything(self, client: api.Client, files: str, own: str, then: Path) -> None:
        self._settles(client, own)
        self._comes_back(client, files, then)
        self._keeps_its_secrets(client, own)
        copy(then, self.files)
        for source in (FILES, OWN):
            self._back_up(client, source)

    def _settles(self, client: api.Client, own: str) -> None:
        """In the database that came back this very backup is still running; the repository's log knows better."""
        answer = client.finished(lambda: client.backup(own), WITHIN)
        assert (answer["status"], answer["restorable"]) == ("completed", True), answer

    def _comes_back(self, client: api.Client, backup: str, then: Path) -> None:
        asked = client.recover(backup, str(self.place / "recovered"), "proof: does it come back from a lost console?")
        answer = client.finished(lambda: client.recovery(api.identifier(asked)), WITHIN)
        assert answer["status"] == "completed", api.problem(answer)
        assert_same(then, Path(answer["parts"][0]["place"]))

    def _keeps_its_secrets(self, client: api.Client, own: str) -> None:
        """Whoever may do everything in the console still cannot read the console's own backup there."""
        try:
            client.recover(own, str(self.place / "stolen"), "proof: nobody recovers that here")
        except CommandFailed as refusal:
            assert "every secret" in str(refusal), refusal
        else:
            raise AssertionError("the console's own database was recovered through its API")


def rows_of(database: Path) -> Rows:
    """Every row of every table, at one moment."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
        connection.execute("BEGIN")
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {name: Counter(connection.execute(f'SELECT * FROM "{name}"')) for (name,) in names}


def compare(before: Rows, after: Rows, found: Mapping[str, Any]) -> Figures:
    """The database that came back lies between what was there before its backup was asked for and after its end.

    What nobody touched in between is there exactly, and nothing else in the tables that nobody touched; of the others,
    where the run itself was being written down, as many rows as were counted when it was read.
    """
    rows: Rows = found["rows"]
    assert rows.keys() == before.keys() == after.keys(), "the tables differ"
    assert found["found"]["integrity"] == "ok" and not found["found"]["foreign_key_violations"]
    assert found["found"]["tables"] == found["captured"]["tables"], "rows are missing or surplus"
    moving = {name for name in rows if before[name] != after[name]}
    for name in rows.keys() - moving:
        assert rows[name] == before[name], f"the rows of {name} differ"
    for name in moving:
        lost = (before[name] & after[name]) - rows[name]
        assert not lost, f"{lost.total()} rows of {name} that nobody touched are gone, as {next(iter(lost))}"
    untouched = sum((before[name] & rows[name]).total() for name in rows)
    return {
        "tables": len(rows), "rows": sum(one.total() for one in rows.values()), "rows as before the backup": untouched,
        "tables the run was writing to": len(moving),
    }  # fmt: skip
