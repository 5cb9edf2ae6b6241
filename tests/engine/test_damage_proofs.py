"""The proofs of the area “damage” hold in small; `aihub prove damage` runs them in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proofs import damage_repair, registry
from tests.proofs.registry import Case

PROOFS = {proof.id: proof for proof in registry.of("damage")}


@pytest.mark.parametrize("name", sorted(PROOFS))
def test_one_case_of_each_proof(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage_repair, "SHARES", 1500)  # one byte of so many

    figures = PROOFS[name].run(Case(name, 1, tmp_path))

    assert figures
    assert not list(tmp_path.iterdir())
