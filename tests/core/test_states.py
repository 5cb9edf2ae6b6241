from __future__ import annotations

import pytest
from django.db.models import F

from aihub_backup.core.states import IllegalMove, LostRace
from tests.core.safes.models import Light

pytestmark = pytest.mark.django_db


def test_it_moves_with_other_fields_in_one_statement() -> None:
    light = Light.objects.create()

    light.move_to("green", seen=F("seen") + 1, place="bridge")

    stored = Light.objects.get()
    assert (light.state, light.seen, light.place) == ("green", 1, "bridge")
    assert (stored.state, stored.seen, stored.place) == ("green", 1, "bridge")


def test_it_refuses_a_move_the_machine_does_not_have() -> None:
    light = Light.objects.create()

    with pytest.raises(IllegalMove, match="is red and cannot become amber"):
        light.move_to("amber")


def test_a_final_state_stays() -> None:
    light = Light.objects.create(state="broken")

    with pytest.raises(IllegalMove):
        light.move_to("red")


def test_the_second_mover_loses_the_race() -> None:
    first = Light.objects.create()
    second = Light.objects.get()
    first.move_to("green")

    with pytest.raises(LostRace, match="no longer red"):
        second.move_to("broken")
    assert Light.objects.get().state == "green"


def test_saving_never_moves_a_state() -> None:
    mine = Light.objects.create()
    Light.objects.get().move_to("green")

    mine.place = "bridge"
    mine.save()

    stored = Light.objects.get()
    assert (stored.state, stored.place) == ("green", "bridge")


def test_saving_a_partly_loaded_row_writes_only_what_was_loaded() -> None:
    Light.objects.create()
    partly = Light.objects.only("place").get()
    Light.objects.update(seen=7)

    partly.place = "bridge"
    partly.save()

    assert Light.objects.get().seen == 7
