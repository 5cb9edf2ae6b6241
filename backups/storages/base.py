"""The Django half of a place: its options, a Storage for downloads and exports, and the way to the engine's store."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol


class Backend(Protocol):
    """What a row of `kinds.STORAGES` names: a Django Storage class with these. One instance is one place."""

    Options: ClassVar[type[Any]]
    bound_to_node: ClassVar[bool]  # only the host it belongs to reaches it

    def __init__(self, options: Any) -> None: ...

    @classmethod
    def store_options(cls, options: Any) -> dict[str, Any]:
        """The keyword arguments of the engine's store of the same kind (`backups.engine.stores`)."""
        ...

    @classmethod
    def describe(cls, options: Any) -> str:
        """The place in a person's words, without secrets."""
        ...
