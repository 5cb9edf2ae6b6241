"""New keys were drawn: compactions bring everything under them, in as many runs as their budget asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from backups.engine import CompactOptions, compact, preview, rekey
from backups.engine import format as fmt
from backups.engine.codec import Compressor
from backups.engine.envelope import EnvelopeWriter, Section
from backups.engine.format import SectionKind
from backups.engine.index import seal_index
from backups.engine.pack import read_pack
from backups.engine.reindex import outdated_index
from tests.engine.scenery import archived, opened, plant, scanned
from tests.engine.test_compaction import (
    ALL,
    Story,
    files,
    needed_pack,
    nobody_else,
    small_packs,
    spoil,
    stored_frames,
    story,
)
from tests.faults import Crash, Fault, FaultyStore, Harm

__all__ = ["small_packs", "story"]
EPOCH = 7  # offset of the second byte of an object's key epoch


def rotated(story: Story) -> int:
    return rekey.rotate(opened(story.store))


def epochs(story: Story, prefix: str) -> list[int]:
    """The key epoch of every object."""
    return [data[EPOCH] for name, data in sorted(story.store.objects.items()) if name.startswith(prefix)]


def under_old_keys(story: Story) -> tuple[int, int]:
    """How many packs and index objects are."""
    repository = opened(story.store)
    return len(repository.outdated_packs()), len(outdated_index(repository))


def grown(story: Story) -> None:
    """Two snapshots all of which is needed, and new keys."""
    story.backup("one", files(*(f"one{n}" for n in range(8))))
    story.backup("two", files("one3", *(f"two{n}" for n in range(4))))
    rotated(story)


def test_what_lies_under_old_keys_comes_under_the_new_one(story: Story) -> None:
    grown(story)
    before = under_old_keys(story)

    done = story.compact()

    assert min(before) > 1
    assert under_old_keys(story) == (0, 0)
    assert {*epochs(story, "packs/"), *epochs(story, "index/")} == {2}
    assert done.plan.outdated == done.plan.renewed > 36_000
    assert story.compact().plan.idle
    story.all_there()


def test_nothing_is_compressed_anew_for_it(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    story.backup("one", {f"f{n}": b"compresses well " * 400 + bytes([n]) for n in range(8)})
    rotated(story)
    before, recoded = stored_frames(story), list[bytes]()
    ordinary = EnvelopeWriter.add

    def add(writer: EnvelopeWriter, kind: SectionKind, raw: bytes, compressor: Compressor) -> Section:
        recoded.append(raw)
        return ordinary(writer, kind, raw, compressor)

    monkeypatch.setattr(EnvelopeWriter, "add", add)

    story.compact()

    assert stored_frames(story) == before
    assert not any(b"compresses well" in raw for raw in recoded)
    assert under_old_keys(story) == (0, 0)
    story.all_there()


def test_a_preview_tells_how_much_it_is_and_writes_nothing(story: Story) -> None:
    grown(story)
    before = dict(story.store.objects)

    whole = preview(opened(story.store), ALL)
    tight = preview(opened(story.store), CompactOptions(unused=0.0, budget=15_000))

    assert story.store.objects == before
    assert whole.outdated == whole.renewed == story.size()
    assert tight.outdated == whole.outdated
    assert 0 < tight.renewed < whole.outdated
    assert (whole.pack()["stale"], tight.pack()["stale"]) == (2, 0)


def test_the_budget_bounds_each_run_and_the_oldest_keys_come_first(story: Story) -> None:
    grown(story)
    story.backup("three", files(*(f"three{n}" for n in range(4))))
    rotated(story)
    left = [sorted(epochs(story, "packs/"))]

    for _ in range(9):
        done = story.compact(CompactOptions(unused=0.0, grace=0.0, budget=15_000))
        assert done.carried < 20_000
        left.append(sorted(epochs(story, "packs/")))

    firsts = [found.count(1) for found in left]
    seconds = [found.count(2) for found in left]
    assert firsts == sorted(firsts, reverse=True)
    assert (
        seconds[firsts.index(0) - 2] == seconds[0]
    )  # until the first keys' last packs went nobody touched the second's
    assert under_old_keys(story) == (0, 0)
    story.all_there()


def test_what_nobody_needs_goes_first_and_is_not_stored_anew(story: Story) -> None:
    story.backup("gone", files(*(f"gone{n}" for n in range(6))))
    story.backup("kept", files("kept"))
    story.forget("gone")
    rotated(story)

    done = story.compact(CompactOptions(unused=0.9, grace=0.0))  # so much may stay unused that space alone asks nothing

    assert done.carried < 8000
    assert under_old_keys(story) == (0, 0)
    story.all_there()


def test_an_index_object_that_alone_is_under_old_keys_is_written_anew(story: Story) -> None:
    """By a run whose other processes had heard of the new keys already."""
    story.backup("one", files("a", "b"))
    before = opened(story.store)
    rotated(story)
    story.compact()
    repository = opened(story.store)
    packs = [read_pack(repository.sealer, info.name, story.store.get(info.name))[0] for info in
             story.store.list("packs/")]  # fmt: skip
    data = seal_index(before.sealer, packs)
    for info in list(story.store.list("index/")):
        story.store.delete(info.name)
    story.store.put(fmt.index_name(fmt.sha256(data)), data)
    assert under_old_keys(story) == (0, 1)

    done = story.compact()

    assert (under_old_keys(story), done.carried) == ((0, 0), 0)
    story.all_there()


def test_a_damaged_pack_stays_under_old_keys_and_all_others_do_not(story: Story) -> None:
    grown(story)
    story.backup("new", files("new"))
    rotated(story)
    spoil(story, name := needed_pack(story))

    items = list[object]()
    story.compact(report=items.append)

    assert len(items) == 1
    assert name in story.store.objects
    assert under_old_keys(story) == (1, 0)


def test_a_writer_that_began_before_the_new_keys_costs_one_run_more(story: Story, tmp_path: Path) -> None:
    """What it wrote under the old one is brought along the next time."""
    grown(story)
    late = opened(story.store)
    late.sync_index()
    rotated(story)

    def wait(_marks: Sequence[str]) -> bool:
        archived(late, scanned(plant(tmp_path / "late", late_files)), "late")
        return True

    late_files = files("one1", "late")
    story.compact(wait=wait)
    story.held["late"] = late_files
    story._folder = tmp_path

    assert under_old_keys(story)[0] > 0
    story.compact()
    assert under_old_keys(story) == (0, 0)
    story.all_there()


@pytest.mark.parametrize("harm", [Harm.CRASH, Harm.CRASH_AFTER])
def test_cut_off_at_any_step_nothing_is_lost_and_the_next_runs_finish(tmp_path: Path, harm: Harm) -> None:
    first = Story(tmp_path)
    first.backup("one", files("a", "b", "c"))
    rotated(first)
    for at in range(1, 200):
        again = Story(tmp_path)
        again.store.objects, again.held = dict(first.store.objects), first.held
        try:
            compact(opened(FaultyStore(again.store, [Fault(harm, at=at)])), ALL, wait=nobody_else)
        except Crash:
            again.all_there()
            again.compact(), again.compact()
            assert under_old_keys(again) == (0, 0), at
            again.all_there()
        else:
            break
    assert at > 30
