"""What a policy lets go, and what stays whatever it says."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from backups.services.retention import Point, Rules, select_expired

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def daily(days: int, **more: object) -> list[Point]:
    """One point a day, the newest today: its id is its age."""
    return [Point(age, "docs", "p", NOW - timedelta(days=age), **more) for age in range(days)]  # type: ignore[arg-type]  # words of a point


def kept(points: Sequence[Point], rules: Rules, now: datetime = NOW) -> list[Hashable]:
    """The ids that stay."""
    gone = select_expired(points, {"p": rules}, now)
    return [point.id for point in points if point.id not in gone]


# --- stories --------------------------------------------------------------------------------------------------------


def test_days_are_counted_back_from_the_newest_point() -> None:
    assert kept(daily(20), Rules(retention_days=7)) == [0, 1, 2, 3, 4, 5, 6, 7]
    old = [Point(age, "docs", "p", NOW - timedelta(days=age)) for age in (100, 101, 110)]
    assert kept(old, Rules(retention_days=7)) == [100, 101]


def test_a_clock_that_is_far_ahead_lets_nothing_go() -> None:
    assert kept(daily(5), Rules(retention_days=7), NOW + timedelta(days=4000)) == [0, 1, 2, 3, 4]


def test_each_step_keeps_its_newest_point() -> None:
    assert kept(daily(60), Rules(keep_last=2)) == [0, 1]
    assert kept(daily(60), Rules(keep_daily=3)) == [0, 1, 2]
    assert kept(daily(60), Rules(keep_weekly=3)) == [0, 4, 11]  # Thursday, and the Sundays before
    assert kept(daily(60), Rules(keep_monthly=3)) == [0, 26, 57]
    assert kept(daily(400), Rules(keep_yearly=2)) == [0, 330]


def test_hours_of_two_days_are_two_hours() -> None:
    points = [Point(number, "docs", "p", NOW - timedelta(minutes=30 * number)) for number in range(60)]

    assert kept(points, Rules(keep_hourly=3)) == [0, 1, 3]


def test_what_any_rule_keeps_stays() -> None:
    assert kept(daily(60), Rules(keep_last=1, keep_monthly=2, retention_days=2)) == [0, 1, 2, 26]


def test_without_a_rule_nothing_expires() -> None:
    assert kept(daily(500), Rules()) == kept(daily(500), Rules(retention_days=0, immutable_days=1)) == list(range(500))
    assert select_expired(daily(9), {}, NOW) == set()


def test_what_is_held_or_immutable_stays() -> None:
    assert kept(daily(5, held=True), Rules(keep_last=1)) == [0, 1, 2, 3, 4]
    assert kept(daily(9), Rules(keep_last=1, immutable_days=3)) == [0, 1, 2]


def test_the_last_point_that_could_be_restored_stays() -> None:
    damaged = Point("damaged", "docs", "p", NOW, restorable=False)
    good = Point("good", "docs", "p", NOW - timedelta(days=50))

    assert kept([damaged, good], Rules(retention_days=1)) == ["damaged", "good"]


def test_a_damaged_point_never_takes_a_good_ones_place() -> None:
    damaged = Point("damaged", "docs", "p", NOW - timedelta(hours=1), restorable=False)
    older = Point("older", "docs", "p", NOW - timedelta(hours=2))
    newest = Point("newest", "docs", "p", NOW)

    assert kept([newest, damaged, older], Rules(keep_last=2)) == ["newest", "damaged", "older"]
    assert kept([newest, damaged, older], Rules(keep_last=1)) == ["newest"]


def test_of_a_source_without_any_good_point_all_stays() -> None:
    assert kept(daily(9, restorable=False), Rules(keep_last=1)) == list(range(9))


def test_each_source_and_each_policy_is_counted_by_itself() -> None:
    points = [
        Point((source, policy, age), source, policy, NOW - timedelta(days=age))
        for source in ("docs", "logs") for policy in ("p", "q") for age in range(3)
    ]  # fmt: skip

    gone = select_expired(points, {"p": Rules(keep_last=1), "q": Rules(keep_last=2)}, NOW)

    assert gone == {
        ("docs", "p", 1), ("docs", "p", 2), ("docs", "q", 2), ("logs", "p", 1), ("logs", "p", 2), ("logs", "q", 2),
    }  # fmt: skip


# --- against a slower and simpler model -----------------------------------------------------------------------------

FORMATS = {"hourly": "%Y%m%d%H", "daily": "%Y%m%d", "weekly": "%G%V", "monthly": "%Y%m", "yearly": "%Y"}


def model(points: Sequence[Point], rules: Mapping[Hashable, Rules], now: datetime) -> set[Hashable]:
    """Point by point: is there any reason to keep it?"""
    return {point.id for point in points if not reasons(point, points, rules, now)}


def reasons(point: Point, points: Sequence[Point], rules: Mapping[Hashable, Rules], now: datetime) -> list[str]:
    said = rules.get(point.policy, Rules())
    good = [other for other in points if other.source == point.source and other.restorable]
    newest = max(good, key=order, default=None)
    if newest is None or newest == point:
        return ["the last one"]
    if not any([said.keep_last, said.keep_hourly, said.keep_daily, said.keep_weekly, said.keep_monthly,
                said.keep_yearly, said.retention_days]):  # fmt: skip
        return ["no rule"]
    found = ["held"] if point.held else []
    found += ["immutable"] if now - point.at < timedelta(days=said.immutable_days) else []
    mates = [other for other in points if other.source == point.source and other.policy == point.policy]
    rivals = [other for other in mates if other.restorable or not point.restorable]
    return found + chosen(point, rivals, said, min(now, newest.at))


def chosen(point: Point, rivals: Sequence[Point], said: Rules, today: datetime) -> list[str]:
    newer = [other for other in rivals if order(other) > order(point)]
    found = ["last"] if len(newer) < said.keep_last else []
    if said.retention_days and today - point.at <= timedelta(days=said.retention_days):
        found.append("days")
    for step, written in FORMATS.items():
        stamps = {f"{other.at:{written}}" for other in newer}
        if f"{point.at:{written}}" not in stamps and len(stamps) < getattr(said, f"keep_{step}"):
            found.append(step)
    return found


def order(point: Point) -> tuple[datetime, str]:
    return point.at, str(point.id)


counts = st.integers(0, 4)
some_rules = st.builds(
    Rules, keep_last=counts, keep_hourly=counts, keep_daily=counts, keep_weekly=counts, keep_monthly=counts,
    keep_yearly=counts, retention_days=st.none() | st.integers(0, 40), immutable_days=st.integers(0, 20),
)  # fmt: skip
ages = st.integers(0, 24 * 60) | st.integers(0, 24 * 60 * 800)
some_points = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["p", "q", None]), ages, st.booleans(), st.booleans()),
    max_size=40,
).map(
    lambda rows: [
        Point(number, source, policy, NOW - timedelta(minutes=age), held and number % 5 == 0, good or number % 3 > 0)
        for number, (source, policy, age, held, good) in enumerate(rows)
    ]
)


@given(some_points, some_rules, some_rules)
def test_it_says_what_the_simple_model_says(points: list[Point], first: Rules, second: Rules) -> None:
    rules: dict[Hashable, Rules] = {"p": first, "q": second}

    assert select_expired(points, rules, NOW) == model(points, rules, NOW)


@given(some_points, some_rules)
def test_what_was_kept_today_expires_by_nothing_but_time_and_new_points(points: list[Point], rule: Rules) -> None:
    gone = select_expired(points, {"p": rule, "q": rule}, NOW)
    left = [point for point in points if point.id not in gone]

    assert select_expired(left, {"p": rule, "q": rule}, NOW) == set()


def test_days_are_those_of_utc_wherever_one_is() -> None:
    shanghai = ZoneInfo("Asia/Shanghai")
    points = [Point(n, "docs", "p", (NOW - timedelta(hours=6 * n)).astimezone(shanghai)) for n in range(12)]

    assert kept(points, Rules(keep_daily=3)) == [0, 3, 7]  # 12:00 today, 18:00 yesterday and the day before, in UTC
