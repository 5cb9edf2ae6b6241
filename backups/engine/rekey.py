"""Who holds a way into a repository, and its keys over the years: slots come and go, master keys are renewed.

Every deed ends with a record of the log, and is repeated without harm. The order of its steps makes a kill between any
two of them harmless: a slot is put before the record that lists it, and deleted after the record that takes it away.
New keys are put in the order slots, ring, record, because the first copy of the ring is what brings them into use: then
every slot leads to it already. What a killed deed left undone the next one does (`settle`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from backups.engine import format as fmt
from backups.engine.errors import (
    EngineError,
    InvalidOption,
    ObjectDamaged,
    SlotRemoved,
    StoreReadOnly,
    StoreRefused,
    WrongSecret,
)
from backups.engine.keyobjects import KeyObjects
from backups.engine.keys import RINGS, KeyRing, Secret, commitment, follow_slot, origin_of, seal_ring, seal_slot
from backups.engine.log import ADOPT, KEYS
from backups.engine.repository import Repository

FEWEST = 2  # slots that a repository must keep: one may be lost with a person, a paper, a machine
ATTEMPTS = 5  # at an entrance while others change the keys
LONGEST_LABEL = 100
LAST_EPOCH = 65_535


@dataclass(frozen=True, slots=True)
class Slot:
    """One way in; no secret. handle: what people call it by, it stays; id: name of its first object, which stays too.

    kind     passphrase | keyfile | recovery
    works    intact, and leads to the keys in use; only its secret can prove it
    opened   through it the repository is open now
    writer   of the console that writes here
    follows  may lead to new keys without its secret
    """

    handle: str
    id: str
    name: str
    kind: str
    label: str
    created: str
    works: bool
    opened: bool
    writer: bool
    follows: bool


def slots(repository: Repository) -> list[Slot]:
    """The slots that count, the oldest first. One that somebody set about to add, and never got to the end, is none."""
    return _slots(repository, _unlocked(repository))


def _unlocked(repository: Repository) -> KeyObjects:
    objects = repository.key_objects()
    objects.unlock(repository.secret)
    return objects


def _slots(repository: Repository, objects: KeyObjects) -> list[Slot]:
    """Only what a record of the log lists: anybody who writes to the store may have put another."""
    found: dict[str, Slot] = {}
    for name in repository.log.keys:
        if facts := objects.slots.get(name):
            slot = _slot(repository, objects, name, facts)
            found[slot.handle] = max(slot, found.get(slot.handle, slot), key=lambda one: one.works)
    return sorted(found.values(), key=lambda slot: slot.created)  # of one second: as the log tells them


def _slot(repository: Repository, objects: KeyObjects, name: str, facts: Mapping[str, Any]) -> Slot:
    origin, opened = origin_of(name, facts), objects.slots[objects.opened]["salt"]
    return Slot(
        _handle(facts), origin, name, facts["kind"], str(facts.get("label", "")), str(facts.get("created", "")),
        works=_leads(objects, facts), opened=facts["salt"] == opened,
        writer=repository.log.owner.get("slot") == origin, follows="public" in facts,
    )  # fmt: skip


def _leads(objects: KeyObjects, facts: Mapping[str, Any]) -> bool:
    """To the keys in use: itself, or what followed it and is in no record yet. A ring of an older version has one ring
    key for all, and does not name it."""
    in_use = objects.rings[objects.ways[-1].ring_name].get("commitment")
    same = [other for other in objects.slots.values() if _same_secret(other, facts)]
    return in_use is None or any(other.get("ring") == in_use for other in same)


def _same_secret(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one.get(name) == other.get(name) for name in ("salt", "commitment", "public"))


def _handle(facts: Mapping[str, Any]) -> str:
    return str(facts["salt"])[:16]


def find(repository: Repository, wanted: str) -> Slot:
    """The slot with this handle, beginning of one, or label. InvalidOption when it is none or several."""
    found = slots(repository)
    fits = [slot for slot in found if slot.label == wanted or (len(wanted) >= 4 and slot.handle.startswith(wanted))]
    if len(fits) == 1:
        return fits[0]
    there = ", ".join(f"{slot.handle} ({slot.kind}, {slot.label})" for slot in found)
    word = "Several key slots are" if fits else "No key slot is"
    raise InvalidOption(f"{word} called {wanted!r}; there are: {there}.")


def add(repository: Repository, secret: Secret, label: str) -> Slot:
    """A slot for one more secret. One that opens already keeps its slot."""
    name = _checked_label(label)
    settle(repository)
    return _entered(repository, secret, name)


def change(repository: Repository, old: Secret, new: Secret, label: str = "") -> Slot:
    """A new secret in the place of an old one. The new one opens before the old one ceases to; cut off between the two
    it is finished by asking again.

    Raises WrongSecret when the old one opens nothing, InvalidOption when both are the same.
    """
    if old == new:
        raise InvalidOption("The new secret is the old one; choose another.")
    settle(repository)
    objects = _unlocked(repository)
    gone = {_handle(objects.slots[name]): name for name in objects.slots_of(old)}
    facts = objects.slots[name := max(gone.values())]
    made = _entered(repository, new, _checked_label(label or str(facts["label"])), origin_of(name, facts))
    _must_leave_enough(repository, gone)
    if repository.secret == old:
        repository.secret = new
    _remove(repository, gone)
    return made


def remove(repository: Repository, wanted: str, *, proven: Secret | None = None) -> Slot:
    """Take a slot away: from the record on its secret opens no more. Returns what it was.

    Refused (InvalidOption) when fewer than two others would work, and when it is the one that the repository is open
    through, unless `proven` opens another. What the store does not delete is refused by the log all the same.
    """
    settle(repository)
    slot = find(repository, wanted)
    _must_leave_enough(repository, {slot.handle})
    if slot.opened:
        repository.secret = _proven(repository, slot, proven)
    _remove(repository, {slot.handle})
    return slot


def _must_leave_enough(repository: Repository, gone: Collection[str]) -> None:
    found = slots(repository)
    left = sum(slot.works for slot in found if slot.handle not in gone)
    if left < FEWEST:
        names = ", ".join(f"“{slot.label}”" for slot in found if slot.handle in gone)
        raise InvalidOption(
            f"Without the key slot {names} there would be {left} left; a repository keeps at least {FEWEST}, so that"
            " the loss of one is not the loss of everything. Add another one first."
        )


def _proven(repository: Repository, slot: Slot, proven: Secret | None) -> Secret:
    if proven is None:
        raise InvalidOption(
            f"The key slot “{slot.label}” is the one that the repository is open through. Give another secret of it"
            " as well, to prove that there is one."
        )
    objects = repository.key_objects()
    objects.unlock(proven)
    if _handle(objects.slots[objects.opened]) == slot.handle:
        raise InvalidOption(f"The secret that was given opens the key slot “{slot.label}” itself; give another one.")
    return proven


def _remove(repository: Repository, handles: Collection[str]) -> None:
    objects = repository.key_objects()
    _record(repository, (), [name for name, facts in objects.slots.items() if _handle(facts) in handles])
    take_away(repository)


def rotate(repository: Repository, secrets: Iterable[Secret] = ()) -> int:
    """Draw a new master key: everything that is written from now on is sealed with it, and the ring lies under a new
    ring key, which only the slots of now lead to. Returns the new epoch.

    secrets  those of slots that an older version made, which cannot follow without (InvalidOption names them)
    """
    settle(repository)
    known = [repository.secret, *secrets]
    _must_follow(repository, known)
    _bring_up_to_date(repository, known)
    epoch = _reserved_epoch(repository)
    ring = repository.key_objects().unlock(repository.secret)
    _renew(repository, {**ring.masters, epoch: os.urandom(32)})
    settle(repository)
    return epoch


def _must_follow(repository: Repository, known: Iterable[Secret]) -> None:
    objects = _unlocked(repository)
    _must_be_whole(repository, objects)
    opened = {name for secret in known for name in objects.slots_of(secret)}
    stuck = [slot for slot in _slots(repository, objects) if not slot.follows and slot.name not in opened]
    if stuck:
        names = ", ".join(f"{slot.handle} ({slot.kind}, {slot.label})" for slot in stuck)
        raise InvalidOption(
            "These key slots were made by an older version and follow new keys only with their secrets: "
            f"{names}. Give the secrets, or add new ones in their place and remove these first."
        )


def _bring_up_to_date(repository: Repository, known: Iterable[Secret]) -> None:
    """Slots of an older version get one that follows in their place, while their secrets are at hand."""
    objects = _unlocked(repository)
    for slot in [slot for slot in _slots(repository, objects) if not slot.follows]:
        secret = next(secret for secret in known if slot.name in _opened(objects, secret))
        _record(repository, [_new_slot(repository, objects, secret, slot.label, slot.id)], [slot.name])


def _reserved_epoch(repository: Repository) -> int:
    """A number that nobody else uses, though two may set about at once: both see the other's record then, and each
    takes another number."""
    for _ in range(ATTEMPTS):
        repository.log.refresh()
        epoch = max(repository.log.reserved, repository.ring.epoch) + 1
        if epoch > LAST_EPOCH:
            raise EngineError(f"The repository has had {LAST_EPOCH} key epochs, which is all there can be.")
        mine = repository.log.append(KEYS, {"epoch": epoch})
        repository.log.refresh()
        if repository.log.reserving(epoch) == [mine.name]:
            return epoch
    raise EngineError(_BUSY)


_BUSY = "Somebody else keeps changing the keys at this moment; try again later."


# --- pieces ---------------------------------------------------------------------------------------------------------


def settle(repository: Repository) -> None:
    """Finish what a killed deed left undone, and make one ring of two that were made at once. Cheap where there is
    nothing to do: one look at the key objects."""
    repository.log.must_take()
    for _ in range(ATTEMPTS):
        repository.log.refresh()
        objects = repository.key_objects()
        repository.take_ring(objects.unlock(repository.secret))
        in_use = objects.ways[-1].ring_name in repository.log.keys
        if in_use and len({way.ring_key for way in objects.ways}) == 1:
            break
        _renew(repository, repository.ring.masters)
    take_away(repository)


def tidy(repository: Repository) -> None:
    """What a killed change of keys left is finished by the way; when that fails somebody else will."""
    if repository.keys_unfinished:
        with suppress(EngineError):
            settle(repository)
            repository.keys_unfinished = False


def take_away(repository: Repository) -> list[str]:
    """Delete the key objects that the log says were removed. Returns those that the store does not let go (an object
    lock, no right to delete): the log refuses them all the same."""
    left = []
    for name in [info.name for info in repository.store.list("keys/") if info.name in repository.log.removed]:
        try:
            repository.store.delete(name)
        except (StoreRefused, StoreReadOnly):
            left.append(name)
    return left


def _renew(repository: Repository, masters: Mapping[int, bytes]) -> None:
    """A ring with these master keys under a new ring key: first all slots lead to it, then it is there, then the log
    tells that the old objects are gone."""
    objects = _unlocked(repository)
    _must_be_whole(repository, objects)
    best, ring_key = objects.ways[-1].ring, os.urandom(32)
    ring = KeyRing(best.generation + 1, masters, best.id_key, best.chunker_seed)
    old = _superseded(repository, objects)
    new = _follow(repository, objects, _slots(repository, objects), ring_key)
    new += [_put(repository, seal_ring(repository.config.id, ring_key, ring)) for _ in range(RINGS)]
    repository.take_ring(repository.key_objects().unlock(repository.secret))
    _record(repository, new, old)
    _let_latecomers_follow(repository)


def _must_be_whole(repository: Repository, objects: KeyObjects) -> None:
    """ObjectDamaged unless everything that the log lists is there, and the log itself is: else somebody whose slot is
    damaged, or whose record is, would be shut out by keys that it cannot follow."""
    for damage in repository.log.damaged:
        raise damage
    there = objects.slots.keys() | objects.rings.keys()
    for name in (*sorted(repository.log.missing), *(name for name in repository.log.keys if name not in there)):
        raise ObjectDamaged(name, "new keys need it, and it is damaged or missing; heal it from a copy first")


def _superseded(repository: Repository, objects: KeyObjects) -> list[str]:
    """The objects of the slots that count, and the rings whose keys the new one holds. Not what leads to a ring that
    is not there: somebody may be about to put it."""
    counting = {slot.handle for slot in _slots(repository, objects)}
    theirs = {name: facts for name, facts in objects.slots.items() if _handle(facts) in counting}
    rings = {facts.get("commitment") for way in objects.ways if (facts := objects.rings[way.ring_name])}
    known = [n for n, facts in theirs.items() if n in repository.log.keys or facts.get("ring") in rings]
    return [*known, *(way.ring_name for way in objects.ways)]


def _follow(repository: Repository, objects: KeyObjects, found: Iterable[Slot], ring_key: bytes) -> list[str]:
    """The names of the objects by which their secrets lead to the ring of this key."""
    return [_put(repository, follow_slot(slot.name, objects.slots[slot.name], ring_key)) for slot in found]


def _opened(objects: KeyObjects, secret: Secret) -> list[str]:
    with suppress(WrongSecret):
        return objects.slots_of(secret)
    return []


def _let_latecomers_follow(repository: Repository) -> None:
    """Slots that were added while the ring changed lead to the old one."""
    for _ in range(ATTEMPTS):
        repository.log.refresh()
        objects = _unlocked(repository)
        late = [slot for slot in _slots(repository, objects) if not slot.works and slot.follows]
        if not late:
            return
        new = _follow(repository, objects, late, objects.ways[-1].ring_key)
        _record(repository, new, [slot.name for slot in late])


def _entered(repository: Repository, secret: Secret, label: str, origin: str = "") -> Slot:
    """The secret has a slot that counts and leads to the keys in use, also when these are changed meanwhile. It is
    tried out before the log lists it."""
    for _ in range(ATTEMPTS):
        objects = _unlocked(repository)
        there = {slot.name: slot for slot in _slots(repository, objects)}
        mine = _opened(objects, secret)
        for name in mine:
            if name in there and there[name].works:
                return there[name]
        name = _waiting(objects, mine) or _new_slot(repository, objects, secret, label, origin)
        with suppress(SlotRemoved):  # the keys were changed this very moment
            repository.key_objects().unlock(secret)
            _record(repository, [name], ())
    raise EngineError(_BUSY)


def _waiting(objects: KeyObjects, mine: Iterable[str]) -> str:
    """A slot of this secret that was put by somebody who was killed before the record."""
    in_use = objects.ways[-1].ring_key
    return next((name for name in mine if objects.slots[name].get("ring") == commitment(in_use)), "")


def _new_slot(repository: Repository, objects: KeyObjects, secret: Secret, label: str, origin: str) -> str:
    way = objects.ways[-1]
    return _put(repository, seal_slot(repository.config.id, way.ring_key, secret, label, way.ring.root, origin))


def _put(repository: Repository, data: bytes) -> str:
    name = fmt.key_name(fmt.sha256(data))
    repository.store.put(name, data)
    return name


def _record(repository: Repository, added: Iterable[str], removed: Iterable[str]) -> None:
    gone = sorted(set(removed))
    keys = [name for name in repository.log.keys if name not in gone]
    repository.log.append(KEYS, {"keys": [*keys, *added], "removed": gone})
    repository.remember_leaves()


def _checked_label(label: str) -> str:
    if not label.strip() or len(label) > LONGEST_LABEL or not label.isprintable():
        raise InvalidOption(f"The label says whose way in it is: 1 to {LONGEST_LABEL} printable characters.")
    return label.strip()


def adopt(repository: Repository, own: Secret, label: str) -> None:
    """Make it this console's: a key slot for its own keyfile beside those there are, and a record that says so. From
    then on no other console writes here. Repeated it changes nothing."""
    slot = _entered(repository, own, label)
    if repository.log.owner.get("slot") == slot.id:
        return
    told = {"slot": slot.id, "console": repository.console, "time": time.time()}
    repository.log.append(ADOPT, {**told, "keys": list(repository.log.keys)})
    repository.remember_leaves()
