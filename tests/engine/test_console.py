"""The console's keys in its own repository: they come back with any of its secrets, and with nothing else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from backups.engine import Repository, Secret, console, new_recovery_code
from backups.engine import __main__ as engine
from backups.engine.errors import EngineError, KeysMissing, ObjectDamaged, TargetError, WrongSecret
from backups.engine.keys import decode_recovery_code
from backups.engine.stores.local import LocalStore
from backups.engine.stores.memory import MemoryStore
from tests.engine.scenery import KEY, new_repository, opened
from tests.golden.reader import Reader

KEYS = {"app_keys": b"k1:c2VhbGVkIGluIHRoZSBmaXJzdCByZXBvc2l0b3J5", "secret_key": b"signs the cookies"}
CHANGED = {**KEYS, "secret_key": b"another one"}
HOME = "https://backup.example.org"


@pytest.fixture
def code() -> str:
    return new_recovery_code()


@pytest.fixture
def place(tmp_path: Path, code: str) -> Path:
    """A repository on disk that a keyfile and a recovery code open, with the keys in it."""
    place = tmp_path / "repository"
    secrets = [(KEY, "application"), (Secret.recovery_code(code), "recovery kit")]
    repository = Repository.create(LocalStore(str(place)), secrets, console=HOME)
    console.seal(repository, KEYS, HOME)
    return place


def asked(monkeypatch: pytest.MonkeyPatch, place: Path, code: str, to: Path) -> int:
    """Exit code of the engine's own command."""
    monkeypatch.setenv("AIHUB_CACHE_DIR", str(place.parent / "cache"))
    monkeypatch.setenv("AIHUB_RECOVERY_CODE", code)
    return engine.main(["keys", str(place), "--to", str(to)])


def test_the_newest_keys_come_back() -> None:
    store = MemoryStore()
    repository = new_repository(store)
    console.seal(repository, KEYS, HOME)
    console.seal(repository, CHANGED, HOME)

    found = console.read(opened(store))

    assert (dict(found.files), found.console) == (CHANGED, HOME)


def test_what_has_not_changed_is_not_written_again() -> None:
    repository = new_repository()
    first = console.seal(repository, KEYS, HOME)

    again = console.seal(repository, KEYS, HOME)

    assert again == first
    assert len(repository.log.names) == 2


def test_they_come_back_from_behind_a_checkpoint() -> None:
    store = MemoryStore()
    repository = new_repository(store)
    console.seal(repository, KEYS, HOME)
    repository.log.append_checkpoint()
    later = opened(store)
    assert later.log.unread

    found = console.read(later)

    assert dict(found.files) == KEYS


def test_they_come_back_from_behind_a_checkpoint_of_a_writer_that_did_not_know_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    repository = new_repository(store)
    console.seal(repository, KEYS, HOME)
    repository.log.console = ""
    monkeypatch.setattr(repository.log, "refresh", lambda: None)  # it would learn of them again
    repository.log.append_checkpoint()
    later = opened(store)
    assert not later.log.console

    found = console.read(later)

    assert dict(found.files) == KEYS


def test_keys_whose_record_is_damaged_are_written_again() -> None:
    store = MemoryStore()
    repository = new_repository(store)
    damaged = console.seal(repository, KEYS, HOME).record
    data = store.get(damaged)
    store.delete(damaged)
    store.put(damaged, data[:-1] + bytes([data[-1] ^ 1]))

    again = console.seal(opened(store), KEYS, HOME)

    assert again.record != damaged
    assert dict(console.read(opened(store)).files) == KEYS


def test_a_repository_without_keys_says_so() -> None:
    with pytest.raises(KeysMissing, match="No console has sealed its keys"):
        console.read(new_repository())


def test_the_recovery_code_gives_them_back_as_private_files(
    place: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "home" / "keys"

    ended = asked(monkeypatch, place, code, target)

    assert ended == 0
    assert {path.name: path.read_bytes() for path in target.iterdir()} == KEYS
    assert {stat.S_IMODE(path.stat().st_mode) for path in target.iterdir()} == {0o600}
    assert stat.S_IMODE(target.stat().st_mode) == 0o700


def test_a_wrong_code_gives_nothing(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = asked(monkeypatch, place, new_recovery_code(), tmp_path / "keys")

    assert ended == engine.EXIT_NOT_ALLOWED
    assert not (tmp_path / "keys").exists()
    with pytest.raises(WrongSecret):
        Repository.open(LocalStore(str(place)), Secret.keyfile(bytes(32)))


def test_nothing_is_written_over(place: Path, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "secret_key").write_text("of another console")

    ended = asked(monkeypatch, place, code, tmp_path)

    assert ended == engine.EXIT_FAILED
    assert (tmp_path / "secret_key").read_text() == "of another console"
    assert not (tmp_path / "app_keys").exists()
    with pytest.raises(TargetError, match="exists already"):
        console.write(console.read(Repository.open(LocalStore(str(place)), KEY)), str(tmp_path))


def test_they_stand_nowhere_in_the_clear(place: Path) -> None:
    stored = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())

    assert not [content for content in KEYS.values() if content in stored]


def test_a_reader_written_from_the_format_alone_finds_them(place: Path, code: str) -> None:
    reader = Reader(place, "recovery", decode_recovery_code(code))

    assert dict(reader.console_keys()) == KEYS
    assert reader.snapshots == {}


@pytest.mark.parametrize("name", ["../escape", "a/b", "", "UPPER", "x" * 65])
def test_names_that_lead_elsewhere_are_refused_in_both_directions(name: str) -> None:
    store = MemoryStore()
    repository = new_repository(store)
    with pytest.raises(EngineError, match="is no key"):
        console.seal(repository, {name: b""}, HOME)
    repository.log.append("console", {"files": {name: b"forged"}, "console": HOME, "time": 0.0})

    with pytest.raises(ObjectDamaged, match="names a key as no console does"):
        console.read(opened(store))


def test_directories_made_for_the_keys_are_private(tmp_path: Path) -> None:
    """The parent becomes the home of the console that comes back."""
    store = MemoryStore()
    repository = new_repository(store)
    console.seal(repository, KEYS, HOME)

    console.write(console.read(opened(store)), str(tmp_path / "a/home/keys"))

    made = [tmp_path / "a", tmp_path / "a/home", tmp_path / "a/home/keys"]
    assert [path.stat().st_mode & 0o777 for path in made] == [0o700] * 3
