from __future__ import annotations

from aihub_backup.core.jobs.progress import Meter


def test_it_says_nothing_before_the_first_report() -> None:
    assert Meter().progress() == {}


def test_it_computes_ratio_rate_and_time_left() -> None:
    meter = Meter()
    meter.report({"phase": "reading", "bytes_done": 0, "bytes_total": 1000}, 0.0)
    meter.report({"bytes_done": 100}, 1.0)

    assert meter.progress() == {
        "phase": "reading", "bytes_done": 100, "bytes_total": 1000,
        "bytes_per_second": 100.0, "ratio": 0.1, "eta_seconds": 9,
    }  # fmt: skip


def test_the_rate_follows_slowly() -> None:
    meter = Meter()
    for second in range(4):
        meter.report({"bytes_done": 100 * second}, float(second))
    meter.report({"bytes_done": 300}, 4.0)

    assert 80 < meter.progress()["bytes_per_second"] < 100


def test_reports_that_follow_closely_are_not_measured() -> None:
    meter = Meter()
    meter.report({"bytes_done": 0}, 0.0)
    meter.report({"bytes_done": 1_000_000}, 0.001)

    assert "bytes_per_second" not in meter.progress()


def test_a_new_phase_starts_the_rates_anew() -> None:
    meter = Meter()
    meter.report({"phase": "reading", "items_done": 0, "items_total": 10}, 0.0)
    meter.report({"items_done": 5}, 1.0)
    meter.report({"phase": "writing", "items_done": 0}, 2.0)

    assert "items_per_second" not in meter.progress()
    assert meter.progress()["eta_seconds"] is None


def test_items_stand_in_where_bytes_are_not_known() -> None:
    meter = Meter()
    meter.report({"bytes_done": 7, "items_done": 0, "items_total": 4}, 0.0)
    meter.report({"items_done": 1}, 1.0)

    assert (meter.progress()["ratio"], meter.progress()["eta_seconds"]) == (0.25, 3)


def test_a_total_that_was_too_small_never_gives_more_than_all() -> None:
    meter = Meter()
    meter.report({"bytes_done": 20, "bytes_total": 10}, 0.0)

    assert meter.progress()["ratio"] == 1.0


def test_what_was_there_before_makes_no_rate() -> None:
    meter = Meter()
    meter.report({"phase": "restoring", "bytes_done": 0, "bytes_total": 1000}, 0.0)
    meter.report({"bytes_done": 600, "bytes_kept": 500}, 1.0)

    assert (meter.progress()["bytes_per_second"], meter.progress()["eta_seconds"]) == (100.0, 4)

    meter.report({"phase": "validating", "bytes_done": 0}, 2.0)

    assert "bytes_kept" not in meter.progress()
