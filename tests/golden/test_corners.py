"""What is rare in a repository stays readable too, and no byte of a frozen repository ever changes."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from backups import engine
from backups.engine import format as fmt
from backups.engine import table, wrapping
from backups.engine.content import units
from backups.engine.envelope import Opened
from backups.engine.format import ObjectType
from backups.engine.stores.local import LocalStore
from tests.components import needs_root
from tests.golden import corners
from tests.golden.reader import Reader, recovery_code
from tests.golden.rows import assert_came_back

HERE = Path(__file__).parent
CORNERS = HERE / "v1-corners"
HOLDS: dict[str, list[list[Any]]] = json.loads((HERE / "v1-corners.json").read_text())
FROZEN = {
    "v1": "bf0dbb0ef78345a51d38c237714083311748f98befc0e7cd700a308565b41c8d",
    "v1-lived": "788df8c2e212e019945bdc7a866cda0faecd2cfbd5084681c0a4d6dd1b83a9d5",
    "v1-corners": "89a524775eb669c663ae4494a6e54befac9dd6120aa9ebe36f65f43a4c04999b",
    "v1-compacted": "4c6477ae9261d3a7439f89641a3cb05bbe793086a82e22f34cc437164e4bed6b",
    "v1-repaired": "075d82fd35dc084da4620b051d45cfe94e5ff74c709128f14e2e50669c4f3be0",
    "v1-renewed": "d576c3159f07827a5abd7f78ae62e907fcc5ed1370358691d666147cbf3ed157",
}
SECRETS = {
    "passphrase": ("passphrase", unicodedata.normalize("NFC", corners.PASSPHRASE).encode()),
    "keyfile": ("keyfile", corners.KEYFILE),
    "recovery": ("recovery", recovery_code(corners.RECOVERY_CODE)),
}


def repository() -> engine.Repository:
    return engine.Repository.open(LocalStore(str(CORNERS)), engine.Secret.keyfile(corners.KEYFILE))


def content(opened: engine.Repository, entry: engine.Entry) -> bytes:
    data = bytearray(entry.size)
    for unit in units(entry.content or b"", entry.size, opened.load_blob):
        data[unit.offset : unit.offset + unit.length] = b"".join(opened.load_blob(blob.id) for blob in unit.blobs)
    return bytes(data)


def hexed(xattrs: Any) -> list[list[str]]:
    return [[name.hex(), value.hex()] for name, value in xattrs or ()]


@pytest.mark.parametrize("name", FROZEN)
def test_no_byte_of_a_frozen_repository_has_changed(name: str) -> None:
    digest = hashlib.sha256()
    for path in sorted((HERE / name).rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(HERE)} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())

    assert digest.hexdigest() == FROZEN[name]


@pytest.mark.parametrize("secret", SECRETS)
def test_every_secret_opens_it_without_the_engine(secret: str) -> None:
    assert Reader(CORNERS, *SECRETS[secret]).snapshots.keys() == HOLDS.keys()


@pytest.mark.parametrize("typed", [corners.PASSPHRASE, unicodedata.normalize("NFC", corners.PASSPHRASE)])
def test_a_passphrase_opens_it_however_its_letters_are_composed(typed: str) -> None:
    opened = engine.Repository.open(LocalStore(str(CORNERS)), engine.Secret.passphrase(typed))

    assert opened.log.live.keys() == HOLDS.keys()


@pytest.mark.parametrize("snapshot", HOLDS)
def test_everything_comes_back_without_the_engine(snapshot: str) -> None:
    reader = Reader(CORNERS, *SECRETS["recovery"])

    found = [
        [row.path.hex(), row.kind, row.mode, row.mtime_ns, row.size, row.target.hex(), hexed(row.xattrs),
         hashlib.sha256(reader.content(row)).hexdigest() if row.kind == 1 else ""]
        for row in reader.rows(reader.snapshots[snapshot])
    ]  # fmt: skip

    assert found == [
        [path, kind, mode, mtime, size, target, xattrs, sha256]
        for path, kind, mode, _, _, mtime, size, target, xattrs, _, sha256, _ in HOLDS[snapshot]
    ]


@pytest.mark.parametrize("snapshot", HOLDS)
def test_everything_comes_back_with_the_engine(snapshot: str) -> None:
    opened = repository()
    found, names = [], dict[tuple[int, int], list[str]]()
    listed = list(engine.entries(opened, opened.log.snapshot(snapshot)))
    for entry in listed:
        names.setdefault((entry.device, entry.inode), []).append(entry.path.hex())
    for entry in listed:
        file = entry.kind is engine.Kind.FILE
        others = names[entry.device, entry.inode] if entry.nlink > 1 and entry.kind is not engine.Kind.DIRECTORY else []
        found.append(
            [entry.path.hex(), int(entry.kind), entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.size,
             entry.target.hex(), hexed(entry.xattrs), entry.rdev,
             hashlib.sha256(content(opened, entry)).hexdigest() if file else "",
             sorted(name for name in others if name != entry.path.hex())]
        )  # fmt: skip

    assert found == HOLDS[snapshot]


def test_names_and_flags_that_no_disk_gave_come_back() -> None:
    opened = repository()

    dump, blocks = (
        next(engine.entries(opened, opened.log.snapshot("gzip"), path)) for path in (b"zz/dump", b"zz/blocks")
    )

    assert (dump.user, dump.group, dump.flags, dump.sha256.hex()) == (
        "J\udcf6rg", "使用者", 0x40, hashlib.sha256(corners.DUMP).hexdigest()
    )  # fmt: skip
    assert blocks.block == 4096
    assert {b.length for u in units(blocks.content or b"", 0, opened.load_blob) for b in u.blobs} == {
        4096, len(corners.LINES) % 4096
    }  # fmt: skip


def test_the_repository_is_sound() -> None:
    assert engine.check(repository(), 3).problems == []


def test_it_holds_what_is_rare() -> None:
    """Else these stories would prove nothing."""
    opened = repository()
    store, epochs, codecs = opened.store, set[int](), set[int]()
    for info in store.list("packs/"):
        pack = Opened(opened.sealer, info.name, store.get(info.name), tuple(ObjectType))
        epochs.add(pack.envelope.epoch)
        codecs.update(section.codec for section in pack.sections)
    listed = list(engine.entries(opened, opened.log.snapshot("late")))

    assert (epochs, codecs) == ({1, 2}, {0, 1, 2})
    assert len(opened.log.leaves) == 2
    assert len(list(store.list("index/"))) == 4
    assert any(isinstance(entry.content, tuple) for entry in listed)
    assert sum(len(entry.content) == 64 for entry in listed if entry.content) > 60
    assert {entry.kind for entry in listed} == {1, 2, 3, 4, 5}
    assert opened.load_blob(opened.log.snapshot("late").root)[1] >= 3  # levels of tree pages
    assert [d.why for d in opened.log.damaged] == []


@pytest.mark.root
@pytest.mark.parametrize("snapshot", HOLDS)
def test_it_restores_what_is_rare(tmp_path: Path, snapshot: str) -> None:
    needs_root()
    opened, told, target = repository(), list[engine.ItemError](), tmp_path / "target"
    options = engine.RestoreOptions(workers=0, privileges=True)

    engine.restore(opened, opened.log.snapshot(snapshot), bytes(target), options=options, report=told.append)

    assert len([item for item in told if item.severity == "error"]) == assert_came_back(target, HOLDS[snapshot])


def test_the_page_tells_the_numbers_that_the_code_uses() -> None:
    page = (HERE.parents[1] / "docs" / "format.md").read_text()
    rows = table.PACK.size, table.FRAME.size
    least, most = wrapping.ARGON2_LIMITS["m"]

    assert (fmt.FORMAT, fmt.HEADER.size, fmt.TRAILER.size, rows) == (1, 56, 17, (80, 24))
    assert (least >> 10, most >> 20) == (8, 1)
    for said in (
        "56 bytes", "17 bytes", "80 bytes", "24 bytes", "readers accept 1–16, 8 MiB–1 GiB, 1–16",
        f"every {fmt.RECORDS_PER_CHECKPOINT} records", f"up to {fmt.INDEX_SECTION:,} blobs",
        f"frame at {fmt.FRAME_SIZE >> 20} MiB raw", f"pack at {fmt.PACK_SIZE >> 20} MiB",
        f"frames over {fmt.FRAME_LIMIT >> 20} MiB", f"up to {fmt.SMALL_FILE >> 10} KiB",
        f"units of {fmt.UNIT_SIZE >> 20} MiB", f"from {fmt.CONTENT_PAGE >> 10} KiB",
        f"divisible by {fmt.PAGE_ENTRIES}", f"at {fmt.PAGE_ENTRIES_MAX:,} entries", "`aihub-backup/object`",
        "`aihub-backup/key-slot`",
    ):  # fmt: skip
        assert said in page, said
