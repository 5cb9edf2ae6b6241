"""Which rows a person sees, and what a token leaves of them."""

from __future__ import annotations

from aihub_backup.core import tokens
from aihub_backup.core.access import scope
from aihub_backup.core.audit import SYSTEM
from aihub_backup.core.models import Environment, User


def test_a_token_of_one_environment_sees_no_other(owner: User, environment: Environment) -> None:
    Environment.objects.create(name="staging")
    owner.token = tokens.make(owner, "ci", by=SYSTEM, environments=[environment]).token

    seen = scope(Environment.objects.all(), owner, "core.view_environment")

    assert list(seen) == [environment]


def test_without_a_token_the_permission_alone_decides(owner: User, stranger: User, environment: Environment) -> None:
    every = Environment.objects.all()

    assert list(scope(every, owner, "core.view_environment")) == [environment]
    assert not scope(every, stranger, "core.view_environment").exists()
