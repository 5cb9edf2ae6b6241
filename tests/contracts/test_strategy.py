"""What every strategy promises. A new kind adds a line to SOURCES and runs all of it."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest

from aihub_backup.core.options import OptionsError
from backups.engine.disk import DiskTree, from_printable
from backups.engine.entry import Entry, Kind
from backups.engine.errors import SourceError
from backups.engine.extract import DirectoryWriter, ManifestGuard
from backups.kinds import FAMILIES, STRATEGIES
from backups.strategies.base import Strategy
from tests.engine import trees
from tests.servers.postgresql import started


class Source(NamedTuple):
    """A source made for a test.

    options  what its strategy is given
    vanish   take it away
    place    the directory it lies in, whose picture must not change
    wrong    options that are not valid → the field that is named
    roots    what everything that is read begins with, where that is not the place
    absent   what is said once it was taken away
    """

    options: dict[str, Any]
    vanish: Callable[[], None]
    place: Path
    wrong: list[tuple[dict[str, Any], str]]
    roots: str = ""
    absent: str = r"/place/.* does not exist\."


def files(place: Path) -> Source:
    trees.plant_oddities(place / "data")
    (place / "one file").write_text("x")
    return Source(
        {"paths": [str(place / "data"), str(place / "one file")], "exclude": ["third*"]},
        lambda: trees.remove(place / "data"),
        place,
        [
            ({"paths": []}, "paths"),
            ({"paths": ["relative"]}, "paths"),
            ({"paths": ["/\udcff"]}, "paths"),
            ({"paths": ["/srv"], "exclude": ["a["]}, "exclude"),
            ({}, "paths"),
            ({"paths": ["/srv"], "no_such_option": 1}, "no_such_option"),
        ],
    )


def sqlite(place: Path) -> Source:
    path = place / "shop.sqlite3"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT)")
        database.executemany("INSERT INTO orders (note) VALUES (?)", [(f"note {n}" * 20,) for n in range(2000)])
    os.chmod(path, 0o640)
    return Source(
        {"path": str(path)},
        path.unlink,
        place,
        [
            ({"path": "shop.sqlite3"}, "path"),
            ({"path": ""}, "path"),
            ({"path": "/\udcff"}, "path"),
            ({"path": "/x", "deadline_seconds": 0}, "deadline_seconds"),
        ],
    )


def postgresql(place: Path) -> Source:
    server = started(18)
    database = server.database("CREATE TABLE orders AS SELECT n, repeat('x', n) FROM generate_series(1, 2000) n")
    options = server.options(database)
    return Source(
        options,
        lambda: server.drop(database),
        place,
        [
            ({**options, "host": ""}, "host"),
            ({**options, "host": "a,b"}, "host"),
            ({**options, "database": "dbname=x"}, "database"),
            ({**options, "user": "--help"}, "user"),
            ({**options, "password": "two\nlines"}, "password"),
            ({**options, "tables": ["orders"]}, "tables"),
            ({**options, "schemas": ["a\tb"]}, "schemas"),
            ({**options, "sslmode": "verify-full"}, "sslrootcert"),
            ({**options, "bin_dir": "bin"}, "bin_dir"),
        ],
        f"postgresql://127.0.0.1:{server.port}/",
        f'database "{database}" does not exist',
    )


SOURCES: dict[str, Callable[[Path], Source]] = {"files": files, "postgresql": postgresql, "sqlite": sqlite}


@pytest.fixture(params=STRATEGIES.kinds())
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(kind: str, tmp_path: Path) -> Iterator[Source]:
    place = tmp_path / "place"
    place.mkdir()
    yield SOURCES[kind](place)
    trees.remove(place)


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir(mode=0o700)
    return tmp_path / "work"


@pytest.fixture
def strategy(kind: str, source: Source, workdir: Path) -> Strategy[Any]:
    made: Strategy[Any] = STRATEGIES.load(kind)(STRATEGIES.options(kind, source.options), workdir)
    return made


def captured(strategy: Strategy[Any]) -> list[Entry]:
    return [_read(entry) for entry in strategy.capture(trees.fail)]


def _read(entry: Entry) -> Entry:
    """A stream is read at once and kept, as the engine does it."""
    if callable(entry.source):
        with entry.source() as stream:
            data = stream.read()
        entry.size, entry.source = len(data), lambda: io.BytesIO(data)
    return entry


def restored(strategy: Strategy[Any], target: Path) -> list[Entry]:
    """Capture, and write everything below the base to target, as the engine does."""
    entries, disk = captured(strategy), DiskTree(b"/")
    base = strategy.restore_base(strategy.facts())
    later = []
    with DirectoryWriter(os.fsencode(target), base=base, privileges=trees.ROOT, report=trees.fail) as writer:
        for entry in entries:
            if base and not (entry.path + b"/").startswith(base + b"/"):
                continue
            if entry.kind is Kind.DIRECTORY:
                writer.make_directory(entry)
            elif entry.kind is Kind.FILE:
                _write(disk, writer, entry)
            else:
                later.append(entry)
        for entry in later:
            assert writer.symlink(entry) if entry.kind is Kind.SYMLINK else writer.special(entry)
    disk.close()
    return entries


def _write(disk: DiskTree, writer: DirectoryWriter, entry: Entry) -> None:
    if callable(entry.source):
        with entry.source() as stream, writer.open_writer(entry) as out:
            out.write_at(0, stream.read())
        return
    with disk.opened((entry.source or entry.path).lstrip(b"/")) as fd, writer.open_writer(entry) as out:
        for offset, length in disk.data_runs(fd, entry.size):
            out.write_at(offset, os.pread(fd, length, offset))


# the plug-in itself


def test_it_is_known_by_its_kind_and_family(kind: str) -> None:
    plugin = STRATEGIES.load(kind)

    assert issubclass(plugin, Strategy)
    assert plugin.kind == kind
    assert kind in FAMILIES[plugin.family]
    assert dataclasses.is_dataclass(plugin.Options)
    assert "__delattr__" in vars(plugin.Options)  # frozen


def test_it_runs_without_the_web_framework(kind: str) -> None:
    module = STRATEGIES.load(kind).__module__
    code = f"import sys, {module}; sys.exit('django' in sys.modules or 'celery' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_it_names_every_wrong_option(kind: str, source: Source) -> None:
    for values, field in source.wrong:
        with pytest.raises(OptionsError) as caught:
            STRATEGIES.options(kind, values)
        assert list(caught.value.errors) == [field]


# reading


def test_it_changes_nothing(source: Source, strategy: Strategy[Any]) -> None:
    before = trees.picture(source.place)

    strategy.check()
    captured(strategy)
    strategy.facts()

    assert trees.picture(source.place) == before


def test_it_hands_out_entries_a_restore_accepts(strategy: Strategy[Any]) -> None:
    guard = ManifestGuard()

    for entry in captured(strategy):
        guard.check(entry)

    assert guard.entries > 3
    assert guard.size > 0


def test_it_lays_copies_down_where_only_we_may_read(strategy: Strategy[Any], workdir: Path) -> None:
    copies = [entry.source for entry in captured(strategy) if isinstance(entry.source, bytes)]

    assert all(copy.startswith(os.fsencode(workdir)) for copy in copies)
    assert all(os.stat(copy).st_mode & 0o077 == 0 for copy in copies)


def test_it_can_be_captured_again(strategy: Strategy[Any]) -> None:
    first = [(entry.path, entry.kind, entry.mode, entry.mtime_ns, entry.size) for entry in captured(strategy)]

    assert [(entry.path, entry.kind, entry.mode, entry.mtime_ns, entry.size) for entry in captured(strategy)] == first


def test_it_says_that_its_source_is_missing(source: Source, strategy: Strategy[Any]) -> None:
    source.vanish()

    for deed in (strategy.check, lambda: captured(strategy)):
        with pytest.raises(SourceError, match=source.absent):
            deed()


# facts


def test_it_tells_plain_facts(strategy: Strategy[Any], source: Source) -> None:
    captured(strategy)

    facts = strategy.facts()

    assert json.loads(json.dumps(facts)) == facts
    assert msgpack.unpackb(msgpack.packb(facts)) == facts
    assert facts["consistency"] in ("application", "snapshot", "crash", "fuzzy")
    assert all(root.startswith(source.roots or str(source.place)) for root in facts["roots"])
    assert isinstance(facts["tools"], dict)
    assert b"/" + strategy.restore_base(facts) == from_printable(facts["base"])


# back again


def test_it_finds_nothing_wrong_with_what_was_restored(strategy: Strategy[Any], tmp_path: Path) -> None:
    restored(strategy, tmp_path / "target")

    findings = strategy.validate(str(tmp_path / "target"), strategy.facts())

    assert [finding for finding in findings if not finding["passed"]] == []
    assert all(finding["check"] and finding["detail"] for finding in findings)
    trees.remove(tmp_path / "target")


def test_it_validates_after_its_source_is_gone(
    kind: str, strategy: Strategy[Any], source: Source, tmp_path: Path
) -> None:
    restored(strategy, tmp_path / "target")
    facts = json.loads(json.dumps(strategy.facts()))
    source.vanish()

    findings = STRATEGIES.load(kind).validate(str(tmp_path / "target"), facts)

    assert all(finding["passed"] for finding in findings)
    trees.remove(tmp_path / "target")


def test_every_kind_has_a_source_here() -> None:
    assert set(STRATEGIES.kinds()) == set(SOURCES)
