"""Opening what a job names: stores, secrets, repositories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aihub_backup.core.redaction import leaves, remember
from backups import engine
from backups.engine.errors import ForeignRepository, WrongSecret
from backups.engine.log import Read
from backups.engine.repository import read_config
from backups.engine.stores.retrying import Patience, RetryingStore

Spec = Mapping[str, Any]


def store(spec: Spec) -> RetryingStore:
    """{"kind", "options", "patience": seconds of retrying (optional)} → the store, not yet connected."""
    remember(leaves(spec.get("secrets", ())))
    inner = engine.open_store(spec["kind"], spec["options"])
    return RetryingStore(inner, Patience(total=float(spec.get("patience", Patience().total))))


def secret(spec: Spec) -> engine.Secret:
    """{"kind": keyfile | recovery | passphrase, "value": bytes or text}."""
    kind, value = spec["kind"], spec["value"]
    remember([value])
    if kind == "keyfile":
        return engine.Secret.keyfile(value)
    return engine.Secret.recovery_code(value) if kind == "recovery" else engine.Secret.passphrase(value)


def repository(
    spec: Spec, reading: Callable[[Read], None] = lambda _read: None, *, recall: bool = False
) -> engine.Repository:
    """{"store", "secret", "id": expected id as hex, "anchors", "cache": directory, "console", "next": a secret
    that may have taken the place of the first one} → opened; `reading` hears
    how far the log is read. recall: as the engine's.

    Raises ForeignRepository when another repository than the expected one is there, and what the engine raises.
    """
    place = store(spec["store"])
    try:
        opened = _opened(place, spec, reading, recall)
    except WrongSecret:
        _must_be_expected(read_config(place).id.hex(), spec, place)  # the lock was changed, or the whole house
        raise
    _must_be_expected(opened.config.id.hex(), spec, place)
    return opened


def _opened(place: RetryingStore, spec: Spec, reading: Callable[[Read], None], recall: bool) -> engine.Repository:
    """With the secret; or with the one that was to take its place, when the change of it was cut off."""
    every = [spec["secret"], *([spec["next"]] if spec.get("next") else [])]
    for one in every:
        try:
            return engine.Repository.open(
                place, secret(one), cache=cache(spec), anchors=spec.get("anchors", ()), console=spec["console"],
                reading=reading, recall=recall,
            )  # fmt: skip
        except WrongSecret:
            if one is every[-1]:
                raise
    raise AssertionError("the last one returns or raises")


def _must_be_expected(found: str, spec: Spec, place: RetryingStore) -> None:
    if spec.get("id") and found != spec["id"]:
        raise ForeignRepository(
            f"In {place.describe()} lies the repository {found}, not {spec['id']}: the place was exchanged."
        )


def cache(spec: Spec) -> Path | None:
    """Where caches of repositories are kept on this host."""
    return Path(spec["cache"]) if spec.get("cache") else None
