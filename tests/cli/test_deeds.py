"""Backing up, verifying and restoring from the terminal: the words, the answers, the exit codes."""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from aihub_backup.cli import compare, facts, output, parser, protect, waiting
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.core import jobs
from aihub_backup.core.failures import Failure
from aihub_backup.core.models import Job, Node
from backups.kinds import STRATEGIES
from tests.cli.console import command
from tests.servers import postgresql

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("_worker")]


class Terminal:
    """A person at the console's machine. The commands run in this process, on the tests' database."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def types(self, *words: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        self._capsys.readouterr()
        code = parser.main([*words, "--home", str(settings.AIHUB_HOME)])
        return code, *self._capsys.readouterr()

    def asks(self, *words: str) -> Any:
        """The JSON answer of a command that succeeds."""
        code, out, err = self.types(*words, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
def _worker() -> Iterator[None]:
    """Does every queued job, in a thread that lives as long as the test."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.05):
            for job in Job.objects.filter(state="queued"):
                jobs.run(job.pk)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    yield
    over.set()
    thread.join()


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """With a repository whose kit is proved, and one source."""
    terminal = Terminal(capsys)
    source = tmp_path / "data"
    (source / "sub").mkdir(parents=True)
    (source / "one.txt").write_text("one")
    (source / "sub/two.txt").write_text("two")
    kit = tmp_path / "kit.txt"
    terminal.asks("storage", "add", "disk", "--option", f"path={tmp_path / 'storage'}")
    terminal.asks("repository", "create", "main", "--storage", "disk", "--kit", str(kit))
    code = next(line.split()[-1] for line in kit.read_text().splitlines() if line.startswith("Recovery code"))
    monkeypatch.setattr("sys.stdin", io.StringIO(code + "\n"))
    assert terminal.types("repository", "prove", "main")[0] == Exit.OK
    assert kit.stat().st_mode & 0o777 == 0o600
    terminal.asks("source", "add", "data", "--option", f"paths={source}")
    return terminal


def test_it_backs_up_verifies_restores_and_shows_it(terminal: Terminal, tmp_path: Path) -> None:
    backup = terminal.asks("backup", "run", "data", "--type", "full", "--label", "the first", "--wait")
    checked = terminal.types("backup", "verify", backup["id"], "--level", "3", "--wait")
    recovery = terminal.asks("restore", "data", "--to", str(tmp_path / "back"), "--wait")
    refused = terminal.types("restore", "data", "--to", "/etc/x")

    assert (backup["status"], recovery["status"]) == ("completed", "completed")
    assert (checked[0], "level 3  data  passed" in checked[1]) == (Exit.OK, True)
    assert compare.compare_trees(compare.read_tree(tmp_path / "data"), compare.read_tree(tmp_path / "back")) == []
    assert (refused[0], "belongs to the operating system" in refused[2]) == (Exit.USAGE, True)
    assert "the first" in terminal.types("backup", "list")[1]
    assert "completed" in terminal.types("backup", "show", backup["id"])[1]
    assert str(tmp_path / "back") in terminal.types("recovery", "list")[1]
    assert f"data: {tmp_path / 'back'}" in terminal.types("recovery", "show", recovery["id"])[1]
    assert [row["id"] for row in terminal.asks("recovery", "list")] == [recovery["id"]]
    assert [row["id"] for row in terminal.asks("backup", "list", "--status", "failed")] == []


def test_it_brings_a_database_back_beside_itself(terminal: Terminal, tmp_path: Path) -> None:
    server = postgresql.started(18)
    database, name = server.database("CREATE TABLE orders AS SELECT generate_series(1, 300)"), server.new_name()
    options = {key: str(value) for key, value in server.options(database).items() if key != "password"}
    (tmp_path / "password").write_text(postgresql.PASSWORD)
    words = [word for key, value in options.items() for word in ("--option", f"{key}={value}")]
    secret = ("--secret-file", f"password={tmp_path / 'password'}")
    terminal.asks("source", "add", "orders", "--kind", "postgresql", *words, *secret)

    backup = terminal.asks("backup", "run", "orders", "--wait")
    recovery = terminal.asks("restore", "orders", "--to-database", name, "--wait")

    assert (backup["status"], recovery["status"]) == ("completed", "completed")
    assert recovery["target"] == f"postgresql://127.0.0.1:{server.port}/{name}"
    assert server.rows("SELECT count(*) FROM orders", name) == [(300,)]
    for done in (database, name):
        server.drop(done)


def test_it_restores_what_matches_some_parts_or_a_moment(terminal: Terminal, tmp_path: Path) -> None:
    backup = terminal.asks("backup", "run", "--wait")["id"]

    picked = terminal.asks("restore", "--backup", backup, "--include", "sub/**", "--to", str(tmp_path / "a"), "--wait")
    part = terminal.asks("restore", "--backup", backup, "--part", "data", "--to", f"dir:{tmp_path / 'b'}", "--wait")
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime())
    moment = terminal.asks("restore", "data", "--at", now, "--to", str(tmp_path / "c"), "--wait")

    assert (picked["type"], part["type"], moment["type"]) == ("selective", "partial", "point_in_time")
    assert (tmp_path / "a/sub/two.txt").read_text() == "two"
    assert not (tmp_path / "a/one.txt").exists()
    assert (tmp_path / "b/one.txt").exists() and (tmp_path / "c/one.txt").exists()


def test_it_lists_what_there_is(terminal: Terminal) -> None:
    assert [row["name"] for row in terminal.asks("storage", "list")] == ["disk"]
    assert [row["kit settled"] for row in terminal.asks("repository", "list")] == [True]
    assert "files" in terminal.types("source", "list")[1]


def test_the_list_of_backups_tells_sources_and_checks(terminal: Terminal) -> None:
    made = terminal.asks("backup", "run", "data", "--wait")["id"]
    terminal.asks("backup", "verify", made, "--wait")

    listed = terminal.types("backup", "list")[1]

    (line,) = (line for line in listed.splitlines() if line.startswith(made))
    assert "  data  " in line and "passed (level 2)" in line


def test_it_deletes_one_of_two_points(terminal: Terminal) -> None:
    oldest = terminal.asks("backup", "run", "data", "--wait")["id"]
    terminal.asks("backup", "run", "data", "--wait")

    deleted = terminal.asks("backup", "delete", oldest, "--reason", "no longer needed")
    refused = terminal.types("backup", "cancel", oldest)

    assert deleted["status"] in ("deleting", "deleted")
    assert refused[0] == Exit.CONFLICT


def test_it_shows_the_kit_once_when_no_file_is_named(terminal: Terminal, tmp_path: Path) -> None:
    terminal.asks("storage", "add", "second", "--option", f"path={tmp_path / 'second'}")
    terminal.asks("storage", "add", "third", "--option", f"path={tmp_path / 'third'}")

    shown = terminal.types("repository", "create", "two", "--storage", "second")[1]
    told = terminal.asks("repository", "create", "three", "--storage", "third", "--waive-kit")

    assert "Recovery code" in shown
    assert len(told["recovery_code"]) > 40


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("backup", "show", "nothing"), Exit.NOT_FOUND, "There is no backup “nothing”."),
        (("recovery", "cancel", "nothing"), Exit.NOT_FOUND, "There is no recovery “nothing”."),
        (("backup", "run", "nobody"), Exit.NOT_FOUND, "There is no source “nobody”."),
        (("backup", "run", "--type", "sideways"), Exit.USAGE, "There is no backup type “sideways”"),
        (("restore", "--to", "/tmp/x"), Exit.USAGE, "say what to restore"),
        (("restore", "data", "--to", "/tmp/x", "--make-roles"), Exit.USAGE, "belongs to --to-database"),
        (("restore", "data", "--to", "/srv/x"), Exit.USAGE, "there is no recovery point"),
        (("restore", "data", "--at", "soon", "--to", "/tmp/x"), Exit.USAGE, "is not a time like"),
        (("restore", "data", "--at", "2026-11-22T07:41:30", "--to", "/tmp/x"), Exit.USAGE, "has no offset"),
        (
            ("restore", "data", "--at", "0001-01-01T00:00:00+14:00", "--to", "/tmp/x"),
            Exit.USAGE,
            "outside of the calendar",
        ),
        (("restore", "data", "--to", "/tmp/x\udcff"), Exit.USAGE, "“/tmp/x\\xff” is no UTF-8"),
        (("source", "change", "data", "--tag", "a\udcff=b"), Exit.USAGE, "is no UTF-8"),
        (
            ("schedule", "add", "s", "--type", "files", "--cron", "* * * * *", "--grace", "2592001"),
            Exit.USAGE,
            "2592000",
        ),
        (("storage", "add", "bad", "--secret-file", f"key={sys.executable}"), Exit.USAGE, "holds no UTF-8 text"),
        (("storage", "add", "disk", "--option", "path=/tmp/other"), Exit.CONFLICT, "disk"),
        (("storage", "add", "bad", "--option", "path"), Exit.USAGE, "is not written as NAME=VALUE"),
        (("storage", "add", "bad", "--secret-file", "key=/nowhere"), Exit.USAGE, "/nowhere cannot be read"),
        (("source", "add", "gone", "--option", "paths=/nowhere/at/all"), Exit.USAGE, "/nowhere/at/all"),
        (("source", "add", "odd", "--kind", "abacus"), Exit.NOT_FOUND, "abacus"),
        (("repository", "create", "two", "--storage", "disk"), Exit.CONFLICT, "holds the repository “main” already"),
        (("repository", "create", "two", "--storage", "disk", "--kit", "/etc/passwd"), Exit.USAGE, "exists already"),
        (("token", "--account", "nobody"), Exit.NOT_FOUND, "There is no active account “nobody”."),
    ],
)
def test_it_refuses_with_a_sentence_and_a_code(
    terminal: Terminal, words: tuple[str, ...], code: Exit, sentence: str
) -> None:
    ended, _, complaint = terminal.types(*words)

    assert (ended, sentence in complaint) == (code, True), complaint


def test_odd_bytes_of_file_names_are_taken_in_patterns() -> None:
    words = ["data", "--include", "/srv/bad\udcff*", "--exclude=*\udcfe", "--to", "/tmp/x"]

    assert parser.texts("restore", words) == [
        "data",
        "--include",
        r"/srv/bad\xff*",
        r"--exclude=*\xfe",
        "--to",
        "/tmp/x",
    ]
    assert parser.texts("backup", ["find", "bad\udcff"]) == ["find", r"bad\xff"]


def test_a_recovery_code_of_odd_bytes_is_refused(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("R6\udcff\n"))

    ended, _, complaint = terminal.types("repository", "prove", "main")

    assert (ended, "no UTF-8" in complaint) == (Exit.USAGE, True), complaint


def test_it_refuses_a_wrong_recovery_code(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("AAAA-BBBB\n"))

    code, _, complaint = terminal.types("repository", "prove", "main")

    assert code == Exit.USAGE
    assert "code" in complaint


def test_it_takes_options_as_they_are_declared() -> None:
    @dataclass(frozen=True)
    class Declared:
        path: str = ""
        many: tuple[str, ...] = field(default=())
        size: int = 1
        quick: bool = False

    line = ["--option", "many=a", "--option", "many=b=c", "--option", "size=7", "--option", "quick=true"]
    words = argparse.ArgumentParser()
    protect._add_options(words, "x")

    values = protect._values(words.parse_args(["name", *line, "--option", "path=7"]), Declared)

    assert values == {"many": ["a", "b=c"], "size": 7, "quick": True, "path": "7"}


# --- waiting ----------------------------------------------------------------------------------------------------------


def test_it_stops_waiting_but_not_the_work(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    look = lambda: (False, "running", {"bytes_done": 5, "bytes_total": 10, "bytes_per_second": 2})  # noqa: E731  short

    with pytest.raises(CommandFailed, match="backup 1 is still running; it goes on without us") as late:
        waiting.until_ended("backup 1", look, 0)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    with pytest.raises(CommandFailed, match="not waiting any longer; backup 1 goes on") as left:
        waiting.until_ended("backup 1", look, 10)

    assert (late.value.exit_code, left.value.exit_code) == (Exit.TIMEOUT, Exit.INTERRUPTED)


def test_it_redraws_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)

    saving: dict[str, Any] = {"phase": "saving", "bytes_done": 10**6}
    looks = iter([(False, "running", saving), (True, "completed", saving)])
    waiting.until_ended("backup 1", lambda: next(looks), 10)

    shown = screen.getvalue().split("\r\x1b[K")
    assert [line.rstrip() for line in shown[1:]] == ["backup 1: running  saving  1.0 MB", "backup 1: completed"]


@pytest.mark.parametrize("silent", [True, False])
def test_it_says_when_no_worker_is_there_to_wait_for(
    db: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], silent: bool
) -> None:
    Node.objects.create(name="here", seen_at=timezone.now() - timedelta(hours=1 if silent else 0))
    monkeypatch.setattr(waiting, "PATIENCE", 0.0)
    nothing: dict[str, Any] = {}
    looks = iter([(False, "queued", nothing), (False, "queued", nothing), (True, "completed", nothing)])

    waiting.until_ended("backup 1", lambda: next(looks), 10)

    assert capsys.readouterr().err.count("no worker serves this console now") == int(silent)


def test_the_worst_end_decides_the_exit_code() -> None:
    good, odd, bad = ({"status": word} for word in ("completed", "completed_with_warnings", "failed"))
    damaged = {"status": "failed", "problems_count": 1}

    assert facts.exit_code([good]) == Exit.OK
    assert facts.exit_code([good, odd]) == Exit.WARNINGS
    assert facts.exit_code([odd, bad]) == Exit.FAILED
    assert facts.exit_code([{"status": "passed"}, damaged]) == Exit.DAMAGED


def test_it_writes_moments_as_iso_8601(capsys: pytest.CaptureFixture[str]) -> None:
    from datetime import UTC, datetime

    output.result_json({"at": datetime(2026, 11, 22, 7, 41, 30, tzinfo=UTC)})

    assert capsys.readouterr().out == '{"at": "2026-11-22T07:41:30+00:00"}\n'


def test_it_lists_the_kinds_with_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(capsys)

    _code, out, _err = terminal.types("source", "kinds", "postgresql")

    lines = {line.split()[0]: line for line in out.splitlines()[2:]}
    assert out.startswith("postgresql: PostgreSQL database.")
    assert "required" in lines["host"] and "5432" in lines["port"]
    assert "--secret-file" in lines["password"] and "Repeat --option" in lines["tables"]
    assert terminal.asks("source", "kinds").keys() == set(STRATEGIES.kinds())
    assert "path" in terminal.asks("storage", "kinds", "local")["local"]["options"]["required"]


def test_a_kind_that_does_not_load_hides_no_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = STRATEGIES.options_class

    def broken(kind: str) -> type[Any]:
        if kind == "sqlite":
            raise Failure("The program for it is missing.", permanent=True, code="plugin-broken")
        return load(kind)

    monkeypatch.setattr(STRATEGIES, "options_class", broken)

    told = Terminal(capsys).asks("source", "kinds")

    assert told["sqlite"]["about"] == "The program for it is missing."
    assert told.keys() == set(STRATEGIES.kinds())


def test_it_names_the_kinds_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    code, _out, err = Terminal(capsys).types("storage", "kinds", "tape")

    assert code == Exit.NOT_FOUND
    assert "There is no storage kind “tape”. Known kinds: local, s3." in err


def test_it_tells_a_console_without_a_database(tmp_path: Path) -> None:
    (tmp_path / "console.sqlite3").touch()  # as a first start leaves it that was cut off

    done = listing(tmp_path)

    assert done.returncode == Exit.NOT_READY
    assert done.stderr == "aihub: the console has no database yet; start it once with `aihub up`.\n"


def test_it_makes_nothing_where_no_console_was_ever_started(tmp_path: Path) -> None:
    done = listing(tmp_path / "fresh")

    assert done.returncode == Exit.NOT_READY
    assert done.stderr.startswith(f"aihub: no console was ever started in {tmp_path}/fresh; name its home with --home")
    assert list(tmp_path.iterdir()) == []


def test_nor_where_the_database_is_a_file_that_is_not_there(tmp_path: Path) -> None:
    done = listing(tmp_path / "fresh", AIHUB_DATABASE_URL=f"sqlite://{tmp_path}/typo.sqlite3")

    assert (done.returncode, list(tmp_path.iterdir())) == (Exit.NOT_READY, [])


def listing(home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """`aihub backup list` in a process of its own, with that home and the database that lies there, or is named."""
    words = command("backup", "list", "--home", str(home))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AIHUB_DATABASE_URL")}
    environment = {**clean, "DJANGO_SETTINGS_MODULE": "aihub_backup.settings", **more}
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, env=environment)
