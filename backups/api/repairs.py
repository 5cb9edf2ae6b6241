"""/repositories/{repository}/repair: healing what is damaged or missing."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core.api import schema
from aihub_backup.core.api.schema import Progress, WorkError, operation
from aihub_backup.core.models.job import JobState
from backups.api import bodies
from backups.api.configured import Configured
from backups.api.nouns import API, REPOSITORY
from backups.api.shapes import NEVER, RUNS, Reference
from backups.api.sight import sees_names
from backups.api.told import job_error
from backups.models import Repair, Repository
from backups.services import repairs

CHANGE = "backups.change_repository"
WORDS = [(word, word) for word in ("replaced", "added", "described", "retired")]
COUNTS = ("deeds_count", "objects", "bytes", "bytes_read", "problems_count", "orphans", "set_aside", "snapshots")
EXAMPLE = {"copies": ["offsite"], "preview": True}


class DeedShape(serializers.Serializer[Any]):
    """One thing that was done; of a preview: that would be."""

    what = serializers.ChoiceField(WORDS)
    object = serializers.CharField()
    bytes = serializers.IntegerField()
    why = serializers.CharField()


class LossShape(serializers.Serializer[Any]):
    """What cannot be healed, and what it harms."""

    object = serializers.CharField(allow_blank=True)
    message = serializers.CharField()
    snapshots = serializers.ListField(child=serializers.CharField())
    paths = serializers.ListField(
        child=serializers.CharField(), help_text="The first of them, for who may browse backups."
    )
    paths_count = serializers.IntegerField()


class RepairShape(serializers.Serializer[Any]):
    """How the newest repair, or preview of one, is. `none`: nobody ever asked for it."""

    repository = Reference()
    status = serializers.ChoiceField(RUNS)
    preview = serializers.BooleanField(help_text="Nothing is written.")
    copies = Reference(many=True)
    progress = Progress()
    deeds = DeedShape(many=True, help_text="The first of them.")
    deeds_count = serializers.IntegerField(allow_null=True)
    objects = serializers.IntegerField(allow_null=True, help_text="Right objects that come from copies.")
    bytes = serializers.IntegerField(allow_null=True, help_text="Their bytes.")
    bytes_read = serializers.IntegerField(allow_null=True, help_text="Of the repository itself.")
    problems = LossShape(many=True, help_text="What cannot be healed; the first of them.")
    problems_count = serializers.IntegerField(allow_null=True)
    orphans = serializers.IntegerField(allow_null=True, help_text="Packs that nothing needs; they stay.")
    set_aside = serializers.IntegerField(allow_null=True, help_text="Objects whose wrong bytes are in quarantine.")
    returned = serializers.ListField(child=serializers.CharField(), help_text="Snapshots whose records are back.")
    forgotten = serializers.ListField(child=serializers.CharField(), help_text="Those that are forgotten again.")
    snapshots = serializers.IntegerField(allow_null=True)
    error = WorkError(allow_null=True)
    created_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class _Repairs(Configured):
    noun = REPOSITORY
    related = ("storage__environment", "storage__node")


class RepairOf(_Repairs):
    """The repair of a repository."""

    @operation(
        "repository_repair_status", needs="backups.view_repository", answers={200: RepairShape}, problems=(404,),
        summary="State and result of the newest repair", tagged=True, tag="repositories",
    )  # fmt: skip
    def get(self, _request: Request, reference: str) -> Response:
        """200 in every state."""
        row: Repository = self.one(reference, "backups.view_repository")
        repair = repairs.latest(row)
        shown = told(row, repair, names=sees_names(self, row))
        return self.going_on(shown) if repair else Response(shown)

    @operation(
        "repository_repair", needs=CHANGE, body=bodies.RepairRepository, answers={202: RepairShape},
        problems=(404, 409, 422), summary="Repair a repository", tag="repositories",
        examples=[OpenApiExample("what would be done", EXAMPLE, request_only=True)],
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """Right objects come from copies in other storages, each proved by its name; index objects are written anew
        from the packs. Wrong bytes are kept in quarantine, and nothing is taken away that could still be needed. What
        cannot be healed is told. Points that were found damaged are checked again afterwards. Ask for a preview first.
        """
        row: Repository = self.one(reference, CHANGE)
        repair = repairs.request(row, by=self.actor, **self.given)
        return self.accepted(told(row, repair, names=sees_names(self, row)), f"{API}/repositories/{row.pk}/repair")


class CancelRepair(_Repairs):
    """Ending a repair."""

    @operation(
        "repository_repair_cancel", needs=CHANGE, answers={202: RepairShape}, problems=(404, 409),
        summary="Cancel a repair", tag="repositories",
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """What is healed stays healed; a later repair goes on."""
        row: Repository = self.one(reference, CHANGE)
        repair = repairs.cancel(row, by=self.actor)
        return self.accepted(told(row, repair, names=sees_names(self, row)), f"{API}/repositories/{row.pk}/repair")


def told(row: Repository, repair: Repair | None, *, names: bool) -> dict[str, Any]:
    """A repair; names: with those of files that are harmed."""
    job = repair.job if repair else None
    found = repair.found if repair else {}
    done = job is not None and job.state == JobState.COMPLETED
    return {
        "repository": {"id": row.pk, "name": row.name}, "status": job.state if job else NEVER,
        "preview": bool(repair and repair.preview),
        "copies": [{"id": one.pk, "name": one.name} for one in repair.copies.all()] if repair else [],
        "progress": schema.progress(
            job.progress if job else {}, ended_well=done, heartbeat_at=job.heartbeat_at if job else None
        ),
        **{name: found.get(name) for name in COUNTS},
        **{name: found.get(name, []) for name in ("deeds", "returned", "forgotten")},
        "problems": [loss if names else {**loss, "paths": []} for loss in found.get("problems", [])],
        "error": job_error(job),
        **{name: getattr(job, name, None) for name in ("created_at", "started_at", "finished_at")},
    }  # fmt: skip
