"""Canaries: what opens a repository is nowhere but sealed in its row and in the runner's stdin."""

from __future__ import annotations

import base64
import logging
import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from aihub_backup.core import processes
from aihub_backup.core.audit import Actor
from aihub_backup.core.models import AuditEvent
from backups.models import PartState, Repository, Source, Storage
from backups.services import backups, repositories, running, sources
from tests.backups import stories

PASSPHRASE = "canary-passphrase-8f2c"
PASSWORD = "canary-password-77aa"


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments and environment of every process that is started."""
    seen: list[str] = []

    def spawn(argv: Sequence[str | bytes], **options: Any) -> processes.Child:
        seen.append(f"{argv} {options.get('env')}")
        return processes.spawn(argv, **options)

    monkeypatch.setattr(running, "processes", type("Watched", (), {"spawn": staticmethod(spawn)}))
    return seen


def everything_written(home: Path, places: Sequence[Path]) -> bytes:
    """The whole database and every file below the console's home (but its own keys) and the given places."""
    with sqlite3.connect(connection.settings_dict["NAME"]) as database:
        found = ["\n".join(database.iterdump()).encode()]
    database.close()
    for root in [home, *places]:
        found += [path.read_bytes() for path in root.rglob("*") if path.is_file() and path.parent.name != "keys"]
    return b"\n".join(found)


def test_keys_are_nowhere_in_the_clear(
    storage: Storage, data: Path, by: Actor, home: Path, tmp_path: Path, spawned: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    kit = repositories.create("main", storage, by=by, passphrase=PASSPHRASE)
    repositories.prove_kit(kit.repository, kit.code, by=by)
    sources.create("docs", "files", {"paths": [str(data)]}, by=by, test=False)
    backup = backups.request("files", by=by, verify=3)
    stories.work()

    keyfile = kit.repository.secrets["keyfile"]
    canaries = [keyfile, kit.code, kit.code.replace("-", ""), PASSPHRASE]
    written = everything_written(home, [tmp_path / "disk"])
    said = caplog.text + "\n".join(spawned) + repr(kit) + repr(kit.repository.secrets)
    said += "".join(str(event.facts) for event in AuditEvent.objects.all())
    assert stories.part_of(backup).state == PartState.COMPLETED
    assert spawned
    assert set(re.findall(r"AIHUB_\w+", "".join(spawned))) <= {"AIHUB_TOOL_DIRS"}
    for canary in canaries:
        assert canary not in said
        assert canary.encode() not in written
    assert base64.b64decode(keyfile) not in written
    assert kit.code in kit.text


def test_a_wrong_secret_is_not_repeated(repository: Repository, by: Actor) -> None:
    wrong = "WRNG-" + "-".join(["0000"] * 13)

    with pytest.raises(Exception, match="recovery code") as refusal:
        repositories.prove_kit(repository, wrong, by=by)

    assert wrong not in str(refusal.value)
    assert getattr(refusal.value, "code", "") == "wrong-recovery-code"


def test_a_sources_secret_is_not_told_by_a_failing_run(source: Source, by: Actor, home: Path) -> None:
    """A stored secret that its strategy does not know: the sentence names the option and never its value."""
    source.secrets = {"password": PASSWORD}
    source.save()
    backup = backups.request("files", by=by)

    stories.work()

    part = stories.part_of(backup)
    assert part.state == PartState.FAILED
    assert "password: There is no such option." in part.error_message
    assert PASSWORD not in part.error_message
    assert PASSWORD.encode() not in everything_written(home, [])


def test_rows_are_not_readable_in_another_place(repository: Repository, storage: Storage) -> None:
    """A sealed value copied to another row does not open: it is bound to its own."""
    sealed = Repository.objects.filter(pk=repository.pk).values_list("secrets", flat=True)[0]

    assert repository.secrets["keyfile"] not in str(sealed)
    assert str(sealed).startswith("v1.")
