"""What the engine's command line says and does when objects on the disk are harmed, or the secret is wrong."""

from __future__ import annotations

import random
from pathlib import Path

from tests.proofs.engine_kills import Scale, mutate, plant
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.ruin import Files, contents, flipped
from tests.proofs.workshop import DAMAGE, FAILED, NOT_ALLOWED, NOT_FOUND, OK, WARNINGS, Engine

WRONG = "The passphrase is wrong: the repository's key slots are intact, and it opens none of them."


@proof(
    "engine", "damage-by-command", "one object on disk flipped, cut or deleted: what check and restore say", count=40
)
def damage_by_command(case: Case) -> Figures:
    engine = Engine(case.place)
    states = history(engine, case.place / "source", case.random)
    objects = sorted(path for path in engine.repository.rglob("[0-9a-f]*") if path.is_file())
    harmed = case.random.choice(objects)
    harm(harmed, case.random)
    check = engine.run("check", "--read-data", codes=(FAILED, DAMAGE))
    name = str(harmed.relative_to(engine.repository))
    assert any(name in line for line in check.said), f"{name} is not named: {check.said}"
    whole = [honest(engine, snapshot, files, case.place) for snapshot, files in states.items()]
    return {"snapshots back whole": sum(whole)}


@proof("engine", "wrong-secret", "a wrong passphrase: told apart from damage, nothing written", count=5)
def wrong_secret(case: Case) -> Figures:
    engine = Engine(case.place, passphrase="the right one")
    history(engine, case.place / "source", case.random)
    before = picture(engine.repository)
    stranger = Engine(case.place, passphrase=f"wrong {case.number}")
    for verb, *words in (["backup", "source"], ["list"], ["check"], ["restore", "--target", "target"]):
        places = [word if word.startswith("-") else str(case.place / word) for word in words]
        assert stranger.run(verb, *places, codes=(NOT_ALLOWED,)).said == [WRONG]
    assert picture(engine.repository) == before
    assert not (case.place / "target").exists()
    return {}


def history(engine: Engine, source: Path, numbers: random.Random) -> dict[str, Files]:
    """A repository with two snapshots; what each of them holds."""
    engine.run("init")
    plant(source, Scale(files=60, early=3 << 20), numbers)
    states = {}
    for _ in range(2):
        mutate(source, numbers)
        ran = engine.run("backup", source, codes=(OK,))
        states[ran.result["snapshot"]] = contents(source)
    return states


def harm(path: Path, numbers: random.Random) -> None:
    """What a failing disk, a bad copy or a careless person does to an object."""
    data, deed = path.read_bytes(), numbers.randrange(4)
    path.chmod(0o600)
    if deed == 0:
        path.unlink()
    elif deed == 1:
        path.write_bytes(data[: numbers.randrange(len(data))])
    else:
        path.write_bytes(flipped(data, numbers.randrange(len(data)), numbers.randrange(8)))


def honest(engine: Engine, snapshot: str, wanted: Files, place: Path) -> bool:
    """Restore it: what comes back is true, and exit code 0 means all of it. Whether it was all."""
    target = place / f"target-{snapshot}"
    codes = (OK, WARNINGS, FAILED, DAMAGE, NOT_FOUND)
    ran = engine.run("restore", "--snapshot", snapshot, "--target", target, codes=codes)
    found = contents(target) if target.exists() else {}
    false = [path for path, data in found.items() if wanted.get(path) != data]
    assert not false, f"{false} came back, and it is not what was backed up"
    assert ran.code != OK or found == wanted, f"success was told, and {wanted.keys() - found.keys()} is lost"
    return found == wanted


def picture(root: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of everything below a directory."""
    return {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in root.rglob("*")}
