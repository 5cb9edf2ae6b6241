"""/repositories/{repository}/compact, /repositories/{repository}/compaction: giving space back."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core.api import schema
from aihub_backup.core.api.schema import Progress, WorkError, operation
from aihub_backup.core.models import Job
from aihub_backup.core.models.job import JobState
from backups.api.configured import Configured
from backups.api.nouns import API, REPOSITORY
from backups.api.shapes import NEVER, RUNS, Reference
from backups.api.told import job_error
from backups.models import Repository
from backups.services import compacting

CHANGE = "backups.change_repository"


class PreviewShape(serializers.Serializer[Any]):
    """What a compaction would do now. Bytes are bytes as they are stored."""

    repository = Reference()
    stored_bytes = serializers.IntegerField(help_text="Of all packs.")
    unused_bytes = serializers.IntegerField(help_text="Of them: what no recovery point needs.")
    leaving_bytes = serializers.IntegerField(help_text="Marked by an earlier run, not deleted yet.")
    carried_bytes = serializers.IntegerField(help_text="To be stored anew.")
    freed_bytes = serializers.IntegerField(help_text="To be given back, in the end.")
    outdated_bytes = serializers.IntegerField(help_text="Of packs under older master keys than the one in use.")
    renewed_bytes = serializers.IntegerField(help_text="Of them: of packs that this run would bring under it.")
    packs = serializers.IntegerField(help_text="To be deleted.")
    orphans = serializers.IntegerField(help_text="Packs of crashed runs; they go after a day.")
    stale = serializers.IntegerField(help_text="Index objects under older keys, to be written anew.")


class CompactionShape(serializers.Serializer[Any]):
    """How far the giving back of space is, or what the last run did. `none`: there never was one."""

    repository = Reference()
    status = serializers.ChoiceField(RUNS)
    progress = Progress()
    carried_bytes = serializers.IntegerField(allow_null=True)
    freed_bytes = serializers.IntegerField(allow_null=True)
    deleted = serializers.IntegerField(allow_null=True, help_text="Objects.")
    marked_bytes = serializers.IntegerField(
        allow_null=True, help_text="Of packs that go with a later run, when every job that is at work now has ended."
    )
    error = WorkError(allow_null=True)
    created_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)


class _Compactions(Configured):
    noun = REPOSITORY
    related = ("storage__environment", "storage__node")


class Compact(_Compactions):
    """Giving space back, and what it would give."""

    @operation(
        "repository_compact_preview", needs=CHANGE, answers={200: PreviewShape}, problems=(404, 409, 422),
        summary="What compacting a repository would give back", tag="repositories",
    )  # fmt: skip
    def get(self, _request: Request, reference: str) -> Response:
        """Reads the trees of all recovery points and writes nothing."""
        row: Repository = self.one(reference, CHANGE)
        plan = compacting.preview(row)
        names = ("stored", "unused", "leaving", "carried", "freed", "outdated", "renewed")
        told = {f"{name}_bytes": plan[name] for name in names}
        counts = {name: plan[name] for name in ("packs", "orphans", "stale")}
        return Response({"repository": _named(row), **told, **counts})

    @operation(
        "repository_compact", needs=CHANGE, answers={202: CompactionShape}, problems=(404, 409, 422),
        summary="Give back the space that only deleted backups needed", tag="repositories",
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """Happens by itself once a day. A run that is at it already is returned as it is."""
        row: Repository = self.one(reference, CHANGE)
        job = compacting.request(row, by=self.actor)
        return self.accepted(told(row, job), f"{API}/repositories/{row.pk}/compaction")


class Compaction(_Compactions):
    """How a compaction is."""

    @operation(
        "repository_compaction", needs="backups.view_repository", answers={200: CompactionShape}, problems=(404,),
        summary="State and progress of a compaction", tagged=True, tag="repositories",
    )  # fmt: skip
    def get(self, _request: Request, reference: str) -> Response:
        """200 in every state."""
        row: Repository = self.one(reference, "backups.view_repository")
        job = compacting.latest(row)
        return self.going_on(told(row, job)) if job else Response(told(row, None))


class CancelCompaction(_Compactions):
    """Ending a compaction."""

    @operation(
        "repository_compaction_cancel", needs=CHANGE, answers={202: CompactionShape}, problems=(404, 409),
        summary="Cancel a compaction", tag="repositories",
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """Nothing is lost; the next run goes on."""
        row: Repository = self.one(reference, CHANGE)
        compacting.cancel(row, by=self.actor)
        return self.accepted(told(row, compacting.latest(row)), f"{API}/repositories/{row.pk}/compaction")


def told(row: Repository, job: Job | None) -> dict[str, Any]:
    """A compaction."""
    progress = dict(job.progress) if job else {}
    done = job is not None and job.state == JobState.COMPLETED
    figures = {f"{name}_bytes": progress.get(name) for name in ("carried", "freed", "marked")}
    return {
        "repository": _named(row), "status": job.state if job else NEVER,
        "progress": schema.progress(progress, ended_well=done, heartbeat_at=job.heartbeat_at if job else None),
        **figures, "deleted": progress.get("deleted"), "error": job_error(job),
        **{name: getattr(job, name, None) for name in ("created_at", "started_at", "finished_at")},
    }  # fmt: skip


def _named(row: Repository) -> dict[str, Any]:
    return {"id": row.pk, "name": row.name}
