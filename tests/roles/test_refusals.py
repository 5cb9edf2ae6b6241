"""A refusal names nothing that lies out of the asker's reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from aihub_backup.core.audit import SYSTEM, Actor
from aihub_backup.core.failures import Refused
from aihub_backup.core.models import Node
from aihub_backup.core.roles import ADMIN, RESTORE_OPERATOR
from backups.models import Source, Storage
from backups.services import storages
from recovery.services import targets
from tests.roles.worlds import World, person, world

pytestmark = pytest.mark.django_db


@pytest.fixture
def ours() -> World:
    """The environment of whoever asks."""
    return world("ours")


@pytest.fixture
def theirs(tmp_path: Path) -> World:
    """Another one; its storage and its source are directories that exist."""
    found = world("SECRETB")
    Storage.objects.filter(pk=found.rows["storages"].pk).update(options={"path": str(tmp_path / "store")})
    Source.objects.filter(pk=found.rows["sources"].pk).update(options={"paths": [str(tmp_path / "data")]})
    (tmp_path / "data").mkdir()
    return found


@pytest.mark.parametrize("place", ["store/new", "data/new"])
def test_a_target_in_the_way_of_somebody_elses_is_refused_without_a_name(
    ours: World, theirs: World, tmp_path: Path, place: str
) -> None:
    asker, insider = (
        person(RESTORE_OPERATOR, ours.environment),
        person(RESTORE_OPERATOR, theirs.environment, name="ben"),
    )
    node, path = Node.objects.get(name="host"), str(tmp_path / place)

    refusals = {}
    for user in (asker, insider):
        with pytest.raises(Refused) as refusal:
            targets.judge(path, node, by=Actor.of(user))
        refusals[user] = refusal.value.message

    assert "SECRETB" not in refusals[asker]
    assert "SECRETB" in refusals[insider]


def test_a_place_that_somebody_else_has_is_refused_without_a_name(ours: World, theirs: World, tmp_path: Path) -> None:
    asker, node = person(ADMIN, ours.environment), Node.objects.get(name="host")

    refusals = {}
    for by in (Actor.of(asker), SYSTEM):
        with pytest.raises(Refused) as refusal:
            storages.draft(
                "x", "local", {"path": str(tmp_path / "store")}, by=by, environment=ours.environment, node=node
            )
        refusals[by] = refusal.value

    assert {one.code for one in refusals.values()} == {"place-taken"}
    assert "SECRETB" not in refusals[Actor.of(asker)].message
    assert "SECRETB" in refusals[SYSTEM].message
