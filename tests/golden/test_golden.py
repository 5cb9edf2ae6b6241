"""What was once written stays readable, by the engine and by a reader that knows docs/format.md only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backups import engine
from backups.engine.stores.local import LocalStore
from tests.golden import make
from tests.golden.reader import Reader, Row, recovery_code

V1 = Path(__file__).parent / "v1"


@pytest.fixture(params=["passphrase", "recovery"])
def reader(request: pytest.FixtureRequest) -> Reader:
    if request.param == "recovery":
        return Reader(V1, "recovery", recovery_code(make.RECOVERY_CODE))
    return Reader(V1, "passphrase", make.PASSPHRASE.encode())


def rows_of(reader: Reader, epoch: str) -> dict[bytes, Row]:
    """Path relative to the source → row."""
    snapshot = reader.snapshots[epoch]
    root = os.fsencode(snapshot["facts"]["roots"][0]).strip(b"/") + b"/"
    return {row.path[len(root) :]: row for row in reader.rows(snapshot) if row.path.startswith(root)}


def test_it_lists_what_is_live_without_the_engine(reader: Reader) -> None:
    assert sorted(reader.snapshots) == sorted(make.EPOCHS)


@pytest.mark.parametrize("epoch", make.EPOCHS)
def test_it_reads_every_file_without_the_engine(reader: Reader, epoch: str) -> None:
    rows = rows_of(reader, epoch)

    assert {p: reader.content(rows[p]) for p in make.contents(epoch)} == make.contents(epoch)
    assert reader.content(rows[b"sparse"])[1 << 20 : (1 << 20) + 9] == b"an island"
    assert rows[b"link"].target == b"nowhere/at all"
    assert rows[b"second name"].link == rows[b"text"].link is not None
    assert (rows[b"text"].mode, rows[b"text"].mtime_ns) == (0o640, make.MTIME)


def test_it_refuses_a_wrong_secret_without_the_engine() -> None:
    with pytest.raises(ValueError, match="no key slot opens"):
        Reader(V1, "passphrase", b"not the one")


@pytest.mark.parametrize("epoch", make.EPOCHS)
def test_it_restores_an_old_repository(tmp_path: Path, epoch: str) -> None:
    repository = engine.Repository.open(LocalStore(str(V1)), engine.Secret.keyfile(make.KEYFILE))
    snapshot = repository.log.snapshot(epoch)
    base = os.fsencode(snapshot.facts["roots"][0]).strip(b"/")

    engine.restore(repository, snapshot, os.fsencode(tmp_path / "target"), base=base)

    found = {p: (tmp_path / "target" / os.fsdecode(p)).read_bytes() for p in make.contents(epoch)}
    assert found == make.contents(epoch)


def test_it_finds_an_old_repository_sound() -> None:
    repository = engine.Repository.open(LocalStore(str(V1)), engine.Secret.recovery_code(make.RECOVERY_CODE))

    assert engine.check(repository, 3).problems == []


def test_it_still_writes_what_the_page_describes(tmp_path: Path) -> None:
    make.make(tmp_path / "new")

    reader = Reader(tmp_path / "new", "passphrase", make.PASSPHRASE.encode())

    rows = rows_of(reader, make.EPOCHS[1])
    assert {p: reader.content(rows[p]) for p in make.contents(make.EPOCHS[1])} == make.contents(make.EPOCHS[1])
