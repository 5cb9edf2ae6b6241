"""Storages, repositories, sources, policies and sites as people configure them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from django.utils import timezone

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure, Invalid, Refused
from aihub_backup.core.models import AuditEvent, Environment
from aihub_backup.core.options import OptionsError
from backups import engine
from backups.api import told
from backups.models import BackupPart, BackupState, Repository, RepositoryState, Source, Storage
from backups.services import backups, policies, repositories, sites, sources, storages
from tests.backups import stories


def raising(error: BaseException) -> Callable[..., NoReturn]:
    """A fault: whoever is called ends like this."""

    def fail(*_args: object, **_options: object) -> NoReturn:
        raise error

    return fail


def test_a_storage_knows_its_node_and_what_it_can(transactional_db: None, by: Actor, tmp_path: Path) -> None:
    storage = storages.create("disk", "local", {"path": str(tmp_path / "disk")}, by=by)

    assert storage.node and storage.node.name == "testnode"
    assert storage.capabilities["writable"] is True
    assert storages.place(storage).endswith("/disk on testnode")
    assert stories.deeds() == ["storage.create"]


def test_a_storage_is_tested_and_tells_what_is_wrong(storage: Storage, by: Actor) -> None:
    place = Path(storage.options["path"])
    repositories.create("main", storage, by=by)
    assert storages.test(storage, by=by).test_error == ""
    place.rename(place.with_name("unmounted"))

    storages.test(storage, by=by)

    storage.refresh_from_db()
    assert "mount the disk" in storage.test_error
    assert storage.tested_at


def test_a_storage_that_moved_is_followed(source: Source, repository: Repository, by: Actor, tmp_path: Path) -> None:
    Path(repository.storage.options["path"]).rename(tmp_path / "moved")
    storages.update(repository.storage, by=by, options={"path": str(tmp_path / "moved")}, name="moved disk")

    backups.request("files", by=by)
    stories.work()

    assert BackupPart.objects.get().stored
    assert Storage.objects.get().name == "moved disk"


def test_a_trial_of_another_place_does_not_count(repository: Repository, by: Actor, tmp_path: Path) -> None:
    storage = storages.test(repository.storage, by=by)
    assert storage.tested_at

    storages.update(storage, by=by, options={"path": str(tmp_path / "moved")})

    assert Storage.objects.filter(tested_at=None, test_error="").exists()


def test_a_test_opens_the_repository_that_belongs_there(repository: Repository, by: Actor, tmp_path: Path) -> None:
    storages.try_out(storages.draft("ready", "local", {"path": str(tmp_path / "ready")}, by=by))
    storage = storages.update(repository.storage, by=by, options={"path": str(tmp_path / "ready")})

    elsewhere = storages.test(storage, by=by).test_error
    storages.update(storage, by=by, options={"path": str(tmp_path / "disk")})
    there = storages.test(storage, by=by).test_error

    assert ("There is no repository in" in elsewhere, there) == (True, "")


def test_a_change_leaves_what_others_changed_meanwhile(storage: Storage, by: Actor) -> None:
    stale = Storage.objects.get(pk=storage.pk)
    storages.update(storage, by=by, enabled=False)

    storages.update(stale, by=by, name="vault")

    storage.refresh_from_db()
    assert (storage.name, storage.enabled) == ("vault", False)


def test_a_storage_that_is_switched_off_takes_no_backups(source: Source, repository: Repository, by: Actor) -> None:
    storages.update(repository.storage, by=by, enabled=False)

    with pytest.raises(Refused, match="is switched off"):
        backups.request("files", by=by)


def test_what_may_not_change_is_told(storage: Storage, by: Actor) -> None:
    with pytest.raises(Invalid, match="cannot be changed: kind"):
        storages.update(storage, by=by, kind="tape")


def test_the_kit_opens_the_repository_and_nothing_else_was_kept(storage: Storage, by: Actor) -> None:
    kit = repositories.create("main", storage, by=by, passphrase="three blind mice", codec="gzip", level=6)

    store = engine.open_store("local", {"path": storage.options["path"]})
    by_code = engine.Repository.open(store, engine.Secret.recovery_code(kit.code))
    by_phrase = engine.Repository.open(store, engine.Secret.passphrase("three blind mice"))
    assert by_code.config.id.hex() == by_phrase.config.id.hex() == kit.repository_id
    repository = Repository.objects.get()
    assert set(repository.secrets) == {"keyfile"}
    assert (repository.state, repository.kit_settled) == (RepositoryState.OK, False)
    assert kit.repository_id in kit.text
    assert "rescue.py restore" in kit.text
    assert "add --privileges to `engine\nrestore`" in kit.text and "Run as root, rescue.py brings" in kit.text


def test_a_waived_kit_is_on_record(storage: Storage, by: Actor) -> None:
    kit = repositories.create("main", storage, by=by, waive_kit=True)

    assert kit.repository.kit_settled
    assert kit.repository.kit_waived_by == "olivia"
    assert stories.deeds()[-2:] == ["repository.create", "repository.kit.waive"]


def test_a_creation_that_was_killed_is_taken_up_again_later(storage: Storage, by: Actor) -> None:
    half = repositories._begun("main", storage, "zstd", 1)
    with pytest.raises(Refused, match="holds the repository “main” already"):
        repositories.create("main", storage, by=by)
    Repository.objects.filter(pk=half.pk).update(updated_at=timezone.now() - timedelta(hours=1))

    kit = repositories.create("main again", storage, by=by)

    assert Repository.objects.get() == kit.repository == half
    assert (kit.repository.name, kit.repository.state) == ("main again", RepositoryState.OK)


def test_a_creation_that_was_killed_after_its_last_step_is_finished_with_the_same_keys(
    storage: Storage, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(repositories, "_made", raising(KeyboardInterrupt()))
        repositories.create("main", storage, by=by)
    Repository.objects.update(updated_at=timezone.now() - timedelta(hours=1))

    kit = repositories.create("main", storage, by=by)

    store = engine.open_store("local", {"path": storage.options["path"]})
    opened = engine.Repository.open(store, engine.Secret.recovery_code(kit.code))
    assert opened.config.id.hex() == kit.repository_id


def test_a_creation_that_failed_for_a_passing_reason_goes_on_at_once(
    storage: Storage, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken, pytest.raises(Failure, match="no answer"):
        broken.setattr(repositories, "perform", raising(Failure("no answer", permanent=False)))
        repositories.create("main", storage, by=by)
    half = Repository.objects.get()

    kit = repositories.create("main", storage, by=by)

    assert Repository.objects.get() == kit.repository == half


def test_a_creation_that_can_never_succeed_leaves_no_row(storage: Storage, by: Actor) -> None:
    Path(storage.options["path"]).mkdir(exist_ok=True)
    Path(storage.options["path"], "other").write_text("somebody else's")

    with pytest.raises(Failure):
        repositories.create("main", storage, by=by)

    assert not Repository.objects.exists()


@pytest.mark.parametrize(("codec", "level"), [("zstd", 20), ("zstd", -8), ("gzip", 0), ("gzip", 10), ("gzip", -7)])
def test_a_level_the_codec_has_not_is_refused_before_anything_is_made(
    storage: Storage, by: Actor, codec: str, level: int
) -> None:
    with pytest.raises(Invalid, match="has the levels") as refusal:
        repositories.create("main", storage, by=by, codec=codec, level=level)

    assert set(refusal.value.errors) == {"level"}
    assert not Repository.objects.exists()


def test_backups_follow_the_codec_of_their_repository(storage: Storage, data: Path, by: Actor) -> None:
    stories.ready("main", storage, by=by, codec="gzip", level=9)
    sources.create("docs", "files", {"paths": [str(data)]}, by=by, test=False)

    backups.request("files", by=by)
    stories.work()

    part = BackupPart.objects.get()
    assert part.stored
    assert (part.stored_bytes or 0) < (part.size_bytes or 0) / 5


def test_leaves_of_the_newer_log_win(repository: Repository) -> None:
    older, newer = ["log/000000000/000000000001-aa"], ["log/000000000/000000000002-bb"]
    repositories.remember(repository, newer)

    repositories.remember(repository, older)

    repository.refresh_from_db()
    assert repository.anchors == newer


def test_a_sources_options_are_checked_and_completed(source: Source, by: Actor) -> None:
    assert source.options["exclude"] == []

    with pytest.raises(OptionsError):
        sources.update(source, by=by, options={"paths": ["relative"]})


def test_a_source_is_changed_in_place(source: Source, by: Actor) -> None:
    sources.update(source, by=by, options={"exclude": ["*.tmp"]}, tags={"team": "ml"}, name="papers")

    source.refresh_from_db()
    assert source.options["exclude"] == ["*.tmp"]
    assert source.options["paths"]
    assert (source.tags, source.name) == ({"team": "ml"}, "papers")


@pytest.mark.parametrize("tags", [["a"], {"": "x"}, {"x": 5}, {"x" * 101: "y"}, "text"])
def test_tags_are_names_with_texts(source: Source, by: Actor, tags: object) -> None:
    with pytest.raises(Invalid) as refusal:
        sources.update(source, by=by, tags=tags)

    assert set(refusal.value.errors) == {"tags"}


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_leads_nowhere_else(source: Source, by: Actor, name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        sources.update(source, by=by, name=name)

    assert "lead elsewhere in a path" in refusal.value.message


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "zero\u200bwidth", "turned\u202earound"])
def test_a_name_hides_nothing(source: Source, by: Actor, name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        sources.update(source, by=by, name=name)

    assert "characters that nobody sees" in refusal.value.errors["name"]


def test_a_name_may_be_in_any_writing(source: Source, by: Actor) -> None:
    renamed = sources.update(source, by=by, name="数据库\u3000“prod” é می\u200cخواهم")

    assert renamed.name == "数据库\u3000“prod” é می\u200cخواهم"


def test_a_source_does_not_hold_its_own_backups(repository: Repository, by: Actor, tmp_path: Path) -> None:
    options = {"paths": [str(tmp_path)]}
    with pytest.raises(Refused, match="where its own backups are kept") as refusal:
        sources.create("all", "files", options, by=by, test=False)
    assert refusal.value.code == "source-not-ready"

    source = sources.create("all", "files", {**options, "exclude": [f"{tmp_path}/disk/"]}, by=by, test=False)

    with pytest.raises(Refused, match="where its own backups are kept"):
        sources.update(source, by=by, options={"exclude": []})


def test_a_backup_does_not_go_into_its_own_source(repository: Repository, by: Actor, tmp_path: Path) -> None:
    Path(tmp_path, "big", "data").mkdir(parents=True)
    inside = storages.create("disk 2", "local", {"path": str(tmp_path / "big" / "disk2")}, by=by)
    second = stories.ready("second", inside, by=by).repository
    sources.create("big", "files", {"paths": [str(tmp_path / "big")]}, by=by, repository=repository)

    with pytest.raises(Refused, match=r"holds .*disk2, where its own backups are kept"):
        backups.request("files", by=by, repository=second)


def test_a_source_is_tested_and_tells_what_is_wrong(source: Source, data: Path, by: Actor) -> None:
    assert sources.test(source, by=by).test_error == ""
    assert source.tested_at
    data.rename(data.with_name("elsewhere"))

    assert "data" in sources.test(source, by=by).test_error


def test_a_source_is_not_archived_under_a_running_backup(source: Source, by: Actor) -> None:
    backups.request("files", by=by)

    with pytest.raises(Refused, match="is running"):
        sources.archive(source, by=by)


def test_a_resumed_source_is_in_service_again(source: Source, by: Actor) -> None:
    sources.archive(source, by=by, reason="old")
    assert not source.in_service

    assert sources.resume(source, by=by).in_service


def test_policies_are_checked_by_field(db: None, by: Actor) -> None:
    with pytest.raises(Invalid) as refusal:
        policies.create("odd", by=by, keep_daily=-1, verify_level=9)

    assert set(refusal.value.errors) == {"keep_daily", "verify_level"}
    policy = policies.create("weekly", by=by, keep_weekly=8)
    policies.update(policy, by=by, keep_weekly=10)
    with pytest.raises(Refused, match="choose another name"):
        policies.create("weekly", by=by)
    with pytest.raises(Invalid, match="at least one day"):
        policies.keep_days(0, by=by)


def test_sites_have_names_like_words(db: None, by: Actor) -> None:
    sites.update(sites.create("berlin", by=by), by=by, description="second floor")

    with pytest.raises(Invalid):
        sites.create("Not A Slug!", by=by)


def test_with_several_environments_one_must_be_named(storage: Storage, data: Path, by: Actor) -> None:
    staging = Environment.objects.create(name="staging")

    with pytest.raises(Refused, match="several environments"):
        sources.create("docs", "files", {"paths": [str(data)]}, by=by, test=False)
    assert sources.create("docs", "files", {"paths": [str(data)]}, by=by, environment=staging).environment == staging


@pytest.fixture
def second(repository: Repository, by: Actor, tmp_path: Path) -> Repository:
    """Made when there was one already."""
    other = storages.create("disk 2", "local", {"path": str(tmp_path / "disk2")}, by=by)
    return stories.ready("second", other, by=by).repository


def test_a_second_repository_changes_nothing_for_sources_that_named_none(
    source: Source, repository: Repository, by: Actor, tmp_path: Path
) -> None:
    assert source.repository is None
    other = storages.create("disk 2", "local", {"path": str(tmp_path / "disk2")}, by=by)

    stories.ready("second", other, by=by)

    source.refresh_from_db()
    assert source.repository == repository
    assert stories.part_of(stories.back_up(source, by)).repository == repository
    assert AuditEvent.objects.get(action="source.update").facts == {"repository": "main", "because_of": "second"}


def test_with_several_repositories_one_must_be_named(second: Repository, data: Path, by: Actor) -> None:
    with pytest.raises(Invalid, match="several repositories") as refused:
        sources.create("docs", "files", {"paths": [str(data)]}, by=by)
    source = sources.create("docs", "files", {"paths": [str(data)]}, by=by, repository=second)
    Source.objects.update(repository=None)  # as older versions left some

    with pytest.raises(Refused, match=r"say where its backups go \(main, second\)"):
        backups.request("files", by=by)
    backups.request("files", by=by, repository=second)
    stories.work()
    assert refused.value.errors.keys() == {"repository"}
    assert BackupPart.objects.get(source=source).repository == second


def test_a_source_that_cannot_be_taken_keeps_no_other_one_from_its_backup(
    second: Repository, data: Path, by: Actor, tmp_path: Path
) -> None:
    """Of a run that names none: it is left out, told, and makes the run a partial one."""
    lost = sources.create("lost", "files", {"paths": [str(data)]}, by=by, repository=second)
    sources.create("taken", "files", {"paths": [str(data)]}, by=by, repository=second)
    Source.objects.filter(pk=lost.pk).update(repository=None)

    made = backups.request("files", by=by)
    stories.work()

    backup = backups.get(made.pk)
    assert [part.source.name for part in backup.parts.all()] == ["taken"]
    assert backup.state == BackupState.PARTIAL
    assert backup.left_out.keys() == {"lost"} and "say where its backups go" in backup.left_out["lost"]
    assert AuditEvent.objects.get(action="backup.request").facts["left_out"] == ["lost"]
    assert told.backup(backup)["error"]["detail"] == backup.left_out["lost"]


def test_a_place_that_does_not_answer_in_time_is_given_up(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    from backups.services import running

    monkeypatch.setattr(running, "BOOTSTRAP", "import time; time.sleep(60)")
    monkeypatch.setattr(running, "CANCEL_PATIENCE", 0.0)

    with pytest.raises(Failure, match="no answer within 0 seconds") as refusal:
        running.perform({"job": "probe"}, patience=0.1)

    assert not refusal.value.permanent
