"""`aihub prove` with proofs made for the purpose: resumed after an interruption, failures told, figures written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from aihub_backup.cli import prove
from aihub_backup.cli.exits import CommandFailed, Exit
from tests.proofs import registry
from tests.proofs.registry import Case, Figures, Missed, Run


@pytest.fixture
def runs() -> Iterator[list[int]]:
    """Numbers of the cases that ran; the proofs of the made-up area go away with the test."""
    done: list[int] = []
    yield done
    for key in [key for key in registry._proofs if key[0] == "madeup"]:
        del registry._proofs[key]


def counting(runs: list[int], interrupted_at: int = -1, failing: int = -1) -> Run:
    def run(case: Case) -> Figures:
        if case.number == interrupted_at and case.number not in runs:
            runs.append(case.number)
            raise KeyboardInterrupt
        runs.append(case.number)
        assert case.number != failing, "it broke"
        return {"speed": case.number * 10.5}

    return run


def words(tmp_path: Path, *more: str) -> list[str]:
    return ["madeup", "--state", str(tmp_path / "journal"), "--report", str(tmp_path / "proof"), *more]


def test_it_writes_the_figures_of_all_cases(tmp_path: Path, runs: list[int]) -> None:
    registry.proof("madeup", "count", "counting", count=3)(counting(runs))

    code = prove.main(words(tmp_path))

    report = json.loads((tmp_path / "proof/madeup.json").read_text())
    page = (tmp_path / "proof/madeup.md").read_text()
    assert code == Exit.OK
    assert report["proved"] is True
    assert report["proofs"][0]["figures"] == {"speed": {"min": 0.0, "median": 10.5, "max": 21.0}}
    assert "| count | counting | 3 | 3 |" in page
    assert "| count | speed | 0 | 10.500 | 21 |" in page


def test_it_goes_on_where_it_was_interrupted(tmp_path: Path, runs: list[int]) -> None:
    registry.proof("madeup", "count", "counting", count=4)(counting(runs, interrupted_at=2))
    with pytest.raises(KeyboardInterrupt):
        prove.main(words(tmp_path))

    code = prove.main(words(tmp_path))

    assert code == Exit.OK
    assert runs == [0, 1, 2, 2, 3]


def test_it_tells_failures_and_tries_them_again(tmp_path: Path, runs: list[int]) -> None:
    registry.proof("madeup", "count", "counting", count=3)(counting(runs, failing=1))

    codes = [prove.main(words(tmp_path)), prove.main(words(tmp_path))]

    assert codes == [Exit.FAILED, Exit.FAILED]
    assert runs == [0, 1, 2, 1]
    assert "- count, case 1: AssertionError: it broke" in (tmp_path / "proof/madeup.md").read_text()


def test_it_writes_the_figures_of_a_case_that_missed_what_is_claimed(tmp_path: Path, runs: list[int]) -> None:
    def slow(_case: Case) -> Figures:
        raise Missed("301 ms", {"ms": 301.0})

    registry.proof("madeup", "quick", "within 300 ms", count=1)(slow)

    code = prove.main(words(tmp_path))

    report = json.loads((tmp_path / "proof/madeup.json").read_text())
    assert (code, report["proved"]) == (Exit.FAILED, False)
    assert report["proofs"][0]["figures"] == {"ms": {"min": 301.0, "median": 301.0, "max": 301.0}}
    assert "301 ms" in report["proofs"][0]["failed"][0]["error"]


def test_it_is_not_proved_by_a_part_of_the_cases(tmp_path: Path, runs: list[int]) -> None:
    registry.proof("madeup", "count", "counting", count=3)(counting(runs))

    code = prove.main(words(tmp_path, "--count", "1"))

    assert code == Exit.FAILED
    assert runs == [0]


def test_it_reads_a_journal_whose_last_line_was_cut_off(tmp_path: Path, runs: list[int]) -> None:
    registry.proof("madeup", "count", "counting", count=2)(counting(runs))
    prove.main(words(tmp_path))
    journal = tmp_path / "journal"
    journal.write_text(journal.read_text()[:-20])

    codes = [prove.main(words(tmp_path)), prove.main(words(tmp_path))]

    assert codes == [Exit.OK, Exit.OK]
    assert runs == [0, 1, 1]


def test_it_gives_a_case_the_same_randomness_every_time(tmp_path: Path) -> None:
    case, again, other = Case("p", 1, tmp_path), Case("p", 1, tmp_path), Case("p", 2, tmp_path)

    assert case.random.random() == again.random.random() != other.random.random()


def test_it_refuses_an_area_without_proofs(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="there are no proofs for “madeup”"):
        prove.main(words(tmp_path))
