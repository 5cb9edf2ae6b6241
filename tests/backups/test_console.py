"""The console protects itself: its database is a source like others, its keys lie sealed beside the backups."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from aihub_backup.cli import examinations
from aihub_backup.core import keys
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Refused
from aihub_backup.core.models import Job
from backups.engine import console as engine_console
from backups.engine.keys import new_recovery_code
from backups.models import (
    BackupPart,
    BackupState,
    OwnProtection,
    Repository,
    RepositoryState,
    Schedule,
    Source,
    Storage,
)
from backups.services import backups, console, protection, repositories, schedules, sealing, sources, storages
from backups.services.recovery_kits import RecoveryKit
from tests.backups.stories import back_up, deeds, opened, part_of, ready, work
from tests.cli.console import command
from tests.surroundings import of_this_database


def sealed(repository: Repository) -> dict[str, bytes]:
    """The keys as whoever opens the repository finds them."""
    return dict(engine_console.read(opened(repository)).files)


def told_by_the_doctor() -> dict[str, str]:
    """Id → state."""
    return {finding.id: finding.state for finding in examinations._own()}


def test_the_proof_of_the_first_kit_protects_the_console(own: OwnProtection) -> None:
    assert own.source.repository == own.repository
    assert list(own.schedule.sources.all()) == [own.source]
    assert (own.schedule.cron_expression, own.schedule.enabled) == ("15 3 * * *", True)
    assert sealed(own.repository) == sealing.in_use()
    assert keys.parse_ring(sealed(own.repository)["app_keys"].decode()) == settings.AIHUB_APP_KEYS
    assert {"console.protect", "console.keys.seal"} <= set(deeds())


def test_its_first_backup_is_not_left_to_the_night(kit: RecoveryKit, by: Actor) -> None:
    repositories.prove_kit(kit.repository, kit.code, by=by)

    work()

    source = OwnProtection.objects.get().source
    assert protection.evaluate([source])[source.pk].standing == protection.Standing.PROTECTED
    assert deeds().count("backup.request") == 1


def test_it_happens_once(own: OwnProtection, kit: RecoveryKit, by: Actor, tmp_path: Path) -> None:
    second = storages.create("second", "local", {"path": str(tmp_path / "second")}, by=by, test=False)
    other = repositories.create("other", second, by=by)

    repositories.prove_kit(other.repository, other.code, by=by)
    repositories.prove_kit(kit.repository, kit.code, by=by)

    assert work() == 0
    assert Source.objects.count() == Schedule.objects.count() == 1


def test_its_source_is_this_very_database_and_shows_no_secret(own: OwnProtection) -> None:
    password = str(connection.settings_dict["PASSWORD"] or "")

    assert own.source.kind == connection.vendor
    assert str(connection.settings_dict["NAME"]) in map(str, own.source.options.values())
    assert "password" not in own.source.options
    assert not password or own.source.secrets["password"] == password


def test_it_is_backed_up_and_verified_on_demand(own: OwnProtection, by: Actor) -> None:
    before = told_by_the_doctor()

    made = back_up(own.source, by)

    assert made.state == BackupState.COMPLETED
    assert protection.evaluate([own.source])[own.source.pk].standing == protection.Standing.PROTECTED
    assert part_of(made).verifications.get().state == "passed"
    assert before == {"own database": "warn", "own keys": "ok"}
    assert told_by_the_doctor() == {"own database": "ok", "own keys": "ok"}


def test_runs_that_name_no_sources_leave_it_out(own: OwnProtection, data: Path, by: Actor) -> None:
    with pytest.raises(Refused, match="No enabled source"):
        backups.request("full", by=by)
    docs = sources.create("docs", "files", {"paths": [str(data)]}, by=by, test=False)

    made = backups.request("full", by=by)

    assert [part.source for part in made.parts.all()] == [docs]


def test_the_doctor_tells_whose_kit_nobody_has_proved(kit: RecoveryKit, by: Actor) -> None:
    (before,) = examinations._kits()
    repositories.waive_kit(kit.repository, reason="a test", by=by)
    (waived,) = examinations._kits()
    repositories.prove_kit(kit.repository, kit.code, by=by)
    (after,) = examinations._kits()

    assert (before.state, before.text) == ("warn", "nobody has proved the recovery kit of “main”")
    assert before.cure == "print it, keep it elsewhere: aihub repository prove main"
    assert (waived.state, after.state) == ("warn", "ok")


@pytest.mark.parametrize(("state", "cure"), [
    ("taken_over", "aihub repository adopt main --storage disk --take-over"), ("tampered", "/accept-history"),
])  # fmt: skip
def test_the_doctor_tells_of_a_repository_that_is_not_written_any_more(
    repository: Repository, state: str, cure: str
) -> None:
    (before,) = examinations._repositories()
    Repository.objects.update(state=state)

    (found,) = examinations._LOOKS["repositories"]()

    assert (before.state, found.state) == ("ok", "fail")
    assert "“main”: nothing is backed up into it" in found.text and cure in found.cure


def test_a_schedule_of_everything_takes_it_where_there_is_nothing_else(
    own: OwnProtection, data: Path, by: Actor
) -> None:
    everything = schedules.create("everything", "full", "0 2 * * *", by=by)
    files = schedules.create("files", "files", "0 2 * * *", by=by)

    alone = schedules.run_now(everything, by=by)
    with pytest.raises(Refused, match="No enabled source of the strategy “files”"):
        schedules.run_now(files, by=by)
    docs = sources.create("docs", "files", {"paths": [str(data)]}, by=by, test=False)
    sources.pause(docs, by=by)
    with pytest.raises(Refused, match="add one, or resume a paused one"):
        schedules.run_now(everything, by=by)

    assert part_of(alone).source == own.source


def test_its_schedule_backs_it_up(own: OwnProtection, by: Actor) -> None:
    made = schedules.run_now(own.schedule, by=by)

    work()

    assert part_of(made).source == own.source
    assert part_of(made).stored


def test_it_cannot_be_taken_away(own: OwnProtection, by: Actor) -> None:
    with pytest.raises(Refused, match="the database of this console"):
        sources.archive(own.source, by=by)
    with pytest.raises(Refused, match="backs the console itself up"):
        schedules.delete(own.schedule, by=by, confirm=True)

    sources.pause(own.source, by=by)
    schedules.disable(own.schedule, by=by, reason="a long migration")

    assert OwnProtection.objects.filter(source__archived_at=None).exists()


def test_changed_keys_are_sealed_by_the_next_backup(
    own: OwnProtection, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "SECRET_KEY_FALLBACKS", [settings.SECRET_KEY])
    monkeypatch.setattr(settings, "SECRET_KEY", "a new key that signs the cookies from now on")
    assert told_by_the_doctor()["own keys"] == "warn"

    back_up(own.source, by)

    assert sealed(own.repository)["secret_key"] == b"a new key that signs the cookies from now on\n"
    assert told_by_the_doctor()["own keys"] == "ok"


def test_unchanged_keys_are_sealed_once(own: OwnProtection, by: Actor) -> None:
    first = own.keys_record

    back_up(own.source, by)

    own.refresh_from_db()
    assert own.keys_record == first
    assert deeds().count("console.keys.seal") == 1


def test_the_keys_stand_nowhere_in_the_clear(own: OwnProtection, by: Actor, home: Path) -> None:
    back_up(own.source, by)
    ours = [base64_of for _, _, base64_of in (part.partition(":") for part in keys.written(_ring()).split(","))]
    places = [Path(own.repository.storage.options["path"]), home / "cache", home / "log", home / "work"]

    stored = b"".join(path.read_bytes() for place in places for path in place.rglob("*") if path.is_file())

    told = json.dumps([[str(job.progress), job.error_message] for job in Job.objects.all()])
    assert not [key for key in (*ours, settings.SECRET_KEY) if key.encode() in stored or key in told]


def test_a_waived_kit_protects_the_console_like_a_proven_one(kit: RecoveryKit, by: Actor) -> None:
    repositories.waive_kit(kit.repository, reason="a test machine", by=by)

    work()

    source = OwnProtection.objects.get().source
    assert sealed(kit.repository) == sealing.in_use()
    assert protection.evaluate([source])[source.pk].standing == protection.Standing.WARNING  # for want of a proven kit
    assert deeds().count("backup.request") == 1


def test_a_kit_that_is_waived_at_birth_protects_the_console_too(storage: Storage, by: Actor) -> None:
    kit = repositories.create("main", storage, by=by, waive_kit=True)

    work()

    assert OwnProtection.objects.get().repository == kit.repository
    assert BackupPart.objects.get().stored


def test_where_nothing_protects_the_console_the_doctor_says_how(repository: Repository, by: Actor) -> None:
    (finding,) = examinations._own()
    assert (finding.state, finding.cure) == ("warn", "aihub source console")

    console.protect(repository, by=by)

    assert told_by_the_doctor() == {"own database": "warn", "own keys": "ok"}


def test_it_moves_to_another_repository(own: OwnProtection, by: Actor, tmp_path: Path) -> None:
    place = storages.create("second", "local", {"path": str(tmp_path / "second")}, by=by, test=False)
    other = ready("other", place, by=by).repository

    moved = console.protect(other, by=by)

    assert (moved.pk, moved.repository, moved.source.repository) == (own.pk, other, other)
    assert sealed(other) == sealing.in_use()
    assert Source.objects.count() == 1


def test_nothing_is_sealed_in_a_tampered_repository(own: OwnProtection, by: Actor) -> None:
    Repository.objects.update(state=RepositoryState.TAMPERED)
    own.repository.refresh_from_db()

    with pytest.raises(Refused, match="nothing is written to it"):
        console.protect(own.repository, by=by)


def test_a_lost_console_comes_back_with_the_recovery_code_alone(
    own: OwnProtection, kit: RecoveryKit, data: Path, by: Actor, tmp_path: Path
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("an embedded console is lost and found here; a server's dump comes back like any other database")
    docs = sources.create("docs", "files", {"paths": [str(data)]}, by=by, test=False)
    made = backups.request("files", by=by, sources=[docs])
    work()
    kept = part_of(back_up(own.source, by))
    place, home = Path(own.repository.storage.options["path"]), tmp_path / "home"

    wrong = _engine(place, new_recovery_code(), "keys", place, "--to", home / "keys")
    database = _engine(place, kit.code, "restore", place, "--snapshot", kept.snapshot_id, "--target", home)
    found = _engine(place, kit.code, "keys", place, "--to", home / "keys")
    (home / Path(str(connection.settings_dict["NAME"])).name).rename(home / "console.sqlite3")

    assert (wrong.returncode, database.returncode, found.returncode) == (7, 0, 0)
    assert not wrong.stdout
    listed = json.loads(_aihub(home, "backup", "list").stdout)
    assert {str(made.pk)} <= {row["id"] for row in listed}
    again = json.loads(_aihub(home, "source", "console").stdout)  # opens the repository with what the database seals
    assert again == {"source": "console", "schedule": "console", "repository": "main"}
    back = _aihub(home, "source", "list").stdout
    assert {row["name"] for row in json.loads(back)} == {"console", "docs"}


def _ring() -> keys.KeyRing:
    ring: keys.KeyRing = settings.AIHUB_APP_KEYS
    return ring


def _engine(place: Path, code: str, *words: object) -> subprocess.CompletedProcess[str]:
    """The engine's command line on a host that has nothing but the repository and the printed code."""
    environment = {"AIHUB_RECOVERY_CODE": code, "AIHUB_CACHE_DIR": str(place.parent / "new cache"), "PATH": "/usr/bin"}
    return subprocess.run(
        command("engine", *map(str, words)), capture_output=True, text=True, check=False, env=environment
    )


def _aihub(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the console in the new home; it has no keys but those in it."""
    environment = {k: v for k, v in of_this_database().items() if not k.startswith(("AIHUB_", "DJANGO_"))}
    environment |= {"AIHUB_NODE": settings.AIHUB_NODE, "AIHUB_ENV_FILE": "/dev/null", "AIHUB_HOME": str(home)}
    return subprocess.run(command(*words, "--json"), capture_output=True, text=True, check=True, env=environment)
