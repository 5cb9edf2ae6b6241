"""Lists, pages and numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib import admin
from django.test import Client
from django.urls import reverse

from aihub_backup.cli import parser
from aihub_backup.cli.exits import Exit
from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Invalid, Refused
from aihub_backup.core.models import AuditEvent, User
from backups import models
from backups.models import Backup, BackupPart, Policy, Repository, Source
from backups.services import backups, contents, usage
from backups.services.usage import Usage
from tests.backups import stories


@pytest.fixture
def done(source: Source, by: Actor) -> Backup:
    """A finished backup, verified."""
    backup = backups.request("files", by=by, verify=1)
    stories.work()
    return backups.get(backup.pk)


def test_contents_are_listed_level_by_level(done: Backup, data: Path) -> None:
    part = stories.part_of(done)
    base = str(data).strip("/").encode()

    top = contents.listing(part, below=base)
    inside = contents.listing(part, below=base + b"/deep", depth=0)

    assert [row["path"].removeprefix(base + b"/") for row in top][:2] == [b"00.txt", b"01.txt"]
    assert {row["kind"] for row in top} == {"file", "directory"}
    assert [row["path"] for row in inside] == [base + b"/deep/er", base + b"/deep/er/blob"]
    assert inside[-1]["size"] == 512_000


def test_contents_come_in_pages_and_by_pattern(done: Backup, data: Path) -> None:
    part, base = stories.part_of(done), str(data).strip("/").encode()

    first = contents.listing(part, below=base, limit=3)
    second = contents.listing(part, below=base, limit=3, after=first[-1]["path"])

    names = [row["path"].rpartition(b"/")[2] for row in first + second]
    assert names == [b"00.txt", b"01.txt", b"02.txt", b"03.txt", b"04.txt", b"05.txt"]
    found = contents.listing(part, depth=0, match="1?.txt")
    assert len(found) == 10
    with pytest.raises(Invalid):
        contents.listing(part, limit=0)


def test_a_diff_tells_what_changed(done: Backup, data: Path, by: Actor) -> None:
    (data / "00.txt").write_text("other")
    (data / "01.txt").unlink()
    (data / "new").write_text("new")
    second = backups.request("incremental", by=by)
    stories.work()

    changes = contents.diff(stories.part_of(second), stories.part_of(done))

    told = {change["path"].rpartition(b"/")[2]: change["kind"] for change in changes}
    assert (told[b"00.txt"], told[b"01.txt"], told[b"new"]) == ("changed", "removed", "added")


def test_nothing_stored_has_no_contents(source: Source, by: Actor) -> None:
    queued = backups.request("files", by=by)

    with pytest.raises(Refused, match="holds no recovery point"):
        contents.listing(stories.part_of(queued))


def test_progress_of_a_finished_backup_is_whole(done: Backup, data: Path) -> None:
    told = backups.progress(done)

    size = sum(len(content) for content in stories.files(data).values())
    assert (told["ratio"], told["bytes_done"], told["bytes_total"]) == (1.0, size, size)
    assert (told["indeterminate"], told["eta_seconds"]) == (False, None)


def test_progress_of_a_queued_backup_knows_nothing_and_says_so(source: Source, by: Actor) -> None:
    told = backups.progress(backups.get(backups.request("files", by=by).pk))

    assert (told["ratio"], told["bytes_done"], told["indeterminate"]) == (None, None, True)


def test_progress_sums_up_parts_and_their_speed(done: Backup) -> None:
    part = stories.part_of(done)
    type(part).objects.filter(pk=part.pk).update(state="running")
    assert part.job
    progress = {"phase": "reading", "bytes_done": 25, "bytes_total": 100, "bytes_per_second": 5.0}
    type(part.job).objects.filter(pk=part.job.pk).update(progress=progress)
    Backup.objects.update(state="running")

    told = backups.progress(backups.get(done.pk))

    assert (told["ratio"], told["eta_seconds"], told["phase"]) == (0.25, 15, "reading")


def test_what_lies_in_a_repository_is_counted_until_it_is_deleted(done: Backup) -> None:
    part = stories.part_of(done)

    found = usage.of_repositories(BackupPart.objects.all())
    done.parts.update(state="deleted")

    assert found == {part.repository_id: Usage(1, part.stored_bytes or 0, part.size_bytes or 0)}
    assert found[part.repository_id].stored_bytes > 0
    assert usage.of_repositories(BackupPart.objects.all()) == {}


# --- the admin ------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(client: Client, owner: User) -> Client:
    """Signed in with every permission."""
    client.force_login(owner)
    return client


ROWS = (models.Site, models.Storage, models.Repository, models.Source, models.Policy, models.Backup,
        models.BackupPart, models.Verification)  # fmt: skip


@pytest.mark.parametrize("model", ROWS)
def test_every_model_has_a_list_and_a_page(browser: Client, done: Backup, model: type[models.Backup]) -> None:
    name = model._meta.model_name

    page = browser.get(reverse(f"admin:backups_{name}_changelist"), {"q": "x"})
    assert page.status_code == 200
    for row in model._base_manager.all():
        assert browser.get(reverse(f"admin:backups_{name}_change", args=[row.pk])).status_code == 200


def test_pages_show_no_secret(browser: Client, done: Backup, repository: Repository) -> None:
    page = browser.get(reverse("admin:backups_repository_change", args=[repository.pk]))

    assert repository.secrets["keyfile"] not in page.text
    assert "v1." not in page.text


def test_nothing_is_deleted_behind_the_services(browser: Client, done: Backup) -> None:
    for model in ROWS:
        site = admin.site.get_model_admin(model)
        assert "delete_selected" not in site.get_actions(browser.get(reverse("admin:index")).wsgi_request)
    page = browser.post(reverse("admin:backups_backup_delete", args=[done.pk]), {"post": "yes"})
    assert page.status_code == 403
    assert Backup.objects.count() == 1


def test_a_change_goes_through_the_service(browser: Client, source: Source) -> None:
    fields = {"name": "papers", "environment": source.environment_id, "tags": "team=ml", "enabled": "on"}

    page = browser.post(reverse("admin:backups_source_change", args=[source.pk]), fields)

    source.refresh_from_db()
    assert page.status_code == 302, page.text
    assert (source.name, source.tags) == ("papers", {"team": "ml"})
    event = AuditEvent.objects.get(action="source.update")
    assert (event.actor_name, event.facts["changed"]) == ("olivia", ["name", "tags"])


def test_what_the_service_refuses_is_told_on_the_page(browser: Client, source: Source) -> None:
    fields = {"name": "..", "environment": source.environment_id, "tags": "", "enabled": "on"}

    page = browser.post(reverse("admin:backups_source_change", args=[source.pk]), fields, follow=True)

    assert "lead elsewhere in a path" in page.text
    assert not AuditEvent.objects.filter(action="source.update").exists()


def test_tags_that_are_no_pairs_are_told_on_the_page(browser: Client, source: Source) -> None:
    fields = {"name": "docs", "environment": source.environment_id, "tags": "team", "enabled": "on"}

    page = browser.post(reverse("admin:backups_source_change", args=[source.pk]), fields, follow=True)

    assert "is not written as name=value" in page.text
    assert not AuditEvent.objects.filter(action="source.update").exists()


def test_a_policy_is_added_on_its_page(browser: Client) -> None:
    counts = [f"keep_{step}" for step in ("last", "hourly", "daily", "weekly", "monthly", "yearly")]
    numbers = dict.fromkeys([*counts, "immutable_days", "verify_level"], "0")
    fields = {**numbers, "name": "gold", "required_copies": "1", "decode_every": "8", "max_attempts": "3"}

    page = browser.post(reverse("admin:backups_policy_add"), fields)

    assert page.status_code == 302, page.text
    assert Policy.objects.get().name == "gold"
    assert AuditEvent.objects.get(action="policy.create").actor_name == "olivia"


# --- in all points ----------------------------------------------------------------------------------------------------


@pytest.fixture
def later(done: Backup, data: Path, by: Actor) -> Backup:
    """A second point: a file changed, one moved, one is new."""
    (data / "00.txt").write_text("other")
    (data / "01.txt").rename(data / "deep" / "moved.txt")
    (data / "new").write_text("new")
    backup = backups.request("incremental", by=by)
    stories.work()
    return backups.get(backup.pk)


def parts() -> list[BackupPart]:
    return list(BackupPart.objects.select_related("source", "backup", "repository__storage__node"))


def test_a_path_is_found_in_every_point_that_holds_it(done: Backup, later: Backup, data: Path) -> None:
    (changed,) = contents.find(parts(), contents.wanted(str(data / "00.txt")))
    (same,) = contents.find(parts(), contents.wanted(f"{data}/02.txt"))
    words = contents.find(parts(), contents.wanted("moved"))

    assert [[part.backup_id for part in one["parts"]] for one in changed["versions"]] == [[done.pk], [later.pk]]
    assert [part.backup_id for part in same["versions"][0]["parts"]] == [later.pk, done.pk]
    assert [row["path"].rpartition(b"/")[2] for row in words] == [b"moved.txt"]
    assert contents.find(parts(), "nothing.like.this") == []
    with pytest.raises(Invalid, match="backslash"):
        contents.wanted("/a\\xzz")


def test_a_diff_tells_what_moved(done: Backup, later: Backup, data: Path, browser: Client) -> None:
    changes = contents.diff(stories.part_of(later), stories.part_of(done))

    (moved,) = [change for change in changes if change["kind"] == "moved"]
    assert (moved["before"]["path"][-6:], moved["path"][-9:]) == (b"01.txt", b"moved.txt")
    page = browser.get(reverse("admin:backups_backup_diff", args=[later.pk])).text
    assert ">moved<" in page and f"was: {data}/01.txt" in page


def test_the_versions_of_a_path_are_shown_by_content(
    done: Backup, later: Backup, data: Path, by: Actor, browser: Client
) -> None:
    backups.request("incremental", by=by)
    stories.work()
    address = reverse("admin:backups_backup_versions", args=[later.pk])

    changed = browser.get(address, {"path": f"{data}/00.txt"}).text
    new = browser.get(address, {"path": f"{data}/new"}).text

    assert changed.count("<tr>") == 3  # the heading, and two versions
    assert ">5 B<" in changed and "newest 3 recovery points" in changed
    assert "not there" in new and "not there" not in changed


def test_a_person_at_the_terminal_finds(
    done: Backup, later: Backup, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(settings.AIHUB_HOME)]

    codes = [
        parser.main(["backup", "find", f"{data}/00.txt", *home]),
        parser.main(["backup", "find", "nothing", *home]),
    ]
    codes += [parser.main(["backup", "find", "*.txt", "--source", "docs", "--json", *home])]

    told = capsys.readouterr().out
    assert codes == [Exit.OK, Exit.NOT_FOUND, Exit.OK]
    assert f"{data}/00.txt" in told and "in 1 backups" in told and "nothing in 2 recovery points fits" in told
    assert len(json.loads(told.splitlines()[-1])) == 21
