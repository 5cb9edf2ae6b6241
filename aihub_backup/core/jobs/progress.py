"""How far a job is, how fast it goes, how long it will still take. Pure arithmetic; the only place that does it.

Keys a handler gives: phase, bytes_done, bytes_total, items_done, items_total, bytes_kept (of those done, what an
attempt before this one had done: it counts for no rate), and anything else of its own, JSON-able.
Keys added here: ratio (0..1), bytes_per_second, items_per_second, eta_seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SMOOTHING_SECONDS = 20.0  # the rate forgets what is older than about that


class Meter:
    """Turns a handler's reports into the progress dict that is stored and shown."""

    def __init__(self) -> None:
        self._facts: dict[str, Any] = {}
        self._rates: dict[str, float] = {}
        self._last: dict[str, tuple[float, float]] = {}

    def report(self, facts: Mapping[str, Any], now: float) -> None:
        """Lay new facts over the old; `now` in seconds of any steady clock. A new phase starts the rates anew."""
        if facts.get("phase", self._facts.get("phase")) != self._facts.get("phase"):
            self._rates.clear()
            self._last.clear()
            self._facts.pop("bytes_kept", None)
        self._facts.update(facts)
        for unit in ("bytes", "items"):
            self._measure(unit, now)

    def progress(self) -> dict[str, Any]:
        """The stored form; empty before the first report."""
        if not self._facts:
            return {}
        rates = {f"{unit}_per_second": round(rate, 1) for unit, rate in self._rates.items()}
        return {**self._facts, **rates, "ratio": self._ratio(), "eta_seconds": self._eta()}

    def _measure(self, unit: str, now: float) -> None:
        done = self._facts.get(f"{unit}_done")
        if done is None:
            return
        done -= self._facts.get(f"{unit}_kept") or 0
        when, before = self._last.get(unit, (now, float(done)))
        self._last.setdefault(unit, (now, float(done)))
        if now - when < 0.5:  # closer reports would measure noise
            return
        rate, weight = max(0.0, (done - before) / (now - when)), 1 - math.exp(-(now - when) / SMOOTHING_SECONDS)
        self._rates[unit] = rate if unit not in self._rates else self._rates[unit] + weight * (rate - self._rates[unit])
        self._last[unit] = (now, float(done))

    def _ratio(self) -> float | None:
        shares = [self._share(unit) for unit in ("bytes", "items")]
        known = [share for share in shares if share is not None]
        return round(known[0], 4) if known else None

    def _share(self, unit: str) -> float | None:
        done, total = self._facts.get(f"{unit}_done"), self._facts.get(f"{unit}_total")
        return min(1.0, done / total) if total and done is not None else None

    def _eta(self) -> int | None:
        for unit in ("bytes", "items"):
            total, rate = self._facts.get(f"{unit}_total"), self._rates.get(unit)
            if total and rate:
                left = max(0.0, float(total - self._facts.get(f"{unit}_done", 0)))
                return math.ceil(left / rate)
        return None
