"""A console whose backups go to a bucket of a real S3 server, and the engine that opens the bucket without it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aihub_backup.cli import client as api
from aihub_backup.cli.client import Answer
from tests.proofs.stack import Console
from tests.proofs.workshop import Engine
from tests.servers import s3

PATIENCE = 900.0  # seconds for a backup or a recovery on a busy machine


class BucketEngine(Engine):
    """The engine's command line on a repository in a bucket, opened with the recovery code."""

    def __init__(self, place: Path, options: Mapping[str, Any], code: str) -> None:
        super().__init__(place, code=code)
        self.address = f"s3://{options['bucket']}/{options.get('prefix', '')}".rstrip("/")
        self.environment |= {
            "AIHUB_S3_ENDPOINT": options["endpoint_url"], "AWS_ACCESS_KEY_ID": options["access_key"],
            "AWS_SECRET_ACCESS_KEY": options["secret_key"],
        }  # fmt: skip

    def restored(self, snapshot: str, target: Path) -> Path:
        """What the snapshot holds, in a new directory."""
        base = next(row["facts"]["captured"]["base"] for row in self.run("list").result if row["id"] == snapshot)
        self.run("restore", "--snapshot", snapshot, "--base", base, "--target", target)
        return target


class BucketConsole:
    """A console with one repository, whose kit is proved, in a prefix of its own."""

    def __init__(self, place: Path, tools: str = "", more: Mapping[str, str] | None = None) -> None:
        self.options = s3.started().options()
        tool_dirs = ":".join(filter(None, ["/usr", tools]))
        self.console = Console(place / "console", {"AIHUB_TOOL_DIRS": tool_dirs, **(more or {})})
        try:
            self.client = self.console.client
            self.client.add_storage("bucket", "s3", self.options)
            kit = self.client.add_repository("main", "bucket")
            self.client.prove_kit(api.identifier(kit), api.recovery_code(kit))
            self.engine = BucketEngine(place, self.options, api.recovery_code(kit))
        except BaseException:
            self.console.stop()
            raise

    def __enter__(self) -> BucketConsole:
        return self

    def __exit__(self, *_: object) -> None:
        self.console.stop()

    # the deeds

    def ask_backup(self, source: str) -> str:
        """The id of a backup that was asked for."""
        return api.identifier(self.client.back_up("full", [source]))

    def backup(self, key: str) -> Answer:
        """The backup, when it has ended."""
        return self.client.finished(lambda: self.client.backup(key), PATIENCE)

    def ask_database(self, backup: str, name: str) -> str:
        """The id of a recovery into a new database of the source's server."""
        target = {"kind": "new_database", "database": name}
        body = {"type": "full", "backup_id": backup, "target": target, "reason": "proof: does it come back?"}
        return api.identifier(self.client.post("/recover", body))

    def recovery(self, key: str) -> Answer:
        """The recovery, when it has ended."""
        return self.client.finished(lambda: self.client.recovery(key), PATIENCE)

    def part(self, backup: Answer) -> Answer:
        """Its only part."""
        (part,) = backup["parts"]
        found: Answer = part
        return found

    # what is left

    def snapshots(self, database: str) -> list[str]:
        """Ids of the database's snapshots, as the engine alone finds them."""
        rows = self.engine.run("list").result
        return [row["id"] for row in rows if row["facts"]["captured"].get("database") == database]

    def workplaces(self) -> list[str]:
        """Directories in which work goes on, or was left behind."""
        work = self.console.home / "work"
        return os.listdir(work) if work.is_dir() else []
