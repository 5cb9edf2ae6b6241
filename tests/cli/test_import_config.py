"""A configuration file becomes rows, from the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from aihub_backup.cli.exits import Exit
from aihub_backup.core.models import AuditEvent
from backups.models import Repository, Source, Storage
from backups.services import own_places
from disaster.models import DRConfig
from tests.cli.test_deeds import Terminal

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """The configuration of an AI hub: one of its directories is missing, its Redis cannot be backed up yet."""
    for name in ("data", "config"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("something worth keeping")
    found = {
        "storage": {"type": "local", "path": "./backups"}, "redis": {"url": "redis://localhost:6379/0"},
        "backup_paths": ["./data", "./config", "./logs"], "disaster_recovery": {"rpo_minutes": 30}, "colour": "blue",
    }  # fmt: skip
    (tmp_path / "hub.json").write_text(json.dumps(found))
    return tmp_path / "hub.json"


def test_it_makes_what_it_understands_and_tells_the_rest(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = Terminal(capsys).types("import-config", str(hub), "--kit", str(tmp_path / "kit"))

    assert code == Exit.WARNINGS
    assert Repository.objects.get().storage.options == {"path": str(tmp_path / "backups")}
    assert set(Source.objects.values_list("name", flat=True)) == {"data", "config"}
    assert DRConfig.objects.get().rpo_minutes == 30
    assert "the source “data” (files)" in out
    assert "redis.url is of the kind redis" in err and f"{tmp_path}/logs" in err
    assert "colour was not understood" in err
    assert "Recovery code" in (tmp_path / "kit").read_text()


def test_beside_another_repository_its_sources_go_to_its_own(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "etc").mkdir()
    terminal = Terminal(capsys)
    terminal.types("storage", "add", "disk", "--option", f"path={tmp_path / 'disk'}")
    terminal.types("repository", "create", "main", "--storage", "disk", "--kit", str(tmp_path / "main kit"))
    terminal.types("source", "add", "etc", "--option", f"paths={tmp_path / 'etc'}")

    terminal.types("import-config", str(hub), "--kit", str(tmp_path / "kit"))

    where = dict(Source.objects.values_list("name", "repository__name"))
    assert where == {"etc": "main", "data": "main 2", "config": "main 2"}


def test_a_second_time_everything_is_there_already(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal(capsys)
    terminal.types("import-config", str(hub), "--kit", str(tmp_path / "kit"))
    before = AuditEvent.objects.count()

    out = terminal.types("import-config", str(hub), "--kit", str(tmp_path / "kit"))[1]

    assert out.count("is there already and stays as it is") == 5
    assert AuditEvent.objects.count() == before


def test_a_dry_run_makes_nothing(hub: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _err = Terminal(capsys).types("import-config", str(hub), "--dry-run", "--json")

    told = json.loads(out)
    assert code == Exit.WARNINGS
    assert "the source “logs” (files)" in told["made"]
    assert told["not_understood"] == ["colour"]
    assert not Storage.objects.exists() and not Source.objects.exists() and not DRConfig.objects.exists()


def test_a_dry_run_looks_at_what_is_there(hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(capsys)
    terminal.types("import-config", str(hub), "--kit", str(tmp_path / "kit"))
    document = json.loads(hub.read_text())
    (tmp_path / "more").mkdir()
    hub.write_text(json.dumps({**document, "backup_paths": ["./data", "./more"]}))
    before = AuditEvent.objects.count()

    rehearsed = json.loads(terminal.types("import-config", str(hub), "--dry-run", "--json")[1])
    done = json.loads(terminal.types("import-config", str(hub), "--json")[1])

    assert rehearsed["made"] == done["made"] == ["the source “more” (files)"]
    assert rehearsed["there"] == done["there"] and len(done["there"]) == 4
    assert AuditEvent.objects.count() == before + 1


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_source_over_its_own_backups_is_refused_by_a_dry_run_too(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    document = json.loads(hub.read_text())
    hub.write_text(json.dumps({**document, "backup_paths": ["."]}))

    told = Terminal(capsys).types("import-config", str(hub), "--kit", f"{tmp_path}-kit", *more)[2]

    assert "where its own backups are kept" in told


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_a_kit_that_cannot_be_written_is_told_before_anything_is_made(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    (tmp_path / "kit").write_text("somebody's")
    terminal = Terminal(capsys)

    there = terminal.types("import-config", str(hub), "--kit", str(tmp_path / "kit"), *more)[2]
    nowhere = terminal.types("import-config", str(hub), "--kit", str(tmp_path / "none/kit"), *more)[2]

    assert f"{tmp_path}/kit exists already" in there and "use --kit FILE" in there
    assert f"{tmp_path}/none/kit cannot be made for the kit" in nowhere
    assert not Storage.objects.exists() and not (tmp_path / "backups").exists()
    assert (tmp_path / "kit").read_text() == "somebody's"


def test_a_storage_whose_repository_cannot_be_made_does_not_stay(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "backups" / "packs").mkdir(parents=True)
    (tmp_path / "backups" / "config").write_text("somebody else's")

    code, out, err = Terminal(capsys).types("import-config", str(hub), "--kit", str(tmp_path / "kit"))

    assert code == Exit.WARNINGS
    assert not Storage.objects.exists() and not Repository.objects.exists()
    assert "the storage “" not in out and str(tmp_path / "backups") in err
    assert not (tmp_path / "kit").exists()
    assert AuditEvent.objects.filter(action="storage.remove").count() == 1


def test_a_second_kit_has_a_file_of_its_own(
    hub: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], settings: Settings
) -> None:
    settings.AIHUB_KIT_PATH = tmp_path / "recovery-kit.txt"
    settings.AIHUB_KIT_PATH.write_text("the first one's")
    Terminal(capsys).types("import-config", str(hub))

    assert "Recovery code" in (tmp_path / "recovery-kit-main.txt").read_text()
    assert tmp_path / "recovery-kit-main.txt" in [place.path for place in own_places.places()]


def test_a_file_that_is_not_there_is_wrong_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _out, err = Terminal(capsys).types("import-config", str(tmp_path / "none.json"))

    assert code == Exit.USAGE
    assert "none.json cannot be read: No such file" in err


def test_a_file_that_is_nested_too_deeply_is_wrong_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deep.yaml").write_text("[" * 20_000)

    code, _out, err = Terminal(capsys).types("import-config", str(tmp_path / "deep.yaml"))

    assert code == Exit.USAGE
    assert "deep.yaml is nested too deeply" in err
