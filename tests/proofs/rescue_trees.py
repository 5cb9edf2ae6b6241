"""What rescue.py brings back where nothing else of this project is left: all of it, and its cost."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.measure import Watch
from benchmarks.trees import Hardships, grow
from tests.golden import corners, make
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.ruin import contents
from tests.proofs.workshop import MIB, PROJECT, Engine, Ran, Running, assert_same, copy, remove
from tests.rescue.island import LAUNCH, Island

GOLDEN = PROJECT / "tests" / "golden"
ODD = Hardships(files=5_000, large=128 << 20)
MEMORY = 256 * MIB  # that a rescue of such a tree may take
CODE_OF_DAMAGE = 5


@proof("rescue", "golden", "both golden repositories, whole, with a passphrase", count=2)
def golden(case: Case) -> Figures:
    name, passphrase, snapshot = (("v1", make.PASSPHRASE, "second"), ("v1-corners", corners.PASSPHRASE, "late"))[
        case.number
    ]
    ran = _rescued(case.place, GOLDEN / name, snapshot, passphrase)
    assert ran.code == 0, ran.said
    return _figures(ran, case.place / "back")


@proof(
    "rescue", "odd-tree", "5,000 files and everything odd, backed up by the engine: equal, attributes and all", count=3
)
def odd_tree(case: Case) -> Figures:
    source = case.place / "source"
    engine = _backed_up(case.place, source)
    ran = _rescued(case.place, engine.repository, "latest", "an odd tree")
    assert ran.code == 0, ran.said
    os.unlink(source / "special" / "socket")  # no backup holds a socket
    os.utime(source / "special", ns=(0, os.stat(f"{case.place}/back{source}/special").st_mtime_ns))
    assert_same(source, Path(f"{case.place}/back{source}"), root=os.geteuid() == 0)
    figures = _figures(ran, case.place / "back")
    remove(source, case.place / "back")
    return figures


@proof(
    "rescue",
    "harmed-object",
    "one object flipped or deleted: what comes back is true, what does not is named",
    count=40,
)
def harmed_object(case: Case) -> Figures:
    repository = copy(GOLDEN / "v1", case.place / "repository")
    objects = sorted(path for path in repository.rglob("[0-9a-f]*") if path.is_file())
    harmed = case.random.choice(objects)
    if case.random.random() < 0.25:
        harmed.unlink()
    else:
        data = bytearray(harmed.read_bytes())
        data[case.random.randrange(len(data))] ^= 1 << case.random.randrange(8)
        harmed.write_bytes(data)
    ran = _rescued(case.place, repository, "second", make.PASSPHRASE)
    assert ran.code in (0, 5, 7), ran.said
    said = "\n".join(ran.said)
    slot_gone = ran.code == 7 and "None of them is for a passphrase at all" in said  # nobody knows its name any more
    assert ran.code == 0 or slot_gone or str(harmed.relative_to(repository)) in said, ran.said
    back = _golden_files(case.place / "back")
    expected = make.contents("second")
    assert all(expected[path] == data for path, data in back.items() if path in expected)
    assert ran.code or back.keys() >= expected.keys()
    return {"files back": len(back.keys() & expected.keys())}


def _golden_files(target: Path) -> dict[bytes, bytes]:
    tops = list((target / "tmp").glob("*/golden"))
    return {os.fsencode(path): data for path, data in contents(tops[0]).items()} if tops else {}


def _backed_up(place: Path, source: Path) -> Engine:
    grow(os.fsencode(source), ODD)
    engine = Engine(place, passphrase="an odd tree")
    engine.run("init")
    engine.run("backup", source)
    return engine


def _rescued(place: Path, repository: Path, snapshot: str, passphrase: str) -> Ran:
    """rescue.py on an island, watched."""
    island = Island(place / "island")
    words = [island.folder, place / "modules", "", PROJECT / "backups" / "rescue.py"]
    words += ["restore", repository, snapshot, place / "back"]
    command = [sys.executable, "-I", "-S", "-c", LAUNCH, *map(str, words)]
    running = Running(command, {"PATH": os.defpath, "LANG": "C.UTF-8", "AIHUB_PASSPHRASE": passphrase})
    with Watch(running.process.pid) as watching:
        ran = running.end(3600)
    modules = (place / "modules").read_text()
    assert '"django"' not in modules and '"backups' not in modules
    return Ran(ran.code, ran.result, ran.said, ran.seconds, watching.peak)


def _figures(ran: Ran, target: Path) -> Figures:
    files = size = 0
    for folder, _, names in os.walk(bytes(target)):
        facts = [os.lstat(os.path.join(folder, name)) for name in names]
        files += len(facts)
        size += sum(st.st_blocks * 512 for st in facts)
    assert ran.memory <= MEMORY, f"it used {ran.memory / MIB:.0f} MiB"
    return {"files": files, "MiB on disk": round(size / MIB, 1), "seconds": round(ran.seconds, 1),
            "peak MiB": round(ran.memory / MIB, 1)}  # fmt: skip
