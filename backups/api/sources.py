"""/sources and /policies: what is protected, and what that means."""

from __future__ import annotations

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiExample
from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core.api.schema import operation, page_of
from backups.api import bodies, filters
from backups.api import configured_shapes as shapes
from backups.api.configured import Configured, options_placed
from backups.api.nouns import API, POLICY, SOURCE
from backups.models import Policy, Source
from backups.services import placing, policies, sources

# --- sources --------------------------------------------------------------------------------------------------------


class _Sources(Configured):
    noun = SOURCE
    related = ("environment", "node", "policy", "repository")

    def narrowed(self, rows: QuerySet[Source]) -> QuerySet[Source]:
        """Archived ones are a list of their own."""
        rows = rows.filter(archived_at__isnull=not self.asked["archived"])
        rows = rows.filter(enabled=self.asked["enabled"]) if "enabled" in self.asked else rows
        return filters.tagged(rows, self.asked["tag"]) if "tag" in self.asked else rows


class Sources(_Sources):
    """Sources."""

    @operation(
        "source_list", needs="backups.view_source", query=bodies.SourceQuery, tag="sources",
        answers={200: page_of(shapes.SourceShape)}, summary="List sources",
    )  # fmt: skip
    def get(self, _request: Request) -> Response:
        """By name."""
        return self.listing(shapes.source, "backups.view_source")

    @operation(
        "source_create", needs="backups.add_source", body=bodies.CreateSource, answers={201: shapes.SourceShape},
        problems=(409, 422), summary="Add a source", tag="sources",
        examples=[OpenApiExample(
            "a directory", {"name": "models", "kind": "files", "options": {"paths": ["/srv/models"]}}, request_only=True
        )],
    )  # fmt: skip
    def post(self, _request: Request) -> Response:
        """The strategy looks at it first; nothing is stored when it cannot be read."""
        given = dict(self.given)
        given["environment"] = placing.environment(given.get("environment"))
        self.must_permit("backups.add_source", given["environment"], given.get("tags") or {})
        with options_placed():
            made = sources.create(given.pop("name"), given.pop("kind"), given.pop("options"), by=self.actor, **given)
        return self.created(shapes.source(made), self.named(made))


class OneSource(_Sources):
    """A source."""

    @operation(
        "source_get", needs="backups.view_source", answers={200: shapes.SourceShape}, problems=(404,),
        summary="A source", tagged=True, tag="sources",
    )  # fmt: skip
    def get(self, _request: Request, reference: str) -> Response:
        """By id or name."""
        return Response(shapes.source(self.one(reference, "backups.view_source")))

    @operation(
        "source_change", needs="backups.change_source", body=bodies.ChangeSource, answers={200: shapes.SourceShape},
        problems=(404, 409, 412, 422), summary="Change a source", tag="sources",
    )  # fmt: skip
    def patch(self, _request: Request, reference: str) -> Response:
        """Members that are left out stay. If-Match guards against a lost change. With other options it is tested:
        `test_error` tells whether it can be read."""
        return self.changed(reference, "backups.change_source", shapes.source, sources.update, test=sources.test)

    @operation(
        "source_archive", needs="backups.delete_source", query=bodies.DeleteQuery, answers={200: shapes.SourceShape},
        problems=(404, 409, 412), summary="Archive a source", tag="sources",
    )  # fmt: skip
    def delete(self, _request: Request, reference: str) -> Response:
        """It is protected no longer; its backups stay."""
        row: Source = self.one(reference, "backups.delete_source")
        self.require_version(shapes.source(row))
        return Response(shapes.source(sources.archive(row, by=self.actor, reason=self.asked["reason"])))


class TestSource(_Sources):
    """Trying a source out."""

    __test__ = False  # no test of pytest's

    @operation(
        "source_test", needs="backups.change_source", answers={200: shapes.SourceShape}, problems=(404,),
        summary="Try a source out", tag="sources",
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """The answer tells `test_error`; empty means that it can be read."""
        row: Source = self.one(reference, "backups.change_source")
        return Response(shapes.source(sources.test(row, by=self.actor)))


class PauseSource(_Sources):
    """Leaving a source out."""

    @operation(
        "source_pause", needs="backups.change_source", body=bodies.Reasoned, answers={200: shapes.SourceShape},
        problems=(404,), summary="Pause a source", tag="sources", once=True,
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """Runs that name no sources leave it out."""
        row: Source = self.one(reference, "backups.change_source")
        return Response(shapes.source(sources.pause(row, by=self.actor, reason=self.given["reason"])))


class ResumeSource(_Sources):
    """Taking a source in again."""

    @operation(
        "source_resume", needs="backups.change_source", answers={200: shapes.SourceShape}, problems=(404,),
        summary="Resume a source", tag="sources", once=True,
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """Also out of the archive."""
        row: Source = self.one(reference, "backups.change_source")
        return Response(shapes.source(sources.resume(row, by=self.actor)))


# --- policies -------------------------------------------------------------------------------------------------------


class _Policies(Configured):
    noun = POLICY


class Policies(_Policies):
    """Policies."""

    @operation(
        "policy_list", needs="backups.view_policy", query=bodies.ConfiguredQuery, tag="policies",
        answers={200: page_of(shapes.PolicyShape)}, summary="List policies",
    )  # fmt: skip
    def get(self, _request: Request) -> Response:
        """By name."""
        return self.listing(shapes.policy, "backups.view_policy")

    @operation(
        "policy_create", needs="backups.add_policy", body=bodies.CreatePolicy, answers={201: shapes.PolicyShape},
        problems=(409,), summary="Add a policy", tag="policies", once=True,
    )  # fmt: skip
    def post(self, _request: Request) -> Response:
        """What protection means."""
        given = dict(self.given)
        self.must_hold_everywhere("backups.add_policy")
        made: Policy = policies.create(given.pop("name"), by=self.actor, **given)
        return self.created(shapes.policy(made), f"{API}/policies/{made.pk}")


class OnePolicy(_Policies):
    """A policy."""

    @operation(
        "policy_get", needs="backups.view_policy", answers={200: shapes.PolicyShape}, problems=(404,),
        summary="A policy", tagged=True, tag="policies",
    )  # fmt: skip
    def get(self, _request: Request, reference: str) -> Response:
        """By id or name."""
        return Response(shapes.policy(self.one(reference, "backups.view_policy")))

    @operation(
        "policy_change", needs="backups.change_policy", body=bodies.ChangePolicy, answers={200: shapes.PolicyShape},
        problems=(404, 409, 412), summary="Change a policy", tag="policies",
    )  # fmt: skip
    def patch(self, _request: Request, reference: str) -> Response:
        """Members that are left out stay. If-Match guards against a lost change."""
        return self.changed(reference, "backups.change_policy", shapes.policy, policies.update)
