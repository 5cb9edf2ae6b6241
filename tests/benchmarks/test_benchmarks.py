"""The benchmark measures what it says: on a corpus of a few files and with cp as the rival."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from backups.engine.chunker import DETECT_LENGTH, detect_block
from benchmarks import corpus, report
from benchmarks.__main__ import main
from benchmarks.machine import facts
from benchmarks.measure import Command, run
from benchmarks.peers import Peer, Stage, available
from benchmarks.rounds import CHECK, INITIAL, MUTATED, RESTORE, UNCHANGED, Places, Row, measure, platform, tiny

SCALE = 0.002


# -------------------------------------------------------------------- corpus


def _contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_same_seed_makes_and_changes_the_same_bytes(tmp_path: Path) -> None:
    trees = []
    for name in ("a", "b"):
        corpus.generate(tmp_path / name, SCALE)
        before = _contents(tmp_path / name)
        corpus.mutate(tmp_path / name)
        trees.append((before, _contents(tmp_path / name)))

    assert trees[0] == trees[1]
    assert trees[0][0] != trees[0][1]


def test_the_mutation_is_a_days_work(tmp_path: Path) -> None:
    corpus.generate(tmp_path / "tree", SCALE)
    before = _contents(tmp_path / "tree")

    corpus.mutate(tmp_path / "tree")

    after = _contents(tmp_path / "tree")
    heap, model, log = "db/heap.dat", "models/model-0.safetensors", "logs/app-0.log"
    starts = range(0, len(before[heap]), corpus.PAGE)
    rewritten = [at for at in starts if before[heap][at : at + 99] != after[heap][at : at + 99]]
    assert len(rewritten) == max(1, len(before[heap]) // corpus.PAGE // 100)
    assert len(after[model]) == len(before[model]) + 100
    assert after[log].startswith(before[log])
    assert 1.04 < len(after[log]) / len(before[log]) < 1.06


def test_tiny_files_are_as_many_as_asked_for(tmp_path: Path) -> None:
    corpus.generate_tiny(tmp_path / "tiny", 60)

    assert corpus.size_of(tmp_path / "tiny").files == 60
    assert all(200 <= len(data) < 600 for data in _contents(tmp_path / "tiny").values())


# -------------------------------------------------------------------- costs


def _python(code: str, tmp_path: Path) -> Command:
    return Command([sys.executable, "-c", code], tmp_path)


def test_it_counts_the_work_of_children_too(tmp_path: Path) -> None:
    burn = "import time; begun = time.process_time()\\nwhile time.process_time() - begun < 0.3: pass"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', '''{burn}'''])"

    cost = run(_python(code.replace("\\n", "\n"), tmp_path))

    assert cost.cpu >= 0.3
    assert (cost.failure, cost.memory) == ("", None)


def test_it_sees_the_memory_of_the_whole_tree_and_not_the_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(64 << 20))
    code = (
        "import mmap, os, time; data = bytearray(b'x') * (40 << 20); file = open('file', 'rb');"
        "view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); sum(view[::4096]);"
        "child = os.fork(); more = bytearray(b'x') * (20 << 20); time.sleep(0.3); child and os.wait()"
    )

    cost = run(_python(code, tmp_path), watch=True)

    assert cost.memory is not None
    assert 80 << 20 < cost.memory < 110 << 20


def test_it_keeps_the_last_words_of_what_fails(tmp_path: Path) -> None:
    cost = run(_python("import sys; sys.exit('no such repository')", tmp_path))

    assert cost.failure == "no such repository"


# -------------------------------------------------------------------- rounds


def copier(name: str) -> Peer:
    """cp in the place of a backup tool."""

    def shell(script: str) -> Callable[[Stage], Command]:
        return lambda stage: Command(["sh", "-ec", _told(script, stage)], stage.home)

    return Peer(
        name,
        "1",
        False,
        init=shell("mkdir {repository}"),
        backup=shell("cp -a {source} {repository}/{number}"),
        restore=shell("cp -a {repository}/{number}/. {target}"),
        check=shell("ls {repository}/{number}"),
    )


def _told(script: str, stage: Stage) -> str:
    return script.format(**stage._asdict())


def test_every_tool_does_every_phase_in_rotated_order(tmp_path: Path) -> None:
    peers = [copier("ours"), copier("restic")]

    rows = list(measure(platform(SCALE), peers, Places(tmp_path, tmp_path), rounds=1))

    phases = (INITIAL, UNCHANGED, MUTATED, RESTORE, CHECK)
    assert [row.failure for row in rows if row.failure] == []
    assert [(row.round, row.phase, row.tool) for row in rows] == [
        (number, phase, tool)
        for number, tools in enumerate((("ours", "restic"), ("restic", "ours")))
        for phase in phases
        for tool in tools
    ]
    assert all((row.memory is not None) == (row.round == 0) for row in rows)
    assert rows[2].repository == pytest.approx(2 * rows[0].repository)


def test_a_restore_that_lies_is_a_failure(tmp_path: Path) -> None:
    liar = replace(copier("ours"), restore=copier("ours").check)

    rows = list(measure(tiny(30), [liar], Places(tmp_path, tmp_path), rounds=0))

    assert "it is missing, not there" in rows[-1].failure


def test_unknown_peers_are_named() -> None:
    with pytest.raises(LookupError, match="There is no peer 'floppy'; choose among ours, restic, borg"):
        available(["ours", "floppy"])


# -------------------------------------------------------------------- figures


def row(tool: str, phase: str, number: int, wall: float, stored: float = 100e6, failure: str = "") -> Row:
    memory = None if number else 100 << 20
    return Row("platform", tool, phase, number, wall, wall, 0.0, memory, 10, 2_000_000_000, int(stored), failure)


def test_ratios_are_paired_by_round_and_then_the_median_is_taken() -> None:
    # The machine was ten times slower in the third round, for both tools.
    rows = [row("ours", INITIAL, number, wall) for number, wall in enumerate((9, 1, 2, 10))]
    rows += [row("restic", INITIAL, number, wall) for number, wall in enumerate((9, 3, 4, 30))]

    ours, restic = report.figures(rows, INITIAL)

    assert (ours.tool, ours.wall, ours.rate, ours.slower, ours.memory) == ("ours", 2, 1000, None, 100)
    assert (restic.wall, restic.slower, restic.rounds) == (4, 3, 3)


def test_goals_are_measured_against_the_faster_rival_of_each_round() -> None:
    walls = {"ours": (0, 1, 1, 1), "restic": (0, 3, 9, 2.8), "borg": (0, 9, 2.8, 9), "tar+zstd": (0, 1, 1, 1)}
    rows = [row(tool, INITIAL, number, wall) for tool in walls for number, wall in enumerate(walls[tool])]

    speed, memory = report.verdicts(rows)

    assert (speed.value, speed.word) == (2.8, "floor")
    assert (memory.value, memory.word) == (100, "goal")


def test_size_and_growth_are_measured_against_the_smallest_rival() -> None:
    sizes = {"ours": (50e6, 58e6), "restic": (100e6, 110e6), "borg": (80e6, 99e6)}
    rows = [row(tool, UNCHANGED, 1, 1, before) for tool, (before, _) in sizes.items()]
    rows += [row(tool, MUTATED, 1, 1, after) for tool, (_, after) in sizes.items()]

    told = {verdict.what.partition(" against")[0]: verdict for verdict in report.verdicts(rows)}

    assert told["stored size"].value == pytest.approx(58 / 99)
    assert told["growth after the mutation"].value == pytest.approx(0.8)
    assert told["growth after the mutation"].word == "missed"


def test_failures_are_reported_and_not_counted() -> None:
    rows = [row("ours", CHECK, 1, 1), row("restic", CHECK, 1, 0.1, failure="exploded")]

    text = report.report(rows)

    assert "restic, check, round 1: exploded" in text
    assert [figure.tool for figure in report.figures(rows, CHECK)] == ["ours"]


def test_rows_survive_their_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row("ours", INITIAL, 1, 2), row("restic", INITIAL, 1, 6)]
    (tmp_path / "rows").write_text("".join(f"{json.dumps(one.as_dict())}\n" for one in rows))

    assert main(["--read", str(tmp_path / "rows")]) == 0

    assert capsys.readouterr().out == report.report(rows)


def test_the_machine_is_described() -> None:
    told = facts(proc=Path("/proc"))

    assert told["proc"] == "proc"
    assert told["Python"] == ".".join(map(str, sys.version_info[:3]))


def test_the_heap_is_taken_for_one(tmp_path: Path) -> None:
    corpus.generate(tmp_path / "tree", SCALE)

    head = (tmp_path / "tree" / "db" / "heap.dat").read_bytes()[:DETECT_LENGTH]

    assert detect_block(head) == 65536
