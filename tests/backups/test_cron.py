"""Which moments an expression means, above all in the two nights in which Berlin's clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
import time_machine
from cronsim import CronSim
from django.utils import translation
from django_celery_beat.tzcrontab import TzAwareCrontab
from hypothesis import given
from hypothesis import strategies as st

from aihub_backup.core.failures import Invalid
from backups.services import cron

BERLIN = ZoneInfo("Europe/Berlin")
SPRING = datetime(2026, 3, 28, 20, tzinfo=UTC)  # 02:00 becomes 03:00 at 01:00 UTC
AUTUMN = datetime(2026, 10, 24, 20, tzinfo=UTC)  # 03:00 becomes 02:00 at 01:00 UTC
NIGHT = timedelta(hours=14)

# What only beat fires, and what only we do; everything else is the same.
Differences = dict[str, tuple[list[str], list[str]]]
GAP: Differences = {
    "30 2 * * *": (["01:30"], ["01:00"]),
    "30 */2 * * *": (["01:30"], []),
    "30 0-5 * * *": ([], ["01:00"]),
}
FOLD: Differences = {
    "0 * * * *": ([], ["01:00"]),
    "*/30 * * * *": ([], ["01:00", "01:30"]),
    "*/15 1-3 * * *": ([], ["01:00", "01:15", "01:30", "01:45"]),
    "30 */2 * * *": ([], ["01:30"]),
}
EXPRESSIONS = [
    "30 2 * * *", "0 2 * * *", "0 3 * * *", "30 1 * * *", "0 9 * * *", "0 * * * *", "*/30 * * * *",
    "*/15 1-3 * * *", "30 */2 * * *", "0,30 2 * * *", "30 0-5 * * *", "0 2 * * SUN", "0 2 * * 7", "15 4 25,29 3,10 *",
]  # fmt: skip


def ours(expression: str, night: datetime) -> list[datetime]:
    """What becomes due in the night."""
    return cron.between(expression, BERLIN, night, night + NIGHT)[0]


def cronsims(expression: str, night: datetime) -> list[datetime]:
    """The library alone."""
    found: list[datetime] = []
    for moment in CronSim(expression, night.astimezone(BERLIN)):
        if moment.astimezone(UTC) > night + NIGHT:
            return found
        found.append(moment.astimezone(UTC))
    return found


def beats(expression: str, night: datetime) -> list[datetime]:
    """What a scheduler fires that looks every minute, with the crontab that we write for it."""
    crontab = TzAwareCrontab(**cron.for_beat(expression), tz=BERLIN)
    fired, last, now = [], night, night
    with time_machine.travel(night, tick=False) as clock:
        while now <= night + NIGHT:
            clock.move_to(now)
            if crontab.is_due(last)[0]:
                fired.append(now)
                last = now
            now += timedelta(minutes=1)
    return fired


def told(moments: set[datetime]) -> list[str]:
    """UTC."""
    return [f"{moment:%H:%M}" for moment in sorted(moments)]


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize(("night", "differences"), [(SPRING, GAP), (AUTUMN, FOLD)])
def test_beat_cronsim_and_we_agree_or_differ_as_written_here(
    expression: str, night: datetime, differences: Differences
) -> None:
    due, fired = ours(expression, night), beats(expression, night)

    assert due == cronsims(expression, night)
    only_beat, only_we = differences.get(expression, ([], []))
    assert (told(set(fired) - set(due)), told(set(due) - set(fired))) == (only_beat, only_we)


def test_a_nightly_time_comes_once_in_both_nights() -> None:
    assert len(ours("30 2 * * *", SPRING)) == len(ours("30 2 * * *", AUTUMN)) == 1


def test_an_hourly_one_has_no_hole_when_an_hour_is_repeated() -> None:
    due = ours("0 * * * *", AUTUMN)

    assert {later - earlier for earlier, later in pairwise(due)} == {timedelta(hours=1)}


@given(
    expression=st.sampled_from(EXPRESSIONS),
    night=st.sampled_from([SPRING, AUTUMN]),
    cuts=st.lists(st.integers(0, int(NIGHT.total_seconds())), max_size=8),
)
def test_however_often_one_looks_every_moment_comes_once(expression: str, night: datetime, cuts: list[int]) -> None:
    looks = [night, *(night + timedelta(seconds=cut) for cut in sorted(cuts)), night + NIGHT]

    found = [moment for since, until in pairwise(looks) for moment in cron.between(expression, BERLIN, since, until)[0]]

    assert found == ours(expression, night)


def test_a_long_outage_is_cut_to_its_newest_moments() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)

    due, left_out = cron.between("* * * * *", ZoneInfo("UTC"), now - timedelta(days=3), now)

    assert (len(due), left_out, due[-1]) == (cron.MOST_SLOTS, 3 * 1440 - cron.MOST_SLOTS, now)


def test_the_next_moments_are_told() -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)

    assert told(set(cron.following("0 2 * * *", ZoneInfo("Asia/Shanghai"), now, 1))) == ["18:00"]
    assert [at.month for at in cron.following("0 3 1 * *", BERLIN, now)] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("@daily", "has five fields"),
        ("", "has 0"),
        ("0 2 * * * *", "has 6"),
        ("61 * * * *", "The minute of"),
        ("0 24 * * *", "The hour of"),
        ("0 0 32 * *", "The day of"),
        ("0 0 30 2 *", "The day of"),
        ("0 0 * 13 *", "The month of"),
        ("0 0 * * 8", "The weekday of"),
        ("*/0 * * * *", "The minute of"),
        ("0 0 L * *", "L, W and # are not known"),
        ("0 0 * * 5L", "L, W and # are not known"),
        ("0 0 * * 1#2", "L, W and # are not known"),
        ("0 0 1 * 1", "programs disagree"),
    ],
)
def test_what_is_wrong_is_told_at_its_field(expression: str, sentence: str) -> None:
    with pytest.raises(cron.InvalidCron, match=sentence) as refusal:
        cron.checked(expression)

    assert (refusal.value.code, list(refusal.value.errors)) == ("invalid-cron", ["cron_expression"])


def test_spaces_are_tidied() -> None:
    assert cron.checked("  0  2 * *\tmon ") == "0 2 * * mon"


@pytest.mark.parametrize("name", [
    "Mars/Olympus", "", "../etc/passwd", "Europe", "localtime", "posixrules", "Factory", "right/Europe/Berlin",
])  # fmt: skip
def test_a_time_zone_that_does_not_exist_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="There is no time zone") as refusal:
        cron.zone(name)

    assert list(refusal.value.errors) == ["timezone"]


def test_it_is_told_in_words_and_in_the_readers_language() -> None:
    assert cron.in_words("0 2 * * 1") == "At 02:00, only on Monday"
    with translation.override("zh-hans"):
        assert cron.in_words("0 2 * * *") == "在 02:00"


def test_where_words_fail_it_is_told_as_it_is() -> None:
    assert cron.in_words("0 0 1-31/40 * x") == "0 0 1-31/40 * x"
