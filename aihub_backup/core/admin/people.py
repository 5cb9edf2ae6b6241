"""People, their tokens, roles, grants and second factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from aihub_backup.core import roles, tokens
from aihub_backup.core.admin.base import AuditedAdmin, ReadOnlyAdmin
from aihub_backup.core.audit import Actor, record
from aihub_backup.core.models import ApiToken, Grant, User
from aihub_backup.core.scoped_admin import ScopedAdmin

if TYPE_CHECKING:
    _UserAdmin = UserAdmin[User]
else:
    _UserAdmin = UserAdmin  # takes no type parameters at run time


@admin.register(ApiToken)
class ApiTokenAdmin(ReadOnlyAdmin):
    """Tokens: to be seen and withdrawn; a new one is shown once, where it is made."""

    list_display = ("name", "user", "token_key", "created", "expiry")
    list_select_related = ("user",)
    search_fields = ("name", "user__username")
    exclude = ("digest",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Withdrawing needs the ordinary permission."""
        return ScopedAdmin.has_delete_permission(self, request, obj)

    def delete_model(self, request: HttpRequest, obj: ApiToken) -> None:
        """Through the service, which writes it down."""
        tokens.revoke(obj, by=Actor.of(request.user))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        """The same for the ones that are ticked in the list."""
        for token in queryset:
            tokens.revoke(token, by=Actor.of(request.user))


@admin.register(User)
class PeopleAdmin(AuditedAdmin, _UserAdmin):
    """People, with what they may do. Only a superuser makes superusers, or hands out single permissions."""

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        """Nobody lifts themselves, or somebody else beyond the roles."""
        shown = tuple(str(name) for name in super().get_readonly_fields(request, obj))
        if _unbound(request):
            return shown
        myself = ("groups",) if obj is not None and obj.pk == request.user.pk else ()
        return (*shown, "is_superuser", "user_permissions", *myself)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A superuser's account is changed by superusers."""
        return super().has_change_permission(request, obj) and (_unbound(request) or not _super(obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The same."""
        return super().has_delete_permission(request, obj) and (_unbound(request) or not _super(obj))

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002  # Django's name
        """Somebody's new password; that it was set is written down with it."""
        with transaction.atomic():
            return super().user_change_password(request, id, form_url)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Django's password page says only here that it has done something."""
        if request.resolver_match and request.resolver_match.url_name == "auth_user_password_change":
            self.write_down(request, obj, "password")
        return super().log_change(request, obj, message)


admin.site.unregister(Group)


@admin.register(Group)
class RolesAdmin(AuditedAdmin, GroupAdmin):  # type: ignore[misc]  # its field methods take the model's own type
    """Roles: permissions under one name. The six that come with the product are as they are."""

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Of one's own making; and only a superuser puts permissions together anew."""
        return super().has_change_permission(request, obj) and not roles.built_in(obj) and _unbound(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The same."""
        return super().has_delete_permission(request, obj) and not roles.built_in(obj) and _unbound(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """The same."""
        return super().has_add_permission(request) and _unbound(request)


@admin.register(Grant)
class GrantAdmin(AuditedAdmin):
    """Who holds which role where."""

    list_display = ("holder", "role", "where", "tags", "created_at")
    list_filter = ("role", "environments")
    list_select_related = ("user", "group", "role")
    search_fields = ("user__username", "group__name", "role__name")
    autocomplete_fields = ("user",)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Not of one's own grants."""
        return super().has_change_permission(request, obj) and not _own(request, obj)

    def save_model(self, request: HttpRequest, obj: Grant, form: ModelForm[Any], change: bool) -> None:
        """PermissionDenied for a grant to oneself: nobody lifts themselves."""
        if _own(request, obj):
            raise PermissionDenied
        super().save_model(request, obj, form, change)

    @admin.display(description=_("holder"))
    def holder(self, grant: Grant) -> str:
        """A person, or a group."""
        return str(grant.user or grant.group)

    @admin.display(description=_("where"))
    def where(self, grant: Grant) -> str:
        """Names of environments."""
        if grant.every_environment:
            return str(_("every environment"))
        return ", ".join(environment.name for environment in grant.environments.all())


for _foreign in (EmailAddress, Authenticator):
    admin.site.unregister(_foreign)


@admin.register(Authenticator)
class SecondFactorAdmin(ReadOnlyAdmin):
    """Second factors: to be seen, and taken away from somebody who has lost theirs."""

    list_display = ("user", "type", "created_at", "last_used_at")
    list_select_related = ("user",)
    search_fields = ("user__username",)
    exclude = ("data",)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """The ordinary permission, without bounds; a superuser's is taken away by superusers."""
        mine = obj is None or _unbound(request) or not obj.user.is_superuser
        return ScopedAdmin.has_delete_permission(self, request, obj) and mine

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Written down with the deed."""
        with transaction.atomic():
            record("second_factor.remove", obj.user, by=Actor.of(request.user), type=obj.type)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """The same for the ones that are ticked in the list."""
        for row in queryset.select_related("user"):
            self.delete_model(request, row)


def _unbound(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and request.user.is_superuser


def _super(user: User | None) -> bool:
    return user is not None and user.is_superuser


def _own(request: HttpRequest, grant: Grant | None) -> bool:
    if grant is None or _unbound(request):
        return False
    member = grant.group_id is not None and request.user.groups.filter(pk=grant.group_id).exists()
    return member or grant.user_id == request.user.pk
