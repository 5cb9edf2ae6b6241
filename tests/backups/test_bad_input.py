"""What cannot work is told in one clear sentence, and leaves no trace."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure, Invalid, NotFound, Refused
from aihub_backup.core.models import AuditEvent, Node
from aihub_backup.core.options import OptionsError
from backups import engine
from backups.models import Backup, PartState, Repository, RepositoryState, Source, Storage
from backups.services import backups, lookup, repositories, sources, storages
from tests.backups import stories


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "path"),
        ({"path": "relative/place"}, "path"),
        ({"path": "/"}, "path"),
        ({"path": "/srv/../etc"}, "path"),
        ({"path": "/srv/x", "colour": "red"}, "colour"),
    ],
)
def test_options_are_told_by_field(transactional_db: None, by: Actor, options: dict[str, object], field: str) -> None:
    with pytest.raises(OptionsError) as refusal:
        storages.create("disk", "local", options, by=by)

    assert set(refusal.value.errors) == {field}
    assert not Storage.objects.exists()


def test_an_unknown_kind_is_told_with_the_known_ones(transactional_db: None, by: Actor) -> None:
    with pytest.raises(NotFound, match=r"no storage kind “tape”\. Known kinds: local"):
        storages.create("disk", "tape", {}, by=by)


def test_a_directory_with_other_things_in_it_is_refused(transactional_db: None, by: Actor, tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"beach")

    with pytest.raises(Failure, match=r"other files in the directory .*holiday\.jpg.*choose an empty") as refusal:
        storages.create("disk", "local", {"path": str(tmp_path)}, by=by)

    assert refusal.value.code == "foreign-repository"
    assert not Storage.objects.exists()
    assert not AuditEvent.objects.exists()
    assert os.listdir(tmp_path) == ["holiday.jpg"]


def test_a_path_that_is_a_file_is_refused(transactional_db: None, by: Actor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Failure, match="is a file; a real directory is needed"):
        storages.create("disk", "local", {"path": str(tmp_path / "file")}, by=by)


def test_the_same_place_twice_is_refused(storage: Storage, by: Actor) -> None:
    with pytest.raises(Refused, match="“disk”"):
        storages.create("again", "local", storage.options, by=by)


def test_a_name_that_is_taken_is_refused(storage: Storage, by: Actor, tmp_path: Path) -> None:
    with pytest.raises(Refused) as refusal:
        storages.create("disk", "local", {"path": str(tmp_path / "other")}, by=by)

    assert refusal.value.code == "name-taken"
    assert not (tmp_path / "other").exists()


def test_a_place_of_another_host_is_not_made_here(transactional_db: None, by: Actor, tmp_path: Path) -> None:
    far = Node.objects.create(name="far")

    with pytest.raises(Refused, match="Only the node “far” reaches"):
        storages.create("disk", "local", {"path": str(tmp_path / "x")}, by=by, node=far)


def test_a_repository_that_is_there_already_is_not_overwritten(
    repository: Repository, storage: Storage, by: Actor
) -> None:
    Repository.objects.all().delete()

    with pytest.raises(Failure, match="holds a repository already") as refusal:
        repositories.create("second", storage, by=by)

    assert refusal.value.code == "repository-exists"
    assert not Repository.objects.exists()


def test_a_storage_holds_one_repository(repository: Repository, storage: Storage, by: Actor) -> None:
    with pytest.raises(Refused, match="holds the repository “main” already"):
        repositories.create("second", storage, by=by)


def _vanish(place: Path) -> None:
    place.rename(place.with_name("unmounted"))


def _grow_newer(place: Path) -> None:
    """What a later version might leave: everything that is written in the clear says so."""
    for path in [place / "config", *(place / "keys").iterdir()]:
        facts = json.loads(path.read_bytes())
        data = json.dumps({**facts, "format": facts["format"] + 100}).encode()
        name = "config" if path.name == "config" else hashlib.sha256(data).hexdigest()
        path.unlink()
        path.with_name(name).write_bytes(data)


def _exchange(place: Path) -> None:
    other = place.with_name("other")
    engine.Repository.create(engine.open_store("local", {"path": str(other)}), [(engine.new_keyfile(), "its own")])
    place.rename(place.with_name("ours"))
    other.rename(place)


@pytest.mark.parametrize(
    ("spoil", "permanent", "said"),
    [
        (_vanish, False, "mount the disk it is on"),
        (_grow_newer, True, "Upgrade first"),
        (_exchange, True, "the place was exchanged"),
    ],
)
def test_a_repository_that_cannot_be_used_fails_the_run_with_its_sentence(
    source: Source, repository: Repository, by: Actor, spoil: Callable[[Path], None], permanent: bool, said: str
) -> None:
    spoil(Path(repository.storage.options["path"]))
    backup = backups.request("files", by=by)

    stories.work()

    part = stories.part_of(backup)
    assert said in part.error_message
    assert part.error_permanent == permanent
    assert part.state == (PartState.FAILED if permanent else PartState.QUEUED)
    assert not part.log_record


def test_a_source_path_that_is_missing_is_refused(repository: Repository, by: Actor, tmp_path: Path) -> None:
    with pytest.raises(Failure, match="nowhere") as refusal:
        sources.create("gone", "files", {"paths": [str(tmp_path / "nowhere")]}, by=by)

    assert refusal.value.code == "source-not-ready"
    assert not Source.objects.exists()


def test_a_first_backup_waits_for_the_recovery_kit(storage: Storage, data: Path, by: Actor) -> None:
    kit = repositories.create("main", storage, by=by)
    sources.create("docs", "files", {"paths": [str(data)]}, by=by, test=False)

    with pytest.raises(Refused, match="was never proven") as refusal:
        backups.request("files", by=by)

    assert refusal.value.code == "recovery-kit-unproven"
    assert not Backup.objects.exists()
    repositories.waive_kit(kit.repository, reason="a test machine", by=by)
    assert backups.request("files", by=by)


def test_without_any_repository_the_sentence_says_so(transactional_db: None, data: Path, by: Actor) -> None:
    sources.create("docs", "files", {"paths": [str(data)]}, by=by, test=False)

    with pytest.raises(Refused, match="There is no repository yet"):
        backups.request("files", by=by)


def test_a_tampered_repository_takes_no_backups_until_somebody_looked(
    source: Source, repository: Repository, by: Actor, data: Path, tmp_path: Path
) -> None:
    first = backups.request("files", by=by)
    stories.work()
    place = Path(repository.storage.options["path"])
    newest = max((place / "log").rglob("0000*-*"))
    newest.unlink()
    second = backups.request("files", by=by)

    stories.work()

    repository.refresh_from_db()
    assert repository.state == RepositoryState.TAMPERED
    assert (stories.part_of(second).state, stories.part_of(second).error_code) == (PartState.FAILED, "tampered")
    with pytest.raises(Refused, match="is tampered; nothing is written to it"):
        backups.request("files", by=by)
    repositories.accept_history(repository, reason="we deleted it ourselves", by=by)
    third = backups.request("files", by=by)
    stories.work()
    assert stories.part_of(third).state == PartState.COMPLETED
    assert stories.part_of(first).pk


def test_work_that_waits_is_not_done_in_a_repository_that_became_tampered(
    source: Source, repository: Repository, by: Actor
) -> None:
    queued = backups.request("files", by=by)
    repositories.learn(repository, Failure("A record is gone.", permanent=True, code="tampered"))

    stories.work()

    part = stories.part_of(queued)
    assert (part.state, part.error_code) == (PartState.FAILED, "source-not-ready")
    assert str(part.pk) not in stories.opened(repository).log.live


def test_an_id_of_another_kind_is_told_as_such(source: Source, repository: Repository) -> None:
    with pytest.raises(NotFound, match="this is the id of a repository"):
        lookup.find(Source.objects.all(), repository.pk)
    with pytest.raises(NotFound, match="There is no source “nothing”"):
        lookup.find(Source.objects.all(), "nothing")
    with pytest.raises(NotFound, match="There is no backup"):
        backups.get(uuid.uuid4())
    assert lookup.find(Source.objects.all(), "docs") == lookup.find(Source.objects.all(), str(source.pk)) == source


@pytest.mark.parametrize("level", [0, 5, -1, True, "two"])
def test_a_level_nobody_knows_is_refused(source: Source, by: Actor, level: object) -> None:
    from backups.services import verifications

    with pytest.raises(Invalid) as refusal:
        verifications.known_level(level)  # type: ignore[arg-type]  # what a client may send

    assert set(refusal.value.errors) == {"level"}


def test_level_four_is_told_where_it_belongs(by: Actor) -> None:
    from backups.services import verifications

    with pytest.raises(Invalid, match=r"restore test.*not available yet.*POST /api/v1/backup/recover"):
        verifications.known_level(4)
