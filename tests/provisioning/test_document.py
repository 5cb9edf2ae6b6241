"""Configuration files of an AI hub: what is understood of them, and what is said about the rest."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from aihub_backup.core.failures import Invalid
from aihub_backup.provisioning import document
from aihub_backup.provisioning.wishes import Objectives, Wishes

BASE = Path("/srv/hub")


def read(found: dict[str, Any]) -> Wishes:
    return document.wishes(found, BASE)


def test_it_reads_storage_paths_and_objectives() -> None:
    wishes = read({
        "storage": {"type": "s3", "bucket_name": "aihub-backups", "access_key": "AK", "secret_key": "tigerlily",
                    "region": "us-east-1"},
        "backup_paths": ["./data", "/etc"],
        "disaster_recovery": {"enable_monitoring": True, "auto_recovery": False, "rpo_minutes": 60, "rto_minutes": 240},
    })  # fmt: skip

    assert (wishes.refusals, wishes.unknown) == ([], [])
    assert wishes.place is not None
    assert (wishes.place.kind, dict(wishes.place.options)["bucket"]) == ("s3", "aihub-backups")
    assert [(one.name, one.options["paths"]) for one in wishes.data] == [("data", ["/srv/hub/data"]), ("etc", ["/etc"])]
    assert wishes.objectives == Objectives(True, False, 60, 240)
    assert "tigerlily" not in repr(wishes)


def test_it_reads_the_address_of_a_database_it_can_back_up() -> None:
    wishes = read({"database": {"url": "sqlite:///var/hub.sqlite3"}})

    (source,) = wishes.data
    assert (source.name, source.kind, dict(source.options)) == ("hub", "sqlite", {"path": "/srv/hub/var/hub.sqlite3"})


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        ({"redis": {"url": "redis://localhost:6379/0"}}, "redis.url is of the kind redis, which this version"),
        (
            {"database": {"type": "mysql", "url": "mysql+pymysql://u:tigerlily@h/d"}},
            "database.url is of the kind mysql",
        ),
        ({"database": {"type": "mysql", "url": "postgresql://h/d"}}, "database.type is mysql, but database.url begins"),
        ({"database": {"url": "postgresql://h:x/d"}}, "database.url is not an address"),
        ({"database": {}}, "database.url is not an address; write kind://"),
        ({"database": "postgresql://h/d"}, "database must be a mapping of names to values."),
        ({"redis": {"url": "http://h"}}, "redis.url begins with http://; write redis://host:6379/0."),
        ({"storage": {"type": "tape"}}, "storage.type is 'tape'; the kinds of this version are local"),
        ({"storage": {"type": "s3"}}, "bucket: This option is required."),
        ({"storage": {"type": "s3", "bucket_name": "!"}}, "storage.bucket_name: This must match"),
        ({"backup_paths": "/etc"}, "backup_paths must be a list of paths"),
        ({"disaster_recovery": {"rpo_minutes": 0}}, "disaster_recovery.rpo_minutes must be a whole number of minutes"),
        (
            {"disaster_recovery": {"rpo_minutes": 10_000_001}},
            "minutes, at least 1 and at most 10000000; it is 10000001.",
        ),
        ({"disaster_recovery": {"rto_minutes": 9 * 10**18}}, "disaster_recovery.rto_minutes must be a whole number of"),
        (
            {"storage": {"type": "local", "path": None}},
            "storage.path must be a path, such as /srv/backups; it is None.",
        ),
        ({"storage": {"type": "local", "base_path": [1, 2]}}, "storage.base_path must be a path"),
        ({"storage": {"type": "local", "path": "/a\0b"}}, "storage.path holds a NUL character"),
        ({"storage": {"type": "local", "path": "/a\ud800"}}, "storage.path holds a NUL character or half of one"),
        ({"backup_paths": ["/a", "/b\0"]}, "backup_paths holds a NUL character"),
        ({"database": {"url": "sqlite:///a\udc80.db"}}, "database.url holds a NUL character"),
        ({"disaster_recovery": {"auto_recovery": "no"}}, "disaster_recovery.auto_recovery must be true or false"),
    ],
)
def test_what_makes_no_sense_is_a_sentence_and_stops_nothing_else(found: dict[str, Any], sentence: str) -> None:
    wishes = read({**found, "retries": 3})

    assert len(wishes.refusals) == 1
    assert sentence in wishes.refusals[0]
    assert "tigerlily" not in wishes.refusals[0]
    assert wishes.unknown == ["retries"]


def test_it_tells_every_name_it_did_not_understand() -> None:
    wishes = read({
        "storage": {"type": "local", "path": "backups", "compression": True},
        "database": {"url": "sqlite:////srv/a.db", "pool": 5}, "disaster_recovery": {"dr_sites": ["primary"]},
        "notifications": {},
    })  # fmt: skip

    assert wishes.unknown == ["storage.compression", "database.pool", "disaster_recovery.dr_sites", "notifications"]
    assert wishes.place is not None and dict(wishes.place.options) == {"path": "/srv/hub/backups"}


@pytest.mark.parametrize("wrapped", [False, True])
def test_it_reads_json_and_yaml(tmp_path: Path, wrapped: bool) -> None:
    found = {"backup_paths": ["/etc"]}
    given = {"backup_config": found} if wrapped else found
    (tmp_path / "hub.json").write_text(json.dumps(given))
    (tmp_path / "hub.yaml").write_text(json.dumps(given))  # all JSON is YAML

    assert document.load(tmp_path / "hub.json") == document.load(tmp_path / "hub.yaml") == found


@pytest.mark.parametrize("name", ["hub.json", "hub.yaml"])
def test_it_reads_what_an_editor_marked_as_unicode(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b'\xef\xbb\xbf{"backup_paths": ["/etc"]}')

    assert document.load(tmp_path / name) == {"backup_paths": ["/etc"]}


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("hub.json", "{", "is not JSON"),
        ("hub.yml", "a: [", "is not YAML"),
        ("hub.yaml", "backup_paths: 2024-02-30", "is not YAML: day is out of range"),
        ("hub.yaml", "backup_paths: !!int ''", "is not YAML"),
        ("hub.yaml", "backup_paths: !!timestamp x", "is not YAML"),
        ("hub.json", "[]", "must hold a mapping with keys such as storage"),
    ],
)
def test_a_file_that_is_no_document_is_refused(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(Invalid, match=sentence):
        document.load(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"hub.json cannot be read: No such file"):
        document.load(tmp_path / "hub.json")


@pytest.fixture
def _depth_of_a_console() -> Iterator[None]:
    """Tests may go deeper than programs do; on its way down there the parser of YAML takes half a minute."""
    deeper = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)
    yield
    sys.setrecursionlimit(deeper)


@pytest.mark.usefixtures("_depth_of_a_console")
@pytest.mark.parametrize("name", ["deep.yaml", "deep.json"])
def test_it_refuses_what_is_nested_too_deeply(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("[" * 20_000)

    with pytest.raises(Invalid, match=f"{name} is nested too deeply"):
        document.load(tmp_path / name)


def test_the_example_in_the_manual_is_understood_whole(tmp_path: Path) -> None:
    manual = (settings.BASE_DIR / "docs/operations.md").read_text()
    example = tmp_path / "backup.yaml"
    example.write_text(manual.partition("```yaml\n")[2].partition("```")[0])

    found = document.wishes(document.load(example), tmp_path)

    assert (found.unknown, found.refusals) == ([], [])
    assert found.place is not None and found.place.kind == "s3"
    assert [data.kind for data in found.data] == ["postgresql", "files", "files"]
    assert found.objectives is not None
