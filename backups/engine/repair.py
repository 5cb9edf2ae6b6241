"""repair(): make whole what can be made whole, and tell what cannot.

Wrong and missing objects come from copies by their names, each proved by its SHA-256; index objects that nobody has
any more are written anew from the directories of the packs. Wrong bytes are kept in quarantine before right ones take
their name, and nothing is ever taken away that somebody could still need: what could be restored before can be
restored afterwards, also by whoever was killed in the middle, and a second run finishes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from backups.engine import format as fmt
from backups.engine.checker import Problem, check
from backups.engine.errors import EngineError, ForeignRepository, ObjectMissing
from backups.engine.index import seal_index
from backups.engine.keys import Secret
from backups.engine.remedies import Catalogue, Planner, Remedies
from backups.engine.repository import Repository
from backups.engine.store import ObjectStore
from backups.engine.survey import Survey, begun, finish, identities
from backups.engine.view import View

ROUNDS = 4  # a copy whose object does not prove itself is asked no more, and another way is sought: so often


class Deed(NamedTuple):
    """One thing that was done, or would be: what (a word below), the object, its bytes (0: not known yet), and why."""

    what: str
    object: str
    bytes: int
    why: str


REPLACED, ADDED, DESCRIBED, RETIRED = "replaced", "added", "described", "retired"


@dataclass(slots=True)
class Repaired:
    """The outcome. Whole when there are no problems left.

    deeds      what was done; of a dry run, what would be
    problems   what cannot be healed, with the snapshots and files that are lost (see `check`)
    damaged_packs  SHA-256 of all packs among them
    orphans    packs that no index object describes and no snapshot needs: left by runs that were killed
    returned   ids of snapshots whose records are back; forgotten: of those that a record that is back forgets again
    leaves     of the log afterwards, to be remembered (see `Repository.anchors`)
    bytes_read of the repository itself, bytes_copied from copies
    """

    dry_run: bool
    deeds: list[Deed] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    damaged_packs: set[bytes] = field(default_factory=set)
    orphans: list[str] = field(default_factory=list)
    set_aside: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list)
    snapshots: int = 0
    bytes_read: int = 0
    bytes_expected: int = 0
    bytes_copied: int = 0

    @property
    def whole(self) -> bool:
        return not self.problems


Progress = Callable[[str, Repaired], None]  # (phase, so far); called at most once a second. It may raise Cancelled
LOOKING, COMPARING, HEALING, PROVING = "reading the repository", "looking for remedies", "healing", "checking"


def repair(
    store: ObjectStore,
    secret: Secret,
    copies: Sequence[ObjectStore] = (),
    *,
    dry_run: bool = False,
    expected: str = "",
    anchors: Iterable[str] = (),
    workers: int | None = None,
    progress: Progress = lambda _phase, _done: None,
) -> Repaired:
    """Repair the repository in a store. copies: places with its objects, as they are or damaged themselves.

    expected  id (hex) of the repository that has to be there; "": whichever is
    anchors   log records known from before: those that are still gone afterwards are told
    Raises ForeignRepository (another repository, here or in a copy), WrongSecret, ObjectDamaged (nothing opens), and
    StoreUnavailable.
    """
    run = _Repair(store, secret, copies, Repaired(dry_run), workers, progress)
    before = run.live()
    repository = run.heal(expected)
    run.prove(repository)
    run.compare(before, repository, anchors)
    return run.done


class _Repair:
    def __init__(
        self, store: ObjectStore, secret: Secret, copies: Sequence[ObjectStore], done: Repaired, workers: int | None,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.done = done
        self._store, self._secret, self._copies = store, secret, copies
        self._workers, self._progress, self._told = workers, progress, 0.0
        self._survey = begun(store)
        self._refuse_strangers()
        self._view = View(store, self._survey, copies)

    def _refuse_strangers(self) -> None:
        """A copy names the same repository as the place itself, as far as both can tell."""
        ours = identities(self._store, _keys(self._survey.sizes))
        for copy in self._copies:
            theirs = identities(copy, _keys(info.name for info in copy.list("keys/")))
            if ours and theirs and not ours & theirs:
                raise ForeignRepository(
                    f"In {copy.describe()} lies the repository {min(theirs)}, not {min(ours)}: name a copy of this one."
                )

    def live(self) -> set[str]:
        """Ids of the snapshots that could be seen before; none where nothing opens."""
        with suppress(EngineError):
            return set(Repository.open(View(self._store, self._survey), self._secret).log.live)
        return set()

    # healing

    def heal(self, expected: str) -> Repository:
        """Look for remedies and apply them, until a round finds no copy that lies. The repository as it is then."""
        repository = Repository.open(self._view, self._secret)
        if expected and (found := repository.config.id.hex()) != expected:
            raise ForeignRepository(f"In {self._store.describe()} lies the repository {found}, not {expected}.")
        catalogue = Catalogue(self._view, self._survey, repository)
        self.done.bytes_expected = sum(self._survey.sizes.values())
        known = catalogue.here.keys() | catalogue.elsewhere.keys()
        finish(self._survey, self._store, repository.sealer, known, self._workers, self._looking)
        for _ in range(ROUNDS):
            refused = set(self._view.refused)
            planner = self._planner(repository)
            if self.done.dry_run:
                return self._foretell(planner, repository)
            self._apply(planner)
            if self._view.refused.keys() == refused:
                break
        return Repository.open(self._store, self._secret)

    def _planner(self, repository: Repository) -> Planner:
        self._view.own.clear()
        repository.reload_index()
        planner = Planner(self._view, self._survey, Catalogue(self._view, self._survey, repository), repository)
        planner.find(lambda: self._tick(COMPARING))
        return planner

    def _looking(self, survey: Survey) -> None:
        self.done.bytes_read = survey.bytes_read
        self._tick(LOOKING)

    def _apply(self, planner: Planner) -> None:
        plan = planner.plan
        self._take(plan.packs)
        for batch in plan.written:
            self._describe(planner, batch)
        self._take(plan.indexes)
        for name in plan.retired:
            self._retire(name)
        self._take([*plan.keys, *plan.records])
        if plan.config is not None:
            self._put("config", plan.config)

    def _take(self, names: Iterable[str]) -> None:
        for name in names:
            data = self._view.from_copy(name)
            if data is not None:  # else the next round looks for another way
                self._put(name, data)
                self.done.bytes_copied += len(data)

    def _put(self, name: str, data: bytes) -> None:
        """Right bytes under a name; what is there instead is kept aside first."""
        why = self._set_aside(name)
        if why and name == "config":
            self._store.delete(name)  # the only name that promises nothing, so that a store would refuse other bytes
        self._store.put(name, data)
        self._survey.sizes[name] = len(data)
        self._deed(REPLACED if why else ADDED, name, len(data), why or "it was missing")

    def _describe(self, planner: Planner, digests: Iterable[bytes]) -> None:
        infos = [info for digest in digests if (info := planner.pack_info(digest)) is not None]
        if infos:
            data = seal_index(planner.sealer, infos)
            name = fmt.index_name(fmt.sha256(data))
            self._store.put(name, data)
            self._survey.sizes[name] = len(data)
            self._deed(DESCRIBED, name, len(data), f"no index object described {len(infos)} packs in use")

    def _retire(self, name: str) -> None:
        """An index object that nobody can read, when all that it told is told elsewhere."""
        why, size = self._set_aside(name), self._survey.sizes.pop(name, 0)
        self._store.delete(name)
        self._deed(RETIRED, name, size, why)

    def _set_aside(self, name: str) -> str:
        """Why the bytes were wrong that are kept in quarantine now; "" when there were none."""
        if name not in self._survey.sizes:
            return ""
        why, digest = self._survey.wrong.pop(name, ("it differs from its copy in the log", ""))
        aside = fmt.aside_name(name, digest, time.time())
        with suppress(ObjectMissing):  # somebody took it away meanwhile
            self._store.set_aside(name, aside)
            self.done.set_aside.append(aside)
        return why

    def _deed(self, what: str, name: str, size: int, why: str) -> None:
        self.done.deeds.append(Deed(what, name, size, why))
        self._tick(HEALING)

    # a dry run

    def _foretell(self, planner: Planner, repository: Repository) -> Repository:
        """The deeds that would be done, and the repository as it would be then."""
        self.done.deeds = list(self._foretold(planner.plan))
        copied = (deed.bytes for deed in self.done.deeds if deed.what in (REPLACED, ADDED) and deed.object != "config")
        self.done.bytes_copied = sum(copied)
        self._show(planner, repository)
        return Repository.open(self._view, self._secret)

    def _foretold(self, plan: Remedies) -> Iterator[Deed]:
        for name in (*plan.packs, *plan.indexes, *plan.keys, *plan.records):
            yield self._foretold_deed(name, self._view.size(name))
        for batch in plan.written:
            yield Deed(DESCRIBED, "index/", 0, f"no index object describes {len(batch)} packs in use")
        for name in plan.retired:
            yield Deed(RETIRED, name, self._survey.sizes[name], self._survey.wrong[name].why)
        if plan.config is not None:
            yield self._foretold_deed("config", len(plan.config))

    def _foretold_deed(self, name: str, size: int) -> Deed:
        if name not in self._survey.sizes:
            return Deed(ADDED, name, size, "it is missing")
        wrong = self._survey.wrong.get(name)
        return Deed(REPLACED, name, size, wrong.why if wrong else "it differs from its copy in the log")

    def _show(self, planner: Planner, repository: Repository) -> None:
        plan, view = planner.plan, self._view
        view.own.clear()
        for batch in plan.written:
            infos = [info for digest in batch if (info := planner.pack_info(digest)) is not None]
            data = seal_index(repository.sealer, infos)
            view.own[fmt.index_name(fmt.sha256(data))] = data
        if plan.config is not None:
            view.own["config"] = plan.config
        taken = {*plan.packs, *plan.indexes, *plan.keys, *plan.records, *view.own}
        view.seen = (self._survey.sizes.keys() - set(plan.retired)) | taken

    # telling

    def prove(self, repository: Repository) -> None:
        """What is still wrong, with all that it harms."""
        suspects = {fmt.digest_of(name) for name in self._survey.wrong if name.startswith("packs/")}
        healed = {fmt.digest_of(deed.object) for deed in self.done.deeds if deed.object.startswith("packs/")}
        found = check(
            repository, 3, suspects=suspects - healed, workers=self._workers, progress=lambda _: self._tick(PROVING)
        )
        self.done.problems, self.done.damaged_packs = found.problems, found.damaged_packs
        self.done.snapshots = len(repository.snapshots)
        self.done.bytes_read = self._survey.bytes_read
        described = {fmt.pack_name(pack.digest) for pack in repository.sync_index().packs()}
        self.done.orphans = sorted({name for name in self._survey.sizes if name.startswith("packs/")} - described)

    def compare(self, before: set[str], repository: Repository, anchors: Iterable[str]) -> None:
        """What the log tells that it did not tell before, and what it should and does not."""
        log, self.done.leaves = repository.log, repository.anchors
        self.done.returned = sorted(log.live.keys() - before)
        self.done.forgotten = sorted(before & set(log.gone))
        for name in sorted(set(anchors) - set(log.names)):
            self.done.problems.append(Problem(name, "this record was here before and is gone, and no copy has it"))

    def _tick(self, phase: str) -> None:
        if time.monotonic() - self._told >= 1:
            self._told = time.monotonic()
            self._progress(phase, self.done)


def _keys(names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith("keys/")]
