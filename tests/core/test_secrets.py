from __future__ import annotations

import base64
import os
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.test.utils import isolate_apps
from pytest_django.fixtures import Settings

from aihub_backup.core.keys import KeyRing, parse_ring
from aihub_backup.core.redaction import scrub
from aihub_backup.core.secrets import SecretsField, SecretUnreadable, key_id, seal, unseal
from tests.core.safes.models import Safe

pytestmark = pytest.mark.django_db


def stored(field: str = "secrets") -> str:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {field} FROM safes_safe")
        return str(cursor.fetchone()[0])


def ring(*kids: str) -> KeyRing:
    return parse_ring(",".join(f"{kid}:{base64.b64encode(kid.ljust(32).encode()).decode()}" for kid in kids))


def test_it_is_unreadable_at_rest_and_readable_by_us() -> None:
    Safe.objects.create(secrets={"password": "tiger-lily", "n": 5})

    assert stored().startswith("v1.k1.")
    assert "tiger-lily" not in stored()
    assert Safe.objects.get().secrets == {"password": "tiger-lily", "n": 5}


def test_nothing_secret_is_stored_as_nothing() -> None:
    Safe.objects.create()

    assert stored() == ""
    assert Safe.objects.get().secrets == {}


def test_it_never_shows_itself() -> None:
    safe = Safe.objects.create(secrets={"password": "tiger-lily"})

    assert repr(safe.secrets) == f"{safe.secrets}" == "<secrets: password>"


def test_what_was_read_or_set_is_masked_in_texts() -> None:
    Safe.objects.create(secrets={"password": "snap/dragon"})

    assert scrub("cannot log in with snap/dragon at ftp://u:snap%2Fdragon@h") == (
        "cannot log in with *** at ftp://u:***@h"
    )


def test_a_changed_dict_is_sealed_again_and_an_untouched_one_is_not() -> None:
    Safe.objects.create(secrets={"password": "old one"}, spares={"password": "spare"})
    before = stored(), stored("spares")

    safe = Safe.objects.get()
    safe.secrets["password"] = "new one"
    safe.save()

    assert stored() != before[0]
    assert stored("spares") == before[1]
    assert Safe.objects.get().secrets == {"password": "new one"}


def test_the_same_secret_looks_different_each_time() -> None:
    safe = Safe.objects.create(secrets={"password": "tiger-lily"})
    first = stored()
    safe.save()

    assert stored() != first


def test_a_value_moved_to_another_row_does_not_open() -> None:
    mine = Safe.objects.create(name="mine", secrets={"password": "mine"})
    other = Safe.objects.create(name="other", secrets={"password": "other"})
    with connection.cursor() as cursor:
        cursor.execute("UPDATE safes_safe SET secrets=(SELECT secrets FROM safes_safe WHERE name='mine')")

    assert Safe.objects.get(pk=mine.pk).secrets == {"password": "mine"}
    with pytest.raises(SecretUnreadable, match="altered or moved from another row"):
        _ = Safe.objects.get(pk=other.pk).secrets


def test_a_value_moved_to_another_field_does_not_open() -> None:
    Safe.objects.create(secrets={"password": "mine"})
    with connection.cursor() as cursor:
        cursor.execute("UPDATE safes_safe SET spares=secrets")

    with pytest.raises(SecretUnreadable):
        _ = Safe.objects.get().spares


def test_another_key_under_the_same_id_is_told_apart_from_a_missing_key(settings: Settings) -> None:
    Safe.objects.create(secrets={"password": "tiger-lily"})

    settings.AIHUB_APP_KEYS = KeyRing("k1", {"k1": os.urandom(32)})
    with pytest.raises(SecretUnreadable, match="is not the one that sealed them"):
        _ = Safe.objects.get().secrets
    settings.AIHUB_APP_KEYS = ring("k2")
    with pytest.raises(SecretUnreadable, match="which AIHUB_APP_KEYS does not hold"):
        _ = Safe.objects.get().secrets
    settings.AIHUB_APP_KEYS = KeyRing()
    with pytest.raises(SecretUnreadable, match="no application key") as caught:
        _ = Safe.objects.get().secrets
    assert caught.value.permanent


@pytest.mark.parametrize("token", ["nonsense", "v1.k1.*", "v9.k1.AAAA", "v1.k1.AAAA"])
def test_a_damaged_value_is_called_damaged(token: str) -> None:
    with pytest.raises(SecretUnreadable):
        unseal(token, "table", "pk", "field")


def test_listing_rows_opens_nothing(settings: Settings) -> None:
    Safe.objects.create(secrets={"password": "tiger-lily"})
    settings.AIHUB_APP_KEYS = KeyRing()

    assert [safe.name for safe in Safe.objects.all()] == ["safe"]
    assert Safe.objects.defer("secrets").get().name == "safe"


def test_a_row_may_be_saved_without_opening_its_secrets(settings: Settings) -> None:
    Safe.objects.create(secrets={"password": "tiger-lily"})
    before = stored()
    keys, settings.AIHUB_APP_KEYS = settings.AIHUB_APP_KEYS, KeyRing()

    safe = Safe.objects.get()
    safe.name = "renamed"
    safe.save()

    settings.AIHUB_APP_KEYS = keys
    assert stored() == before
    assert Safe.objects.get().secrets == {"password": "tiger-lily"}


def test_a_query_cannot_write_plain_secrets() -> None:
    Safe.objects.create()

    with pytest.raises(TypeError, match="written by save"):
        Safe.objects.update(secrets={"password": "tiger-lily"})


def test_rotation_seals_everything_with_the_current_key(settings: Settings) -> None:
    settings.AIHUB_APP_KEYS = ring("old")
    Safe.objects.create(secrets={"password": "tiger-lily"}, spares={"password": "spare"})
    settings.AIHUB_APP_KEYS = ring("new", "old")
    out = StringIO()

    call_command("rotate_app_keys", stdout=out)

    assert out.getvalue() == "2 sealed anew with the current key.\n"
    settings.AIHUB_APP_KEYS = ring("new")
    assert key_id(stored()) == "new"
    assert Safe.objects.get().secrets == {"password": "tiger-lily"}
    call_command("rotate_app_keys", stdout=out)
    assert out.getvalue().endswith("0 sealed anew with the current key.\n")


def test_rotation_without_the_old_key_says_which_one_is_missing(settings: Settings) -> None:
    settings.AIHUB_APP_KEYS = ring("old")
    Safe.objects.create(secrets={"password": "tiger-lily"})
    settings.AIHUB_APP_KEYS = ring("new")

    with pytest.raises(CommandError, match="sealed with the key “old”"):
        call_command("rotate_app_keys")


def test_sealing_is_for_one_place_only() -> None:
    token = seal(b"value", "table", 1, "field")

    assert unseal(token, "table", 1, "field") == b"value"
    with pytest.raises(SecretUnreadable):
        unseal(token, "table", 2, "field")


@isolate_apps("tests.core.safes")
def test_a_model_without_an_early_key_is_reported() -> None:
    class Late(models.Model):
        secrets = SecretsField()

        class Meta:
            app_label = "safes"

    assert [found.id for found in Late.check()] == ["aihub.E010"]
