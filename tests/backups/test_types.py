"""The table of the eight types: which sources, which mode."""

from __future__ import annotations

from pathlib import Path

import pytest

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Invalid, Refused
from aihub_backup.core.models import Node
from backups.models import Backup, BackupPart, BackupType, Mode, Policy, Repository, Source
from backups.services import backups, policies, sources


@pytest.fixture
def zoo(source: Source, by: Actor, tmp_path: Path) -> dict[str, Source]:
    """One source of each kind there is, one of them paused and one archived."""
    import sqlite3

    database = tmp_path / "app.sqlite3"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    found = {"docs": source}
    found["app"] = sources.create("app", "sqlite", {"path": str(database)}, by=by)
    for name in ("paused", "archived"):
        place = tmp_path / name
        place.mkdir()
        found[name] = sources.create(name, "files", {"paths": [str(place)]}, by=by)
    sources.pause(found["paused"], by=by)
    sources.archive(found["archived"], by=by)
    return found


def names(backup: Backup) -> list[str]:
    return sorted(part.source.name for part in backup.parts.all())


@pytest.mark.parametrize(
    ("word", "expected", "mode"),
    [
        ("database", ["app"], Mode.FULL),
        ("files", ["docs"], Mode.FULL),
        ("full", ["app", "docs"], Mode.FULL),
        ("incremental", ["app", "docs"], Mode.INCREMENTAL),
        ("differential", ["app", "docs"], Mode.DIFFERENTIAL),
    ],
)
def test_without_names_it_takes_the_enabled_ones_of_its_kind(
    zoo: dict[str, Source], by: Actor, word: str, expected: list[str], mode: str
) -> None:
    backup = backups.request(word, by=by)

    assert names(backup) == expected
    assert {part.mode for part in backup.parts.all()} == {mode}


@pytest.mark.parametrize("word", ["redis", "config", "logs"])
def test_a_kind_nobody_can_do_yet_is_refused_with_a_sentence(source: Source, by: Actor, word: str) -> None:
    with pytest.raises(Refused, match=f"“{word}”") as refusal:
        backups.request(word, by=by)

    assert refusal.value.code == "source-not-ready"
    assert not Backup.objects.exists()


def test_nothing_in_scope_is_refused_with_the_cure(source: Source, by: Actor) -> None:
    with pytest.raises(Refused, match="add one, or resume a paused one"):
        backups.request("database", by=by)


def test_what_the_caller_may_not_see_is_not_in_scope(zoo: dict[str, Source], by: Actor) -> None:
    backup = backups.request("full", by=by, within=Source.objects.filter(name="app"))

    assert names(backup) == ["app"]


def test_a_family_narrows_full(zoo: dict[str, Source], by: Actor) -> None:
    assert names(backups.request("full", by=by, family="database")) == ["app"]


def test_named_ones_are_taken_even_when_they_are_paused(zoo: dict[str, Source], by: Actor) -> None:
    backup = backups.request("incremental", by=by, sources=[zoo["paused"], zoo["docs"], zoo["docs"]])

    assert names(backup) == ["docs", "paused"]


def test_an_archived_one_is_refused(zoo: dict[str, Source], by: Actor) -> None:
    with pytest.raises(Refused, match="“archived” is archived"):
        backups.request("full", by=by, sources=[zoo["archived"]])


@pytest.mark.parametrize(
    ("word", "family", "field"),
    [("weekly", "", "type"), ("full", "tapes", "strategy"), ("files", "database", "strategy"), ("", "", "type")],
)
def test_words_nobody_knows_are_told_by_field(source: Source, by: Actor, word: str, family: str, field: str) -> None:
    with pytest.raises(Invalid) as refusal:
        backups.request(word, by=by, family=family)

    assert set(refusal.value.errors) == {field}


def test_a_source_of_another_kind_is_refused(zoo: dict[str, Source], by: Actor) -> None:
    with pytest.raises(Invalid, match="“docs” is of the kind files"):
        backups.request("database", by=by, sources=[zoo["docs"]])


def test_an_empty_list_of_names_is_a_mistake(source: Source, by: Actor) -> None:
    with pytest.raises(Invalid, match="No sources are named"):
        backups.request("full", by=by, sources=[])


def test_there_are_eight() -> None:
    assert sorted(BackupType.values) == sorted(
        ["full", "incremental", "differential", "database", "files", "redis", "config", "logs"]
    )


def test_a_source_has_one_active_part(source: Source, by: Actor) -> None:
    first = backups.request("files", by=by)

    with pytest.raises(Refused, match="already queued") as refusal:
        backups.request("full", by=by)

    assert (refusal.value.code, refusal.value.facts) == ("operation-in-progress", {"backup": str(first.pk)})
    assert BackupPart.objects.count() == 1


def test_of_two_requests_at_once_one_wins(source: Source, by: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look before the row is not enough: the database decides."""
    looks = iter([False, True])
    real = backups._refuse_busy
    monkeypatch.setattr(backups, "_refuse_busy", lambda chosen: next(looks) and real(chosen))
    first = Backup.objects.create(type="full", requested_by_name="other")
    BackupPart.objects.create(backup=first, source=source, repository=Repository.objects.get())

    with pytest.raises(Refused) as refusal:
        backups.request("full", by=by)

    assert refusal.value.code == "operation-in-progress"
    assert Backup.objects.count() == 1


def test_work_that_no_host_can_do_is_refused_with_the_cure(source: Source, by: Actor) -> None:
    elsewhere = Node.objects.create(name="elsewhere")
    sources.update(source, by=by, node=elsewhere)

    with pytest.raises(Refused, match=r"neither reaches the other. Choose a repository on the source.s own node"):
        backups.request("files", by=by)


def test_the_job_goes_to_the_node_that_has_the_disk(source: Source, repository: Repository, by: Actor) -> None:
    part = backups.request("files", by=by).parts.get()

    assert part.job and part.job.node == repository.storage.node


def test_the_policy_decides_what_is_not_said(source: Source, by: Actor) -> None:
    strict = policies.create("strict", by=by, verify_level=2, max_attempts=7)
    sources.update(source, by=by, policy=strict)

    backup = backups.request("files", by=by)

    part = backup.parts.get()
    assert (backup.policy, backup.verify_level) == (strict, 2)
    assert part.job and part.job.max_attempts == 7


def test_keep_days_makes_a_policy_once(db: None, by: Actor) -> None:
    assert policies.keep_days(7, by=by) == policies.keep_days(7, by=by)
    assert Policy.objects.get().retention_days == 7
