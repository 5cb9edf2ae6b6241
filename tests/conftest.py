"""What every test may ask for: people, an API client, and the console's temporary home."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import translation
from rest_framework.test import APIClient

from aihub_backup.core import redaction
from aihub_backup.core.jobs import drain
from aihub_backup.core.models import ApiToken, Environment, User
from aihub_backup.home import DATABASE
from tests.servers import program
from tests.servers.s3 import S3Server, started

# pytest removes old temporary directories recursively, and some tests make trees thousands of levels deep.
sys.setrecursionlimit(20_000)


@pytest.fixture
def home() -> Path:
    """AIHUB_HOME of this test process."""
    return Path(settings.AIHUB_HOME)


@pytest.fixture(scope="session", autouse=True)
def _a_console_was_started_here() -> None:
    """Commands may be typed in the home of the tests; what they work on is the tests' own database."""
    (Path(settings.AIHUB_HOME) / DATABASE).touch()


@pytest.fixture(scope="session", autouse=True)
def _no_server_survives() -> Iterator[None]:
    """What this process started for its tests ends with them."""
    yield
    program.stop_all()


@pytest.fixture
def s3_server() -> S3Server:
    """A real server of S3, one for all tests of this process."""
    return started()


@pytest.fixture(autouse=True)
def _nobody_is_stopping() -> Iterator[None]:
    """A test that asked the worker to stop does not stop the next one."""
    yield
    drain.end()


@pytest.fixture(autouse=True)
def _every_test_speaks_english_first() -> Iterator[None]:
    """A page asked for in Chinese leaves its thread in Chinese."""
    yield
    translation.deactivate()


@pytest.fixture(autouse=True)
def _what_one_test_keeps_secret_the_next_may_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase such as “other” would be masked in every later sentence of this process."""
    monkeypatch.setattr(redaction, "_known", dict(redaction._known))


@pytest.fixture
def environment(db: None) -> Environment:
    """The environment most things of a test belong to."""
    return Environment.objects.create(name="prod")


@pytest.fixture
def owner(db: None) -> User:
    """May do everything."""
    return User.objects.create_superuser("olivia", "olivia@example.org", "correct horse battery")


@pytest.fixture
def operator(db: None) -> User:
    """Works with the console every day."""
    return User.objects.create_user("oscar", "oscar@example.org", "correct horse battery", is_staff=True)


@pytest.fixture
def stranger(db: None) -> User:
    """Has an account and nothing else."""
    return User.objects.create_user("sam", "sam@example.org", "correct horse battery")


@pytest.fixture
def api_for(db: None) -> Callable[[User], APIClient]:
    """A client that sends the person's token."""

    def client_of(user: User) -> APIClient:
        _row, token = ApiToken.objects.issue(user, "test")
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        return client

    return client_of


@pytest.fixture
def api(api_for: Callable[[User], APIClient], owner: User) -> APIClient:
    """A client with the owner's token."""
    return api_for(owner)
