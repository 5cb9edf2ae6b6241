"""What Prometheus is told: by whom it may be asked, what is true of it, what it costs."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pytest_django.fixtures import Settings

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import Environment, Node
from aihub_backup.metrics import settled, text
from aihub_backup.metrics.collector import StateCollector
from backups.models import Backup, BackupPart, PartState, Repository, Source, Storage, Verification, VerificationState
from backups.services import backups, policies, protection, restorable, schedules, usage
from disaster.models import DRConfig
from tests.backups.conftest import by, data, repository, source, storage
from tests.backups.stories import work

__all__ = ["by", "data", "repository", "source", "storage"]

RULES = Path(__file__).resolve().parents[2] / "deploy/prometheus"
TOKEN = "a-token-for-the-metrics"
# Consumers of series that nothing produces yet: what they tell of is not there.
LATER = (
    "aihub_source_copies", "aihub_source_copies_target", "aihub_copy_lag_seconds", "aihub_source_up",
    "aihub_source_change_zscore", "aihub_source_entropy_ratio", "aihub_source_entropy_baseline_ratio",
    "aihub_source_last_restore_test_timestamp_seconds", "aihub_source_last_restore_test_duration_seconds",
    "aihub_source_restore_test_target_seconds", "aihub_approval_oldest_pending_timestamp_seconds",
    "aihub_disaster_open_events", "aihub_disaster_impact_started_timestamp_seconds",
    "aihub_disaster_rto_target_seconds", "aihub_plan_last_drill_timestamp_seconds", "aihub_plan_drill_target_seconds",
    "aihub_login_failures_total", "aihub_health_check_status", "aihub_audit_chain_valid",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_was_counted_yet(db: None) -> None:
    """What an earlier test had is gone from the database, and so it is from the cache."""
    cache.clear()


def page() -> str:
    return text.write(StateCollector().collect()).decode()


def samples() -> dict[str, float]:
    """Series as it is written, without the order of labels → value."""
    return {
        f"{one.name}{sorted(one.labels.items())}": one.value
        for family in text_string_to_metric_families(page())
        for one in family.samples
    }


def value(name: str, **labels: str) -> float | None:
    return samples().get(f"{name}{sorted(labels.items())}")


# --- the door -------------------------------------------------------------------------------------------------------


def test_there_is_no_such_page_where_no_token_is_set(client: Client) -> None:
    assert client.get("/metrics").status_code == 404


@pytest.mark.parametrize("header", ["", "Bearer wrong", TOKEN, f"Basic {TOKEN}"])
def test_it_asks_for_the_token(client: Client, settings: Settings, header: str) -> None:
    settings.AIHUB_METRICS_TOKEN = TOKEN

    answer = client.get("/metrics", headers={"Authorization": header})

    assert (answer.status_code, answer.content) == (401, b"")


@pytest.mark.django_db
def test_the_token_opens_it(client: Client, settings: Settings) -> None:
    settings.AIHUB_METRICS_TOKEN = TOKEN

    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"aihub_info{" in answer.content and b"django_http_requests" in answer.content


def test_behind_a_tls_proxy_it_is_asked_over_plain_http(client: Client, settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT, settings.AIHUB_METRICS_TOKEN = True, TOKEN

    assert client.get("/").status_code == 301
    assert client.get("/metrics").status_code == 401


# --- what is true ---------------------------------------------------------------------------------------------------


def test_it_tells_of_a_source_and_its_runs(source: Source, by: Actor) -> None:
    names = {"source": "docs", "environment": source.environment.name}
    before = value("aihub_source_last_restorable_timestamp_seconds", **names)
    backup = backups.request("files", by=by)
    work()

    part = BackupPart.objects.get(backup=backup)
    assert (before, part.data_as_of is not None) == (0, True)
    told = samples()
    assert told[f"aihub_backup_runs_total{_run(names, 'files', 'completed')}"] == 1
    newest = value("aihub_source_last_restorable_timestamp_seconds", **names)
    assert part.data_as_of is not None and newest == part.data_as_of.timestamp()
    assert value("aihub_source_rpo_target_seconds", **names) == 3600
    assert value("aihub_source_consecutive_failures", **names) == 0
    assert value("aihub_storage_used_bytes", storage="disk", site="") == part.stored_bytes
    assert (value("aihub_storage_capacity_bytes", storage="disk", site="") or 0) > (part.stored_bytes or 0)


def test_a_storage_fills_less_when_space_was_given_back(source: Source, by: Actor) -> None:
    backups.request("files", by=by)
    work()
    usage.measured(Repository.objects.get(), 1000)

    assert value("aihub_storage_used_bytes", storage="disk", site="") == 1000


@pytest.mark.parametrize("change", [
    {"state": "taken_over"}, {"state": "tampered"}, {"kit_waived_at": None}, {"storage__enabled": False},
])  # fmt: skip
def test_it_tells_which_repository_takes_no_backups(repository: Repository, change: dict[str, Any]) -> None:
    before = value("aihub_repository_writable", repository="main")
    if "storage__enabled" in change:
        Storage.objects.update(enabled=False)
    else:
        Repository.objects.update(**change)

    after = value("aihub_repository_writable", repository="main")

    assert (before, after) == (1, 0)


def test_a_repository_that_is_given_up_is_not_told_of(repository: Repository) -> None:
    Repository.objects.update(state="retired")

    assert value("aihub_repository_writable", repository="main") is None


def _run(names: dict[str, str], kind: str, status: str) -> list[tuple[str, str]]:
    return sorted({**names, "type": kind, "status": status}.items())


def test_a_status_that_never_came_begins_at_zero(source: Source, by: Actor) -> None:
    names = {"source": "docs", "environment": source.environment.name}
    backups.request("files", by=by)
    work()

    told = samples()

    runs = {
        status: told[f"aihub_backup_runs_total{_run(names, 'files', status)}"] for status in ("completed", "failed")
    }
    assert runs == {"completed": 1, "failed": 0}


@pytest.mark.parametrize(("ended", "failures"), [
    ([], 0), (["failed"], 1), (["failed", "failed"], 2), (["failed", "completed"], 0),
    (["failed", "completed", "failed", "cancelled", "failed"], 2), (["completed", "failed", "expired"], 0),
])  # fmt: skip
def test_failures_are_counted_from_the_newest_success(source: Source, ended: list[str], failures: int) -> None:
    other = Source.objects.create(name="other", kind="files", environment=source.environment)
    for number, state in enumerate(ended):
        _ended(source, state, number)
    _ended(other, "failed", 99)

    told = samples()

    names = {"environment": source.environment.name}
    series = "aihub_source_consecutive_failures"
    assert told[f"{series}{sorted({**names, 'source': source.name}.items())}"] == failures
    assert told[f"{series}{sorted({**names, 'source': 'other'}.items())}"] == 1


def _ended(source: Source, state: str, number: int) -> None:
    at = timezone.now() - timedelta(days=1) + timedelta(minutes=number)
    stored = state in ("completed", "expired")
    backup = Backup.objects.create(type="files", state=state, requested_by_name="olivia", created_at=at)
    BackupPart.objects.create(
        backup=backup, source=source, repository=Repository.objects.get(), state=state, mode="full", created_at=at,
        finished_at=at, data_as_of=at if stored else None,
    )  # fmt: skip


def test_it_counts_what_is_restorable_and_no_more(source: Source, by: Actor) -> None:
    names = {"source": "docs", "environment": source.environment.name}
    for _ in range(3):
        backups.request("files", by=by)
        work()
    deleted, damaged, good = BackupPart.objects.order_by("created_at")
    BackupPart.objects.filter(pk=deleted.pk).update(state=PartState.DELETED)
    Verification.objects.create(
        part=damaged, storage=damaged.repository.storage, level=2, requested_by_name="olivia",
        state=VerificationState.FAILED, finished_at=timezone.now(),
    )  # fmt: skip

    assert value("aihub_source_restorable_points", **names) == 1
    assert set(restorable.restorable_parts()) == {good}


def test_a_count_never_falls_when_a_backup_is_deleted(source: Source, by: Actor) -> None:
    for _ in range(2):
        backups.request("files", by=by)
        work()
    before = {name: number for name, number in samples().items() if name.startswith("aihub_backup_runs_total")}

    backups.delete(Backup.objects.order_by("created_at")[0], by=by, reason="no longer needed")
    work()

    assert BackupPart.objects.filter(state=PartState.DELETED).count() == 1
    assert {name: number for name, number in samples().items() if name.startswith("aihub_backup_runs")} == before


def test_a_damaged_point_is_none_that_could_be_restored(source: Source, by: Actor) -> None:
    names = {"source": "docs", "environment": source.environment.name}
    backups.request("files", by=by)
    work()
    part = BackupPart.objects.get()
    facts = {"part": part, "storage": part.repository.storage, "level": 2, "requested_by_name": "olivia"}

    Verification.objects.create(state=VerificationState.FAILED, finished_at=timezone.now(), **facts)

    assert value("aihub_source_last_restorable_timestamp_seconds", **names) == 0
    assert value("aihub_source_last_verification_status", **names) == 0
    later = timezone.now() + timedelta(seconds=1)
    Verification.objects.create(state=VerificationState.PASSED, finished_at=later, **facts)
    assert (value("aihub_source_last_restorable_timestamp_seconds", **names) or 0) > 0
    assert value("aihub_source_last_verification_status", **names) == 1


def test_what_was_found_in_a_point_that_is_gone_says_nothing_any_more(source: Source, by: Actor) -> None:
    names = {"source": "docs", "environment": source.environment.name}
    for _ in range(2):
        backups.request("files", by=by)
        work()
    damaged = BackupPart.objects.order_by("created_at")[0]
    Verification.objects.create(
        part=damaged, storage=damaged.repository.storage, level=2, requested_by_name="olivia",
        state=VerificationState.FAILED, finished_at=timezone.now(),
    )  # fmt: skip
    before = value("aihub_source_last_verification_status", **names)

    BackupPart.objects.filter(pk=damaged.pk).update(state=PartState.DELETED)

    assert (before, value("aihub_source_last_verification_status", **names)) == (0, None)
    assert protection.evaluate([source])[source.pk].checked is None


def test_no_hour_is_left_out_when_the_next_begins(source: Source, by: Actor, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"source": "docs", "environment": source.environment.name}
    backups.request("files", by=by)
    work()
    hours = cycle((timezone.now() - timedelta(hours=1), timezone.now() + timedelta(hours=1)))
    monkeypatch.setattr(settled, "_settled", lambda: next(hours))

    assert value("aihub_backup_runs_total", **names, type="files", status="completed") == 1


def test_the_policy_s_target_goes_before_the_environment_s(source: Source, by: Actor) -> None:
    names = {"source": "docs", "environment": source.environment.name}
    DRConfig.objects.create(environment=source.environment, rpo_minutes=30, rto_minutes=20)
    source.policy = policies.create("gold", by=by, rpo_target_minutes=10)
    source.save()

    assert value("aihub_source_rpo_target_seconds", **names) == 600
    assert value("aihub_source_rto_target_seconds", **names) == 1200


@pytest.mark.django_db
def test_it_tells_of_workers_schedules_and_the_scheduler(by: Actor) -> None:
    Node.objects.create(name="one", seen_at=timezone.now())
    Node.objects.create(name="two", seen_at=timezone.now() - timedelta(hours=1))
    schedule = schedules.create("nightly", "files", "0 2 * * *", by=by)

    deadline = value("aihub_schedule_next_deadline_timestamp_seconds", schedule="nightly", environment="") or 0
    assert value("aihub_workers_online", queue="backup") == 1
    assert value("aihub_workers_online", queue="node.two") == 0
    assert value("aihub_schedule_enabled", schedule="nightly", environment="") == 1
    assert deadline == (schedules.next_runs(schedule)[0] + timedelta(hours=1)).timestamp()
    assert value("aihub_beat_heartbeat_timestamp_seconds") == 0


# --- what it costs, and who reads it --------------------------------------------------------------------------------


def test_a_thousand_sources_cost_no_more_queries_than_one(
    repository: Repository, by: Actor, environment: Environment
) -> None:
    one = _queries(repository, environment, 1)

    thousand = _queries(repository, environment, 999)

    assert one == thousand <= 25
    assert page().count("aihub_source_last_restorable_timestamp_seconds{") == 1000


def _queries(repository: Repository, environment: Environment, more: int) -> int:
    """Of one scrape, with so many more sources of two points each."""
    first = Source.objects.count()
    made = Source.objects.bulk_create(
        Source(name=f"s{first + number}", kind="files", environment=environment) for number in range(more)
    )
    backup = Backup.objects.create(type="files", state="completed", requested_by_name="olivia")
    other = Backup.objects.create(type="files", state="completed", requested_by_name="olivia")
    BackupPart.objects.bulk_create(
        BackupPart(backup=run, source=one, repository=repository, state=PartState.COMPLETED, data_as_of=timezone.now())
        for one in made for run in (backup, other)
    )  # fmt: skip
    page()  # of an hour's scrapes the first one counts what is settled
    with CaptureQueriesContext(connection) as captured:
        page()
    return len(captured)


@pytest.mark.django_db
def test_every_series_that_rules_read_is_told_or_known_to_be_missing() -> None:
    told = set(re.findall(r"^# TYPE (\S+)", page(), re.MULTILINE))
    expressions = [
        str(rule["expr"])
        for name in ("alerts.yml", "recording.yml")
        for group in yaml.safe_load((RULES / name).read_text())["groups"]
        for rule in group["rules"]
    ]

    read = set(re.findall(r"\baihub_[a-z_]+", " ".join(expressions)))

    assert read - told == set(LATER)


@pytest.mark.django_db
def test_every_series_has_a_help() -> None:
    told = page()

    for name in re.findall(r"^# TYPE (\S+)", told, re.MULTILINE):
        assert re.search(rf"^# HELP {name} \S", told, re.MULTILINE), name
