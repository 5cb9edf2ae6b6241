"""Secrets at rest: an encrypted JSON field whose cipher text is bound to its row.

Written form: `v1.<key id>.<base64url(nonce + AES-256-GCM)>`. Each field has a key of its own (HKDF of the application
key over table and field); the associated data is table|primary key|field, so that a value copied to another row, field
or table does not open.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import models
from django.db.models.expressions import BaseExpression

from aihub_backup.core.failures import Failure
from aihub_backup.core.keys import KeyRing
from aihub_backup.core.redaction import Redacted, leaves, remember, scrub, sensitive

__all__ = [
    "Redacted", "SecretUnreadable", "SecretsField", "key_id", "remember", "rotate", "scrub", "seal", "sealed_fields",
    "sensitive", "unseal",
]  # fmt: skip

M = TypeVar("M", bound=models.Model)

VERSION = "v1"
NONCE_BYTES = 12
TAG_BYTES = 16


class SecretUnreadable(Failure):
    """A sealed value does not open: wrong key, missing key, or altered."""

    code = "secret-unreadable"


def seal(plain: bytes, table: str, pk: object, field: str) -> str:
    """Encrypt for exactly this place, with the current key."""
    ring = _ring()
    nonce = os.urandom(NONCE_BYTES)
    sealed = nonce + _cipher(ring.keys[ring.current], table, field).encrypt(nonce, plain, _place(table, pk, field))
    return f"{VERSION}.{ring.current}.{base64.urlsafe_b64encode(sealed).decode()}"


def unseal(token: str, table: str, pk: object, field: str) -> bytes:
    """Decrypt what `seal` made for the same place; SecretUnreadable tells why it does not open."""
    place = f"{table} {pk} ({field})"
    version, kid, sealed = _parts(token, place)
    key = _ring().keys.get(kid)
    if version != VERSION:
        raise SecretUnreadable(f"The secrets of {place} were sealed by a newer version ({version}).")
    if key is None:
        raise SecretUnreadable(
            f"The secrets of {place} are sealed with the key “{kid}”, which AIHUB_APP_KEYS does not hold."
            " Add that key behind the current one, or enter the secrets anew."
        )
    try:
        return _cipher(key, table, field).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _place(table, pk, field))
    except InvalidTag:
        raise SecretUnreadable(
            f"The secrets of {place} do not open: the key “{kid}” in AIHUB_APP_KEYS is not the one that sealed them,"
            " or the stored value was altered or moved from another row."
        ) from None


def key_id(token: str) -> str:
    """The id of the key that sealed the token."""
    return token.split(".", 2)[1] if token.count(".") >= 2 else ""


class Sealed(str):
    """A cipher text as it came from the database, not opened yet."""

    __slots__ = ()


if TYPE_CHECKING:
    _TextField = models.TextField[Mapping[str, Any], Redacted]
else:
    _TextField = models.TextField  # only the type checker's class takes parameters


class SecretsField(_TextField):
    """A dict of secrets. Reads as `Redacted` (a dict that does not show itself); nothing is decrypted until touched.

    The primary key must be known before the first save: use it on models whose `id` has a default (UUIDs).
    """

    description = "Encrypted JSON"

    if TYPE_CHECKING:  # what the type checker's Django plug-in reads
        _pyi_private_set_type: Mapping[str, Any]  # type: ignore[assignment]  # a mapping, not text
        _pyi_private_get_type: Redacted  # type: ignore[assignment]  # the same

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.update(blank=True, default=dict, editable=False)
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        """Leave out what the constructor fixes."""
        name, path, args, kwargs = super().deconstruct()
        for fixed in ("blank", "default", "editable"):
            kwargs.pop(fixed, None)
        return name, path, args, kwargs

    def contribute_to_class(self, cls: type[models.Model], name: str, private_only: bool = False) -> None:
        """Put the opening descriptor in the place of the plain attribute."""
        super().contribute_to_class(cls, name, private_only=private_only)
        setattr(cls, self.attname, _Opener(self))

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """The primary key is part of the seal, so it must exist before the row does."""
        found = super().check(**kwargs)
        if not self.model._meta.abstract and not self.model._meta.pk.has_default():
            hint = "Give the model a primary key with a default, for example a UUID."
            found.append(checks.Error(f"{self} needs the primary key before the first save.", hint, self, "aihub.E010"))
        return found

    def from_db_value(self, value: str | None, _expression: Any, _connection: Any) -> Sealed:
        """Cipher text; opened when the attribute is read."""
        return Sealed(value or "")

    def pre_save(self, model_instance: models.Model, add: bool) -> Sealed:
        """What is written: the untouched cipher text, or the dict sealed for this very row."""
        held = model_instance.__dict__.get(self.attname)
        if isinstance(held, Sealed):
            return held
        return Sealed(self._sealed(model_instance, held or {}))

    def get_prep_value(self, value: Any) -> Any:
        """Only cipher text goes to the database; `update(secrets={…})` cannot know the row and is refused."""
        if isinstance(value, Sealed):
            return str(value)
        if value is None or isinstance(value, BaseExpression):
            return super().get_prep_value(value)
        raise TypeError(f"{self}: secrets are written by save(), which knows the row they are bound to.")

    def value_to_string(self, obj: models.Model) -> str:
        """For dumps: the cipher text, never the secrets."""
        return str(self.pre_save(obj, add=False))

    def opened(self, instance: models.Model, token: Sealed) -> Redacted:
        """The decrypted dict; its values are remembered for scrubbing."""
        if not token:
            return Redacted()
        plain = json.loads(unseal(token, self.model._meta.db_table, instance.pk, self.attname))
        remember(leaves(plain))
        return Redacted(plain)

    def _sealed(self, instance: models.Model, values: Mapping[str, Any]) -> str:
        if not values:
            return ""
        if instance.pk is None:
            raise TypeError(f"{self} needs the primary key before the first save.")
        plain = json.dumps(dict(values), sort_keys=True, ensure_ascii=False).encode()
        return seal(plain, self.model._meta.db_table, instance.pk, self.attname)


class _Opener:
    """Opens the cipher text at the first read and keeps the dict on the instance."""

    def __init__(self, field: SecretsField) -> None:
        self.field = field

    @overload
    def __get__(self, instance: None, owner: type[models.Model]) -> _Opener: ...
    @overload
    def __get__(self, instance: models.Model, owner: type[models.Model]) -> Redacted: ...
    def __get__(self, instance: models.Model | None, owner: type[models.Model]) -> _Opener | Redacted:
        if instance is None:
            return self
        name = self.field.attname
        if name not in instance.__dict__:  # a deferred field
            instance.refresh_from_db(fields=[name])
        held = instance.__dict__[name]
        if isinstance(held, Sealed):
            held = instance.__dict__[name] = self.field.opened(instance, held)
        return cast(Redacted, held)

    def __set__(self, instance: models.Model, value: Mapping[str, Any] | Sealed | None) -> None:
        if isinstance(value, Sealed):
            instance.__dict__[self.field.attname] = value
            return
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f"{self.field} holds a mapping of names to secrets.")
        remember(leaves(value or {}))
        instance.__dict__[self.field.attname] = Redacted(value or {})


# --- rotation -------------------------------------------------------------------------------------------------------


def sealed_fields() -> Iterator[tuple[type[models.Model], SecretsField]]:
    """Every SecretsField of every installed model."""
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            if isinstance(field, SecretsField):
                yield model, field


def rotate(model: type[models.Model], field: SecretsField) -> int:
    """Seal every value of the field with the current key; the number of values that were under another key."""
    current, changed = _ring().current, 0
    for pk, token in model._base_manager.values_list("pk", field.attname).iterator():
        if token and key_id(token) != current:
            changed += _reseal(model, field, pk, token)
    return changed


def _reseal(model: type[models.Model], field: SecretsField, pk: object, token: str) -> int:
    """Guarded by the old cipher text: a form saved meanwhile wins, and has used the current key anyway."""
    table = model._meta.db_table
    fresh = Sealed(seal(unseal(token, table, pk, field.attname), table, pk, field.attname))
    return model._base_manager.filter(pk=pk, **{field.attname: Sealed(token)}).update(**{field.attname: fresh})


# --- keys -----------------------------------------------------------------------------------------------------------


def _ring() -> KeyRing:
    ring: KeyRing = settings.AIHUB_APP_KEYS
    if not ring:
        raise SecretUnreadable(
            "There is no application key, so secrets cannot be stored or read."
            " Set AIHUB_APP_KEYS or AIHUB_APP_KEYS_FILE to the key of this installation.",
            code="no-application-key",
        )
    return ring


@lru_cache(maxsize=256)
def _cipher(key: bytes, table: str, field: str) -> AESGCM:
    info = f"aihub secrets|{VERSION}|{table}|{field}".encode()
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key))


def _place(table: str, pk: object, field: str) -> bytes:
    return f"{table}|{pk}|{field}".encode()


def _parts(token: str, place: str) -> tuple[str, str, bytes]:
    try:
        version, kid, encoded = token.split(".", 2)
        sealed = base64.b64decode(encoded, altchars=b"-_", validate=True)
        if len(sealed) < NONCE_BYTES + TAG_BYTES:
            raise ValueError("too short")
        return version, kid, sealed
    except (ValueError, binascii.Error):
        raise SecretUnreadable(f"The secrets of {place} are not in their written form: the value is damaged.") from None
