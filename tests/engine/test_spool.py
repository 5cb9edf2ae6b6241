"""Spool: records kept for later, read in either order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from backups.engine import spool as module
from backups.engine.spool import Spool

RECORDS = [b"one", b"", b"three" * 1000, b"four"]


@pytest.fixture(params=[4 << 20, 100])
def spool(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spool]:
    """In memory, and in a file."""
    monkeypatch.setattr(module, "_IN_MEMORY", request.param)
    directory = os.open(tmp_path, os.O_RDONLY)
    spool = Spool(directory)
    for record in RECORDS:
        spool.append(record)
    yield spool
    spool.close()
    os.close(directory)


def test_records_come_back_in_order(spool: Spool) -> None:
    assert list(spool.forwards()) == RECORDS


def test_records_come_back_in_the_reverse_order(spool: Spool) -> None:
    assert list(spool.backwards()) == RECORDS[::-1]
