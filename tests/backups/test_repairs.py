"""A damaged repository is looked at, repaired from a copy, checked again; its doors and what they refuse."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from aihub_backup.cli import parser, waiting
from aihub_backup.cli.exits import Exit
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Invalid, Refused
from aihub_backup.core.models import Node
from aihub_backup.core.models.job import JobState
from aihub_backup.core.roles import VIEWER
from backups.models import Backup, Repository, RepositoryState, Source, Storage, Verification, VerificationState
from backups.services import backups, protection, repairs, storages, verifications
from backups.services.protection import Standing
from tests.api.conftest import call
from tests.api.stories import Caller, is_problem
from tests.backups import stories
from tests.backups.test_verifications import packs, spoil

__all__ = ["call"]


@pytest.fixture
def backup(source: Source, data: Path, by: Actor) -> Backup:
    """One recovery point that a check has passed, with more data than names."""
    (data / "noise").write_bytes(os.urandom(300_000))
    backup = backups.request("files", by=by, verify=2)
    stories.work()
    return backups.get(backup.pk)


@pytest.fixture
def copy(backup: Backup, repository: Repository, tmp_path: Path, by: Actor) -> Storage:
    """Another disk with the same objects."""
    made = storages.create("offsite", "local", {"path": str(tmp_path / "offsite")}, by=by)
    shutil.copytree(repository.storage.options["path"], tmp_path / "offsite", dirs_exist_ok=True)
    return made


@pytest.fixture
def damaged(copy: Storage, backup: Backup, repository: Repository, source: Source, by: Actor) -> Repository:
    """Its largest pack is spoilt, and a check has found that."""
    spoil(packs(repository)[0])
    verifications.request(backup, level=2, by=by)
    stories.work()
    assert standing(source) == Standing.CRITICAL
    return repository


def standing(source: Source) -> str:
    source = Source.objects.select_related("policy").get(pk=source.pk)
    return protection.evaluate([source])[source.pk].standing


def test_a_preview_tells_and_writes_nothing(damaged: Repository, copy: Storage, by: Actor) -> None:
    before = stories.files(Path(damaged.storage.options["path"]))

    asked = repairs.request(damaged, by=by, copies=[copy], preview=True)
    stories.work()

    asked.refresh_from_db()
    (deed,) = asked.found["deeds"]
    assert (deed["what"], deed["object"][:6], asked.found["bytes"]) == ("replaced", "packs/", deed["bytes"])
    assert stories.files(Path(damaged.storage.options["path"])) == before
    assert stories.deeds()[-1] == "repository.repair.preview"


def test_a_repair_from_a_copy_brings_the_verdict_back(
    damaged: Repository, copy: Storage, source: Source, backup: Backup, data: Path, by: Actor, tmp_path: Path
) -> None:
    repairs.request(damaged, by=by, copies=[copy], reason="the disk")
    stories.work()

    part = stories.part_of(backup)
    newest = verifications.latest(part)
    assert newest is not None
    assert (newest.state, newest.level) == (VerificationState.PASSED, 2)
    assert standing(source) == Standing.WARNING  # only because nobody proved the kit
    assert stories.restored(part, data, tmp_path / "back") == stories.files(data)
    assert verifications.damaged_packs(damaged) == []
    assert {"repository.repair", "repository.repaired"} <= set(stories.deeds())


def test_what_no_copy_has_stays_damaged_and_is_told(damaged: Repository, source: Source, by: Actor) -> None:
    asked = repairs.request(damaged, by=by)
    stories.work()

    asked.refresh_from_db()
    asked.job.refresh_from_db()
    assert asked.job.error_message == ""
    (loss,) = asked.found["problems"]
    assert asked.found["deeds_count"] == 0
    assert any(path.endswith("noise") for path in loss["paths"])
    assert verifications.damaged_packs(damaged) == [loss["object"].rpartition("/")[2]]
    assert standing(source) == Standing.CRITICAL


def test_only_one_repair_goes_on_and_it_can_be_ended(damaged: Repository, by: Actor) -> None:
    asked = repairs.request(damaged, by=by)
    with pytest.raises(Refused, match="being repaired already"):
        repairs.request(damaged, by=by, preview=True)

    repairs.cancel(damaged, by=by)

    asked.job.refresh_from_db()
    assert asked.job.state == JobState.CANCELLED
    with pytest.raises(Refused, match="not being repaired now"):
        repairs.cancel(damaged, by=by)


def test_what_cannot_be_a_copy_is_refused(damaged: Repository, copy: Storage, by: Actor) -> None:
    with pytest.raises(Invalid, match="where the repository itself lies"):
        repairs.request(damaged, by=by, copies=[damaged.storage])
    Storage.objects.filter(pk=copy.pk).update(node=Node.objects.create(name="far-away"))
    copy.refresh_from_db()
    with pytest.raises(Refused, match="No host reaches all these places"):
        repairs.request(damaged, by=by, copies=[copy])


def test_another_repository_is_no_copy(damaged: Repository, by: Actor, tmp_path: Path) -> None:
    other = storages.create("other", "local", {"path": str(tmp_path / "other")}, by=by)
    stories_of_another(other, by)

    asked = repairs.request(damaged, by=by, copies=[other])
    stories.work()

    asked.job.refresh_from_db()
    assert (asked.job.state, asked.job.error_code) == (JobState.FAILED, "foreign-repository")
    assert "name a copy of this one" in asked.job.error_message
    assert "repository.repair.failed" in stories.deeds()


def stories_of_another(storage: Storage, by: Actor) -> None:
    stories.ready("second", storage, by=by)


def test_a_repository_of_another_console_is_left_to_it(damaged: Repository, by: Actor) -> None:
    damaged.move_to(RepositoryState.TAKEN_OVER)

    with pytest.raises(Refused, match="may only read it"):
        repairs.request(damaged, by=by)


def test_records_that_were_deleted_come_back(copy: Storage, repository: Repository, source: Source, by: Actor) -> None:
    """The history changed from outside; a copy still has it. An operator accepts it afterwards."""
    for record in Path(repository.storage.options["path"], "log").rglob("*-*"):
        record.unlink()
    verifications.request(backups.listing().get(), level=1, by=by)
    stories.work()
    repository.refresh_from_db()
    assert repository.state == RepositoryState.TAMPERED

    asked = repairs.request(repository, by=by, copies=[copy])
    stories.work()

    asked.refresh_from_db()
    assert (asked.found["problems_count"], len(asked.found["returned"])) == (0, 1)


# ------------------------------------------------------------------------- doors


def test_a_program_repairs_and_follows(call: Caller, damaged: Repository, copy: Storage) -> None:
    assert call.get("/repositories/main/repair")["status"] == "none"
    asked = call.post("/repositories/main/repair", {"copies": ["offsite"], "preview": True})
    assert (asked.status, asked["status"], asked["preview"]) == (202, "queued", True)
    assert is_problem(call.post("/repositories/main/repair", {}), 409, "state-conflict")
    assert is_problem(call.post("/repositories/main/repair", {"copies": ["nowhere"]}), 400, "validation-error")
    stories.work()
    assert call.get(asked.headers["Location"])["deeds_count"] == 1

    call.post("/repositories/main/repair", {"copies": ["offsite"]})
    stories.work()

    answer = call.get(asked.headers["Location"])
    assert (answer["status"], answer["deeds_count"], answer["problems"], answer["set_aside"]) == ("completed", 1, [], 1)
    assert answer["copies"][0]["name"] == "offsite"
    assert is_problem(call.post("/repositories/main/repair/cancel"), 409, "not-cancellable")


def test_names_of_files_are_for_who_may_browse(
    damaged: Repository, source: Source, by: Actor, client: Client, django_user_model: Any
) -> None:
    """Checks hide them from the same people."""
    viewer = django_user_model.objects.create_user("vera", password="x", is_staff=True)
    viewer.groups.add(Group.objects.get(name=VIEWER))
    repairs.request(damaged, by=by, copies=[])
    stories.work()
    client.force_login(viewer)

    losses = client.get(f"/api/v1/backup/repositories/{damaged.pk}/repair").json()["problems"]

    assert losses
    assert all(loss["paths"] == [] and loss["paths_count"] for loss in losses)


def test_a_person_at_the_terminal_repairs(
    damaged: Repository, copy: Storage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "until_ended", lambda what, look, timeout: (stories.work(), look()))
    home = ["--home", str(settings.AIHUB_HOME)]
    words = ["repository", "repair", "main", "--wait"]

    codes = [parser.main([*words, *home]), parser.main([*words, "--from", "offsite", "--preview", *home])]
    codes += [parser.main([*words, "--from", "offsite", "--json", *home])]

    told = capsys.readouterr()
    assert codes == [Exit.DAMAGED, Exit.OK, Exit.OK]
    assert "0 objects were healed, 0 B from copies; 1 cannot be" in told.out
    assert "1 objects would be healed" in told.out
    assert "lost: packs/" in told.err
    assert json.loads(told.out.splitlines()[-1])["deeds_count"] == 1
    assert Verification.objects.filter(state=VerificationState.PASSED).exists()


def test_a_person_looks_first_and_repairs_then(
    damaged: Repository, copy: Storage, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    button = reverse("admin:backups_repository_do", args=[damaged.pk, "repair"])
    page = admin_client.post(button, follow=True)
    address = page.redirect_chain[-1][0]
    assert "Repair now" not in page.content.decode()

    admin_client.post(address, {"deed": "preview", "copies": [str(copy.pk)]})
    assert "hx-get" in admin_client.get(address).content.decode()
    stories.work()
    told = admin_client.get(address).content.decode()
    assert "What a repair would do" in told
    assert "would be replaced from a copy; its wrong bytes are kept" in told
    assert "Repair now" in told
    admin_client.post(address, {"deed": "repair", "copies": [str(copy.pk)], "reason": "the disk"})
    stories.work()

    told = admin_client.get(address).content.decode()
    assert "What the repair did" in told
    assert "Repair now" not in told
    assert repairs.latest(damaged).found["problems_count"] == 0  # type: ignore[union-attr]


def test_what_is_lost_is_told_with_its_points(damaged: Repository, source: Source, admin_client: Client) -> None:
    address = reverse("admin:backups_repository_repair", args=[damaged.pk])
    admin_client.post(address, {"deed": "preview"})
    stories.work()

    told = admin_client.get(address).content.decode()

    assert "Lost, unless another copy has it" in told
    assert "docs" in told
    assert "The next backup of each source stores anew" in told


def test_a_repair_can_be_ended_on_its_page(damaged: Repository, admin_client: Client) -> None:
    address = reverse("admin:backups_repository_repair", args=[damaged.pk])
    admin_client.post(address, {"deed": "preview"})

    admin_client.post(address, {"deed": "cancel"})

    assert repairs.latest(damaged).job.state == JobState.CANCELLED  # type: ignore[union-attr]
    progress = admin_client.get(reverse("admin:backups_repository_repair_progress", args=[damaged.pk]))
    assert progress["HX-Refresh"] == "true"


def test_nobody_repairs_who_only_looks(damaged: Repository, client: Client, django_user_model: Any) -> None:
    looker = django_user_model.objects.create_user("looker", "l@example.org", "x", is_staff=True)
    looker.groups.add(Group.objects.get(name=VIEWER))
    client.force_login(looker)
    address = reverse("admin:backups_repository_repair", args=[damaged.pk])

    assert client.post(address, {"deed": "repair"}).status_code == 403
    assert "Repair now" not in client.get(address).content.decode()
    assert repairs.latest(damaged) is None
