"""Cron expressions: five fields, read in a time zone. The one place that knows which moments they mean.

The moments are cronsim's (the rules of Debian's cron). In the hour that a clock skips a fixed time comes at its end; in
the hour that it repeats a fixed time comes once, and “every …” goes on as on any other night.
"""

from __future__ import annotations

import calendar
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo

from cron_descriptor import FormatException, MissingFieldException, Options, WrongArgumentException, get_description
from cronsim import CronSim, CronSimError
from django.utils.dates import MONTHS, WEEKDAYS
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from aihub_backup.core.failures import Invalid

MOST_SLOTS = 1000  # of one look back: an outage is told, not written down minute by minute for a year
LONGEST_LOOK = timedelta(days=400)  # the rarest ordinary schedule is yearly

_FIELDS = ("minute", "hour", "day", "month", "weekday")
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


class InvalidCron(Invalid):
    """The expression cannot be understood; told at its field."""

    code = "invalid-cron"

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, errors={"cron_expression": sentence})


def checked(expression: str) -> str:
    """The expression with single spaces. InvalidCron says what is wrong with it and what to write instead."""
    words = expression.split()
    if len(words) != len(_FIELDS):
        raise InvalidCron(
            f"A cron expression has five fields ({', '.join(_FIELDS)}), like “0 2 * * *” for daily at 02:00;"
            f" “{expression[:80]}” has {len(words)}."
        )
    tidy = " ".join(words)
    _refuse_foreign(tidy, _parsed(tidy))
    return tidy


# Files beside those of places: what this host's clock shows, the rules of a standard, and clocks with leap seconds.
_NO_PLACE = ("localtime", "posixrules", "Factory", "posix/", "right/")


def zone(name: str) -> ZoneInfo:
    """The time zone of that name. Invalid when there is none, or when it is another one on each host."""
    try:
        if name.startswith(_NO_PLACE):
            raise KeyError(name)
        return ZoneInfo(name)
    except (ValueError, KeyError, OSError):
        told = _("There is no time zone “%(name)s”; give a name such as UTC, Europe/Berlin or Asia/Shanghai.")
        sentence = told % {"name": name[:63]}
        raise Invalid(sentence, errors={"timezone": sentence}) from None


def between(expression: str, place: ZoneInfo, since: datetime, until: datetime) -> tuple[list[datetime], int]:
    """The moments after `since` up to `until`, in UTC, and how many older ones were left out of a long list."""
    start = max(since, until - LONGEST_LOOK)
    newest: deque[datetime] = deque(maxlen=MOST_SLOTS)
    count = 0
    for moment in _after(expression, place, start):
        if moment > until:
            break
        newest.append(moment)
        count += 1
    return list(newest), count - len(newest)


def following(expression: str, place: ZoneInfo, now: datetime, count: int = 5) -> list[datetime]:
    """The next moments, in UTC."""
    return list(islice(_after(expression, place, now), count))


def in_words(expression: str) -> str:
    """What it says, for people: “At 02:00, only on Monday”; the expression itself where words fail."""
    return _named(_described(expression, "zh_CN" if (get_language() or "").startswith("zh") else "en_US"))


@lru_cache(maxsize=1_000)  # the library reads its catalogue of words from the disk each time
def _described(expression: str, locale: str) -> str:
    options = Options()
    options.use_24hour_time_format, options.locale_code = True, locale
    try:
        return str(get_description(expression, options))
    except (FormatException, MissingFieldException, WrongArgumentException):
        return expression


def _named(words: str) -> str:
    """With days and months as the reader calls them: the library knows their English names only."""
    days = zip(calendar.day_name, WEEKDAYS.values(), strict=True)
    months = zip(calendar.month_name[1:], MONTHS.values(), strict=True)
    for english, name in (*days, *months):
        words = words.replace(english, str(name))
    return words


def for_beat(expression: str) -> dict[str, str]:
    """The same as the columns of a crontab of django-celery-beat: plain lists, because the two read names, steps and
    the weekday 7 differently. Weekdays are always listed, so that a task which looks for a crontab like “0 4 * * *”
    to share never finds one of ours."""
    found = _parsed(expression)
    weekdays = {int(day) % 7 for day in found.weekdays if isinstance(day, int)}
    return {
        "minute": _listed(found.minutes, range(60)), "hour": _listed(found.hours, range(24)),
        "day_of_month": _listed(found.days, range(1, 32)), "month_of_year": _listed(found.months, range(1, 13)),
        "day_of_week": ",".join(map(str, sorted(weekdays))),
    }  # fmt: skip


def _after(expression: str, place: ZoneInfo, since: datetime) -> Iterator[datetime]:
    """Without an end. Begun in the second of two equal hours cronsim names moments of the first: they are over."""
    for moment in CronSim(expression, since.astimezone(place)):
        found = moment.astimezone(UTC)
        if found > since:
            yield found


def _parsed(expression: str) -> CronSim:
    try:
        return CronSim(expression, _SOME_DAY)
    except CronSimError as error:
        field = str(error).removeprefix("Bad ").replace("day-of-month", "day").replace("day-of-week", "weekday")
        raise InvalidCron(
            f"The {field} of “{expression[:80]}” cannot be understood; a field is *, a number, a list (1,15), a range"
            " (1-5) or a step (*/10)."
        ) from None


def _refuse_foreign(expression: str, found: CronSim) -> None:
    """What cronsim knows and the scheduler does not, or understands differently."""
    plain = all(isinstance(day, int) and day >= 0 for day in [*found.days, *found.weekdays])
    if not plain:
        raise InvalidCron(f"L, W and # are not known here; say the days of “{expression[:80]}” as numbers.")
    if not found.day_and:
        raise InvalidCron(
            f"“{expression[:80]}” names days of the month and days of the week; programs disagree whether one or both"
            " must fit. Leave one of them *, or make two schedules."
        )


def _listed(chosen: set[int], every: range) -> str:
    return "*" if set(every) <= chosen else ",".join(map(str, sorted(chosen)))
