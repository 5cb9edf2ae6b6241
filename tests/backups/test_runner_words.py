"""What the runner says about errors, and to its log."""

from __future__ import annotations

import errno
import json
import logging
import sys

import pytest

from aihub_backup.core.options import OptionsError
from aihub_backup.core.redaction import remember
from backups.engine import errors
from backups.runner.failing import problem
from backups.runner.logs import MOST_LINES, Few, Lines

CANARY = "canary-5521"


@pytest.fixture(autouse=True)
def _known() -> None:
    remember([CANARY])


@pytest.mark.parametrize(
    ("error", "code", "permanent"),
    [
        (errors.StoreUnavailable("away"), "storage-unavailable", False),
        (errors.StoreFull("full"), "storage-full", True),
        (errors.Tampered("gone"), "tampered", True),
        (errors.WorkerDied("killed"), "worker-died", False),
        (errors.SourceError("missing"), "source-not-ready", True),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "internal-error", False),
        (OSError(errno.EACCES, "Permission denied"), "internal-error", True),
        (MemoryError(), "internal-error", False),
        (ZeroDivisionError("division by zero"), "internal-error", False),
        (OptionsError({"path": "This option is required."}), "validation-error", True),
    ],
)
def test_every_error_has_a_code_and_says_whether_to_try_again(error: BaseException, code: str, permanent: bool) -> None:
    told = problem(error)

    assert (told["code"], told["permanent"]) == (code, permanent)
    assert told["message"].endswith((".", "away", "full", "gone", "killed", "missing"))


@pytest.mark.parametrize(
    "error",
    [errors.StoreRefused(f"no {CANARY}"), OptionsError({"x": CANARY}), OSError(1, "x", CANARY), KeyError(CANARY)],
)
def test_no_error_tells_a_secret(error: BaseException) -> None:
    assert CANARY not in json.dumps(problem(error))


def test_log_lines_are_json_without_secrets() -> None:
    try:
        raise ValueError(CANARY)
    except ValueError:
        found = sys.exc_info()
    record = logging.LogRecord("x", logging.ERROR, __file__, 1, "seen %s", (CANARY,), found)

    line = json.loads(Lines().format(record))

    assert (line["level"], line["message"]) == ("error", "seen ***")
    assert "ValueError" in line["trace"]
    assert CANARY not in str(line)


def test_the_log_is_bounded() -> None:
    few, record = Few(), logging.makeLogRecord({})

    passed = sum(few.filter(record) for _ in range(MOST_LINES + 10))

    assert passed == MOST_LINES
