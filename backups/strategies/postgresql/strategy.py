"""A PostgreSQL database, dumped by its own program in one consistent moment while others go on writing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast
from urllib.parse import quote

from backups.engine.disk import Report
from backups.engine.entry import Entry, ItemError, Kind, Notes
from backups.engine.errors import SourceError, TargetError
from backups.strategies.base import DatabaseStrategy, Finding
from backups.strategies.postgresql import archive, client, contents, privileges, restoring
from backups.strategies.postgresql.archive import COUNTS, GLOBALS
from backups.strategies.postgresql.client import Client, Desk
from backups.strategies.postgresql.connection import connect, translated
from backups.strategies.postgresql.dump import Dump
from backups.strategies.postgresql.options import PostgreSQLOptions
from backups.strategies.postgresql.restoring import Plan


class PostgreSQL(DatabaseStrategy[PostgreSQLOptions]):
    """One database: its dump as a stream, the server's roles, and the counts a restore is compared with."""

    kind: ClassVar[str] = "postgresql"
    family: ClassVar[str] = "database"
    Options: ClassVar[type[Any]] = PostgreSQLOptions

    def __init__(self, options: PostgreSQLOptions, workdir: Path) -> None:
        super().__init__(options, workdir)
        self._desk, self._now = Desk(options, workdir), time.time_ns()
        self._restorer = options.recovering()
        self._restoring_desk = Desk(self._restorer, workdir)
        self._tool: Client | None = None
        self._seen: dict[str, Any] = {}

    def check(self) -> None:
        self._look()

    def check_way_back(self) -> None:
        if self.options.restore_user:
            try:
                restoring.must_be_allowed(self._restorer, self._restoring_desk)
            except TargetError as error:
                raise SourceError(f"Nothing could be brought back as “{self._restorer.user}”. {error}") from None

    def capture(self, report: Report) -> Iterator[Entry]:
        self._look()
        assert self._tool is not None
        self._warn(report)
        opened: list[Dump] = []
        yield Entry(b"", Kind.DIRECTORY, mode=0o700, mtime_ns=self._now, xattrs=())
        entries = [self._dump(opened)]
        if self.options.include_globals:
            entries += self._globals(report)
        yield from sorted(entries, key=lambda entry: entry.key)
        dump = opened[0]  # read to its end by now: entries are taken in order
        for sentence in dump.warnings:
            report(ItemError(entries[0].path, "dump", f"pg_dump warns: {sentence}", "warning"))
        self._seen |= {"tables": len(dump.tables), "rows": sum(table["rows"] for table in dump.tables)}
        told = {"format": contents.FORMAT, "tables": dump.tables, "sequences": dump.sequences,
                "large_objects": dump.large_objects}  # fmt: skip
        yield self._laid_down(COUNTS, json.dumps(told, indent=1, ensure_ascii=False).encode())

    def facts(self) -> dict[str, Any]:
        options = self.options
        chosen = {name: list(getattr(options, name)) for name in _CHOICES}
        return {
            "roots": [self.address(options, options.database)],
            "base": "/",
            "consistency": "application",
            "tools": {"pg_dump": self._tool.version} if self._tool else {},
            "database": options.database,
            "dump": archive.file_name(options.database),
            "bin_dir": options.bin_dir,
            "chosen": {name: values for name, values in chosen.items() if values},
            **self._seen,
        }

    @classmethod
    def validate(cls, target: str, facts: Mapping[str, Any]) -> Sequence[Finding]:
        """Read the dump as a restore would, and compare its contents with what was counted at the capture."""
        return archive.examined(target, facts)

    # the way back into a new database

    @classmethod
    def name_error(cls, name: str) -> str:
        return restoring.new_name_error(name)

    @classmethod
    def address(cls, options: PostgreSQLOptions, name: str) -> str:
        return f"postgresql://{options.where}/{quote(name, safe='')}"

    def judge(self, name: str, facts: Mapping[str, Any], *, make_roles: bool) -> None:
        restoring.judge(self._restorer, self._restoring_desk, name, Plan("", "", facts, make_roles))

    def build(
        self,
        build_as: str,
        directory: str,
        facts: Mapping[str, Any],
        *,
        make_roles: bool,
        tick: Callable[[], None] = lambda: None,
    ) -> tuple[str, list[Finding]]:
        return restoring.build(self._restorer, self._restoring_desk, Plan(build_as, directory, facts, make_roles), tick)

    def rename(self, build_as: str, name: str) -> None:
        restoring.rename(self._restorer, self._restoring_desk, build_as, name)

    def discard(self, build_as: str) -> None:
        restoring.discard(self._restorer, self._restoring_desk, build_as)

    def name_of(self, known_as: str) -> str:
        return restoring.name_of(self._restorer, self._restoring_desk, known_as)

    # what there is

    def _look(self) -> None:
        """The server, its version and what we may read. SourceError."""
        with connect(self.options, self._desk) as connection, translated(self.options):
            version = connection.info.server_version
            self._tool = client.for_server(self.options, version // 10000)
            privileges.must_suffice(connection, self.options)
            self._prepared = privileges.prepared(connection)
            self._seen |= {
                "server_version": version, "settings_of": contents.described(connection),
                "extensions": contents.extensions(connection), "roles": contents.roles(connection),
                "severed": contents.severed(connection, self.options),
                "subscriptions": contents.subscriptions(connection) if self.options.whole else [],
            }  # fmt: skip

    def _warn(self, report: Report) -> None:
        assert self._tool is not None
        server = self._seen["server_version"] // 10000
        if self._prepared:
            words = f"{self._prepared} prepared transactions wait for their commit; what they did is in no backup yet."
            report(ItemError(b"", "dump", words, "warning"))
        if self._tool.major > server:
            words = (
                f"It was dumped with pg_dump {self._tool.major} and comes back only into servers {self._tool.major} or "
                f"newer. Install postgresql-client-{server} to be able to bring it back into {server}."
            )
            report(ItemError(b"", "dump", words, "warning"))

    # the entries

    def _dump(self, opened: list[Dump]) -> Entry:
        """The stream. Connections and programs begin when it is opened: by then worker processes were forked."""

        def opener() -> BinaryIO:
            assert self._tool is not None
            opened[:] = [Dump(self.options, self._desk, self._tool, self.workdir)]
            return cast(BinaryIO, opened[0])

        name = archive.file_name(self.options.database).encode()
        return Entry(name, Kind.FILE, mtime_ns=self._now, xattrs=(), source=opener, notes=Notes.UNSURE)

    def _globals(self, report: Report) -> list[Entry]:
        """The server's roles and tablespaces; without them the dump is whole, so that is a warning only."""
        assert self._tool is not None
        command = [self._tool.program("pg_dumpall"), "--globals-only", "--no-role-passwords", "--no-password"]
        ran = self._desk.run([*command, f"--database={self.options.database}"], self.options.database)
        if ran.code == 0:
            return [self._laid_down(GLOBALS, ran.output)]
        words = f"The server's roles are not in this backup ({ran.why}). Let the user read them, or leave them out."
        report(ItemError(GLOBALS, "dump", words, "warning"))
        return []

    def _laid_down(self, name: bytes, data: bytes) -> Entry:
        """A file of ours that stays in the work directory until it was read."""
        path = os.fsencode(self.workdir) + b"/entry-" + name
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.utime(path, ns=(self._now, self._now))
        st = os.stat(path)
        return Entry(
            name, Kind.FILE, mtime_ns=self._now, ctime_ns=st.st_ctime_ns, device=st.st_dev, inode=st.st_ino,
            size=st.st_size, xattrs=(), source=path, notes=Notes.UNSURE,
        )  # fmt: skip


_CHOICES = ("schemas", "exclude_schemas", "tables", "exclude_tables")
