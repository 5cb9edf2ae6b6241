"""Storages, sources and repositories are added in the admin: the kind, its form, what is refused or never told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import AuditEvent, Environment, User
from aihub_backup.core.options import secret_names
from aihub_backup.core.roles import ADMIN
from backups.kinds import STORAGES, STRATEGIES
from backups.models import Repository, Source, Storage
from tests.roles.worlds import person, world

CANARY = "c4nary-of-a-secret"
KINDS = [("storage", kind) for kind in STORAGES.kinds()] + [("source", kind) for kind in STRATEGIES.kinds()]
TABLES = {"storage": STORAGES, "source": STRATEGIES}


@pytest.fixture
def browser(client: Client, owner: User) -> Client:
    """Signed in with every permission."""
    client.force_login(owner)
    return client


def page(noun: str, kind: str = "") -> str:
    address = reverse(f"admin:backups_{noun}_add")
    return f"{address}?kind={kind}" if kind else address


def options(**given: object) -> dict[str, object]:
    """As the form names them."""
    return {f"option-{name}": value for name, value in given.items()}


def bucket(**more: object) -> dict[str, object]:
    """A storage that nobody asks anything; ready to be sent."""
    told = {"bucket": "vault", "access_key": "AK", "secret_key": CANARY, "checksums": "supported"}
    return {"name": "far", **options(**{**told, "connect_timeout": 5, "read_timeout": 5, **more})}


# --- choosing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noun", TABLES)
def test_the_kinds_are_told_in_a_sentence_each(browser: Client, db: None, noun: str) -> None:
    told = browser.get(page(noun)).text

    assert all(f"?kind={kind}" in told and label in told for kind, label in TABLES[noun].choices())
    assert all(escape(TABLES[noun].about(kind)) in told for kind in TABLES[noun].kinds())


@pytest.mark.parametrize(("noun", "kind"), KINDS)
def test_the_form_of_a_kind_asks_for_each_of_its_options(browser: Client, db: None, noun: str, kind: str) -> None:
    answer = browser.get(page(noun, kind))

    asked = set(re.findall(r'name="option-(\w+)"', answer.text))
    assert answer.status_code == 200
    assert asked == set(TABLES[noun].schema(kind)["properties"])
    hidden = secret_names(TABLES[noun].options_class(kind))
    assert all(re.search(rf'type="password" name="option-{name}"', answer.text) for name in hidden)


def test_a_kind_that_is_not_there_leads_back_to_the_choice(browser: Client, db: None) -> None:
    answer = browser.get(page("storage", "floppy"))

    assert answer.status_code == 200 and "?kind=local" in answer.text


# --- adding -----------------------------------------------------------------------------------------------------------


def test_a_storage_is_made_ready_tried_out_and_stored_once(
    browser: Client, transactional_db: None, tmp_path: Path
) -> None:
    sent = {"name": "disk", "test": "on", **options(path=str(tmp_path / "disk"))}

    answer = browser.post(page("storage", "local"), sent, follow=True)
    again = browser.post(page("storage", "local"), {**sent, "environment": Environment.objects.get().pk})

    storage = Storage.objects.get()
    assert answer.redirect_chain[-1][0] == reverse("admin:backups_storage_change", args=[storage.pk])
    assert storage.tested_at and storage.capabilities["writable"] is True
    assert "choose another name" in again.text.split('name="name"', 1)[1].split("<label", 1)[0]
    assert AuditEvent.objects.get(action="storage.create").actor_name == "olivia"


def test_the_first_storage_is_added_after_it_was_tested(browser: Client, db: None, tmp_path: Path) -> None:
    """The page was opened before there was an environment; testing makes the first one."""
    words = {"name": "disk", "test": "on", **options(path=tmp_path / "disk")}

    browser.post(page("storage", "local"), {**words, "try": "yes"})
    browser.post(page("storage", "local"), words)

    assert Storage.objects.get().environment == Environment.objects.get()


def test_a_place_that_does_not_answer_is_told_above_the_form_and_not_stored(
    browser: Client, transactional_db: None, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    answer = browser.post(
        page("storage", "local"), {"name": "disk", "test": "on", **options(path=str(tmp_path / "file"))}
    )

    assert 'class="panel panel-bad"' in answer.text
    assert not Storage.objects.exists()


def test_a_bad_value_is_told_beside_its_field_and_makes_nothing(browser: Client, db: None) -> None:
    answer = browser.post(page("storage", "local"), {"name": "disk", "test": "on", **options(path="here")})

    field = answer.text.split('name="option-path"', 1)[1].split("<label", 1)[0]
    assert "This must be an absolute path" in field
    assert not Storage.objects.exists() and not AuditEvent.objects.filter(action="storage.create").exists()


def test_a_source_is_added_with_what_belongs_to_it(
    browser: Client, repository: Repository, data: Path, by: Actor
) -> None:
    sent = {"name": "docs", "test": "on", "enabled": "on", "tags": "team=search\nlevel = gold",
            "environment": str(Environment.objects.get().pk), "repository": str(repository.pk),
            **options(paths=f"{data}\n", exclude="*.tmp\n*.bak", exclude_caches="on")}  # fmt: skip

    browser.post(page("source", "files"), sent)

    source = Source.objects.get()
    assert source.tags == {"team": "search", "level": "gold"} and source.repository == repository
    assert source.options["paths"] == [str(data)] and source.options["exclude"] == ["*.tmp", "*.bak"]
    assert source.options["exclude_caches"] is True and source.options["one_file_system"] is False
    assert source.tested_at and source.enabled


def test_a_source_that_holds_its_own_repository_is_refused(
    browser: Client, repository: Repository, tmp_path: Path
) -> None:
    environment = str(Environment.objects.get().pk)

    answer = browser.post(
        page("source", "files"), {"name": "all", "environment": environment, **options(paths=str(tmp_path))}
    )

    assert "where its own backups are kept" in answer.text
    assert not Source.objects.exists()


def test_tags_that_are_no_pairs_are_told_beside_them(browser: Client, db: None, tmp_path: Path) -> None:
    answer = browser.post(page("source", "files"), {"name": "docs", "tags": "search", **options(paths=str(tmp_path))})

    assert escape("“search” is not written as name=value.") in answer.text
    assert not Source.objects.exists()


# --- trying out -------------------------------------------------------------------------------------------------------


def test_a_connection_is_tested_before_anything_is_stored(
    browser: Client, storage: Storage, data: Path, tmp_path: Path
) -> None:
    sent = {"name": "docs", "try": "yes", "environment": storage.environment.pk, **options(paths=str(data))}
    lost = {**sent, **options(paths=str(tmp_path / "gone"))}
    piece = {"HX-Request": "true"}

    good = browser.post(page("source", "files"), sent, headers=piece)
    bad = browser.post(page("source", "files"), lost, headers=piece)
    whole = browser.post(page("source", "files"), sent)

    assert "It was reached" in good.text and "<form" not in good.text
    assert "This does not work yet" in bad.text and "gone" in bad.text
    assert "It was reached" in whole.text and "<form" in whole.text
    assert not Source.objects.exists()


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_a_secret_never_comes_back(browser: Client, db: None) -> None:
    refused = browser.post(page("storage", "s3"), bucket(bucket="no/bucket"))
    browser.post(page("storage", "s3"), bucket())

    storage = Storage.objects.get()
    pages = [refused, *(browser.get(reverse(f"admin:backups_storage_{name}", args=[storage.pk]))
                        for name in ("options", "change"))]  # fmt: skip
    assert storage.secrets["secret_key"] == CANARY
    assert [one.status_code for one in pages] == [200, 200, 200]
    assert not any(CANARY in one.text for one in pages)


def test_an_empty_secret_keeps_the_stored_one(browser: Client, db: None) -> None:
    browser.post(page("storage", "s3"), bucket())
    address = reverse("admin:backups_storage_options", args=[Storage.objects.get().pk])
    shown = browser.get(address).text

    browser.post(address, bucket(secret_key="", prefix="deep"))

    storage = Storage.objects.get()
    assert "stored; empty leaves it as it is" in shown and 'value="vault"' in shown
    assert storage.options["prefix"] == "deep" and storage.secrets["secret_key"] == CANARY
    browser.post(address, bucket(secret_key="another"))
    assert Storage.objects.get().secrets["secret_key"] == "another"


def test_a_bad_change_is_told_beside_its_field_and_changes_nothing(browser: Client, storage: Storage) -> None:
    address = reverse("admin:backups_storage_options", args=[storage.pk])

    answer = browser.post(address, options(path="here"))

    assert "This must be an absolute path" in answer.text
    assert Storage.objects.get().options == storage.options


# --- repositories -----------------------------------------------------------------------------------------------------


def test_changed_settings_are_tried_out_at_once(browser: Client, repository: Repository, tmp_path: Path) -> None:
    address = reverse("admin:backups_storage_options", args=[repository.storage_id])

    wrong = browser.post(address, options(path=str(tmp_path / "nowhere")), follow=True).text
    right = browser.post(address, options(path=str(tmp_path / "disk")), follow=True).text

    assert "were changed, and their test failed: " in wrong and "mount the disk" in wrong
    assert "were changed, and their test passed." in right


def test_a_repository_is_made_and_its_kit_shown_once_and_proven(browser: Client, storage: Storage) -> None:
    sent = {"name": "vault", "storage": str(storage.pk), "codec": "zstd", "level": "3", "passphrase": CANARY}

    shown = browser.post(page("repository"), sent)

    repository = Repository.objects.get()
    address = reverse("admin:backups_repository_kit", args=[repository.pk])
    code = re.findall(r"Recovery code\s+(\S+)", shown.text)[0]
    assert "data-print" in shown.text and "It is shown once." in shown.text
    assert "data-question" not in browser.get(address).text
    assert "This page is shown once" in shown.text and f'action="{address}"' in shown.text
    assert CANARY not in shown.text and code not in browser.get(address).text
    assert code not in browser.get(reverse("admin:backups_repository_change", args=[repository.pk])).text
    browser.post(address, {"code": code})
    assert Repository.objects.get().kit_proven_at is not None and repository.level == 3


def test_a_level_that_the_codec_has_not_is_told_beside_it(browser: Client, storage: Storage) -> None:
    sent = {"name": "vault", "storage": str(storage.pk), "codec": "gzip", "level": "12"}

    answer = browser.post(page("repository"), sent)

    field = answer.text.split('name="level"', 1)[1].split("<label", 1)[0]
    assert "has the levels 1 to 9, not 12" in field
    assert not Repository.objects.exists()


def test_a_storage_in_use_is_not_offered(browser: Client, repository: Repository) -> None:
    told = browser.get(page("repository")).text

    assert str(repository.storage.pk) not in told


# --- who may ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noun", ["storage", "source", "repository"])
def test_without_the_permission_nothing_is_asked(client: Client, operator: User, noun: str) -> None:
    operator.user_permissions.add(Permission.objects.get(codename=f"view_{noun}"))
    client.force_login(operator)

    asked, sent = client.get(page(noun)), client.post(page(noun, "local"), {"name": "x"})

    assert (asked.status_code, sent.status_code) == (403, 403)
    assert page(noun) not in client.get(reverse(f"admin:backups_{noun}_changelist")).text


def test_settings_are_for_those_who_may_change_them(client: Client, operator: User, storage: Storage) -> None:
    operator.user_permissions.add(Permission.objects.get(codename="view_storage"))
    client.force_login(operator)

    assert client.get(reverse("admin:backups_storage_options", args=[storage.pk])).status_code == 403


def test_only_environments_in_reach_are_offered_and_taken(client: Client, db: None, tmp_path: Path) -> None:
    ours, theirs = world("ours"), world("theirs")
    client.force_login(person(ADMIN, ours.environment))
    sent = {"name": "mine", "environment": theirs.environment.pk, **options(path=str(tmp_path / "x"))}

    asked = (page("storage", "local"), page("source", "files"), page("repository"))
    answers = [client.get(address) for address in asked]
    refused = client.post(page("storage", "local"), sent)
    foreign = client.get(reverse("admin:backups_storage_options", args=[theirs.rows["storages"].pk]))

    assert all(answer.status_code == 200 and "theirs" not in answer.text for answer in answers)
    assert "badge-bad" in refused.text and foreign.status_code == 404
    assert not Storage.objects.filter(name="mine").exists()
    client.post(page("storage", "local"), {**sent, "environment": ours.environment.pk})
    assert Storage.objects.get(name="mine").environment == ours.environment


def test_who_reaches_certain_tags_adds_sources_with_them(client: Client, db: None, tmp_path: Path) -> None:
    ours = world("ours")
    client.force_login(person(ADMIN, ours.environment, tags={"team": "search"}))
    sent = {"name": "mine", "environment": ours.environment.pk, **options(paths=str(tmp_path))}

    refused = client.post(page("source", "files"), {**sent, "tags": "team=ads"})

    assert "does not reach sources with these tags" in refused.text
    assert not Source.objects.filter(name="mine").exists()
    client.post(page("source", "files"), {**sent, "tags": "team=search"})
    assert Source.objects.get(name="mine").tags == {"team": "search"}
