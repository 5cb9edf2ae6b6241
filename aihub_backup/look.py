"""How the console looks: its name, its colours, and the way from page to page. Nothing is fetched from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _


def frame(request: HttpRequest) -> dict[str, Any]:
    """What the admin's frame needs, for the pages of signing in, which are another library's."""
    from django.contrib import admin  # not before the apps are there: the settings import this module

    asked = request.path.startswith("/accounts/") and hasattr(request, "user")  # what is refused early has no user
    return admin.site.each_context(request) if asked else {}


def _may(permission: str) -> Callable[[HttpRequest], bool]:
    def asked(request: HttpRequest) -> bool:
        return request.user.has_perm(permission)

    return asked


def _item(title: Any, icon: str, app: str, model: str) -> dict[str, Any]:
    """A line of the sidebar: the list of a model, for whoever may see such rows."""
    return {
        "title": title, "icon": icon, "link": reverse_lazy(f"admin:{app}_{model}_changelist"),
        "permission": _may(f"{app}.view_{model}"),
    }  # fmt: skip


def _style(_request: HttpRequest) -> str:
    return static("aihub/console.css")


def _icon(_request: HttpRequest) -> str:
    return static("aihub/icon.svg")


def _only(name: str) -> Callable[[HttpRequest], bool]:
    """Is this the page that is open? An address may begin like another one's."""

    def asked(request: HttpRequest) -> bool:
        return bool(request.resolver_match and request.resolver_match.url_name == name)

    return asked


def _recoveries(request: HttpRequest) -> bool:
    return request.path.startswith("/admin/recovery/") and not _only("recovery_recovery_new")(request)


_OVERVIEW = {"title": _("Overview"), "icon": "monitoring", "link": reverse_lazy("admin:index")}

NAVIGATION: list[dict[str, Any]] = [
    {"items": [_OVERVIEW]},
    {
        "title": _("Protect"),
        "items": [
            _item(_("Sources"), "database", "backups", "source"),
            _item(_("Policies"), "policy", "backups", "policy"),
            _item(_("Schedules"), "schedule", "backups", "schedule"),
            _item(_("Backups"), "backup", "backups", "backup"),
            _item(_("Repositories"), "key", "backups", "repository"),
            _item(_("Storages"), "hard_drive", "backups", "storage"),
            _item(_("Sites"), "location_on", "backups", "site"),
        ],
    },
    {"title": _("Verify"), "items": [_item(_("Verifications"), "verified", "backups", "verification")]},
    {
        "title": _("Recover"),
        "items": [
            {
                "title": _("New recovery"), "icon": "settings_backup_restore",
                "link": reverse_lazy("admin:recovery_recovery_new"), "permission": _may("recovery.request_recovery"),
                "active": _only("recovery_recovery_new"),
            },
            {**_item(_("Recoveries"), "history", "recovery", "recovery"), "active": _recoveries},
        ],
    },
    {
        "title": _("Govern"),
        "items": [
            _item(_("Audit log"), "gavel", "core", "auditevent"),
            _item(_("People"), "person", "core", "user"),
            _item(_("Roles"), "group", "auth", "group"),
            _item(_("API tokens"), "vpn_key", "core", "apitoken"),
        ],
    },
    {
        "title": _("System"),
        "collapsible": True,
        "items": [
            _item(_("Jobs"), "work_history", "core", "job"),
            _item(_("Nodes"), "dns", "core", "node"),
            _item(_("Environments"), "deployed_code", "core", "environment"),
            _item(_("Scheduler (advanced)"), "alarm", "django_celery_beat", "periodictask"),
        ],
    },
]  # fmt: skip

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "AI Hub Backup",
    "SITE_HEADER": "AI Hub Backup",
    "SITE_SYMBOL": "shield_lock",
    "SITE_URL": None,
    "SHOW_LANGUAGES": True,
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "BORDER_RADIUS": "6px",
    "STYLES": [_style],
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": _icon}],
    "COLORS": {
        "primary": {
            "50": "oklch(97.7% .014 236)", "100": "oklch(95.1% .026 236)", "200": "oklch(90.1% .058 236)",
            "300": "oklch(82.8% .111 236)", "400": "oklch(74.6% .16 237)", "500": "oklch(62% .17 240)",
            "600": "oklch(53% .155 243)", "700": "oklch(46% .135 244)", "800": "oklch(40% .11 245)",
            "900": "oklch(35% .09 246)", "950": "oklch(27% .065 247)",
        },
    },
    "ACCOUNT": {
        "navigation": [
            {"title": _("Change password"), "link": reverse_lazy("admin:password_change")},
            {"title": _("Second factor"), "link": reverse_lazy("mfa_index")},
        ]
    },
    "SIDEBAR": {"show_search": False, "command_search": True, "navigation": NAVIGATION},
    "DASHBOARD_CALLBACK": "aihub_backup.site.dashboard",
}  # fmt: skip
