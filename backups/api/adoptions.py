"""/repositories/adopt, /repositories/{repository}/adoption: making a repository that is there already one of ours."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core.api import schema
from aihub_backup.core.api.schema import Progress, WorkError, operation
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import JobState
from backups.api import bodies
from backups.api.configured import Configured
from backups.api.nouns import API, REPOSITORY
from backups.api.shapes import NEVER, RUNS, Reference
from backups.api.told import job_error
from backups.models import Repository
from backups.services import adopting

ADD = "backups.add_repository"
FOUND = ("points", "passed_over", "damaged_count")
EXAMPLE = {"storage": "vault", "recovery_code": "7K4N-…", "take_over": True}


class AdoptionShape(serializers.Serializer[Any]):
    """How far the reading of a repository's log into rows is. `none`: nobody ever asked for it."""

    repository = Reference()
    status = serializers.ChoiceField(RUNS)
    progress = Progress()
    points = serializers.IntegerField(allow_null=True, help_text="Live recovery points in the log.")
    new = serializers.DictField(child=serializers.IntegerField(), help_text="Rows that were added, by kind.")
    passed_over = serializers.IntegerField(allow_null=True, help_text="Points that no console made.")
    damaged = serializers.ListField(child=serializers.CharField(), help_text="Records that cannot be read; the first.")
    damaged_count = serializers.IntegerField(allow_null=True)
    error = WorkError(allow_null=True)
    created_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class _Adoptions(Configured):
    noun = REPOSITORY
    related = ("storage__environment", "storage__node")


class Adopt(_Adoptions):
    """Taking a repository over."""

    @operation(
        "repository_adopt", needs=ADD, body=bodies.AdoptRepository, answers={202: AdoptionShape},
        problems=(409, 422, 507), summary="Adopt a repository that is there already", tag="repositories",
        examples=[OpenApiExample("after the loss of a console", EXAMPLE, request_only=True)],
    )  # fmt: skip
    def post(self, _request: Request) -> Response:
        """Every backup that its log tells of becomes a row again. One of ours is brought up to date, without a secret.

        Needs the permission without bounds: sources and policies of the whole console may come back.
        """
        self.must_hold_everywhere(ADD)
        given = dict(self.given)
        secrets = {name: given.pop(name) for name in ("recovery_code", "passphrase", "keyfile")}
        row, job = adopting.adopt(given.pop("storage"), adopting.key(**secrets), by=self.actor, **given)
        return self.accepted(told(row, job), f"{API}/repositories/{row.pk}/adoption")


class Adoption(_Adoptions):
    """How an adoption is."""

    @operation(
        "repository_adoption", needs="backups.view_repository", answers={200: AdoptionShape}, problems=(404,),
        summary="State and progress of an adoption", tagged=True, tag="repositories",
    )  # fmt: skip
    def get(self, _request: Request, reference: str) -> Response:
        """200 in every state; `none` when the repository was made here."""
        row: Repository = self.one(reference, "backups.view_repository")
        job = adopting.latest(row)
        return self.going_on(told(row, job)) if job else Response(told(row, None))


class CancelAdoption(_Adoptions):
    """Ending an adoption."""

    @operation(
        "repository_adoption_cancel", needs=ADD, answers={202: AdoptionShape}, problems=(404, 409),
        summary="Cancel an adoption", tag="repositories",
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """The rows that are written stay; adopting again goes on."""
        row: Repository = self.one(reference, ADD)
        adopting.cancel(row, by=self.actor)
        return self.accepted(told(row, adopting.latest(row)), f"{API}/repositories/{row.pk}/adoption")


def told(row: Repository, job: Job | None) -> dict[str, Any]:
    """An adoption."""
    progress = dict(job.progress) if job else {}
    done = job is not None and job.state == JobState.COMPLETED
    return {
        "repository": {"id": row.pk, "name": row.name}, "status": job.state if job else NEVER,
        "progress": schema.progress(progress, ended_well=done, heartbeat_at=job.heartbeat_at if job else None),
        **{name: progress.get(name) for name in FOUND}, "new": progress.get("new", {}),
        "damaged": progress.get("damaged", []), "error": job_error(job),
        **{name: getattr(job, name, None) for name in ("created_at", "started_at", "finished_at")},
    }  # fmt: skip
