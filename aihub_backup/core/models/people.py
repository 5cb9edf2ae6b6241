"""People and their tokens."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from knox.models import AbstractAuthToken, AuthTokenManager
from knox.settings import knox_settings

from aihub_backup.core.reach import Bound, Reach, own_form

if TYPE_CHECKING:
    _Manager = models.Manager["ApiToken"]
else:
    _Manager = AuthTokenManager  # knox has no types


class User(AbstractUser):  # type: ignore[django-manager-missing]  # knox has no types, so its reverse manager is unknown
    """A person who may sign in. Our own class from the first day: a later change would need a new database.

    `token` is set on the instance of a request that came with a token; then no check finds more than the token allows.
    Without an object, `has_perm` asks whether the permission is held anywhere; `core.access` knows where.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    password_expired = models.BooleanField(_("password must be changed"), default=False)

    token: ApiToken | None = None
    grants_read: list[tuple[Bound, frozenset[str]]] | None = None  # by `core.access`, once for each instance

    if TYPE_CHECKING:
        auth_token_set: TokenManager

    class Meta:
        verbose_name = _("user")
        verbose_name_plural = _("users")
        swappable = "AUTH_USER_MODEL"

    def set_password(self, raw_password: str | None) -> None:
        """A new password, which need not be changed."""
        super().set_password(raw_password)
        self.password_expired = False

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """The person's permission, cut down to the scopes of the token in use."""
        if self.token is not None and not self.token.allows(perm):
            return False
        return super().has_perm(perm, obj) or super().has_perm(own_form(perm), obj)


class TokenManager(_Manager):
    """Makes tokens."""

    def issue(
        self,
        user: User,
        name: str,
        *,
        lifetime: timedelta | None = None,
        scopes: Sequence[str] = (),
        environments: Sequence[str] = (),
    ) -> tuple[ApiToken, str]:
        """(row, token): the token is shown this once, only its digest is stored. Without a lifetime: 90 days."""
        create: Any = self.create  # knox gives back a pair
        made = create(
            user=user, name=name, expiry=lifetime or knox_settings.TOKEN_TTL,
            scopes=list(scopes), environments=list(environments),
        )  # fmt: skip
        return cast("tuple[ApiToken, str]", made)


class ApiToken(AbstractAuthToken):  # type: ignore[misc]  # knox has no types
    """A program's way in; `ApiToken.objects.issue(user, name)` makes one.

    `scopes` are permissions ("backups.run_backup"), empty = all of the person's; `environments` are ids as texts,
    empty = all of the person's. A deleted environment leaves its id behind, so that a token never grows by that.
    """

    if TYPE_CHECKING:
        user: models.ForeignKey[User, User]
        expiry: models.DateTimeField[Any, Any]

    REACH: ClassVar[Reach] = Reach(owner="user", all_need="core.manage_apitoken")

    objects = TokenManager()

    id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(_("name"), max_length=100, blank=True)
    scopes = models.JSONField(_("scopes"), default=list, blank=True)
    environments = models.JSONField(_("environments"), default=list, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)

    class Meta:
        verbose_name = _("API token")
        verbose_name_plural = _("API tokens")
        ordering = ("-created",)
        permissions = (("manage_apitoken", _("Can see and revoke everybody's API tokens")),)

    def __str__(self) -> str:
        return f"{self.name or _('token')} ({self.token_key}…)"

    def allows(self, permission: str) -> bool:
        """Does the token reach so far?"""
        return not self.scopes or permission in self.scopes

    @property
    def expired(self) -> bool:
        """Over?"""
        return self.expiry is not None and self.expiry <= timezone.now()
