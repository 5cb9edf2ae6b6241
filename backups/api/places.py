"""/storages and /repositories: where backups go."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiExample
from rest_framework.request import Request
from rest_framework.response import Response

from aihub_backup.core.api.schema import operation, page_of
from backups.api import bodies
from backups.api import configured_shapes as shapes
from backups.api.configured import Configured, options_placed
from backups.api.nouns import REPOSITORY, STORAGE
from backups.models import Repository, Storage
from backups.services import placing, repositories, storages

# --- storages -------------------------------------------------------------------------------------------------------


class _Storages(Configured):
    noun = STORAGE
    related = ("environment", "site", "node", "repository")


class Storages(_Storages):
    """Places."""

    @operation(
        "storage_list", needs="backups.view_storage", query=bodies.StorageQuery, tag="storages",
        answers={200: page_of(shapes.StorageShape)}, summary="List storages",
    )  # fmt: skip
    def get(self, _request: Request) -> Response:
        """By name."""
        return self.listing(shapes.storage, "backups.view_storage")

    @operation(
        "storage_create", needs="backups.add_storage", body=bodies.CreateStorage, answers={201: shapes.StorageShape},
        problems=(409, 422, 507), summary="Add a storage", tag="storages",
        examples=[OpenApiExample(
            "a directory", {"name": "vault", "kind": "local", "options": {"path": "/srv/vault"}}, request_only=True
        )],
    )  # fmt: skip
    def post(self, _request: Request) -> Response:
        """The place is made ready and tried out first; nothing is stored when that fails."""
        given = dict(self.given)
        given["environment"] = placing.environment(given.get("environment"))
        self.must_permit("backups.add_storage", given["environment"])
        with options_placed():
            made = storages.create(given.pop("name"), given.pop("kind"), given.pop("options"), by=self.actor, **given)
        return self.created(shapes.storage(made), self.named(made))


class OneStorage(_Storages):
    """A place."""

    @operation(
        "storage_get", needs="backups.view_storage", answers={200: shapes.StorageShape}, problems=(404,),
        summary="A storage", tagged=True, tag="storages",
    )  # fmt: skip
    def get(self, _request: Request, reference: str) -> Response:
        """By id or name."""
        return Response(shapes.storage(self.one(reference, "backups.view_storage")))

    @operation(
        "storage_change", needs="backups.change_storage", body=bodies.ChangeStorage,
        answers={200: shapes.StorageShape}, problems=(404, 409, 412), summary="Change a storage", tag="storages",
    )  # fmt: skip
    def patch(self, _request: Request, reference: str) -> Response:
        """Members that are left out stay. If-Match guards against a lost change. With other options it is tested:
        `test_error` tells whether it is reached, and its repository found there."""
        return self.changed(reference, "backups.change_storage", shapes.storage, storages.update, test=storages.test)


class TestStorage(_Storages):
    """Trying a place out."""

    __test__ = False  # no test of pytest's

    @operation(
        "storage_test", needs="backups.change_storage", answers={200: shapes.StorageShape}, problems=(404,),
        summary="Try a storage out", tag="storages",
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """The answer tells `test_error`; empty means that it passed."""
        row: Storage = self.one(reference, "backups.change_storage")
        return Response(shapes.storage(storages.test(row, by=self.actor)))


# --- repositories ---------------------------------------------------------------------------------------------------


class _Repositories(Configured):
    noun = REPOSITORY
    related = ("storage__environment", "storage__node")


class Repositories(_Repositories):
    """Repositories."""

    @operation(
        "repository_list", needs="backups.view_repository", query=bodies.ConfiguredQuery, tag="repositories",
        answers={200: page_of(shapes.RepositoryShape)}, summary="List repositories",
    )  # fmt: skip
    def get(self, _request: Request) -> Response:
        """By name."""
        return self.listing(shapes.repository, "backups.view_repository")

    @operation(
        "repository_create", needs="backups.add_repository", body=bodies.CreateRepository,
        answers={201: shapes.NewRepositoryShape}, problems=(409, 422, 507), summary="Make a repository",
        tag="repositories",
        examples=[OpenApiExample("in a storage", {"name": "main", "storage": "vault"}, request_only=True)],
    )  # fmt: skip
    def post(self, _request: Request) -> Response:
        """The answer holds the recovery kit, this one time. Prove it next: before that no backup is accepted."""
        given = dict(self.given)
        self.must_permit("backups.add_repository", given["storage"].environment)
        kit = repositories.create(given.pop("name"), given.pop("storage"), by=self.actor, **given)
        told = {name: getattr(kit, name) for name in ("repository_id", "place", "code", "text")}
        row: Repository = self.one(str(kit.repository.pk), "backups.add_repository")
        return self.created({**shapes.repository(row), "recovery_kit": told}, self.named(row))


class OneRepository(_Repositories):
    """A repository."""

    @operation(
        "repository_get", needs="backups.view_repository", answers={200: shapes.RepositoryShape}, problems=(404,),
        summary="A repository", tagged=True, tag="repositories",
    )  # fmt: skip
    def get(self, _request: Request, reference: str) -> Response:
        """By id or name."""
        return Response(shapes.repository(self.one(reference, "backups.view_repository")))


class ProveKit(_Repositories):
    """The recovery kit's proof."""

    @operation(
        "repository_prove_kit", needs="backups.change_repository", body=bodies.ProveKit,
        answers={200: shapes.RepositoryShape}, problems=(404, 409, 422), summary="Prove the recovery kit",
        tag="repositories",
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """The repository is really opened with the printed code."""
        row: Repository = self.one(reference, "backups.change_repository")
        repositories.prove_kit(row, self.given["code"], by=self.actor)
        return Response(shapes.repository(self.one(str(row.pk), "backups.change_repository")))


class WaiveKit(_Repositories):
    """Somebody's word instead of the proof."""

    @operation(
        "repository_waive_kit", needs="backups.change_repository", body=bodies.WaiveKit,
        answers={200: shapes.RepositoryShape}, problems=(404, 409), summary="Accept backups without a proven kit",
        tag="repositories", once=True,
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """Who said so and why is recorded."""
        row: Repository = self.one(reference, "backups.change_repository")
        repositories.waive_kit(row, reason=self.given["reason"], by=self.actor)
        return Response(shapes.repository(self.one(str(row.pk), "backups.change_repository")))


class AcceptHistory(_Repositories):
    """An operator's word about a repository whose log has lost records."""

    @operation(
        "repository_accept_history", needs="backups.change_repository", body=bodies.MustReason,
        answers={200: shapes.RepositoryShape}, problems=(404, 409), summary="Accept the history of a repository",
        tag="repositories", once=True,
    )  # fmt: skip
    def post(self, _request: Request, reference: str) -> Response:
        """What its log says now is the truth from here on, and backups are accepted again. Look at it first."""
        row: Repository = self.one(reference, "backups.change_repository")
        repositories.accept_history(row, reason=self.given["reason"], by=self.actor)
        return Response(shapes.repository(self.one(str(row.pk), "backups.change_repository")))
