"""pgbench writes all the time while its database goes to S3: what comes back is one moment of it, to the last row."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path

from aihub_backup.cli import client as api
from aihub_backup.cli.client import Answer
from tests.proofs.bank import Bank, recorded
from tests.proofs.bucket import BucketConsole
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.workshop import MIB, eventually
from tests.servers import postgresql

MAJORS = (16, 18)


@proof(
    "postgresql", "pgbench",
    "a pgbench database under load goes to S3 and comes back: books, rows and checksums are those of one moment",
    count=10,
)  # fmt: skip
def under_load(case: Case) -> Figures:
    server = postgresql.started(MAJORS[case.number % 2])
    with BucketConsole(case.place, server.bin_dir) as console, Bank(server, case.number) as bank:
        console.client.add_source("bank", "postgresql", server.options(bank.name))
        return UnderLoad(case.place, console, bank).prove()


class UnderLoad:
    """One database, backed up under load and again when it rests, each time recovered beside itself."""

    def __init__(self, place: Path, console: BucketConsole, bank: Bank) -> None:
        self.place, self.console, self.bank = place, console, bank

    def prove(self) -> Figures:
        """Both backups come back; figures of the first."""
        with self.bank.at_work() as load:
            eventually(lambda: self.bank.transactions() > 100, 60, "pgbench works")
            before, begun = self.bank.transactions(), time.monotonic()
            backup = self._backed_up()
            after, seconds = self.bank.transactions(), time.monotonic() - begun
            copy, recovery = self._recovered(backup)
            assert load.poll() is None, "pgbench ended by itself"
        held = self._one_moment(backup, copy, before, after)
        self._at_rest()
        return self._figures(backup, recovery, held) | {
            "transactions during the dump": after - before, "transactions/s": round((after - before) / seconds),
        }  # fmt: skip

    # the deeds

    def _backed_up(self) -> Answer:
        backup = self.console.backup(self.console.ask_backup("bank"))
        assert backup["status"] == "completed", api.problem(backup)
        return backup

    def _recovered(self, backup: Answer) -> tuple[str, Answer]:
        copy = self.bank.new_copy()
        recovery = self.console.recovery(self.console.ask_database(backup["id"], copy))
        assert recovery["status"] == "completed", api.problem(recovery)
        return copy, recovery

    # the proof

    def _one_moment(self, backup: Answer, copy: str, before: int, after: int) -> int:
        """The copy holds what was counted in the dump's moment, its books are right, and it is a beginning of what
        went on; the number of its transactions."""
        directory = self.console.engine.restored(self.console.part(backup)["id"], self.place / "files")
        assert self.bank.counted(copy) == recorded(directory)
        assert set(self.bank.broken_books(copy).values()) == {0}, self.bank.broken_books(copy)
        held, all_of_it = self.bank.history(copy), self.bank.history(self.bank.name)
        assert before <= held.total() <= after, f"{held.total()} transactions, of {before} to {after}"
        assert held <= all_of_it, "it holds transactions that never were"
        return held.total()

    def _at_rest(self) -> None:
        """Nobody writes now: every byte of every table, read in two ways that are not ours."""
        copy, _ = self._recovered(self._backed_up())
        assert self.bank.digests(copy) == self.bank.digests(self.bank.name)
        assert self.bank.sorted_dump(copy) == self.bank.sorted_dump(self.bank.name)

    def _figures(self, backup: Answer, recovery: Answer, held: int) -> Figures:
        part, rows = self.console.part(backup), sum(count for count, _ in self.bank.counted(self.bank.name).values())
        took, size = seconds(backup), part["size_bytes"] / MIB
        return {
            "server": self.bank.server.major, "rows": rows, "transactions in the copy": held,
            "dump, MiB": round(size, 1), "stored, MiB": round(part["stored_bytes"] / MIB, 1), "backup, s": took,
            "backup, MiB/s": round(size / took, 1), "recovery, s": seconds(recovery),
        }  # fmt: skip


def seconds(answer: Answer) -> float:
    """From the first look of a worker to the end."""
    begun, ended = (datetime.fromisoformat(answer[name]) for name in ("started_at", "finished_at"))
    return round((ended - begun).total_seconds(), 1)
