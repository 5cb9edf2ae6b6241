"""From a bucket, and from FTP with and without TLS, as from a directory."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from backups import rescue
from tests.golden import make
from tests.rescue.conftest import GOLDEN
from tests.rescue.island import NEEDED, NEEDED_FOR_S3, Island
from tests.servers import ftp, s3

KEY = {"AIHUB_PASSPHRASE": make.PASSPHRASE}


@pytest.fixture
def served() -> Iterator[ftp.FtpServer]:
    server = ftp.started()
    shutil.copytree(GOLDEN / "v1", server.folder / "deep er" / "v1")
    yield server
    shutil.rmtree(server.folder / "deep er")


@pytest.fixture
def bucket() -> dict[str, str]:
    """The golden repository in a bucket: its address and what opens it."""
    server = s3.started()
    options = server.options()
    for path in (GOLDEN / "v1").rglob("*"):
        if path.is_file() and not path.name.startswith("."):
            key = f"{options['prefix']}/{path.relative_to(GOLDEN / 'v1')}"
            server.client().put_object(Bucket=options["bucket"], Key=key, Body=path.read_bytes())
    return {
        "place": f"s3://{options['bucket']}/{options['prefix']}", "AIHUB_S3_ENDPOINT": server.url,
        "AWS_ACCESS_KEY_ID": s3.OWNER[0], "AWS_SECRET_ACCESS_KEY": s3.OWNER[1],
    }  # fmt: skip


def files(target: Path) -> dict[bytes, bytes]:
    top = next((target / "tmp").glob("*/golden"))
    return {path: (top / path.decode(errors="surrogateescape")).read_bytes() for path in make.contents("second")}


def test_it_reads_a_bucket(tmp_path: Path, bucket: dict[str, str]) -> None:
    place = bucket.pop("place")

    ran = Island(tmp_path / "island", (*NEEDED, *NEEDED_FOR_S3)).run(
        "restore", place, "second", tmp_path / "back", **KEY, **bucket
    )

    assert (ran.code, ran.said) == (0, "")
    assert files(tmp_path / "back") == make.contents("second")


def test_a_bucket_that_refuses_is_told(tmp_path: Path, bucket: dict[str, str]) -> None:
    place = bucket.pop("place")

    ran = Island(tmp_path / "island", (*NEEDED, *NEEDED_FOR_S3)).run(
        "list", place, **KEY, **{**bucket, "AWS_SECRET_ACCESS_KEY": "another"}
    )

    assert ran.code == 1
    assert "SignatureDoesNotMatch" in ran.said


def test_it_names_the_package_that_a_bucket_needs(island: Island) -> None:
    ran = island.run("list", "s3://bucket", **KEY)

    assert (ran.code, ran.said) == (1, "rescue: A repository in S3 needs one more package. Do: pip install boto3\n")


@pytest.mark.parametrize("tls", [False, True])
def test_it_reads_from_ftp(island: Island, tmp_path: Path, served: ftp.FtpServer, tls: bool) -> None:
    address = served.address("deep%20er/v1", tls=tls)
    trust = {"SSL_CERT_FILE": str(served.authority.bundle), "AIHUB_FTP_PASSWORD": ftp.PERSON[1]}

    ran = island.run("restore", address, "second", tmp_path / "back", **KEY, **trust)

    assert (ran.code, ran.said) == (0, "")
    assert files(tmp_path / "back") == make.contents("second")


def test_a_connection_that_broke_is_made_anew(served: ftp.FtpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIHUB_FTP_PASSWORD", ftp.PERSON[1])
    place = rescue.Ftp(served.address("deep%20er/v1"))
    assert place.ftp.sock is not None
    place.ftp.sock.shutdown(socket.SHUT_RDWR)

    names = place.names("keys")

    assert sorted(names) == sorted(os.listdir(GOLDEN / "v1" / "keys"))


def test_a_server_that_nobody_vouches_for_gets_no_password(island: Island, served: ftp.FtpServer) -> None:
    ran = island.run("list", served.address("v1", tls=True), AIHUB_FTP_PASSWORD=ftp.PERSON[1], **KEY)

    assert ran.code == 1
    assert "CERTIFICATE_VERIFY_FAILED" in ran.said


def test_a_wrong_ftp_password_is_told(island: Island, served: ftp.FtpServer) -> None:
    ran = island.run("list", served.address("deep%20er/v1"), AIHUB_FTP_PASSWORD="another", **KEY)

    assert ran.code == 1
    assert "530" in ran.said
    assert "another" not in ran.said


def test_a_password_in_the_address_is_refused_and_not_repeated(island: Island) -> None:
    ran = island.run("list", "ftp://keeper:pass-word@127.0.0.1/v1", **KEY)

    assert ran.code == 2
    assert "AIHUB_FTP_PASSWORD" in ran.said
    assert "pass-word" not in ran.said
