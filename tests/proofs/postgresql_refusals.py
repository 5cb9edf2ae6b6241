"""What a PostgreSQL source or target refuses, or what happens to it on its way: one sentence each; nothing stays."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from aihub_backup.cli import client as api
from aihub_backup.cli.exits import CommandFailed
from backups.engine.errors import TargetError
from backups.kinds import STRATEGIES
from backups.strategies.postgresql import PostgreSQL
from tests.proofs.bucket import BucketConsole
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.stack import family, struck
from tests.proofs.workshop import eventually
from tests.servers import postgresql, s3
from tests.servers.postgresql import OWNER, PASSWORD, PostgreSQLServer

MAJORS = (16, 18)
SOON = 60.0  # seconds until nothing is left, on a busy machine
HEAVY = "CREATE TABLE heavy AS SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 120000) n"
COPYING = "SELECT pid FROM pg_stat_activity WHERE datname = %s AND query LIKE 'COPY%%heavy%%'"
OURS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'aihub-backup'"
EXTENSION = "aihub_probe"


@proof(
    "postgresql", "refusals",
    "wrong passwords, missing rights and programs, names taken, cut objects and dumps, killed servers and workers: "
    "each its sentence, and nothing is left",
    count=2,
)  # fmt: skip
def refusals(case: Case) -> Figures:
    server = postgresql.another(MAJORS[case.number % 2])
    tools = f"/usr:{server.bin_dir}:{postgresql.started(16).bin_dir}"
    os.environ["AIHUB_TOOL_DIRS"] = tools  # a strategy is asked here, too
    with BucketConsole(case.place, tools, {"AIHUB_JOB_RETRY_SECONDS": "1"}) as console:
        return Refusals(case.place, console, server).prove()


class Refusals:
    """One console and one server that go through all of it; the last two stories destroy what they need."""

    def __init__(self, place: Path, console: BucketConsole, server: PostgreSQLServer) -> None:
        self.place, self.console, self.server = place, console, server
        self.where = f"127.0.0.1:{server.port}"
        self.shop = server.database(HEAVY)
        self.role = server.role()
        server.run(f"GRANT pg_read_all_data TO {self.role}")
        console.client.add_source("shop", "postgresql", server.options(self.shop))
        console.client.add_source("reader", "postgresql", server.options(self.shop, user=self.role))
        self.good = {name: self._completed(name) for name in ("shop", "reader")}

    def prove(self) -> Figures:
        """Every story, and after each of them a look at what is left."""
        stories: list[Callable[[], None]] = [
            self.wrong_password, self.no_right_to_read, self.no_such_database, self.name_is_taken,
            self.no_right_to_make_databases, self.no_such_extension, self.dump_is_cut, self.backend_is_killed,
            self.worker_is_killed, *([self.older_programs] if self.server.major > MAJORS[0] else []),
            self.object_is_cut, self.server_is_killed,
        ]  # fmt: skip
        for story in stories:
            try:
                story()
                self._nothing_is_left()
            except AssertionError as error:
                raise AssertionError(f"{story.__name__}: {error}") from error
        return {"server": self.server.major, "refusals": len(stories)}

    # who may not

    def wrong_password(self) -> None:
        self.server.run(f"ALTER ROLE {self.role} PASSWORD 'changed meanwhile'")
        self._backup_fails("reader", self._not_let_in(f'password authentication failed for user "{self.role}"'))
        self.server.run(f"ALTER ROLE {self.role} PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")

    def no_right_to_read(self) -> None:
        self.server.run(f"REVOKE pg_read_all_data FROM {self.role}")
        cure = f"GRANT SELECT ON … TO {self.role}, grant it pg_read_all_data, or leave them out."
        self._backup_fails("reader", f'The user “{self.role}” may not read "public"."heavy". {cure}')
        self.server.run(f"GRANT pg_read_all_data TO {self.role}")

    def no_right_to_make_databases(self) -> None:
        cure = f"ALTER ROLE {self.role} CREATEDB, or name another one in restore_user."
        words = f"The user “{self.role}” may not make databases. {cure}"
        self._recovery_fails(self.good["reader"], self.server.new_name(), words)

    # what is not there, or is there already

    def no_such_database(self) -> None:
        gone = self.server.database()
        self.console.client.add_source("gone", "postgresql", self.server.options(gone))
        self.server.drop(gone)
        self._backup_fails("gone", self._not_let_in(f'database "{gone}" does not exist', OWNER))

    def name_is_taken(self) -> None:
        words = f"There is a database “{self.shop}” already at {self.where}; choose another name."
        self._recovery_fails(self.good["shop"], self.shop, words)
        assert self.server.rows("SELECT count(*) FROM heavy", self.shop) == [(120_000,)]

    def no_such_extension(self) -> None:
        with self._extension():
            name = self.server.database(f"CREATE EXTENSION {EXTENSION}")
            self.console.client.add_source("extended", "postgresql", self.server.options(name))
            backup = self._completed("extended")
        words = (
            f"The server at {self.where} lacks the extensions {EXTENSION} 1.0. Install their packages on the server."
        )
        self._recovery_fails(backup, self.server.new_name(), words)

    def older_programs(self) -> None:
        older = postgresql.started(16).bin_dir
        words = (
            f"The newest pg_dump in {older} is 16, and the server is {self.server.major}. Install "
            f"postgresql-client-{self.server.major}, or name the directory of its programs."
        )
        options = self.server.options(self.shop, bin_dir=older)
        said = _refusal(CommandFailed, lambda: self.console.client.add_source("older", "postgresql", options))
        assert words in said, said

    @contextmanager
    def _extension(self) -> Iterator[None]:
        """An extension that the server has for a while."""
        folder = Path(self.server.bin_dir).parent / "share/postgresql/extension"
        files = {f"{EXTENSION}.control": "default_version = '1.0'\n", f"{EXTENSION}--1.0.sql": "SELECT 1;\n"}
        for name, text in files.items():
            (folder / name).write_text(text)
        try:
            yield
        finally:
            for name in files:
                (folder / name).unlink()

    # what breaks

    def dump_is_cut(self) -> None:
        """The file itself, as a person may have copied it: read as a restore would, and restored."""
        directory = self.console.engine.restored(self._part(self.good["shop"]), self.place / "cut")
        facts = self._facts(self.good["shop"])
        os.truncate(directory / facts["dump"], (directory / facts["dump"]).stat().st_size // 2)
        (finding,) = PostgreSQL.validate(str(directory), facts)
        assert finding["detail"].startswith("pg_restore cannot read the dump: pg_restore: error: "), finding
        build = self._strategy().build
        said = _refusal(TargetError, lambda: build("aihub_cut", str(directory), facts, make_roles=False))
        assert said.startswith(f"pg_restore into “aihub_cut” at {self.where} broke off: pg_restore: error: "), said

    def object_is_cut(self) -> None:
        """Every pack is cut to half of it, so that the dump cannot be read."""
        bucket, client = self.console.options["bucket"], s3.started().client()
        prefix = f"{self.console.options['prefix']}/packs/"
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in page["Contents"]:
                body = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
                client.put_object(Bucket=bucket, Key=item["Key"], Body=body[: len(body) // 2])
        words = "The repository no longer holds all that shop needs: it has "
        self._recovery_fails(self.good["shop"], self.server.new_name(), words, end=". Choose another point.")

    # who is killed

    def backend_is_killed(self) -> None:
        """The server restarts all its processes; the attempt breaks off, a later one succeeds."""
        seen = self._struck(lambda pid: os.kill(pid, signal.SIGKILL))
        assert "broke off" in seen or "does not answer" in seen or "refuses" in seen, seen

    def worker_is_killed(self) -> None:
        """With everything below it; the watchdog finds out, and another worker does it again."""
        seen = self._struck(lambda _: self._kill_worker())
        assert seen, "nobody was told of a killed worker"

    def _kill_worker(self) -> None:
        struck(self.console.console.victims("worker")[0])

    def server_is_killed(self) -> None:
        """It never comes back: after the last attempt the backup has failed."""
        count = len(self.console.snapshots(self.shop))
        backup = self.console.ask_backup("shop")
        self._copying(backup)
        self.server.kill()
        told = self.console.backup(backup)
        assert told["status"] == "failed", told["status"]
        assert api.problem(told).startswith(f"PostgreSQL at {self.where} does not answer: "), api.problem(told)
        assert len(self.console.snapshots(self.shop)) == count, "half a backup became a recovery point"

    def _struck(self, strike: Callable[[int], None]) -> str:
        """A backup whose first attempt is struck while it copies, and which succeeds; what was said of the attempt."""
        count, backup = len(self.console.snapshots(self.shop)), self.console.ask_backup("shop")
        strike(self._copying(backup))
        seen: list[str] = []

        def ended() -> bool:
            answer = self.console.client.backup(backup)
            error = self.console.part(answer)["error"]
            seen.extend([error["detail"]] if error else [])
            return bool(answer["finished_at"])

        eventually(ended, 300, "the backup ends")
        told = self.console.client.backup(backup)
        assert told["status"] == "completed", api.problem(told)
        assert len(self.console.snapshots(self.shop)) == count + 1, "an attempt too many became a recovery point"
        return seen[0] if seen else ""

    def _copying(self, backup: str) -> int:
        """The server's process that sends the table to pg_dump."""
        end = time.monotonic() + 120
        with self.server.connect() as connection:
            while not (row := connection.execute(COPYING.encode(), (self.shop,)).fetchone()):
                assert time.monotonic() < end, f"no dump was seen: {self.console.client.backup(backup)['status']}"
                time.sleep(0.002)
        return int(row[0])

    # what is asked and what is left

    def _completed(self, source: str) -> str:
        backup = self.console.backup(self.console.ask_backup(source))
        assert backup["status"] == "completed", api.problem(backup)
        return api.identifier(backup)

    def _backup_fails(self, source: str, sentence: str) -> None:
        said = api.problem(self.console.backup(self.console.ask_backup(source)))
        assert sentence in said, said

    def _recovery_fails(self, backup: str, name: str, sentence: str, end: str = "") -> None:
        before = self._databases()
        answer = self.console.recovery(self.console.ask_database(backup, name))
        said = api.problem(answer)
        assert answer["status"] == "failed", answer["status"]
        assert sentence in said and said.endswith(end), said
        assert self._databases() == before

    def _not_let_in(self, why: str, user: str = "") -> str:
        cure = f"Check the database, the user “{user or self.role}” and the password, and the server's pg_hba.conf."
        return f"PostgreSQL at {self.where} does not let us in: {why}. {cure}"

    def _databases(self) -> set[str]:
        return {name for (name,) in self.server.rows("SELECT datname FROM pg_database")}

    def _part(self, backup: str) -> str:
        return str(self.console.part(self.console.client.backup(backup))["id"])

    def _facts(self, backup: str) -> dict[str, str]:
        rows = self.console.engine.run("list").result
        found: dict[str, str] = next(row["facts"]["captured"] for row in rows if row["id"] == self._part(backup))
        return found

    def _strategy(self) -> PostgreSQL:
        work = self.place / "work"
        work.mkdir(mode=0o700, exist_ok=True)
        return PostgreSQL(STRATEGIES.options("postgresql", self.server.options(self.shop)), work)

    def _nothing_is_left(self) -> None:
        """No program, no line to the server (and so no exported moment), no half database, no files."""
        eventually(lambda: not self._programs(), SOON, "no pg_dump and no pg_restore lives on")
        eventually(lambda: not self.console.workplaces(), SOON, "no work directory stays")
        with suppress(psycopg.OperationalError):  # the server was killed: then nothing is there at all
            eventually(lambda: self.server.rows(OURS) == [(0,)], SOON, "no line to the server stays open")
            assert not {name for name in self._databases() if name.startswith("aihub_")}, "half a database stays"

    def _programs(self) -> list[str]:
        everybody = family(self.console.console.process.pid)
        return [one.command for one in everybody if "/pg_dump " in one.command or "/pg_restore " in one.command]


def _refusal(kind: type[Exception], deed: Callable[[], object]) -> str:
    """The sentence with which it is refused."""
    try:
        deed()
    except kind as refusal:
        return str(refusal)
    raise AssertionError("it was not refused")
