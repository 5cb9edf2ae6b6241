"""The objects under keys/: what each is, who gets in with a secret, and which keys that secret leads to."""

from __future__ import annotations

import hmac
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag

from backups.engine import format as fmt
from backups.engine.errors import (
    EngineError,
    NewerFormat,
    ObjectDamaged,
    ObjectMissing,
    SlotRemoved,
    UnknownEpoch,
    WrongSecret,
)
from backups.engine.keys import FOLLOWED, RING, SLOT, KeyRing, Secret, commitment, open_ring, open_slot, unwrap
from backups.engine.store import ObjectStore
from backups.engine.wrapping import Derived, derive

LOOKS = 5  # at keys/, where objects vanish between the listing and the reading
_SHAPES: dict[str, dict[str, type]] = {
    SLOT: {"kind": str, "kdf": dict, "salt": str, "nonce": str, "commitment": str, "wrapped": str},
    RING: {"generation": int, "nonce": str, "sealed": str},
}
_WORDS = {"passphrase": "passphrase", "keyfile": "keyfile", "recovery": "recovery code"}


class Way(NamedTuple):
    """How a secret gets to a ring: through which slot, with which ring key, and in which ring object it ends."""

    slot: str
    ring_key: bytes
    ring_name: str
    ring: KeyRing


class KeyObjects:
    """The objects under keys/, sorted into slots, rings and damaged ones. Those that were removed are passed over.

    repository_id  whose they are: the expected repository, or the only one that the intact ones name (then the
                   config that gave rise to the expectation is damaged); b"" when nothing tells
    """

    def __init__(self, store: ObjectStore, expected: bytes, removed: Collection[str] = ()) -> None:
        self.slots: dict[str, dict[str, Any]] = {}
        self.rings: dict[str, dict[str, Any]] = {}
        self.damaged: dict[str, ObjectDamaged] = {}
        self.passed_over: dict[str, dict[str, Any]] = {}  # removed slots that are there all the same
        self.opened = ""  # name of the slot that unlock() went through
        self.ways: list[Way] = []  # all that unlock() found, the best last
        self._removed = frozenset(removed)
        found = {name: facts for name, data in _read_all(store).items() if (facts := self._parsed(name, data))}
        self._names = found.keys() | self.damaged.keys()
        self.repository_id = _whose(found.values(), expected)
        for name, facts in found.items():
            if facts["repository"] == self.repository_id.hex():
                self._sort(name, facts)
            else:
                self.damaged[name] = ObjectDamaged(name, "it belongs to another repository")

    def _sort(self, name: str, facts: dict[str, Any]) -> None:
        if name not in self._removed:
            {SLOT: self.slots, RING: self.rings}[facts["aihub"]][name] = facts
        elif facts["aihub"] == SLOT:
            self.passed_over[name] = facts

    def _parsed(self, name: str, data: bytes) -> dict[str, Any] | None:
        try:
            return parse_public(name, data)
        except ObjectDamaged as error:
            if name not in self._removed:
                self.damaged[name] = error
            return None

    def unlock(self, secret: Secret) -> KeyRing:
        """The newest ring that this secret leads to, with the master keys of all rings it leads to: of a change of
        keys that was cut off, or of two at once, nothing is lost.

        Raises WrongSecret (slots intact, none opens), SlotRemoved, or ObjectDamaged (what could have opened is broken).
        """
        failed: dict[str, ObjectDamaged] = {}
        ways = [way for slot in self._opened_by(secret) for way in self._ways(*slot, failed)]
        if not ways:
            raise self._closed(failed)
        self.ways = sorted(ways, key=lambda way: (way.ring.generation, way.ring.epoch, way.ring_name))
        best = self.ways[-1]
        self.opened = best.slot
        masters = {epoch: key for way in self.ways for epoch, key in way.ring.masters.items()}
        return KeyRing(best.ring.generation, masters, best.ring.id_key, best.ring.chunker_seed)

    def unfinished(self, listed: Collection[str], removed: Collection[str]) -> bool:
        """After unlock(): did a change of keys end before its last step, by what the log tells?"""
        one_ring = len({way.ring_key for way in self.ways}) == 1
        return not one_ring or self.ways[-1].ring_name not in listed or not self._names.isdisjoint(removed)

    def explained(self, behind: UnknownEpoch) -> EngineError:
        """Why an opened ring is older than the log: what leads to a newer one is damaged, or was taken from us."""
        for damage in self.damaged.values():
            return damage
        return SlotRemoved(
            f"{behind} The key slot that opened is one from before the repository's keys were changed: it was removed,"
            " or the key objects that came with the change are missing."
        )

    def slots_of(self, secret: Secret) -> list[str]:
        """Names of the slots that this secret opens, removed ones left out. Raises as `unlock` when there is none."""
        return [name for name, _, _ in self._opened_by(secret)]

    def _opened_by(self, secret: Secret) -> list[tuple[str, bytes, Derived]]:
        known: dict[str, Derived] = {}  # what the secret was derived to, by salt and costs: slots that follow keep both
        tried = [self._try(name, slot, secret, known) for name, slot in list(self.slots.items())]
        if found := [one for one in tried if one is not None]:
            return found
        if self.damaged and not self._has_slot_for(secret):
            raise next(iter(self.damaged.values()))
        raise self._wrong(secret)

    def _has_slot_for(self, secret: Secret) -> bool:
        return any(slot["kind"] == secret.kind for slot in self.slots.values())

    def _try(
        self, name: str, slot: Mapping[str, Any], secret: Secret, known: dict[str, Derived]
    ) -> tuple[str, bytes, Derived] | None:
        try:
            if slot["kind"] != secret.kind:
                return None
            place = json.dumps([slot["salt"], slot["kdf"]], sort_keys=True)
            if place not in known:
                known[place] = derive(secret.value, bytes.fromhex(slot["salt"]), slot["kdf"])
            ring_key = unwrap(slot, known[place])
            return None if ring_key is None else (name, ring_key, known[place])
        except InvalidTag:
            why = "the key slot's wrapped key fails its authentication"
        except (ValueError, KeyError, TypeError) as error:
            why = f"a value of the key slot cannot be used: {error}"
        self.damaged[name] = ObjectDamaged(name, why)
        del self.slots[name]
        return None

    def _ways(self, slot: str, ring_key: bytes, derived: Derived, failed: dict[str, ObjectDamaged]) -> Iterator[Way]:
        for name, facts in self.rings.items():
            if facts.get("commitment") not in (None, commitment(ring_key)):
                continue  # another ring key's
            try:
                ring = open_ring(facts, ring_key)
            except (InvalidTag, ValueError, KeyError) as error:
                failed[name] = ObjectDamaged(name, f"the key ring cannot be read ({type(error).__name__})")
                continue
            if self._pinned(slot, derived, ring):
                yield Way(slot, ring_key, name, ring)
            else:
                failed[slot] = ObjectDamaged(slot, "the key slot leads to keys that it was not made for")

    def _pinned(self, name: str, derived: Derived, ring: KeyRing) -> bool:
        """Without the secret anybody can wrap a ring key of their own: who held the secret said whose keys."""
        slot = self.slots[name]
        return "ephemeral" not in slot or hmac.compare_digest(derived.pin(ring.root).hex(), str(slot.get("pin")))

    def _closed(self, failed: Mapping[str, ObjectDamaged]) -> EngineError:
        """A slot opened, and no ring did."""
        for damage in (*failed.values(), *self.damaged.values()):
            return damage
        if self.rings:
            return SlotRemoved(
                "The key slot that this secret opens is an old one: the key ring it led to was replaced. Use a secret"
                " that the repository has now."
            )
        return ObjectDamaged("keys/", "the key ring is missing, only slots are left")

    def _wrong(self, secret: Secret) -> WrongSecret:
        for slot in self.passed_over.values():
            with suppress(InvalidTag, ValueError, KeyError, TypeError):
                if slot["kind"] == secret.kind and open_slot(slot, secret) is not None:
                    return SlotRemoved(
                        f"The key slot “{slot.get('label')}” that this {_WORDS[secret.kind]} opens was removed from the"
                        " repository. Use another secret of it."
                    )
        return WrongSecret(self._why(secret))

    def _why(self, secret: Secret) -> str:
        word = _WORDS[secret.kind]
        if not self.slots:
            return "The repository has no key slot at all: every object under keys/ is gone."
        if not self._has_slot_for(secret):
            return f"The repository has no key slot that a {word} opens."
        if self.damaged:
            names = ", ".join(sorted(self.damaged))
            return f"The {word} opens none of the intact key slots. Its slot may be a damaged object: {names}."
        return f"The {word} is wrong: the repository's key slots are intact, and it opens none of them."


def _read_all(store: ObjectStore) -> dict[str, bytes]:
    """Name → bytes of every key object. What vanishes meanwhile was replaced: then they are listed once more."""
    found: dict[str, bytes] = {}
    for _ in range(LOOKS):
        found, gone = {}, False
        for name, _size in store.list("keys/"):
            try:
                found[name] = store.get(name)
            except ObjectMissing:
                gone = True
        if not gone:
            break
    return found


def _whose(found: Iterable[Mapping[str, Any]], expected: bytes) -> bytes:
    ids = {bytes.fromhex(facts["repository"]) for facts in found}
    return ids.pop() if len(ids) == 1 else expected


def parse_public(name: str, data: bytes) -> dict[str, Any]:
    """The facts of a plain-text object (a key object). Raises ObjectDamaged, NewerFormat."""
    if not fmt.name_matches(name, data):
        raise ObjectDamaged(name, "its SHA-256 is not its name")
    facts = _parse(name, data)
    if facts["format"] > FOLLOWED:
        raise NewerFormat(f"{name} has format {facts['format']}; this version reads up to {FOLLOWED}. Upgrade first.")
    shape = _SHAPES.get(facts["aihub"])
    if shape is None or not all(type(facts.get(key)) is kind for key, kind in shape.items()):
        raise ObjectDamaged(name, "it is neither a key slot nor a key ring")
    return facts


def _parse(name: str, data: bytes) -> dict[str, Any]:
    shape = {"aihub": str, "format": int, "repository": str}
    with suppress(ValueError, RecursionError):
        facts = json.loads(data)
        if isinstance(facts, dict) and all(type(facts.get(key)) is kind for key, kind in shape.items()):
            bytes.fromhex(facts["repository"])
            return facts
    raise ObjectDamaged(name, "it is no key object")
