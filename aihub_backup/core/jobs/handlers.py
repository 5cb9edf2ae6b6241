"""Which code does which kind of job. Apps register a dotted path in `ready()`: the foundation imports no app."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django.conf import settings

from aihub_backup.core.failures import Failure
from aihub_backup.core.jobs.lease import Lease
from aihub_backup.core.models import Job
from aihub_backup.core.plugins import resolve

_registered: dict[str, str] = {}


class Handler:
    """What a kind of job does. Subclass it, register the dotted path of the subclass.

    The hooks `failed`, `cancelled` and `requeued` run in the transaction that moves the job: write your own rows and
    the audit event there, nothing slow. `settle` runs outside a transaction and may take its time.
    """

    label: ClassVar[Any] = ""  # what it does, in a person's words

    def run(self, lease: Lease) -> None:
        """Do the work. Call `lease.check()` often; `lease.commit_guard()` before the point of no return.

        Raise Failure (or any error with a `permanent` flag). Returning means done: the job is completed, unless you
        have called `lease.finish()` in your own closing transaction already (do that).
        """
        raise NotImplementedError

    def settle(self, job: Job) -> bool:
        """The job was lost while committing. Did the commit happen? True: close your own rows (idempotently) first."""
        return False

    def failed(self, job: Job, failure: Failure) -> None:
        """The job has failed for good."""

    def cancelled(self, job: Job) -> None:
        """The job has ended because somebody asked for it."""

    def requeued(self, job: Job, failure: Failure) -> None:
        """The attempt was lost or failed for a passing reason; the job will be tried again."""


def register(kind: str, path: str) -> None:
    """Name the Handler subclass for a kind: "package.module.Class"."""
    _registered[kind] = path


def kinds() -> dict[str, str]:
    """Every known kind and the dotted path of its handler."""
    return {**_registered, **settings.AIHUB_JOB_HANDLERS}


def handler_for(kind: str) -> Handler:
    """A fresh handler; Failure (permanent) when nobody knows the kind or its module does not load."""
    path = kinds().get(kind)
    if path is None:
        raise Failure(f"Nobody knows how to do a “{kind}” job; is its app installed?", code="unknown-kind")
    try:
        return cast(Handler, resolve(path)())
    except (ImportError, AttributeError) as error:
        raise Failure(f"The handler of “{kind}” jobs cannot be loaded: {error}.", code="unknown-kind") from error


def in_words(kind: str) -> str:
    """What a job of the kind does, for people; the kind itself when nobody knows it any more."""
    try:
        return str(handler_for(kind).label) or kind
    except Failure:
        return kind
