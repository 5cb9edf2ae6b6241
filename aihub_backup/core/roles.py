"""The six roles and what each may do. A role is a Django group; other groups may be made beside these.

The table is the truth: after every migration the six groups hold exactly these permissions.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

VIEWER, AUDITOR, OPERATOR = "Viewer", "Auditor", "Operator"
RESTORE_OPERATOR, COMMANDER, ADMIN = "Restore operator", "DR commander", "Admin"


def _each(app: str, verbs: str, nouns: str) -> set[str]:
    return {f"{app}.{verb}_{noun}" for verb in verbs.split() for noun in nouns.split()}


SEE = (
    _each(
        "backups", "view", "source storage repository policy site schedule scheduleslot backup backuppart verification"
    )
    | _each("recovery", "view", "recovery recoverypart")
    | _each("core", "view", "environment node job")
)
OWN_TOKENS = _each("core", "view add delete", "apitoken")
RUN = {"backups.run_backup", "backups.verify_backup"}
SCHEDULES = _each("backups", "add change delete", "schedule")
RECOVER = {"recovery.request_recovery", "recovery.recover_inplace", "recovery.cancel_recovery"}
BEAT = _each(
    "django_celery_beat", "view add change delete",
    "periodictask crontabschedule intervalschedule solarschedule clockedschedule",
)  # fmt: skip

ROLES: dict[str, set[str]] = {
    VIEWER: SEE | OWN_TOKENS,
    AUDITOR: SEE | {"core.view_auditevent", "core.view_apitoken"},
    OPERATOR: SEE | OWN_TOKENS | RUN | SCHEDULES | _each("backups", "add change", "policy")
    | _each("backups", "browse cancel hold delete", "backup"),
    RESTORE_OPERATOR: SEE | OWN_TOKENS | RUN | RECOVER | {"recovery.rollback_own_recovery"}
    | _each("backups", "browse download cancel_own", "backup"),
    COMMANDER: SEE | OWN_TOKENS | RUN | RECOVER | {"recovery.rollback_recovery"}
    | _each("backups", "browse cancel hold", "backup"),
    ADMIN: SEE | OWN_TOKENS | RUN | SCHEDULES | BEAT | {"core.view_auditevent", "core.manage_apitoken"}
    | _each("backups", "cancel hold delete", "backup") | _each("backups", "add change delete", "source storage")
    | _each("backups", "add change", "repository policy site") | _each("core", "add change delete", "environment node")
    | _each("core", "view add change delete", "user grant") | _each("auth", "view add change delete", "group")
    | _each("mfa", "view delete", "authenticator"),
}  # fmt: skip

APPS = frozenset(name.partition(".")[0] for names in ROLES.values() for name in names)


def seed(app: str) -> None:
    """Bring the six groups to the table, as far as it names permissions of this app."""
    groups = {group.name: group for group in Group.objects.filter(name__in=ROLES)}
    Group.objects.bulk_create([Group(name=name) for name in ROLES if name not in groups])
    groups = {group.name: group for group in Group.objects.filter(name__in=ROLES)}
    known = {f"{app}.{one.codename}": one for one in Permission.objects.filter(content_type__app_label=app)}
    links: Any = Group.permissions.through
    wanted = {(groups[role].pk, known[name].pk) for role, names in ROLES.items() for name in names if name in known}
    of_app = Q(group__in=groups.values(), permission__content_type__app_label=app)
    held = set(links.objects.filter(of_app).values_list("group_id", "permission_id"))
    links.objects.bulk_create([links(group_id=group, permission_id=one) for group, one in wanted - held])
    for group, one in held - wanted:
        links.objects.filter(group_id=group, permission_id=one).delete()


def built_in(group: Group | None) -> bool:
    """One of the six?"""
    return group is not None and group.name in ROLES
