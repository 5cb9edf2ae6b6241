"""The console's settings in a home of the tests' own.

The home is made once for a test run (once for each parallel process) and handed on through the environment, so that
real workers started by tests find the same one.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path


def _home() -> str:
    made = os.environ.get("AIHUB_TEST_HOME")
    if not made and "pytest" not in sys.modules:  # mypy reads the settings too, and leaves without its exit handlers
        made = f"{tempfile.gettempdir()}/aihub-reading-{os.getuid()}"
    if not made:
        made = os.environ["AIHUB_TEST_HOME"] = tempfile.mkdtemp(prefix="aihub-test-")
        atexit.register(_remove, made, os.getpid())
    return str(Path(made) / os.environ.get("PYTEST_XDIST_WORKER", "main"))


def _remove(home: str, owner: int) -> None:
    if os.getpid() == owner:  # forked children inherit the exit handlers
        shutil.rmtree(home, ignore_errors=True)


os.environ["AIHUB_HOME"] = _home()
os.environ.setdefault("AIHUB_NODE", "testnode")
os.environ["AIHUB_ENV_FILE"] = os.devnull
os.environ.setdefault("AIHUB_TOOL_DIRS", f"/usr:{sys.prefix}:{tempfile.gettempdir()}")  # the tests' own servers
os.environ.setdefault("AIHUB_LOG_LEVEL", "WARNING")

from aihub_backup.settings import *  # noqa: E402,F403  # the environment above must be there first; settings are names

INSTALLED_APPS = [*INSTALLED_APPS, "tests.core.safes"]  # noqa: F405  # models that only tests need, no migrations
AIHUB_JOB_HANDLERS = {
    "scripted": "tests.core.handlers.Scripted",
    "probe": "tests.core.handlers.Probe",
    "brief": "tests.core.handlers.Brief",
}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # people of the tests need no slow hashes

_broker = os.environ.get("AIHUB_BROKER_URL", "")
if _broker.startswith("redis"):  # one database of the server for each parallel process
    _number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 16
    CELERY_BROKER_URL = f"{_broker.rpartition('/')[0]}/{_number}"
