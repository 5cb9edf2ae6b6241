"""/{backup}/contents, /diff, /log: looking into a recovery point."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

import pytest

from aihub_backup.core.audit import Actor
from backups.models import Backup, Source
from tests.api.stories import Caller, is_problem
from tests.recovery.stories import backed_up


@pytest.fixture
def odd(source: Source, data: Path) -> Path:
    """Names that are no text, and a link."""
    Path(os.fsdecode(bytes(data) + b"/caf\xe9")).write_text("x")
    (data / "back\\slash").write_text("x")
    (data / "link").symlink_to("00.txt")
    return data


def test_it_shows_a_directory(call: Caller, backup: Backup, data: Path) -> None:
    answer = call.get(f"/{backup.pk}/contents", {"path": str(data)})

    assert answer.status == 200
    found = {row["path"]: row for row in answer["results"]}
    assert f"{data}/deep" in found
    assert f"{data}/deep/er" not in found
    file = found[f"{data}/00.txt"]
    assert (file["kind"], file["size_bytes"], file["mode"]) == ("file", (data / "00.txt").stat().st_size, "0644")


def test_it_begins_at_the_root(call: Caller, backup: Backup, data: Path) -> None:
    answer = call.get(f"/{backup.pk}/contents")

    assert [row["path"] for row in answer["results"]] == [f"/{data.parts[1]}"]


def test_it_turns_pages(call: Caller, backup: Backup, data: Path) -> None:
    seen, page = [], call.get(f"/{backup.pk}/contents", {"path": str(data), "depth": 0, "page_size": 10})
    while True:
        seen += [row["path"] for row in page["results"]]
        if page["next"] is None:
            break
        page = call.get(page["next"])

    assert len(seen) == len(set(seen)) == 23
    assert f"{data}/deep/er/blob" in seen


def test_it_finds_by_name_at_every_depth(call: Caller, backup: Backup, data: Path) -> None:
    assert [row["path"] for row in call.get(f"/{backup.pk}/contents", {"q": "blo"})["results"]] == [
        f"{data}/deep/er/blob"
    ]
    assert len(call.get(f"/{backup.pk}/contents", {"q": "1?.txt"})["results"]) == 10


def test_it_shows_names_that_are_no_text(call: Caller, odd: Path, source: Source, by: Actor) -> None:
    backup = backed_up(by, source)

    found = {row["path"]: row for row in call.get(f"/{backup.pk}/contents", {"path": str(odd)})["results"]}

    assert f"{odd}/caf\\xe9" in found
    assert f"{odd}/back\\x5cslash" in found
    assert (found[f"{odd}/link"]["kind"], found[f"{odd}/link"]["target"]) == ("symlink", "00.txt")


def test_it_asks_which_part_is_meant(call: Caller, both: Backup) -> None:
    answer = call.get(f"/{both.pk}/contents")

    assert is_problem(answer, 400, "validation-error")
    assert answer.pointers == ["/part"]
    assert "..more/things, docs" in answer["detail"]
    assert call.get(f"/{both.pk}/contents", {"part": "docs"}).status == 200
    assert call.get(f"/{both.pk}/contents", {"part": "nobody"}).pointers == ["/part"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"cursor": "x"}, "/cursor"),
        ({"cursor": "NQ"}, "/cursor"),
        ({"path": "/a\\xzz"}, "/path"),
        ({"depth": "-1"}, "/depth"),
    ],
)
def test_it_names_what_is_wrong(call: Caller, backup: Backup, query: dict[str, str], pointer: str) -> None:
    answer = call.get(f"/{backup.pk}/contents", query)

    assert is_problem(answer, 400, "validation-error")
    assert answer.pointers == [pointer]


def test_it_explains_a_pattern_that_is_none(call: Caller, backup: Backup) -> None:
    answer = call.get(f"/{backup.pk}/contents", {"q": "[a"})

    assert is_problem(answer, 400, "invalid-pattern")


def test_it_looks_only_into_what_was_stored(call: Caller, source: Source) -> None:
    made = call.post("/create", {"type": "full"})

    assert is_problem(call.get(f"/{made['id']}/contents"), 422, "not-restorable")
    assert is_problem(call.get(f"/{uuid4()}/contents"), 404, "not-found")


def test_it_tells_what_changed(call: Caller, backup: Backup, source: Source, data: Path, by: Actor) -> None:
    (data / "00.txt").write_text("changed")
    (data / "01.txt").unlink()
    (data / "new.txt").write_text("new")
    second = backed_up(by, source, kind="incremental")

    answer = call.get(f"/{second.pk}/diff", {"against": str(backup.pk)})

    found = {row["path"]: row["kind"] for row in answer["results"] if row["path"].endswith(".txt")}
    assert found == {f"{data}/00.txt": "changed", f"{data}/01.txt": "removed", f"{data}/new.txt": "added"}
    assert answer["truncated"] is False
    assert call.get(f"/{second.pk}/diff", {"against": str(backup.pk), "limit": 1})["truncated"] is True


def test_it_compares_only_what_belongs_together(call: Caller, backup: Backup, more: Source, by: Actor) -> None:
    other = backed_up(by, more)

    answer = call.get(f"/{other.pk}/diff", {"against": str(backup.pk)})

    assert answer.pointers == ["/against"]
    assert call.get(f"/{backup.pk}/diff").pointers == ["/against"]
    assert call.get(f"/{backup.pk}/diff", {"against": str(uuid4())}).pointers == ["/against"]


def test_it_tells_the_story_of_a_backup(call: Caller, backup: Backup) -> None:
    answer = call.get(f"/{backup.pk}/log")

    assert [row["action"] for row in answer["results"]] == ["backup.part.completed", "backup.request"]
    assert answer["results"][1]["by"] == {"type": "user", "name": "olivia"}


# --- in all points of a repository ----------------------------------------------------------------------------------


def test_it_finds_a_path_in_all_points(call: Caller, backup: Backup, source: Source, data: Path, by: Actor) -> None:
    (data / "00.txt").write_text("other")
    later = backed_up(by, source)

    answer = call.get("/repositories/main/find", {"path": f"{data}/00.txt", "source": "docs"})

    assert (answer.status, answer["points"], answer["truncated"]) == (200, 2, False)
    (found,) = answer["results"]
    assert found["path"] == f"{data}/00.txt"
    assert [version["backups"] for version in found["versions"]] == [[str(backup.pk)], [str(later.pk)]]
    assert len({version["content"] for version in found["versions"]}) == 2


def test_it_finds_by_pattern_and_tells_that_there_is_more(call: Caller, backup: Backup) -> None:
    answer = call.get("/repositories/main/find", {"path": "*.txt", "limit": 3})

    assert ([row["path"][-6:] for row in answer["results"]], answer["truncated"]) == (
        ["00.txt", "01.txt", "02.txt"],
        True,
    )
    assert call.get("/repositories/main/find", {"path": "nowhere"})["results"] == []
    assert is_problem(call.get("/repositories/main/find", {"path": "/a\\xzz"}), 400, "validation-error")
    assert is_problem(call.get("/repositories/other/find", {"path": "a"}), 404, "not-found")
