"""./aihub bench: our engine beside its peers, on the same data and in the same minutes.

Progress goes to standard error; tables, or with --json one JSON object a line, to standard output. Peers are looked
for in AIHUB_BENCH_RESTIC, AIHUB_BENCH_BORG, AIHUB_BENCH_TAR, AIHUB_BENCH_RCLONE, then in var/peers/bin and the PATH.
Fair rivals are restic >= 0.18 and Borg >= 1.4; Borg comes from requirements/bench.in:

    python3 -m venv var/peers && var/peers/bin/pip install -r requirements/bench.in
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import limits, report, rounds
from benchmarks.machine import facts, file_system
from benchmarks.peers import PROJECT, Peer, available
from benchmarks.rounds import Places, Row, Scenario

RESULTS = PROJECT / "benchmarks" / "results.md"
ROOM = 8e9  # bytes that one round at scale 1 takes on tmpfs: source, restore, and the tools' own memory


def main(argv: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was made is removed
    if options.read:
        print(report.report(_rows(options.read)), end="")
        return 0
    work = Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    if options.limits:
        return _limits(work, as_json=options.json)
    try:
        found = available(["ours", *filter(None, options.peers.split(","))])
    except LookupError as error:
        sys.stderr.write(f"{error.args[0]}\n")
        return 2
    for name, peer in found.items():
        sys.stderr.write(f"{name}: {peer.version if peer else 'not on this machine, left out'}\n")
    return _measure([peer for peer in found.values() if peer], options, work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aihub bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peers", default="restic,borg,tar", help="restic, borg, tar, rclone; missing ones are skipped"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="1.0 is 2.0 GB in 40,000 files; 0 leaves it out")
    parser.add_argument("--tiny", type=int, default=0, metavar="N", help="also N tiny files")
    parser.add_argument("--disk", action="store_true", help="restore to the disk too, not only to memory")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds after the one that watches memory")
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line: every measurement, then the summary"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="append every measurement to this file of JSON lines"
    )
    parser.add_argument("--read", type=Path, metavar="FILE", help="print the tables of such a file and measure nothing")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results.md")
    parser.add_argument("--limits", action="store_true", help="measure the primitives alone instead")
    parser.add_argument(
        "--work",
        default=os.environ.get("AIHUB_BENCH_WORK", str(PROJECT / "var" / "bench")),
        help="where repositories go: the disk under test",
    )
    parser.add_argument("--quick", default="/dev/shm", help="where sources and restores go: memory, when it has room")
    return parser


def _rows(path: Path) -> list[Row]:
    return [Row(**json.loads(line)) for line in path.read_text().splitlines()]


def _limits(work: Path, *, as_json: bool) -> int:
    found, cores = limits.measure(work), os.cpu_count() or 1
    if as_json:
        for limit in found:
            print(json.dumps(limit._asdict()))
        print(json.dumps({"ceiling_seconds": limits.ceiling(found, cores), "cores": cores}))
    else:
        print(limits.text(found, cores), end="")
    return 0


def _measure(peers: list[Peer], options: argparse.Namespace, work: Path) -> int:
    with _places(work, Path(options.quick), options.scale) as places:
        told = facts(repositories=places.work, sources=places.quick)
        rows = []
        for scenario in _scenarios(options):
            for row in rounds.measure(scenario, peers, places, options.rounds):
                rows.append(row)
                _note(row, as_json=options.json, output=options.output)
    text = report.preface(told, [f"{peer.name}: {peer.version}" for peer in peers], options.rounds) + report.report(
        rows
    )
    if options.write:
        RESULTS.write_text(f"{text}\n{limits.text(limits.measure(work), os.cpu_count() or 1)}")
    print(json.dumps({"machine": told, "summary": report.summary(rows)}) if options.json else text)
    return int(any(row.failure for row in rows if row.tool == "ours"))


def _scenarios(options: argparse.Namespace) -> Iterator[Scenario]:
    if options.scale:
        yield rounds.platform(options.scale, disk=options.disk)
    if options.tiny:
        yield rounds.tiny(options.tiny)


@contextmanager
def _places(work: Path, quick: Path, scale: float) -> Iterator[Places]:
    """Fresh folders, removed at the very end; the disk does for memory where there is not enough."""
    if file_system(quick) != "tmpfs" or shutil.disk_usage(quick).free < ROOM * scale:
        sys.stderr.write(f"{quick} is not memory with {ROOM * scale / 1e9:.0f} GB of room: sources are on the disk.\n")
        quick = work
    with tempfile.TemporaryDirectory(dir=work) as one, tempfile.TemporaryDirectory(dir=quick) as other:
        yield Places(Path(one), Path(other))


def _note(row: Row, *, as_json: bool, output: Path | None) -> None:
    memory = f" {row.memory / 2**20:.0f} MiB" if row.memory is not None else ""
    sys.stderr.write(f"round {row.round} {row.phase:16}{row.tool:10}{row.wall:8.2f} s{memory} {row.failure}\n")
    line = json.dumps(row.as_dict())
    if as_json:
        print(line, flush=True)
    if output:
        with output.open("a") as file:
            file.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
