"""What a role reaches: environments, tags, one's own requests, and what a token leaves of it."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group

from aihub_backup.core import tokens
from aihub_backup.core.access import covers, everywhere, permits, scope
from aihub_backup.core.audit import SYSTEM
from aihub_backup.core.models import AuditEvent, Environment, Grant, Job, User
from aihub_backup.core.roles import ADMIN, OPERATOR, RESTORE_OPERATOR, ROLES, VIEWER
from backups.models import Backup, BackupPart, Policy, Repository, Schedule, Source, Storage, Verification
from recovery.models import Recovery
from tests.roles.worlds import person, policy, world

pytestmark = pytest.mark.django_db

SEE = "backups.view_source"


def names(user: User, permission: str = SEE) -> list[str]:
    return sorted(source.name for source in scope(Source.objects.all(), user, permission))


def test_a_role_in_one_environment_reaches_nothing_in_another() -> None:
    ours, _theirs = world("ours"), world("theirs")
    rita = person(VIEWER, ours.environment)

    for model in (Source, Storage, Repository, Backup, BackupPart, Verification, Schedule):
        seen = scope(model.objects.all(), rita, f"backups.view_{model._meta.model_name}")
        assert seen.count() == model.objects.count() / 2 == 1, model
    assert scope(Recovery.objects.all(), rita, "recovery.view_recovery").count() == 1
    assert scope(Environment.objects.all(), rita, "core.view_environment").get() == ours.environment


def test_tags_narrow_what_belongs_to_sources() -> None:
    ml = world("ml", {"team": "ml", "tier": "1"})
    world("web", {"team": "web"}, ml.environment)
    rita = person(VIEWER, ml.environment, tags={"team": "ml"})

    assert names(rita) == ["ml-docs"]
    assert scope(Backup.objects.all(), rita, "backups.view_backup").get().label == "ml-docs"
    assert scope(Schedule.objects.all(), rita, "backups.view_schedule").get().name == "ml-nightly"
    assert scope(Storage.objects.all(), rita, "backups.view_storage").count() == 2
    assert not scope(AuditEvent.objects.all(), person(ADMIN, ml.environment, name="ada", tags={"team": "ml"}),
                     "core.view_auditevent").exists()  # fmt: skip


def test_a_recovery_set_is_seen_by_those_who_reach_all_of_it() -> None:
    ours, theirs = world("ours"), world("theirs")
    both = Backup.objects.create(type="full", state="completed", requested_by_name="x", label="both")
    for place in (ours, theirs):
        BackupPart.objects.create(backup=both, source=place.rows["sources"], repository=place.rows["repositories"])

    rita, greta = person(VIEWER, ours.environment), person(VIEWER, ours.environment, theirs.environment, name="greta")

    assert not covers(rita, "backups.view_backup", both)
    assert covers(greta, "backups.view_backup", both)


def test_several_roles_hold_each_where_it_was_granted() -> None:
    ours, theirs = world("ours"), world("theirs")
    rita = person(VIEWER, ours.environment, theirs.environment)
    Grant.objects.create(user=rita, role=Group.objects.get(name=OPERATOR)).environments.set([theirs.environment])

    assert names(rita) == ["ours-docs", "theirs-docs"]
    assert names(rita, "backups.run_backup") == ["theirs-docs"]


def test_a_grant_to_a_group_is_for_its_members() -> None:
    ours = world("ours")
    team = Group.objects.create(name="night shift")
    rita = User.objects.create_user("rita", is_staff=True)
    Grant.objects.create(group=team, role=Group.objects.get(name=VIEWER), every_environment=True)

    before = names(rita)
    rita.groups.add(team)

    assert (before, names(User.objects.get(pk=rita.pk))) == ([], ["ours-docs"])
    assert ours.environment.name == "ours"


def test_membership_in_a_role_means_everywhere() -> None:
    world("ours"), world("theirs")
    rita = User.objects.create_user("rita")
    rita.groups.add(Group.objects.get(name=VIEWER))

    assert everywhere(rita, SEE)
    assert len(names(rita)) == 2


def test_an_environment_that_is_deleted_widens_no_grant() -> None:
    empty = Environment.objects.create(name="empty")
    world("ours")
    rita = person(VIEWER, empty)

    empty.delete()

    assert names(User.objects.get(pk=rita.pk)) == []


def test_what_says_nothing_about_its_place_is_for_those_without_bounds(owner: User) -> None:
    ours = world("ours")
    rita = person(ADMIN, ours.environment)

    assert not scope(Job.objects.all(), rita, "core.view_job").exists()
    assert not scope(User.objects.all(), rita, "core.change_user").exists()
    assert scope(Job.objects.all(), owner, "core.view_job").exists()


def test_shared_things_are_seen_by_all_and_changed_by_those_without_bounds() -> None:
    ours, shared = world("ours"), policy()
    rita = person(OPERATOR, ours.environment)

    assert scope(Policy.objects.all(), rita, "backups.view_policy").get() == shared
    assert not scope(Policy.objects.all(), rita, "backups.change_policy").exists()


def test_a_restore_operator_cancels_their_own_backups_only() -> None:
    ours = world("ours")
    rita = person(RESTORE_OPERATOR, ours.environment)
    mine = Backup.objects.create(
        type="full", state="queued", requested_by_name="rita", requested_by_id=str(rita.pk),
        environment=ours.environment,
    )  # fmt: skip

    assert list(scope(Backup.objects.all(), rita, "backups.cancel_backup")) == [mine]


def test_a_token_takes_away_and_never_adds() -> None:
    ours, theirs = world("ours"), world("theirs")
    rita = person(VIEWER, ours.environment)
    rita.token = tokens.make(rita, "ci", by=SYSTEM, environments=[theirs.environment]).token

    assert names(rita) == []
    rita.token = None
    assert names(rita) == ["ours-docs"]


def test_a_disabled_account_reaches_nothing() -> None:
    ours = world("ours")
    rita = person(VIEWER, ours.environment)
    rita.is_active = False

    assert names(rita) == []


def test_something_new_must_lie_in_reach() -> None:
    ours, theirs = world("ours"), world("theirs")
    rita = person(ADMIN, ours.environment, tags={"team": "ml"})

    assert permits(rita, "backups.add_source", ours.environment.pk, {"team": "ml", "x": "y"})
    assert not permits(rita, "backups.add_source", ours.environment.pk, {})
    assert not permits(rita, "backups.add_source", theirs.environment.pk, {"team": "ml"})


def test_an_auditor_changes_nothing_and_an_administrator_reads_no_content() -> None:
    assert all(name.partition(".")[2].startswith("view_") for name in ROLES["Auditor"])
    assert not {"backups.browse_backup", "backups.download_backup", "recovery.request_recovery"} & ROLES[ADMIN]
    for role, wanted in ROLES.items():
        held = Group.objects.get(name=role).permissions.select_related("content_type")
        assert {f"{one.content_type.app_label}.{one.codename}" for one in held} >= {
            name for name in wanted if not name.startswith("mfa.")
        }
