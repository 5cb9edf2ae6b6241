"""Whatever is damaged is named, costs no more than it must, and never stands under the name of a file."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.golden import make
from tests.rescue.conftest import GOLDEN
from tests.rescue.island import PROGRAM, Island, Ran

KEY = {"AIHUB_PASSPHRASE": make.PASSPHRASE}
EPOCH = "second"
CONTENTS = make.contents(EPOCH)
V1 = GOLDEN / "v1"


def objects(kind: str) -> list[str]:
    """Names of the objects of the golden repository below this directory."""
    return sorted(str(path.relative_to(V1)) for path in (V1 / kind).rglob("*") if path.is_file())


def keys(aihub: str, kind: str | None = None) -> list[str]:
    """Names of the key objects that are slots or rings."""
    found = {name: json.loads((V1 / name).read_text()) for name in objects("keys")}
    return [name for name, said in found.items() if said["aihub"] == aihub and kind in (None, said.get("kind"))]


def flip(path: Path, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 0x40
    path.write_bytes(data)


def restored(island: Island, repository: Path, target: Path) -> tuple[Ran, dict[bytes, bytes]]:
    """How the rescue ended, and the files that came back."""
    ran = island.run("restore", repository, EPOCH, target, **KEY)
    found = {}
    for top in (target / "tmp").glob("*/golden") if target.exists() else ():
        for folder, _, names in os.walk(bytes(top)):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    found[os.path.relpath(path, bytes(top))] = Path(os.fsdecode(path)).read_bytes()
    return ran, found


def true_of(found: dict[bytes, bytes]) -> bool:
    """Each file that came back is the one that was backed up."""
    text, sparse = CONTENTS[b"text"], bytes(1 << 20) + b"an island" + bytes((2 << 20) - 9)
    expected = CONTENTS | {b"second name": text, b"sparse": sparse}
    return all(expected[path] == data for path, data in found.items())


WHOLE = len(CONTENTS) + 2
# Nobody names the newest record yet, nor the index of a backup that was forgotten: docs/format.md, 9.
UNNAMED = (objects("log")[-1], "index/dbaabe2e4808d76374e8a44f1f3ab0b44d3fcee15aca681bebc04f8db5e76ee6")


@pytest.mark.parametrize("name", ["config", *objects("index"), *objects("log"), *keys("key-ring")])
@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
def test_what_is_there_twice_costs_no_file(island: Island, v1: Path, tmp_path: Path, name: str, harm: str) -> None:
    path = v1 / name
    if harm == "flipped":
        flip(path)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.unlink()

    ran, found = restored(island, v1, tmp_path / "back")

    named = harm != "gone" or name not in UNNAMED
    assert ran.code == (5 if named else 0), ran.said
    assert (name in ran.said) == named
    assert len(found) == WHOLE
    assert true_of(found)


@pytest.mark.parametrize("name", objects("packs"))
@pytest.mark.parametrize("harm", [0.002, 0.5, 0.998, "cut", "gone"])
def test_a_damaged_pack_costs_only_what_is_in_it(
    island: Island, v1: Path, tmp_path: Path, name: str, harm: float | str
) -> None:
    path, (sound, _) = v1 / name, restored(island, v1, tmp_path / "sound")
    assert sound.code == 0
    if isinstance(harm, float):
        flip(path, harm)
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.unlink()

    ran, found = restored(island, v1, tmp_path / "back")

    needed = ran.code == 5  # a pack of another snapshot alone is not read
    assert ran.code in (0, 5)
    assert (name in ran.said) == needed
    assert true_of(found)
    lost = {line for line in ran.said.splitlines() if "not restored" in line or "part of the list" in line}
    assert lost or len(found) == WHOLE, ran.said  # a part of the list may hold directories alone
    assert not [name for _, _, names in os.walk(tmp_path / "back") for name in names if name.startswith(".rescue-")]


def test_at_least_one_pack_mattered(island: Island, v1: Path, tmp_path: Path) -> None:
    """Else the stories about packs would prove nothing."""
    for name in objects("packs"):
        flip(v1 / name)

    ran, found = restored(island, v1, tmp_path / "back")

    assert (ran.code, found) == (5, {})
    assert "The part of the list with 315 entries from / on" in ran.said


def test_it_needs_no_index_at_all(island: Island, v1: Path, tmp_path: Path) -> None:
    shutil.rmtree(v1 / "index")

    ran, found = restored(island, v1, tmp_path / "back")

    assert ran.code == 5
    assert all(
        f"{name} is missing; nothing is lost by that" in ran.said for name in objects("index") if name not in UNNAMED
    )
    assert len(found) == WHOLE
    assert true_of(found)


def test_a_lost_record_is_named_by_its_child(island: Island, v1: Path) -> None:
    name = objects("log")[1]
    (v1 / name).unlink()

    ran = island.run("list", v1, **KEY)

    assert ran.code == 5
    assert f"rescue: {name} is missing" in ran.said
    assert [line.split()[0] for line in ran.out.splitlines()] == list(make.EPOCHS)  # the checkpoint repeats it


def test_a_damaged_slot_of_another_secret_is_only_named(island: Island, v1: Path) -> None:
    name = keys("key-slot", "recovery")[0]
    flip(v1 / name)

    ran = island.run("list", v1, **KEY)

    assert ran.code == 5
    assert f"{name} does not have the bytes that its name says" in ran.said
    assert len(ran.out.splitlines()) == 2


def test_no_ring_no_rescue(island: Island, v1: Path) -> None:
    for name in keys("key-ring"):
        flip(v1 / name)

    ran = island.run("list", v1, **KEY)

    assert ran.code == 5
    assert "The secret is right, but no key ring can be read" in ran.said


def test_a_wrong_secret_is_not_taken_for_damage(island: Island) -> None:
    ran = island.run("list", V1, AIHUB_PASSPHRASE="golden for never")

    assert (ran.code, ran.out) == (7, "")
    assert "The secret is wrong: it opens none of the key slots, which are: 'keyfile: console'" in ran.said
    assert "never" not in ran.said


def test_a_mistyped_recovery_code_is_told_before_anything_is_read(island: Island) -> None:
    ran = island.run("list", V1, AIHUB_RECOVERY_CODE=make.RECOVERY_CODE.replace("G", "H"))

    assert ran.code == 7
    assert "compare its 56 letters with the printed kit" in ran.said


def test_a_secret_whose_slot_is_damaged_may_be_right(island: Island, v1: Path) -> None:
    flip(v1 / keys("key-slot", "passphrase")[0])

    ran = island.run("list", v1, **KEY)

    assert ran.code == 7
    assert "A damaged key object may be the one it belongs to." in ran.said


def test_a_slot_that_is_gone_is_suspected(island: Island, v1: Path) -> None:
    (v1 / keys("key-slot", "passphrase")[0]).unlink()

    ran = island.run("list", v1, **KEY)

    assert ran.code == 7
    assert "None of them is for a passphrase at all: if there was one, it is missing here." in ran.said


@pytest.mark.parametrize("word", ["none", ""])
def test_a_snapshot_that_cannot_be_meant_is_told(island: Island, word: str) -> None:
    ran = island.run("contents", V1, word, **KEY)

    assert ran.code == 4
    assert f"snapshots have an id that begins with “{word}”" in ran.said


def test_a_place_without_a_repository_is_told(island: Island, tmp_path: Path) -> None:
    ran = island.run("list", tmp_path, **KEY)

    assert ran.code == 1
    assert "is this the place of a repository?" in ran.said


def test_it_writes_into_no_directory_that_holds_something(island: Island, tmp_path: Path) -> None:
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "mine").write_text("mine")

    ran = island.run("restore", V1, EPOCH, tmp_path / "back", **KEY)

    assert ran.code == 2
    assert "is not empty" in ran.said
    assert os.listdir(tmp_path / "back") == ["mine"]


def test_the_repository_is_never_written(island: Island, v1: Path, tmp_path: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in v1.rglob("*")}

    island.run("restore", v1, EPOCH, tmp_path / "back", **KEY)

    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in v1.rglob("*")} == before


def test_the_command_line_starts_the_same_file() -> None:
    words = [sys.executable, "-m", "aihub_backup.cli", "rescue", "list", str(V1)]

    ran = subprocess.run(words, env={**os.environ, **KEY}, capture_output=True, text=True, timeout=60, check=True)

    assert [line.split()[0] for line in ran.stdout.splitlines()] == list(make.EPOCHS)


def test_the_help_tells_a_whole_rescue(island: Island) -> None:
    ran = island.run("--help")

    assert ran.code == 0
    assert "python rescue.py restore  /mnt/disk/backups latest /tmp/back" in ran.out


@pytest.mark.parametrize(
    "words", [("list",), ("contents", "PLACE"), ("restore", "PLACE", "latest"), ("list", "PLACE", "x")]
)
def test_words_that_do_not_go_together_are_told(island: Island, words: tuple[str, ...]) -> None:
    ran = island.run(*words, **KEY)

    assert ran.code == 2
    assert "rescue.py restore PLACE SNAPSHOT TARGET [PATH …]" in ran.said


@pytest.mark.parametrize("content", [b"[]", b'{"format": 1}', b"\xff", b'{"format": [], "aihub": "key-slot"}', b"null"])
def test_a_key_object_that_anybody_planted_is_only_named(island: Island, v1: Path, content: bytes) -> None:
    name = f"keys/{hashlib.sha256(content).hexdigest()}"
    (v1 / name).write_bytes(content)

    ran = island.run("list", v1, **KEY)

    assert ran.code == 5
    assert f"{name} is not written as the format says" in ran.said
    assert len(ran.out.splitlines()) == 2


def test_a_planted_ring_does_not_take_the_place_of_the_true_one(island: Island, v1: Path) -> None:
    ring = json.loads((v1 / keys("key-ring")[0]).read_text()) | {"generation": 10**9}
    content = json.dumps(ring, sort_keys=True, separators=(",", ":")).encode()
    name = f"keys/{hashlib.sha256(content).hexdigest()}"
    (v1 / name).write_bytes(content)

    ran = island.run("list", v1, **KEY)

    assert ran.code == 5
    assert f"{name} is not what its key sealed" in ran.said
    assert len(ran.out.splitlines()) == 2


def test_it_starts_on_an_old_python() -> None:
    """Its text at least is one that Python 3.9 reads; annotations stay unread."""
    ast.parse(PROGRAM.read_text(), feature_version=(3, 9))
