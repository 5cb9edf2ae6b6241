"""`aihub doctor` finds what is wrong and says what to do."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections import namedtuple
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import timezone

from aihub_backup.cli import doctor, examinations, place
from aihub_backup.cli.examinations import Finding
from aihub_backup.cli.exits import CommandFailed, Exit
from aihub_backup.core.audit import SYSTEM
from aihub_backup.core.models import Job, Node
from backups.models import ScheduleSlot
from backups.services import schedules
from tests.cli.console import command

Usage = namedtuple("Usage", "total used free")


def of(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.id == name)


def test_it_finds_a_fresh_home_not_ready_and_says_how_to_begin(tmp_path: Path) -> None:
    home = tmp_path / "home"

    done = subprocess.run(command("doctor", "--home", str(home)), capture_output=True, text=True, check=False)

    assert done.returncode == Exit.NOT_READY
    assert f"{home} is not set up yet → ./aihub up makes it" in done.stdout


@pytest.mark.parametrize("there", [True, False])
def test_looking_makes_nothing(tmp_path: Path, there: bool) -> None:
    home, scratch = tmp_path / "home", tmp_path / "scratch"
    scratch.mkdir()
    if there:
        home.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}

    subprocess.run(command("doctor", "--home", str(home)), capture_output=True, check=False, env=environment)

    assert sorted(tmp_path.rglob("*")) == ([home, scratch] if there else [scratch])


def test_it_finds_a_database_that_was_never_brought_up(tmp_path: Path) -> None:
    (tmp_path / "console.sqlite3").touch()

    done = subprocess.run(command("doctor", "--home", str(tmp_path)), capture_output=True, text=True, check=False)

    assert done.returncode == Exit.FAILED
    assert "migrations are waiting → aihub up" in done.stdout
    assert "no `aihub up` serves this home" in done.stdout


def test_it_tells_a_wrong_setting_as_a_finding(tmp_path: Path) -> None:
    environment = {**os.environ, "AIHUB_HOME": str(tmp_path), "AIHUB_PUBLIC_URL": "nonsense"}

    done = subprocess.run(command("doctor", "--json"), capture_output=True, text=True, check=False, env=environment)

    findings = json.loads(done.stdout)["findings"]
    assert done.returncode == Exit.FAILED
    assert findings[-1]["id"] == "settings"
    assert "AIHUB_PUBLIC_URL must be http(s)://host" in findings[-1]["text"]


def test_it_finds_keys_that_others_can_read(tmp_path: Path) -> None:
    key = tmp_path / "app_keys"
    key.touch(mode=0o644)
    key.chmod(0o644)

    finding = examinations._permissions("keys", key, 0o600)

    assert (finding.state, finding.cure) == ("fail", f"chmod 600 {key}")


@pytest.mark.parametrize(("free", "state"), [(10**12, "ok"), (10**9, "warn"), (10**7, "fail")])
def test_it_looks_at_the_space_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, state: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, free))

    assert examinations._space(tmp_path).state == state


def test_it_tells_an_error_of_a_service_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> None:
        raise ConnectionError("amqp://guest:opensesame@rabbit refused\nand more")

    (finding,) = examinations._guarded("broker", look)  # type: ignore[arg-type]  # it ends before it yields

    assert (finding.id, finding.state) == ("broker", "fail")
    assert "refused" in finding.text
    assert "opensesame" not in finding.text


@pytest.mark.django_db
def test_it_looks_at_workers_and_jobs() -> None:
    Node.objects.create(name="silent", seen_at=timezone.now() - timedelta(hours=1))
    Node.objects.create(name="lively", seen_at=timezone.now())
    Job.objects.create(kind="x", queue="backup", created_at=timezone.now() - timedelta(hours=1))

    workers = {finding.text.split()[0]: finding.state for finding in examinations._workers()}
    (jobs,) = examinations._jobs()

    assert workers == {"silent": "warn", "lively": "ok"}
    assert (jobs.state, jobs.text) == ("warn", "1 queued, 0 running, 0 committing")


@pytest.mark.django_db
def test_it_tells_of_a_schedule_that_missed_its_last_moment() -> None:
    why = "There is no repository yet; create one before the first backup."
    missed, fine = (schedules.create(name, "files", "0 2 * * *", by=SYSTEM) for name in ("nightly", "weekly"))
    ScheduleSlot.objects.create(schedule=missed, due_at=timezone.now(), state="missed", note=why)
    ScheduleSlot.objects.create(schedule=fine, due_at=timezone.now(), state="run")

    (finding,) = examinations._schedules()

    assert (finding.state, "“nightly”" in finding.text, why in finding.text) == ("warn", True, True)
    assert "schedule run nightly" in finding.cure


@pytest.mark.django_db
def test_it_says_that_nothing_ran_yet() -> None:
    (workers,), (scheduler,) = list(examinations._workers()), list(examinations._scheduler())

    assert workers.text == "no worker has ever shown itself"
    assert scheduler.text == "ran something never"


@pytest.mark.django_db
@pytest.mark.parametrize(("age", "told"), [(5, "has just started"), (300, "was seen|ever|never")])
def test_in_the_first_minutes_it_asks_to_look_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, told: str
) -> None:
    monkeypatch.setattr(settings, "AIHUB_HOME", tmp_path)
    with place.only_one(tmp_path):
        os.utime(tmp_path / "up.lock", (time.time() - age, time.time() - age))

        found = [*examinations._scheduler(), *examinations._workers()]

    assert all(re.search(told, finding.text) for finding in found), found
    assert all((finding.cure == "look again in a minute") == (age < 120) for finding in found)


@pytest.mark.parametrize(("minutes", "told"), [(0, "0 minutes old"), (119, "119 minutes old"), (180, "3 hours old")])
def test_it_tells_an_age_in_a_unit_that_says_something(minutes: int, told: str) -> None:
    assert examinations._hours(timezone.now() - timedelta(minutes=minutes)) == told


@pytest.mark.django_db
def test_it_looks_at_database_cache_and_broker() -> None:
    found = [*examinations._database(), *examinations._cache(), *examinations._broker()]

    assert {finding.id for finding in found} >= {"database", "cache", "broker"}
    assert {finding.state for finding in found if finding.id != "durability"} == {"ok"}


def test_it_names_the_process_that_serves_a_home(tmp_path: Path) -> None:
    before = place.owner(tmp_path)

    with place.only_one(tmp_path):
        finding = examinations._supervisor(tmp_path)
        with pytest.raises(CommandFailed, match="already served by another"), place.only_one(tmp_path):
            pass

    assert before is None
    assert finding == Finding("console", "ok", f"`aihub up` runs as process {os.getpid()}")
    assert place.owner(tmp_path) is None


def test_it_ends_with_the_worst_state() -> None:
    findings = [Finding("a", "ok", ""), Finding("b", "warn", "")]

    assert doctor._worst(findings) == "warn"
    assert doctor._worst([*findings, Finding("c", "fail", "")]) == "fail"
    assert doctor._worst(findings[:1]) == "ok"


def test_it_is_quick_where_settings_are_there_already() -> None:
    begin = time.monotonic()

    findings = list(examinations.of_the_home(settings))

    assert of(findings, "space")
    assert time.monotonic() - begin < 1
