"""Where a recovery may not write."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from django.conf import settings
from pytest_django.fixtures import Settings

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Refused
from aihub_backup.core.models import Job, Node
from backups.models import Backup, Storage
from recovery.models import Recovery, RecoveryState, TargetKind
from recovery.services import recoveries
from recovery.services.recoveries import Target
from tests.recovery.stories import asked, done


def refusal_of(by: Actor, backup: Backup, path: str | Path) -> Refused:
    """Why this target is refused; nothing may have been written then."""
    before = Job.objects.count()
    with pytest.raises(Refused) as refusal:
        recoveries.request("full", by=by, backup=backup, target=Target(path=str(path)), reason="INC-1")
    assert (Recovery.objects.count(), Job.objects.count()) == (0, before)
    return refusal.value


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("recovered/here", "must be absolute"),
        ("", "must be absolute"),
        ("/srv/../etc/x", "must not contain"),
        ("/srv/./x", "must not contain"),
        ("/", "directory of the system"),
        ("/home", "directory of the system"),
        ("/etc/nginx", "belongs to the operating system"),
        ("/proc/self/cwd", "belongs to the operating system"),
        ("/usr/local/x", "belongs to the operating system"),
        ("//dev///shm/x", "belongs to the operating system"),
        ("/var/spool/cron/crontabs", "belongs to the operating system"),
        ("/var/lib/docker/volumes/x", "belongs to the operating system"),
        ("/var/lib/systemd/x", "belongs to the operating system"),
        ("/snap/x", "belongs to the operating system"),
        (f"{settings.BASE_DIR}/backups/new", "the console's own program"),
        (f"{sys.prefix}/new", "the console's own program"),
        (str(settings.BASE_DIR), "the console's own program"),
        ("/srv/.aihub-recovery-x", "as unfinished work does"),
        ("/root/.ssh", "hidden in a home directory"),
        ("/home/olivia/.config/autostart", "hidden in a home directory"),
        ("/srv/" + "x" * 300, "longer than file systems allow"),
        ("/srv/" + "x/" * 2500, "longer than file systems allow"),
    ],
)
def test_it_refuses_what_is_no_place_for_data(backup: Backup, by: Actor, path: str, sentence: str) -> None:
    refusal = refusal_of(by, backup, path)

    assert sentence in refusal.message
    assert refusal.code == "target-incompatible"


def test_it_refuses_the_source_itself(backup: Backup, data: Path, by: Actor) -> None:
    assert "lies in the source “docs” itself" in refusal_of(by, backup, data).message


def test_it_refuses_a_place_inside_of_the_source(backup: Backup, data: Path, by: Actor) -> None:
    assert "lies in the source “docs” itself" in refusal_of(by, backup, data / "new").message


def test_it_refuses_the_repositorys_own_directory(backup: Backup, storage: Storage, by: Actor) -> None:
    place = storage.options["path"]

    assert "overlaps with the storage “disk”" in refusal_of(by, backup, f"{place}/x").message
    assert "overlaps with the storage “disk”" in refusal_of(by, backup, os.path.dirname(place)).message


def test_it_refuses_the_consoles_own_directory(backup: Backup, by: Actor) -> None:
    assert "the console's own directory" in refusal_of(by, backup, settings.AIHUB_HOME / "x").message
    assert "the console's own directory" in refusal_of(by, backup, settings.AIHUB_HOME).message


def test_it_follows_links_before_it_judges(backup: Backup, data: Path, tmp_path: Path, by: Actor) -> None:
    (tmp_path / "innocent").symlink_to("/etc")
    (tmp_path / "short").symlink_to(data)

    assert "operating system" in refusal_of(by, backup, tmp_path / "innocent" / "x").message
    assert "source “docs”" in refusal_of(by, backup, tmp_path / "short" / "x").message


def test_it_refuses_what_is_occupied(backup: Backup, tmp_path: Path, by: Actor) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("hands off")
    (tmp_path / "file").write_text("hands off")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    assert "is not empty" in refusal_of(by, backup, tmp_path / "full").message
    assert "is not a directory" in refusal_of(by, backup, tmp_path / "file").message
    assert "is not a directory" in refusal_of(by, backup, tmp_path / "link").message


def test_it_stays_below_the_allowed_places(
    backup: Backup, tmp_path: Path, target: Path, by: Actor, settings: Settings
) -> None:
    settings.AIHUB_RECOVERY_ROOTS = [str(tmp_path / "allowed")]

    assert "outside of the places allowed" in refusal_of(by, backup, target).message
    assert "outside of the places allowed" in refusal_of(by, backup, tmp_path / "allowed").message
    assert done(asked(by, backup, tmp_path / "allowed" / "x")).state == RecoveryState.COMPLETED


def test_it_refuses_a_place_another_recovery_is_writing_to(backup: Backup, target: Path, by: Actor) -> None:
    first = asked(by, backup, target)

    for place in (target, target / "below", target.parent):
        with pytest.raises(Refused, match=str(first.pk)) as refusal:
            asked(by, backup, place)
        assert refusal.value.code == "target-busy"


@pytest.mark.parametrize("kind", [TargetKind.IN_PLACE, TargetKind.SOURCE, TargetKind.DOWNLOAD])
def test_it_says_what_comes_later_and_what_to_do_instead(backup: Backup, by: Actor, kind: str) -> None:
    with pytest.raises(Refused, match=r"not available yet.*new place") as refusal:
        recoveries.request("full", by=by, backup=backup, target=Target(kind=kind), reason="INC-1")

    assert refusal.value.code == "not-available"


def test_it_refuses_a_rule_for_what_cannot_be_there(backup: Backup, target: Path, by: Actor) -> None:
    with pytest.raises(Refused, match="“overwrite” has no meaning"):
        asked(by, backup, target, conflict="overwrite")


def test_it_refuses_a_node_that_does_not_reach_the_data(backup: Backup, target: Path, by: Actor) -> None:
    other = Node.objects.create(name="far-away")

    with pytest.raises(Refused, match="whose disk no other node reaches"):
        recoveries.request("full", by=by, backup=backup, target=Target(path=str(target), node=other), reason="INC-1")


def test_it_judges_again_just_before_it_writes(backup: Backup, target: Path, by: Actor) -> None:
    recovery = asked(by, backup, target)
    target.mkdir(parents=True)
    (target / "mine").write_text("hands off")

    found = done(recovery)

    assert found.state == RecoveryState.FAILED
    assert "is not empty" in found.error_message
    assert [path.name for path in target.iterdir()] == ["mine"]
