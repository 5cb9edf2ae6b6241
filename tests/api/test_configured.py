"""/storages, /repositories, /sources, /policies: added, shown, changed; secrets go in and never come out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from aihub_backup.core.models import AuditEvent, Environment
from aihub_backup.core.options import option, secret
from aihub_backup.core.redaction import sensitive
from backups.kinds import STRATEGIES
from backups.models import Policy, Repository, Source, Storage
from tests.api import conformity
from tests.api.stories import PREFIX, Caller, is_problem

pytestmark = pytest.mark.django_db(transaction=True)


@sensitive
@dataclass(frozen=True)
class VaultOptions:
    """A kind with a secret."""

    host: str = option(label="Host")
    password: str = secret(label="Password")


class Vault:
    """A strategy that can be added and nothing else."""

    Options: ClassVar[type[Any]] = VaultOptions

    @classmethod
    def roots(cls, _options: VaultOptions) -> list[Path]:
        """It lies on no disk."""
        return []

    @classmethod
    def covers(cls, _options: VaultOptions, _place: Path, *, directory: bool = True) -> bool:
        """It lies on no disk."""
        return False


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kind of source with a secret option."""
    monkeypatch.setitem(STRATEGIES._own, "vault", ("Vault", f"{__name__}.Vault"))
    monkeypatch.setattr(conformity, "check", lambda response: None)  # the schema was made without this kind


# --- storages -------------------------------------------------------------------------------------------------------


def test_it_adds_a_storage_that_works(call: Caller, tmp_path: Path) -> None:
    answer = call.post("/storages", {"name": "vault 1", "kind": "local", "options": {"path": str(tmp_path / "s")}})

    assert answer.status == 201
    assert answer.headers["Location"] == f"{PREFIX}/storages/{answer['id']}"
    assert answer["node"]["name"] == "testnode"
    assert answer["capabilities"]["durable"] is True
    assert answer["repository"] is None
    assert call.get("/storages/vault 1").body == call.get(f"/storages/{answer['id']}").body == answer.body


@pytest.mark.parametrize(
    ("more", "pointer"),
    [
        ({"options": {}}, "/options/path"),
        ({"options": {"path": "relative"}}, "/options/path"),
        ({"options": {"path": "/srv/x", "colour": "red"}}, "/options/colour"),
        ({"options": "x"}, "/options"),
        ({"kind": "tape"}, "/kind"),
        ({"name": ""}, "/name"),
        ({"name": 7}, "/name"),
        ({"environment": "nowhere"}, "/environment"),
        ({"test": "yes"}, "/test"),
    ],
)
def test_it_points_at_what_is_wrong_with_a_storage(
    call: Caller, tmp_path: Path, more: dict[str, object], pointer: str
) -> None:
    answer = call.post("/storages", {"name": "x", "kind": "local", "options": {"path": str(tmp_path / "s")}, **more})

    assert is_problem(answer, 400, "validation-error")
    assert answer.pointers == [pointer]
    assert not Storage.objects.exists()


def test_it_stores_no_storage_that_cannot_be_reached(call: Caller, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    answer = call.post("/storages", {"name": "x", "kind": "local", "options": {"path": str(tmp_path / "file" / "s")}})

    assert answer.status in (422, 503)
    assert str(tmp_path) in answer["detail"]
    assert not Storage.objects.exists()


def test_names_and_places_are_unique(call: Caller, storage: Storage, tmp_path: Path) -> None:
    again = call.post("/storages", {"name": "disk", "kind": "local", "options": {"path": str(tmp_path / "other")}})
    place = call.post("/storages", {"name": "x", "kind": "local", "options": storage.options})

    assert is_problem(again, 409, "name-taken")
    assert is_problem(place, 409, "place-taken")


def test_it_changes_and_tries_a_storage(call: Caller, tmp_path: Path) -> None:
    call.post("/storages", {"name": "disk", "kind": "local", "options": {"path": str(tmp_path / "disk")}})
    changed = call.patch("/storages/disk", {"name": "disk 2", "enabled": False})
    tried = call.post("/storages/disk 2/test")

    assert (changed.status, changed["name"], changed["enabled"]) == (200, "disk 2", False)
    assert (tried.status, tried["test_error"]) == (200, "")
    assert call.patch("/storages/disk 2", {"kind": "s3"}).pointers == ["/kind"]
    assert is_problem(call.get("/storages/disk"), 404, "not-found")


def test_it_tries_a_storage_out_as_soon_as_its_options_change(call: Caller, tmp_path: Path) -> None:
    call.post("/storages", {"name": "disk", "kind": "local", "options": {"path": str(tmp_path / "disk")}})

    changed = call.patch("/storages/disk", {"options": {"path": str(tmp_path / "nowhere")}})

    assert (changed.status, changed["options"]) == (200, {"path": str(tmp_path / "nowhere")})
    assert str(tmp_path / "nowhere") in changed["test_error"]


# --- repositories ---------------------------------------------------------------------------------------------------


def test_it_makes_a_repository_and_shows_its_kit_once(call: Caller, storage: Storage) -> None:
    answer = call.post("/repositories", {"name": "main", "storage": "disk"})
    code = answer["recovery_kit"]["code"]

    assert answer.status == 201
    assert code in answer["recovery_kit"]["text"]
    assert answer["ready"] is False
    shown = call.get("/repositories/main")
    assert "recovery_kit" not in shown.body
    assert code not in str(shown.body)
    assert code not in str(list(AuditEvent.objects.values()))
    proven = call.post("/repositories/main/prove-kit", {"code": code})
    assert (proven.status, proven["ready"]) == (200, True)
    assert call.get("/storages/disk")["repository"]["name"] == "main"


def test_it_accepts_no_backup_before_the_kit_is_proven(call: Caller, storage: Storage, data: Path) -> None:
    call.post("/repositories", {"name": "main", "storage": "disk"})
    call.post("/sources", {"name": "docs", "kind": "files", "options": {"paths": [str(data)]}})

    assert is_problem(call.post("/create", {"type": "full"}), 409, "recovery-kit-unproven")
    waived = call.post("/repositories/main/waive-kit", {"reason": "a test"})
    assert (waived.status, waived["ready"]) == (200, True)
    assert call.post("/create", {"type": "full"}).status == 202
    assert call.post("/repositories/main/waive-kit", {}).pointers == ["/reason"]


def test_it_refuses_a_wrong_recovery_code(call: Caller, storage: Storage) -> None:
    call.post("/repositories", {"name": "main", "storage": "disk"})
    code = "AAAA-BBBB-CCCC"

    answer = call.post("/repositories/main/prove-kit", {"code": code})

    assert answer.status in (400, 422)
    assert code not in str(answer.body)
    assert call.get("/repositories/main")["ready"] is False


def test_a_storage_holds_one_repository(call: Caller, repository: Repository) -> None:
    assert is_problem(call.post("/repositories", {"name": "second", "storage": "disk"}), 409, "place-taken")
    assert [row["name"] for row in call.get("/repositories")["results"]] == ["main"]


# --- sources --------------------------------------------------------------------------------------------------------


def test_it_adds_a_source_that_can_be_read(call: Caller, repository: Repository, data: Path) -> None:
    answer = call.post(
        "/sources", {"name": "docs", "kind": "files", "options": {"paths": [str(data)]}, "tags": {"team": "ml"},
                     "repository": "main"}
    )  # fmt: skip

    assert answer.status == 201
    assert answer["options"]["paths"] == [str(data)]
    assert answer["repository"]["name"] == "main"
    assert call.get("/sources", {"tag": "team:ml"})["results"][0]["id"] == answer["id"]
    assert call.get("/sources", {"tag": "team:other"})["results"] == []


def test_it_takes_the_seeds_word_for_the_kind(call: Caller, data: Path) -> None:
    answer = call.post("/sources", {"name": "docs", "strategy_name": "files", "options": {"paths": [str(data)]}})

    assert answer["kind"] == "files"


def test_it_stores_no_source_that_cannot_be_read(call: Caller, tmp_path: Path) -> None:
    answer = call.post("/sources", {"name": "x", "kind": "files", "options": {"paths": [str(tmp_path / "gone")]}})

    assert is_problem(answer, 422, "source-not-ready")
    assert str(tmp_path / "gone") in answer["detail"]
    assert not Source.objects.exists()


def test_secrets_go_in_and_never_come_out(call: Caller, vault: None) -> None:
    body = {"name": "v", "kind": "vault", "options": {"host": "h", "password": "canary-7f3a"}, "test": False}
    made = call.post("/sources", body, Idempotency_Key="k")
    changed = call.patch("/sources/v", {"options": {"host": "other"}})
    rotated = call.patch("/sources/v", {"options": {"password": "canary-9c1b"}})
    refused = call.post("/sources", {**body, "name": "w", "options": {"password": "canary-7f3a"}})

    assert made["secrets_set"] == ["password"]
    assert changed["options"] == {"host": "other"}
    assert rotated["secrets_set"] == ["password"]
    assert refused.pointers == ["/options/host"]
    everything = [made, changed, rotated, refused, call.get("/sources"), call.get("/sources/v")]
    assert "canary" not in str(everything)
    assert "canary" not in str(list(AuditEvent.objects.values()))
    assert Source.objects.get().secrets["password"] == "canary-9c1b"


def test_a_stored_password_is_sent_to_no_other_server(call: Caller) -> None:
    options = {"host": "db.example.org", "database": "hub", "user": "reader", "password": "canary-7f3a"}
    call.post("/sources", {"name": "pg1", "kind": "postgresql", "options": options, "test": False})

    answer = call.patch("/sources/pg1", {"options": {"host": "evil", "port": 1, "sslmode": "disable"}})

    assert (answer.status, answer.pointers) == (400, ["/options/password"])
    assert "host, port, sslmode" in str(answer)
    assert call.get("/sources/pg1")["options"]["host"] == "db.example.org"


def test_it_changes_only_the_version_that_was_seen(call: Caller, source: Source) -> None:
    seen = call.get("/sources/docs").headers["ETag"]
    first = call.patch("/sources/docs", {"tags": {"a": "b"}}, If_Match=seen)
    second = call.patch("/sources/docs", {"tags": {"c": "d"}}, If_Match=seen)

    assert (first.status, first["tags"]) == (200, {"a": "b"})
    assert is_problem(second, 412, "version-mismatch")
    assert call.get("/sources/docs")["tags"] == {"a": "b"}


def test_it_pauses_resumes_and_archives(call: Caller, source: Source) -> None:
    assert call.post("/sources/docs/pause", {"reason": "moving"})["enabled"] is False
    assert is_problem(call.post("/create", {"type": "full"}), 422, "source-not-ready")
    assert call.post("/sources/docs/resume")["enabled"] is True
    assert call.delete("/sources/docs", "?reason=gone")["archived_at"]
    assert call.get("/sources")["results"] == []
    assert len(call.get("/sources", {"archived": "true"})["results"]) == 1


def test_it_tries_a_source_out(call: Caller, source: Source, data: Path) -> None:
    assert call.post("/sources/docs/test")["test_error"] == ""
    data.rename(data.with_name("away"))

    assert str(data) in call.post("/sources/docs/test")["test_error"]


def test_it_filters_sources(call: Caller, source: Source) -> None:
    Environment.objects.create(name="elsewhere")

    assert len(call.get("/sources", {"kind": "files", "enabled": "true", "q": "DO"})["results"]) == 1
    assert call.get("/sources", {"environment": "elsewhere"})["results"] == []
    assert call.get("/sources", {"environment": "nowhere"}).pointers == ["/environment"]


def test_an_archived_source_can_still_be_looked_at(call: Caller, source: Source) -> None:
    call.delete("/sources/docs")

    assert call.get("/sources/docs")["archived_at"]


# --- policies -------------------------------------------------------------------------------------------------------


def test_it_adds_and_changes_a_policy(call: Caller) -> None:
    made = call.post("/policies", {"name": "gold", "keep_daily": 7, "verify_level": "L3", "rpo_target_minutes": 60})
    changed = call.patch("/policies/gold", {"keep_weekly": 4, "rpo_target_minutes": None})

    assert (made.status, made["keep_daily"], made["verify_level"]) == (201, 7, 3)
    assert (changed["keep_daily"], changed["keep_weekly"], changed["rpo_target_minutes"]) == (7, 4, None)
    assert call.patch("/policies/gold", {"verify_level": 4}).pointers == ["/verify_level"]
    assert is_problem(call.post("/policies", {"name": "gold"}), 409, "name-taken")


def test_it_pages_by_number(call: Caller) -> None:
    for number in range(5):
        Policy.objects.create(name=f"p{number}")

    first = call.get("/policies", {"page_size": 2})
    third = call.get(call.get(first["next"])["next"])

    assert (first["count"], first["previous"], third["next"]) == (5, None, None)
    assert [row["name"] for row in third["results"]] == ["p4"]
    assert call.get("/policies", {"page": 9}).pointers == ["/page"]
