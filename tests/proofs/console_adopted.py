"""A console is lost with its database; an empty one adopts its repository: every row is back, and all data with it."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aihub_backup.cli import client as api
from backups import engine
from backups.engine.stores.local import LocalStore
from benchmarks.measure import Watch
from tests.proofs.engine_kills import Scale, mutate, plant
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.stack import Console
from tests.proofs.workshop import MIB, assert_same, copy, eventually, remove

POINTS = 10_000
TAIL = 200  # of them behind the newest checkpoint
ADOPTED_WITHIN = 300.0  # seconds
MEMORY_LIMIT = 512 << 20  # bytes of the worker, its pool and the runner together
DONE_WITHIN = 300.0
LOAD = Scale(files=200, early=1 << 20, bulk=4 << 20)
FILES, DATABASE, OWN = "platform files", "platform database", "console"

_JSON = ("options", "tags", "stats", "facts")
_TABLES = {
    "backups_policy": ("name", "keep_daily", "retention_days", "immutable_days", "rpo_target_minutes"),
    "backups_source": ("name", "kind", "options", "tags", "policy_id"),
    "backups_backup": (
        "type", "state", "label", "tags", "policy_id", "verify_level", "trigger", "requested_by_kind",
        "requested_by_name", "hold_until", "hold_reason", "created_at", "started_at", "finished_at",
    ),
    "backups_backuppart": (
        "backup_id", "source_id", "repository_id", "state", "mode", "base_id", "stats", "facts", "items", "size_bytes",
        "stored_bytes", "warnings_count", "errors_count", "log_record", "data_as_of", "created_at", "started_at",
        "finished_at",
    ),
}  # fmt: skip

Rows = dict[str, dict[str, Any]]


@proof("console", "adopted-console", "a lost console's rows adopted from the log, 10,000 points in all", count=1)
def adopted_console(case: Case) -> Figures:
    first = _FirstConsole(case)
    before = first.lives_and_is_lost()
    planted = _plant(first.repository, first.code, POINTS)
    with Console(case.place / "second") as second:
        second.client.add_storage("local storage", "local", {"path": str(first.repository)})
        figures = _adopt(second, first.code)
        after = _rows(second.home)
        assert not [
            row for key, row in after["backups_backup"].items() if key == first.gone and row["state"] != "deleted"
        ]
        for table, rows in before.items():
            found = {key: row for key, row in after[table].items() if key not in planted}
            assert found == rows, f"{table}: {_difference(rows, found)}"
        assert planted <= after["backups_backup"].keys() | after["backups_backuppart"].keys(), "points are missing"
        for backup, tree in first.trees.items():
            _comes_back(second, backup, tree, case.place / f"back-{backup}")
    return figures


class _FirstConsole:
    """A console with files, a database and itself; one backup is held, one is forgotten."""

    def __init__(self, case: Case) -> None:
        self._case, self._place = case, case.place
        self._files, self._database = case.place / "data" / "files", case.place / "data" / "platform.sqlite3"
        self.repository = case.place / "storage"
        self.code = self.gone = ""
        self.trees: dict[str, Path] = {}  # id of a backup of files → a copy of them

    def lives_and_is_lost(self) -> dict[str, Rows]:
        """Its rows at the end, but for what it forgot: a checkpoint repeats of that only the id."""
        home = self._place / "first"
        with Console(home) as console:
            self._set_up(console)
            held, _old, gone = (self._backed_up(console, number) for number in range(3))
            until = (datetime.now(UTC) + timedelta(days=90)).isoformat()
            console.client.post(f"/{held}/hold", {"until": until, "reason": "the auditors ask"})
            console.run("backup", "delete", gone)
            self._finished(console, console.client.back_up("full", [OWN]))
            eventually(lambda: console.client.backup(gone)["status"] == "deleted", DONE_WITHIN, "it is forgotten")
            eventually(lambda: not _busy(home), DONE_WITHIN, "nothing is left to be done")
        rows = _rows(home)
        remove(home)
        self.trees.pop(gone)
        self.gone = gone
        return {table: {key: row for key, row in told.items() if row.get("state") != "deleted"}
                for table, told in rows.items()}  # fmt: skip

    def _set_up(self, console: Console) -> None:
        plant(self._files, LOAD, self._case.random)
        with closing(sqlite3.connect(self._database)) as connection, connection:
            connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, said TEXT)")
            connection.executemany("INSERT INTO events (said) VALUES (?)", [(f"event {n}",) for n in range(5000)])
        client = console.client
        client.add_storage("local storage", "local", {"path": str(self.repository)})
        kit = client.add_repository("main", "local storage")
        self.code = api.recovery_code(kit)
        client.prove_kit(api.identifier(kit), self.code)
        client.add_source(FILES, "files", {"paths": [str(self._files)]})
        client.add_source(DATABASE, "sqlite", {"path": str(self._database)})
        eventually(lambda: _names(console) == {FILES, DATABASE, OWN}, DONE_WITHIN, "the console protects itself")

    def _backed_up(self, console: Console, number: int) -> str:
        mutate(self._files, self._case.random)
        tree = copy(self._files, self._place / f"files-{number}")
        backup = self._finished(console, console.client.back_up("incremental", [FILES, DATABASE]))
        self.trees[backup] = tree
        return backup

    def _finished(self, console: Console, answer: dict[str, Any]) -> str:
        key = api.identifier(answer)
        eventually(lambda: console.client.backup(key)["finished_at"], DONE_WITHIN, "the backup ends")
        assert console.client.backup(key)["status"].startswith("completed"), api.problem(console.client.backup(key))
        return key


def _names(console: Console) -> set[str]:
    return {row["name"] for row in console.client.get("/sources")["results"]}


def _busy(home: Path) -> int:
    with _reading(home) as connection:
        states = ("queued", "running", "committing", "cancelling")
        marks = ", ".join("?" * len(states))
        count: int = connection.execute(f"SELECT count(*) FROM core_job WHERE state IN ({marks})", states).fetchone()[0]
        return count


def _plant(place: Path, code: str, count: int) -> set[str]:
    """So many further points in the log, as one console more would have written them; ids of their rows."""
    repository = engine.Repository.open(LocalStore(str(place)), engine.Secret.recovery_code(code))
    log, model = repository.log, max(repository.snapshots, key=lambda one: one.facts["source"]["name"] == FILES)
    ids: set[str] = set()
    assert log.newest is not None
    seq, parents = log.newest.seq + 1, log.leaves
    for number in range(count):
        if number == count - TAIL:
            log.refresh()
            checkpoint = log.append_checkpoint()
            seq, parents = checkpoint.seq + 1, [checkpoint.name]
        snapshot = _another(model, number, ids)
        record, data = log._sealed("snapshot", snapshot.pack(), seq, parents)
        repository.store.put(record.name, data)
        seq, parents = seq + 1, [record.name]
    return ids


def _another(model: engine.Snapshot, number: int, ids: set[str]) -> engine.Snapshot:
    part, backup, at = str(uuid.uuid4()), str(uuid.uuid4()), time.time() - 3600 * number
    ids.update((part, backup))
    parts = [{**model.facts["backup"]["parts"][0], "id": part}]
    moment = datetime.fromtimestamp(at, UTC).isoformat()
    told = {**model.facts["backup"], "id": backup, "created_at": moment, "parts": parts, "label": f"hour {number}"}
    begun = {"created_at": moment, "started_at": moment}
    return replace(model, id=part, time=at, parent="", facts={**model.facts, "backup": told, "part": begun})


def _adopt(console: Console, code: str) -> Figures:
    worker = console.programs()["worker"].pid
    body = {"storage": "local storage", "recovery_code": code, "take_over": True}
    with Watch(worker) as watching:
        begun = time.monotonic()
        answer = console.client.post("/repositories/adopt", body)
        address = f"/repositories/{answer['repository']['id']}/adoption"
        eventually(lambda: console.client.get(address)["finished_at"], ADOPTED_WITHIN, "the adoption ends")
        seconds = time.monotonic() - begun
    done = console.client.get(address)
    assert done["status"] == "completed", done
    assert done["damaged"] == []
    assert watching.peak < MEMORY_LIMIT, f"{watching.peak / MIB:.0f} MiB"
    return {
        "points": float(done["points"]), "adopted in, s": round(seconds, 1),
        "memory of worker and runner, MiB": round(watching.peak / MIB),
    }  # fmt: skip


def _comes_back(console: Console, backup: str, tree: Path, target: Path) -> None:
    key = api.identifier(console.client.recover(backup, str(target), "proof: what was adopted comes back"))
    eventually(lambda: console.client.recovery(key)["finished_at"], DONE_WITHIN, "the recovery ends")
    done = console.client.recovery(key)
    assert done["status"] == "completed", api.problem(done)
    assert_same(tree, next(Path(part["place"]) for part in done["parts"] if part["source"]["name"] == FILES))
    remove(target)


# --- rows -------------------------------------------------------------------------------------------------------------


def _reading(home: Path) -> Any:
    return closing(sqlite3.connect(f"file:{home}/console.sqlite3?mode=ro", uri=True, timeout=30))


def _rows(home: Path) -> dict[str, Rows]:
    with _reading(home) as connection:
        return {table: dict(_table(connection, table, columns)) for table, columns in _TABLES.items()}


def _table(
    connection: sqlite3.Connection, table: str, columns: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, *values in connection.execute(f"SELECT id, {', '.join(columns)} FROM {table}"):
        row = dict(zip(columns, values, strict=True))
        yield str(uuid.UUID(key)), {name: json.loads(one) if name in _JSON else one for name, one in row.items()}


def _difference(before: Rows, after: Rows) -> str:
    for key in sorted(before.keys() | after.keys()):
        one, other = before.get(key), after.get(key)
        if one is None or other is None:
            return f"{key} is there only {'after' if one is None else 'before'}: {one or other}"
        if differing := {name: (one[name], other[name]) for name in one if one[name] != other[name]}:
            return f"{key}: {differing}"
    return "none"
