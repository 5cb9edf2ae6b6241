"""The page about who holds a way into a repository."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from aihub_backup.core import grants
from aihub_backup.core.audit import Actor
from aihub_backup.core.models import AuditEvent, User
from aihub_backup.core.roles import ADMIN
from backups.models import Repository
from backups.services import keyring


@pytest.fixture
def browser(client: Client, owner: User) -> Client:
    """Signed in with every permission."""
    client.force_login(owner)
    return client


def page(repository: Repository) -> str:
    return reverse("admin:backups_repository_keys", args=[repository.pk])


def do(browser: Client, repository: Repository, deed: str, **words: str) -> Any:
    return browser.post(page(repository), {"do": deed, **words}, follow=True)


def labels(repository: Repository) -> list[str]:
    return sorted(slot.label for slot in keyring.look(repository).slots)


def test_it_tells_who_has_a_way_in_and_is_reached_from_the_repository(browser: Client, repository: Repository) -> None:
    change = reverse("admin:backups_repository_change", args=[repository.pk])
    button = reverse("admin:backups_repository_do", args=[repository.pk, "keys"])

    shown = browser.get(page(repository)).text

    assert button in browser.get(change).text
    assert browser.post(button).headers["Location"] == page(repository)
    assert all(word in shown for word in ("recovery kit", "application", "this console", "epoch 1"))
    assert shown.count('value="remove"') == 1  # not our own


def test_a_new_code_is_printed_typed_and_takes_the_place_of_the_old_one(
    browser: Client, repository: Repository
) -> None:
    drawn = do(browser, repository, "draw")
    code = re.search(r"(?:[0-9A-Z]{4}-){13}[0-9A-Z]{4}", drawn.text)
    assert code is not None
    old = next(slot for slot in keyring.look(repository).slots if slot.label == "recovery kit")

    typed = do(browser, repository, "paper", code=code[0].lower(), label="the safe")
    removed = do(browser, repository, "remove", slot=old.handle, label=old.label, reason="an old paper")

    assert "opens “main”" in typed.text and code[0] not in typed.text
    assert "“recovery kit” opens “main” no more" in removed.text
    assert labels(repository) == ["application", "the safe"]
    assert AuditEvent.objects.get(action="repository.key.remove").facts["reason"] == "an old paper"


def test_a_passphrase_is_added_and_changed(browser: Client, repository: Repository) -> None:
    added = do(browser, repository, "add", label="Ann", passphrase="correct horse")
    wrong = do(browser, repository, "change", old="wrong horse", new="battery staple")
    changed = do(browser, repository, "change", old="correct horse", new="battery staple")

    assert "“Ann” opens “main” too" in added.text
    assert "The passphrase is wrong" in wrong.text
    assert "the old one no more" in changed.text
    assert labels(repository) == ["Ann", "application", "recovery kit"]


def test_new_keys_and_a_new_keyfile_are_drawn(browser: Client, repository: Repository) -> None:
    rotated = do(browser, repository, "rotate", reason="a laptop was stolen")
    renewed = do(browser, repository, "renew")

    assert "under the keys of epoch 2" in rotated.text
    assert "with a new keyfile" in renewed.text
    assert keyring.look(Repository.objects.get()).epoch == 2


def test_what_is_refused_is_told_on_the_page(browser: Client, repository: Repository) -> None:
    old = next(slot for slot in keyring.look(repository).slots if slot.label == "recovery kit")

    refused = do(browser, repository, "remove", slot=old.handle, label=old.label, reason="x")
    nothing = do(browser, repository, "add", label="Ann")

    assert escape("a repository keeps at least 2") in refused.text
    assert "Give the recovery code, a passphrase or a keyfile" in nothing.text
    assert labels(repository) == ["application", "recovery kit"]


def test_only_an_administrator_of_the_whole_console_changes_who_gets_in(
    client: Client, repository: Repository, by: Actor
) -> None:
    bounded = User.objects.create_user("rob", password="x", is_staff=True)
    grants.give(bounded, Group.objects.get(name=ADMIN), by=by, environments=[repository.storage.environment])
    client.force_login(bounded)

    seen = client.get(page(repository))
    answer = client.post(page(repository), {"do": "add", "label": "rob", "passphrase": "of rob"})

    assert (seen.status_code, answer.status_code) == (200, 403)
    assert 'name="passphrase"' not in seen.text
    assert labels(repository) == ["application", "recovery kit"]
