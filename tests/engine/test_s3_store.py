"""S3 when it is well, slow, broken, foreign, or not what it says it is."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from backups.engine.errors import (
    EngineError,
    ForeignRepository,
    ObjectDamaged,
    ObjectExists,
    ObjectMissing,
    StoreFull,
    StoreRefused,
    StoreUnavailable,
)
from backups.engine.store import ObjectInfo, Place
from backups.engine.stores import open_store
from backups.engine.stores.retrying import Patience, RetryingStore
from backups.engine.stores.s3_client import S3Settings
from tests.servers.answering import Cutter, always, cutting
from tests.servers.old_s3 import OldServer, old_server
from tests.servers.s3 import BUCKET, READER, S3Server

CANARY = "canary-secret-key-9f31"
TOKEN = "canary-session-token-5ab0"
LARGE = os.urandom(3 << 20)


def named(data: bytes) -> str:
    return f"packs/ab/{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def place(s3_server: S3Server) -> Place:
    """A prefix of its own."""
    return s3_server.place()


@pytest.fixture
def line(s3_server: S3Server) -> Iterator[Cutter]:
    """A line to the server that may be cut."""
    with cutting(s3_server.port) as cutter:
        yield cutter


@pytest.fixture
def old() -> Iterator[OldServer]:
    """A server without conditions and ranges."""
    with old_server() as server:
        yield server


def old_place(old: OldServer, **changes: Any) -> Place:
    keys = {"access_key": "AK", "secret_key": CANARY}
    return open_store("s3", {"bucket": BUCKET, "endpoint_url": old.url, "prefix": "main", **keys, **changes})


def refusal(place: Place) -> EngineError:
    """What somebody is told who makes the place and writes to it."""
    with pytest.raises(EngineError) as caught:
        place.create()
        place.put(named(b"facts"), b"facts")
    return caught.value


# -------------------------------------------------------------------- what is set wrongly


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"secret_key": CANARY}, r"secret key does not belong .* option secret_key"),
        ({"access_key": "AKNOBODY"}, r"access key is not known .* option access_key"),
        ({"bucket": "nothing-here"}, r"no such bucket: the bucket nothing-here .* set create_bucket"),
        ({"access_key": READER[0], "secret_key": READER[1]}, "no permission for this: .* Let it list the bucket"),
        ({"ca_bundle": "/nowhere/ca.pem"}, "ca_bundle holds no certificates: No such file"),
    ],
)
def test_a_wrong_option_is_named_with_the_cure(s3_server: S3Server, changes: dict[str, Any], said: str) -> None:
    error = refusal(s3_server.place(**changes))

    assert isinstance(error, StoreRefused)
    assert re.search(said, str(error))
    assert CANARY not in str(error)


@pytest.mark.parametrize("verb", ["put", "get", "stat", "list", "delete", "sweep", "capabilities", "create"])
def test_every_verb_tells_a_wrong_secret(s3_server: S3Server, verb: str) -> None:
    place = s3_server.place(secret_key=CANARY)
    deeds: dict[str, Callable[[], object]] = {
        "put": lambda: place.put("config", b""), "get": lambda: place.get("config"),
        "stat": lambda: place.stat("config"), "list": lambda: list(place.list("")),
        "delete": lambda: place.delete("config"), "sweep": lambda: place.sweep(0),
        "capabilities": place.capabilities, "create": place.create,
    }  # fmt: skip

    with pytest.raises(StoreRefused, match="secret key does not belong"):
        deeds[verb]()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("bucket", "a/b"), ("prefix", "a//b"), ("prefix", "/a"), ("prefix", "a/../b"), ("secret_key", f"{CANARY}\n"),
        ("session_token", f"{CANARY} x"), ("checksums", "some"), ("endpoint_url", f"https://me:{CANARY}@host"),
        ("endpoint_url", "ftp://host"), ("endpoint_url", "https://host:x"), ("access_key", ""),
    ],
)  # fmt: skip
def test_options_that_nobody_could_use_are_named_at_once(option: str, value: str) -> None:
    options = {"bucket": "backups", "access_key": "AK", "secret_key": CANARY, option: value}

    with pytest.raises(EngineError, match=f"options? .*{option}") as caught:
        open_store("s3", options)

    assert CANARY not in str(caught.value)


def test_a_missing_bucket_is_no_missing_object(s3_server: S3Server) -> None:
    with pytest.raises(StoreRefused, match="no such bucket"):
        s3_server.place(bucket="nothing-here").stat("config")


def test_the_bucket_is_made_when_the_options_say_so(s3_server: S3Server) -> None:
    place = s3_server.place(bucket="made-for-us", create_bucket=True)

    place.create()
    place.create()
    place.put("config", b"facts")

    assert place.get("config") == b"facts"


def test_other_things_under_the_prefix_are_left_alone(s3_server: S3Server) -> None:
    options = s3_server.options()
    client = s3_server.client()
    client.put_object(Bucket=BUCKET, Key=f"{options['prefix']}/holiday.jpg", Body=b"beach")

    with pytest.raises(ForeignRepository, match=r"other objects in the bucket .*holiday\.jpg.* choose a new prefix"):
        open_store("s3", options).create()


def test_a_console_s_mark_for_a_folder_is_nothing(s3_server: S3Server) -> None:
    options = s3_server.options()
    s3_server.client().put_object(Bucket=BUCKET, Key=f"{options['prefix']}/", Body=b"")
    place = open_store("s3", options)

    place.create()

    assert list(place.list("")) == []


# -------------------------------------------------------------------- the way there


def test_an_endpoint_that_nobody_listens_on_is_tried_again(s3_server: S3Server) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = refusal(s3_server.place(endpoint_url=f"http://127.0.0.1:{unused.getsockname()[1]}"))

    assert isinstance(error, StoreUnavailable)
    assert "No connection could be made" in str(error)


def test_a_server_that_says_nothing_is_not_waited_for(s3_server: S3Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"

        with pytest.raises(StoreUnavailable, match="did not come in time"):
            s3_server.place(endpoint_url=url, read_timeout=0.3).get("config")


def test_an_authority_that_nobody_vouches_for_is_not_trusted(s3_server: S3Server) -> None:
    error = refusal(s3_server.place(endpoint_url=s3_server.tls_url))

    assert isinstance(error, StoreRefused)
    assert "certificate is not trusted" in str(error)
    assert "option ca_bundle" in str(error)


def test_an_authority_of_our_own_is_trusted_when_it_is_named(s3_server: S3Server) -> None:
    place = s3_server.place(endpoint_url=s3_server.tls_url, ca_bundle=str(s3_server.authority.bundle))
    place.create()

    place.put(named(LARGE), LARGE)

    assert place.get(named(LARGE)) == LARGE


def test_a_port_without_tls_is_told_as_such(s3_server: S3Server) -> None:
    error = refusal(s3_server.place(endpoint_url=s3_server.url.replace("http:", "https:")))

    assert isinstance(error, StoreRefused)
    assert "does not speak TLS" in str(error)


def test_a_get_that_breaks_off_is_never_short(place: Place, s3_server: S3Server, line: Cutter) -> None:
    place.put(named(LARGE), LARGE)
    broken = open_store("s3", {**vars(_settings(place)), "endpoint_url": line.url})
    line.cuts, line.after = 2, 1 << 20

    for start, length in ((0, None), (5, 2 << 20)):
        with pytest.raises(StoreUnavailable, match="connection broke"):
            broken.get(named(LARGE), start, length)

    assert broken.get(named(LARGE)) == LARGE


def test_a_retry_hides_that_the_line_was_cut(place: Place, line: Cutter) -> None:
    place.put(named(LARGE), LARGE)
    cut = open_store("s3", {**vars(_settings(place)), "endpoint_url": line.url})
    line.cuts, line.after = 3, 100_000

    got = RetryingStore(cut, Patience(first=0.01)).get(named(LARGE), 7)

    assert got == LARGE[7:]


@pytest.mark.parametrize("checksums", ["supported", "required"])
def test_a_put_whose_reply_was_lost_has_happened(s3_server: S3Server, line: Cutter, checksums: str) -> None:
    place = s3_server.place(endpoint_url=line.url, checksums=checksums)
    line.cuts, line.only, line.after = 1, b"PUT ", len(b"HTTP/1.1 100 Continue\r\n\r\nHTTP")

    place.put(named(b"facts"), b"facts")

    assert line.cuts == 0
    assert place.get(named(b"facts")) == b"facts"


def _settings(place: Place) -> S3Settings:
    settings: S3Settings = vars(place)["_settings"]
    return settings


# -------------------------------------------------------------------- what servers answer


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (503, "SlowDown", StoreUnavailable, "slow down"),
        (503, "ServiceUnavailable", StoreUnavailable, "slow down"),
        (429, "TooManyRequests", StoreUnavailable, "slow down"),
        (500, "InternalError", StoreUnavailable, "fault of its own"),
        (502, "", StoreUnavailable, "web page .* look at the proxy"),
        (403, "RequestTimeTooSkewed", StoreUnavailable, "clocks .* Set them by NTP"),
        (400, "RequestTimeout", StoreUnavailable, "waited for us too long"),
        (400, "BadDigest", StoreUnavailable, "not those that were sent"),
        (400, "ExpiredToken", StoreRefused, "session_token"),
        (403, "AccessDenied", StoreRefused, "no permission"),
        (301, "PermanentRedirect", StoreRefused, "option region"),
        (400, "AuthorizationHeaderMalformed", StoreRefused, "option region"),
        (507, "XMinioStorageFull", StoreFull, "No room is left"),
        (403, "QuotaExceeded", StoreFull, "quota"),
        (507, "", StoreFull, "No room is left"),
        (400, "InvalidStorageClass", StoreRefused, "option storage_class"),
        (418, "Teapot", StoreRefused, r"refused it \(Teapot: Short and stout"),
    ],
)
def test_what_is_worth_another_try_is_told_apart(
    s3_server: S3Server, status: int, code: str, kind: type[EngineError], said: str
) -> None:
    body = f"<Error><Code>{code}</Code><Message>Short and stout</Message></Error>" if code else "<html>nothing</html>"
    with always(status, body.encode()) as url:
        place = s3_server.place(endpoint_url=url)

        for deed in (place.create, lambda: place.put(named(b"facts"), b"facts"), lambda: place.get("config")):
            with pytest.raises(kind, match=said):
                deed()


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html><p>Welcome</html>"), (200, b"<p>Welcome"), (200, b"{}"), (404, b"<html>nothing</html>")],
)
def test_a_web_page_is_no_s3(s3_server: S3Server, status: int, body: bytes) -> None:
    with always(status, body) as url:
        error = refusal(s3_server.place(endpoint_url=url))

    assert re.search(r"S3: the bucket .* Correct the option endpoint_url", str(error))


def test_a_server_that_sends_everybody_away_is_not_followed(s3_server: S3Server) -> None:
    with always(301, b"<html>Moved</html>") as url:
        error = refusal(s3_server.place(endpoint_url=url))

    assert isinstance(error, StoreRefused)
    assert "Correct the option region, or endpoint_url" in str(error)


@pytest.mark.parametrize("status", [200, 400, 403, 404, 500, 503])
def test_no_secret_is_in_any_answer_of_a_server_that_repeats_everything(s3_server: S3Server, status: int) -> None:
    def repeated(headers: str) -> bytes:
        assert TOKEN in headers
        return f"<Error><Code>Odd</Code><Message>You sent {headers}</Message></Error>".encode()

    with always(status, repeated) as url:
        place = s3_server.place(endpoint_url=url, secret_key=CANARY, session_token=TOKEN)
        deeds: list[Callable[[], object]] = [
            place.create, place.capabilities, lambda: place.put("config", b"x"), lambda: list(place.list("")),
            lambda: place.put(named(b"x"), b"x"), lambda: place.stat("config"), lambda: place.sweep(0),
        ]  # fmt: skip
        said = "".join(_said(deed) for deed in deeds) + place.describe() + repr(_settings(place))

    assert said
    assert CANARY not in said
    assert TOKEN not in said


def _said(deed: Callable[[], object]) -> str:
    """The error with everything it hangs on."""
    try:
        deed()
    except EngineError as error:
        assert error.__cause__ is None
        return f"{error!r} {error}"
    return ""


# -------------------------------------------------------------------- many names, many writers


def test_it_lists_more_names_than_one_answer_holds(place: Place) -> None:
    names = [f"packs/{number % 7}/{number:04}" for number in range(1_050)]
    with ThreadPoolExecutor(8) as hands:
        list(hands.map(lambda name: place.put(name, b"x"), names))

    assert list(place.list("")) == [ObjectInfo(name, 1) for name in sorted(names)]
    assert [info.name for info in place.list("packs/3/")] == sorted(name for name in names if "/3/" in name)


def test_one_of_two_writers_wins_a_name(place: Place) -> None:
    for number in range(8):
        name, start = f"keys/{number}", threading.Barrier(4)

        def write(data: bytes, name: str = name, start: threading.Barrier = start) -> bytes:
            start.wait()
            try:
                place.put(name, data)
            except ObjectExists:
                return b""
            return data

        with ThreadPoolExecutor(4) as hands:
            won = [data for data in hands.map(write, [b"one", b"two", b"three", b"four"]) if data]

        assert won == [place.get(name)]


def test_writers_of_the_same_bytes_all_succeed(place: Place) -> None:
    with ThreadPoolExecutor(8) as hands:
        list(hands.map(lambda _: place.put(named(LARGE), LARGE), range(8)))

    assert list(place.list("")) == [ObjectInfo(named(LARGE), len(LARGE))]


def test_a_forked_child_has_a_line_of_its_own(place: Place) -> None:
    place.put("config", b"facts")

    child = os.fork()
    if not child:
        os._exit(0 if place.fresh().get("config") == b"facts" else 1)

    assert os.waitpid(child, 0)[1] == 0
    assert place.get("config") == b"facts"


def test_only_old_uploads_under_our_prefix_are_swept(s3_server: S3Server) -> None:
    mine, other = s3_server.options(), s3_server.options()
    client, place = s3_server.client(), open_store("s3", mine)
    for prefix in (mine["prefix"], other["prefix"]):
        client.create_multipart_upload(Bucket=BUCKET, Key=f"{prefix}/export.tar")

    young, swept, again = place.sweep(3600), place.sweep(-2), place.sweep(-2)

    assert (young, swept, again) == (0, 1, 0)
    assert client.list_multipart_uploads(Bucket=BUCKET, Prefix=f"{other['prefix']}/")["Uploads"]


def test_it_tells_that_writers_cannot_overwrite_each_other(place: Place) -> None:
    place.put("config", b"facts")

    assert place.capabilities().overwrite_refused
    assert place.fresh().capabilities().overwrite_refused


# -------------------------------------------------------------------- older servers


@pytest.mark.parametrize("refuses", [False, True])
def test_without_conditions_a_name_is_looked_at_first(old: OldServer, refuses: bool) -> None:
    old.refuses_conditions = refuses
    place = old_place(old)
    place.put("config", b"one")

    with pytest.raises(ObjectExists):
        place.put("config", b"two")
    place.put("config", b"one")

    assert place.get("config") == b"one"
    assert not place.capabilities().overwrite_refused


def test_without_conditions_a_name_with_a_promise_is_sent_once(old: OldServer) -> None:
    place = old_place(old)

    place.put(named(b"facts"), b"facts")
    place.put(named(b"facts"), b"facts")

    assert [request.partition(" ")[0] for request in old.requests] == ["PUT", "PUT"]
    with pytest.raises(ObjectDamaged, match="do not have the SHA-256"):
        place.put(named(b"facts"), b"other")


@pytest.mark.parametrize(("start", "length"), [(0, 3), (3, 4), (9, 1), (4, None), (10, None)])
def test_without_ranges_the_asked_bytes_are_cut_out(old: OldServer, start: int, length: int | None) -> None:
    place = old_place(old)
    place.put("config", b"0123456789")

    assert place.get("config", start, length) == b"0123456789"[start:][:length]
    with pytest.raises(ObjectDamaged, match="ends at byte 10"):
        place.get("config", 4, 7)


def test_bytes_that_changed_since_are_damage_and_are_healed(old: OldServer) -> None:
    place, data = old_place(old), b"the right bytes"
    place.put(named(data), data)
    old.objects[f"main/{named(data)}"] = b"the wrong bytes"

    with pytest.raises(ObjectDamaged, match="checksum that was stored with them"):
        place.get(named(data))
    place.put(named(data), data)

    assert place.get(named(data)) == data


def test_only_the_simplest_headers_are_sent_when_no_more_is_required(old: OldServer) -> None:
    place = old_place(old, checksums="required")

    place.put("config", b"facts")

    assert old.sums["main/config"] == ""
    assert place.get("config") == b"facts"


def test_names_that_are_not_ours_are_passed_over(old: OldServer) -> None:
    place = old_place(old)
    old.objects |= {"main/Readme.txt": b"", "main/log/": b"", "main/config": b"x", "mainly/config": b"y"}

    assert list(place.list("")) == [ObjectInfo("config", 1)]
    with pytest.raises(ObjectMissing):
        place.get("index/1")


# -------------------------------------------------------------------- from the command line


def test_the_engine_s_command_line_takes_an_address(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from backups.engine.__main__ import main

    options = s3_server.options()
    place = f"s3://{BUCKET}/{options['prefix']}"
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_bytes(LARGE)

    def run(*words: str) -> int:
        variables = {
            "AIHUB_S3_ENDPOINT": s3_server.url, "AWS_ACCESS_KEY_ID": options["access_key"],
            "AWS_SECRET_ACCESS_KEY": options["secret_key"], "AIHUB_PASSPHRASE": "correct horse",
            "AIHUB_CACHE_DIR": str(tmp_path / "cache"),
        }  # fmt: skip
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return main([words[0], place, *words[1:]])

    done = [
        run("init"), run("backup", str(tmp_path / "data")), run("check", "--level", "3"),
        run("restore", "--target", str(tmp_path / "back")),
    ]  # fmt: skip

    assert done == [0, 0, 0, 0]
    assert (tmp_path / "back" / "file").read_bytes() == LARGE
    assert "AWS_SECRET_ACCESS_KEY" not in os.environ


def test_an_address_without_a_bucket_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from backups.engine.stores.address import open_address

    with pytest.raises(EngineError, match="names no bucket; write s3://BUCKET"):
        open_address("s3:///prefix", {})
