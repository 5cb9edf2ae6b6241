"""Storages on S3, as the console sees them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile

from aihub_backup.core.audit import Actor
from aihub_backup.core.failures import Failure
from aihub_backup.core.models import AuditEvent
from aihub_backup.core.options import OptionsError
from backups.kinds import STORAGES
from backups.models import PartState, Repository, Source, Storage
from backups.services import backups, sources, storages
from backups.storages.s3 import S3Options, S3Storage
from tests.backups import stories
from tests.backups.test_secrets_stay_inside import everything_written
from tests.servers.s3 import BUCKET, OWNER, READER, S3Server

CANARY = "canary-secret-key-41bd"


@pytest.fixture
def storage(transactional_db: None, by: Actor, s3_server: S3Server) -> Storage:
    """A prefix in a bucket."""
    return storages.create("bucket", "s3", s3_server.options(), by=by)


def face(s3_server: S3Server, **changes: Any) -> S3Storage:
    """The place as Django sees it."""
    options = STORAGES.options("s3", s3_server.options(**changes))
    return S3Storage(options)


def test_it_is_probed_and_belongs_to_no_host(storage: Storage) -> None:
    assert storage.node is None
    assert storage.tested_at is not None
    assert storage.capabilities["overwrite_refused"]
    assert storages.place(storage).startswith(f"the bucket {BUCKET} under t-")


def test_only_the_secret_is_sealed(storage: Storage, s3_server: S3Server) -> None:
    shown = {**storage.options, **AuditEvent.objects.get().facts}

    assert storage.options["access_key"] == OWNER[0]
    assert storage.secrets["secret_key"] == OWNER[1]
    assert OWNER[1] not in str(shown)
    assert OWNER[1] not in repr(STORAGES.options("s3", s3_server.options()))
    assert set(storage.secrets) == {"secret_key", "session_token"}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"bucket": ""}, "bucket"),
        ({"bucket": "a/b"}, "bucket"),
        ({"prefix": "/backups/"}, "prefix"),
        ({"prefix": "a/../b"}, "prefix"),
        ({"endpoint_url": "s3.example.org"}, "endpoint_url"),
        ({"endpoint_url": f"https://me:{CANARY}@s3.example.org"}, "endpoint_url"),
        ({"secret_key": ""}, "secret_key"),
        ({"access_key": ""}, "access_key"),
        ({"secret_key": f"{CANARY}\n"}, "secret_key"),
        ({"ca_bundle": "ca.pem"}, "ca_bundle"),
        ({"checksums": "none"}, "checksums"),
        ({"read_timeout": 0}, "read_timeout"),
    ],
)
def test_wrong_options_are_told_by_field(
    transactional_db: None, by: Actor, s3_server: S3Server, changes: dict[str, object], field: str
) -> None:
    with pytest.raises(OptionsError) as refusal:
        storages.create("bucket", "s3", s3_server.options(**changes), by=by)

    assert set(refusal.value.errors) == {field}
    assert CANARY not in str(refusal.value)
    assert not Storage.objects.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"secret_key": CANARY}, r"secret key does not belong .* option secret_key"),
        ({"bucket": "nothing-here"}, r"no such bucket: .* set create_bucket"),
        ({"access_key": READER[0], "secret_key": READER[1]}, "no permission for this"),
    ],
)
def test_a_place_that_refuses_us_is_not_stored(
    transactional_db: None, by: Actor, s3_server: S3Server, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(Failure, match=said) as refusal:
        storages.create("bucket", "s3", s3_server.options(**changes), by=by)

    assert refusal.value.code == "storage-refused"
    assert not Storage.objects.exists()
    assert not AuditEvent.objects.exists()


def test_a_secret_that_was_exchanged_stops_runs_with_its_sentence_and_stays_secret(
    repository: Repository, source: Source, by: Actor, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    storages.update(repository.storage, by=by, options={"secret_key": CANARY})
    tested = storages.test(Storage.objects.get(), by=by)
    backup = backups.request("files", by=by)

    stories.work()

    part = stories.part_of(backup)
    assert part.state == PartState.FAILED
    assert "secret key does not belong" in part.error_message
    assert "secret key does not belong" in tested.test_error
    said = part.error_message + tested.test_error + caplog.text
    assert CANARY not in said
    assert CANARY.encode() not in everything_written(home, [])


def test_a_storage_with_another_prefix_is_another_place(storage: Storage, by: Actor, s3_server: S3Server) -> None:
    other = storages.create("other", "s3", s3_server.options(), by=by)
    kit = stories.ready("main", storage, by=by)

    second = stories.ready("second", other, by=by)

    assert kit.repository_id != second.repository_id


def test_a_source_that_holds_everything_does_not_hold_a_bucket(
    repository: Repository, by: Actor, tmp_path: Path
) -> None:
    assert sources.create("all", "files", {"paths": [str(tmp_path)]}, by=by, test=False, repository=repository)


# -------------------------------------------------------------------- the face for downloads and exports


def test_django_sees_the_files_below_the_prefix(s3_server: S3Server) -> None:
    place = face(s3_server)

    first = place.save("exports/report.csv", ContentFile(b"a,b\n"))
    second = place.save("exports/report.csv", ContentFile(b"c,d\n"))

    assert first == "exports/report.csv"
    assert second != first
    assert place.open(first).read() == b"a,b\n"
    assert place.listdir("exports")[1] == sorted([Path(first).name, Path(second).name])
    assert not place.exists("report.csv")


def test_a_file_cannot_be_opened_for_writing(s3_server: S3Server) -> None:
    place = face(s3_server)

    with pytest.raises(ValueError, match=r"hand a finished file to save\(\)"):
        place.open("export.tar", "wb")

    assert not place.exists("export.tar")


def test_the_face_trusts_and_signs_as_the_store_does(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("AWS_S3_SESSION_PROFILE", "nobody")
    place = face(s3_server, endpoint_url=s3_server.tls_url, ca_bundle=str(s3_server.authority.bundle))

    place.save("report.csv", ContentFile(b"a,b\n"))

    assert place.size("report.csv") == 4
    assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in place.url("report.csv")


def test_aws_is_described_by_its_region() -> None:
    options = S3Options(bucket="backups", region="eu-central-1", access_key="AK", secret_key=CANARY)

    assert S3Storage.describe(options) == "the bucket backups at AWS (eu-central-1)"
