"""Paths of a source that lead to processes, or nobody knows where, are refused with a sentence."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Invalid, Refused
from backups.models import Repository, Source
from backups.services import adopted, sources
from tests.backups.stories import back_up, files, part_of, restored

AMONG_PROCESSES = ["/proc/self/environ", "/proc/1", "/proc/self/cwd", "/proc/self/root/etc", "/dev/fd/0"]


@pytest.fixture
def shut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A link that does not tell where it leads, as /proc/1/root to whoever is not root."""
    link, read = tmp_path / "shut", os.readlink
    link.symlink_to("/")

    def readlink(path: str, **more: int) -> str:
        if os.fspath(path) == str(link):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return read(path, **more)

    monkeypatch.setattr(os, "readlink", readlink)
    return link


def create(path: str, by: Actor, name: str = "sly") -> Source:
    """A source of files that nobody tests."""
    return sources.create(name, "files", {"paths": [path]}, by=by, test=False)


@pytest.mark.parametrize("path", AMONG_PROCESSES)
def test_no_source_leads_into_processes(path: str, repository: Repository, by: Actor) -> None:
    with pytest.raises(Refused, match="leads into a proc file system") as refusal:
        create(path, by)

    assert path in refusal.value.message
    assert not Source.objects.exists()


def test_a_link_to_the_environment_is_refused_too(tmp_path: Path, repository: Repository, by: Actor) -> None:
    (tmp_path / "link").symlink_to("/proc/self")

    for path in (tmp_path / "link", tmp_path / "link" / "environ"):
        with pytest.raises(Refused, match="leads into a proc file system"):
            create(str(path), by)


def test_a_source_of_before_this_rule_is_neither_changed_nor_resumed_nor_run(
    repository: Repository, source: Source, by: Actor
) -> None:
    Source.objects.update(options={**source.options, "paths": ["/proc/self/environ"]})
    source.refresh_from_db()

    part = part_of(back_up(source, by))
    sources.pause(source, by=by)
    with pytest.raises(Refused, match="leads into a proc file system"):
        sources.resume(source, by=by)
    with pytest.raises(Refused, match="leads into a proc file system"):
        sources.update(source, by=by, options={"paths": ["/proc/self"]})

    assert part.state == "failed" and "leads into a proc file system" in part.error_message
    assert "leads into a proc file system" in adopted._holds_console(source)


def test_what_became_a_way_to_processes_after_the_last_look_fails_in_the_runner(
    tmp_path: Path, repository: Repository, by: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "way").mkdir()
    source = create(str(tmp_path / "way" / "environ"), by)
    (tmp_path / "way").rmdir()
    (tmp_path / "way").symlink_to("/proc/self")
    monkeypatch.setattr("backups.services.parts.guards.must_not_hold_console", lambda _: None)

    part = part_of(back_up(source, by))

    assert part.state == "failed" and "It is on a proc file system" in part.error_message


def test_a_link_inside_that_points_to_processes_is_kept_as_a_link(
    source: Source, data: Path, by: Actor, tmp_path: Path
) -> None:
    (data / "environ").symlink_to("/proc/self/environ")

    part = part_of(back_up(source, by))

    assert part.state == "completed"
    assert restored(part, data, tmp_path / "back").keys() == files(data).keys()
    assert os.readlink(tmp_path / "back" / "environ") == "/proc/self/environ"


@pytest.mark.parametrize("kind", ["files", "sqlite"])
def test_a_link_that_cannot_be_looked_into_is_refused_by_its_name(
    shut: Path, kind: str, repository: Repository, by: Actor
) -> None:
    options: dict[str, object] = {"paths": [f"{shut}/etc"]} if kind == "files" else {"path": f"{shut}/etc"}

    with pytest.raises(Invalid) as refusal:
        sources.create("sly", kind, options, by=by, test=False)

    sentence = refusal.value.errors[next(iter(options))]
    assert sentence.startswith(f"{shut} cannot be looked into (Permission denied)")


def test_a_circle_of_links_is_refused_by_its_name(tmp_path: Path, repository: Repository, by: Actor) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(Invalid, match=r"cannot be looked into \(Too many levels of symbolic links\)"):
        create(f"{tmp_path}/a/data", by)


def test_a_path_too_long_for_one_call_is_taken_and_told_by_the_test(repository: Repository, by: Actor) -> None:
    long = "/srv" + "/deep" * 1000

    made = create(long, by)
    sources.test(made, by=by)

    assert made.options["paths"] == [long]
    assert "does not exist" in Source.objects.get().test_error
