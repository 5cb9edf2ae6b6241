"""The engine: a content-addressed, deduplicating, compressed, encrypted repository of write-once objects.

Pure: it imports no Django and nothing else of this project. docs/format.md describes what it writes.
"""

from __future__ import annotations

from backups.engine.archiver import Archived, archive
from backups.engine.checker import Checked, Problem, check
from backups.engine.differ import Change, Difference, diff
from backups.engine.entry import Entry, ItemError, Kind, Notes
from backups.engine.errors import EngineError
from backups.engine.keys import Secret, new_keyfile, new_recovery_code
from backups.engine.listing import entries
from backups.engine.log import Snapshot
from backups.engine.options import Options, Stats
from backups.engine.repository import Repository
from backups.engine.restorer import Restored, RestoreOptions, restore
from backups.engine.stores import open_store

__all__ = [
    "Archived",
    "Change",
    "Checked",
    "Difference",
    "EngineError",
    "Entry",
    "ItemError",
    "Kind",
    "Notes",
    "Options",
    "Problem",
    "Repository",
    "RestoreOptions",
    "Restored",
    "Secret",
    "Snapshot",
    "Stats",
    "archive",
    "check",
    "diff",
    "entries",
    "new_keyfile",
    "new_recovery_code",
    "open_store",
    "restore",
]
