"""How work that is going on is told: a fragment that is asked for again until the end is stored."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aihub_backup.core import showing

QUIET, LOST = timedelta(seconds=30), timedelta(seconds=settings.AIHUB_JOB_LEASE_SECONDS)
ETA_AFTER_SHARE, ETA_AFTER = 0.1, timedelta(seconds=30)  # before that any guess is a bad one

COUNTS = ("bytes_done", "bytes_total", "bytes_kept", "items_done", "items_total")
PHASES = {  # as handlers call them (backups.runner)
    "reading": gettext_lazy("reading"), "verifying": gettext_lazy("verifying"), "restoring": gettext_lazy("restoring"),
    "validating": gettext_lazy("validating"), "reading the log": gettext_lazy("reading the log"),
    "writing rows": gettext_lazy("writing rows"), "reading the repository": gettext_lazy("reading the repository"),
    "looking for remedies": gettext_lazy("looking for remedies"), "healing": gettext_lazy("healing"),
    "checking": gettext_lazy("checking"),
    "looking": gettext_lazy("looking what is needed"),
    "compacting": gettext_lazy("storing anew"), "sweeping": gettext_lazy("deleting"),
}  # fmt: skip


def told(row: Any, progress: Mapping[str, Any], heartbeat_at: datetime | None) -> dict[str, Any]:
    """What the fragment shows of a row with `state`, `active` and times; `progress` has the keys of `core.jobs`."""
    return {
        "row": row, "bar": showing.bar(progress, _phase(row, progress)), "rate": progress.get("bytes_per_second"),
        **{name: progress.get(name) for name in COUNTS},
        "eta": _eta(row, progress), "sign": _sign(row, heartbeat_at),
    }  # fmt: skip


def fragment(request: HttpRequest, facts: Mapping[str, Any]) -> HttpResponse:
    """The fragment; once the end is stored the whole page is loaded anew, because much of it has changed."""
    answer = render(request, "aihub/progress.html", {"live": facts, "progress_url": request.path})
    if not facts["row"].active:
        answer["HX-Refresh"] = "true"
    answer["Cache-Control"] = "no-store"
    return answer


def _phase(row: Any, progress: Mapping[str, Any]) -> str:
    phase = progress.get("phase")
    return f"{row.get_state_display()} ({PHASES.get(phase, phase)})" if phase else str(row.get_state_display())


def _eta(row: Any, progress: Mapping[str, Any]) -> str:
    """“about 4 min”, or nothing as long as it would be a guess."""
    begun, left = row.started_at, progress.get("eta_seconds")
    early = begun is None or timezone.now() - begun < ETA_AFTER or (progress.get("ratio") or 0) < ETA_AFTER_SHARE
    if left is None or early or not row.active:
        return ""
    step = 60 if left >= 90 else 10
    return _("about %(time)s") % {"time": showing.duration(max(step, round(left / step) * step))}


def _sign(row: Any, heartbeat_at: datetime | None) -> tuple[str, str]:
    """(tone, sentence) about the worker's last sign of life."""
    if heartbeat_at is None:
        return "idle", _("No worker has taken it yet.")
    silence = timezone.now() - heartbeat_at
    seconds = {
        "seconds": max(0, round(silence.total_seconds())),
        "at": f"{timezone.localtime(heartbeat_at + LOST):%H:%M:%S}",
    }
    if silence > LOST:
        return "bad", _("The worker has been silent for %(seconds)d s; another one takes the work over.") % seconds
    if silence > QUIET:
        return "warn", _(
            "The worker was last heard %(seconds)d s ago; without a sign it counts as lost at %(at)s."
        ) % seconds
    return "good", _("The worker reported %(seconds)d s ago.") % seconds
