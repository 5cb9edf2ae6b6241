"""The kinds of places that keep objects. A row is: kind → module with a class that follows the port."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from backups.engine.errors import InvalidOption
from backups.engine.store import Place

# Modules are imported on first use: a client library is loaded only by those who need it.
KINDS: Mapping[str, tuple[str, str]] = {
    "local": ("backups.engine.stores.local", "LocalStore"),
    "s3": ("backups.engine.stores.s3", "S3Store"),
    "memory": ("backups.engine.stores.memory", "MemoryStore"),
}


def open_store(kind: str, options: Mapping[str, object]) -> Place:
    """The store of that kind; options are the keyword arguments of its class.

    Nothing is read, made or connected to yet: the first verb does that, and create() makes the place.
    InvalidOption: unknown kind, unknown or missing option.
    """
    if kind not in KINDS:
        raise InvalidOption(f"There is no storage kind {kind!r}; choose one of {', '.join(KINDS)}.")
    module, name = KINDS[kind]
    try:
        return cast(Place, getattr(import_module(module), name)(**options))
    except TypeError as error:
        # Python's sentence names the argument and never its value, so no secret is repeated.
        raise InvalidOption(f"The options of the {kind} storage do not fit: {error}.") from None
