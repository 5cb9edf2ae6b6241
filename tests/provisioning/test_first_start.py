"""The variables of the first start: what they make, once, and what they are told when they make no sense."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from secrets import token_hex

import pytest

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure, Invalid
from aihub_backup.core.models import AuditEvent, Environment
from aihub_backup.provisioning import environment, first_start
from aihub_backup.provisioning.making import Outcome
from backups.engine import console as engine_console
from backups.models import OwnProtection, Repository, Schedule, Storage
from backups.services import console, protection, repositories, schedules, sealing, sources, storages
from disaster.models import DRConfig
from disaster.services import objectives
from tests.backups.stories import opened, part_of, work
from tests.servers.s3 import OWNER, S3Server

OLIVIA = Actor(None, "olivia", "user")


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*os.environ,):
        if name.startswith(("BACKUP_", "DR_", "DISASTER_")):
            monkeypatch.delenv(name)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Variables of the whole product on local disks."""
    given = {
        "BACKUP_STORAGE_TYPE": "local", "BACKUP_SCHEDULE_ENABLED": "true", "BACKUP_SCHEDULE_CRON": "30 3 * * *",
        "BACKUP_RETENTION_DAYS": "14", "DISASTER_RECOVERY_ENABLED": "true", "DR_AUTO_RECOVERY": "false",
        "DR_RPO_MINUTES": "15", "DR_RTO_MINUTES": "90",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


def start(home: Path) -> Outcome:
    wishes = environment.wishes(home)
    assert wishes.refusals == []
    return first_start.provision(wishes, home=home)


def refusals(monkeypatch: pytest.MonkeyPatch, **given: str) -> list[str]:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return environment.wishes(Path("/home")).refusals


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("env")
def test_it_makes_the_first_of_everything(tmp_path: Path) -> None:
    outcome = start(tmp_path)

    repository, objectives = Repository.objects.get(), DRConfig.objects.get()
    schedule = Schedule.objects.get(own_protection=None)
    assert outcome.refused == []
    assert (repository.storage.kind, repository.storage.options) == ("local", {"path": str(tmp_path / "backups")})
    assert (schedule.type, schedule.cron_expression, schedule.enabled) == ("full", "30 3 * * *", True)
    assert schedule.policy is not None and schedule.policy.retention_days == 14
    assert (objectives.rpo_minutes, objectives.rto_minutes, objectives.auto_recovery) == (15, 90, False)
    events = AuditEvent.objects.filter(actor_name="environment").values_list("action", flat=True)
    assert {"storage.create", "repository.create", "schedule.create", "disaster.objectives.create"} <= set(events)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("env")
def test_its_recovery_kit_is_a_private_file_that_proves_the_repository(tmp_path: Path) -> None:
    outcome = start(tmp_path)

    kit = Path(outcome.kit_file)
    assert kit == tmp_path / "recovery-kit.txt"
    assert kit.stat().st_mode & 0o777 == 0o600
    assert repositories.prove_kit(Repository.objects.get(), code_in(kit), by=OLIVIA).kit_proven_at


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("env")
def test_a_schedule_backs_the_console_up_without_a_click(tmp_path: Path) -> None:
    outcome = start(tmp_path)
    work()

    made = schedules.run_now(Schedule.objects.get(name="everything"), by=OLIVIA)
    work()
    part = part_of(made)
    assert (part.source.name, part.stored) == ("console", True)
    assert dict(engine_console.read(opened(part.repository)).files) == sealing.in_use()
    assert any(sentence.startswith("the source “console”,") for sentence in outcome.made)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("env")
def test_the_console_is_backed_up_before_the_first_night(tmp_path: Path) -> None:
    start(tmp_path)
    work()

    source = OwnProtection.objects.get().source
    assert protection.evaluate([source])[source.pk].standing == "warning"  # the kit was waived, nothing else is amiss
    assert source.parts.count() == 1

    start(tmp_path)
    work()

    assert source.parts.count() == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("env")
def test_the_command_that_proves_a_kit_can_be_copied(tmp_path: Path) -> None:
    start(tmp_path)
    Repository.objects.update(name="main 2")

    outcome = start(tmp_path)

    assert "prove it with aihub repository prove 'main 2'. Without" in outcome.warnings[0]


@pytest.mark.parametrize("minutes", [0, 10_000_001, 9 * 10**18])
def test_a_target_out_of_bounds_is_refused(minutes: int) -> None:
    with pytest.raises(Invalid, match="rto_minutes must be from 1 to 10000000 minutes; it is"):
        objectives.check(60, minutes)


@pytest.mark.django_db
def test_a_target_from_before_the_bound_does_not_bring_the_lists_down(environment: Environment) -> None:
    DRConfig.objects.create(environment=environment, rpo_minutes=2**31 - 1)

    assert objectives.rpo() == {environment.pk: timedelta(minutes=10_000_000)}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("env")
def test_it_takes_what_people_add_instead_of_the_console_alone(tmp_path: Path) -> None:
    start(tmp_path)
    (tmp_path / "data").mkdir()
    docs = sources.create("docs", "files", {"paths": [str(tmp_path / "data")]}, by=OLIVIA)

    made = schedules.run_now(Schedule.objects.get(name="everything"), by=OLIVIA)

    assert part_of(made).source == docs


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("env")
def test_every_start_warns_until_the_kit_is_proved(tmp_path: Path) -> None:
    first, second = start(tmp_path), start(tmp_path)
    repositories.prove_kit(Repository.objects.get(), code_in(tmp_path / "recovery-kit.txt"), by=OLIVIA)

    third = start(tmp_path)

    (sentence,) = first.warnings
    assert f"recovery kit of “main”. It lies in {tmp_path / 'recovery-kit.txt'}: print it" in sentence
    assert (second.warnings, third.warnings) == ([sentence], [])
    assert code_in(tmp_path / "recovery-kit.txt") not in sentence


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("env")
def test_who_wants_the_kit_proved_first_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BACKUP_WAIVE_KIT", "false")

    outcome = start(tmp_path)

    assert not Repository.objects.get().kit_settled
    assert not OwnProtection.objects.exists()
    assert any("no backup yet: prove first" in sentence for sentence in outcome.made)
    assert outcome.warnings == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("env")
def test_a_start_that_was_cut_off_before_the_console_was_protected_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(console, "protect", _no_answer)
        first = start(tmp_path)

    second = start(tmp_path)

    assert first.refused == ["The place does not answer."]
    assert second.refused == []
    assert OwnProtection.objects.get().repository == Repository.objects.get()


def _no_answer(*_: object, **__: object) -> None:
    raise Failure("The place does not answer.", permanent=False)


def code_in(kit: Path) -> str:
    return next(line.split()[-1] for line in kit.read_text().splitlines() if line.startswith("Recovery code"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("env")
def test_another_start_changes_nothing_and_brings_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(tmp_path)
    storages.update(Storage.objects.get(), by=OLIVIA, name="the big disk")
    schedules.delete(Schedule.objects.get(own_protection=None), by=OLIVIA, confirm=True)
    DRConfig.objects.update(rpo_minutes=5)
    monkeypatch.setenv("DR_RPO_MINUTES", "1000")
    monkeypatch.setenv("BACKUP_LOCAL_PATH", str(tmp_path / "elsewhere"))

    outcome = start(tmp_path)

    assert (outcome.made, outcome.refused, outcome.kit_file) == ([], [], "")
    assert (Storage.objects.get().name, Repository.objects.count()) == ("the big disk", 1)
    assert not Schedule.objects.filter(own_protection=None).exists()
    assert DRConfig.objects.get().rpo_minutes == 5


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("env")
def test_it_leaves_a_console_that_people_have_set_up_alone(tmp_path: Path) -> None:
    storages.create("mine", "local", {"path": str(tmp_path / "mine")}, by=OLIVIA, test=False)

    start(tmp_path)

    assert (Storage.objects.get().name, Repository.objects.count()) == ("mine", 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("env")
def test_it_tries_again_where_the_place_could_not_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BACKUP_LOCAL_PATH", str(tmp_path / "file/backups"))
    first = start(tmp_path)
    monkeypatch.setenv("BACKUP_LOCAL_PATH", str(tmp_path / "backups"))

    second = start(tmp_path)

    assert len(first.refused) == 1 and str(tmp_path / "file") in first.refused[0]
    assert Schedule.objects.exists()
    assert second.refused == []
    assert Repository.objects.get().kit_proven_at is None


@pytest.mark.django_db(transaction=True)
def test_it_reaches_a_bucket_and_waives_the_kit_when_told(
    tmp_path: Path, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text(OWNER[1])
    bucket = f"first-{token_hex(8)}"
    s3_server.client().create_bucket(Bucket=bucket)
    given = {
        "BACKUP_STORAGE_TYPE": "s3", "BACKUP_S3_ENDPOINT": s3_server.url, "BACKUP_S3_BUCKET": bucket,
        "BACKUP_S3_ACCESS_KEY": OWNER[0], "BACKUP_S3_SECRET_KEY_FILE": str(tmp_path / "secret"),
        "BACKUP_WAIVE_KIT": "true",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    outcome = start(tmp_path)

    assert outcome.refused == []
    assert Repository.objects.get().kit_settled
    assert Storage.objects.get().options["bucket"] == bucket
    assert OWNER[1] not in "".join(map(str, AuditEvent.objects.values_list("facts", flat=True)))


def test_nothing_is_asked_for_where_nothing_is_set() -> None:
    wishes = environment.wishes(Path("/home"))

    assert (wishes.place, wishes.rhythm, wishes.objectives, wishes.refusals) == (None, None, None, [])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"BACKUP_SCHEDULE_CRON": "0 5 * * *"}, ("0 5 * * *", 30)),
        ({"BACKUP_RETENTION_DAYS": "7"}, ("0 2 * * *", 7)),
        ({"BACKUP_SCHEDULE_ENABLED": "true"}, ("0 2 * * *", 30)),
    ],
)
def test_one_of_the_schedule_s_variables_is_enough(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: tuple[str, int]
) -> None:
    assert refusals(monkeypatch, **given) == []
    rhythm = environment.wishes(Path("/home")).rhythm
    assert rhythm is not None
    assert (rhythm.cron_expression, rhythm.retention_days) == expected


def test_a_schedule_that_is_switched_off_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusals(monkeypatch, BACKUP_SCHEDULE_CRON="0 5 * * *", BACKUP_SCHEDULE_ENABLED="false") == []
    assert environment.wishes(Path("/home")).rhythm is None


def test_the_general_address_of_aws_means_the_bucket_s_own_region(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"BACKUP_STORAGE_TYPE": "s3", "BACKUP_S3_BUCKET": "aihub-backups"}

    assert refusals(monkeypatch, BACKUP_S3_ENDPOINT="https://s3.amazonaws.com", **given) == []
    place = environment.wishes(Path("/home")).place
    assert place is not None and "endpoint_url" not in place.options


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"BACKUP_STORAGE_TYPE": "ftp"}, "which comes with the FTP storage; use local or s3 until then."),
        ({"BACKUP_STORAGE_TYPE": "tape"}, "BACKUP_STORAGE_TYPE must be local or s3; it is 'tape'."),
        ({"BACKUP_STORAGE_TYPE": "s3"}, "BACKUP_S3_BUCKET is not set; name the bucket"),
        ({"BACKUP_S3_BUCKET": "b"}, "BACKUP_STORAGE_TYPE is not; set BACKUP_STORAGE_TYPE=s3."),
        ({"BACKUP_LOCAL_PATH": "/b"}, "BACKUP_STORAGE_TYPE is not; set BACKUP_STORAGE_TYPE=local."),
        ({"BACKUP_STORAGE_TYPE": "local", "BACKUP_LOCAL_PATH": "b"}, "BACKUP_LOCAL_PATH: This must be an absolute"),
        ({"BACKUP_SCHEDULE_ENABLED": "perhaps"}, "BACKUP_SCHEDULE_ENABLED must be true or false; it is 'perhaps'."),
        ({"BACKUP_SCHEDULE_CRON": "at two"}, "BACKUP_SCHEDULE_CRON: A cron expression has five fields"),
        ({"BACKUP_RETENTION_DAYS": "0"}, "BACKUP_RETENTION_DAYS must be at least 1; it is 0."),
        ({"DISASTER_RECOVERY_ENABLED": "x"}, "DISASTER_RECOVERY_ENABLED must be true or false"),
        ({"DR_AUTO_RECOVERY": "x"}, "DR_AUTO_RECOVERY must be true or false"),
        ({"DR_RPO_MINUTES": "soon"}, "DR_RPO_MINUTES must be a whole number; it is 'soon'."),
        ({"DR_RTO_MINUTES": "0"}, "DR_RTO_MINUTES must be at least 1; it is 0."),
        ({"DR_RPO_MINUTES": "9000000000000000000"}, "DR_RPO_MINUTES must be at most 10000000; it is 90"),
        ({"DR_RTO_MINUTES": "10000001"}, "DR_RTO_MINUTES must be at most 10000000; it is 10000001."),
        ({"BACKUP_WAIVE_KIT": "x"}, "BACKUP_WAIVE_KIT must be true or false"),
    ],
)
def test_a_bad_value_is_one_sentence_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], sentence: str
) -> None:
    found = refusals(monkeypatch, **given)

    assert len(found) == 1
    assert sentence in found[0]


def test_half_a_key_is_told_by_the_names_of_the_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"BACKUP_STORAGE_TYPE": "s3", "BACKUP_S3_BUCKET": "aihub-backups", "BACKUP_S3_SECRET_KEY": "tigerlily"}

    (sentence,) = refusals(monkeypatch, **given)

    assert sentence.startswith("BACKUP_S3_ACCESS_KEY: The access key and the secret key go together")
    assert "tigerlily" not in sentence


def test_all_bad_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(refusals(monkeypatch, BACKUP_STORAGE_TYPE="tape", DR_RPO_MINUTES="x", DR_RTO_MINUTES="y")) == 3
