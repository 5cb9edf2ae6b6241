"""mirror(): a copy of a repository in another place, byte for byte and object by object. It needs no key.

Objects are put in the order keys, packs, index, records, config, and of the records the newest first: whoever opens a
copy, also one that was cut off anywhere, sees no snapshot before all that it needs, and none before the word that
forgets it. What is there already is not sent again: a copy that was cut off goes on when it is asked for once more.

Meanwhile others write to the repository. They put records last, so the log is listed before all that it names. And a
compaction may delete: what was there before the log was listed and is gone behind it, or is gone when its turn comes,
may be needed by a record that was listed. Then no record is put, and everything is listed again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from backups.engine import format as fmt
from backups.engine.checker import Problem
from backups.engine.errors import (
    EngineError,
    ForeignRepository,
    NotARepository,
    ObjectDamaged,
    ObjectMissing,
    StoreReadOnly,
    StoreRefused,
    StoreUnavailable,
)
from backups.engine.hands import Hands
from backups.engine.options import quiet
from backups.engine.repository import read_config
from backups.engine.store import ObjectStore, Place
from backups.engine.survey import identities, listed, proves_itself, unreadable

ROUNDS = 5  # listings of a repository from which objects keep vanishing; each round has less to do than the one before
PARALLEL = 4  # objects under way at once
ABANDONED = 24 * 3600.0  # seconds after which an unfinished upload of a copy that was cut off is taken away
ASKED = 4  # packs, index objects and records whose headers tell whose they are, where neither config nor keys do
KINDS = ("keys/", "packs/", "index/")  # in the order in which they are put; records and config follow
LOST = "the copy has this record and the repository no longer has: records were deleted there, or it was rolled back"
SHORTER = "it has another size than in the copy, where it is right"
DIFFERS = "it differs from the one in the copy, and only a key tells which is right: check both"


@dataclass(frozen=True, slots=True)
class MirrorOptions:
    """How a copy is made.

    parallel      objects under way at once, each of them whole in memory (16 MiB, index objects 64 MiB at most)
    verify        also read what the copy holds, and compare its SHA-256 with its name; else its size is compared
    delete_after  seconds after which the copy, too, lets go of what the repository no longer has; None: never
    """

    parallel: int = PARALLEL
    verify: bool = False
    delete_after: float | None = None


@dataclass(slots=True)
class Mirrored:
    """The outcome. Sound when there are no problems.

    objects     that the repository has; bytes: of them. Of these bytes_expected have to be looked at, bytes_done were
    copied      objects that were put, bytes_copied; replaced: those of them that were wrong in the copy, and why
    set_aside   where the wrong bytes are kept
    problems    objects that are damaged in the repository (they are left out), records that it has lost, and what is
                damaged in the copy and no longer in the repository
    gone        objects that only the copy has → when that was first seen (Unix seconds); bytes_gone
    deleted     objects that the copy let go of, bytes_deleted
    """

    repository: str = ""
    objects: int = 0
    bytes: int = 0
    bytes_expected: int = 0
    bytes_done: int = 0
    copied: int = 0
    bytes_copied: int = 0
    replaced: dict[str, str] = field(default_factory=dict)
    set_aside: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    gone: dict[str, float] = field(default_factory=dict)
    bytes_gone: int = 0
    deleted: int = 0
    bytes_deleted: int = 0

    @property
    def sound(self) -> bool:
        return not self.problems


Progress = Callable[[Mirrored], None]  # called about once a second; it may raise Cancelled


def mirror(
    source: ObjectStore,
    copy: Place,
    options: MirrorOptions = MirrorOptions(),
    *,
    create: bool = False,
    expected: str = "",
    gone: Mapping[str, float] = MappingProxyType({}),
    progress: Progress = quiet,
) -> Mirrored:
    """Bring the copy up to date. Each object proves itself before it is put.

    create    make the copy's place ready first; else it has to be there
    expected  id (hex) of the repository that has to be there; "": whichever is
    gone      what an earlier run told of the same name; from then on `delete_after` counts
    Raises NotARepository, ForeignRepository (another one in the copy, or other files), and StoreUnavailable. Nothing is
    deleted while there are problems: the copy may be the only one that has it.
    """
    run = _Mirror(source, copy, options, progress)
    ours = run.recognised(expected)
    if create:
        copy.create()
    run.refuse_strangers(ours)
    with suppress(EngineError):  # no right to look for them is no reason to have no copy
        copy.sweep(ABANDONED)
    run.bring_up_to_date()
    run.let_go(gone)
    return run.done


class _Listing(NamedTuple):
    """Name → size in bytes: the records as they were listed first, and all the other objects."""

    records: Mapping[str, int]
    others: Mapping[str, int]

    @property
    def sizes(self) -> Mapping[str, int]:
        return {**self.others, **self.records}

    def size(self, name: str) -> int:
        return self.records[name] if name in self.records else self.others[name]


class _Doubt(NamedTuple):
    """Is what lies in the copy right? Else why not ("": nothing is there), and the SHA-256 of the wrong bytes (hex; "":
    they cannot be read)."""

    right: bool = False
    why: str = ""
    digest: str = ""


class _Item(NamedTuple):
    """One object on its way. trouble: why there are no right bytes; aside: where wrong ones of the copy are kept."""

    name: str
    size: int
    doubt: _Doubt
    data: bytes = b""
    trouble: str = ""
    vanished: bool = False
    aside: str = ""

    @property
    def wanted(self) -> bool:
        """Is it to be put?"""
        return not (self.doubt.right or self.trouble or self.vanished)


class _Mirror:
    def __init__(self, source: ObjectStore, copy: Place, options: MirrorOptions, progress: Progress) -> None:
        self.done = Mirrored()
        self._source, self._copy, self._options, self._progress = source, copy, options, progress
        self._hands = Hands(options.parallel, self._tick)
        self._there: dict[str, int] = {}  # what the copy holds, in bytes
        self._here = _Listing({}, {})
        self._settled: set[str] = set()  # need not be looked at in this run again
        self._told = time.monotonic()

    def recognised(self, expected: str) -> set[str]:
        """Ids (hex) of the repository that is to be copied."""
        where = self._source.describe()
        ours = _whose(self._source)
        if not ours:
            raise NotARepository(f"There is no repository in {where}.")
        if expected and expected not in ours:
            raise ForeignRepository(f"In {where} lies the repository {min(ours)}, not {expected}.")
        return ours

    def refuse_strangers(self, ours: set[str]) -> None:
        theirs = _whose(self._copy)
        if theirs and not ours & theirs:
            raise ForeignRepository(
                f"In {self._copy.describe()} lies the repository {min(theirs)}, not {min(ours)}: choose an empty place,"
                " or that of a copy of this one."
            )
        self.done.repository = min(ours & theirs or ours)

    # copying

    def bring_up_to_date(self) -> None:
        self._there = listed(self._copy)
        before: Collection[str] = [name for name in listed(self._source) if name.startswith(KINDS)]
        for _ in range(ROUNDS):
            self._here = _look(self._source)
            vanished = not all(name in self._here.others for name in before)
            if self._took_objects() and not vanished:
                return self._publish()
            before = self._here.others
        raise StoreUnavailable(
            f"In {self._source.describe()} space was given back all the time while it was copied, so that no new"
            " record was put. Copy it again; what was copied stays."
        )

    def _took_objects(self) -> bool:
        """Whether none of them vanished."""
        self._expect()
        whole = True
        for kind in KINDS:
            names = [name for name in self._here.others if name.startswith(kind) and self._is_due(name)]
            for item in self._hands.results(lambda name: self._put(self._read(name)), names):
                self._account(item)
                whole = whole and not item.vanished
        return whole

    def _publish(self) -> None:
        """All that the records name is there. They are read by many hands and put by one: the order is the promise."""
        names = sorted(filter(self._is_due, self._here.records), reverse=True)
        for item in self._hands.results(self._read, names):
            self._account(self._put(item))
        self._config()
        lost = (name for name in sorted(self._there) if fmt.is_record_name(name) and name not in self._here.records)
        self.done.problems += [Problem(name, LOST) for name in lost]

    def _expect(self) -> None:
        sizes = self._here.sizes
        self.done.objects, self.done.bytes = len(sizes), sum(sizes.values())
        due = sum(size for name, size in sizes.items() if self._is_due(name))
        self.done.bytes_expected = self.done.bytes_done + due

    def _is_due(self, name: str) -> bool:
        if name in self._settled:
            return False
        return self._options.verify or self._there.get(name) != self._here.size(name)

    # one object, in whatever thread

    def _read(self, name: str) -> _Item:
        """What is wrong in the copy, if anything, and then the right bytes, or why there are none."""
        item = _Item(name, self._here.size(name), self._doubt(name))
        if item.doubt.right:
            return item if self._there[name] == item.size else item._replace(trouble=SHORTER)
        try:
            data, trouble = _proved(self._source, name)
        except ObjectMissing:
            return item._replace(vanished=True)
        return item._replace(trouble=trouble) if trouble else item._replace(data=data)

    def _doubt(self, name: str) -> _Doubt:
        if name not in self._there:
            return _Doubt()
        if self._there[name] == self._here.size(name) and not self._options.verify:
            return _Doubt(right=True)
        try:
            data, why = _proved(self._copy, name)
        except ObjectMissing:
            return _Doubt()
        return _Doubt(not why, why, hashlib.sha256(data).hexdigest() if data else "")

    def _put(self, item: _Item) -> _Item:
        if not item.wanted:
            return item
        aside = self._set_aside(item.name, item.doubt)
        self._copy.put(item.name, item.data)
        return item._replace(data=b"", aside=aside)

    def _set_aside(self, name: str, doubt: _Doubt) -> str:
        """Where the wrong bytes are kept; "" when there are none."""
        if not doubt.why:
            return ""
        aside = fmt.aside_name(name, doubt.digest, time.time())
        with suppress(ObjectMissing):  # somebody took them away meanwhile
            self._copy.set_aside(name, aside)
            return aside
        return ""

    def _account(self, item: _Item) -> None:
        done = self.done
        done.bytes_done += item.size
        if item.vanished:
            return
        self._settled.add(item.name)
        if item.trouble:
            done.problems.append(Problem(item.name, item.trouble))
        if item.wanted:
            self._there[item.name] = item.size
            done.copied, done.bytes_copied = done.copied + 1, done.bytes_copied + item.size
            done.replaced.update({item.name: item.doubt.why} if item.doubt.why else {})
            done.set_aside += [item.aside] if item.aside else []
        self._tick()

    # the config, whose name promises nothing

    def _config(self) -> None:
        try:
            data, trouble = _proved(self._source, "config")
        except ObjectMissing:
            data, trouble = b"", "it is missing"
        kept, why = self._kept_config()
        if not trouble and kept not in (None, data) and not why:
            trouble = DIFFERS
        if trouble or data == kept:
            self._account(_Item("config", len(data), _Doubt(right=True), trouble=trouble))
        else:
            self._put_config(data, _Doubt(False, why, hashlib.sha256(kept).hexdigest() if kept else ""))

    def _kept_config(self) -> tuple[bytes | None, str]:
        """The copy's, and what is wrong with it; None: there is none."""
        with suppress(ObjectMissing):
            return _proved(self._copy, "config")
        return None, ""

    def _put_config(self, data: bytes, doubt: _Doubt) -> None:
        aside = self._set_aside("config", doubt)
        if doubt.why:
            self._copy.delete("config")  # a store refuses other bytes under a name that promises nothing
        self._copy.put("config", data)
        self._account(_Item("config", len(data), doubt, aside=aside))

    # what only the copy has

    def let_go(self, known: Mapping[str, float]) -> None:
        now, done = time.time(), self.done
        gone = [name for name in self._there if name.startswith(KINDS) and name not in self._here.others]
        done.gone = {name: known.get(name, now) for name in gone}
        if self._options.delete_after is not None and done.sound:
            latest = now - self._options.delete_after
            self._delete(name for name in gone if done.gone[name] <= latest)
        done.bytes_gone = sum(self._there[name] for name in done.gone)
        if self._options.verify:
            self._prove(done.gone)
        self._progress(done)

    def _prove(self, names: Collection[str]) -> None:
        """Nothing heals them any more: they are told, and go when their time has come."""
        for name, trouble in self._hands.results(self._trouble, list(names)):
            if trouble:
                self.done.problems.append(Problem(name, f"in the copy {trouble}, and the repository no longer has it"))

    def _trouble(self, name: str) -> tuple[str, str]:
        with suppress(ObjectMissing):
            return name, _proved(self._copy, name)[1]
        return name, ""

    def _delete(self, names: Iterable[str]) -> None:
        """Index objects before the packs that they tell of. What an object lock holds stays."""
        for name in sorted(names, key=lambda name: (not name.startswith("index/"), name)):
            with suppress(StoreRefused, StoreReadOnly):
                self._copy.delete(name)
                del self.done.gone[name]
                self.done.deleted += 1
                self.done.bytes_deleted += self._there.pop(name)
            self._tick()

    def _tick(self) -> None:
        if time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            self._progress(self.done)


def _look(source: ObjectStore) -> _Listing:
    """The log first: all that its records name was put before them."""
    records = {info.name: info.size for info in source.list("log/") if fmt.is_record_name(info.name)}
    found = (info for prefix in ("index/", "packs/", "keys/", "config") for info in source.list(prefix))
    return _Listing(records, {info.name: info.size for info in found if fmt.is_object_name(info.name)})


def _proved(store: ObjectStore, name: str) -> tuple[bytes, str]:
    """An object's bytes, and what is wrong with them. Raises ObjectMissing, and StoreUnavailable where it is the place
    that does not answer."""
    try:
        data = store.get(name)
    except (ObjectDamaged, StoreUnavailable) as error:
        return b"", unreadable(store, name, error)
    if proves_itself(name, data):
        return data, ""
    return data, "it is no config of a repository" if name == "config" else "its SHA-256 is not its name"


def _whose(store: ObjectStore) -> set[str]:
    """The repositories (hex) whose objects lie in a place, as its config and its key objects tell; where they tell
    nothing, as others do."""
    found = identities(store, [info.name for info in store.list("keys/")])
    with suppress(NotARepository, ObjectDamaged, ForeignRepository):
        found.add(read_config(store).id.hex())
    return found or set(_owners(store))


def _owners(store: ObjectStore) -> Iterator[str]:
    """What the headers of a few objects say."""
    for prefix in ("log/", "index/", "packs/"):
        for info, _ in zip(store.list(prefix), range(ASKED), strict=False):
            with suppress(ObjectMissing, ObjectDamaged):
                header = store.get(info.name, 0, fmt.HEADER.size)
                if header.startswith(fmt.MAGIC):
                    yield fmt.HEADER.unpack(header)[4].hex()
