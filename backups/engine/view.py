"""A repository as copies make it whole again: what is right here, and in place of the rest what a copy holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

from backups.engine.errors import ObjectDamaged, ObjectMissing, StoreReadOnly
from backups.engine.store import Capabilities, Data, ObjectInfo, ObjectStore, span
from backups.engine.survey import Survey, listed, proves_itself

KEPT = 4  # objects of copies that were proved and are kept, 16 MiB each at most


class View:
    """A store that only reads. Of a copy's bytes none is passed on whose object does not prove itself by its name.

    own     objects that are nowhere yet, by name
    seen    names that are shown; None: all that there are
    """

    def __init__(self, store: ObjectStore, survey: Survey, copies: Sequence[ObjectStore] = ()) -> None:
        self._store, self._survey = store, survey
        self._copies = [(copy, listed(copy)) for copy in copies]
        self.own: dict[str, bytes] = {}
        self.seen: Collection[str] | None = None
        self.refused: dict[str, str] = {}  # name → of a copy's object that did not prove itself, where that was
        self._proved: OrderedDict[str, bytes] = OrderedDict()

    @property
    def names(self) -> set[str]:
        """Everything that is here or in a copy."""
        elsewhere = {name for _, names in self._copies for name in names if name not in self.refused}
        return {*self._survey.sizes, *self.own, *elsewhere}

    def obtainable(self, name: str) -> bool:
        """Does a copy claim to have it, and did none of them prove wrong?"""
        return name not in self.refused and any(name in names for _, names in self._copies)

    def from_copy(self, name: str) -> bytes | None:
        """The right bytes, from the first copy that has them; None: there is none. Raises StoreUnavailable."""
        if name in self._proved:
            self._proved.move_to_end(name)
            return self._proved[name]
        for copy, names in self._copies:
            if name in names and (data := self._fetched(copy, name)) is not None:
                self._proved[name] = data
                while len(self._proved) > KEPT:
                    self._proved.popitem(last=False)
                return data
        if where := [copy.describe() for copy, names in self._copies if name in names]:
            self.refused[name] = ", ".join(where)
        return None

    def _fetched(self, copy: ObjectStore, name: str) -> bytes | None:
        try:
            data = copy.get(name)
        except (ObjectMissing, ObjectDamaged):
            return None
        return data if proves_itself(name, data) else None

    def size(self, name: str) -> int:
        """As it will be, in bytes."""
        if name in self.own:
            return len(self.own[name])
        if not self._survey.intact(name) and self.obtainable(name):
            return next(names[name] for _, names in self._copies if name in names)
        return self._survey.sizes[name]

    # the port

    def get(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        data = self.own.get(name)
        if data is None and not self._survey.intact(name):
            data = self.from_copy(name)
        if data is None:
            return self._store.get(name, start, length)
        return data[start : start + span(name, len(data), start, length)]

    def stat(self, name: str) -> ObjectInfo:
        if name not in self.names:
            raise ObjectMissing(name, self.describe())
        return ObjectInfo(name, self.size(name))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        names = self.names if self.seen is None else self.seen
        wanted = sorted(name for name in names if name.startswith(prefix))
        return iter([ObjectInfo(name, self.size(name)) for name in wanted if self._is_there(name)])

    def _is_there(self, name: str) -> bool:
        """Keys and records are proved before they are listed: whoever opens a repository believes the listing."""
        if name in self._survey.sizes or not name.startswith(("keys/", "log/")):
            return True
        return self.from_copy(name) is not None

    def put(self, name: str, data: Data) -> None:
        raise self._refusal()

    def delete(self, name: str) -> None:
        raise self._refusal()

    def set_aside(self, name: str, aside: str) -> None:
        raise self._refusal()

    def _refusal(self) -> StoreReadOnly:
        return StoreReadOnly(f"This is only a view of {self.describe()}; nothing is written through it.")

    def capabilities(self) -> Capabilities:
        return Capabilities(across_processes=False, writable=False)

    def fresh(self) -> View:
        return self

    def describe(self) -> str:
        return self._store.describe()
