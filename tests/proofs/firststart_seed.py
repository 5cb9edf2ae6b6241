"""A console that is told nothing but the environment variables of its description backs up into the bucket by itself,
and comes back from the bucket with the file of its recovery kit and the engine alone."""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import closing
from pathlib import Path
from secrets import token_hex

from aihub_backup.cli.client import Answer
from tests.proofs.bucket import BucketEngine
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.stack import Console
from tests.proofs.workshop import eventually
from tests.servers import s3

SOON = 240.0  # seconds: the minute that runs, the next one, and a backup on a busy machine
KIT = "recovery-kit.txt"


@proof(
    "firststart", "seed",
    "started with the variables alone, it backs up to S3 at the next minute; the bucket and the kit bring it back",
    count=3,
)  # fmt: skip
def from_the_variables_alone(case: Case) -> Figures:
    return FirstStart(case.place).prove()


class FirstStart:
    """One console and the bucket it was told of; nobody signs in."""

    def __init__(self, place: Path) -> None:
        self.place, self.bucket = place, f"aihub-backups-{token_hex(4)}"
        self._server = s3.started()
        self._server.client().create_bucket(Bucket=self.bucket)

    def variables(self) -> dict[str, str]:
        """Those of the description, each with a value of its own kind; nothing else."""
        return {
            "BACKUP_STORAGE_TYPE": "s3", "BACKUP_S3_ENDPOINT": self._server.url, "BACKUP_S3_ACCESS_KEY": s3.OWNER[0],
            "BACKUP_S3_SECRET_KEY": s3.OWNER[1], "BACKUP_S3_BUCKET": self.bucket, "BACKUP_SCHEDULE_ENABLED": "true",
            "BACKUP_SCHEDULE_CRON": "* * * * *", "BACKUP_RETENTION_DAYS": "30", "DISASTER_RECOVERY_ENABLED": "true",
            "DR_AUTO_RECOVERY": "false", "DR_RPO_MINUTES": "60", "DR_RTO_MINUTES": "240",
        }  # fmt: skip

    def prove(self) -> Figures:
        """Wait for what the schedule does, lose the console, bring it back."""
        begun = time.monotonic()
        with Console(self.place / "console", self.variables()) as console:
            eventually(lambda: self._made(console), SOON, "the schedule has made a backup")
            waited = time.monotonic() - begun
            backup = self._made(console)[-1]
        warned = self._warned()
        (self.place / "console").rename(self.place / "lost")
        return {"first backup after, s": round(waited, 1), **self._comes_back(backup), "warnings": warned}

    # what happened

    def _made(self, console: Console) -> list[Answer]:
        """Completed backups, newest first."""
        listed: list[Answer] = console.client.get("/list", status="completed")["results"]
        return listed

    def _warned(self) -> int:
        """It said loudly that nobody has proved the kit, and where that lies; it did not say the code."""
        said = (self.place / "console-said").read_text()
        assert f"It lies in {self.place / 'console' / KIT}: print it" in said, said[-2000:]
        assert self._code(self.place / "console") not in said
        return said.count("WARNING")

    def _code(self, home: Path) -> str:
        kit = home / KIT
        assert stat.S_IMODE(kit.stat().st_mode) == 0o600
        return next(line.split()[-1] for line in kit.read_text().splitlines() if line.startswith("Recovery code"))

    # the way back

    def _comes_back(self, backup: Answer) -> Figures:
        """The database of the console, and its keys: out of the bucket, with the kit's file and nothing else."""
        options = self._server.options(bucket=self.bucket, prefix="")
        engine = BucketEngine(self.place, options, self._code(self.place / "lost"))
        ids = [part["id"] for part in backup["parts"]]
        assert ids == engine.snapshots()[: len(ids)], "the bucket does not hold what the console told"
        back = engine.restored(ids[0], self.place / "back")
        engine.run("keys", "--to", self.place / "keys")
        (database,) = back.rglob("console.sqlite3")
        self._is_the_console(database)
        self._same_keys()
        return {"objects in the bucket": self._objects()}

    def _is_the_console(self, database: Path) -> None:
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            asked = "SELECT count(*) FROM backups_schedule WHERE name = 'everything' AND cron_expression = '* * * * *'"
            assert connection.execute(asked).fetchone() == (1,)

    def _same_keys(self) -> None:
        """What was sealed in the bucket is what the lost console had."""
        for name in ("app_keys", "secret_key"):
            sealed = (self.place / "keys" / name).read_bytes().strip()
            assert sealed == (self.place / "lost/keys" / name).read_bytes().strip(), f"another {name}"
        assert sorted(os.listdir(self.place / "keys")) == ["app_keys", "secret_key"]

    def _objects(self) -> int:
        pages = self._server.client().get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return sum(len(page.get("Contents", ())) for page in pages)
