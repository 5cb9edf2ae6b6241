"""Lose it, recover it, compare it."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure, Invalid, Refused
from aihub_backup.core.models import AuditEvent
from backups.engine.disk import printable
from backups.models import Backup, Source
from recovery.models import RecoveryState
from recovery.services import recoveries
from tests.recovery.stories import asked, backed_up, done, names, tree


def test_it_brings_everything_back_to_a_new_place(backup: Backup, data: Path, target: Path, by: Actor) -> None:
    before = tree(data)
    shutil.rmtree(data)

    recovery = done(asked(by, backup, target))

    assert recovery.state == RecoveryState.COMPLETED, recovery.error
    assert tree(target) == before
    assert recovery.items is not None and recovery.items > 20
    assert recovery.items == sum(part.items or 0 for part in backup.parts.all())  # both tell the same number
    assert [finding["passed"] for finding in recovery.findings] == [True]


def test_it_brings_lost_data_back_to_where_it_was(backup: Backup, data: Path, by: Actor) -> None:
    before = tree(data)
    shutil.rmtree(data)

    recovery = done(asked(by, backup, data))

    assert recovery.state == RecoveryState.COMPLETED
    assert tree(data) == before


def test_it_fills_an_empty_directory(backup: Backup, data: Path, target: Path, by: Actor) -> None:
    target.mkdir(parents=True)

    recovery = done(asked(by, backup, target))

    assert recovery.state == RecoveryState.COMPLETED
    assert tree(target) == tree(data)


def test_it_puts_each_of_several_sources_into_a_directory_of_its_name(
    both: Backup, data: Path, tmp_path: Path, target: Path, by: Actor
) -> None:
    recovery = done(asked(by, both, target))

    assert recovery.state == RecoveryState.COMPLETED, recovery.error
    assert {place.name for place in target.iterdir()} == {"docs", "%2E.more%2Fthings"}
    assert tree(target / "docs") == tree(data)
    assert tree(target / "%2E.more%2Fthings") == tree(tmp_path / "more")


def test_it_recovers_one_part_directly_into_the_target(both: Backup, tmp_path: Path, target: Path, by: Actor) -> None:
    recovery = done(asked(by, both, target, "partial", parts=["..more/things"]))

    assert recovery.state == RecoveryState.COMPLETED
    assert tree(target) == tree(tmp_path / "more")


def test_it_recovers_a_subtree_with_the_way_to_it(backup: Backup, data: Path, target: Path, by: Actor) -> None:
    recovery = done(asked(by, backup, target, "partial", include=["deep/er"]))

    assert recovery.state == RecoveryState.COMPLETED, recovery.error
    assert names(target) == {"deep/er/blob"}
    assert (target / "deep/er/blob").read_bytes() == (data / "deep/er/blob").read_bytes()


def test_it_takes_a_path_as_it_was_on_the_host(backup: Backup, data: Path, target: Path, by: Actor) -> None:
    recovery = done(asked(by, backup, target, "partial", include=[f"{data}/07.txt"]))

    assert recovery.state == RecoveryState.COMPLETED
    assert names(target) == {"07.txt"}


def test_it_takes_a_path_of_odd_bytes_as_listings_show_it(source: Source, data: Path, target: Path, by: Actor) -> None:
    odd = os.fsencode(data) + b"/\xffodd\\x"
    with open(odd, "wb") as file:
        file.write(b"found again")

    recovery = done(asked(by, backed_up(by, source), target, "partial", include=[printable(b"\xffodd\\x")]))

    assert recovery.state == RecoveryState.COMPLETED, recovery.error
    assert os.listdir(os.fsencode(target)) == [b"\xffodd\\x"]


def test_it_recovers_what_matches_a_pattern(backup: Backup, target: Path, by: Actor) -> None:
    recovery = done(asked(by, backup, target, "selective", include=["1?.txt"], exclude=["15.txt"]))

    assert recovery.state == RecoveryState.COMPLETED
    assert names(target) == {f"{number}.txt" for number in range(10, 20) if number != 15}


def test_it_says_so_when_nothing_matches(backup: Backup, target: Path, by: Actor) -> None:
    recovery = done(asked(by, backup, target, "selective", include=["*.pdf"]))

    assert recovery.state == RecoveryState.FAILED
    assert "matches" in recovery.error_message
    assert not target.parent.exists()


def test_it_takes_the_point_before_a_moment(
    source: Source, backup: Backup, data: Path, target: Path, by: Actor
) -> None:
    before, moment = tree(data), timezone.now()
    (data / "00.txt").write_text("changed")
    backed_up(by, source, kind="incremental")

    recovery = done(asked(by, None, target, "point_in_time", source=source, at=moment))

    assert recovery.state == RecoveryState.COMPLETED
    assert tree(target) == before
    assert recovery.backup_id == backup.pk
    assert "seconds before the moment" in recovery.notices[0]


def test_it_takes_the_newest_point_of_a_source(
    source: Source, backup: Backup, data: Path, target: Path, by: Actor
) -> None:
    (data / "00.txt").write_text("changed")
    backed_up(by, source, kind="incremental")

    done(asked(by, None, target, "full", source=source))

    assert (target / "00.txt").read_text() == "changed"


@pytest.mark.parametrize(("hours", "sentence"), [(-1, "there is no recovery point"), (1, "lies in the future")])
def test_it_tells_the_window_when_there_is_no_such_point(
    source: Source, backup: Backup, target: Path, by: Actor, hours: int, sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence) as refusal:
        asked(by, None, target, "point_in_time", source=source, at=timezone.now() + timedelta(hours=hours))

    assert refusal.value.code == "point-in-time-out-of-range"
    assert "its points lie between" in refusal.value.message


def test_it_writes_down_who_asked_and_how_it_ended(backup: Backup, target: Path, by: Actor) -> None:
    recovery = done(asked(by, backup, target))

    events = AuditEvent.objects.filter(target_id=str(recovery.pk)).order_by("at")
    assert [event.action for event in events] == ["recovery.requested", "recovery.completed"]
    assert events[0].actor_name == "olivia"
    assert events[0].facts["reason"] == "INC-1"


@pytest.mark.parametrize(
    ("kind", "more", "field"),
    [
        ("full", {"include": ["x"]}, "include"),
        ("full", {"parts": ["docs"]}, "parts"),
        ("partial", {}, "parts"),
        ("partial", {"parts": ["nobody"]}, "parts"),
        ("selective", {}, "include"),
        ("selective", {"include": ["[a"]}, "include"),
        ("selective", {"exclude": ["a//b"]}, "exclude"),
        ("full", {"at": timezone.now()}, "at"),
        ("point_in_time", {}, "source"),
    ],
)
def test_it_names_the_contradiction(
    backup: Backup, target: Path, by: Actor, kind: str, more: dict[str, object], field: str
) -> None:
    with pytest.raises(Invalid) as refusal:
        asked(by, backup, target, kind, **more)

    assert field in refusal.value.errors


def test_it_refuses_a_backup_that_was_deleted(backup: Backup, target: Path, by: Actor) -> None:
    Backup.objects.filter(pk=backup.pk).update(state="deleted")
    backup.refresh_from_db()

    with pytest.raises(Failure) as refusal:
        asked(by, backup, target)

    assert refusal.value.code == "backup-deleted"


def test_it_names_the_parts_that_hold_nothing(both: Backup, target: Path, by: Actor) -> None:
    both.parts.filter(source__name="docs").update(state="failed")

    with pytest.raises(Refused, match=r"docs .failed.*type “partial” and parts") as refusal:
        asked(by, both, target)

    assert refusal.value.code == "not-restorable"
    assert recoveries.listing().count() == 0
