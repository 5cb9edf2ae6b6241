"""A directory of this host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from django.core.files.storage import FileSystemStorage
from django.utils.translation import gettext as _

from aihub_backup.core.options import OptionsError, option


@dataclass(frozen=True)
class LocalOptions:
    """Where the directory is."""

    path: Path = option(
        label="Directory", help="Absolute path of an empty or a new directory on the node.", placeholder="/srv/backups"
    )

    def __post_init__(self) -> None:
        """Refuse paths that would mean another place after the next change of directory, and the whole disk."""
        if not self.path.is_absolute() or ".." in self.path.parts:
            raise OptionsError({"path": "This must be an absolute path without “..”."})
        if self.path == Path("/"):
            raise OptionsError({"path": "The root of the file system cannot be a storage; name a directory below it."})


class LocalStorage(FileSystemStorage):
    """The files of the directory as Django sees them; repositories go through the engine's own store."""

    Options: ClassVar[type[Any]] = LocalOptions
    bound_to_node: ClassVar[bool] = True

    def __init__(self, options: LocalOptions) -> None:
        super().__init__(location=options.path)

    @classmethod
    def store_options(cls, options: LocalOptions) -> dict[str, Any]:
        """Keyword arguments of `engine.stores.local.LocalStore`."""
        return {"path": str(options.path)}

    @classmethod
    def describe(cls, options: LocalOptions) -> str:
        """The directory."""
        return _("the directory %(path)s") % {"path": options.path}
