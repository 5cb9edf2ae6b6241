"""The golden repositories come back byte for byte, with every kind of secret."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from tests.components import needs_root
from tests.golden import corners, lived, make
from tests.golden.rows import assert_came_back
from tests.rescue.conftest import GOLDEN
from tests.rescue.island import Island

HOLDS: dict[str, list[list[Any]]] = json.loads((GOLDEN / "v1-corners.json").read_text())
LIVED: dict[str, list[list[Any]]] = json.loads((GOLDEN / "v1-lived.json").read_text())["snapshots"]


@pytest.mark.parametrize("epoch", make.EPOCHS)
def test_it_brings_every_file_of_the_first_version_back(island: Island, tmp_path: Path, epoch: str) -> None:
    ran = island.run("restore", GOLDEN / "v1", epoch, tmp_path / "back", AIHUB_PASSPHRASE=make.PASSPHRASE)

    assert (ran.code, ran.said) == (0, "")
    top = bytes(next((tmp_path / "back" / "tmp").glob("*/golden")))
    found = {path: Path(os.fsdecode(os.path.join(top, path))).read_bytes() for path in make.contents(epoch)}
    assert found == make.contents(epoch)
    assert os.stat(top + b"/text").st_mtime_ns == make.MTIME
    assert os.path.samefile(top + b"/text", top + b"/second name")


@pytest.mark.root
@pytest.mark.parametrize("snapshot", HOLDS)
def test_it_brings_everything_rare_back(island: Island, tmp_path: Path, snapshot: str) -> None:
    needs_root()
    target = tmp_path / "back"

    ran = island.run("restore", GOLDEN / "v1-corners", snapshot, target, AIHUB_PASSPHRASE=corners.PASSPHRASE)

    absent = assert_came_back(target, HOLDS[snapshot])
    assert ran.code == (3 if absent else 0), ran.said


@pytest.mark.root
@pytest.mark.parametrize("snapshot", LIVED)
def test_what_consoles_have_lived_with_comes_back(island: Island, tmp_path: Path, snapshot: str) -> None:
    needs_root()
    target = tmp_path / "back"

    ran = island.run("restore", GOLDEN / "v1-lived", snapshot, target, AIHUB_RECOVERY_CODE=lived.RECOVERY_CODE)

    absent = assert_came_back(target, LIVED[snapshot])
    assert ran.code == (3 if absent else 0), ran.said


def test_it_lists_no_snapshot_that_was_forgotten(island: Island) -> None:
    ran = island.run("list", GOLDEN / "v1-lived", AIHUB_PASSPHRASE=lived.PASSPHRASE)

    assert (ran.code, {line.split()[0] for line in ran.out.splitlines()}) == (0, set(LIVED))


@pytest.mark.parametrize(
    "secret",
    [
        {"AIHUB_PASSPHRASE": unicodedata.normalize("NFC", corners.PASSPHRASE)},
        {"AIHUB_RECOVERY_CODE": corners.RECOVERY_CODE},
        {"AIHUB_RECOVERY_CODE": f" {corners.RECOVERY_CODE.lower().replace('0', 'o').replace('-', ' – ')}\n"},
    ],
)
def test_a_secret_may_be_typed_in_many_ways(island: Island, secret: dict[str, str]) -> None:
    ran = island.run("list", GOLDEN / "v1-corners", **secret)

    assert (ran.code, {line.split()[0] for line in ran.out.splitlines()}) == (0, set(HOLDS))


@pytest.mark.parametrize(
    "content", [corners.KEYFILE, f"{corners.PASSPHRASE}\r\n".encode(), f"{corners.RECOVERY_CODE}\n".encode()]
)
def test_a_file_may_hold_any_secret(island: Island, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)

    ran = island.run("list", "--secret-file", tmp_path / "secret", GOLDEN / "v1-corners")

    assert ran.code == 0, ran.said


def test_the_variable_of_the_keyfile_names_a_file(island: Island, tmp_path: Path) -> None:
    (tmp_path / "keyfile").write_bytes(corners.KEYFILE)

    ran = island.run("list", GOLDEN / "v1-corners", AIHUB_KEYFILE=str(tmp_path / "keyfile"))

    assert ran.code == 0, ran.said


def test_it_lists_what_is_inside(island: Island) -> None:
    ran = island.run("contents", GOLDEN / "v1-corners", "gz", AIHUB_PASSPHRASE=corners.PASSPHRASE)

    lines = {line.rpartition(" /")[2]: line for line in ran.out.splitlines()}
    assert ran.code == 0
    assert len(lines) == len(HOLDS["gzip"]) - 1  # all but the root
    assert lines["zz/dump"].startswith(r"-rw------- J\xf6rg 使用者 ")
    assert any(name.endswith(r"root/name\xff\x0a") for name in lines)
    assert any(r"root/symlink -> ../no\xffwhere" in name for name in lines)


def test_chosen_paths_come_back_alone(island: Island, tmp_path: Path) -> None:
    top = next(row[0] for row in HOLDS["late"] if row[0].endswith(b"/root".hex()))
    shown = bytes.fromhex(top).decode()

    ran = island.run(
        "restore", GOLDEN / "v1-corners", "late", tmp_path / "back", f"/{shown}/dir", rf"{shown}/name\xff\x0a", "none",
        AIHUB_PASSPHRASE=corners.PASSPHRASE,
    )  # fmt: skip

    assert (ran.code, ran.said) == (4, "rescue: The snapshot holds no none.\n")
    assert sorted(os.listdir(bytes(tmp_path / "back" / shown))) == [b"dir", b"name\xff\n"]
    assert (tmp_path / "back" / shown / "dir" / "link 2").stat().st_size == 600
