"""No other source reads the files that open the console's secrets: not when it is made, and not when it is run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Refused
from backups.models import BackupPart, Repository, Source
from backups.services import own_database, own_places, running, sources
from tests.backups.stories import back_up, files, part_of, restored

embedded = pytest.mark.skipif(
    "own_database.described()[0] != 'sqlite'", reason="the console's database is a file only here"
)


@pytest.fixture
def home() -> Path:
    """Of this console."""
    return Path(settings.AIHUB_HOME).resolve()


@pytest.fixture
def linked(data: Path) -> Iterator[Path]:
    """A directory on the console's own file system, where hard links to its files can be made."""
    place = Path(settings.AIHUB_HOME).resolve() / "elsewhere"
    shutil.copytree(data, place)
    yield place
    shutil.rmtree(place)


def patterns() -> list[str]:
    """All that has to be left out, where the source is the whole home."""
    return [place.pattern for place in own_places.places()]


def refused(kind: str, options: dict[str, Any], by: Actor) -> str:
    """The sentence."""
    with pytest.raises(Refused, match="every secret of this console") as failure:
        sources.create("sly", kind, options, by=by, test=False)
    assert not Source.objects.filter(name="sly").exists()
    return failure.value.message


# --- when it is made --------------------------------------------------------------------------------------------------


def test_a_source_over_the_home_is_told_all_that_it_has_to_leave_out(
    home: Path, repository: Repository, by: Actor
) -> None:
    told = refused("files", {"paths": [str(home)]}, by)

    assert {str(home / name) for name in ("keys", "work", "recovery-kit.txt")} <= set(patterns())
    assert {str(path) for path in own_database.files()} <= set(patterns())
    assert all(pattern in told for pattern in patterns())


def test_a_source_that_leaves_all_of_that_out_is_taken(home: Path, repository: Repository, by: Actor) -> None:
    made = sources.create("rest", "files", {"paths": [str(home)], "exclude": patterns()}, by=by, test=False)

    assert made.pk


@pytest.mark.parametrize("kept", ["keys", "work", "recovery-kit.txt"])
def test_each_of_them_has_to_be_left_out(home: Path, repository: Repository, by: Actor, kept: str) -> None:
    others = [pattern for pattern in patterns() if pattern != str(home / kept)]

    told = refused("files", {"paths": [str(home)], "exclude": others}, by)

    assert f"Leave out {home / kept}, or" in told


@embedded
@pytest.mark.parametrize("ending", ["", "-wal", "-shm", "-journal"])
def test_the_database_and_each_file_beside_it_has_to_be_left_out(
    home: Path, repository: Repository, by: Actor, ending: str
) -> None:
    kept = f"{own_database.files()[0]}{ending}"

    told = refused("files", {"paths": ["/"], "exclude": [one for one in patterns() if one != kept]}, by)

    assert f"Leave out {kept}, or" in told


@pytest.mark.parametrize("exclude", [["recovery-kit.txt/"], ["recovery-kit.txt", "!*.txt"]])
def test_a_pattern_for_directories_leaves_out_no_file(
    home: Path, repository: Repository, by: Actor, exclude: list[str]
) -> None:
    others = [pattern for pattern in patterns() if pattern != str(home / "recovery-kit.txt")]

    told = refused("files", {"paths": [str(home)], "exclude": [*others, *exclude]}, by)

    assert f"Leave out {home / 'recovery-kit.txt'}, or" in told


def test_a_path_that_is_named_is_read_whatever_the_patterns_say(home: Path, repository: Repository, by: Actor) -> None:
    inside, above = str(home / "keys" / "app_keys"), home.name

    for paths, exclude in (([inside], ["app_keys"]), ([str(home / "keys")], ["keys"]), ([str(home)], [above])):
        refused("files", {"paths": paths, "exclude": exclude}, by)


@embedded
def test_no_other_name_of_the_database_is_taken(
    linked: Path, tmp_path: Path, repository: Repository, by: Actor
) -> None:
    database = own_database.files()[0]
    (tmp_path / "link.sqlite3").symlink_to(database)
    (tmp_path / "linked").symlink_to(database.parent)
    os.link(database, linked / "hard.sqlite3")
    names = [database, tmp_path / "link.sqlite3", tmp_path / "linked" / database.name, linked / "hard.sqlite3"]

    for name in names:
        refused("sqlite", {"path": str(name)}, by)
        refused("files", {"paths": [str(name)]}, by)


def test_a_private_copy_is_no_database_to_back_up(home: Path, repository: Repository, by: Actor) -> None:
    with running.workdir("a-story") as place:
        refused("sqlite", {"path": f"{place}/copy.sqlite3"}, by)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts file systems")
def test_a_bind_mount_of_the_home_is_the_home(home: Path, tmp_path: Path, repository: Repository, by: Actor) -> None:
    point = tmp_path / "mount"
    point.mkdir()
    subprocess.run(["mount", "--bind", home, point], check=True)
    try:
        for paths in ([str(point)], [str(point / "keys")], [str(point / "keys" / "app_keys")]):
            refused("files", {"paths": paths, "exclude": patterns()}, by)
    finally:
        subprocess.run(["umount", point], check=True)


# --- when it is run ---------------------------------------------------------------------------------------------------


def test_a_hard_link_deep_in_a_tree_is_left_out_and_told(
    linked: Path, repository: Repository, by: Actor, tmp_path: Path
) -> None:
    source = sources.create("docs", "files", {"paths": [str(linked)]}, by=by, test=False)
    os.link(settings.AIHUB_APP_KEYS_PATH, linked / "deep" / "harmless.txt")

    part = part_of(back_up(source, by))

    assert part.state == "completed_with_warnings"
    [told] = part.item_errors
    assert told["path"].endswith("deep/harmless.txt") and "It belongs to this console" in told["message"]
    brought_back = restored(part, linked, tmp_path / "back")
    assert "deep/harmless.txt" not in brought_back
    assert brought_back.keys() == files(linked).keys() - {"deep/harmless.txt"}


def test_a_directory_that_became_a_way_to_the_keys_fails_the_run(
    tmp_path: Path, repository: Repository, by: Actor, home: Path
) -> None:
    (tmp_path / "way").mkdir()
    source = sources.create("docs", "files", {"paths": [str(tmp_path / "way" / "keys")]}, by=by, test=False)
    (tmp_path / "way").rmdir()
    (tmp_path / "way").symlink_to(home)

    part = part_of(back_up(source, by))

    assert part.state == "failed" and "every secret of this console" in part.error_message


@embedded
def test_the_runner_itself_opens_no_hard_link_to_the_database(
    linked: Path, repository: Repository, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link is made after the last look of the services."""
    source = sources.create("shop", "sqlite", {"path": str(linked / "shop.sqlite3")}, by=by, test=False)
    os.link(own_database.files()[0], linked / "shop.sqlite3")
    monkeypatch.setattr("backups.services.parts.guards.must_not_hold_console", lambda _: None)

    part = part_of(back_up(source, by))

    assert part.state == "failed"
    assert "shop.sqlite3 is not read. It belongs to this console" in part.error_message


def test_a_source_of_before_these_rules_neither_runs_nor_resumes(home: Path, repository: Repository, by: Actor) -> None:
    source = sources.create("docs", "files", {"paths": ["/srv/docs"]}, by=by, test=False)
    Source.objects.update(options={**source.options, "paths": [str(home)]})
    source.refresh_from_db()

    made = part_of(back_up(source, by))
    sources.pause(source, by=by)
    with pytest.raises(Refused, match="every secret of this console"):
        sources.resume(source, by=by)
    source.refresh_from_db()
    with pytest.raises(Refused, match="every secret of this console"):
        sources.update(source, by=by, enabled=True)

    assert made.state == "failed" and str(home / "keys") in made.error_message
    assert not Source.objects.get().enabled and BackupPart.objects.count() == 1


def test_its_own_source_is_told_to_leave_nothing_out(repository: Repository) -> None:
    assert own_places.reserved(Source(holds_console=True)) == {}
    assert own_places.reserved(Source())["identities"]
