"""Rows to figures: medians, ratios paired by round, goals, and Markdown tables that read well in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple

from benchmarks.rounds import CHECK, DISK, INITIAL, MUTATED, RESTORE, UNCHANGED, Row

OURS = "ours"
RIVALS = ("restic", "borg")  # they do the same work: deduplicate, compress, encrypt, keep a history
MEMORY_GOAL = 256  # MiB

# How many times faster than the faster rival: (goal, floor).
SPEED_GOALS: Mapping[str, tuple[float, float]] = {
    INITIAL: (3.0, 2.7),
    UNCHANGED: (4.0, 3.0),
    MUTATED: (3.5, 3.0),
    RESTORE: (2.5, 2.0),
    DISK: (1.6, 1.3),
    CHECK: (2.0, 1.8),
}
TINY_GOALS: Mapping[str, tuple[float, float]] = {INITIAL: (2.9, 2.2)}


class Figure(NamedTuple):
    """One tool in one phase: medians over the timed rounds. Ratios are its cost over ours (> 1: we are better)."""

    tool: str
    rounds: int
    wall: float  # seconds
    cpu: float  # seconds
    rate: float  # MB of source a second
    memory: float | None  # MiB, from the watched round
    repository: float  # MB after the phase
    slower: float | None
    hungrier: float | None


class Verdict(NamedTuple):
    """A figure beside its goal; better says in which direction it should go."""

    what: str
    value: float
    goal: float
    floor: float
    better: str  # "more" | "less"

    @property
    def word(self) -> str:
        if self._meets(self.goal):
            return "goal"
        return "floor" if self._meets(self.floor) else "missed"

    def _meets(self, bound: float) -> bool:
        return self.value >= bound if self.better == "more" else self.value <= bound


def figures(rows: Sequence[Row], phase: str) -> list[Figure]:
    """One figure a tool, ours first, for the rows of one scenario."""
    done = [row for row in rows if row.phase == phase and not row.failure]
    tools = sorted({row.tool for row in done}, key=lambda tool: (tool != OURS, tool))
    return [_figure(tool, done) for tool in tools if any(row.round for row in done if row.tool == tool)]


def _figure(tool: str, done: Sequence[Row]) -> Figure:
    timed = [row for row in done if row.tool == tool and row.round]
    peaks = [row.memory / 2**20 for row in done if row.tool == tool and row.memory is not None]
    wall = median(row.wall for row in timed)
    return Figure(
        tool,
        len(timed),
        wall,
        median(row.cpu for row in timed),
        timed[0].bytes / 1e6 / wall,
        max(peaks, default=None),
        median(row.repository for row in timed) / 1e6,
        _paired(done, tool, lambda row: row.wall),
        _paired(done, tool, lambda row: row.cpu),
    )


def _paired(done: Sequence[Row], tool: str, cost: Callable[[Row], float]) -> float | None:
    """The median over rounds of the tool's cost divided by ours in the same round."""
    ours = {row.round: cost(row) for row in done if row.tool == OURS and row.round}
    ratios = [cost(row) / ours[row.round] for row in done if row.tool == tool and ours.get(row.round)]
    return median(ratios) if ratios and tool != OURS else None


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """Every goal that the rows of one scenario can tell about."""
    goals = TINY_GOALS if "tiny" in rows[0].scenario else SPEED_GOALS
    told = [_speed(rows, phase, *goals[phase]) for phase in goals]
    told += [_size(rows), _growth(rows), _memory(rows)]
    return [verdict for verdict in told if verdict]


def _speed(rows: Sequence[Row], phase: str, goal: float, floor: float) -> Verdict | None:
    done = [row for row in rows if row.phase == phase and row.round and not row.failure]
    ours = {row.round: row.wall for row in done if row.tool == OURS}
    best = {number: _least(row.wall for row in done if row.tool in RIVALS and row.round == number) for number in ours}
    ratios = [wall / ours[number] for number, wall in best.items() if wall]
    return (
        Verdict(f"{phase}: times as fast as the faster rival", median(ratios), goal, floor, "more") if ratios else None
    )


def _size(rows: Sequence[Row]) -> Verdict | None:
    return _against_smallest("stored size against the smallest rival", _stored(rows, MUTATED), 1.0)


def _growth(rows: Sequence[Row]) -> Verdict | None:
    before, after = _stored(rows, UNCHANGED), _stored(rows, MUTATED)
    grown = {tool: after[tool] - before[tool] for tool in after if tool in before}
    return _against_smallest("growth after the mutation against the smallest rival", grown, 0.5)


def _against_smallest(what: str, sizes: Mapping[str, float], goal: float) -> Verdict | None:
    smallest = _least(size for tool, size in sizes.items() if tool in RIVALS)
    if not smallest or OURS not in sizes:
        return None
    return Verdict(what, sizes[OURS] / smallest, goal, goal, "less")


def _stored(rows: Sequence[Row], phase: str) -> dict[str, float]:
    return {figure.tool: figure.repository for figure in figures(rows, phase)}


def _memory(rows: Sequence[Row]) -> Verdict | None:
    peaks = [row.memory / 2**20 for row in rows if row.tool == OURS and row.memory is not None]
    return Verdict("our peak memory, MiB", max(peaks), MEMORY_GOAL, MEMORY_GOAL, "less") if peaks else None


def _least(values: Iterable[float]) -> float | None:
    return min(values, default=None)


# -------------------------------------------------------------------- tables


def report(rows: Sequence[Row]) -> str:
    """All scenarios in the order they were measured, as Markdown."""
    scenarios = dict.fromkeys(row.scenario for row in rows)
    return "\n".join(_scenario(name, [row for row in rows if row.scenario == name]) for name in scenarios)


def _scenario(name: str, rows: Sequence[Row]) -> str:
    first = rows[0]
    parts = [f"## {name}: {first.files:,} files, {first.bytes / 1e6:,.0f} MB\n"]
    parts += [_phase(rows, phase) for phase in dict.fromkeys(row.phase for row in rows) if figures(rows, phase)]
    parts += [_verdict_table(verdicts(rows)), _failures(rows)]
    return "\n".join(filter(None, parts))


def _phase(rows: Sequence[Row], phase: str) -> str:
    head = ["tool", "rounds", "wall s", "cpu s", "MB/s", "peak MiB", "repository MB", "wall / ours", "cpu / ours"]
    body = [
        [
            figure.tool,
            str(figure.rounds),
            f"{figure.wall:.2f}",
            f"{figure.cpu:.2f}",
            f"{figure.rate:,.0f}",
            _or_dash(figure.memory, ".0f"),
            f"{figure.repository:,.1f}",
            _or_dash(figure.slower, ".2f"),
            _or_dash(figure.hungrier, ".2f"),
        ]
        for figure in figures(rows, phase)
    ]
    return f"### {phase}\n\n{table(head, body)}{_grown(rows) if phase == MUTATED else ''}"


def _grown(rows: Sequence[Row]) -> str:
    before, after = _stored(rows, UNCHANGED), _stored(rows, MUTATED)
    grown = [f"{tool} {after[tool] - before[tool]:,.1f} MB" for tool in after if tool in before]
    return f"\nGrowth by this backup: {', '.join(grown)}.\n"


def _verdict_table(found: Sequence[Verdict]) -> str:
    if not found:
        return ""
    head = ["goal", "measured", "goal", "floor", "reached"]
    body = [[v.what, f"{v.value:.2f}", f"{v.goal:g}", f"{v.floor:g}", v.word] for v in found]
    return f"### Goals\n\n{table(head, body)}"


def _failures(rows: Sequence[Row]) -> str:
    failed = [row for row in rows if row.failure]
    lines = [f"- {row.tool}, {row.phase}, round {row.round}: {row.failure}" for row in failed[:10]]
    return "\n".join(["### Failures\n", *lines, ""]) if lines else ""


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """An aligned Markdown table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "".join(_line(row, widths) for row in (head, rule, *body))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
    return f"| {' | '.join(cells)} |\n"


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def preface(facts: Mapping[str, str], versions: Sequence[str], rounds: int) -> str:
    """What a reader must know before the first number."""
    lines = [f"- {name}: {fact}" for name, fact in facts.items()] + [f"- {version}" for version in versions]
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Made by `./aihub bench --write`. In every round each tool does each phase once, back to back, in rotated",
            f"order; {rounds} timed rounds, medians, ratios paired by round; page cache warm. Memory is the peak of",
            "Pss_Anon + Pss_Shmem over the process tree, from one more round that is not timed. The data is made from",
            "a seed (`benchmarks/corpus.py`). A ratio above 1 means that the tool is slower than ours.",
            "",
            *lines,
            "",
            "",
        ]
    )


def summary(rows: Sequence[Row]) -> list[dict[str, object]]:
    """The figures and verdicts of every scenario, for machines."""
    told: list[dict[str, object]] = []
    for name in dict.fromkeys(row.scenario for row in rows):
        mine = [row for row in rows if row.scenario == name]
        phases = dict.fromkeys(row.phase for row in mine)
        told.append(
            {
                "scenario": name,
                "phases": {phase: [figure._asdict() for figure in figures(mine, phase)] for phase in phases},
                "goals": [verdict._asdict() | {"reached": verdict.word} for verdict in verdicts(mine)],
                "failures": sum(bool(row.failure) for row in mine),
            }
        )
    return told
