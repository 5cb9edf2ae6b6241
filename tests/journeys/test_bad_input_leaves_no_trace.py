"""Places that cannot be used and sources that cannot be read: through the API and the command line each gets one clear
sentence, and neither rows nor objects nor temporary files stay behind."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from rest_framework.test import APIClient

from aihub_backup.core.audit import Actor
from aihub_backup.core.models import Job
from backups import engine
from backups.models import Backup, BackupPart, Policy, Repository, Source, Storage, Verification
from backups.services import sources, storages
from recovery.models import Recovery
from tests.api.stories import Answer, Caller
from tests.backups.stories import hurry, opened, ready, work
from tests.components import needs, needs_root

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.root, pytest.mark.slow]

BY = Actor(None, "olivia", "user")
MODELS = (Storage, Repository, Source, Policy, Backup, BackupPart, Verification, Recovery, Job)
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]  # root who may not read everything
ONE_JOB = "import django, sys; django.setup(); from tests.backups.stories import work; print(work())"


@dataclass
class World:
    """A console with a repository on a small file system, a source, and a backup that is done."""

    call: Caller
    tmp: Path
    backup: str = ""

    @property
    def data(self) -> Path:
        """The source."""
        return self.tmp / "data"

    @property
    def disk(self) -> Path:
        """A file system of 4 MiB."""
        return self.tmp / "disk"

    @property
    def store(self) -> Path:
        """The repository's directory on it."""
        return self.disk / "store"

    @property
    def target(self) -> Path:
        """Where recoveries go."""
        return self.tmp / "recovered" / "here"

    def trace(self) -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
        """Every row of ours with its state; every object, temporary file, stage and work directory."""
        rows = {m.__name__: sorted((str(row.pk), getattr(row, "state", "")) for row in m.objects.all()) for m in MODELS}
        return rows, self.files()

    def files(self) -> list[str]:
        """What could be left behind. Empty folders of a repository hold nothing."""
        kept = [path for path in self.disk.rglob("*") if path.is_file()]
        roots = (self.target.parent, Path(settings.AIHUB_HOME, "work"))
        return sorted(map(str, [*kept, *(path for root in roots for path in root.rglob("*"))]))

    def type(self, *words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """At the command line, on the same database."""
        return self.python("-m", "aihub_backup.cli", *words, before=before)

    def python(self, *words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """A process of its own on the same database."""
        url = f"sqlite:///{connection.settings_dict['NAME']}"
        environment = {**os.environ, "AIHUB_DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "tests.settings"}
        line = [*before, sys.executable, *words]
        return subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def world(api: APIClient, tmp_path: Path) -> Iterator[World]:
    needs_root()
    world = World(Caller(api), tmp_path)
    for place in (world.disk, world.target.parent, world.data):
        place.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "aihub-test", str(world.disk))
    try:
        _furnish(world)
        yield world
    finally:
        subprocess.run(["umount", "-l", str(world.disk)], check=True)


def _furnish(world: World) -> None:
    (world.data / "kept.txt").write_text("kept")
    (world.tmp / "taken" / "by").mkdir(parents=True)
    place = storages.create("disk", "local", {"path": str(world.store)}, by=BY, test=False)
    ready("main", place, by=BY)
    sources.create("docs", "files", {"paths": [str(world.data)]}, by=BY, test=False)
    world.backup = world.call.post("/create", {"type": "files"})["id"]
    work()
    assert world.call.get(f"/status/{world.backup}")["status"] == "completed"


def mount(*words: str) -> None:
    """Mount, or skip visibly where this process may not."""
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this machine does not let us mount: {done.stderr.strip()}")


# --- how places go bad ------------------------------------------------------------------------------------------------


def vanish(world: World) -> None:
    """The disk is not mounted any more: an empty directory is there instead."""
    world.store.rename(world.disk / "away")
    world.store.mkdir()


def come_back(world: World) -> None:
    """It is mounted again."""
    world.store.rmdir()
    (world.disk / "away").rename(world.store)


def below_a_file(world: World) -> None:
    """What was a directory is a file."""
    world.store.rename(world.disk / "away")
    world.store.write_text("in the way")


def fill(world: World) -> None:
    """Not a byte is free."""
    with suppress(OSError), (world.disk / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def lock(world: World) -> None:
    """Remounted read-only, as a kernel does with a failing disk."""
    mount("-o", "remount,ro", str(world.disk))


def exchange(world: World) -> None:
    """Somebody else's repository is there."""
    world.store.rename(world.disk / "away")
    store = engine.open_store("local", {"path": str(world.store)})
    engine.Repository.create(store, [(engine.new_keyfile(), "its own")])


def outdate(world: World) -> None:
    """A later version was here: all that is written in the clear says so."""
    for path in [world.store / "config", *(world.store / "keys").iterdir()]:
        facts = json.loads(path.read_bytes())
        data = json.dumps({**facts, "format": facts["format"] + 100}).encode()
        path.unlink()
        path.with_name("config" if path.name == "config" else hashlib.sha256(data).hexdigest()).write_bytes(data)


UNMOUNTED = "mount the disk it is on"
PLACES: dict[str, tuple[Callable[[World], None], str]] = {
    "a file": (below_a_file, "is a file; a real directory is needed there"),
    "full": (fill, "No space is left"),
    "read-only": (lock, "read-only"),
    "foreign": (exchange, "exchanged"),
    "newer": (outdate, "Upgrade first"),
}
READABLE = {"full", "read-only"}  # restores and checks need no room and write nothing


def asked(world: World, deed: str) -> str:
    """Ask for a backup, verification or recovery; where its answer is."""
    if deed == "backup":
        return f"/status/{world.call.post('/create', {'type': 'files'})['id']}"
    if deed == "verification":
        answer = world.call.post(f"/verify/{world.backup}", {"level": 3}).body
        checks = answer.get("verifications") or answer.get("results") or [answer]
        return f"/verifications/{checks[0]['id']}"
    body = {"type": "full", "backup_id": world.backup, "reason": "does it come back?"}
    made = world.call.post("/recover", {**body, "target": {"kind": "new_place", "path": str(world.target)}})
    return f"/recover/status/{made['id']}"


def told(answer: Answer) -> str:
    """The sentences of everything that failed."""
    errors = [answer["error"], *(part.get("error") for part in answer.body.get("parts", []))]
    found = [str(error["detail"]) for error in errors if error]
    return " ".join([*found, json.dumps(answer.body.get("problems", ""), ensure_ascii=False)])


# --- work that meets a bad place --------------------------------------------------------------------------------------


@pytest.mark.parametrize("deed", ["backup", "verification", "recovery"])
@pytest.mark.parametrize("place", PLACES)
def test_work_on_a_bad_place_ends_with_a_sentence(world: World, place: str, deed: str) -> None:
    spoil, said = PLACES[place]
    (world.data / "new").write_bytes(os.urandom(1 << 20))
    spoil(world)
    before = world.files()

    where = asked(world, deed)
    work()

    answer = world.call.get(where)
    assert answer["finished_at"], answer
    assert not Job.objects.exclude(state__in=("completed", "failed")).exists()
    if place in READABLE and deed != "backup":
        assert answer["status"] in ("passed", "completed"), answer
        return
    assert answer["status"] in ("failed", "error")
    assert said in told(answer)
    assert world.files() == before
    if place in READABLE:
        assert len(opened(Repository.objects.get()).snapshots) == 1


@pytest.mark.parametrize("deed", ["backup", "verification", "recovery"])
def test_work_waits_for_a_disk_that_is_not_mounted(world: World, deed: str) -> None:
    vanish(world)
    before = world.files()

    where = asked(world, deed)
    work()

    answer = world.call.get(where)
    assert answer["status"] == "queued"
    assert UNMOUNTED in told(answer)
    assert answer["error"] is None or answer["error"]["retryable"] is True
    assert world.files() == before
    come_back(world)
    hurry()
    work()
    assert world.call.get(where)["status"] in ("completed", "passed")


# --- work on a source that cannot be read -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda data: data.rename(data.with_name("moved")), "does not exist"),
        (lambda data: (data.rename(data.with_name("moved")), data.write_text("")), "does not exist"),
    ],
)
def test_a_source_that_is_gone_fails_the_backup_with_a_sentence(
    world: World, spoil: Callable[[Path], object], said: str
) -> None:
    (world.data / "sub").mkdir()
    source = Source.objects.get()
    Source.objects.update(options={**source.options, "paths": [str(world.data / "sub")]})
    spoil(world.data)
    before = world.files()

    where = asked(world, "backup")
    work()

    answer = world.call.get(where)
    assert answer["status"] == "failed"
    assert said in told(answer)
    assert str(world.data / "sub") in told(answer)
    assert world.files() == before


def test_a_source_that_may_not_be_read_fails_the_backup_with_a_sentence(world: World) -> None:
    needs("setpriv", "util-linux")
    world.data.chmod(0o700)
    os.chown(world.data, 12345, 12345)
    before = world.files()

    where = asked(world, "backup")
    done = world.python("-c", ONE_JOB, before=tuple(UNPRIVILEGED))

    assert done.stdout.strip() == "1", done.stderr
    answer = world.call.get(where)
    assert answer["status"] == "failed"
    assert "permission denied. Let the worker's account read it" in told(answer)
    assert world.files() == before


# --- requests that are refused at once --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """The same wish at both doors. {…} in it are names of the world's places."""

    path: str
    body: Mapping[str, Any]
    words: tuple[str, ...]
    said: str
    before: tuple[str, ...] = ()

    def of(self, world: World) -> tuple[Any, list[str]]:
        """With real places and ids."""
        places = {"data": world.data, "store": world.store, "target": world.target, "tmp": world.tmp}
        names = {"backup": world.backup, **{name: str(path) for name, path in places.items()}}
        names["repository"] = str(Repository.objects.get().pk)
        return _filled(self.body, names), [word.format(**names) for word in self.words]


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return value.format(**names)
    if isinstance(value, dict):
        return {name: _filled(inner, names) for name, inner in value.items()}
    return [_filled(inner, names) for inner in value] if isinstance(value, list) else value


def _storage(path: str, said: str) -> Request:
    body = {"name": "bad", "kind": "local", "options": {"path": path}}
    return Request("/storages", body, ("storage", "add", "bad", "--option", f"path={path}"), said)


def _source(path: str, said: str) -> Request:
    body = {"name": "bad", "kind": "files", "options": {"paths": [path]}}
    return Request("/sources", body, ("source", "add", "bad", "--option", f"paths={path}"), said)


def _backup(more: Mapping[str, Any], words: tuple[str, ...], said: str) -> Request:
    return Request("/create", {"type": "files", **more}, ("backup", "run", *words), said)


def _recovery(backup: str, target: str, said: str) -> Request:
    place = {"kind": "new_place", "path": target}
    body = {"type": "full", "backup_id": backup, "reason": "x", "target": place}
    return Request("/recover", body, ("restore", "--backup", backup, "--to", target), said)


REQUESTS = {
    "a storage below a file": _storage("{data}/kept.txt/below", "kept.txt is a file; a real directory is needed"),
    "a storage among other files": _storage("{data}", "other files in the directory"),
    "a storage at no absolute path": _storage("relative", "absolute"),
    "a storage of an unknown kind": Request(
        "/storages", {"name": "bad", "kind": "tape", "options": {}}, ("storage", "add", "bad", "--kind", "tape"), "tape"
    ),
    "a repository in no storage": Request(
        "/repositories", {"name": "bad", "storage": "nowhere"},
        ("repository", "create", "bad", "--storage", "nowhere"), "nowhere",
    ),
    "a source that does not exist": _source("{data}/missing", "missing does not exist. Check the path"),
    "a source below a file": _source("{data}/kept.txt/below", "does not exist. Check the path"),
    "an unknown type of backup": _backup({"type": "sometimes"}, ("--type", "sometimes"), "sometimes"),
    "an unknown source": _backup({"sources": ["nobody"]}, ("nobody",), "nobody"),
    "another kind's id for a source": _backup(
        {"sources": ["{repository}"]}, ("{repository}",), "the id of a repository"
    ),
    "another kind's id for a backup": _recovery("{repository}", "{target}", "{repository}"),
    "a target that holds something": _recovery("{backup}", "{tmp}/taken", "not empty"),
    "a target inside the repository": _recovery("{backup}", "{store}/back", "overlaps with the storage “disk”"),
    "a target below a file": _recovery("{backup}", "{data}/kept.txt/back", "kept.txt"),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_that_makes_no_sense_is_refused_at_both_doors(world: World, name: str) -> None:
    request = REQUESTS[name]
    body, words = request.of(world)
    said = request.said.format(repository=Repository.objects.get().pk)
    before = world.trace()

    answer = world.call.post(request.path, body)
    typed = world.type(*words)

    assert 400 <= answer.status < 500, answer
    assert said in str(answer.body), answer
    assert typed.returncode != 0
    assert said in typed.stderr, typed.stderr
    assert len(typed.stderr.strip().splitlines()) == 1, typed.stderr
    assert world.trace() == before


def test_a_source_that_may_not_be_read_is_refused(world: World) -> None:
    needs("setpriv", "util-linux")
    os.chown(world.data, 12345, 12345)
    world.data.chmod(0o700)
    before = world.trace()

    typed = world.type("source", "add", "bad", "--option", f"paths={world.data}", before=tuple(UNPRIVILEGED))

    assert typed.returncode != 0
    assert "permission denied. Let the worker's account read it" in typed.stderr
    assert world.trace() == before


@pytest.mark.parametrize("place", ["unreachable", "a file", "full", "read-only"])
def test_no_repository_is_made_in_a_bad_place(world: World, place: str) -> None:
    spoil, said = PLACES.get(place, (vanish, UNMOUNTED))
    world.store.rename(world.disk / "main")
    Storage.objects.update(options={"path": str(world.disk / "main")})
    storages.create("other", "local", {"path": str(world.store)}, by=BY)
    spoil(world)
    before = world.trace()

    answer = world.call.post("/repositories", {"name": "second", "storage": "other"})
    typed = world.type("repository", "create", "second", "--storage", "other", "--waive-kit")

    assert 400 <= answer.status < 600
    assert said in answer["detail"], answer
    assert typed.returncode != 0
    assert said in typed.stderr
    assert world.trace() == before


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"type": "files",}', b'{"type": NaN}', b"\xff", b"[" * 50_000])
@pytest.mark.parametrize("path", ["/create", "/recover", "/storages", "/sources", "/repositories"])
def test_malformed_json_changes_nothing(world: World, path: str, raw: bytes) -> None:
    before = world.trace()

    answer = world.call.raw(path, raw)

    assert answer.status == 400
    assert answer["detail"]
    assert world.trace() == before
