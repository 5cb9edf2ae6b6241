"""The one collector of state: everything it tells it reads from the database while Prometheus waits."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from django.conf import settings
from django.db import Error

from aihub_backup.metrics import places, settled, sources, work
from aihub_backup.metrics.family import Family, counter, gauge

log = logging.getLogger(__name__)


class StateCollector:
    """Values survive restarts and are the same from every web process. A database that fails costs the state, not the
    page: errors and the last success are told."""

    def __init__(self) -> None:
        self._errors = 0
        self._succeeded = 0.0

    def collect(self) -> Iterator[Family]:
        """All series of state."""
        begin = time.monotonic()
        try:
            past, known = settled.all_runs(), sources.names()
            yield from [
                *_info(), *sources.families(past, known), *places.families(past), *work.families(known),
            ]  # fmt: skip
            self._succeeded = time.time()
        except Error:
            self._errors += 1
            log.exception("the state for the metrics could not be read")
        yield from self._own(time.monotonic() - begin)

    def _own(self, seconds: float) -> Iterator[Family]:
        yield gauge("aihub_collector_duration_seconds", "How long reading the state took", (), [((), seconds)])
        yield counter("aihub_collector_errors", "State that could not be read", (), {(): self._errors})
        yield gauge(
            "aihub_collector_last_success_timestamp_seconds", "When the state was last read whole (0 = never)", (),
            [((), self._succeeded)],
        )  # fmt: skip


def _info() -> Iterator[Family]:
    yield gauge("aihub_info", "Build information", ("version",), [((settings.AIHUB_VERSION,), 1)])
