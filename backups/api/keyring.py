"""/repositories/{repository}/keys: who holds a way into a repository, and its keys."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import OpenApiExample
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core.api.schema import operation
from backups.api import bodies
from backups.api.configured import Configured
from backups.api.configured_shapes import RecoveryKitShape
from backups.api.nouns import REPOSITORY
from backups.models import Repository
from backups.services import adopting, keyring

CHANGE = "backups.change_repository"
SECRETS = ("recovery_code", "passphrase", "keyfile")
KINDS = [(kind, kind) for kind in ("passphrase", "keyfile", "recovery")]
EXAMPLE = {"label": "the safe in room 3", "recovery_code": "7K4N-…"}


class KeySlotShape(serializers.Serializer[Any]):
    """One way in. Its secret is stored nowhere."""

    handle = serializers.CharField(help_text="What it is called by; it stays when the keys change.")
    kind = serializers.ChoiceField(KINDS)
    label = serializers.CharField(help_text="Whose way in it is.")  # type: ignore[assignment]  # a field of that name
    created = serializers.DateTimeField(allow_null=True)
    works = serializers.BooleanField(help_text="It leads to the keys in use.")
    ours = serializers.BooleanField(help_text="This console opens the repository through it.")
    follows = serializers.BooleanField(help_text="False: new keys need its secret; an older version made it.")


class KeysShape(serializers.Serializer[Any]):
    """All ways in, and what is still under older master keys."""

    slots = KeySlotShape(many=True)
    epoch = serializers.IntegerField(help_text="Of the master key that everything new is sealed with.")
    packs = serializers.IntegerField(help_text="Packs under older master keys; told when it is looked at.")
    bytes = serializers.IntegerField(help_text="Their size.")


class _Keys(Configured):
    noun = REPOSITORY
    related = ("storage__environment", "storage__node")

    def ours(self, reference: str) -> Repository:
        """Whoever lets somebody in does so for all that lies in there, the console's own database included."""
        self.must_hold_everywhere(CHANGE)
        row: Repository = self.one(reference, CHANGE)
        return row

    def secret(self, prefix: str = "") -> adopting.Key | None:
        """The one that the body holds."""
        return adopting.key(**{name: self.given.get(prefix + name, "") for name in SECRETS})


class Keys(_Keys):
    """The key slots."""

    @operation(
        "repository_keys", needs="backups.view_repository", answers={200: KeysShape}, problems=(404, 409, 422, 507),
        summary="Who holds a way into a repository", tag="repositories",
    )  # fmt: skip
    def get(self, _request: Request, reference: str) -> Response:
        """The repository is opened for it. No secrets."""
        return Response(asdict(keyring.look(self.one(reference, "backups.view_repository"))))

    @operation(
        "repository_key_add", needs=CHANGE, body=bodies.AddKey, answers={200: KeysShape},
        problems=(404, 409, 422, 507), summary="Let one more secret in", tag="repositories",
        examples=[OpenApiExample("a printed code, typed", EXAMPLE, request_only=True)],
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """Tried out before it counts. A recovery code that is added is proven by that. Repeated it changes nothing."""
        row, secret = self.ours(reference), adopting.must_be_one(self.secret())
        return Response(asdict(keyring.add(row, secret, self.given["label"], by=self.actor)))


class NewCode(_Keys):
    """A new printed code."""

    @operation(
        "repository_key_new_code", needs=CHANGE, answers={200: RecoveryKitShape}, problems=(404, 409, 422),
        summary="Draw a new recovery code", tag="repositories",
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """Shown this one time, stored nowhere, and good for nothing until the printed code was typed: add it next."""
        kit = keyring.draw(self.ours(reference), by=self.actor)
        return Response({name: getattr(kit, name) for name in ("repository_id", "place", "code", "text")})


class ChangeKey(_Keys):
    """A new secret in the place of an old one."""

    @operation(
        "repository_key_change", needs=CHANGE, body=bodies.ChangeKey, answers={200: KeysShape},
        problems=(404, 409, 422, 507), summary="Change a secret", tag="repositories",
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """The new one opens before the old one ceases to."""
        row = self.ours(reference)
        old, new = adopting.must_be_one(self.secret("old_"), "old_"), adopting.must_be_one(self.secret())
        return Response(asdict(keyring.change(row, old, new, by=self.actor)))


class RemoveKey(_Keys):
    """Shutting a secret out."""

    @operation(
        "repository_key_remove", needs=CHANGE, body=bodies.RemoveKey, answers={200: KeysShape},
        problems=(404, 409, 422, 507), summary="Remove a key slot", tag="repositories",
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """At least two that work are left, and a printed one. Whoever has opened the repository with it knows its keys
        of now: draw new ones if that matters."""
        row = self.ours(reference)
        return Response(asdict(keyring.remove(row, self.given["slot"], reason=self.given["reason"], by=self.actor)))


class RotateKeys(_Keys):
    """New keys."""

    @operation(
        "repository_key_rotate", needs=CHANGE, body=bodies.RotateKeys, answers={200: KeysShape},
        problems=(404, 409, 422, 507), summary="Draw a new master key", tag="repositories", once=True,
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """Everything that is written from now on is sealed with it. Needs no secret but those of slots that an older
        version made (`follows` false)."""
        row, other = self.ours(reference), self.secret()
        others = [other] if other else []
        return Response(asdict(keyring.rotate(row, others, reason=self.given["reason"], by=self.actor)))


class RenewKey(_Keys):
    """The console's own keyfile."""

    @operation(
        "repository_key_renew", needs=CHANGE, body=bodies.RenewKey, answers={200: KeysShape},
        problems=(404, 409, 422, 507), summary="Give the console a new keyfile", tag="repositories",
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """With a secret also where the application key that sealed the old one is lost."""
        return Response(asdict(keyring.renew_own(self.ours(reference), self.secret(), by=self.actor)))
