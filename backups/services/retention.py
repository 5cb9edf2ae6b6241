"""Which recovery points a policy lets go. A pure function: it knows no rows, no clock and no storage.

Every doubt is for keeping. Points are counted in groups of one source and one policy; each rule names points to keep,
and what any rule names stays. Days, hours, weeks (ISO), months and years are those of UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True)
class Rules:
    """What a policy says. Counts are points to keep of each step, 0 = none of that step; days None or 0 = no rule."""

    keep_last: int = 0
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_yearly: int = 0
    retention_days: int | None = None
    immutable_days: int = 0

    @property
    def silent(self) -> bool:
        """Without any rule nothing expires."""
        return not (self.retention_days or any(getattr(self, f"keep_{step}") for step in _STEPS))


@dataclass(frozen=True)
class Point:
    """A recovery point. `restorable`: nothing is known against it; a damaged one never takes a good one's place."""

    id: Hashable
    source: Hashable
    policy: Hashable  # None: nothing was promised
    at: datetime
    held: bool = False
    restorable: bool = True


# What two points of one step have in common.
_STEPS: dict[str, Callable[[Point], Hashable]] = {
    "last": lambda point: point.id,
    "hourly": lambda point: (_utc(point).date(), _utc(point).hour),
    "daily": lambda point: _utc(point).date(),
    "weekly": lambda point: _utc(point).isocalendar()[:2],
    "monthly": lambda point: (_utc(point).year, _utc(point).month),
    "yearly": lambda point: _utc(point).year,
}


def select_expired(points: Iterable[Point], rules: Mapping[Hashable, Rules], now: datetime) -> set[Hashable]:
    """The ids of the points that nothing keeps any more.

    Always kept: points of a policy without rules, held ones, those younger than `immutable_days`, and the newest
    restorable point of every source. `retention_days` are counted back from that point: a source whose backups fail,
    or a clock that is ahead, never lets the last good days go. Of a source without a restorable point all stays.
    """
    sources: dict[Hashable, list[Point]] = {}
    for point in sorted(points, key=_age, reverse=True):
        sources.setdefault(point.source, []).append(point)
    expired: set[Hashable] = set()
    for ours in sources.values():
        last = next((point for point in ours if point.restorable), None)
        if last is not None:
            expired |= _of_source(ours, last, rules, now)
    return expired


def _of_source(points: Sequence[Point], last: Point, rules: Mapping[Hashable, Rules], now: datetime) -> set[Hashable]:
    expired: set[Hashable] = set()
    for policy in {point.policy for point in points}:
        said = rules.get(policy, Rules())
        group = [point for point in points if point.policy == policy]
        if not said.silent:
            kept = _kept(group, said, min(now, last.at))
            expired |= {point.id for point in group if point.id not in kept and not _bound(point, said, now)}
    return expired - {last.id}


def _kept(group: Sequence[Point], rules: Rules, today: datetime) -> set[Hashable]:
    """The rules look at good points only; a damaged one stays as long as it would if it were good."""
    good = [point for point in group if point.restorable]
    among_all = {point.id for point in group if not point.restorable} & _named(group, rules, today)
    return _named(good, rules, today) | among_all


def _named(group: Sequence[Point], rules: Rules, today: datetime) -> set[Hashable]:
    """What any rule names, of points from the newest to the oldest."""
    oldest = today - timedelta(days=rules.retention_days) if rules.retention_days else None
    named = {point.id for point in group if oldest is not None and point.at >= oldest}
    for name, step in _STEPS.items():
        newest: dict[Hashable, Hashable] = {}  # of each step
        for point in group:
            newest.setdefault(step(point), point.id)
        named |= set(list(newest.values())[: getattr(rules, f"keep_{name}")])
    return named


def _bound(point: Point, rules: Rules, now: datetime) -> bool:
    return point.held or point.at + timedelta(days=rules.immutable_days) > now


def _utc(point: Point) -> datetime:
    return point.at.astimezone(UTC)


def _age(point: Point) -> tuple[datetime, str]:
    return point.at, str(point.id)
