from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import structlog

from aihub_backup.core import redaction
from aihub_backup.core.logs import logging_config
from aihub_backup.core.options import secret
from aihub_backup.core.redaction import Redacted, remember, scrub, sensitive


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a logger of our configuration writes."""
    stream = io.StringIO()
    config = logging_config("INFO", "json")
    config["root"]["handlers"] = []
    config["handlers"]["stderr"]["stream"] = stream
    config["loggers"] = {"probe": {"handlers": ["stderr"], "level": "INFO", "propagate": False}}
    logging.config.dictConfig(config)
    yield stream
    logging.getLogger("probe").handlers.clear()


def line(stream: io.StringIO) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stream.getvalue())
    return found


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("ftp://bob:hunter2@host/x", "ftp://bob:***@host/x"),
        ("postgres://:hunter2@host/x", "postgres://:***@host/x"),
        ("Authorization: Bearer aihub_0123456789", "Authorization: Bearer ***"),
        ("password=hunter2 host=db", "password=*** host=db"),
        ('{"secret_access_key": "abc/def", "a": 1}', '{"secret_access_key": "***", "a": 1}'),
        ("PGPASSWORD=hunter2", "PGPASSWORD=***"),
        ("sent Bearer 0123456789abcdef", "sent Bearer ***"),
        ("aihub_" + "0" * 64, "aihub_***"),
        ("password: This option is required.", "password: This option is required."),
        ("token authentication failed", "token authentication failed"),
        ("the password is not shown", "the password is not shown"),
        ("see http://host:8000/path", "see http://host:8000/path"),
    ],
)
def test_it_masks_what_looks_like_a_secret(text: str, clean: str) -> None:
    assert scrub(text) == clean


def test_it_masks_remembered_values_in_every_spelling() -> None:
    remember(['quo"te d', b"bytes-secret"])

    assert scrub('a quo"te d, quo%22te%20d, quo\\"te d, bytes-secret') == "a ***, ***, ***, ***"


def test_short_values_numbers_and_flags_are_not_masked_because_they_occur_everywhere() -> None:
    remember(["abc", "", 5432, True])

    assert scrub("abc 5432 True") == "abc 5432 True"


def test_it_forgets_the_oldest_values_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", {})
    monkeypatch.setattr(redaction, "_MOST", 2)

    remember(["first-value", "second-value", "third-value"])

    assert scrub("first-value second-value third-value") == "first-value *** ***"


def test_a_dict_of_secrets_shows_its_names_only() -> None:
    assert repr(Redacted(password="x", key="y")) == "<secrets: key, password>"


def test_a_sensitive_class_masks_its_secret_fields() -> None:
    @sensitive
    @dataclass
    class Login:
        user: str
        password: str = secret("")

    assert repr(Login("bob", "hunter2")) == "Login(user='bob', password=***)"
    assert repr(Login("bob")) == "Login(user='bob', password='')"


def test_a_log_line_is_one_json_object(written: io.StringIO) -> None:
    logging.getLogger("probe").info("copied %s to %s", 5, "there")

    found = line(written)
    assert found["message"] == "copied 5 to there"
    assert (found["log.level"], found["log.logger"]) == ("info", "probe")
    assert found["@timestamp"].endswith("Z")


def test_a_log_line_holds_no_secret(written: io.StringIO) -> None:
    remember(["tiger-lily"])

    logging.getLogger("probe").info("login %s", "tiger-lily")

    assert line(written)["message"] == "login ***"


def test_a_traceback_holds_no_secret(written: io.StringIO) -> None:
    remember(["tiger-lily"])
    try:
        raise ValueError("tiger-lily")
    except ValueError:
        logging.getLogger("probe").exception("failed")

    found = line(written)
    assert "ValueError: ***" in found["error.stack_trace"]
    assert "tiger-lily" not in written.getvalue()


def test_structured_events_carry_their_facts_and_the_request(written: io.StringIO) -> None:
    remember(["tiger-lily"])
    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        structlog.stdlib.get_logger("probe").info("stored", size=5, place="tiger-lily")

    found = line(written)
    assert (found["message"], found["size"], found["place"], found["trace.id"]) == ("stored", 5, "***", "req_1")
